//! Detects a checkpoint that is not the one the last run wrote.
//!
//! The contents alone can't show it, because an older copy looks the same. Each run therefore advances an epoch when it
//! starts and when it ends, which is also stored in the lock file and in an attribute of the file; and the contents store
//! which file they were written to. Device and machine numbers change across reboots and containers, so they prove nothing.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    str::FromStr,
    time::UNIX_EPOCH,
};

use super::{SqliteStore, set_setting, setting};
use crate::checkpoint::{Lock, StoreError};

/// Name of the setting that stores the [`FileIdentity`].
pub(super) const SETTING: &str = "file";

/// Identity of a file within its file system. It survives reboots, mounts and renames; every copy has another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    inode: u64,
    /// Creation time in nanoseconds since 1970; `None` if the file system does not record it.
    born: Option<u128>,
}

impl FileIdentity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::from(&found))
    }

    /// Compares creation times too, because a file system reuses the inode of a removed file.
    fn is_same(self, other: Self) -> bool {
        let born = self.born.zip(other.born);
        self.inode == other.inode && born.is_none_or(|(one, other)| one == other)
    }
}

impl From<&Metadata> for FileIdentity {
    fn from(found: &Metadata) -> Self {
        let born = found.created().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self { inode: found.ino(), born: born.map(|since| since.as_nanos()) }
    }
}

impl fmt::Display for FileIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.inode)?;
        self.born.map_or(Ok(()), |born| write!(f, " {born}"))
    }
}

impl FromStr for FileIdentity {
    type Err = std::num::ParseIntError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (inode, born) = match text.split_once(' ') {
            Some((inode, born)) => (inode, Some(born.parse()?)),
            None => (text, None),
        };
        Ok(Self { inode: inode.parse()?, born })
    }
}

/// Facts about a checkpoint at the start of a run.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    /// Epoch in the contents.
    epoch: u64,
    /// Epoch in the lock file; 0 without a lock file or an epoch in it.
    lock_epoch: u64,
    /// Largest epoch recorded outside the contents.
    last_epoch: u64,
    /// Whether the last run started and did not end. A copy may have been taken during it, with its lock file.
    was_killed: bool,
    /// File that the last run wrote; `None` if an older version wrote it, which did not record the file.
    written: Option<FileIdentity>,
    /// File that is open now.
    found: Option<FileIdentity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It knows everything that was sent.
    Current,
    /// It is new and replaces another one.
    New,
    /// It is older than the last run.
    Behind,
    /// It is a copy, and nothing proves that it is not older.
    Unproven,
}

impl Evidence {
    fn judge(self) -> Verdict {
        let has_current_lock = self.lock_epoch == self.epoch;
        match self.written.zip(self.found) {
            _ if self.epoch == 0 && self.last_epoch > 0 => Verdict::New,
            _ if self.epoch < self.last_epoch => Verdict::Behind,
            _ if self.epoch == 0 => Verdict::Current,
            _ if has_current_lock && !self.was_killed => Verdict::Current,
            Some((written, found)) if written.is_same(found) => Verdict::Current,
            None if has_current_lock => Verdict::Current,
            Some(_) | None => Verdict::Unproven,
        }
    }
}

impl SqliteStore {
    /// Whether the checkpoint knows what the last run sent. `false` if it is new and replaces another one; an error if it is
    /// stale or a copy.
    pub fn is_current(&self, lock: &Lock, path: &Path) -> Result<bool, StoreError> {
        let written = setting(&self.db, SETTING).map_err(StoreError::sqlite("reading its file identity"))?;
        let evidence = Evidence {
            epoch: self.epoch()?,
            lock_epoch: lock.epoch(),
            last_epoch: lock.last_epoch(),
            was_killed: self.was_last_run_killed().map_err(StoreError::sqlite("reading its runs"))?,
            written: written.and_then(|text| text.parse().ok()),
            found: FileIdentity::of(&self.file).ok(),
        };
        match evidence.judge() {
            Verdict::Current => Ok(true),
            Verdict::New => Ok(false),
            Verdict::Behind => Err(StoreError::Stale { path: path.to_owned() }),
            Verdict::Unproven => Err(StoreError::Copied { path: path.to_owned() }),
        }
    }

