//! Photos in files, opened beneath their root.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::Path,
};

use rustix::io::Errno;

use super::{ReadError, Stored, Unavailable};
use crate::{
    domain::FileStamp,
    files::{beneath, spelling},
};

/// Size and modification time of a file.
pub(super) fn stamp(path: &Path, root: Option<&Path>) -> io::Result<FileStamp> {
    let metadata = path.metadata().or_else(|error| match spelling::find(path, root).filter(|_| is_absent(&error)) {
        Some(other) => other.metadata(),
        None => Err(error),
    });
    metadata.map(|metadata| stamp_of(&metadata))
}

fn stamp_of(metadata: &Metadata) -> FileStamp {
    let mark = metadata.mtime().saturating_mul(1_000_000_000).saturating_add(metadata.mtime_nsec());
    FileStamp { size: metadata.size(), mark }
}

/// Reads a regular, non-empty file of at most `limit` bytes.
pub(super) fn read(path: &Path, root: Option<&Path>, limit: u64) -> Result<Stored, ReadError> {
    let file = open(path, root)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unavailable::NotAFile.into());
    }
    let stamp = stamp_of(&metadata);
    match stamp.size {
        0 => return Err(Unavailable::Empty.into()),
        size if size > limit => return Err(Unavailable::TooLarge { size, limit }.into()),
        _ => {}
    }
    Ok(Stored { bytes: read_bytes(&file, stamp.size, limit)?, stamp })
}

/// Opens the path as written, or in another spelling if that does not exist.
fn open(path: &Path, root: Option<&Path>) -> Result<File, ReadError> {
    match beneath::open(path, root) {
        Ok(file) => Ok(file),
        Err(error) if is_absent(&error) => match spelling::find(path, root) {
            Some(other) => beneath::open(&other, root)
                .map_err(|error| if is_absent(&error) { not_found(path, root).into() } else { unopened(error) }),
            None => Err(not_found(path, root).into()),
        },
        Err(error) => Err(unopened(error)),
    }
}

/// Whether the file does not exist: no such name, a loop of links, or a name that no file can have.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput)
        || matches!(Errno::from_io_error(error), Some(Errno::LOOP | Errno::NAMETOOLONG | Errno::INVAL | Errno::ILSEQ))
}

/// Attributes a failure to open an existing file to the photo or to the machine.
fn unopened(error: io::Error) -> ReadError {
    match Errno::from_io_error(&error) {
        Some(Errno::ACCESS | Errno::PERM) => Unavailable::PermissionDenied.into(),
        _ if beneath::escapes_root(&error) => Unavailable::OutsideRoot.into(),
        // A socket, or a missing device.
        Some(Errno::NXIO | Errno::NODEV) => Unavailable::NotAFile.into(),
        // EMFILE, EIO, ESTALE, ENOMEM and the like are failures of the machine.
        Some(_) | None => error.into(),
    }
}

/// Attributes a failure to open this path.
pub(super) fn open_error(error: io::Error, path: &Path, root: Option<&Path>) -> ReadError {
    if is_absent(&error) { not_found(path, root).into() } else { unopened(error) }
}

fn not_found(path: &Path, root: Option<&Path>) -> Unavailable {
    let shown = |path: &Path| path.to_string_lossy().replace(char::is_control, "\u{fffd}");
    let written = shown(root.and_then(|root| path.strip_prefix(root).ok()).unwrap_or(path));
    let advice = match spelling::suggest(path, root) {
        Some(other) => format!("; did you mean {}?", shown(&other)),
        None if spelling::has_drive(&written) => {
            "; drive letters are not supported: write paths relative to the manifest's folder, or to --root DIR".into()
        }
        None => String::new(),
    };
    Unavailable::NotFound { path: written, advice }
}

/// Reads at most `limit` bytes, even if the file grows meanwhile.
fn read_bytes(file: &File, size: u64, limit: u64) -> Result<Vec<u8>, ReadError> {
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(Unavailable::TooLarge { size: bytes.len() as u64, limit }.into());
    }
    Ok(bytes)
}
