//! Where the bytes of photos lie: opens, stamps and reads them, and never looks into them.
//!
//! A photo that can't be had is [`Unavailable`], which is the photo's fault; [`ReadError::Io`] is the machine's, for which no
//! photo may be blamed.

mod archive;
mod error;
mod file;
mod index;
mod marks;
mod name;
mod object;
#[cfg(test)]
mod tests;

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

pub use crate::api::oss::{ListedObject, ObjectError};
pub use archive::{Archive, Entry, MemberKind, Members};
pub use error::{ReadError, Unavailable};
pub use name::BadName;
pub use object::{Connect, Listing, ObjectStream, Objects, stamp as object_stamp};

use crate::domain::{Encoding, FileStamp, Member, ObjectRef, PhotoSource, PhotoUrl};

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

    fn hint(&self) -> Option<u64> {
        match self {
            Self::Path(_) | Self::Object(..) => None,
            Self::Member(member) => Some(member.at),
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
    /// Encoding of names in ZIP archives that are not marked as UTF-8.
    pub names_in: Option<Encoding>,
}

/// Most archives that are kept open.
const MAX_OPEN_ARCHIVES: usize = 32;

/// Reads photos. An archive is opened once and stays open.
#[derive(Debug, Default)]
pub struct Storage {
    settings: Settings,
    objects: Objects,
    /// Archives and the roots that they were opened beneath, the last used first.
    archives: Mutex<Vec<(Arc<Archive>, PathBuf)>>,
}

/// What a path leads to.
enum Located {
    /// A file, or nothing.
    File,
    /// A member of this name.
    Member(Arc<Archive>, String),
}

impl Storage {
    /// Storage with these settings.
    pub fn new(settings: Settings) -> Self {
        Self { settings, objects: Objects::default(), archives: Mutex::default() }
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
        let path = match place {
            Place::Path(path) | Place::Member(Member { path, .. }) => path,
            Place::Object(_, Some(stamp)) => return Ok(*stamp),
            Place::Object(object, None) => {
                let prefix = root.to_str().and_then(|root| root.parse().ok());
                return self.objects.stamp(object, prefix.as_ref()).map_err(io::Error::from);
            }
        };
        match self.locate(path, root)? {
            Located::File => file::stamp(path, self.enforced(root)),
            Located::Member(archive, name) => Ok(archive.stamp(&name, place.hint())?),
        }
    }

    /// Stamp of a file or a member. That of an object comes with its bytes: see [`Reading::opened`].
    pub fn file_stamp(&self, place: &Place, root: &Path) -> Option<FileStamp> {
        place.object().is_none().then(|| self.stamp(place, root).ok()).flatten()
    }

    /// Reads a photo of at most `limit` bytes.
    pub fn read(&self, place: &Place, root: &Path, limit: u64) -> Result<Stored, ReadError> {
        let path = match place {
            Place::Path(path) | Place::Member(Member { path, .. }) => path,
            Place::Object(object, _) => return self.objects.read_patiently(object, limit),
        };
        match self.locate(path, root)? {
            Located::File => file::read(path, self.enforced(root), limit),
            Located::Member(archive, name) => archive.read(&name, place.hint(), limit),
        }
    }

    /// Reads a photo once, in two steps if it is an object.
    pub fn read_stepwise(&self, place: &Place, root: &Path, mut reading: Reading<'_>) -> Result<Stored, ReadError> {
        match place {
            Place::Path(_) | Place::Member(_) => self.read(place, root, reading.limit),
            Place::Object(object, _) => self.objects.read(object, &mut reading),
        }
    }

    /// Finds the archive that a path runs through. A folder may be named like an archive.
    fn locate(&self, path: &Path, root: &Path) -> Result<Located, ReadError> {
        for archive in archives_in(path) {
            let Ok(name) = path.strip_prefix(archive) else { continue };
            let Some(name) = name.to_str().map(str::to_owned) else { continue };
            let mut archives = self.archives.lock().unwrap_or_else(PoisonError::into_inner);
            let open = archives.iter().position(|(open, beneath)| open.path() == archive && beneath == root);
            if let Some(at) = open {
                let found = archives.remove(at);
                let archive = Arc::clone(&found.0);
                archives.insert(0, found);
                return Ok(Located::Member(archive, name));
            }
            if archive.metadata().is_ok_and(|found| found.is_file()) {
                // Given by the user as the root, or as a part of it.
                let beneath = if root.starts_with(archive) { None } else { self.enforced(root) };
                let opened = Arc::new(Archive::open(archive, beneath, self.settings.names_in)?);
                archives.truncate(MAX_OPEN_ARCHIVES - 1);
                archives.insert(0, (Arc::clone(&opened), root.to_owned()));
                return Ok(Located::Member(opened, name));
            }
        }
        Ok(Located::File)
    }

    /// The root that photos must not leave.
    fn enforced<'a>(&self, root: &'a Path) -> Option<&'a Path> {
        (!self.settings.allow_outside_root).then_some(root)
    }
}

/// The parts of a path that may be an archive: they end in `.zip`, and something follows.
fn archives_in(path: &Path) -> impl Iterator<Item = &Path> {
    let mut above: Vec<&Path> = path.ancestors().skip(1).filter(|path| is_archive(path)).collect();
    above.reverse();
    above.into_iter()
}

/// Whether a path has the name of a ZIP archive.
pub fn is_archive(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("zip"))
}
