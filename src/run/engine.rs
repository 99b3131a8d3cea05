//! The loop: keeps enough units on their way, and knows when there is nothing left.

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
    attempt::{Next, Task},
    budget::{ByteBudget, DecodeLimiter, ImageLimit, MAX_PREPARING},
    control::{Limits, Stop},
    guards::{
        CertificateFailures, GroupCache, MissingPhoto, MissingPhotos, ProxyFailures, RepeatedRefusal, ThrottleFloor,
        UnreadPhotos,
    },
    ingest::IngestProgress,
    queue::Queue,
    reconcile::{InDoubtItem, ReconcileStep, Reconciliation},
    replace::Replacement,
    stages::StageGauges,
    stats::Stats,
    window::Window,
};
use crate::{
    api::{Client, Transport},
    checkpoint::{Checkpoint, Claimed, Store, StoreError},
    domain::{Bottleneck, CallFailure, DrainReason, Event, FatalError, ItemId, RunTotals},
    pace::{Gate, InDoubtPolicy, Qps, RetryRules, RetryTokens},
    picture::Rules,
};

/// What is in flight when a run drains is heard out for so long; Kubernetes and systemd kill after 30 s.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(25);
/// Items fetched from the checkpoint at once.
const CLAIM: usize = 256;
/// How often the clock is looked at while `--window` is closed.
const CLOCK_POLL_INTERVAL: Duration = Duration::from_secs(60);
/// Units are begun so many at once that the room for them is filled in as many bursts: their photos are read one after the
/// other, while what that takes is at hand.
const REFILL_DIVISOR: usize = 16;
/// Questions under way at once.
const MAX_CONCURRENT_QUERIES: usize = 16;

/// Who is asked about before being sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precheck {
    /// Nobody.
    Off,
    /// Whom we have never tried to send: another tool may have.
    FirstSends,
    /// Everyone: the checkpoint does not know all that it once knew.
    EverySend,
}

impl Precheck {
    pub(super) fn applies_to(self, claimed: &Claimed) -> bool {
        let asks = match self {
            Self::Off => false,
            Self::FirstSends => claimed.intent_ms.is_none(),
            Self::EverySend => true,
        };
        asks && claimed.replaces.is_none()
    }
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
    /// How long the service may stay away.
    pub give_up_after: Duration,
    /// `--keep-going`: never stop for the same refusal again and again.
    pub keep_going: bool,
    /// What a photo may be, and what may be done to it.
    pub photo: Rules,
    /// `--precheck`.
    pub precheck: Precheck,
    /// `--send upload`: also what could go inline is uploaded.
    pub always_upload: bool,
    /// May a photo lie elsewhere than beneath its source's root?
    pub allow_outside_root: bool,
    /// `--window`: the hours in which it sends.
    pub window: Option<Window>,
}

/// What a run works with.
pub struct Deps<T, S> {
    /// Sends.
    pub client: Client<T>,
    /// Remembers.
    pub checkpoint: Checkpoint<S>,
    /// AddFaceRecord's.
    pub add_gate: Gate,
    /// That of the queries.
    pub query_gate: Gate,
    /// DeleteFaceRecord's.
    pub delete_gate: Gate,
    /// AuthorizeFileUpload's.
    pub authorize_gate: Gate,
    /// That of the object store.
    pub upload_gate: Gate,
    /// Whoever watches.
    pub events: mpsc::Sender<Event>,
    /// What stops it.
    pub stop: Stop,
}

/// What ended a run that should not have.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The checkpoint broke: nothing more may be sent.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug. The item that it happened to is in doubt.
    #[error("internal error while an item was on its way: {0}")]
    Panic(String),
}

