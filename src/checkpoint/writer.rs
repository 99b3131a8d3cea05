//! The writer: it owns the store and commits the changes that have queued up as one group.
//!
//! Group commit needs no timer: while one commit waits for the disk, the next changes queue up. A caller gets its reply only
//! after the commit that holds its change has returned. The first error goes to all callers of its group and ends the
//! writer; nothing is retried on a file that failed once.

use std::{
    path::PathBuf,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Batch, Change, CheckpointState, Claimed, InDoubtRow, Ingested, NewIntent, OutcomeRecord, Reply, RunStart, SourceId,
    Store, StoreError,
};
use crate::{
    crash,
    domain::{Bottleneck, Committed, Counts, DeleteIntent, Intent, ItemId, ItemUpdate, RunTotals},
};

/// Capacity of the queue: more calls than all tasks of a run make at once.
const QUEUE_DEPTH: usize = 4_096;
/// Maximum number of changes in one commit, because each of them waits for the last.
const MAX_GROUP_COMMIT_OPS: usize = 512;

/// Handle to the writer. Cheap to clone; the writer ends when the last handle is dropped.
pub struct Checkpoint<S> {
    calls: mpsc::Sender<Call<S>>,
}

impl<S> Clone for Checkpoint<S> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<S: Store> Checkpoint<S> {
    /// Starts the writer thread.
    pub fn start(store: S) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (calls, mut queue) = mpsc::channel(QUEUE_DEPTH);
        let mut writer = Writer::new(store);
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || {
            while let Some(first) = queue.blocking_recv()
                && writer.apply(first, &mut queue)
            {}
        })?;
        Ok((Self { calls }, thread))
    }

    /// Returns the writer as a future instead of a thread, so that a paused clock also rules the commits. It sleeps for
    /// `sync_time` before each group.
    pub fn inline(store: S, mut sync_time: impl FnMut() -> Duration) -> (Self, impl Future<Output = ()>) {
        let (calls, mut queue) = mpsc::channel(QUEUE_DEPTH);
        let mut writer = Writer::new(store);
        let write = async move {
            while let Some(first) = queue.recv().await {
                tokio::time::sleep(sync_time()).await;
                if !writer.apply(first, &mut queue) {
                    return;
                }
            }
        };
        (Self { calls }, write)
    }

    /// Runs [`Store::start_run`].
    pub async fn start_run(&self, run: RunStart) -> Result<CheckpointState, StoreError> {
        self.call(move |store| store.start_run(&run)).await
    }

    pub(crate) async fn end_run(&self, exit_code: u8, reason: String) -> Result<u64, StoreError> {
        self.call(move |store| store.end_run(exit_code, &reason)).await
    }

    /// Runs [`Store::open_source`]. Blocks.
    pub(crate) fn open_source(&self, name: String, root: PathBuf) -> Result<SourceId, StoreError> {
        self.call_blocking(move |store| store.open_source(&name, &root))
    }

    /// Queues an ingest without waiting for its commit.
    pub(crate) fn begin_ingest(&self, batch: Batch) -> Result<PendingCommit<Ingested>, StoreError> {
        self.begin_blocking(move |store| store.ingest(&batch))
    }

    /// Runs [`Store::finish_ingest`]. Blocks.
    pub(crate) fn finish_ingest(&self) -> Result<(), StoreError> {
        self.call_blocking(Store::finish_ingest)
    }

    /// Runs [`Store::claim`].
    pub async fn claim(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.claim(after, limit)).await
    }

    pub(crate) async fn in_doubt_items(&self, after: ItemId, limit: usize) -> Result<Vec<InDoubtRow>, StoreError> {
        self.call(move |store| store.in_doubt_items(after, limit)).await
    }

    pub(crate) async fn pending_deletes(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.pending_deletes(after, limit)).await
    }

    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        self.call(Store::counts).await
    }

    /// Writes [`Change::Intend`]. Only this method creates the proof that an intent is on disk.
    pub async fn intend(&self, intent: NewIntent) -> Result<Committed<Intent>, StoreError> {
        let reply = self.write(Change::Intend(intent)).await;
        crash::point("intent.after_commit");
        let Reply::Intent(intent) = reply? else { unreachable!("the reply to an intent is an intent") };
        Ok(Committed::attest(intent))
    }

    /// Writes [`Change::Settle`].
    pub async fn settle(&self, outcome: OutcomeRecord) -> Result<ItemUpdate, StoreError> {
        let reply = self.write(Change::Settle(outcome)).await;
        crash::point("outcome.after_commit");
        let Reply::Settled(update) = reply? else { unreachable!("the reply to an outcome is an update") };
        Ok(update)
    }

    /// Writes [`Change::IntendDelete`]. `None` if the record must not be deleted.
    pub(crate) async fn intend_delete(
        &self,
        delete: DeleteIntent,
    ) -> Result<Option<Committed<DeleteIntent>>, StoreError> {
        self.delete_intent(Change::IntendDelete(delete.clone()), delete).await
    }

    /// Writes [`Change::IntendUndo`]. `None` if the record must not be removed.
    pub(crate) async fn intend_undo(
        &self,
        delete: DeleteIntent,
    ) -> Result<Option<Committed<DeleteIntent>>, StoreError> {
        self.delete_intent(Change::IntendUndo(delete.clone()), delete).await
    }

    /// Only this method creates the proof that a delete intent is on disk.
    async fn delete_intent(
        &self,
        change: Change,
        delete: DeleteIntent,
    ) -> Result<Option<Committed<DeleteIntent>>, StoreError> {
        Ok(match self.write(change).await? {
            Reply::Done => Some(Committed::attest(delete)),
            Reply::Refused => None,
            Reply::Intent(_) | Reply::Settled(_) => unreachable!("the reply to a delete intent is neither"),
        })
    }

    pub(crate) async fn release_delete(&self, delete: DeleteIntent) -> Result<(), StoreError> {
        self.write(Change::ReleaseDelete(delete)).await.map(drop)
    }

    pub(crate) async fn finish_delete(&self, item: ItemId) -> Result<(), StoreError> {
        self.write(Change::FinishDelete(item)).await.map(drop)
    }

    pub(crate) async fn finish_undo(&self, item: ItemId) -> Result<(), StoreError> {
        self.write(Change::FinishUndo(item)).await.map(drop)
    }

    pub(crate) async fn record_superseded(&self, item: ItemId, records: Vec<i64>) -> Result<(), StoreError> {
        self.write(Change::RecordSuperseded(item, records)).await.map(drop)
    }

    pub(crate) async fn reopen(&self, items: Vec<ItemId>) -> Result<(), StoreError> {
        self.write(Change::Reopen(items)).await.map(drop)
    }

    pub(crate) async fn record_totals(&self, totals: RunTotals, limited_by: Bottleneck) -> Result<(), StoreError> {
        self.write(Change::RecordTotals(totals, limited_by)).await.map(drop)
    }

    pub(crate) async fn save_rate(&self, per_second: Option<f64>) -> Result<(), StoreError> {
        self.write(Change::SaveRate(per_second)).await.map(drop)
    }

    /// Writes the change in the next group and waits until it is on disk.
    async fn write(&self, change: Change) -> Result<Reply, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call::Write(change, reply)).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }

    /// Like [`write`](Self::write), for threads that may block.
    pub(crate) fn write_blocking(&self, change: Change) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        self.calls.blocking_send(Call::Write(change, reply)).map_err(|_| StoreError::Stopped)?;
        answer.blocking_recv().map_err(|_| StoreError::Stopped)?.map(drop)
    }

    /// Makes one call of the store and waits for its result.
    async fn call<R: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (call, result) = Call::other(apply);
        self.calls.send(call).await.map_err(|_| StoreError::Stopped)?;
        result.answer.await.map_err(|_| StoreError::Stopped)?.map(|(result, _took)| result)
    }

    /// Like [`call`](Self::call), for threads that may block.
    pub(crate) fn call_blocking<R: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.begin_blocking(apply)?.wait_timed().map(|(result, _took)| result)
    }

    fn begin_blocking<R: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<PendingCommit<R>, StoreError> {
        let (call, result) = Call::other(apply);
        self.calls.blocking_send(call).map_err(|_| StoreError::Stopped)?;
        Ok(result)
    }
}

