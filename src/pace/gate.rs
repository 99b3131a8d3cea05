//! Rate limiter of one API action: first come, first served, evenly spaced, without catching up after a delay.
//!
//! Two limits apply in series. The adaptive rate follows the responses of the service. `governor` (GCRA, burst 1) is a
//! constant ceiling that holds even if the adaptive part has a bug.
//!
//! # Why no second holds more than the quota
//!
//! Slots are spaced for [`QUOTA_SHARE`] of the quota, so that `quota` gaps last 1/0.981 s = 1,019 ms. A timer wakes
//! about a millisecond late; counting each gap from the late wake-up would lower the rate by 3 %. So a call made at `a`
//! for the slot at `s` is charged at `max(s, a - LATENESS_TOLERANCE)`: lateness up to [`LATENESS_TOLERANCE`] does not
//! delay the next slot, and any further lateness is lost for good. Two calls with `quota` gaps between them are thus at
//! least 1,019 ms - `LATENESS_TOLERANCE` = 1,014 ms apart, however late the timers are.
//!
//! This holds for calls as they are sent. It also holds for calls as the service receives them, unless the path (this
//! machine's scheduler, the network) delays a call by 14 ms more than the call `quota` later. The service throttles a
//! call that arrives too early, and the call is sent again; nothing else is lost.
//!
//! A restart keeps the guarantee: the earlier process sent its last call before this one started, and the first slot is
//! one gap after the start.
//!
//! Order that must not change, all while holding the turn: set the clock, ask `governor`, issue the permit.
//!
//! With `--quota-at` the slots come from a database instead (see [`SharedSlots`]), and it is the limiter.

use std::{
    marker::PhantomData,
    num::NonZeroU32,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter, clock::Clock, middleware::NoOpMiddleware, nanos::Nanos, state::InMemoryState, state::NotKeyed,
};
use tokio::{sync::Notify, time::Instant};

use super::{AdaptiveRate, Qps, QuotaUse, RateChange, SharedSlots};
use crate::domain::{CallError, Permit};

/// Share of the quota that is used. On an idle machine 0.99 is enough for a sliding second at the server (reference,
/// performance.md). With 10 to 15 busy processes on 2 cores, a server that was not delayed itself counted 51 calls in a
/// second in 5 of 15 rounds of 400 calls at 0.99, 52 in 1 of 9 rounds at 0.985, and at most 50 in 15 rounds at 0.981,
/// which costs 0.9 % of the rate.
pub(super) const QUOTA_SHARE: f64 = 0.981;
/// Lateness of a wake-up that does not delay the next slot, out of the 19 ms that [`QUOTA_SHARE`] leaves per second.
pub(super) const LATENESS_TOLERANCE: Duration = Duration::from_millis(5);
/// Latest first slot: below one call a second, a second holds at most one call of an earlier process.
const MAX_START_DELAY: Duration = Duration::from_secs(1);
/// Longest pause that callers wait out; for a longer one they release their memory and intents instead.
pub(super) const MAX_INLINE_WAIT: Duration = Duration::from_secs(1);

/// The gate is paused for long; ask again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferred {
    /// Time when the gate opens again.
    pub until: Instant,
}

/// Rate limiter of one API action.
pub struct Gate<A> {
    slots: Slots,
    /// Held by the one caller that waits for the next slot; the others queue for it in order.
    turn: tokio::sync::Mutex<()>,
    /// No permit before this time.
    paused_until: Mutex<Instant>,
    /// Wakes the waiting caller after a pause.
    paused: Notify,
    action: PhantomData<fn() -> A>,
}

/// Where slots come from.
enum Slots {
    /// This process alone makes them.
    Own(Box<OwnSlots>),
    /// A database hands them out to several processes.
    Shared(Arc<SharedSlots>),
}

/// Slots of a quota that no other process of ours uses.
struct OwnSlots {
    ceiling: RateLimiter<NotKeyed, InMemoryState, SlotClock, NoOpMiddleware<Nanos>>,
    clock: SlotClock,
    /// Time zero of the slot clock and of the adaptive rate.
    zero: Instant,
    state: Mutex<RateState>,
    /// Wakes the waiting caller after a rate change.
    changed: Notify,
}