/// See the module.
pub struct Engine<T, S> {
    pub(super) client: Client<T>,
    pub(super) checkpoint: Checkpoint<S>,
    pub(super) add_gate: Gate,
    pub(super) query_gate: Gate,
    pub(super) delete_gate: Gate,
    pub(super) authorize_gate: Gate,
    pub(super) upload_gate: Gate,
    events: mpsc::Sender<Event>,
    pub(super) stop: Stop,
    pub(super) settings: Settings,
    pub(super) admission: Admission,
    pub(super) in_flight: Semaphore,
    pub(super) preparing: Semaphore,
    pub(super) bytes: Arc<ByteBudget>,
    pub(super) workbench: Arc<DecodeLimiter>,
    pub(super) images: ImageLimit,
    pub(super) streak: RepeatedRefusal,
    pub(super) groups: GroupCache,
    pub(super) bad_certificates: CertificateFailures,
    pub(super) proxy_failures: ProxyFailures,
    pub(super) throttled_out: ThrottleFloor,
    pub(super) missing_photos: MissingPhotos,
    pub(super) unread: UnreadPhotos,
    pub(super) retries: Mutex<RetryTokens>,
    /// Since when no query has been answered.
    pub(super) query_outage_since: Mutex<Option<Instant>>,
    pub(super) stats: Stats,
    pub(super) stages: StageGauges,
    is_closed: AtomicBool,
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// Ready to run.
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
            events,
            stop,
            admission: Admission::new(settings.quota),
            in_flight: Semaphore::new(settings.concurrency.get()),
            preparing: Semaphore::new(MAX_PREPARING),
            bytes: Arc::default(),
            workbench: Arc::default(),
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

    /// What has been done so far.
    pub fn totals(&self) -> RunTotals {
        self.stats.totals(Instant::now())
    }

    /// Calls a second, as they may go now.
    pub fn rate(&self) -> Qps {
        self.add_gate.rate()
    }

    /// What keeps it from going faster.
    pub fn binding(&self) -> Bottleneck {
        if self.admission.is_probing() && !self.admission.retry_in(Instant::now()).is_zero() {
            return Bottleneck::Away;
        }
        if self.is_closed.load(Ordering::Relaxed) {
            return Bottleneck::Window;
        }
        self.stages.binding(self.add_gate.reduced_rate().is_some())
    }

    /// The rate that the next run is to begin with, where the service has brought it down.
    pub fn learned_rate(&self) -> Option<Qps> {
        self.add_gate.reduced_rate()
    }

