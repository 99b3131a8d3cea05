//! The writer thread: it owns the store and commits whatever has queued up as one group.
//!
//! Group commit needs no timer: while one commit waits for the disk, the next calls queue up. A caller gets its reply only
//! after the commit that holds its change has returned. The first error goes to all callers and ends the thread; nothing
//! is retried on a file that failed once.

use std::{
    path::PathBuf,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    StoreError,
    store::{
        Batch, CheckpointState, Claimed, InDoubtRow, Ingested, NewIntent, OutcomeRecord, RunStart, SourceId, Store,
    },
};
use crate::{
    crash,
    domain::{Bottleneck, Committed, Counts, DeleteIntent, Intent, ItemId, ItemUpdate, RunTotals},
};

/// Capacity of the queue: more calls than all tasks of a run make at once.
const QUEUE_DEPTH: usize = 4_096;
/// Maximum number of calls in one commit, because each of them waits for the last.
const MAX_GROUP_COMMIT_OPS: usize = 512;

/// Handle to the writer thread. Cheap to clone; the thread ends when the last handle is dropped.
pub struct Checkpoint<S> {
    calls: mpsc::Sender<Box<dyn Call<S>>>,
}

impl<S> Clone for Checkpoint<S> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<S: Store> Checkpoint<S> {
    /// Starts the writer thread.
    pub fn start(store: S) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (calls, queue) = mpsc::channel(QUEUE_DEPTH);
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || write(store, queue))?;
        Ok((Self { calls }, thread))
    }

    /// Runs [`Store::start_run`].
    pub async fn start_run(&self, run: RunStart) -> Result<CheckpointState, StoreError> {
        self.call(move |store| store.start_run(&run)).await
    }

    pub(crate) async fn end_run(&self, exit_code: u8, reason: String) -> Result<u64, StoreError> {
        self.call(move |store| store.end_run(exit_code, &reason)).await
    }

    /// Runs [`Store::open_source`]. Blocks.
    pub fn open_source(&self, name: String, root: PathBuf) -> Result<SourceId, StoreError> {
        self.call_blocking(move |store| store.open_source(&name, &root))
    }

    /// Runs [`Store::ingest`]. Blocks.
    pub fn ingest(&self, batch: Batch) -> Result<Ingested, StoreError> {
        self.begin_ingest(batch)?.wait()
    }

    /// Queues an ingest without waiting for its commit.
    pub(crate) fn begin_ingest(&self, batch: Batch) -> Result<PendingCommit<Ingested>, StoreError> {
        self.begin_blocking(move |store| store.ingest(&batch))
    }

    /// Runs [`Store::finish_ingest`]. Blocks.
    pub fn finish_ingest(&self) -> Result<(), StoreError> {
        self.call_blocking(Store::finish_ingest)
    }

    pub(crate) async fn requeue(&self, items: Vec<ItemId>) -> Result<(), StoreError> {
        self.call(move |store| store.requeue(&items)).await
    }

    /// Runs [`Store::claim`].
    pub async fn claim(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.claim(after, limit)).await
    }

    pub(crate) async fn in_doubt_items(&self, after: ItemId, limit: usize) -> Result<Vec<InDoubtRow>, StoreError> {
        self.call(move |store| store.in_doubt_items(after, limit)).await
    }

    /// Runs [`Store::intend`]. Only this method creates the proof that an intent is on disk.
    pub async fn intend(&self, intent: NewIntent) -> Result<Committed<Intent>, StoreError> {
        let committed = self.call(move |store| store.intend(&intent)).await.map(Committed::attest);
        crash::point("intent.after_commit");
        committed
    }

    /// Runs [`Store::settle`].
    pub async fn settle(&self, outcome: OutcomeRecord) -> Result<ItemUpdate, StoreError> {
        let update = self.call(move |store| store.settle(&outcome)).await;
        crash::point("outcome.after_commit");
        update
    }

    pub(crate) async fn record_superseded(&self, item: ItemId, records: Vec<i64>) -> Result<(), StoreError> {
        self.call(move |store| store.record_superseded(item, &records)).await
    }

    pub(crate) async fn pending_deletes(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.pending_deletes(after, limit)).await
    }

    /// Runs [`Store::intend_delete`]. Only this method creates the proof that a delete intent is on disk. `None` if the
    /// record must not be deleted.
    pub(crate) async fn intend_delete(
        &self,
        delete: DeleteIntent,
    ) -> Result<Option<Committed<DeleteIntent>>, StoreError> {
        let intended = self.call(move |store| Ok(store.intend_delete(&delete)?.then_some(delete))).await?;
        Ok(intended.map(Committed::attest))
    }

    pub(crate) async fn finish_delete(&self, item: ItemId) -> Result<(), StoreError> {
        self.call(move |store| store.finish_delete(item)).await
    }

    pub(crate) async fn counts(&self) -> Result<Counts, StoreError> {
        self.call(Store::counts).await
    }

    pub(crate) async fn record_totals(&self, totals: RunTotals, limited_by: Bottleneck) -> Result<(), StoreError> {
        self.call(move |store| store.record_totals(&totals, limited_by)).await
    }

    pub(crate) async fn save_rate(&self, per_second: Option<f64>) -> Result<(), StoreError> {
        self.call(move |store| store.save_rate(per_second)).await
    }

    /// Runs `apply` in the next group and waits until it is on disk.
    async fn call<R: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(OneCall { apply: Some(apply), applied: None, reply });
        self.calls.send(call).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?.map(|(result, _took)| result)
    }

    /// Like [`call`](Self::call), for threads that may block.
    pub(crate) fn call_blocking<R: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        self.begin_blocking(apply)?.wait()
    }

    fn begin_blocking<R: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<PendingCommit<R>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(OneCall { apply: Some(apply), applied: None, reply });
        self.calls.blocking_send(call).map_err(|_| StoreError::Stopped)?;
        Ok(PendingCommit { answer })
    }
}

