//! Is this the checkpoint that the last run wrote?
//!
//! Its contents can't tell: an older copy looks the same. So the epoch, which each run takes further at its beginning and
//! at its end, is remembered outside of them too, by the lock file beside it and by an attribute of the file; and the
//! contents remember which file they were written to. Numbers of devices and machines change across reboots and
//! containers, so they prove nothing.

use std::{
    fmt,
    fs::{File, Metadata},
    io,
    os::unix::fs::MetadataExt,
    path::Path,
    str::FromStr,
    time::UNIX_EPOCH,
};

use super::SqliteStore;
use crate::checkpoint::{Lock, StoreError};

/// The name of the setting that holds [`FileIdentity`].
pub(super) const SETTING: &str = "file";

/// A file within its file system: it outlives reboots, mounts and renames, and no copy has the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileIdentity {
    inode: u64,
    /// Nanoseconds since 1970. None: the file system does not know it.
    born: Option<u128>,
}

impl FileIdentity {
    pub(super) fn of(file: &File) -> io::Result<Self> {
        file.metadata().map(|found| Self::from(&found))
    }

    /// A number of a removed file may be given to another one, born later.
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

/// What is known of a checkpoint when a run begins on it.
#[derive(Debug, Clone, Copy)]
struct Evidence {
    /// As its contents say.
    epoch: u64,
    /// As the lock file says; 0: it knows none, or is not there.
    lock_epoch: u64,
    /// The last that anything outside of the contents knows.
    last_epoch: u64,
    /// Did the last run on it begin and not end? Then a copy may have been taken meanwhile, with its lock file.
    was_cut_off: bool,
    /// The file that the last run wrote. None: a version wrote it that did not remember.
    written: Option<FileIdentity>,
    found: Option<FileIdentity>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It knows all that was sent.
    Current,
    /// It is new, where there was another one.
    New,
    /// It is older than the last run.
    Behind,
    /// It is a copy, and nothing says that it is not older.
    Unproven,
}

impl Evidence {
    fn judge(self) -> Verdict {
        let is_of_this_epoch = self.lock_epoch == self.epoch;
        match self.written.zip(self.found) {
            _ if self.epoch == 0 && self.last_epoch > 0 => Verdict::New,
            _ if self.epoch < self.last_epoch => Verdict::Behind,
            _ if self.epoch == 0 => Verdict::Current,
            _ if is_of_this_epoch && !self.was_cut_off => Verdict::Current,
            Some((written, found)) if written.is_same(found) => Verdict::Current,
            None if is_of_this_epoch => Verdict::Current,
            Some(_) | None => Verdict::Unproven,
        }
    }
}

impl SqliteStore {
    /// Does the checkpoint know what the last run on it sent? False: it is a new one where there was another.
    pub fn is_current(&self, lock: &Lock, path: &Path) -> Result<bool, StoreError> {
        let was_cut_off = || {
            self.db.query_row(
                "SELECT EXISTS (SELECT 1 FROM runs WHERE id = (SELECT max(id) FROM runs) AND ended_at IS NULL)",
                [],
                |row| row.get(0),
            )
        };
        let written = self.setting(SETTING).map_err(StoreError::sqlite("reading which file it is"))?;
        let evidence = Evidence {
            epoch: self.epoch()?,
            lock_epoch: lock.epoch(),
            last_epoch: lock.last_epoch(),
            was_cut_off: was_cut_off().map_err(StoreError::sqlite("reading its runs"))?,
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

    /// From now on, every run asks before each send: what is not in here may have been sent all the same.
    pub fn note_incomplete(&mut self) -> Result<(), StoreError> {
        self.db
            .execute("INSERT INTO settings (name, value) VALUES ('incomplete', '1') ON CONFLICT DO NOTHING", [])
            .map(drop)
            .map_err(StoreError::sqlite("noting that it does not know all"))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const THIS: FileIdentity = FileIdentity { inode: 7, born: Some(1_700_000_000_123_456_789) };
    const OTHER: FileIdentity = FileIdentity { inode: 8, born: Some(1_700_000_000_123_456_789) };

    fn evidence() -> Evidence {
        Evidence { epoch: 4, lock_epoch: 4, last_epoch: 4, was_cut_off: false, written: Some(THIS), found: Some(THIS) }
    }

    #[test]
    fn copy_is_current_only_with_a_lock_of_its_epoch_and_an_ended_run() {
        let copy = Evidence { found: Some(OTHER), ..evidence() };
        for (evidence, expected) in [
            (evidence(), Verdict::Current),
            (Evidence { was_cut_off: true, ..evidence() }, Verdict::Current),
            (Evidence { lock_epoch: 0, last_epoch: 0, ..evidence() }, Verdict::Current),
            (Evidence { lock_epoch: 3, last_epoch: 3, was_cut_off: true, ..evidence() }, Verdict::Current),
            (copy, Verdict::Current),
            (Evidence { was_cut_off: true, ..copy }, Verdict::Unproven),
            (Evidence { lock_epoch: 0, last_epoch: 0, ..copy }, Verdict::Unproven),
            (Evidence { lock_epoch: 3, last_epoch: 3, ..copy }, Verdict::Unproven),
            // Of a version that did not remember the file.
            (Evidence { written: None, was_cut_off: true, ..evidence() }, Verdict::Current),
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

        /// A run that began on another file, and of which nothing outside of it tells, may know more.
        #[test]
        fn copy_without_proof_is_never_taken_for_current(epoch in 1..9u64, lock in 0..9u64, attribute in 0..9u64, was_cut_off: bool) {
            let last_epoch = lock.max(attribute);
            let copy = Evidence { epoch, lock_epoch: lock, last_epoch, was_cut_off, written: Some(THIS), found: Some(OTHER) };
            let is_proven = lock == epoch && last_epoch == epoch && !was_cut_off;
            prop_assert_eq!(copy.judge() == Verdict::Current, is_proven);
        }
    }
}
