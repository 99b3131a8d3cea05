//! The ledger's file: JSON Lines, one line for each record made or deleted, only ever appended to.
//!
//! A line is handed to the operating system before the answer leaves, so it outlives the process and its SIGKILL; it is not
//! forced to the disk, so it need not outlive the machine. A last line without its end is a write that was cut off by such
//! a kill, for which nobody had an answer: it is truncated away.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Write},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::Record;
use crate::{files, sandbox::SandboxError};

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Entry {
    Add(Record),
    Delete(i64),
}

#[derive(Debug)]
pub(super) struct Log {
    file: File,
    /// Where the last whole line ends.
    bytes: u64,
}

impl Log {
    /// Opens or makes the file and reads what it holds.
    pub(super) fn open(path: &Path) -> Result<(Self, Vec<Entry>), SandboxError> {
        let file_error = |source| SandboxError::File { path: path.to_owned(), source };
        let opened = files::open_private(path, OpenOptions::new().read(true).append(true));
        let mut file = opened.map_err(|error| file_error(error.into()))?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => SandboxError::InUse(path.to_owned()),
            TryLockError::Error(source) => file_error(source),
        })?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(file_error)?;
        let whole = content.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
        let mut entries = Vec::new();
        for (at, line) in content[..whole].split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let corrupt = |source| SandboxError::Corrupt { path: path.to_owned(), line: at + 1, source };
            entries.push(serde_json::from_slice(line).map_err(corrupt)?);
        }
        let mut log = Self { file, bytes: whole as u64 };
        log.drop_torn_line().map_err(file_error)?;
        Ok((log, entries))
    }

    /// Appends one line with one write. After an error the file is as it was before.
    pub(super) fn append(&mut self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        if let Err(error) = self.file.write_all(&line) {
            self.drop_torn_line()?;
            return Err(error);
        }
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn drop_torn_line(&mut self) -> io::Result<()> {
        self.file.set_len(self.bytes)
    }
}
