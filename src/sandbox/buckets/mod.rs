//! Buckets of the object store: a folder of this machine each, and what was put into it since, which stays in memory.
//!
//! A folder is read, never written. Its files are objects whose keys are their paths; links that lead out of it are not
//! followed.

mod request;
mod signature;

use std::{
    collections::BTreeMap,
    io::Read,
    path::{Component, Path, PathBuf},
    time::UNIX_EPOCH,
};

use bytes::Bytes;
use jiff::Timestamp;
use md5::{Digest as _, Md5};
use walkdir::WalkDir;

pub(super) use self::{request::ObjectCall, signature::read_link};
use crate::files::beneath;

/// Storage class of an object that needs no restoring.
const STANDARD: &str = "Standard";

/// All buckets, by name.
#[derive(Debug, Default)]
pub(super) struct Buckets(BTreeMap<String, Bucket>);

#[derive(Debug)]
struct Bucket {
    folder: Option<PathBuf>,
    objects: BTreeMap<String, StoredObject>,
}

/// An object.
#[derive(Debug, Clone)]
pub(super) struct StoredObject {
    content: Content,
    pub(super) size: u64,
    /// MD5 of the content in upper-case hexadecimal, in quotes.
    pub(super) etag: String,
    pub(super) modified: Timestamp,
    pub(super) class: String,
}

#[derive(Debug, Clone)]
enum Content {
    Memory(Bytes),
    File(PathBuf),
}

impl StoredObject {
    pub(super) fn new(bytes: Bytes, class: Option<String>, modified: Timestamp) -> Self {
        let (size, etag) = (bytes.len() as u64, etag(&bytes));
        Self { content: Content::Memory(bytes), size, etag, modified, class: class.unwrap_or_else(|| STANDARD.into()) }
    }

    /// An object in an archive class can't be read.
    pub(super) fn is_archived(&self) -> bool {
        self.class.contains("Archive")
    }
}

impl Buckets {
    pub(super) fn new(folders: &BTreeMap<String, Option<PathBuf>>) -> Self {
        let bucket = |folder: &Option<PathBuf>| Bucket { folder: folder.clone(), objects: BTreeMap::new() };
        Self(folders.iter().map(|(name, folder)| (name.clone(), bucket(folder))).collect())
    }

    pub(super) fn contains(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Stores an object; `None` if there is no such bucket.
    pub(super) fn put(&mut self, bucket: &str, key: &str, object: StoredObject) -> Option<()> {
        self.0.get_mut(bucket)?.objects.insert(key.to_owned(), object);
        Some(())
    }

    /// An object and its content.
    pub(super) fn get(&mut self, bucket: &str, key: &str) -> Option<(StoredObject, Bytes)> {
        let bucket = self.0.get_mut(bucket)?;
        bucket.read_file(key);
        let object = bucket.objects.get(key)?.clone();
        let bytes = match &object.content {
            Content::Memory(bytes) => bytes.clone(),
            Content::File(path) => bucket.open(path)?.into(),
        };
        Some((object, bytes))
    }

    /// Objects behind a key, in order of their keys. `is_first` reads the folder again.
    pub(super) fn list(
        &mut self,
        bucket: &str,
        after: &str,
        is_first: bool,
    ) -> Option<impl Iterator<Item = (&str, &StoredObject)>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let bucket = self.0.get_mut(bucket)?;
        if is_first {
            bucket.read_folder();
        }
        let from = if after.is_empty() { Unbounded } else { Excluded(after) };
        let range = bucket.objects.range::<str, _>((from, Unbounded));
        Some(range.map(|(key, object)| (key.as_str(), object)))
    }
}

impl Bucket {
    fn read_folder(&mut self) {
        let Some(folder) = self.folder.clone() else { return };
        let files = WalkDir::new(&folder).min_depth(1).into_iter().filter_map(Result::ok);
        let keys: Vec<String> = files
            .filter(|entry| entry.file_type().is_file())
            .filter_map(|entry| Some(entry.path().strip_prefix(&folder).ok()?.to_str()?.to_owned()))
            .collect();
        self.objects.retain(|_, object| match &object.content {
            Content::Memory(_) => true,
            Content::File(path) => path.exists(),
        });
        keys.iter().for_each(|key| self.read_file(key));
    }

    /// Makes the file of a key an object, if there is one and it has changed. What was put comes first.
    fn read_file(&mut self, key: &str) {
        let Some(folder) = &self.folder else { return };
        let known = self.objects.get(key);
        let is_plain =
            Path::new(key).components().all(|part| matches!(part, Component::Normal(_))) && !key.contains("//");
        if !is_plain || matches!(known, Some(StoredObject { content: Content::Memory(_), .. })) {
            return;
        }
        let path = folder.join(key);
        let Ok(metadata) = path.metadata().and_then(|metadata| Ok((metadata.len(), metadata.modified()?))) else {
            self.objects.remove(key);
            return;
        };
        let modified = metadata.1.duration_since(UNIX_EPOCH).unwrap_or_default();
        let modified = Timestamp::UNIX_EPOCH.checked_add(modified).unwrap_or(Timestamp::MAX);
        if known.is_some_and(|known| (known.size, known.modified) == (metadata.0, modified)) {
            return;
        }
        let Some(bytes) = self.open(&path) else { return };
        let (size, etag) = (bytes.len() as u64, etag(&bytes));
        let object = StoredObject { content: Content::File(path), size, etag, modified, class: STANDARD.to_owned() };
        self.objects.insert(key.to_owned(), object);
    }

    fn open(&self, path: &Path) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        beneath::open(path, self.folder.as_deref()).ok()?.read_to_end(&mut bytes).ok()?;
        Some(bytes)
    }
}

fn etag(bytes: &[u8]) -> String {
    format!("\"{}\"", hex::encode_upper(Md5::digest(bytes)))
}
