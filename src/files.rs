//! The one way to create, replace and open files for writing: for their owner alone, and never through a link.
//!
//! A file that is kept (checkpoint, lock, log, records) is used only if it is a regular file of ours with one name. A file
//! that is written as a whole is made under a random name, synced, and renamed into place. What is not a regular file (a
//! device, a FIFO) is written to in place, never replaced.

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

/// For the owner alone: our files name people.
const PRIVATE_MODE: u32 = 0o600;
/// For whoever collects figures.
const PUBLIC_MODE: u32 = 0o644;
/// Ends the name of a file that is not whole yet.
const PARTIAL: &str = ".partial";
/// Bytes of a file's own name that the name of its unfinished copy begins with: a name may have 255.
const MAX_PREFIX: usize = 200;

/// Why a file is not used.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FileError {
    /// The system refuses.
    #[error("{} can't be opened", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<io::Error>,
    },
    /// It leads to another file.
    #[error("{} is a symbolic link; a regular file is needed there", path.display())]
    SymbolicLink {
        /// Which.
        path: PathBuf,
    },
    /// A directory, a device, a FIFO or a socket.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// Which.
        path: PathBuf,
    },
    /// The same file can be reached, and changed, under another name.
    #[error("{} has {names} names (hard links); it may have one", path.display())]
    HardLink {
        /// Which.
        path: PathBuf,
        /// How many.
        names: u64,
    },
    /// Its owner could change it behind our back.
    #[error("{} belongs to another user (uid {owner}); this process runs as uid {user}", path.display())]
    OtherOwner {
        /// Which.
        path: PathBuf,
        /// The file's.
        owner: u32,
        /// Ours.
        user: u32,
    },
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

/// The file behind a name: two names of one file have the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileId {
    device: u64,
    inode: u64,
}

impl FileId {
    /// Of an opened or found file.
    pub fn of(found: &Metadata) -> Self {
        Self { device: found.dev(), inode: found.ino() }
    }

    /// Of what this name stands for, links not followed. None: nothing.
    pub fn at(path: &Path) -> Option<Self> {
        path.symlink_metadata().ok().map(|found| Self::of(&found))
    }
}

/// Where a file lies, or is to lie.
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

/// Is this a file that may be kept: regular, one name, ours?
pub fn check_kept(path: &Path) -> Result<(), FileError> {
    let found = path.symlink_metadata().map_err(FileError::io(path))?;
    check_regular(path, &found)?;
    check_owner(path, &found)
}

/// Is it a regular file with one name? Whoever owns it.
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

/// Opens a file that is kept, making it where there is none. `options` say how it is read and written.
pub fn open_kept(path: &Path, options: &OpenOptions) -> Result<File, FileError> {
    // Nothing is followed, and a FIFO is not waited for: what it is, is seen before it is used.
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
        // A link is not opened, nor a socket: the name tells what it is.
        Err(source) => return Err(check_kept(path).err().unwrap_or_else(|| FileError::io(path)(source))),
    };
    let found = file.metadata().map_err(FileError::io(path))?;
    check_regular(path, &found)?;
    check_owner(path, &found)?;
    Ok(file)
}

/// Opens a log: a file that is kept, or what is not a regular file, as it is.
pub fn open_log(path: &Path) -> io::Result<File> {
    match open_in_place(path, Audience::Everyone)? {
        Some(file) => Ok(file),
        None => Ok(open_kept(path, OpenOptions::new().append(true))?),
    }
}

/// Who an output is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Audience {
    /// Its owner alone: it names people. The reader of a FIFO is waited for.
    Owner,
    /// Whoever collects figures. A FIFO that nobody reads is an error.
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

/// An output that is the old file or the whole new one, never a part of it. Dropped unfinished, it leaves the old one.
pub struct Output(Target);

enum Target {
    Replaced { partial: NamedTempFile, path: PathBuf },
    InPlace(File),
}

