//! Durable state: what was about to be sent and what came of it.
//!
//! One writer ([`Checkpoint`]) owns a [`Store`] and commits changes in groups; everything else reads the file through a
//! [`Reader`]. An intent is on disk before its request leaves; an outcome is on disk before it is reported. After a crash,
//! every intent without an outcome is in doubt.
//!
//! This module never sends anything and stores no photo and no secret.

mod error;
mod item_set;
mod lock;
mod records;
mod sqlite;
mod store;
mod view;
mod writer;

pub use error::StoreError;
pub(crate) use item_set::ItemSet;
pub use lock::Lock;
pub use records::{
    Batch, CheckpointState, Claimed, EnrolledItem, InDoubtRow, Ingested, NewIntent, OutcomeRecord, PhotoChange,
    PhotoCheck, RejectedItem, RunStart, SourceId, StoredPhoto,
};
pub use sqlite::{PurgeFilter, PurgeReport, Reader, SqliteStore, companions};
pub use store::{Change, Reply, Store};
pub use view::{ExportRow, RateSample, RunSummaryRow, UndoCandidate, UndoScope};
pub use writer::{Checkpoint, PendingCommit};
