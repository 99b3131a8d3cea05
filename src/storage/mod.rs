//! Where the bytes of photos lie: opens, stamps and reads them, and never looks into them.
//!
//! A photo that can't be had is [`Unavailable`], which is the photo's fault; [`ReadError::Io`] is the machine's, for which no
//! photo may be blamed.

mod error;
mod file;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use error::{ReadError, Unavailable};

use crate::domain::{FileStamp, Member, PhotoSource, PhotoUrl};

/// Where a photo lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// A path on this machine.
    Path(PathBuf),
    /// A member of a ZIP archive whose place is known.
    Member(Member),
}

impl Place {
    /// Place of a photo, or its link if only the service reads it.
    pub fn of(photo: &PhotoSource) -> Result<Self, &PhotoUrl> {
        match photo {
            PhotoSource::Path(path) => Ok(Self::Path(path.clone())),
            PhotoSource::Member(member) => Ok(Self::Member(member.clone())),
            PhotoSource::Url(url) => Err(url),
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Path(path) => path,
            Self::Member(member) => &member.path,
        }
    }
}

/// Bytes of a photo.
#[derive(Debug)]
pub struct Stored {
    /// The bytes.
    pub bytes: Vec<u8>,
    /// Stamp of the photo when it was opened.
    pub stamp: FileStamp,
}

/// Options for reading photos.
#[derive(Debug, Clone, Copy, Default)]
pub struct Settings {
    /// Whether a photo may lie outside its source's root.
    pub allow_outside_root: bool,
}

/// Reads photos.
#[derive(Debug, Default)]
pub struct Storage {
    settings: Settings,
}

impl Storage {
    /// Storage with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings }
    }

    /// Stamp of a photo, to detect changes without reading it.
    pub fn stamp(&self, place: &Place, root: &Path) -> io::Result<FileStamp> {
        file::stamp(place.path(), self.enforced(root))
    }

    /// Reads a photo of at most `limit` bytes.
    pub fn read(&self, place: &Place, root: &Path, limit: u64) -> Result<Stored, ReadError> {
        file::read(place.path(), self.enforced(root), limit)
    }

    /// The root that photos must not leave.
    fn enforced<'a>(&self, root: &'a Path) -> Option<&'a Path> {
        (!self.settings.allow_outside_root).then_some(root)
    }
}
