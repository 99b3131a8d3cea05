//! The engine's loop: keeps enough tasks in progress, routes what the steps return, and ends when nothing is left to do.
//! It decides nothing about an item.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures_util::{StreamExt, future::OptionFuture, stream::FuturesUnordered};
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    attempt::Sender,
    control::Stop,
    error::{RunError, catch},
    guards::{GroupCache, Guards, MissingPhoto, Sign},
    ingest::IngestProgress,
    lookup::Lookup,
    queue::{MAX_CONCURRENT_QUERIES, Queue},
    reconcile::{ReconcileSettings, Reconciler},
    recorder::Recorder,
    replace::Replacer,
    settings::Settings,
    task::{InDoubtItem, Next, ReconcileStep, Reconciliation, Task},
    upload::Uploader,
    window::Window,
};
use crate::{
    api::{Client, Transport},
    caller::Caller,
    checkpoint::{Checkpoint, Store},
    domain::{
        Bottleneck, DrainReason, Event, ItemId, RunTotals,
        action::{AddFaceRecord, AuthorizeFileUpload, DeleteFaceRecord, PostObject, Query},
    },
    pace::{Gate, Qps},
};

/// A draining run waits this long for calls in flight; Kubernetes and systemd kill after 30 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// Items claimed from the checkpoint at once.
const CLAIM_BATCH: usize = 256;
/// How often the clock is read while `--window` is closed.
const CLOCK_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// Tasks start in bursts of 1/16 of the room for them: their photos are read one after the other, while caches are
/// warm.
const REFILL_DIVISOR: usize = 16;

/// The gates of a run, one per action.
pub struct Gates {
    /// AddFaceRecord.
    pub add: Gate<AddFaceRecord>,
    /// The queries.
    pub query: Gate<Query>,
    /// DeleteFaceRecord.
    pub delete: Gate<DeleteFaceRecord>,
    /// AuthorizeFileUpload.
    pub authorize: Gate<AuthorizeFileUpload>,
    /// The object store.
    pub post: Gate<PostObject>,
}

/// Dependencies of a run.
pub struct Deps<T, S> {
    /// API client.
    pub client: Client<T>,
    /// Checkpoint of the run.
    pub checkpoint: Checkpoint<S>,
    /// Gates of the calls.
    pub gates: Gates,
    /// Receiver of events.
    pub events: mpsc::Sender<Event>,
    /// Stop signal.
    pub stop: Stop,
}

/// A run of the program.
pub struct Engine<T, S> {
    sender: Sender<T, S>,
    reconciler: Reconciler<T, S>,
    replacer: Replacer<T, S>,
    recorder: Arc<Recorder<S>>,
    guards: Arc<Guards>,
    concurrency: NonZeroUsize,
    max_duration: Option<Duration>,
    window: Option<Window>,
    is_closed: AtomicBool,
    /// Whether nothing is left but what is asked about.
    has_doubts_alone: AtomicBool,
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// Engine that is ready to run.
    pub fn new(deps: Deps<T, S>, settings: Settings) -> Self {
        let Deps { client, checkpoint, gates, events, stop } = deps;
        let Settings { rules, settle, in_doubt: policy, limits, .. } = settings;
        let caller = Arc::new(Caller { client, stop: stop.token() });
        let recorder = Arc::new(Recorder::new(checkpoint, events, stop, limits.errors));
        let guards = Arc::new(Guards::new(settings.give_up_after));
        let lookup = Arc::new(Lookup {
            caller: Arc::clone(&caller),
            gate: gates.query,
            recorder: Arc::clone(&recorder),
            guards: Arc::clone(&guards),
            groups: GroupCache::default(),
        });
        let uploader = Uploader { caller, authorize_gate: gates.authorize, post_gate: gates.post };
        Self {
            sender: Sender::new(&settings, &lookup, gates.add, uploader),
            reconciler: Reconciler::new(Arc::clone(&lookup), ReconcileSettings { policy, settle, rules }),
            replacer: Replacer { lookup, recorder: Arc::clone(&recorder), gate: gates.delete, rules, settle },
            recorder,
            guards,
            concurrency: settings.concurrency,
            max_duration: limits.duration,
            window: settings.window,
            is_closed: AtomicBool::new(false),
            has_doubts_alone: AtomicBool::new(false),
        }
    }

