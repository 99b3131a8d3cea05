//! The engine's loop: keeps enough tasks in progress and ends when nothing is left to do.

use std::{
    any::Any,
    num::NonZeroUsize,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::OptionFuture, stream::FuturesUnordered};
use tokio::{
    sync::{Semaphore, mpsc, watch},
    time::Instant,
};

use super::{
    admission::Admission,
    budget::{ByteBudget, DecodeLimiter, ImageLimit, MAX_PREPARING},
    control::{Limits, Stop},
    guards::{
        CertificateFailures, GroupCache, MissingPhoto, MissingPhotos, ProxyFailures, RepeatedRefusal, ThrottleFloor,
        UnreadPhotos,
    },
    ingest::IngestProgress,
    queue::Queue,
    stages::StageGauges,
    stats::Stats,
    task::{InDoubtItem, Next, ReconcileStep, Reconciliation, ReplacementCleanup, Task},
    window::Window,
};
use crate::{
    api::{Client, FaceQualityCheck, FormFields, Transport},
    checkpoint::{Checkpoint, Claimed, Store, StoreError},
    domain::{Bottleneck, CallFailure, DrainReason, Event, FatalError, ItemId, RunTotals},
    pace::{Bandwidth, BandwidthLimit, Gate, InDoubtPolicy, Qps, RetryRules, RetryTokens},
    picture::Rules,
    storage::Storage,
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
/// Reconciliations in progress at once.
const MAX_CONCURRENT_QUERIES: usize = 16;

/// Items that are looked up at the service before they are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precheck {
    /// None.
    Off,
    /// Items never sent by this checkpoint: another tool may have sent them.
    FirstSends,
    /// All: the checkpoint has lost some of its history.
    EverySend,
}

impl Precheck {
    pub(super) fn applies_to(self, claimed: &Claimed) -> bool {
        let applies = match self {
            Self::Off => false,
            Self::FirstSends => claimed.intent_ms.is_none(),
            Self::EverySend => true,
        };
        applies && claimed.replaces.is_none()
    }
}

/// How photos are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendMode {
    /// In the call where they fit, else by upload.
    Auto,
    /// By upload, also photos that fit in the call.
    Upload,
    /// By a link where they are in object storage, else as with `Auto`.
    Link,
}

/// How a run behaves.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `--qps`.
    pub quota: Qps,
    /// `--concurrency`.
    pub concurrency: NonZeroUsize,
    /// `--retries`.
    pub rules: RetryRules,
    /// `--in-doubt`.
    pub in_doubt: InDoubtPolicy,
    /// `--settle`.
    pub settle: Duration,
    /// `--max-…`.
    pub limits: Limits,
    /// `--give-up-after`: longest outage of the service.
    pub give_up_after: Duration,
    /// `--keep-going`: do not stop for repeated rejections.
    pub keep_going: bool,
    /// Requirements on photos and permitted conversions.
    pub photo: Rules,
    /// `--precheck`.
    pub precheck: Precheck,
    /// `--send`.
    pub send: SendMode,
    /// `--face-quality-check`
    pub quality_check: Option<FaceQualityCheck>,
    /// `--bwlimit`
    pub bandwidth: Option<BandwidthLimit>,
    /// Reader of photos.
    pub storage: Arc<Storage>,
    /// `--window`: hours in which photos are sent.
    pub window: Option<Window>,
}

impl Settings {
    /// Parameters of the call that enrols this item.
    pub(super) fn form_fields<'a>(&self, claimed: &'a Claimed) -> FormFields<'a> {
        FormFields { group: &claimed.group, user: &claimed.user, quality_check: self.quality_check }
    }
}

/// Dependencies of a run.
pub struct Deps<T, S> {
    /// API client.
    pub client: Client<T>,
    /// Checkpoint of the run.
    pub checkpoint: Checkpoint<S>,
    /// Gate of AddFaceRecord.
    pub add_gate: Gate,
    /// Gate of the queries.
    pub query_gate: Gate,
    /// Gate of DeleteFaceRecord.
    pub delete_gate: Gate,
    /// Gate of AuthorizeFileUpload.
    pub authorize_gate: Gate,
    /// Gate of the object store.
    pub upload_gate: Gate,
    /// Receiver of events.
    pub events: mpsc::Sender<Event>,
    /// Stop signal.
    pub stop: Stop,
}

/// Error that ends a run.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The checkpoint failed: nothing more may be sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A task panic_to_error (a bug); its item is in doubt.
    #[error("internal error while processing an item: {0}")]
    Panic(String),
}