struct RateState {
    rate: AdaptiveRate,
    /// Earliest next slot at the adaptive rate.
    next: Instant,
}

impl<A> Gate<A> {
    /// Allows `quota` calls in any second. Starts at `learned`, the rate that an earlier run found, if there is one.
    pub fn new(quota: Qps, quota_use: QuotaUse, learned: Option<Qps>, now: Instant) -> Self {
        Self::with(Slots::Own(Box::new(OwnSlots::new(quota, quota_use, learned, now))), now)
    }

    /// Permits calls in the slots that a database hands out to several processes.
    pub fn shared(slots: Arc<SharedSlots>, now: Instant) -> Self {
        Self::with(Slots::Shared(slots), now)
    }

    fn with(slots: Slots, now: Instant) -> Self {
        Self {
            slots,
            turn: tokio::sync::Mutex::new(()),
            paused_until: Mutex::new(now),
            paused: Notify::new(),
            action: PhantomData,
        }
    }

    /// Returns the end of the pause if it is too long to wait out, so that nothing is prepared in vain.
    pub fn deferred(&self, now: Instant) -> Option<Deferred> {
        let until = match &self.slots {
            Slots::Own(_) => self.paused_until(),
            Slots::Shared(slots) => self.paused_until().max(slots.closed_until(now).unwrap_or(now)),
        };
        (until > now + MAX_INLINE_WAIT).then_some(Deferred { until })
    }

    /// Waits for the next slot. Waits out a short pause and returns a long one.
    pub async fn permit(&self) -> Result<Permit<A>, Deferred> {
        let _waiting = match &self.slots {
            Slots::Own(_) => None,
            Slots::Shared(slots) => Some(slots.wait()),
        };
        let _turn = self.turn.lock().await;
        loop {
            let paused = self.paused.notified();
            let changed = match &self.slots {
                Slots::Own(slots) => slots.changed.notified(),
                Slots::Shared(slots) => slots.changed.notified(),
            };
            let now = Instant::now();
            if let Some(deferred) = self.deferred(now) {
                return Err(deferred);
            }
            let slot = match &self.slots {
                Slots::Own(slots) => Some(slots.next()),
                Slots::Shared(slots) => slots.next(now),
            };
            // Without a slot, look again now and then: the database may be away by then.
            let at = slot.map_or(now + MAX_INLINE_WAIT, |slot| slot.max(self.paused_until()));
            if at > now {
                tokio::select! {
                    biased;
                    () = tokio::time::sleep_until(at) => {}
                    () = changed => {}
                    () = paused => {}
                }
                continue;
            }
            let is_taken = slot.is_some_and(|slot| match &self.slots {
                Slots::Own(slots) => slots.take(at, now),
                Slots::Shared(slots) => slots.take(slot, now),
            });
            if is_taken {
                return Ok(Permit::issue());
            }
        }
    }

    /// Issues no permits for this long, because the service is unavailable or this run may not send.
    pub fn pause(&self, pause: Duration, now: Instant) {
        let mut until = self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        *until = (*until).max(now + pause);
        drop(until);
        self.paused.notify_one();
    }

    /// Issues no permits for this long, because the service asked for it. Holds for all who share the quota.
    pub fn retry_after(&self, pause: Duration, now: Instant) {
        self.pause(pause, now);
        if let Slots::Shared(slots) = &self.slots {
            slots.retry_after(pause);
        }
    }

    /// Adapts the rate to a response and returns the change that is worth reporting.
    pub fn observe(&self, throttled: bool, now: Instant) -> Option<RateChange> {
        match &self.slots {
            Slots::Own(slots) => slots.observe(throttled, now),
            Slots::Shared(slots) => {
                slots.observe(throttled);
                None
            }
        }
    }

    /// Adapts the rate to the result of a call, and pauses for as long as the service asks. A call without an answer of the
    /// service tells nothing about the rate.
    pub fn record<R>(&self, result: &Result<R, CallError>, now: Instant) {
        match result {
            Ok(_) | Err(CallError::Rejected(_)) => drop(self.observe(false, now)),
            Err(CallError::Throttled { retry_after }) => {
                self.observe(true, now);
                if let Some(pause) = retry_after {
                    self.retry_after(*pause, now);
                }
            }
            Err(CallError::NotExecuted(_) | CallError::MaybeExecuted(_) | CallError::Fatal(_)) => {}
        }
    }

