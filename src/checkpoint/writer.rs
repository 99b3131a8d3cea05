//! The one writer: a thread that owns the store and commits whatever has queued up, at once.
//!
//! Group commit needs no timer: while one commit waits for the disk, the next ones gather. A caller hears of its change
//! only after the commit that holds it has returned. The first error is everyone's: the thread stops with it, and
//! nothing is tried again on a file that failed once.

use std::{
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    StoreError,
    store::{
        Batch, CheckpointState, Claimed, InDoubtRow, Ingested, NewIntent, OutcomeRecord, PhotoCheck, RunStart,
        SourceId, Store,
    },
};
use crate::{
    crash,
    domain::{Bottleneck, Committed, Counts, DeleteIntent, Intent, ItemId, ItemUpdate, RunTotals},
};

/// Calls that may wait for the writer: more than all units of a run together make.
const QUEUE_DEPTH: usize = 4_096;
/// Calls that one commit takes at most: they all wait for the last of them.
const MAX_GROUP_COMMIT_OPS: usize = 512;

/// A handle on the writer. Cheap to clone; the thread ends when the last handle is gone.
pub struct Checkpoint<S> {
    calls: mpsc::Sender<Box<dyn Call<S>>>,
}

impl<S> Clone for Checkpoint<S> {
    fn clone(&self) -> Self {
        Self { calls: self.calls.clone() }
    }
}

