//! One run per checkpoint: a lock on a file beside it, which the system lets go of when the process dies.
//!
//! Never a lease and never a process id alone: neither can go stale.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::fs::{OFlags, XattrFlags};

use super::StoreError;
use crate::files::{self, FileId};

/// How long to look again before "another run holds it": `status` holds the lock for a moment when it looks.
const FIRST_TRY: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Begins the line of the epoch.
const EPOCH: &str = "epoch ";
/// Where the checkpoint's own file keeps its last epoch besides: other contents put into the file do not bring it along.
const EPOCH_ATTRIBUTE: &str = "user.face-enroll.epoch";
/// Digits of an epoch.
const MAX_DIGITS: usize = 20;

/// Held for as long as it lives.
///
/// Its file remembers the last epoch of the checkpoint beside it, and so does an attribute of the checkpoint's file, where
/// the file system has attributes. A checkpoint that is behind either has been restored from a backup, or has been deleted:
/// what was sent since is not in it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    checkpoint: PathBuf,
    epoch: u64,
    attribute: u64,
}

impl Lock {
    /// Takes the lock, waiting up to `wait` for the run that holds it.
    pub fn acquire(checkpoint: &Path, wait: Duration) -> Result<Self, StoreError> {
        let path = lock_path(checkpoint);
        let deadline = Instant::now() + wait.max(FIRST_TRY);
        let mut file = open(&path)?;
        while !try_lock(&file, &path)? {
            if Instant::now() >= deadline {
                let holder = read(&mut file).lines().next().map(|words| format!(" ({words})")).unwrap_or_default();
                return Err(StoreError::Locked { path: checkpoint.to_owned(), holder });
            }
            std::thread::sleep(POLL_INTERVAL);
            if FileId::at(&path) != id(&file) {
                file = open(&path)?;
            }
        }
        let epoch = read(&mut file).lines().find_map(|line| line.strip_prefix(EPOCH)?.parse().ok()).unwrap_or(0);
        let attribute = read_attribute(checkpoint);
        let lock = Self { file, path, checkpoint: checkpoint.to_owned(), epoch, attribute };
        lock.write(epoch);
        Ok(lock)
    }

    /// The checkpoint's epoch as the lock file knows it; 0: it knows none.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The last epoch that anything beside the checkpoint's contents knows of.
    pub fn last_epoch(&self) -> u64 {
        self.epoch.max(self.attribute)
    }

    /// The checkpoint has come to this epoch. Failing to write it makes neither the lock nor the checkpoint weaker.
    pub fn remember(&self, epoch: u64) {
        self.write(epoch);
        let text = epoch.to_string();
        let _ = rustix::fs::lsetxattr(&self.checkpoint, EPOCH_ATTRIBUTE, text.as_bytes(), XattrFlags::empty());
    }

    /// Is the lock file still where it was, so that nobody else can take the lock?
    pub fn is_in_place(&self) -> bool {
        FileId::at(&self.path) == id(&self.file)
    }

    /// Does a live run hold it?
    pub fn is_held(checkpoint: &Path) -> bool {
        use std::os::unix::fs::OpenOptionsExt;
        // Neither a link is followed nor a FIFO waited for.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags(flags.bits().cast_signed()).open(lock_path(checkpoint));
        opened.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn write(&self, epoch: u64) {
        let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let words = format!("process {}, since {since}\n{EPOCH}{epoch}\n", std::process::id());
        let mut file = &self.file;
        let _ = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(words.as_bytes()))
            .and_then(|()| file.set_len(words.len() as u64));
    }
}

/// Takes the lock of a checkpoint's own file, which nobody can remove without removing the checkpoint. Only where it does
/// not meet SQLite's locks on the same file: on Linux.
pub(super) fn lock_checkpoint(file: &File, path: &Path) -> Result<(), StoreError> {
    if cfg!(not(target_os = "linux")) {
        return Ok(());
    }
    let deadline = Instant::now() + FIRST_TRY;
    while !try_lock(file, path)? {
        if Instant::now() >= deadline {
            return Err(StoreError::Locked { path: path.to_owned(), holder: String::new() });
        }
        std::thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

fn try_lock(file: &File, path: &Path) -> Result<bool, StoreError> {
    match file.try_lock() {
        // Whoever had it may have removed the file: then it locks nothing any more.
        Ok(()) => Ok(FileId::at(path) == id(file)),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(StoreError::Open { path: path.to_owned(), source: Arc::new(source) }),
    }
}

fn id(file: &File) -> Option<FileId> {
    file.metadata().ok().map(|found| FileId::of(&found))
}

fn open(path: &Path) -> Result<File, StoreError> {
    Ok(files::open_private(path, OpenOptions::new().read(true).write(true))?)
}

fn read(file: &mut File) -> String {
    let mut words = String::new();
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut words));
    words
}

fn read_attribute(checkpoint: &Path) -> u64 {
    let mut value = [0; MAX_DIGITS];
    let length = rustix::fs::lgetxattr(checkpoint, EPOCH_ATTRIBUTE, &mut value).unwrap_or(0);
    std::str::from_utf8(&value[..length]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// The lock file of a checkpoint.
pub(super) fn lock_path(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_sees_owner_and_waits() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("a.sqlite");
        assert!(!Lock::is_held(&checkpoint));
        let first = Lock::acquire(&checkpoint, Duration::ZERO).unwrap();
        assert!(Lock::is_held(&checkpoint));
        let Err(StoreError::Locked { holder, .. }) = Lock::acquire(&checkpoint, Duration::ZERO) else { panic!() };
        assert!(holder.contains(&std::process::id().to_string()), "{holder}");
        first.remember(7);
        drop(first);
        assert_eq!(Lock::acquire(&checkpoint, Duration::ZERO).unwrap().epoch(), 7);
    }

    #[test]
    fn removed_lock_file_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let checkpoint = dir.path().join("a.sqlite");
        let lock = Lock::acquire(&checkpoint, Duration::ZERO).unwrap();
        assert!(lock.is_in_place());
        std::fs::remove_file(lock_path(&checkpoint)).unwrap();
        assert!(!lock.is_in_place());
        let _second = Lock::acquire(&checkpoint, Duration::ZERO).unwrap();
        assert!(!lock.is_in_place(), "another file is there now");
    }
}
