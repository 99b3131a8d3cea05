//! The storage interface of the engine. It blocks, so only the writer calls it.

use std::path::Path;

use super::{
    StoreError,
    records::{
        Batch, CheckpointState, Claimed, InDoubtRow, Ingested, NewIntent, OutcomeRecord, PhotoCheck, RunStart, SourceId,
    },
};
use crate::domain::{Bottleneck, Counts, DeleteIntent, Intent, ItemId, ItemUpdate, RunTotals};

/// One change that a run makes.
#[derive(Debug, Clone)]
pub enum Change {
    /// Records a request before it is sent. Only a pending item can be sent.
    Intend(NewIntent),
    /// Records the outcome of an item. If a photo that replaces another is refused locally, the item stays enrolled.
    Settle(OutcomeRecord),
    /// Makes rejected and failed items pending again; items in another state stay as they are.
    Reopen(Vec<ItemId>),
    /// Records the results of checking photos of enrolled items.
    RecordPhotoChecks(Vec<PhotoCheck>),
    /// Records which records of the service a pending replacement supersedes.
    RecordSuperseded(ItemId, Vec<i64>),
    /// Records the deletion of a superseded record before it is sent. Only a record that existed before the new photo was
    /// sent may be deleted, and only once the new photo is enrolled: since the record was read, a second change of the
    /// photo may have made the item pending again.
    IntendDelete(DeleteIntent),
    /// Records that all superseded records of an item are deleted.
    FinishDelete(ItemId),
    /// Records the removal of a record by `undo` before it is sent: the item is in doubt. Only an enrolled item without older
    /// records to delete, or one whose removal was recorded before, can be taken back.
    IntendUndo(DeleteIntent),
    /// Releases the intent of a deletion that was certainly not executed: an item that [`Self::IntendUndo`] put in doubt is
    /// enrolled again. Does nothing if another deletion was recorded since.
    ReleaseDelete(DeleteIntent),
    /// Makes an item pending whose record is no longer at the service. Does nothing to other items than [`Self::IntendUndo`]
    /// allows.
    FinishUndo(ItemId),
    /// Records how many files of this directory were skipped.
    RecordSkipped(SourceId, u64),
    /// Records what the run has done so far, for readers of the checkpoint.
    RecordTotals(RunTotals, Bottleneck),
    /// Saves the learned rate in calls per second; `None` if the service does not throttle.
    SaveRate(Option<f64>),
}

/// Reply to a [`Change`].
#[derive(Debug)]
pub enum Reply {
    /// To [`Change::Intend`].
    Intent(Intent),
    /// To [`Change::Settle`].
    Settled(ItemUpdate),
    /// To a [`Change::IntendDelete`] or [`Change::IntendUndo`] of a record that must not be deleted. Nothing is changed.
    Refused,
    /// To every other change.
    Done,
}

/// Durable storage of one run. Every call is one transaction: all of it or nothing, and on disk when the call returns.
///
/// A store is dropped after its first error and never used again.
pub trait Store: Send + 'static {
    /// Starts a run: items that were being sent when the last run died become in doubt, and items rejected under other
    /// photo rules become pending again.
    fn start_run(&mut self, run: &RunStart) -> Result<CheckpointState, StoreError>;
    /// Ends the run and returns the checkpoint's epoch: a number that grows whenever a run starts or ends, so that an old
    /// copy can be told from a new one.
    fn end_run(&mut self, exit_code: u8, reason: &str) -> Result<u64, StoreError>;
    /// Applies the changes in their order and returns one reply for each, in the same order.
    fn write(&mut self, changes: &[Change]) -> Result<Vec<Reply>, StoreError>;

    /// Registers a source before it is read.
    fn open_source(&mut self, name: &str, root: &Path) -> Result<SourceId, StoreError>;
    /// Ingests rows. The same rows again change nothing.
    fn ingest(&mut self, batch: &Batch) -> Result<Ingested, StoreError>;
    /// Ends the ingest after every source was read to its end: items that they no longer name have vanished.
    fn finish_ingest(&mut self) -> Result<(), StoreError>;

    /// Counts the items that this source was the last to name.
    fn count_items(&mut self, source: SourceId) -> Result<u64, StoreError>;
    /// Returns pending items after `after` in the order of their numbers, both named by this run's sources and left over
    /// from other sources. During ingest, it may return fewer than there are.
    fn claim(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError>;
    /// Returns items in doubt after `after` in the order of their numbers.
    fn in_doubt_items(&mut self, after: ItemId, limit: usize) -> Result<Vec<InDoubtRow>, StoreError>;
    /// Returns enrolled items after `after` whose superseded records must still be deleted, in the order of their numbers.
    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError>;
    /// Counts the rows by state.
    fn counts(&mut self) -> Result<Counts, StoreError>;
}
