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
    store::{Batch, Claimed, Doubt, Found, Ingested, NewIntent, NewRun, PhotoLook, Settlement, SourceId, Store},
};
use crate::{
    crash,
    domain::{Binding, Committed, Counts, Intent, ItemId, ItemReport, Removal, RunTotals},
};

/// Calls that may wait for the writer: more than all units of a run together make.
const QUEUE: usize = 4_096;
/// Calls that one commit takes at most: they all wait for the last of them.
const GROUP: usize = 512;

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
        let (calls, queue) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("checkpoint".into()).spawn(move || write(store, queue))?;
        Ok((Self { calls }, thread))
    }

    /// See [`Store::start_run`].
    pub async fn start_run(&self, run: NewRun) -> Result<Found, StoreError> {
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

    /// See [`Store::finish_ingest`]. Blocks.
    pub fn finish_ingest(&self) -> Result<(), StoreError> {
        self.call_blocking(Store::finish_ingest)
    }

    /// See [`Store::note_photos`]. Blocks.
    pub fn note_photos(&self, looks: Vec<PhotoLook>) -> Result<(), StoreError> {
        self.call_blocking(move |store| store.note_photos(&looks))
    }

    /// See [`Store::note_replaced`].
    pub async fn note_replaced(&self, item: ItemId, records: Vec<i64>) -> Result<(), StoreError> {
        self.call(move |store| store.note_replaced(item, &records)).await
    }

    /// See [`Store::unfinished_removals`].
    pub async fn unfinished_removals(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.unfinished_removals(after, limit)).await
    }

    /// See [`Store::intend_removal`]. The proof that it is on disk is made here and nowhere else.
    pub async fn intend_removal(&self, removal: Removal) -> Result<Committed<Removal>, StoreError> {
        let written = removal.clone();
        self.call(move |store| store.intend_removal(&written)).await.map(|()| Committed::by_checkpoint(removal))
    }

    /// See [`Store::finish_removal`].
    pub async fn finish_removal(&self, item: ItemId) -> Result<(), StoreError> {
        self.call(move |store| store.finish_removal(item)).await
    }

    /// See [`Store::reopen`]. Blocks.
    pub fn reopen_blocking(&self, items: Vec<ItemId>) -> Result<(), StoreError> {
        self.call_blocking(move |store| store.reopen(&items))
    }

    /// See [`Store::reopen`].
    pub async fn reopen(&self, items: Vec<ItemId>) -> Result<(), StoreError> {
        self.call(move |store| store.reopen(&items)).await
    }

    /// See [`Store::claim`].
    pub async fn claim(&self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.call(move |store| store.claim(after, limit)).await
    }

    /// See [`Store::doubts`].
    pub async fn doubts(&self, after: ItemId, limit: usize) -> Result<Vec<Doubt>, StoreError> {
        self.call(move |store| store.doubts(after, limit)).await
    }

    /// See [`Store::intend`]. The proof that the intent is on disk is made here and nowhere else.
    pub async fn intend(&self, intent: NewIntent) -> Result<Committed<Intent>, StoreError> {
        let committed = self.call(move |store| store.intend(&intent)).await.map(Committed::by_checkpoint);
        crash::point("intent.after_commit");
        committed
    }

    /// See [`Store::settle`].
    pub async fn settle(&self, settlement: Settlement) -> Result<ItemReport, StoreError> {
        let report = self.call(move |store| store.settle(&settlement)).await;
        crash::point("outcome.after_commit");
        report
    }

    /// See [`Store::counts`].
    pub async fn counts(&self) -> Result<Counts, StoreError> {
        self.call(Store::counts).await
    }

    /// See [`Store::note_totals`].
    pub async fn note_totals(&self, totals: RunTotals, limited_by: Binding) -> Result<(), StoreError> {
        self.call(move |store| store.note_totals(&totals, limited_by)).await
    }

    /// See [`Store::learn_rate`].
    pub async fn learn_rate(&self, per_second: Option<f64>) -> Result<(), StoreError> {
        self.call(move |store| store.learn_rate(per_second)).await
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
    let mut group = Vec::with_capacity(GROUP);
    while let Some(first) = queue.blocking_recv() {
        group.push(first);
        while group.len() < GROUP
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
