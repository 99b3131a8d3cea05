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
