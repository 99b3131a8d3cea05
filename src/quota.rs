//! One quota for several processes (`--quota-at`): a database hands out the slots in its own time.
//!
//! A row stands for one action of one tenant at one endpoint. One UPDATE takes a block of slots, and row locks put blocks in
//! order. The slots are translated to this machine's clock and put into [`SharedSlots`]. What the service answers goes back,
//! because one decider adapts the rate for all processes. It is the same [`AdaptiveRate`] as that of a single process.
//!
//! # Why no second holds more than the quota
//!
//! Slots are spaced for `SHARE` of the quota over all processes, so that `quota` gaps last 1,018 ms. A slot is used at most
//! 5 ms late, or lost. Two processes read the database's clock with an error of half their shortest round trip at most; beyond
//! 5 ms of round trip they widen the gap (`margin`) and give up slots of a narrower one. This leaves 8 ms or more for the
//! network.
//!
//! Whoever reconnects, or sees a clock step, gives up its slots and takes none for `QUIET_TIME`: a server with
//! `synchronous_commit` off can take back the last slots when it crashes. Without the database there are no slots.
//!
//! The clock is read by a statement of its own, because the one that takes slots waits for locks and for the disk.

mod clock;
mod row;
#[cfg(test)]
mod simulation;

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};
use tokio_postgres::Client;

use self::{
    clock::ServerClock,
    row::{Decider, Decision, Key, Tables, Taken},
};
use crate::{
    database::{self, Address, DatabaseError},
    pace::{AdaptiveRate, Backoff, Feedback, Gate, Qps, QuotaUse, SharedSlots},
};

/// Share of the quota that all processes together use. At 0.985, one of two rounds of 3,000 calls on an idle machine with 2
/// processors had 51 calls in a second as received. A little more than the 0.981 of a single process, because late slots are
/// lost instead of being used late.
const SHARE: f64 = 0.982;
/// Shortest round trip that the spacing allows for.
const FREE_ROUND_TRIP: Duration = Duration::from_millis(5);
/// Time from the answer to the first slot of a block.
const LEAD: Duration = Duration::from_millis(2);
/// Longest time from the question to the first slot of a block.
const MAX_LEAD: Duration = Duration::from_millis(200);
/// How often the clock is read. Also finds a connection that is gone.
const CLOCK_INTERVAL: Duration = Duration::from_secs(1);
/// No slots are taken for this long after a reconnection or a step of a clock.
const QUIET_TIME: Duration = Duration::from_secs(1);
/// How often accepted answers are told; throttled ones are told at once, but not more often than [`MIN_REPORT_INTERVAL`].
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// Least time between two reports.
const MIN_REPORT_INTERVAL: Duration = Duration::from_millis(100);
/// A statement without an answer for this long ends the connection.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Round trips that are measured before the first slot is taken.
const FIRST_SAMPLES: usize = 5;
/// Tries to decide while other processes decide too; after these, the answers wait for the next report.
const MAX_DECISIONS: usize = 5;

/// A quota in a database.
pub struct SharedQuota {
    address: Address,
    extra_roots: Vec<u8>,
    tenant: String,
    target: String,
    actions: Vec<Action>,
    /// Notified when an action wants slots or has something to tell.
    wake: Arc<Notify>,
}

/// The quota of one action.
struct Action {
    key: Key,
    quota: Qps,
    quota_use: QuotaUse,
    slots: Arc<SharedSlots>,
    /// The limit that held when it was last seen; a later run may set another.
    limit: Cell<f64>,
}

/// Why no slots are handed out any more.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Its tables are newer than this program.
    #[error(
        "the quota's tables have version {found}, this face-enroll knows {known}: update it",
        known = row::SCHEMA_VERSION
    )]
    Newer {
        /// Version of the tables.
        found: i32,
    },
    /// The database did not answer for too long.
    #[error("{error} (for {} s)", away.as_secs())]
    Away {
        /// For how long.
        away: Duration,
        /// The last error.
        error: DatabaseError,
    },
}

impl SharedQuota {
    /// Does not connect. `target` is the endpoint that the quota belongs to; `tenant` is the user's name for the account.
    pub fn new(address: Address, extra_roots: Vec<u8>, tenant: String, target: String) -> Self {
        Self { address, extra_roots, tenant, target, actions: Vec::new(), wake: Arc::default() }
    }