/// A queued change that is not yet on disk.
pub struct PendingCommit<R> {
    answer: oneshot::Receiver<Result<(R, Duration), StoreError>>,
}

impl<R> PendingCommit<R> {
    /// Waits until the change is on disk. Blocks.
    pub fn wait(self) -> Result<R, StoreError> {
        self.wait_timed().map(|(result, _took)| result)
    }

    /// Waits like [`wait`](Self::wait), and returns how long the writer was busy with the change and its commit.
    pub fn wait_timed(self) -> Result<(R, Duration), StoreError> {
        self.answer.blocking_recv().map_err(|_| StoreError::Stopped)?
    }
}

/// One queued change with the channel for its reply.
trait Call<S>: Send {
    /// Applies the change within the transaction.
    fn apply(&mut self, store: &mut S) -> Result<(), StoreError>;
    /// Replies after the commit, or after the error that prevented it.
    fn reply(self: Box<Self>, committed: Result<(), StoreError>);
}

struct OneCall<F, R> {
    apply: Option<F>,
    /// The result, and when the change was begun.
    applied: Option<(R, Instant)>,
    reply: oneshot::Sender<Result<(R, Duration), StoreError>>,
}

impl<S, F, R> Call<S> for OneCall<F, R>
where
    F: FnOnce(&mut S) -> Result<R, StoreError> + Send,
    R: Send,
{
    fn apply(&mut self, store: &mut S) -> Result<(), StoreError> {
        let apply = self.apply.take().expect("a call is applied once");
        let began = Instant::now();
        self.applied = Some((apply(store)?, began));
        Ok(())
    }

    fn reply(self: Box<Self>, committed: Result<(), StoreError>) {
        let Self { applied, reply, .. } = *self;
        let timed = applied.map(|(result, began)| (result, began.elapsed()));
        // The caller may have been cancelled; its change is kept.
        let _ = reply.send(committed.and_then(|()| timed.ok_or(StoreError::Stopped)));
    }
}

fn write<S: Store>(mut store: S, mut queue: mpsc::Receiver<Box<dyn Call<S>>>) {
    let mut group = Vec::with_capacity(MAX_GROUP_COMMIT_OPS);
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        while group.len() < MAX_GROUP_COMMIT_OPS
            && let Ok(next) = queue.try_recv()
        {
            group.push(next);
        }
        let done = store.begin().and_then(|()| group.iter_mut().try_for_each(|call| call.apply(&mut store)));
        let done = done.and_then(|()| store.commit());
        let failed = done.is_err();
        for call in group.drain(..) {
            call.reply(done.clone());
        }
        if failed {
            // Dropping the store rolls the transaction back; dropping the queue fails all other callers.
            return;
        }
    }
}