/// A run of the program.
pub struct Engine<T, S> {
    pub(super) client: Client<T>,
    pub(super) checkpoint: Checkpoint<S>,
    pub(super) add_gate: Gate,
    pub(super) query_gate: Gate,
    pub(super) delete_gate: Gate,
    pub(super) authorize_gate: Gate,
    pub(super) upload_gate: Gate,
    pub(super) bandwidth: Bandwidth,
    events: mpsc::Sender<Event>,
    pub(super) stop: Stop,
    pub(super) settings: Settings,
    pub(super) admission: Admission,
    pub(super) in_flight: Semaphore,
    pub(super) preparing: Semaphore,
    pub(super) bytes: Arc<ByteBudget>,
    pub(super) decode_limiter: Arc<DecodeLimiter>,
    pub(super) images: ImageLimit,
    pub(super) streak: RepeatedRefusal,
    pub(super) groups: GroupCache,
    pub(super) bad_certificates: CertificateFailures,
    pub(super) proxy_failures: ProxyFailures,
    pub(super) throttled_out: ThrottleFloor,
    pub(super) missing_photos: MissingPhotos,
    pub(super) unread: UnreadPhotos,
    pub(super) retries: Mutex<RetryTokens>,
    /// Start of the current outage of the queries.
    pub(super) query_outage_since: Mutex<Option<Instant>>,
    pub(super) stats: Stats,
    pub(super) stages: StageGauges,
    is_closed: AtomicBool,
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// Engine that is ready to run.
    pub fn new(deps: Deps<T, S>, settings: Settings) -> Self {
        let Deps { client, checkpoint, add_gate, query_gate, delete_gate, authorize_gate, upload_gate, events, stop } =
            deps;
        Self {
            client,
            checkpoint,
            add_gate,
            query_gate,
            delete_gate,
            authorize_gate,
            upload_gate,
            bandwidth: Bandwidth::new(settings.bandwidth.clone()),
            events,
            stop,
            admission: Admission::new(settings.quota),
            in_flight: Semaphore::new(settings.concurrency.get()),
            preparing: Semaphore::new(MAX_PREPARING),
            bytes: Arc::default(),
            decode_limiter: Arc::default(),
            images: ImageLimit::new(settings.limits.images),
            streak: RepeatedRefusal::default(),
            groups: GroupCache::default(),
            bad_certificates: CertificateFailures::default(),
            proxy_failures: ProxyFailures::default(),
            throttled_out: ThrottleFloor::default(),
            missing_photos: MissingPhotos::default(),
            unread: UnreadPhotos::default(),
            retries: Mutex::new(RetryTokens::new(Instant::now())),
            query_outage_since: Mutex::default(),
            stats: Stats::new(Instant::now()),
            stages: StageGauges::default(),
            is_closed: AtomicBool::new(false),
            settings,
        }
    }

    /// Statistics of the run so far.
    pub fn totals(&self) -> RunTotals {
        self.stats.totals(Instant::now())
    }

    /// Current rate in calls per second.
    pub fn rate(&self) -> Qps {
        self.add_gate.rate()
    }

    /// Factor that limits the speed now.
    pub fn binding(&self) -> Bottleneck {
        if self.admission.is_probing() && !self.admission.outage(Instant::now()).is_zero() {
            return Bottleneck::Away;
        }
        if self.is_closed.load(Ordering::Relaxed) {
            return Bottleneck::Window;
        }
        self.stages.bottleneck(self.add_gate.reduced_rate().is_some())
    }

    /// Starting rate for the next run, if throttling has reduced it.
    pub fn learned_rate(&self) -> Option<Qps> {
        self.add_gate.reduced_rate()
    }