    /// The gate of an action. It permits calls while [`SharedQuota::serve`] runs.
    pub fn gate<A>(&mut self, name: &'static str, quota: Qps, quota_use: QuotaUse) -> Gate<A> {
        let slots = Arc::new(SharedSlots::new(quota.scaled(SHARE), Arc::clone(&self.wake)));
        let key = Key { tenant: self.tenant.clone(), target: self.target.clone(), action: name };
        self.actions.push(Action { key, quota, quota_use, slots: Arc::clone(&slots), limit: Cell::new(quota.get()) });
        Gate::shared(slots, Instant::now())
    }

    /// Connects and looks whether slots can be handed out; changes nothing. Returns the round trip.
    pub async fn probe(&self) -> Result<Duration, QuotaError> {
        let session = self.connect().await?;
        let sent = Instant::now();
        let found = session.answer(row::inspect(&session.client)).await?;
        let round_trip = sent.elapsed();
        match found {
            Tables::Version(found) if found > row::SCHEMA_VERSION => Err(QuotaError::Newer { found }),
            Tables::Version(_) | Tables::CanBeMade => Ok(round_trip),
            Tables::Forbidden => {
                let message = "there are no tables yet, and this role may not CREATE them".to_owned();
                Err(DatabaseError::Refused { address: self.address.to_string(), message }.into())
            }
        }
    }

    /// Hands out slots. Reconnects when the database is away, for at most `give_up_after`. Before the first connection, an error
    /// that waiting can't mend ends it at once.
    pub async fn serve(&self, give_up_after: Duration) -> QuotaError {
        let mut was_connected = false;
        let mut away_since = None;
        let mut last_error = String::new();
        let mut backoff = Backoff::default();
        loop {
            let is_first = !was_connected;
            let connected = || {
                was_connected = true;
                away_since = None;
                backoff = Backoff::default();
            };
            let error = match self.session(is_first, connected).await {
                QuotaError::Database(error) if error.is_away() || was_connected => error,
                error => return error,
            };
            for action in &self.actions {
                action.slots.clear();
                action.slots.set_away(true);
            }
            let now = Instant::now();
            // Such as a password that was changed while the database was down.
            let text = error.to_string();
            if away_since.is_none() || text != last_error {
                tracing::warn!("{text}; no calls are made without it, trying again");
            }
            last_error = text;
            let away = now.saturating_duration_since(*away_since.get_or_insert(now));
            if away > give_up_after {
                return QuotaError::Away { away, error };
            }
            tokio::time::sleep(backoff.next(fastrand::f64())).await;
        }
    }

    /// Hands out slots over one connection, until it fails.
    async fn session(&self, is_first: bool, connected: impl FnOnce()) -> QuotaError {
        match self.open(is_first).await {
            Ok(mut session) => {
                connected();
                if !is_first {
                    tracing::info!("the database of the quota answers again");
                    session.resume_at = Instant::now() + QUIET_TIME;
                }
                for action in &self.actions {
                    action.slots.set_away(false);
                }
                session.run().await.into()
            }
            Err(error) => error,
        }
    }

    async fn connect(&self) -> Result<Session<'_>, DatabaseError> {
        let client = database::connect(&self.address, &self.extra_roots).await?;
        let now = Instant::now();
        let clock = ServerClock::default();
        Ok(Session { quota: self, client, clock, lead: Duration::ZERO, resume_at: now, clock_read: now, reported: now })
    }

    async fn open(&self, is_first: bool) -> Result<Session<'_>, QuotaError> {
        let mut session = self.connect().await?;
        let found = session.answer(row::prepare(&session.client)).await?;
        if found > row::SCHEMA_VERSION {
            return Err(QuotaError::Newer { found });
        }
        for _ in 0..FIRST_SAMPLES {
            session.read_clock().await?;
        }
        for action in &self.actions {
            session.register(action, is_first).await?;
        }
        Ok(session)
    }
}

impl Action {
    fn decision(decider: &AdaptiveRate, quota: f64, version: i64) -> Decision {
        let json = serde_json::to_string(decider).expect("a rate is numbers");
        Decision { json, rate: decider.current().get(), quota, pause: None, version }
    }