/// Result of a queued call that may not be on disk yet.
pub struct PendingCommit<R> {
    answer: oneshot::Receiver<Result<(R, Duration), StoreError>>,
}

impl<R> PendingCommit<R> {
    /// Waits until the call is on disk, and returns how long the writer was busy with it. Blocks.
    pub fn wait_timed(self) -> Result<(R, Duration), StoreError> {
        self.answer.blocking_recv().map_err(|_| StoreError::Stopped)?
    }
}

/// A queued call of the store.
enum Call<S> {
    /// A change, which shares its commit with its neighbours.
    Write(Change, oneshot::Sender<Result<Reply, StoreError>>),
    /// Another call. Returns whether the store may be used further.
    Other(Box<dyn FnOnce(&mut S) -> bool + Send>),
}

impl<S: Store> Call<S> {
    fn other<R: Send + 'static>(
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> (Self, PendingCommit<R>) {
        let (reply, answer) = oneshot::channel();
        let apply = move |store: &mut S| {
            let began = Instant::now();
            let result = apply(store);
            let is_usable = result.is_ok();
            // The caller may have been cancelled; its change is kept.
            let _ = reply.send(result.map(|result| (result, began.elapsed())));
            is_usable
        };
        (Self::Other(Box::new(apply)), PendingCommit { answer })
    }
}

/// The store with the group that is being collected.
struct Writer<S> {
    store: S,
    changes: Vec<Change>,
    replies: Vec<oneshot::Sender<Result<Reply, StoreError>>>,
}

impl<S: Store> Writer<S> {
    fn new(store: S) -> Self {
        Self { store, changes: Vec::new(), replies: Vec::new() }
    }

    /// Makes the calls that have queued up, in their order. Returns whether the store may be used further; dropping the
    /// queue then fails all other callers.
    fn apply(&mut self, first: Call<S>, queue: &mut mpsc::Receiver<Call<S>>) -> bool {
        let mut next = Some(first);
        while let Some(call) = next {
            let is_usable = match call {
                Call::Write(change, reply) => {
                    self.changes.push(change);
                    self.replies.push(reply);
                    self.changes.len() < MAX_GROUP_COMMIT_OPS || self.commit()
                }
                Call::Other(apply) => self.commit() && apply(&mut self.store),
            };
            if !is_usable {
                return false;
            }
            next = queue.try_recv().ok();
        }
        self.commit()
    }

    /// Writes the group and replies to its callers. Returns whether that succeeded.
    fn commit(&mut self) -> bool {
        if self.changes.is_empty() {
            return true;
        }
        let written = self.store.write(&self.changes);
        self.changes.clear();
        let is_usable = written.is_ok();
        // A caller may have been cancelled; its change is kept.
        match written {
            Ok(replies) => self.replies.drain(..).zip(replies).for_each(|(caller, reply)| drop(caller.send(Ok(reply)))),
            Err(error) => self.replies.drain(..).for_each(|caller| drop(caller.send(Err(error.clone())))),
        }
        is_usable
    }
}
