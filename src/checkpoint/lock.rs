//! One run per checkpoint: a lock on a file beside it, which the system lets go of when the process dies.
//!
//! Never a lease and never a process id alone: neither can go stale.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use super::StoreError;

/// How long to look again before "another run holds it": `status` holds the lock for a moment when it looks.
const GLANCE: Duration = Duration::from_millis(300);
/// Begins the line of the epoch.
const EPOCH: &str = "epoch ";
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Held for as long as it lives.
///
/// Its file remembers the last epoch of the checkpoint beside it. A checkpoint that is behind has been restored from a
/// backup, or has been deleted: what was sent since is not in it.
#[derive(Debug)]
pub struct Lock {
    file: File,
    epoch: u64,
}

impl Lock {
    /// Takes the lock, waiting up to `wait` for the run that holds it.
    pub fn acquire(checkpoint: &Path, wait: Duration) -> Result<Self, StoreError> {
        let path = lock_path(checkpoint);
        let cannot = |source| StoreError::Open { path: path.clone(), source: Arc::new(source) };
        let mut file = open(&path).map_err(cannot)?;
        let deadline = Instant::now() + wait.max(GLANCE);
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::Error(source)) => return Err(cannot(source)),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => std::thread::sleep(LOOK_AGAIN),
                Err(TryLockError::WouldBlock) => {
                    let mut words = String::new();
                    let _ = file.read_to_string(&mut words);
                    let holder = words.lines().next().map(|words| format!(" ({words})")).unwrap_or_default();
                    return Err(StoreError::Locked { path: checkpoint.to_owned(), holder });
                }
            }
        }
        let mut words = String::new();
        let _ = file.read_to_string(&mut words);
        let epoch = words.lines().find_map(|line| line.strip_prefix(EPOCH)?.parse().ok()).unwrap_or(0);
        let lock = Self { file, epoch };
        lock.remember(epoch);
        Ok(lock)
    }

    /// The checkpoint's epoch when it was last told.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The checkpoint has come to this epoch. Failing to write it makes neither the lock nor the checkpoint weaker.
    pub fn remember(&self, epoch: u64) {
        let since = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ");
        let words = format!("process {}, since {since}\n{EPOCH}{epoch}\n", std::process::id());
        let mut file = &self.file;
        let _ = file
            .seek(SeekFrom::Start(0))
            .and_then(|_| file.write_all(words.as_bytes()))
            .and_then(|()| file.set_len(words.len() as u64));
    }

    /// Does a live run hold it?
    pub fn is_held(checkpoint: &Path) -> bool {
        File::open(lock_path(checkpoint))
            .is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

fn lock_path(checkpoint: &Path) -> PathBuf {
    let mut name = checkpoint.as_os_str().to_owned();
    name.push(".lock");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn second_holder_is_told_who_has_it_and_gets_it_when_it_is_free() {
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
}