    /// A decider for a quota, at `rate` if that is lower.
    fn new_decider(&self, quota: f64, rate: f64) -> AdaptiveRate {
        let ceiling = Qps::new(quota).unwrap_or(self.quota).scaled(SHARE);
        AdaptiveRate::new(self.quota_use, ceiling, Qps::new(rate).ok().filter(|&rate| is_reduced(rate.get(), quota)))
    }

    /// The decider of the row. A new one if another version of this program wrote it, it follows another rule, or the
    /// database's clock was set back.
    fn decider(&self, found: &Decider) -> AdaptiveRate {
        let is_of_future = found.decided_at > found.now + Duration::from_secs(1);
        serde_json::from_str::<AdaptiveRate>(&found.json)
            .ok()
            .filter(|decider| decider.is_for(self.quota_use) && !is_of_future)
            .unwrap_or_else(|| self.new_decider(found.quota, found.rate))
    }
}

/// Whether throttling has reduced the rate; the spacing alone takes a little of the quota.
fn is_reduced(rate: f64, quota: f64) -> bool {
    rate < quota * SHARE * 0.999
}

/// A connection to the database.
struct Session<'a> {
    quota: &'a SharedQuota,
    client: Client,
    clock: ServerClock,
    /// Time that taking slots took lately, lock and disk included.
    lead: Duration,
    /// No slots are taken before this time.
    resume_at: Instant,
    clock_read: Instant,
    /// Time of the last report.
    reported: Instant,
}

