//! One quota for several processes (`--quota-at`): a database hands out the slots in its own time.
//!
//! A row stands for one action of one tenant at one endpoint. One UPDATE takes a block of slots, and row locks put blocks in
//! order. The slots are translated to this machine's clock and put into [`SharedSlots`]. What the service answers goes back,
//! because one decider adapts the rate for all processes. It is the same [`AdaptiveRate`] as that of a single process.
//!
//! # Why no second holds more than the quota
//!
//! Slots are spaced for [`SHARE`] of the quota over all processes, so that `quota` gaps last 1,015 ms. A slot is used at most
//! 5 ms late, or lost. Two processes read the database's clock with an error of half their shortest round trip at most; beyond
//! 5 ms of round trip they widen the gap (`margin`). This leaves 5 ms or more for the network.
//!
//! Whoever reconnects, or sees a clock step, gives up its slots and takes none for [`QUIET_TIME`], which is longer than slots
//! reach ahead. Without the database there are no slots.

mod clock;
mod row;
#[cfg(test)]
mod simulation;

use std::{sync::Arc, time::Duration};

use tokio::{sync::Notify, time::Instant};
use tokio_postgres::Client;

use self::{
    clock::{Sample, ServerClock},
    row::{Decider, Decision, Key, Tables, Taken},
};
use crate::{
    database::{self, Address, DatabaseError},
    pace::{AdaptiveRate, Backoff, Feedback, Gate, Qps, QuotaUse, SharedSlots},
};

/// Share of the quota that all processes together use. Less than the 0.99 that would do for a single clock, more than the
/// 0.981 of a single process, because late slots are lost instead of being used late.
const SHARE: f64 = 0.985;
/// Shortest round trip that the spacing allows for.
const FREE_ROUND_TRIP: Duration = Duration::from_millis(5);
/// Time from the answer to the first slot of a block, beside the round trip.
const LEAD: Duration = Duration::from_millis(2);
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
    name: &'static str,
    quota: Qps,
    quota_use: QuotaUse,
    slots: Arc<SharedSlots>,
}

