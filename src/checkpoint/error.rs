//! What can go wrong with the checkpoint. All of it ends the run: a file that failed once is not to be trusted.

use std::{path::PathBuf, sync::Arc};

use crate::{
    domain::{DeleteIntent, ItemId, ItemState},
    files::FileError,
};

/// See the module. `Clone`, because everyone who waits for the same commit hears of its failure.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// SQLite failed.
    #[error("the checkpoint failed while {doing}")]
    Sqlite {
        /// What was being done.
        doing: &'static str,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// The file could not be made or opened.
    #[error("the checkpoint {path} can't be opened")]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<std::io::Error>,
    },
    /// There is none.
    #[error("there is no checkpoint at {path}")]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file of the checkpoint that is not used: a link, a device, another user's.
    #[error(transparent)]
    File(FileError),
    /// On a file system where SQLite's locks can't be trusted.
    #[error("{path} is on a network file system, where a checkpoint can't be kept safe: put it on a local disk")]
    NetworkFileSystem {
        /// Which.
        path: PathBuf,
    },
    /// A database, but not one of ours.
    #[error("{path} is not a checkpoint of face-enroll; it has not been touched")]
    NotACheckpoint {
        /// Which.
        path: PathBuf,
    },
    /// Written by a newer version.
    #[error(
        "{path} was written by a newer version of face-enroll (schema {found}; this one knows {known}); it has not been touched"
    )]
    SchemaTooNew {
        /// Which.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// Ours.
        known: i64,
    },
    /// Its pages are damaged.
    #[error("the checkpoint is damaged: {detail}")]
    Corrupt {
        /// What SQLite says.
        detail: String,
    },
    /// Another run has it.
    #[error("another run holds {path}{holder}")]
    Locked {
        /// Which.
        path: PathBuf,
        /// `" (process 4711, since …)"`, if it says so.
        holder: String,
    },
    /// Made for another region, endpoint or sandbox.
    #[error("this checkpoint belongs to {found}, and this run would go to {wanted}")]
    TargetMismatch {
        /// What it was made for.
        found: String,
        /// What this run is for.
        wanted: String,
    },
    /// Older than the last run on it.
    #[error(
        "{path} is older than the last run on it: it was restored from a backup, and does not know what was sent since"
    )]
    Stale {
        /// Which.
        path: PathBuf,
    },
    /// Not the file that the last run wrote.
    #[error(
        "{path} is not the file that the last run on it wrote: it was restored from a backup or copied, and may not know what was sent since"
    )]
    Copied {
        /// Which.
        path: PathBuf,
    },
    /// A state change that the rules don't know: a bug.
    #[error("item {item} can't go from {from:?} to {to:?}: this is a bug")]
    InvalidTransition {
        /// Which item.
        item: ItemId,
        /// From.
        from: ItemState,
        /// To.
        to: ItemState,
    },
    /// A removal of a record that no new photo has taken the place of: a bug.
    #[error("record {} of item {} is not to be removed: this is a bug", removal.record, removal.item)]
    IllegalRemoval {
        /// Which.
        removal: DeleteIntent,
    },
    /// A stored value that the rules don't know.
    #[error("the checkpoint holds a value that this version does not know: {detail}")]
    Unreadable {
        /// Which.
        detail: String,
    },
    /// The writer has stopped, by an error that was told before.
    #[error("the checkpoint's writer has stopped")]
    Stopped,
}

impl StoreError {
    pub(super) fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| match &source {
            rusqlite::Error::SqliteFailure(failure, detail)
                if matches!(failure.code, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) =>
            {
                Self::Corrupt { detail: detail.clone().unwrap_or_else(|| failure.to_string()) }
            }
            _ => Self::Sqlite { doing, source: Arc::new(source) },
        }
    }
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
