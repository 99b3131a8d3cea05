//! Creates, replaces and opens files for writing: readable by their owner only, and never through a symbolic link.
//!
//! A private file (checkpoint, lock, log, records) must be a regular file with one name that belongs to us. An output is
//! written to a temporary file with a random name, synced, and renamed into place. Anything but a regular file (a device, a
//! FIFO) is written in place, never replaced.

pub mod beneath;
pub mod spelling;

use std::{
    ffi::{OsStr, OsString},
    fs::{File, Metadata, OpenOptions},
    io::{self, Write},
    os::{
        fd::AsFd,
        unix::{
            ffi::OsStrExt,
            fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
        },
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::OFlags;
use tempfile::NamedTempFile;

/// Mode of files that name people: for their owner only.
const PRIVATE_MODE: u32 = 0o600;
/// Mode of files for monitoring.
const PUBLIC_MODE: u32 = 0o644;
/// Suffix of an unfinished file.
const TEMP_SUFFIX: &str = ".partial";
/// Bytes of the file's name in the name of its temporary file; a name may have 255 in all.
const MAX_TEMP_PREFIX: usize = 200;

/// Why a file can't be used.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FileError {
    #[error("can't open {}", path.display())]
    Io { path: PathBuf, source: Arc<io::Error> },
    #[error("{} is a symbolic link; use a regular file", path.display())]
    SymbolicLink { path: PathBuf },
    #[error("{} is not a regular file", path.display())]
    NotAFile { path: PathBuf },
    /// The file has another name, under which it could be changed.
    #[error("{} has {names} names (hard links); only one is allowed", path.display())]
    HardLink { path: PathBuf, names: u64 },
    /// Another user owns the file and could change it.
    #[error("{} belongs to another user (uid {owner}); this process runs as uid {user}", path.display())]
    OtherOwner { path: PathBuf, owner: u32, user: u32 },
}

impl FileError {
    fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { path: path.to_owned(), source: Arc::new(source) }
    }
}

impl From<FileError> for io::Error {
    fn from(error: FileError) -> Self {
        match &error {
            FileError::Io { source, .. } => match source.raw_os_error() {
                Some(number) => Self::from_raw_os_error(number),
                None => Self::new(source.kind(), error),
            },
            FileError::SymbolicLink { .. }
            | FileError::NotAFile { .. }
            | FileError::HardLink { .. }
            | FileError::OtherOwner { .. } => Self::other(error),
        }
    }
}

/// Identity of a file: two names of one file have the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Id of the file with this metadata.
    pub fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }

    /// Id of the file at this path, without following links; `None` if there is none.
    pub fn at(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().map(|found| Self::of(&found))
    }
}

/// Directory of a file, whether or not the file exists.
pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Whether an error is about this path (absent, forbidden, outside its root, not a possible name) and not about the machine
/// (EMFILE, ENFILE, EIO, ESTALE, ENOMEM, ETIMEDOUT), for which no photo may be blamed.
pub fn is_path_error(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(
        Errno::from_io_error(error),
        Some(
            Errno::ACCESS
                | Errno::ILSEQ
                | Errno::INVAL
                | Errno::LOOP
                | Errno::NAMETOOLONG
                | Errno::NODEV
                | Errno::NOENT
                | Errno::NOTDIR
                | Errno::NXIO
                | Errno::PERM
                | Errno::XDEV
        )
    )
}

/// Checks that a file is regular, has one name, and is ours.
pub fn check_private(path: &Path) -> Result<(), FileError> {
    let found = path.symlink_metadata().map_err(FileError::io(path))?;
    check_regular(path, &found)?;
    check_owner(path, &found)
}

/// Checks that a file is regular and has one name, whoever owns it.
pub fn check_regular(path: &Path, found: &Metadata) -> Result<(), FileError> {
    let path = || path.to_owned();
    match found.nlink() {
        _ if found.is_symlink() => Err(FileError::SymbolicLink { path: path() }),
        _ if !found.is_file() => Err(FileError::NotAFile { path: path() }),
        0 | 1 => Ok(()),
        names => Err(FileError::HardLink { path: path(), names }),
    }
}

fn check_owner(path: &Path, found: &Metadata) -> Result<(), FileError> {
    let (owner, user) = (found.uid(), rustix::process::geteuid().as_raw());
    if owner == user { Ok(()) } else { Err(FileError::OtherOwner { path: path.to_owned(), owner, user }) }
}

