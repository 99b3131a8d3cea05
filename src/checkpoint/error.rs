//! Errors of the checkpoint. Each ends the run: a file that failed once can no longer be trusted.

use std::{error::Error, path::PathBuf, sync::Arc};

use crate::{
    domain::{ItemId, ItemState},
    files::FileError,
};

/// Error of the checkpoint. `Clone`, because all callers that wait for one commit get its error.
#[derive(Debug, Clone, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum StoreError {
    #[error("checkpoint error while {doing}")]
    Failed { doing: &'static str, source: Arc<dyn Error + Send + Sync> },
    #[error("cannot open checkpoint {path}")]
    Open { path: PathBuf, source: Arc<std::io::Error> },
    #[error("no checkpoint at {path}")]
    Missing { path: PathBuf },
    /// A file of the checkpoint that must not be used: a link, a device, or a file of another user.
    #[error(transparent)]
    File(FileError),
    /// The file system's locks can't be trusted by SQLite.
    #[error("{path} is on a network file system, where SQLite's locks are not reliable; use a local disk")]
    NetworkFileSystem { path: PathBuf },
    #[error("{path} is not a face-enroll checkpoint; it was not changed")]
    NotACheckpoint { path: PathBuf },
    #[error(
        "{path} was written by a newer version of face-enroll (schema {found}; this version supports up to {known}); it was not changed"
    )]
    SchemaTooNew { path: PathBuf, found: i64, known: i64 },
    #[error("checkpoint is damaged: {detail}")]
    Corrupt { detail: String },
    #[error("another run holds {path}{holder}")]
    Locked {
        path: PathBuf,
        /// `" (process 4711, since …)"`, or empty if unknown.
        holder: String,
    },
    /// Another program reads the file, so that its WAL cannot be emptied.
    #[error("another program is reading {path}, so removed rows would stay in its -wal file")]
    InUse { path: PathBuf },
    /// The checkpoint is bound to another region, endpoint or sandbox.
    #[error("checkpoint is for {found}, but this run targets {wanted}")]
    TargetMismatch { found: String, wanted: String },
    #[error("{path} is older than its last run: it was restored from a backup and may be missing sent items")]
    Stale { path: PathBuf },
    #[error(
        "{path} is not the file that its last run wrote: it was restored from a backup or copied and may be missing sent items"
    )]
    Copied { path: PathBuf },
    /// A state transition that is not allowed: a bug.
    #[error("item {item} cannot change from {from:?} to {to:?}: this is a bug")]
    InvalidTransition { item: ItemId, from: ItemState, to: ItemState },
    /// A stored value that this version does not know.
    #[error("checkpoint holds an unknown value: {detail}")]
    Unreadable { detail: String },
    /// The writer has stopped after an error that was already returned.
    #[error("checkpoint writer has stopped")]
    Stopped,
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::Io { path, source } => Self::Open { path, source },
            FileError::SymbolicLink { .. }
            | FileError::NotAFile { .. }
            | FileError::HardLink { .. }
            | FileError::OtherOwner { .. } => Self::File(error),
        }
    }
}
