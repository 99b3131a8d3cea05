//! What a manifest is known by when it comes again: the bytes of its file, and all that determines what its rows mean.
//!
//! While it is read, the bytes are hashed as they pass: a file that is written to meanwhile is known as what was read of
//! it. Only a regular file that has been read to its end is known by anything. The hash is BLAKE3: a file of 10 million rows
//! is hashed before the first call of a run that finds nothing new in it, and SHA-256 takes three times as long.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use blake3::Hasher;

use super::Source;
use crate::domain::Digest;

/// Of one manifest.
pub(super) struct Identity {
    path: PathBuf,
    /// How its rows are understood, in words of our own.
    meaning: String,
    read: Arc<OnceLock<[u8; 32]>>,
}

impl Identity {
    /// None: it can be read only once.
    pub(super) fn of(path: &Path, meaning: String) -> Option<Self> {
        let is_file = path.metadata().is_ok_and(|found| found.is_file());
        is_file.then(|| Self { path: path.to_owned(), meaning, read: Arc::default() })
    }

    /// The file, which is hashed as it is read.
    pub(super) fn hashing(&self, file: File) -> impl Read + Send + use<> {
        Hashing { input: file, hash: Hasher::new(), read: self.read.clone() }
    }

    fn with(&self, bytes: [u8; 32]) -> [u8; 32] {
        let mut hash = Hasher::new();
        hash.update(&bytes);
        hash.update(self.path.as_os_str().as_encoded_bytes());
        hash.update(&[0]);
        hash.update(self.meaning.as_bytes());
        hash.finalize().into()
    }
}

/// What these sources are known by, as they have been read. None: one of them is known by nothing.
pub fn mark_as_read(sources: &[&Source]) -> Option<Digest> {
    mark(sources, |identity| identity.read.get().copied())
}

/// What these sources are known by, as their files are now.
pub fn mark_of_files(sources: &[&Source]) -> Option<Digest> {
    mark(sources, |identity| of_file(&identity.path).ok())
}

fn mark(sources: &[&Source], bytes: impl Fn(&Identity) -> Option<[u8; 32]>) -> Option<Digest> {
    let mut hash = Hasher::new();
    for source in sources {
        let identity = source.identity()?;
        hash.update(&identity.with(bytes(identity)?));
    }
    Some(Digest(hash.finalize().into()))
}

fn of_file(path: &Path) -> io::Result<[u8; 32]> {
    let mut hash = Hasher::new();
    // Copies through a buffer that is large enough for its widest instructions.
    hash.update_reader(File::open(path)?)?;
    Ok(hash.finalize().into())
}

struct Hashing {
    input: File,
    hash: Hasher,
    read: Arc<OnceLock<[u8; 32]>>,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        if read == 0 && !buffer.is_empty() {
            self.read.get_or_init(|| self.hash.finalize().into());
        }
        self.hash.update(&buffer[..read]);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::FaceGroupCode,
        manifest::{Settings, open},
    };

    #[test]
    fn manifest_is_known_by_what_was_read_of_it_and_by_what_its_rows_mean() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv");
        let settings = |group: &str| Settings { group: FaceGroupCode::parse(group).ok(), ..Settings::default() };
        std::fs::write(&path, "path,id\na.jpg,1\n").unwrap();
        let mut source = open(&path, &settings("g")).unwrap();
        let before = mark_of_files(&[&source]).unwrap();
        assert_eq!(source.by_ref().count(), 1);
        std::fs::write(&path, "path,id\na.jpg,2\n").unwrap();
        assert_eq!(mark_as_read(&[&source]), Some(before));
        assert_ne!(mark_of_files(&[&source]), Some(before));
        std::fs::write(&path, "path,id\na.jpg,1\n").unwrap();
        assert_eq!(mark_of_files(&[&source]), Some(before));
        assert_ne!(mark_of_files(&[&open(&path, &settings("h")).unwrap()]), Some(before));
        assert_eq!(mark_as_read(&[&open(&path, &settings("g")).unwrap()]), None, "it has not been read to its end");
        assert_eq!(mark_of_files(&[&source, &open(dir.path(), &settings("g")).unwrap()]), None, "a folder is read");
    }
}