/// Why no slots are handed out any more.
#[derive(Debug, thiserror::Error)]
pub enum QuotaError {
    /// The database can't be used.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// Its tables are newer than this program.
    #[error("the quota's tables have version {found}, this face-enroll knows {known}", known = row::SCHEMA_VERSION)]
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
        self.actions.push(Action { name, quota, quota_use, slots: Arc::clone(&slots) });
        Gate::shared(slots, Instant::now())
    }

    /// Connects and looks whether slots can be handed out; changes nothing. Returns the round trip.
    pub async fn probe(&self) -> Result<Duration, QuotaError> {
        let client = database::connect(&self.address, &self.extra_roots).await?;
        let failed = |error| database::failure(&self.address, &error);
        let sent = Instant::now();
        let found = row::inspect(&client).await.map_err(failed)?;
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
        let mut backoff = Backoff::default();
        loop {
            let was_connected_before = was_connected;
            let connected = || {
                was_connected = true;
                away_since = None;
                backoff = Backoff::default();
            };
            let error = match self.session(was_connected_before, connected).await {
                QuotaError::Database(error) if error.is_away() || was_connected => error,
                error => return error,
            };
            for action in &self.actions {
                action.slots.clear();
                action.slots.set_away(true);
            }
            let now = Instant::now();
            if away_since.is_none() {
                tracing::warn!("{error}; no calls are made without it, trying again");
            }
            let away = now.saturating_duration_since(*away_since.get_or_insert(now));
            if away > give_up_after {
                return QuotaError::Away { away, error };
            }
            tokio::time::sleep(backoff.next(fastrand::f64())).await;
        }
    }

    /// Hands out slots over one connection, until it fails.
    async fn session(&self, is_reconnection: bool, connected: impl FnOnce()) -> QuotaError {
        match self.open().await {
            Ok(mut session) => {
                connected();
                if is_reconnection {
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

    async fn open(&self) -> Result<Session<'_>, QuotaError> {
        let client = database::connect(&self.address, &self.extra_roots).await?;
        let mut session = Session {
            quota: self,
            client,
            clock: ServerClock::default(),
            resume_at: Instant::now(),
            reported: Instant::now(),
        };
        let found = session.answer(row::prepare(&session.client)).await?;
        if found > row::SCHEMA_VERSION {
            return Err(QuotaError::Newer { found });
        }
        for action in &self.actions {
            session.register(action).await?;
        }
        Ok(session)
    }

    fn key(&self, action: &Action) -> Key {
        Key { tenant: self.tenant.clone(), target: self.target.clone(), action: action.name }
    }
}

impl Action {
    /// A decider for this quota. Starts at `learned` if throttling has reduced the rate.
    fn new_decider(&self, learned: Option<Qps>) -> AdaptiveRate {
        AdaptiveRate::new(self.quota_use, self.quota.scaled(SHARE), learned)
    }

    fn decision(&self, decider: &AdaptiveRate, feedback: Feedback, version: i64) -> Decision {
        Decision {
            json: serde_json::to_string(decider).expect("a rate is numbers"),
            rate: decider.current().get(),
            quota: self.quota.get(),
            throttled: feedback.throttled,
            pause: feedback.pause,
            version,
        }
    }
}

/// A connection to the database.
struct Session<'a> {
    quota: &'a SharedQuota,
    client: Client,
    clock: ServerClock,
    /// No slots are taken before this time.
    resume_at: Instant,
    /// Time of the last report.
    reported: Instant,
}

impl Session<'_> {
    /// Serves the actions until the connection fails.
    async fn run(&mut self) -> DatabaseError {
        loop {
            match self.serve_once().await {
                Ok(()) => {}
                Err(error) => return error,
            }
        }
    }

    /// Takes the slots that are wanted, tells what is to be told, then waits until there is more to do.
    async fn serve_once(&mut self) -> Result<(), DatabaseError> {
        let quota = self.quota;
        let woken = quota.wake.notified();
        let mut is_idle = true;
        for action in &quota.actions {
            let now = Instant::now();
            let wanted = if now < self.resume_at { 0 } else { action.slots.wanted(now) };
            if wanted > 0 {
                self.take(action, wanted).await?;
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
            tokio::select! {
                () = woken => {}
                () = tokio::time::sleep_until(resume_at.map_or(report_at, |at| at.min(report_at))) => {}
            }
        }
        Ok(())
    }

    async fn take(&mut self, action: &Action, wanted: usize) -> Result<(), DatabaseError> {
        let lead = self.clock.round_trip() + LEAD;
        let key = self.quota.key(action);
        let (taken, sample) = self.answer(row::take(&self.client, &key, wanted, lead)).await?;
        if !self.observe_clock(sample) {
            return Ok(());
        }
        let local = |server| self.clock.local(server).expect("a sample was just added");
        match taken {
            Taken::Block(block) => {
                action.slots.fill(
                    (0..block.count)
                        .map(|n| local(block.first + block.gap * u32::try_from(n).expect("a block is small"))),
                );
                self.set_rate(action, block.rate);
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
        let key = self.quota.key(action);
        let told = async {
            for _ in 0..MAX_DECISIONS {
                let (found, sample) = self.answer(row::read_decider(&self.client, &key)).await?;
                let mut decider = self.parse_decider(action, &found);
                for _ in 0..feedback.accepted {
                    decider.observe(false, sample.server);
                }
                for _ in 0..feedback.throttled {
                    decider.observe(true, sample.server);
                }
                let decision = action.decision(&decider, feedback, found.version);
                if self.answer(row::decide(&self.client, &key, &decision)).await? {
                    if (decision.rate - found.rate).abs() > 0.05 {
                        tracing::debug!(action = action.name, rate = decision.rate, "rate of all processes changed");
                    }
                    return Ok(Some(decision.rate));
                }
            }
            Ok(None)
        };
        match told.await {
            Ok(Some(rate)) => self.set_rate(action, rate),
            Ok(None) => action.slots.return_feedback(feedback),
            Err(error) => {
                action.slots.return_feedback(feedback);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Makes the row of an action. The last run to start sets the quota.
    async fn register(&mut self, action: &Action) -> Result<(), DatabaseError> {
        let key = self.quota.key(action);
        let new = action.decision(&action.new_decider(None), Feedback::default(), 0);
        for _ in 0..FIRST_SAMPLES {
            let (_, sample) = self.answer(row::register(&self.client, &key, &new, self.margin())).await?;
            self.observe_clock(sample);
        }
        loop {
            let (found, _) = self.answer(row::register(&self.client, &key, &new, self.margin())).await?;
            let decider = serde_json::from_str::<AdaptiveRate>(&found.json).ok();
            let is_same_rule = decider.is_some_and(|decider| decider.is_for(action.quota_use));
            if is_same_rule && found.quota == action.quota.get() {
                self.set_rate(action, found.rate);
                return Ok(());
            }
            if found.quota != action.quota.get() {
                tracing::warn!(
                    action = action.name,
                    before = found.quota,
                    now = action.quota.get(),
                    "another run shares this quota with a different limit; the limit of this run holds for all now"
                );
            }
            let learned = Qps::new(found.rate).ok().filter(|_| found.rate < found.quota * SHARE * 0.999);
            let decision = action.decision(&action.new_decider(learned), Feedback::default(), found.version);
            self.answer(row::decide(&self.client, &key, &decision)).await?;
        }
    }

    fn parse_decider(&self, action: &Action, found: &Decider) -> AdaptiveRate {
        // Another version of this program may have written it.
        serde_json::from_str(&found.json).unwrap_or_else(|_| action.new_decider(Qps::new(found.rate).ok()))
    }

    fn set_rate(&self, action: &Action, rate: f64) {
        if let Ok(rate) = Qps::new(rate) {
            action.slots.set_rate(rate, rate.get() < action.quota.get() * SHARE * 0.999);
        }
    }

    /// Extra time between calls of different processes, for round trips longer than the spacing allows for.
    fn margin(&self) -> Duration {
        self.clock.round_trip().saturating_sub(FREE_ROUND_TRIP)
    }

    /// Adds a sample. After a step of a clock, false: the times of slots mean nothing.
    fn observe_clock(&mut self, sample: Sample) -> bool {
        if self.clock.add(sample).is_ok() {
            return true;
        }
        tracing::warn!("the clock of this machine or of the quota's database was set; pausing for a second");
        self.resume_at = Instant::now() + QUIET_TIME;
        for action in &self.quota.actions {
            action.slots.clear();
        }
        false
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