/// Opens a private file, creating it if absent. `options` set the access mode.
pub fn open_private(path: &Path, options: &OpenOptions) -> Result<File, FileError> {
    // Follow no link and wait for no FIFO: the file's type is checked before it is used.
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let mut options = options.clone();
    options.mode(PRIVATE_MODE).custom_flags(flags.bits().cast_signed());
    let made = options.clone().create_new(true).open(path);
    let file = match made {
        Err(exists) if exists.kind() == io::ErrorKind::AlreadyExists => options.open(path),
        made => made,
    };
    let file = match file {
        Ok(file) => file,
        // A link or a socket can't be opened, so check the path instead.
        Err(source) => {
            let unfit = check_private(path).err().filter(|error| !matches!(error, FileError::Io { .. }));
            return Err(unfit.unwrap_or_else(|| FileError::io(path)(source)));
        }
    };
    let found = file.metadata().map_err(FileError::io(path))?;
    check_regular(path, &found)?;
    check_owner(path, &found)?;
    Ok(file)
}

/// Opens a log: a private file, or in place if it is a device or a FIFO.
pub fn open_log(path: &Path) -> io::Result<File> {
    match open_in_place(path, Audience::Everyone)? {
        Some(file) => Ok(file),
        None => Ok(open_private(path, OpenOptions::new().append(true))?),
    }
}

/// Intended reader of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Only the owner, because it names people. Waits for the reader of a FIFO.
    Owner,
    /// Any user, for monitoring. A FIFO without a reader is an error.
    Everyone,
}

impl Audience {
    fn mode(self) -> u32 {
        match self {
            Self::Owner => PRIVATE_MODE,
            Self::Everyone => PUBLIC_MODE,
        }
    }

    fn flags(self) -> OFlags {
        match self {
            Self::Owner => OFlags::empty(),
            Self::Everyone => OFlags::NONBLOCK,
        }
    }
}

/// An output that replaces the old file as a whole. Dropped unfinished, it leaves the old file.
pub struct Output(Target);

enum Target {
    Replaced { partial: NamedTempFile, path: PathBuf },
    InPlace(File),
}

impl Output {
    /// Starts the output.
    pub fn create(path: &Path, audience: Audience) -> io::Result<Self> {
        if let Some(file) = open_in_place(path, audience)? {
            return Ok(Self(Target::InPlace(file)));
        }
        let partial = create_temp_with_mode(path, audience.mode())?;
        Ok(Self(Target::Replaced { partial, path: path.to_owned() }))
    }

    /// Puts the output in place, durably.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Target::Replaced { partial, path } => persist(partial, &path),
            Target::InPlace(mut file) => file.flush(),
        }
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match &mut self.0 {
            Target::Replaced { partial, .. } => partial.write(bytes),
            Target::InPlace(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match &mut self.0 {
            Target::Replaced { partial, .. } => partial.flush(),
            Target::InPlace(file) => file.flush(),
        }
    }
}

/// Writes an output as a whole, or leaves the old file.
pub fn replace<E: From<io::Error>>(
    path: &Path,
    audience: Audience,
    write: impl FnOnce(&mut Output) -> Result<(), E>,
) -> Result<(), E> {
    let mut output = Output::create(path, audience)?;
    write(&mut output)?;
    Ok(output.finish()?)
}

/// Creates a temporary file for the owner only, next to its final place.
pub fn create_temp(path: &Path) -> io::Result<NamedTempFile> {
    create_temp_with_mode(path, PRIVATE_MODE)
}

fn create_temp_with_mode(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let mut refused = None;
    let create = |partial: &Path| {
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(partial);
        made.inspect_err(|error| refused = error.raw_os_error())
    };
    let made = tempfile::Builder::new().prefix(&temp_prefix(path)).suffix(TEMP_SUFFIX).make_in(folder_of(path), create);
    // Report the system's error without the random name.
    made.map_err(|error| refused.map_or(error, io::Error::from_raw_os_error))
}

/// Syncs a temporary file, renames it to its final path, and syncs the directory.
pub fn persist(partial: NamedTempFile, path: &Path) -> io::Result<()> {
    partial.as_file().sync_all()?;
    partial.persist(path).map_err(|failed| failed.error)?;
    match File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        // Not every file system can sync directories.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn temp_prefix(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(MAX_TEMP_PREFIX)]));
    prefix.push(".");
    prefix
}

/// Opens what must not be replaced: a device, a FIFO, or our own stdout or stderr. `None` for a regular file or nothing.
fn open_in_place(path: &Path, audience: Audience) -> io::Result<Option<File>> {
    let Ok(found) = path.metadata() else { return Ok(None) };
    let is_link = path.symlink_metadata()?.is_symlink();
    // `/dev/stdout` is a link to the real stdout. Opening it again would write a regular file from its start.
    if is_link && let Some(stream) = own_stream(&found)? {
        return Ok(Some(stream));
    }
    if found.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    let is_descriptor = is_link && folder_of(path).canonicalize().is_ok_and(|folder| folder.starts_with("/proc"));
    if found.is_file() && !is_descriptor {
        return Ok(None);
    }
    let flags = if found.file_type().is_fifo() { audience.flags() } else { OFlags::empty() };
    OpenOptions::new().append(true).custom_flags(flags.bits().cast_signed()).open(path).map(Some)
}

