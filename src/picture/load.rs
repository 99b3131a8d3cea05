//! A photo from a file: checked before it is read, read once, hashed as it was read. Blocks.

use std::{
    fs::{File, Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use rustix::io::Errno;
use sha2::Digest as _;

use super::{Defect, Facts, Limits, jpeg::probe};
use crate::domain::{Digest, FileStamp};

/// A photo that the service may be asked to take.
pub struct Picture {
    /// As they are in the file.
    pub bytes: Vec<u8>,
    /// Of these bytes.
    pub digest: Digest,
    /// The file, as it was when it was opened.
    pub stamp: FileStamp,
    /// What its header says.
    pub facts: Facts,
}

/// Why there is no photo.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It will never pass as it is.
    #[error(transparent)]
    Defect(#[from] Defect),
    /// The machine's trouble: no file descriptor left, a disk that fails. Another try may help.
    #[error("the photo can't be read just now")]
    Io(#[from] io::Error),
}

/// What tells, without reading it, whether a file is still the one that it was.
pub fn stamp(path: &Path) -> io::Result<FileStamp> {
    path.metadata().map(|found| stamp_of(&found))
}

fn stamp_of(found: &Metadata) -> FileStamp {
    let mtime_ns = found.mtime().saturating_mul(1_000_000_000).saturating_add(found.mtime_nsec());
    FileStamp { size: found.size(), mtime_ns }
}

/// Reads a photo, if it is one that may pass.
pub fn load(path: &Path, limits: Limits) -> Result<Picture, LoadError> {
    let file = open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(Defect::NotAFile.into());
    }
    let stamp = stamp_of(&found);
    match stamp.size {
        0 => return Err(Defect::Empty.into()),
        size if size > limits.bytes => return Err(Defect::TooLarge { size, limit: limits.bytes }.into()),
        _ => {}
    }
    let bytes = read(&file, limits.bytes)?;
    // By content first: what is no JPEG, or no portrait, is told so whatever its size.
    let facts = probe(&bytes)?;
    check_shape(&facts, limits)?;
    let size = bytes.len() as u64;
    if size > limits.inline_bytes {
        return Err(Defect::TooLargeInline { size, limit: limits.inline_bytes }.into());
    }
    let digest = Digest(sha2::Sha256::digest(&bytes).into());
    Ok(Picture { bytes, digest, stamp, facts })
}

/// A pipe must not block us, whoever may write to it.
fn open(path: &Path) -> Result<File, LoadError> {
    let flags = rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOCTTY;
    let opened = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
    opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Defect::NotFound.into(),
        io::ErrorKind::PermissionDenied => Defect::PermissionDenied.into(),
        _ => match Errno::from_io_error(&error) {
            // A socket, or a device that is not there.
            Some(Errno::NXIO | Errno::NODEV) => Defect::NotAFile.into(),
            // Links in a circle; a name that no file can have.
            Some(Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL) => Defect::NotFound.into(),
            Some(_) | None => error.into(),
        },
    })
}

/// Never more than it may be, also if the file grows meanwhile.
fn read(file: &File, limit: u64) -> Result<Vec<u8>, LoadError> {
    let size = file.metadata()?.size().min(limit);
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Defect::TooLarge { size: bytes.len() as u64, limit }.into());
    }
    Ok(bytes)
}

/// The API page's rules on shape, for the picture upright.
fn check_shape(facts: &Facts, limits: Limits) -> Result<(), Defect> {
    let &Facts { width, height, orientation, .. } = facts;
    if height <= width {
        return Err(Defect::NotPortrait { width, height });
    }
    if width > limits.width || height > limits.height {
        let (max_width, max_height) = (limits.width, limits.height);
        return Err(Defect::TooManyPixels { width, height, max_width, max_height });
    }
    if orientation != 1 {
        return Err(Defect::NeedsRotation { orientation });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/");

    fn code(path: &Path) -> String {
        match load(path, Limits::default()) {
            Ok(_) => "fine".into(),
            Err(LoadError::Defect(defect)) => defect.code().0,
            Err(LoadError::Io(error)) => panic!("{error}"),
        }
    }

    #[test]
    fn photo_is_read_whole_and_hashed_as_read() {
        let path = Path::new(SAMPLES).join("photos/collins-01.jpg");
        let picture = load(&path, Limits::default()).unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(picture.bytes, bytes);
        assert_eq!(picture.digest.0[..], sha2::Sha256::digest(&bytes)[..]);
        assert_eq!(picture.stamp, stamp(&path).unwrap());
        assert_eq!((picture.facts.width, picture.facts.height), (480, 640));
    }

    #[test]
    fn what_is_no_photo_is_named_by_its_content() {
        for (name, expected) in [
            ("photos/nobody.jpg", "NotFound"),
            ("photos/collins-01.jpg/x.jpg", "NotFound"),
            ("photos", "NotAFile"),
            ("faults/empty.jpg", "Empty"),
            ("faults/png-inside.jpg", "NotJpeg"),
            ("faults/cut-off.jpg", "Truncated"),
            ("faults/landscape.jpg", "NotPortrait"),
            ("faults/upside-down.jpg", "NeedsRotation"),
            ("manifest.csv", "NotJpeg"),
        ] {
            assert_eq!(code(&Path::new(SAMPLES).join(name)), expected, "{name}");
        }
    }

    #[test]
    fn size_is_judged_before_anything_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let sparse = dir.path().join("sparse.jpg");
        File::create(&sparse).unwrap().set_len(8 << 30).unwrap();
        assert_eq!(code(&sparse), "TooLarge");
        let mut large = fs::read(Path::new(SAMPLES).join("photos/collins-01.jpg")).unwrap();
        for (size, expected) in [(1_000_000, "fine"), (1_000_001, "TooLargeInline"), (10_000_001, "TooLarge")] {
            // What follows the end marker does not matter to a decoder, and counts in the size.
            large.resize(size, 0);
            let path = dir.path().join("large.jpg");
            fs::write(&path, &large).unwrap();
            assert_eq!(code(&path), expected, "{size}");
        }
    }

    #[test]
    fn pipe_and_device_are_refused_and_never_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe.jpg");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        assert_eq!(code(&pipe), "NotAFile");
        assert_eq!(code(Path::new("/dev/null")), "NotAFile");
        let socket = dir.path().join("socket.jpg");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert_eq!(code(&socket), "NotAFile");
        let turning = dir.path().join("turning.jpg");
        std::os::unix::fs::symlink(&turning, &turning).unwrap();
        assert_eq!(code(&turning), "NotFound");
    }
}
