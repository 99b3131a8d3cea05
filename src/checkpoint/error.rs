//! Errors of the checkpoint. Each ends the run: a file that failed once can no longer be trusted.

use std::{error::Error, path::PathBuf, sync::Arc};

use crate::{
    domain::{ItemId, ItemState},
    files::FileError,
};

/// Error of the checkpoint. `Clone`, because all callers that wait for one commit get its error.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database failed.
    #[error("checkpoint error while {doing}")]
    Failed {
        /// Operation, as a gerund.
        doing: &'static str,
        /// Cause.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },
    /// The file could not be created or opened.
    #[error("cannot open checkpoint {path}")]
    Open {
        /// Path of the checkpoint.
        path: PathBuf,
        /// Cause.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// There is no checkpoint at the path.
    #[error("no checkpoint at {path}")]
    Missing {
        /// Path of the missing checkpoint.
        path: PathBuf,
    },
    /// A file of the checkpoint that must not be used: a link, a device, or a file of another user.
    #[error(transparent)]
    File(FileError),
    /// The file system's locks can't be trusted by SQLite.
    #[error("{path} is on a network file system, where SQLite's locks are not reliable; use a local disk")]
    NetworkFileSystem {
        /// Path of the checkpoint.
        path: PathBuf,
    },
    /// A database of another program.
    #[error("{path} is not a face-enroll checkpoint; it was not changed")]
    NotACheckpoint {
        /// Path of the checkpoint.
        path: PathBuf,
    },
    /// Written by a newer version of this program.
    #[error(
        "{path} was written by a newer version of face-enroll (schema {found}; this version supports up to {known}); it was not changed"
    )]
    SchemaTooNew {
        /// Path of the checkpoint.
        path: PathBuf,
        /// Schema version of the file.
        found: i64,
        /// Newest schema version that this program supports.
        known: i64,
    },
    /// Pages of the file are damaged.
    #[error("checkpoint is damaged: {detail}")]
    Corrupt {
        /// Message of the database.
        detail: String,
    },
    /// Another run holds the lock.
    #[error("another run holds {path}{holder}")]
    Locked {
        /// Path of the checkpoint.
        path: PathBuf,
        /// `" (process 4711, since …)"`, or empty if unknown.
        holder: String,
    },
    /// Another program reads the file, so that its WAL cannot be emptied.
    #[error("another program is reading {path}, so removed rows would stay in its -wal file")]
    InUse {
        /// Path of the checkpoint.
        path: PathBuf,
    },
    /// The checkpoint is bound to another region, endpoint or sandbox.
    #[error("checkpoint is for {found}, but this run targets {wanted}")]
    TargetMismatch {
        /// Target of the checkpoint.
        found: String,
        /// Target of this run.
        wanted: String,
    },
    /// The contents are older than the last run on this checkpoint.
    #[error("{path} is older than its last run: it was restored from a backup and may be missing sent items")]
    Stale {
        /// Path of the checkpoint.
        path: PathBuf,
    },
    /// The file is not the one that the last run wrote.
    #[error(
        "{path} is not the file that its last run wrote: it was restored from a backup or copied and may be missing sent items"
    )]
    Copied {
        /// Path of the checkpoint.
        path: PathBuf,
    },
    /// A state transition that is not allowed: a bug.
    #[error("item {item} cannot change from {from:?} to {to:?}: this is a bug")]
    InvalidTransition {
        /// Item that was to change.
        item: ItemId,
        /// Stored state.
        from: ItemState,
        /// Requested state.
        to: ItemState,
    },
    /// A stored value that this version does not know.
    #[error("checkpoint holds an unknown value: {detail}")]
    Unreadable {
        /// Description of the value.
        detail: String,
    },
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