impl Output {
    /// Begins it.
    pub fn create(path: &Path, audience: Audience) -> io::Result<Self> {
        if let Some(file) = open_in_place(path, audience)? {
            return Ok(Self(Target::InPlace(file)));
        }
        let partial = unfinished(path, audience.mode())?;
        Ok(Self(Target::Replaced { partial, path: path.to_owned() }))
    }

    /// From here on it is there, and outlives the power.
    pub fn finish(self) -> io::Result<()> {
        match self.0 {
            Target::Replaced { partial, path } => put_in_place(partial, &path),
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

/// Writes an output as a whole.
pub fn replace<E: From<io::Error>>(
    path: &Path,
    audience: Audience,
    write: impl FnOnce(&mut Output) -> Result<(), E>,
) -> Result<(), E> {
    let mut output = Output::create(path, audience)?;
    write(&mut output)?;
    Ok(output.finish()?)
}

/// Makes a file beside its place, under a random name, for the owner alone.
pub fn unfinished_private(path: &Path) -> io::Result<NamedTempFile> {
    unfinished(path, PRIVATE_MODE)
}

fn unfinished(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let mut refused = None;
    let create = |partial: &Path| {
        let made = OpenOptions::new().write(true).create_new(true).mode(mode).open(partial);
        made.inspect_err(|error| refused = error.raw_os_error())
    };
    let made = tempfile::Builder::new().prefix(&partial_prefix(path)).suffix(PARTIAL).make_in(folder_of(path), create);
    // The system's own words, without a random name in them.
    made.map_err(|error| refused.map_or(error, io::Error::from_raw_os_error))
}

/// Syncs an unfinished file, gives it its name, and syncs that.
pub fn put_in_place(partial: NamedTempFile, path: &Path) -> io::Result<()> {
    partial.as_file().sync_all()?;
    partial.persist(path).map_err(|failed| failed.error)?;
    match File::open(folder_of(path)).and_then(|folder| folder.sync_all()) {
        // Not every file system syncs folders.
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
        synced => synced,
    }
}

fn partial_prefix(path: &Path) -> OsString {
    let name = path.file_name().unwrap_or_default().as_bytes();
    let mut prefix = OsString::from(".");
    prefix.push(OsStr::from_bytes(&name[..name.len().min(MAX_PREFIX)]));
    prefix.push(".");
    prefix
}

/// Opens what must not be replaced: a device, a FIFO, or a stream of ours by another name. None: a regular file, or nothing.
fn open_in_place(path: &Path, audience: Audience) -> io::Result<Option<File>> {
    let Ok(found) = path.metadata() else { return Ok(None) };
    let is_link = path.symlink_metadata()?.is_symlink();
    // `/dev/stdout` is a link to whatever stdout is; opened anew, a regular file there would be written from its beginning.
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
        open_kept(path, OpenOptions::new().read(true).write(true))
    }

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn kept_file_is_private_and_opened_again_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kept");
        open(&path).unwrap().write_all(b"words").unwrap();
        assert_eq!(mode(&path), 0o600);
        drop(open(&path).unwrap());
        assert_eq!(std::fs::read(&path).unwrap(), b"words");
    }

    #[test]
    fn kept_file_is_never_a_link_a_pipe_or_a_folder() {
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
    fn file_of_another_user_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("theirs");
        std::fs::write(&path, "").unwrap();
        // Only root can give a file away.
        if std::os::unix::fs::chown(&path, Some(12_345), None).is_ok() {
            assert!(matches!(open(&path), Err(FileError::OtherOwner { owner: 12_345, .. })));
        }
    }

    #[test]
    fn replaced_file_is_private_and_its_link_target_is_left_alone() {
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
        // A log, and figures that come again and again, wait for nobody.
        assert!(open_log(&pipe).is_err());
        assert!(replace(&pipe, Audience::Everyone, |output| output.write_all(b"")).is_err());
        assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    }
}
