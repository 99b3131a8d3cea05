//! One run per checkpoint: a lock on a file beside it, which the kernel releases when the process dies.
//!
//! It is never a lease or a bare process id, because both can go stale.

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

/// Retry for this long before failing: `status` holds the lock for a moment while it probes.
const FIRST_TRY: Duration = Duration::from_millis(300);
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// Prefix of the epoch's line in the lock file.
const EPOCH_PREFIX: &str = "epoch ";
/// Extended attribute of the checkpoint's file with its last epoch. Overwriting the contents leaves the attribute as it was.
const EPOCH_ATTRIBUTE: &str = "user.face-enroll.epoch";
/// Digits of the largest epoch, a `u64`.
const MAX_EPOCH_DIGITS: usize = 20;

/// Lock on a checkpoint, held until it is dropped.
///
/// The lock file stores the last epoch of the checkpoint, and so does an attribute of the checkpoint's file if the file
/// system has attributes. A checkpoint with a smaller epoch than either was restored from a backup or recreated, and does
/// not know what was sent since.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    checkpoint: PathBuf,
    epoch: u64,
    attribute: u64,
}

impl Lock {
    /// Acquires the lock, waiting up to `wait` for the run that holds it.
    pub fn acquire(checkpoint: &Path, wait: Duration) -> Result<Self, StoreError> {
        let path = lock_path(checkpoint);
        let deadline = Instant::now() + wait.max(FIRST_TRY);
        let mut file = open(&path)?;
        while !try_lock(&file, &path)? {
            if Instant::now() >= deadline {
                let holder = read(&mut file).lines().next().map(|line| format!(" ({line})")).unwrap_or_default();
                return Err(StoreError::Locked { path: checkpoint.to_owned(), holder });
            }
            std::thread::sleep(POLL_INTERVAL);
            if FileId::at(&path) != id(&file) {
                file = open(&path)?;
            }
        }
        let epoch = read(&mut file).lines().find_map(|line| line.strip_prefix(EPOCH_PREFIX)?.parse().ok()).unwrap_or(0);
        let attribute = read_attribute(checkpoint);
        let lock = Self { file, path, checkpoint: checkpoint.to_owned(), epoch, attribute };
        lock.write(epoch);
        Ok(lock)
    }

    /// Epoch in the lock file; 0 if there is none.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Largest epoch recorded outside the checkpoint's contents.
    pub fn last_epoch(&self) -> u64 {
        self.epoch.max(self.attribute)
    }

    /// Records the checkpoint's new epoch. A failed write weakens neither the lock nor the checkpoint, so it is ignored.
    pub fn remember(&self, epoch: u64) {
        self.write(epoch);
        let text = epoch.to_string();
        let _ = rustix::fs::lsetxattr(&self.checkpoint, EPOCH_ATTRIBUTE, text.as_bytes(), XattrFlags::empty());
    }

    /// Whether the lock file is still in place, so that nobody else can acquire the lock.
    pub fn is_in_place(&self) -> bool {
        FileId::at(&self.path) == id(&self.file)
    }

    /// Whether a live run holds the lock.
    pub fn is_held(checkpoint: &Path) -> bool {
        use std::os::unix::fs::OpenOptionsExt;
        // Does not follow a link or wait for a FIFO.
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let mut options = OpenOptions::new();
        let opened = options.read(true).custom_flags(flags.bits().cast_signed()).open(lock_path(checkpoint));
        opened.is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    fn write(&self, epoch: u64) {
        let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let text = format!("process {}, since {since}\n{EPOCH_PREFIX}{epoch}\n", std::process::id());
        let mut file = &self.file;
        let _ = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(text.as_bytes()))
            .and_then(|()| file.set_len(text.len() as u64));
    }
}

/// Locks the checkpoint's own file, which nobody can remove without removing the checkpoint. Linux only: elsewhere the lock
/// conflicts with SQLite's locks on the same file.
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
        // The previous holder may have removed the file; a lock on a removed file protects nothing.
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
    let mut text = String::new();
    let _ = file.seek(SeekFrom::Start(0)).and_then(|_| file.read_to_string(&mut text));
    text
}

fn read_attribute(checkpoint: &Path) -> u64 {
    let mut value = [0; MAX_EPOCH_DIGITS];
    let length = rustix::fs::lgetxattr(checkpoint, EPOCH_ATTRIBUTE, &mut value).unwrap_or(0);
    std::str::from_utf8(&value[..length]).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

/// Path of a checkpoint's lock file.
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