    /// Current rate, of all processes that share the quota.
    pub fn rate(&self) -> Qps {
        match &self.slots {
            Slots::Own(slots) => slots.state().rate.current(),
            Slots::Shared(slots) => slots.rate(),
        }
    }

    /// Current rate if throttling has reduced it below the ceiling: the start of the next run.
    pub fn reduced_rate(&self) -> Option<Qps> {
        match &self.slots {
            Slots::Own(slots) => {
                let state = slots.state();
                state.rate.is_reduced().then(|| state.rate.current())
            }
            Slots::Shared(slots) => slots.reduced_rate(),
        }
    }

    /// Whether the database that hands out the slots does not answer.
    pub fn is_quota_away(&self) -> bool {
        match &self.slots {
            Slots::Own(_) => false,
            Slots::Shared(slots) => slots.is_away(),
        }
    }

    fn paused_until(&self) -> Instant {
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OwnSlots {
    fn new(quota: Qps, quota_use: QuotaUse, learned: Option<Qps>, now: Instant) -> Self {
        let ceiling = quota.scaled(QUOTA_SHARE);
        let clock = SlotClock::default();
        let rate = AdaptiveRate::new(quota_use, ceiling, learned);
        let limit =
            Quota::with_period(ceiling.gap()).expect("the gap of a rate is never zero").allow_burst(NonZeroU32::MIN);
        Self {
            ceiling: RateLimiter::direct_with_clock(limit, clock.clone()),
            clock,
            zero: now,
            state: Mutex::new(RateState { next: now + rate.gap().min(MAX_START_DELAY), rate }),
            changed: Notify::new(),
        }
    }

    fn next(&self) -> Instant {
        self.state().next
    }

    /// Takes a due slot, unless the ceiling forbids it.
    fn take(&self, slot: Instant, now: Instant) -> bool {
        let charged = slot.max(now.checked_sub(LATENESS_TOLERANCE).unwrap_or(slot));
        self.clock.set(charged.saturating_duration_since(self.zero));
        let mut state = self.state();
        match self.ceiling.check() {
            Ok(()) => {
                state.next = charged + state.rate.gap();
                true
            }
            Err(not_yet) => {
                state.next = self.zero + Duration::from(not_yet.earliest_possible());
                false
            }
        }
    }

    fn observe(&self, throttled: bool, now: Instant) -> Option<RateChange> {
        let mut state = self.state();
        let before = state.rate.gap();
        let change = state.rate.observe(throttled, now.saturating_duration_since(self.zero));
        let after = state.rate.gap();
        // A lower rate also delays the slot that a caller is already waiting for.
        state.next += after.saturating_sub(before);
        drop(state);
        if after != before {
            self.changed.notify_one();
        }
        change
    }

    fn state(&self) -> std::sync::MutexGuard<'_, RateState> {
        // No holder of this lock panics, and every state is valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Clock of `governor`: the time of the slot that is about to be taken, not of the late wake-up.
#[derive(Debug, Clone, Default)]
struct SlotClock(Arc<AtomicU64>);

impl SlotClock {
    fn set(&self, since_zero: Duration) {
        // A u64 holds 584 years of nanoseconds.
        self.0.store(u64::try_from(since_zero.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}

impl Clock for SlotClock {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        Nanos::new(self.0.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::action::AddFaceRecord;

    const QUOTA: usize = 50;

    fn gate() -> Gate<AddFaceRecord> {
        Gate::new(Qps::new(QUOTA as f64).unwrap(), QuotaUse::Dedicated, None, Instant::now())
    }

    /// Most calls in any second (half open); `sent` is in order.
    fn max_calls_in_any_second(sent: &[Instant]) -> usize {
        let within =
            |from: usize| sent[from..].iter().take_while(|&&at| at < sent[from] + Duration::from_secs(1)).count();
        (0..sent.len()).map(within).max().unwrap_or(0)
    }

    async fn send(gate: &Gate<AddFaceRecord>, count: usize) -> Vec<Instant> {
        let mut sent = Vec::new();
        for _ in 0..count {
            let _ = gate.permit().await.unwrap();
            sent.push(Instant::now());
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn steady_calls_use_98_percent_of_the_quota() {
        let gate = gate();
        let sent = send(&gate, 1_001).await;
        let rate = 1_000.0 / (sent[1_000] - sent[0]).as_secs_f64();
        assert!((48.95..=49.06).contains(&rate), "{rate}");
        assert_eq!(max_calls_in_any_second(&sent), QUOTA);
    }

    #[tokio::test(start_paused = true)]
    async fn stall_is_not_caught_up() {
        let gate = gate();
        let mut sent = send(&gate, 100).await;
        tokio::time::advance(Duration::from_secs(30)).await;
        let after = send(&gate, 100).await;
        assert!(after[2] - after[0] >= Duration::from_millis(35), "a burst after the stall");
        sent.extend(after);
        assert!(max_calls_in_any_second(&sent) <= QUOTA);
    }

    #[tokio::test(start_paused = true)]
    async fn long_pause_is_returned_and_short_one_waited_out() {
        let gate = gate();
        let start = Instant::now();
        gate.pause(Duration::from_millis(700), start);
        let _ = gate.permit().await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(700));
        let now = Instant::now();
        gate.pause(Duration::from_secs(60), now);
        assert_eq!(gate.permit().await.unwrap_err(), Deferred { until: now + Duration::from_secs(60) });
    }

    #[tokio::test(start_paused = true)]
    async fn pause_reaches_a_waiting_caller() {
        let gate: Gate<AddFaceRecord> = Gate::new(Qps::new(2.0).unwrap(), QuotaUse::Dedicated, None, Instant::now());
        let _ = gate.permit().await.unwrap();
        let start = Instant::now();
        let (second, ()) = tokio::join!(gate.permit(), async { gate.pause(Duration::from_secs(9), Instant::now()) });
        assert_eq!(second.unwrap_err().until, start + Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_do_not_add_calls_to_a_second() {
        let mut sent = Vec::new();
        for calls in [75, 1, 2, 1, 1, 30, 1, 60] {
            // The next process starts at the moment of the previous one's last call.
            sent.extend(send(&gate(), calls).await);
        }
        assert!(max_calls_in_any_second(&sent) <= QUOTA, "{}", max_calls_in_any_second(&sent));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_are_served_in_order() {
        let gate = Arc::new(gate());
        let (done, mut order) = tokio::sync::mpsc::unbounded_channel();
        for caller in 0..64 {
            let (gate, done) = (gate.clone(), done.clone());
            tokio::spawn(async move {
                let _ = gate.permit().await.unwrap();
                done.send(caller).unwrap();
            });
            tokio::task::yield_now().await;
        }
        drop(done);
        let mut served = Vec::new();
        while let Some(caller) = order.recv().await {
            served.push(caller);
        }
        assert_eq!(served, (0..64).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// Holds for late timers, stalls, and network delays of up to 14 ms.
        #[test]
        fn no_second_holds_more_than_the_quota(
            late_us in proptest::collection::vec((0_u64..60_000, 0_u64..14_000), 400),
            quota in 1_usize..120,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let slots = OwnSlots::new(Qps::new(quota as f64).unwrap(), QuotaUse::Dedicated, None, Instant::now());
                let (mut sent, mut received) = (Vec::new(), Vec::new());
                for (late, network_delay) in late_us {
                    // Usually slightly late, sometimes a stall.
                    let late = if late > 55_000 { late * 10 } else { late / 30 };
                    let slot = slots.next();
                    tokio::time::advance(slot.saturating_duration_since(Instant::now()) + Duration::from_micros(late)).await;
                    if slots.take(slot, Instant::now()) {
                        sent.push(Instant::now());
                        received.push(Instant::now() + Duration::from_micros(network_delay));
                    }
                }
                prop_assert!(sent.len() > 390, "the ceiling refused its own slots");
                prop_assert!(max_calls_in_any_second(&sent) <= quota, "{} in a second of {quota}", max_calls_in_any_second(&sent));
                received.sort();
                prop_assert!(max_calls_in_any_second(&received) <= quota, "{} received of {quota}", max_calls_in_any_second(&received));
                Ok(())
            })?;
        }
    }
}
