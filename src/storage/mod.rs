//! Where the bytes of photos lie: opens, stamps and reads them, and never looks into them.
//!
//! A photo that can't be had is [`Unavailable`], which is the photo's fault; [`ReadError::Io`] is the machine's, for which no
//! photo may be blamed.

mod error;
mod file;
mod marks;
mod object;

use std::{
    io,
    path::{Path, PathBuf},
};

pub use crate::api::oss::{ListedObject, ObjectError};
pub use error::{ReadError, Unavailable};
pub use object::{Connect, Listing, ObjectStream, Objects, stamp as object_stamp};

use crate::domain::{FileStamp, Member, ObjectRef, PhotoSource, PhotoUrl};

/// Where a photo lies.
#[derive(Debug, Clone)]
pub enum Place {
    /// A path on this machine.
    Path(PathBuf),
    /// A member of a ZIP archive whose place is known.
    Member(Member),
    /// An object, with its stamp if a listing gave it.
    Object(ObjectRef, Option<FileStamp>),
}

impl Place {
    /// Place of a photo, or its link if only the service reads it.
    pub fn of(photo: &PhotoSource) -> Result<Self, &PhotoUrl> {
        match photo {
            PhotoSource::Path(path) => Ok(Self::Path(path.clone())),
            PhotoSource::Member(member) => Ok(Self::Member(member.clone())),
            PhotoSource::Object(object, stamp) => Ok(Self::Object(object.clone(), *stamp)),
            PhotoSource::Url(url) => Err(url),
        }
    }

    /// The object, if the place is in object storage.
    pub fn object(&self) -> Option<&ObjectRef> {
        match self {
            Self::Object(object, _) => Some(object),
            Self::Path(_) | Self::Member(_) => None,
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

/// How to read a photo.
pub struct Reading<'a> {
    /// Most bytes.
    pub limit: u64,
    /// Called before the bytes of an object are read. Until it returns, none are.
    pub opened: &'a mut dyn FnMut(FileStamp),
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
    objects: Objects,
}

impl Storage {
    /// Storage with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, objects: Objects::default() }
    }

    /// Storage that also reads objects.
    pub fn with_objects(self, objects: Objects) -> Self {
        Self { objects, ..self }
    }

    /// Object storage.
    pub fn objects(&self) -> &Objects {
        &self.objects
    }

    /// Stamp of a photo, to detect changes without reading it.
    pub fn stamp(&self, place: &Place, root: &Path) -> io::Result<FileStamp> {
        match place {
            Place::Path(path) | Place::Member(Member { path, .. }) => file::stamp(path, self.enforced(root)),
            Place::Object(_, Some(stamp)) => Ok(*stamp),
            Place::Object(object, None) => {
                let prefix = root.to_str().and_then(|root| root.parse().ok());
                self.objects.stamp(object, prefix.as_ref()).map_err(io::Error::from)
            }
        }
    }

    /// Stamp of a file. That of an object comes with its bytes: see [`Reading::opened`].
    pub fn file_stamp(&self, place: &Place, root: &Path) -> Option<FileStamp> {
        place.object().is_none().then(|| self.stamp(place, root).ok()).flatten()
    }

    /// Reads a photo of at most `limit` bytes.
    pub fn read(&self, place: &Place, root: &Path, limit: u64) -> Result<Stored, ReadError> {
        match place {
            Place::Path(path) | Place::Member(Member { path, .. }) => file::read(path, self.enforced(root), limit),
            Place::Object(object, _) => self.objects.read_patiently(object, limit),
        }
    }

    /// Reads a photo once, in two steps if it is an object.
    pub fn read_stepwise(&self, place: &Place, root: &Path, mut reading: Reading<'_>) -> Result<Stored, ReadError> {
        match place {
            Place::Path(_) | Place::Member(_) => self.read(place, root, reading.limit),
            Place::Object(object, _) => self.objects.read(object, &mut reading),
        }
    }

    /// The root that photos must not leave.
    fn enforced<'a>(&self, root: &'a Path) -> Option<&'a Path> {
        (!self.settings.allow_outside_root).then_some(root)
    }
}