impl<S: Store> Checkpoint<S> {
    /// Starts the writer on a thread of its own.
    pub fn start(store: S) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (calls, queue) = mpsc::channel(QUEUE_DEPTH);
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || write(store, queue))?;
        Ok((Self { calls }, thread))
    }

    /// See [`Store::start_run`].
    pub async fn start_run(&self, run: RunStart) -> Result<CheckpointState, StoreError> {
        self.call(move |store| store.start_run(&run)).await
    }

    /// See [`Store::end_run`].
    pub async fn end_run(&self, exit_code: u8, reason: String) -> Result<u64, StoreError> {
        self.call(move |store| store.end_run(exit_code, &reason)).await
    }

    /// See [`Store::open_source`]. Blocks.
    pub fn open_source(&self, name: String, root: std::path::PathBuf) -> Result<SourceId, StoreError> {
        self.call_blocking(move |store| store.open_source(&name, &root))
    }

    /// See [`Store::ingest`]. Blocks.
    pub fn ingest(&self, batch: Batch) -> Result<Ingested, StoreError> {
        self.begin_ingest(batch)?.wait()
    }

    /// The same, and the caller reads on meanwhile.
    pub fn begin_ingest(&self, batch: Batch) -> Result<PendingCommit<Ingested>, StoreError> {
        self.begin_blocking(move |store| store.ingest(&batch))
    }

    /// See [`Store::items_of`]. Blocks.
    pub fn items_of(&self, source: SourceId) -> Result<u64, StoreError> {
        self.call_blocking(move |store| store.items_of(source))
    }

    /// See [`Store::note_skipped`]. Blocks.
    pub fn note_skipped(&self, source: SourceId, files: u64) -> Result<(), StoreError> {
        self.call_blocking(move |store| store.note_skipped(source, files))
    }

    /// See [`Store::finish_ingest`]. Blocks.
    pub fn finish_ingest(&self) -> Result<(), StoreError> {
        self.call_blocking(Store::finish_ingest)
    }

    /// See [`Store::record_photo_checks`]. Blocks.
    pub fn record_photo_checks(&self, looks: Vec<PhotoCheck>) -> Result<(), StoreError> {
        self.call_blocking(move |store| store.record_photo_checks(&looks))
    }

    /// See [`Store::record_superseded`].
    pub async fn record_superseded(&self, item: ItemId, records: Vec<i64>) -> Result<(), StoreError> {
        self.call(move |store| store.record_superseded(item, &records)).await
    }

    /// See [`Store::pending_deletes`].
    pub async fn pending_deletes(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.pending_deletes(after, limit)).await
    }

    /// See [`Store::intend_delete`]. The proof that it is on disk is made here and nowhere else.
    pub async fn intend_delete(&self, removal: DeleteIntent) -> Result<Committed<DeleteIntent>, StoreError> {
        let written = removal.clone();
        self.call(move |store| store.intend_delete(&written)).await.map(|()| Committed::attest(removal))
    }

    /// See [`Store::finish_delete`].
    pub async fn finish_delete(&self, item: ItemId) -> Result<(), StoreError> {
        self.call(move |store| store.finish_delete(item)).await
    }

    /// See [`Store::requeue`]. Blocks.
    pub fn requeue_blocking(&self, items: Vec<ItemId>) -> Result<(), StoreError> {
        self.call_blocking(move |store| store.requeue(&items))
    }

    /// See [`Store::requeue`].
    pub async fn requeue(&self, items: Vec<ItemId>) -> Result<(), StoreError> {
        self.call(move |store| store.requeue(&items)).await
    }

    /// See [`Store::claim`].
    pub async fn claim(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.claim(after, limit)).await
    }

    /// See [`Store::in_doubt_items`].
    pub async fn in_doubt_items(&self, after: ItemId, limit: usize) -> Result<Vec<InDoubtRow>, StoreError> {
        self.call(move |store| store.in_doubt_items(after, limit)).await
    }

    /// See [`Store::intend`]. The proof that the intent is on disk is made here and nowhere else.
    pub async fn intend(&self, intent: NewIntent) -> Result<Committed<Intent>, StoreError> {
        let committed = self.call(move |store| store.intend(&intent)).await.map(Committed::attest);
        crash::point("intent.after_commit");
        committed
    }

    /// See [`Store::settle`].
    pub async fn settle(&self, settlement: OutcomeRecord) -> Result<ItemUpdate, StoreError> {
        let report = self.call(move |store| store.settle(&settlement)).await;
        crash::point("outcome.after_commit");
        report
    }

    /// See [`Store::counts`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.call(Store::counts).await
    }

    /// See [`Store::record_totals`].
    pub async fn record_totals(&self, totals: RunTotals, limited_by: Bottleneck) -> Result<(), StoreError> {
        self.call(move |store| store.record_totals(&totals, limited_by)).await
    }

    /// See [`Store::save_rate`].
    pub async fn save_rate(&self, per_second: Option<f64>) -> Result<(), StoreError> {
        self.call(move |store| store.save_rate(per_second)).await
    }

    async fn call<R: Send + 'static>(
        &self,
        apply: impl FnOnce(&mut S) -> Result<R, StoreError> + Send + 'static,
    ) -> Result<R, StoreError> {
        let (reply, answer) = oneshot::channel();
        let call = Box::new(OneCall { apply: Some(apply), applied: None, reply });
        self.calls.send(call).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?.map(|(result, _took)| result)
    }

    fn call_blocking<R: Send + 'static>(
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

/// A change that the writer has been told of.
pub struct PendingCommit<R> {
    answer: oneshot::Receiver<Result<(R, Duration), StoreError>>,
}

impl<R> PendingCommit<R> {
    /// Until it is on disk. Blocks.
    pub fn wait(self) -> Result<R, StoreError> {
        self.wait_timed().map(|(result, _took)| result)
    }

    /// The same, and for how long the writer was busy with it: making the change, and committing it.
    pub fn wait_timed(self) -> Result<(R, Duration), StoreError> {
        self.answer.blocking_recv().map_err(|_| StoreError::Stopped)?
    }
}

/// One change, and whoever waits for it.
trait Call<S>: Send {
    /// Within the transaction.
    fn apply(&mut self, store: &mut S) -> Result<(), StoreError>;
    /// After the commit, or instead of it.
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
        // Whoever asked may have been cancelled; the change stands all the same.
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
            // Dropping the store rolls the transaction back; dropping the queue tells everyone else.
            return;
        }
    }
}