    /// Statistics of the run so far.
    pub fn totals(&self) -> RunTotals {
        self.recorder.stats.totals(Instant::now())
    }

    /// Current rate in calls per second.
    pub fn rate(&self) -> Qps {
        self.sender.gate.rate()
    }

    /// Factor that limits the speed now.
    pub fn bottleneck(&self) -> Bottleneck {
        let Sender { admission, gate, stages, .. } = &self.sender;
        if admission.is_probing() && !admission.outage(Instant::now()).is_zero() {
            return Bottleneck::Away;
        }
        if self.is_closed.load(Ordering::Relaxed) {
            return Bottleneck::Window;
        }
        if gate.is_quota_away() {
            return Bottleneck::QuotaAway;
        }
        match stages.bottleneck(gate.reduced_rate().is_some()) {
            Bottleneck::Rows if self.has_doubts_alone.load(Ordering::Relaxed) => Bottleneck::InDoubt,
            bottleneck => bottleneck,
        }
    }

    /// Starting rate for the next run, if throttling has reduced it.
    pub fn learned_rate(&self) -> Option<Qps> {
        self.sender.gate.reduced_rate()
    }

    /// Sends pending items and reconciles items in doubt until nothing is left or the run is stopped.
    pub async fn run(&self, mut feed: watch::Receiver<IngestProgress>) -> Result<(), RunError> {
        let mut leftover = self.reconciler.leftovers().await?;
        leftover.extend(self.replacer.leftovers().await?);
        let mut queue = Queue::new(leftover);
        let mut tasks = FuturesUnordered::new();
        let mut queries = FuturesUnordered::new();
        let mut scan = OptionFuture::default();
        let mut is_scanning = false;
        let room = 2 * self.concurrency.get();
        let burst = (room / REFILL_DIVISOR).max(1);
        let deadline = self.max_duration.map(|limit| Instant::now() + limit);
        while !self.recorder.stop.is_draining() {
            let now = Instant::now();
            let opens_at = self.apply_send_window(now);
            // The scan continues while the window is closed, so that a run with nothing to do ends.
            let work_room = if opens_at.is_some() { 0 } else { room };
            if tasks.len() + burst <= work_room {
                while tasks.len() < work_room
                    && let Some(task) = queue.next_task(now)
                {
                    tasks.push(self.run_task(task));
                }
            }
            while queries.len() < MAX_CONCURRENT_QUERIES
                && let Some(case) = queue.next_reconciliation(now)
            {
                queries.push(self.run_reconciliation(case));
            }
            if !is_scanning
                && tasks.len() < room
                && let Some(from) = queue.next_scan()
            {
                scan = Some(Box::pin(
                    async move { (from, self.recorder.checkpoint.claim(from.after, CLAIM_BATCH).await) },
                ))
                .into();
                is_scanning = true;
            }
            let has_questions = !queries.is_empty() || queue.reconciliation_due().is_some();
            self.has_doubts_alone.store(tasks.is_empty() && has_questions, Ordering::Relaxed);
            if tasks.is_empty() && queries.is_empty() && !is_scanning && queue.is_over() {
                return self.conclude(queue.is_closed()).await;
            }
            // An item that is due but has no slot waits for a slot; waiting for its past due time would spin.
            let work_due = queue.task_due().filter(|_| tasks.len() + burst <= work_room);
            let case_due = queue.reconciliation_due().filter(|_| queries.len() < MAX_CONCURRENT_QUERIES);
            let wake_at = work_due.into_iter().chain(case_due).chain(deadline).chain(opens_at).min();
            tokio::select! {
                // A fixed order, so that a history replays from its seed. What comes most often is last.
                biased;
                () = self.recorder.stop.draining() => {}
                Some(end) = queries.next(), if !queries.is_empty() => {
                    let (item, step) = end?;
                    queue.on_reconcile_step(item, step, || Instant::now() + self.sender.retry_wait());
                }
                Some((from, claimed)) = &mut scan, if is_scanning => {
                    is_scanning = false;
                    queue.on_claimed(from, claimed?);
                }
                Ok(()) = feed.changed() => {
                    let feed = feed.borrow_and_update();
                    if feed.has_found_photos {
                        self.guards.missing_photos.note_found();
                    }
                    queue.on_ingest_progress(&feed);
                }
                Some(end) = tasks.next(), if !tasks.is_empty() => self.route(end?, &mut queue),
                () = tokio::time::sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.recorder.drain(DrainReason::MaxDuration);
                    }
                }
            }
        }
        // Nobody polls them any more, and one of them may hold a gate that a task waits for.
        drop(queries);
        self.drain_in_flight(&mut tasks).await
    }

    /// Ends a run that has nothing left to do.
    async fn conclude(&self, is_closed: bool) -> Result<(), RunError> {
        if is_closed {
            self.recorder.drain(DrainReason::MaxImages);
        } else {
            match self.guards.missing_photos.end() {
                Some(MissingPhoto::Stop(reason)) => self.recorder.drain(reason),
                Some(MissingPhoto::Refuse(refusals)) => self.recorder.settle_all(refusals).await?,
                Some(MissingPhoto::Withhold) | None => {}
            }
        }
        self.recorder.drain_for(self.guards.observe(Sign::End, Instant::now()));
        Ok(())
    }

    /// Waits for the tasks in flight, at most [`DRAIN_TIMEOUT`].
    async fn drain_in_flight(
        &self,
        tasks: &mut FuturesUnordered<impl Future<Output = Result<(ItemId, Next), RunError>>>,
    ) -> Result<(), RunError> {
        let until = Instant::now() + DRAIN_TIMEOUT;
        while !tasks.is_empty() {
            tokio::select! {
                biased;
                Some(end) = tasks.next() => drop(end?),
                () = tokio::time::sleep_until(until) => {
                    tracing::warn!(in_flight = tasks.len(), "stopped waiting for answers: these items are in doubt");
                    return Ok(());
                }
                () = self.recorder.stop.forced() => return Ok(()),
            }
        }
        Ok(())
    }

    /// One attempt.
    fn run_task(&self, task: Task) -> impl Future<Output = Result<(ItemId, Next), RunError>> {
        let item = task.claimed.item;
        catch(async move { self.sender.attempt(task).await.map(|next| (item, next)) })
    }

    /// One step of a reconciliation.
    fn run_reconciliation(
        &self,
        case: Reconciliation,
    ) -> impl Future<Output = Result<(ItemId, ReconcileStep), RunError>> {
        let item = case.item();
        let step = async move {
            let step = match case {
                Reconciliation::InDoubt(item) => self.reconciler.step(item).await,
                Reconciliation::Replacement(replacement) => self.replacer.step(replacement).await,
            };
            step.map(|step| (item, step))
        };
        catch(step)
    }

    fn route(&self, (item, end): (ItemId, Next), queue: &mut Queue) {
        if matches!(end, Next::Withheld) {
            // The item is still pending; without a release no scan claims it again.
            return;
        }
        queue.release(item);
        match end {
            Next::Done | Next::Cancelled | Next::Withheld => {}
            Next::SetAside => queue.set_aside(item),
            Next::LimitReached => queue.close(),
            Next::Requeue(task, at) => queue.schedule_task(task, at),
            Next::InDoubt(task, code) => {
                let mut item = InDoubtItem::new(task, code);
                if let Some(at) = self.reconciler.schedule(&mut item, Instant::now()) {
                    queue.schedule_reconciliation(Reconciliation::InDoubt(item), at);
                }
            }
            Next::CleanUp(replacement) => {
                queue.schedule_reconciliation(Reconciliation::Replacement(replacement), Instant::now())
            }
        }
    }

    /// Applies `--window`: outside its hours nothing is sent or claimed. Returns when to look again if it is closed.
    fn apply_send_window(&self, now: Instant) -> Option<Instant> {
        let closed = self.window?.time_until_open(jiff::Zoned::now().time());
        let was_closed = self.is_closed.swap(closed.is_some(), Ordering::Relaxed);
        let event = match closed {
            Some(opens_in) if !was_closed => Some(Event::WindowClosed { opens_in }),
            None if was_closed => Some(Event::WindowOpened),
            Some(_) | None => None,
        };
        if let Some(event) = event {
            self.recorder.try_emit(event);
        }
        // A clock change is noticed within a minute. The gate stays closed slightly longer than the poll interval.
        let look_in = closed?.min(CLOCK_POLL_INTERVAL);
        self.sender.gate.pause(look_in + Duration::from_secs(1), now);
        Some(now + look_in)
    }
}
