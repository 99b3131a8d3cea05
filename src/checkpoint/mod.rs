//! Durable truth: what has been intended and what came of it.
//!
//! The run's own writer is a thread ([`Checkpoint`]) that owns a [`Store`] and commits in groups; others look into the
//! file through a [`Reader`]. An intent is on disk before its request leaves, an outcome before anyone is told of it.
//! After a crash, every intent without an outcome is in doubt.
//!
//! This room never sends, and keeps no photo and no secret.

mod error;
mod lock;
mod sqlite;
mod store;
mod writer;

pub use error::StoreError;
pub use lock::Lock;
pub use sqlite::{Forget, Forgotten, Reader, SqliteStore};
pub use store::{
    Batch, Claimed, Doubt, EnrolledBefore, ExportRow, Found, Ingested, KnownPhoto, NewIntent, NewRun, Pace, PhotoLook,
    RefusedBefore, RunRecord, Seen, Settlement, SourceId, Store,
};
pub use writer::{Checkpoint, PendingCommit};