fn own_stream(found: &Metadata) -> io::Result<Option<File>> {
    for stream in [io::stdout().as_fd(), io::stderr().as_fd()] {
        let copy = File::from(stream.try_clone_to_owned()?);
        if FileId::of(&copy.metadata()?) == FileId::of(found) {
            return Ok(Some(copy));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn make_fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    fn open(path: &Path) -> Result<File, FileError> {
        open_private(path, OpenOptions::new().read(true).write(true))
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn private_file_is_created_and_reopened() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        open(&path).unwrap().write_all(b"words").unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(open(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"words");
    }

    #[test]
    fn private_file_is_never_link_pipe_or_folder() {
        let dir = tempfile::tempdir().unwrap();
        let victim = dir.path().join("victim");
        std::fs::write(&victim, "theirs").unwrap();
        let at = |name: &str| dir.path().join(name);
        symlink(&victim, at("link")).unwrap();
        symlink(at("nothing"), at("dangling")).unwrap();
        make_fifo(&at("pipe"));
        std::fs::create_dir(at("folder")).unwrap();
        assert!(matches!(open(&at("link")), Err(FileError::SymbolicLink { .. })));
        assert!(matches!(open(&at("dangling")), Err(FileError::SymbolicLink { .. })));
        assert!(matches!(open(&at("pipe")), Err(FileError::NotAFile { .. })));
        assert!(matches!(open(&at("folder")), Err(FileError::NotAFile { .. })));
        std::fs::hard_link(&victim, at("twin")).unwrap();
        assert!(matches!(open(&at("twin")), Err(FileError::HardLink { names: 2, .. })));
        assert_eq!(std::fs::read(&victim).unwrap(), b"theirs");
        assert!(!at("nothing").exists(), "made through a link");
    }

    #[test]
    fn machine_errors_are_not_path_errors() {
        let is_path_error = |number: rustix::io::Errno| super::is_path_error(&number.into());
        use rustix::io::Errno;
        for number in [Errno::NOENT, Errno::ACCESS, Errno::PERM, Errno::NOTDIR, Errno::LOOP, Errno::NAMETOOLONG] {
            assert!(is_path_error(number), "{number:?}");
        }
        for number in
            [Errno::MFILE, Errno::NFILE, Errno::IO, Errno::STALE, Errno::NOMEM, Errno::TIMEDOUT, Errno::NOTCONN]
        {
            assert!(!is_path_error(number), "{number:?}");
        }
    }

    #[test]
    fn file_of_another_user_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs");
        std::fs::write(&path, "").unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
            assert!(matches!(open(&path), Err(FileError::OtherOwner { owner: 12_345, .. })));
        }
    }

    #[test]
    fn replaced_file_is_private_and_its_link_target_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (victim, path) = (dir.path().join("victim"), dir.path().join("out.csv"));
        std::fs::write(&victim, "theirs").unwrap();
        symlink(&victim, &path).unwrap();
        replace(&path, Audience::Owner, |output| output.write_all(b"ours")).unwrap();
        assert_eq!((std::fs::read(&path).unwrap(), mode(&path)), (b"ours".to_vec(), 0o600));
        assert_eq!(std::fs::read(&victim).unwrap(), b"theirs");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
        replace(&path, Audience::Owner, |output| output.write_all(b"again")).unwrap();
        assert_eq!(mode(&path), 0o600, "it names people");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "something unfinished is left");
    }

    #[test]
    fn output_that_fails_leaves_the_old_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out.csv");
        std::fs::write(&path, "old").unwrap();
        let failed = replace(&path, Audience::Owner, |output| {
            output.write_all(b"half")?;
            Err(io::Error::other("no more"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "no more");
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn pipe_and_device_are_written_in_place() {
        let dir = tempfile::tempdir().unwrap();
        let (pipe, null) = (dir.path().join("pipe"), dir.path().join("null"));
        make_fifo(&pipe);
        symlink("/dev/null", &null).unwrap();
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || std::fs::read(pipe).unwrap()
        });
        replace(&pipe, Audience::Owner, |output| output.write_all(b"figures")).unwrap();
        assert_eq!(reader.join().unwrap(), b"figures");
        replace(&null, Audience::Owner, |output| output.write_all(b"figures")).unwrap();
        drop(open_log(&null).unwrap());
        assert!(null.symlink_metadata().unwrap().is_symlink() && Path::new("/dev/null").metadata().unwrap().len() == 0);
        // Neither a log nor metrics wait for a reader.
        assert!(open_log(&pipe).is_err());
        assert!(replace(&pipe, Audience::Everyone, |output| output.write_all(b"")).is_err());
        assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    }
}