    /// Marks the checkpoint as incomplete: from now on every run queries the service before each send, because items that
    /// are not in it may have been sent.
    pub fn note_incomplete(&mut self) -> Result<(), StoreError> {
        set_setting(&self.db, "incomplete", "1").map_err(StoreError::sqlite("marking it as incomplete"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THIS: FileIdentity = FileIdentity { inode: 7, born: Some(1_700_000_000_123_456_789) };
    const OTHER: FileIdentity = FileIdentity { inode: 8, born: Some(1_700_000_000_123_456_789) };

    fn evidence() -> Evidence {
        Evidence { epoch: 4, lock_epoch: 4, last_epoch: 4, was_killed: false, written: Some(THIS), found: Some(THIS) }
    }

    #[test]
    fn copy_needs_a_lock_of_its_epoch_and_an_ended_run() {
        let copy = Evidence { found: Some(OTHER), ..evidence() };
        for (evidence, expected) in [
            (evidence(), Verdict::Current),
            (Evidence { was_killed: true, ..evidence() }, Verdict::Current),
            (Evidence { lock_epoch: 0, last_epoch: 0, ..evidence() }, Verdict::Current),
            (Evidence { lock_epoch: 3, last_epoch: 3, was_killed: true, ..evidence() }, Verdict::Current),
            (copy, Verdict::Current),
            (Evidence { was_killed: true, ..copy }, Verdict::Unproven),
            (Evidence { lock_epoch: 0, last_epoch: 0, ..copy }, Verdict::Unproven),
            (Evidence { lock_epoch: 3, last_epoch: 3, ..copy }, Verdict::Unproven),
            // Written by a version that did not record the file.
            (Evidence { written: None, was_killed: true, ..evidence() }, Verdict::Current),
            (Evidence { written: None, lock_epoch: 0, last_epoch: 0, ..evidence() }, Verdict::Unproven),
            // Older contents in the same file.
            (Evidence { lock_epoch: 0, last_epoch: 5, ..evidence() }, Verdict::Behind),
            (Evidence { lock_epoch: 5, last_epoch: 5, ..evidence() }, Verdict::Behind),
            (Evidence { epoch: 0, written: None, ..evidence() }, Verdict::New),
            (Evidence { epoch: 0, written: None, lock_epoch: 0, last_epoch: 0, ..evidence() }, Verdict::Current),
        ] {
            assert_eq!(evidence.judge(), expected, "{evidence:?}");
        }
    }

    #[test]
    fn file_born_later_with_the_same_number_is_another_one() {
        let later = FileIdentity { born: THIS.born.map(|born| born + 1), ..THIS };
        let unknown = FileIdentity { born: None, ..THIS };
        assert!(!THIS.is_same(later) && !THIS.is_same(OTHER));
        assert!(THIS.is_same(unknown) && unknown.is_same(THIS) && unknown.is_same(unknown));
    }

    proptest! {
        #[test]
        fn identity_is_read_as_it_was_written(inode: u64, born: Option<u128>) {
            let identity = FileIdentity { inode, born };
            prop_assert_eq!(identity.to_string().parse(), Ok(identity));
        }

        /// A run on another file, of which nothing outside that file knows, may have sent more.
        #[test]
        fn copy_without_proof_is_never_taken_for_current(epoch in 1..9u64, lock in 0..9u64, attribute in 0..9u64, was_killed: bool) {
            let last_epoch = lock.max(attribute);
            let copy = Evidence { epoch, lock_epoch: lock, last_epoch, was_killed, written: Some(THIS), found: Some(OTHER) };
            let is_proven = lock == epoch && last_epoch == epoch && !was_killed;
            prop_assert_eq!(copy.judge() == Verdict::Current, is_proven);
        }
    }
}