    /// Sends pending items and reconciles items in doubt until nothing is left or the run is stopped.
    pub async fn run(&self, mut feed: watch::Receiver<IngestProgress>) -> Result<(), RunError> {
        let mut leftover = self.leftover_in_doubt().await?;
        leftover.extend(self.leftover_replacements().await?);
        let mut queue = Queue::new(leftover);
        let mut tasks = FuturesUnordered::new();
        let mut queries = FuturesUnordered::new();
        let mut scan = OptionFuture::default();
        let mut is_scanning = false;
        let room = 2 * self.settings.concurrency.get();
        let burst = (room / REFILL_DIVISOR).max(1);
        let deadline = self.settings.limits.duration.map(|limit| Instant::now() + limit);
        while !self.stop.is_draining() {
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
                let item = case.item();
                let reconciling = async move { self.reconcile(case).await.map(|end| (item, end)) };
                queries.push(AssertUnwindSafe(reconciling).catch_unwind());
            }
            if !is_scanning
                && tasks.len() < room
                && let Some(from) = queue.next_scan()
            {
                scan =
                    Some(Box::pin(async move { (from, self.checkpoint.claim(from.after, CLAIM_BATCH).await) })).into();
                is_scanning = true;
            }
            if tasks.is_empty() && queries.is_empty() && !is_scanning && queue.is_over() {
                if queue.is_closed() {
                    self.drain(DrainReason::MaxImages);
                } else {
                    self.conclude_missing_photos().await?;
                }
                self.drain_unread();
                return Ok(());
            }
            // An item that is due but has no slot waits for a slot; waiting for its past due time would spin.
            let work_due = queue.task_due().filter(|_| tasks.len() + burst <= work_room);
            let case_due = queue.reconciliation_due().filter(|_| queries.len() < MAX_CONCURRENT_QUERIES);
            let wake_at = work_due.into_iter().chain(case_due).chain(deadline).chain(opens_at).min();
            tokio::select! {
                // A fixed order, so that a history replays from its seed. What comes most often is last.
                biased;
                () = self.stop.draining() => {}
                Some(end) = queries.next(), if !queries.is_empty() => {
                    let (item, end) = end.map_err(panic_to_error)??;
                    queue.on_reconcile_step(item, end);
                }
                Some((from, claimed)) = &mut scan, if is_scanning => {
                    is_scanning = false;
                    queue.on_claimed(from, claimed?);
                }
                Ok(()) = feed.changed() => {
                    let feed = feed.borrow_and_update();
                    if feed.has_found_photos {
                        self.missing_photos.note_found();
                    }
                    queue.on_ingest_progress(&feed);
                }
                Some(end) = tasks.next(), if !tasks.is_empty() => self.route(end.map_err(panic_to_error)??, &mut queue),
                () = tokio::time::sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.drain(DrainReason::MaxDuration);
                    }
                }
            }
        }
        self.drain_in_flight(&mut tasks).await
    }

    /// Reconciles items in doubt and sends nothing. Absent items are pending again, for the next run.
    pub async fn reconcile_leftovers(&self) -> Result<(), RunError> {
        let mut queue = Queue::new(self.leftover_in_doubt().await?);
        let mut queries = FuturesUnordered::new();
        while !self.stop.is_draining() {
            let now = Instant::now();
            while queries.len() < MAX_CONCURRENT_QUERIES
                && let Some(case) = queue.next_reconciliation(now)
            {
                let item = case.item();
                let reconciling = async move { self.reconcile(case).await.map(|end| (item, end)) };
                queries.push(AssertUnwindSafe(reconciling).catch_unwind());
            }
            let wake_at = queue.reconciliation_due().filter(|_| queries.len() < MAX_CONCURRENT_QUERIES);
            if queries.is_empty() && wake_at.is_none() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(end) = queries.next(), if !queries.is_empty() => match end.map_err(panic_to_error)?? {
                    (item, ReconcileStep::AskAgain(case @ Reconciliation::InDoubt(_), at)) => {
                        queue.on_reconcile_step(item, ReconcileStep::AskAgain(case, at));
                    }
                    // The next run deletes replaced records.
                    (_, ReconcileStep::Settled | ReconcileStep::Deferred | ReconcileStep::Resend(..) | ReconcileStep::AskAgain(Reconciliation::Replacement(_), _)) => {}
                },
                () = tokio::time::sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {}
                () = self.stop.draining() => {}
            }
        }
        Ok(())
    }

    /// Decides on missing photos after the last row.
    async fn conclude_missing_photos(&self) -> Result<(), StoreError> {
        match self.missing_photos.end() {
            Some(MissingPhoto::Stop(reason)) => self.drain(reason),
            Some(MissingPhoto::Refuse(refusals)) => self.settle_all(refusals).await?,
            Some(MissingPhoto::Withhold) | None => {}
        }
        Ok(())
    }

    /// Waits for the tasks in flight, at most [`DRAIN_TIMEOUT`].
    async fn drain_in_flight(
        &self,
        tasks: &mut FuturesUnordered<impl Future<Output = TaskResult>>,
    ) -> Result<(), RunError> {
        let until = Instant::now() + DRAIN_TIMEOUT;
        while !tasks.is_empty() {
            tokio::select! {
                biased;
                Some(end) = tasks.next() => drop(end.map_err(panic_to_error)??),
                () = tokio::time::sleep_until(until) => {
                    tracing::warn!(in_flight = tasks.len(), "stopped waiting for answers: these items are in doubt");
                    return Ok(());
                }
                () = self.stop.forced() => return Ok(()),
            }
        }
        Ok(())
    }

    /// One attempt. A panic in it ends the run in an orderly way.
    fn run_task(&self, task: Task) -> impl Future<Output = TaskResult> {
        let item = task.claimed.item;
        AssertUnwindSafe(async move { self.attempt(task).await.map(|end| (item, end)) }).catch_unwind()
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
            Next::InDoubt(task, code) => self.enqueue_in_doubt(InDoubtItem::new(task, code), queue),
            Next::CleanUp(replacement) => {
                queue.schedule_reconciliation(Reconciliation::Replacement(replacement), Instant::now())
            }
        }
    }

    fn enqueue_in_doubt(&self, mut item: InDoubtItem, queue: &mut Queue) {
        if let Some(at) = self.schedule(&mut item, Instant::now()) {
            queue.schedule_reconciliation(Reconciliation::InDoubt(item), at);
        }
    }

    /// Deletions of replaced records that earlier runs left unfinished.
    async fn leftover_replacements(&self) -> Result<Vec<(Reconciliation, Instant)>, StoreError> {
        let mut cases = Vec::new();
        let mut after = ItemId(0);
        loop {
            let page = self.checkpoint.pending_deletes(after, CLAIM_BATCH).await?;
            let Some(last) = page.last() else { return Ok(cases) };
            after = last.item;
            let replacements = page.into_iter().filter_map(ReplacementCleanup::of);
            cases.extend(replacements.map(|replacement| (Reconciliation::Replacement(replacement), Instant::now())));
        }
    }

    /// Items that earlier runs left in doubt. `--settle` counts from now, so no clock needs to be trusted.
    async fn leftover_in_doubt(&self) -> Result<Vec<(Reconciliation, Instant)>, StoreError> {
        let mut reconciliations = Vec::new();
        let mut after = ItemId(0);
        loop {
            let page = self.checkpoint.in_doubt_items(after, CLAIM_BATCH).await?;
            let Some(last) = page.last() else { return Ok(reconciliations) };
            after = last.claimed.item;
            for row in page {
                let mut item = InDoubtItem::leftover(Task::new(row.claimed), row.code);
                if let Some(at) = self.schedule(&mut item, Instant::now()) {
                    reconciliations.push((Reconciliation::InDoubt(item), at));
                }
            }
        }
    }

    /// Applies `--window`: outside its hours nothing is sent or claimed. Returns when to look again if it is closed.
    fn apply_send_window(&self, now: Instant) -> Option<Instant> {
        let closed = self.settings.window?.time_until_open(jiff::Zoned::now().time());
        let was_closed = self.is_closed.swap(closed.is_some(), Ordering::Relaxed);
        let event = match closed {
            Some(opens_in) if !was_closed => Some(Event::WindowClosed { opens_in }),
            None if was_closed => Some(Event::WindowOpened),
            Some(_) | None => None,
        };
        // The event queue may be full; the loop does not wait for it.
        if let Some(event) = event {
            let _ = self.events.try_send(event);
        }
        // A clock change is noticed within a minute. The gate stays closed slightly longer than the poll interval.
        let look_in = closed?.min(CLOCK_POLL_INTERVAL);
        self.add_gate.pause(look_in + Duration::from_secs(1), now);
        Some(now + look_in)
    }

    /// Stops the run if the proxy has never reached the service.
    pub(super) fn guard_proxy(&self, fault: &CallFailure, now: Instant) {
        if self.proxy_failures.is_limit_reached(fault, now) {
            let message = format!("the proxy has never reached the service: {}", fault.message);
            self.drain(DrainReason::Fatal(FatalError::Proxy { message }));
        }
    }

    /// Starts draining: no new sends. Only the first reason is reported.
    pub(super) fn drain(&self, reason: DrainReason) {
        if self.stop.drain(reason.clone()) {
            // The event queue may be full; `stop` keeps the reason in any case.
            let _ = self.events.try_send(Event::Draining(reason));
        }
    }

    /// Sends an event. A closed receiver never ends a run.
    pub(super) async fn emit(&self, event: Event) {
        let _ = self.events.send(event).await;
    }
}

/// Result of a task's future: the next step, a checkpoint error, or a panic.
type TaskResult = Result<Result<(ItemId, Next), StoreError>, Box<dyn Any + Send>>;

fn panic_to_error(payload: Box<dyn Any + Send>) -> RunError {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    RunError::Panic(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
}