    /// Sends what is pending and settles what is in doubt, until there is nothing left or it is told to stop.
    pub async fn run(&self, mut feed: watch::Receiver<IngestProgress>) -> Result<(), RunError> {
        let mut leftover = self.leftover_doubts().await?;
        leftover.extend(self.leftover_replacements().await?);
        let mut queue = Queue::new(leftover);
        let mut units = FuturesUnordered::new();
        let mut asks = FuturesUnordered::new();
        let mut search = OptionFuture::default();
        let mut is_searching = false;
        let room = 2 * self.settings.concurrency.get();
        let burst = (room / REFILL_DIVISOR).max(1);
        let deadline = self.settings.limits.duration.map(|limit| Instant::now() + limit);
        while !self.stop.is_draining() {
            let now = Instant::now();
            let opens_at = self.keep_to_window(now);
            // What is to be done is looked for all the same, so that a run with nothing to do ends.
            let work_room = if opens_at.is_some() { 0 } else { room };
            if units.len() + burst <= work_room {
                while units.len() < work_room
                    && let Some(work) = queue.next_task(now)
                {
                    units.push(self.unit(work));
                }
            }
            while asks.len() < MAX_CONCURRENT_QUERIES
                && let Some(case) = queue.next_reconciliation(now)
            {
                let item = case.item();
                let looking = async move { self.look_at(case).await.map(|end| (item, end)) };
                asks.push(AssertUnwindSafe(looking).catch_unwind());
            }
            if !is_searching
                && units.len() < room
                && let Some(from) = queue.next_scan()
            {
                search = Some(Box::pin(async move { (from, self.checkpoint.claim(from.after, CLAIM).await) })).into();
                is_searching = true;
            }
            if units.is_empty() && asks.is_empty() && !is_searching && queue.is_over() {
                if queue.is_closed() {
                    self.drain(DrainReason::MaxImages);
                } else {
                    self.conclude_missing_photos().await?;
                }
                self.drain_unread();
                return Ok(());
            }
            // What is due and finds no room waits for room, not for its time: a time that has passed would spin.
            let work_due = queue.task_due().filter(|_| units.len() + burst <= work_room);
            let case_due = queue.reconciliation_due().filter(|_| asks.len() < MAX_CONCURRENT_QUERIES);
            let wake_at = work_due.into_iter().chain(case_due).chain(deadline).chain(opens_at).min();
            tokio::select! {
                Some(end) = units.next(), if !units.is_empty() => self.route(end.map_err(panicked)??, &mut queue),
                Some(end) = asks.next(), if !asks.is_empty() => {
                    let (item, end) = end.map_err(panicked)??;
                    queue.on_reconcile_step(item, end);
                }
                Some((from, claimed)) = &mut search, if is_searching => {
                    is_searching = false;
                    queue.found(from, claimed?);
                }
                Ok(()) = feed.changed() => {
                    let feed = feed.borrow_and_update();
                    if feed.has_found_photos {
                        self.missing_photos.note_found();
                    }
                    queue.on_ingest_progress(&feed);
                }
                () = tokio::time::sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {
                    if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                        self.drain(DrainReason::MaxDuration);
                    }
                }
                () = self.stop.draining() => {}
            }
        }
        self.drain_in_flight(&mut units).await
    }

    /// Settles what is in doubt and sends nothing: what is absent is pending again, for the next run.
    pub async fn reconcile_leftovers(&self) -> Result<(), RunError> {
        let mut queue = Queue::new(self.leftover_doubts().await?);
        let mut asks = FuturesUnordered::new();
        while !self.stop.is_draining() {
            let now = Instant::now();
            while asks.len() < MAX_CONCURRENT_QUERIES
                && let Some(case) = queue.next_reconciliation(now)
            {
                let item = case.item();
                let looking = async move { self.look_at(case).await.map(|end| (item, end)) };
                asks.push(AssertUnwindSafe(looking).catch_unwind());
            }
            let wake_at = queue.reconciliation_due().filter(|_| asks.len() < MAX_CONCURRENT_QUERIES);
            if asks.is_empty() && wake_at.is_none() {
                return Ok(());
            }
            tokio::select! {
                Some(end) = asks.next(), if !asks.is_empty() => match end.map_err(panicked)?? {
                    (item, ReconcileStep::AskAgain(case @ Reconciliation::InDoubt(_), at)) => {
                        queue.on_reconcile_step(item, ReconcileStep::AskAgain(case, at));
                    }
                    // An old record that is to go is the next run's to remove.
                    (_, ReconcileStep::Settled | ReconcileStep::Left | ReconcileStep::Resend(..) | ReconcileStep::AskAgain(Reconciliation::Replacement(_), _)) => {}
                },
                () = tokio::time::sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {}
                () = self.stop.draining() => {}
            }
        }
        Ok(())
    }

    /// All rows have been looked at.
    async fn conclude_missing_photos(&self) -> Result<(), StoreError> {
        match self.missing_photos.end() {
            Some(MissingPhoto::Stop(reason)) => self.drain(reason),
            Some(MissingPhoto::Refuse(refusals)) => self.settle_all(refusals).await?,
            Some(MissingPhoto::Withhold) | None => {}
        }
        Ok(())
    }

    /// Draining: what is on its way comes to its end, within its time.
    async fn drain_in_flight(
        &self,
        units: &mut FuturesUnordered<impl Future<Output = UnitEnd>>,
    ) -> Result<(), RunError> {
        let until = Instant::now() + DRAIN_TIMEOUT;
        while !units.is_empty() {
            tokio::select! {
                Some(end) = units.next() => drop(end.map_err(panicked)??),
                () = tokio::time::sleep_until(until) => {
                    tracing::warn!(in_flight = units.len(), "some answers did not come in time: they are in doubt");
                    return Ok(());
                }
                () = self.stop.forced() => return Ok(()),
            }
        }
        Ok(())
    }

    /// One item's way. A panic concerns that item, and ends the run in order.
    fn unit(&self, work: Task) -> impl Future<Output = UnitEnd> {
        let item = work.claimed.item;
        AssertUnwindSafe(async move { self.attempt(work).await.map(|end| (item, end)) }).catch_unwind()
    }

    fn route(&self, (item, end): (ItemId, Next), queue: &mut Queue) {
        if matches!(end, Next::Withheld) {
            // Held on to: it is pending still, and is not to be looked for again.
            return;
        }
        queue.release(item);
        match end {
            Next::Done | Next::Cancelled | Next::Withheld => {}
            Next::SetAside => queue.set_aside(item),
            Next::LimitReached => queue.close(),
            Next::Requeue(work, at) => queue.wait(work, at),
            Next::InDoubt(work, code) => self.doubt(InDoubtItem::new(work, code), queue),
            Next::CleanUp(replacement) => queue.ask(Reconciliation::Replacement(replacement), Instant::now()),
        }
    }

    fn doubt(&self, mut doubt: InDoubtItem, queue: &mut Queue) {
        if let Some(at) = self.schedule(&mut doubt, Instant::now()) {
            queue.ask(Reconciliation::InDoubt(doubt), at);
        }
    }

    /// Old records that earlier runs left behind.
    async fn leftover_replacements(&self) -> Result<Vec<(Reconciliation, Instant)>, StoreError> {
        let mut cases = Vec::new();
        let mut after = ItemId(0);
        loop {
            let page = self.checkpoint.pending_deletes(after, CLAIM).await?;
            let Some(last) = page.last() else { return Ok(cases) };
            after = last.item;
            let replacements = page.into_iter().filter_map(Replacement::of);
            cases.extend(replacements.map(|replacement| (Reconciliation::Replacement(replacement), Instant::now())));
        }
    }

    /// What earlier runs left in doubt. `--settle` counts from now: no clock needs to be trusted.
    async fn leftover_doubts(&self) -> Result<Vec<(Reconciliation, Instant)>, StoreError> {
        let mut doubts = Vec::new();
        let mut after = ItemId(0);
        loop {
            let page = self.checkpoint.in_doubt_items(after, CLAIM).await?;
            let Some(last) = page.last() else { return Ok(doubts) };
            after = last.claimed.item;
            for doubt in page {
                let mut doubt = InDoubtItem::leftover(Task::new(doubt.claimed), doubt.code);
                if let Some(at) = self.schedule(&mut doubt, Instant::now()) {
                    doubts.push((Reconciliation::InDoubt(doubt), at));
                }
            }
        }
    }

    /// Outside the hours of `--window` nobody goes, and nobody is fetched to wait. Some: until then.
    fn keep_to_window(&self, now: Instant) -> Option<Instant> {
        let closed = self.settings.window?.time_until_open(jiff::Zoned::now().time());
        let was_closed = self.is_closed.swap(closed.is_some(), Ordering::Relaxed);
        let event = match closed {
            Some(opens_in) if !was_closed => Some(Event::WindowClosed { opens_in }),
            None if was_closed => Some(Event::WindowOpened),
            Some(_) | None => None,
        };
        // As with the end: the queue may be full, and nobody waits for it.
        if let Some(event) = event {
            let _ = self.events.try_send(event);
        }
        // A clock that is set meanwhile is noticed within the minute. The gate stays shut a little longer than it takes to look.
        let look_in = closed?.min(CLOCK_POLL_INTERVAL);
        self.add_gate.pause(look_in + Duration::from_secs(1), now);
        Some(now + look_in)
    }

    /// A proxy that has never led to the service in this run stops it.
    pub(super) fn guard_proxy(&self, fault: &CallFailure, now: Instant) {
        if self.proxy_failures.is_one_too_many(fault, now) {
            let message = format!("the proxy has not led to the service once: {}", fault.message);
            self.drain(DrainReason::Fatal(FatalError::Proxy { message }));
        }
    }

    /// No new sends from here on. Told once.
    pub(super) fn drain(&self, reason: DrainReason) {
        if self.stop.drain(reason.clone()) {
            // The queue of events may be full; the reason is kept in `stop` all the same.
            let _ = self.events.try_send(Event::Draining(reason));
        }
    }

    /// A lost watcher never ends a run.
    pub(super) async fn emit(&self, event: Event) {
        let _ = self.events.send(event).await;
    }
}

/// How a unit's future ends: as data, by the checkpoint's failure, or by a panic.
type UnitEnd = Result<Result<(ItemId, Next), StoreError>, Box<dyn Any + Send>>;

fn panicked(payload: Box<dyn Any + Send>) -> RunError {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    RunError::Panic(text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_default())
}