impl Session<'_> {
    /// Serves the actions until the connection fails.
    async fn run(&mut self) -> DatabaseError {
        loop {
            if let Err(error) = self.serve_once().await {
                return error;
            }
        }
    }

    /// Takes the slots that are wanted, tells what is to be told, then waits until there is more to do.
    async fn serve_once(&mut self) -> Result<(), DatabaseError> {
        let quota = self.quota;
        let woken = quota.wake.notified();
        if self.clock_read.elapsed() >= CLOCK_INTERVAL {
            self.read_clock().await?;
        }
        let mut is_idle = true;
        for action in &quota.actions {
            let now = Instant::now();
            let wanted = if now < self.resume_at { 0 } else { action.slots.wanted(now) };
            if wanted > 0 {
                self.take(action, u32::try_from(wanted).expect("a block is small")).await?;
                is_idle = false;
            }
        }
        let since = self.reported.elapsed();
        let is_due = |action: &Action| {
            since >= REPORT_INTERVAL || (since >= MIN_REPORT_INTERVAL && action.slots.has_urgent_feedback())
        };
        for action in quota.actions.iter().filter(|action| is_due(action)) {
            self.report(action).await?;
            self.reported = Instant::now();
        }
        if is_idle {
            let is_urgent = quota.actions.iter().any(|action| action.slots.has_urgent_feedback());
            let report_at = self.reported + if is_urgent { MIN_REPORT_INTERVAL } else { REPORT_INTERVAL };
            let resume_at = Some(self.resume_at).filter(|&at| at > Instant::now());
            let at = resume_at.into_iter().chain([report_at, self.clock_read + CLOCK_INTERVAL]).min();
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(at.expect("there are two times at least")) => {}
            }
        }
        Ok(())
    }

    async fn take(&mut self, action: &Action, wanted: u32) -> Result<(), DatabaseError> {
        let sent = Instant::now();
        let lead = self.lead.min(MAX_LEAD) + LEAD;
        let taken = self.answer(row::take(&self.client, &action.key, wanted, lead)).await?;
        self.lead = sent.elapsed().max(self.lead.mul_f64(0.9));
        // The times mean nothing if a clock has stepped since it was read; the next reading will tell, and clear them.
        let local = |server| self.clock.local(server).expect("the clock was read when the session began");
        match taken {
            Taken::Block(block) if block.margin + Duration::from_millis(1) < self.margin() => {
                self.register(action, false).await?;
            }
            Taken::Block(block) => {
                action.slots.fill((0..block.count).map(|n| local(block.first + block.gap * n)));
                if action.limit.replace(block.quota) != block.quota {
                    tracing::warn!(
                        action = action.key.action,
                        limit = block.quota,
                        own = action.quota.get(),
                        "a run that started later set another limit for all runs that share this quota"
                    );
                }
                Self::set_rate(action, block.rate, block.quota);
            }
            Taken::PausedUntil(until) => action.slots.set_paused(local(until)),
        }
        Ok(())
    }

    /// Tells the decider what the service answered.
    async fn report(&mut self, action: &Action) -> Result<(), DatabaseError> {
        let feedback = action.slots.take_feedback();
        if feedback == Feedback::default() {
            return Ok(());
        }
        let told = self.decide(action, feedback).await;
        if !matches!(told, Ok(true)) {
            action.slots.return_feedback(feedback);
        }
        told.map(|_| ())
    }

    /// False if other processes decided at the same time, again and again.
    async fn decide(&mut self, action: &Action, feedback: Feedback) -> Result<bool, DatabaseError> {
        for _ in 0..MAX_DECISIONS {
            let found = self.answer(row::read_decider(&self.client, &action.key)).await?;
            let mut decider = action.decider(&found);
            for (count, is_throttled) in [(feedback.accepted, false), (feedback.throttled, true)] {
                for _ in 0..count {
                    decider.observe(is_throttled, found.now);
                }
            }
            let decision = Decision { pause: feedback.pause, ..Action::decision(&decider, found.quota, found.version) };
            if self.answer(row::decide(&self.client, &action.key, &decision)).await? {
                if (decision.rate - found.rate).abs() > 0.05 {
                    tracing::debug!(action = action.key.action, rate = decision.rate, "rate of all processes changed");
                }
                Self::set_rate(action, decision.rate, found.quota);
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Makes the row of an action, and raises its margin. The last run to start sets the quota.
    async fn register(&mut self, action: &Action, is_start: bool) -> Result<(), DatabaseError> {
        let limit = action.quota.get();
        let new = Action::decision(&action.new_decider(limit, limit), limit, 0);
        let found = self.answer(row::register(&self.client, &action.key, &new, self.margin())).await?;
        Self::set_rate(action, found.rate, found.quota);
        if !is_start || found.quota == limit {
            return Ok(());
        }
        tracing::info!(
            action = action.key.action,
            before = found.quota,
            now = limit,
            "the limit of this run holds from now on for all runs that share this quota"
        );
        let decider = action.new_decider(limit, if is_reduced(found.rate, found.quota) { found.rate } else { limit });
        let decision = Action::decision(&decider, limit, found.version);
        // If another process has decided meanwhile, what it decided holds the old limit: look again.
        if self.answer(row::decide(&self.client, &action.key, &decision)).await? {
            Self::set_rate(action, decision.rate, limit);
            return Ok(());
        }
        Box::pin(self.register(action, is_start)).await
    }

    fn set_rate(action: &Action, rate: f64, quota: f64) {
        if let Ok(rate) = Qps::new(rate) {
            action.slots.set_rate(rate, is_reduced(rate.get(), quota));
        }
    }

    /// Extra time between calls of different processes, for round trips longer than the spacing allows for.
    fn margin(&self) -> Duration {
        self.clock.round_trip().saturating_sub(FREE_ROUND_TRIP)
    }

    /// Reads the database's clock. After a step of a clock, the times of slots mean nothing.
    async fn read_clock(&mut self) -> Result<(), DatabaseError> {
        let sample = self.answer(row::read_clock(&self.client)).await?;
        self.clock_read = sample.received;
        if self.clock.add(sample).is_err() {
            tracing::warn!("the clock of this machine or of the quota's database was set; pausing for a second");
            self.resume_at = Instant::now() + QUIET_TIME;
            for action in &self.quota.actions {
                action.slots.clear();
            }
        }
        Ok(())
    }

    /// Waits for an answer of the database.
    async fn answer<R>(
        &self,
        statement: impl Future<Output = Result<R, tokio_postgres::Error>>,
    ) -> Result<R, DatabaseError> {
        let address = &self.quota.address;
        match tokio::time::timeout(ANSWER_TIMEOUT, statement).await {
            Ok(answer) => answer.map_err(|error| database::failure(address, &error)),
            Err(_) => Err(DatabaseError::Away {
                address: address.to_string(),
                message: format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()),
            }),
        }
    }
}
