//! File of the record store: JSON Lines, one line per record created or deleted, append-only.
//!
//! A line is handed to the operating system before the response is sent, so it survives a SIGKILL of the process. It is not
//! synced, so it may not survive a crash of the machine. An incomplete last line is a write torn by such a kill, to which
//! no client got a response: it is truncated.

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
    /// Length of the file up to the end of its last complete line.
    bytes: u64,
}

impl Log {
    /// Opens or creates the file and reads its entries.
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
        let complete = content.iter().rposition(|&b| b == b'\n').map_or(0, |end| end + 1);
        let mut entries = Vec::new();
        for (at, line) in content[..complete].split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let corrupt = |source| SandboxError::Corrupt { path: path.to_owned(), line: at + 1, source };
            entries.push(serde_json::from_slice(line).map_err(corrupt)?);
        }
        let mut log = Self { file, bytes: complete as u64 };
        log.drop_torn_line().map_err(file_error)?;
        Ok((log, entries))
    }

    /// Appends one line with one write. After an error the file is unchanged.
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
