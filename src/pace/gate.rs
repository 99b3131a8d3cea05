//! One API action's gate: first come first served, evenly spaced, never catching up.
//!
//! Two limits stand one behind the other. The adaptive rate moves, by what the service answers. `governor` (GCRA, burst
//! 1) is the constant ceiling behind it: whatever a bug in the moving part might do, the ceiling holds.
//!
//! # Why no second holds more than the quota
//!
//! Slots are [`QUOTA_SHARE`] of the quota apart, so that `quota` gaps last 1/0.981 s = 1,019 ms. A timer wakes late, by
//! a millisecond or so; were each gap counted from the late wake, the rate would sink by 3 %. So a call that goes at
//! `a` for a slot at `s` is charged at `max(s, a - LATENESS_TOLERANCE)`: lateness up to [`LATENESS_TOLERANCE`] is not added to the next gap,
//! lateness beyond it is lost for good. Calls `quota` apart are then at least 1,019 ms - `LATENESS_TOLERANCE` = 1,014 ms apart,
//! whatever the timers do.
//!
//! This holds for calls as they are sent. As the service receives them, it holds as long as the way there (this machine's
//! scheduler, the network) delays no call by 14 ms more than the call that comes `quota` later. The service refuses a
//! call that is too early, and the call goes again; nothing is lost but that call.
//!
//! A restart changes nothing of this: an earlier process sent its last call before this one began, and the first slot is
//! a gap after the beginning.
//!
//! What must not be swapped: the clock is set, then `governor` is asked, then the permit is given, all under the turn.

use std::{
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

use super::{AdaptiveRate, Change, Qps, QuotaUse};
use crate::domain::Permit;

/// Share of the quota that the even pace uses. On an idle machine, 0.99 is enough for a sliding second at the server
/// (reference, performance.md). With 10 to 15 busy processes on 2 cores, a server that was not held up itself counted 51
/// in 5 of 15 rounds of 400 calls at 0.99, 52 in 1 of 9 at 0.985, and never more than 50 in 15 at 0.981. That costs 0.9 %.
pub(super) const QUOTA_SHARE: f64 = 0.981;
/// Lateness of a wake-up that does not delay the next slot: a part of the 19 ms that [`QUOTA_SHARE`] leaves in a second.
const LATENESS_TOLERANCE: Duration = Duration::from_millis(5);
/// The first slot is not later than this: no second can hold more than one call of an earlier process as slow as that.
const LONGEST_START: Duration = Duration::from_secs(1);
/// A pause of more than this gives the callers' bytes and intents back instead of keeping them waiting.
const MAX_INLINE_WAIT: Duration = Duration::from_secs(1);

/// The pause is long: come back at this time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deferred {
    /// When the gate opens again.
    pub until: Instant,
}

/// See the module.
pub struct Gate {
    ceiling: RateLimiter<NotKeyed, InMemoryState, SlotClock, NoOpMiddleware<Nanos>>,
    clock: SlotClock,
    /// The zero of the slot clock.
    zero: Instant,
    /// Held by the one caller that waits for the next slot; the others queue behind it, in order.
    turn: tokio::sync::Mutex<()>,
    pace: Mutex<RateState>,
    /// A pause or a new rate makes the waiting caller look again.
    moved: Notify,
}

struct RateState {
    rate: AdaptiveRate,
    /// The earliest next slot by the moving rate.
    next: Instant,
    /// Nobody goes before this.
    paused_until: Instant,
}

impl Gate {
    /// A gate for a quota of `quota` calls in any second, starting at `learned`, the rate that an earlier run found.
    pub fn new(quota: Qps, quota_use: QuotaUse, learned: Option<Qps>, now: Instant) -> Self {
        let ceiling = quota.scaled(QUOTA_SHARE);
        let clock = SlotClock::default();
        let rate = AdaptiveRate::new(quota_use, ceiling, learned);
        let limit = Quota::with_period(ceiling.gap()).expect("a rate's gap is never zero").allow_burst(NonZeroU32::MIN);
        Self {
            ceiling: RateLimiter::direct_with_clock(limit, clock.clone()),
            clock,
            zero: now,
            turn: tokio::sync::Mutex::new(()),
            pace: Mutex::new(RateState { next: now + rate.gap().min(LONGEST_START), rate, paused_until: now }),
            moved: Notify::new(),
        }
    }

    /// Is the pause too long to be waited out? Then nothing need be prepared for it.
    pub fn deferred(&self, now: Instant) -> Option<Deferred> {
        let until = self.pace().paused_until;
        (until > now + MAX_INLINE_WAIT).then_some(Deferred { until })
    }

    /// Waits for the next slot. Short pauses are waited out; a long one is handed back.
    pub async fn permit(&self) -> Result<Permit, Deferred> {
        let _turn = self.turn.lock().await;
        loop {
            let moved = self.moved.notified();
            if let Some(deferred) = self.deferred(Instant::now()) {
                return Err(deferred);
            }
            let slot = {
                let pace = self.pace();
                pace.next.max(pace.paused_until)
            };
            if slot > Instant::now() {
                tokio::select! {
                    () = tokio::time::sleep_until(slot) => {}
                    () = moved => {}
                }
                continue;
            }
            if let Some(permit) = self.take(slot, Instant::now()) {
                return Ok(permit);
            }
        }
    }

    /// Takes the slot that has come, unless the ceiling says that it has not.
    fn take(&self, slot: Instant, now: Instant) -> Option<Permit> {
        let charged = slot.max(now.checked_sub(LATENESS_TOLERANCE).unwrap_or(slot));
        self.clock.set(charged.saturating_duration_since(self.zero));
        let mut pace = self.pace();
        match self.ceiling.check() {
            Ok(()) => {
                pace.next = charged + pace.rate.gap();
                Some(Permit::issue())
            }
            Err(not_yet) => {
                pace.next = self.zero + Duration::from(not_yet.earliest_possible());
                None
            }
        }
    }

    /// Nobody goes for this long: the service asked for it, or is away.
    pub fn pause(&self, pause: Duration, now: Instant) {
        let mut pace = self.pace();
        pace.paused_until = pace.paused_until.max(now + pause);
        drop(pace);
        self.moved.notify_one();
    }

    /// Takes in whether a call was throttled, and says what became of the rate.
    pub fn observe(&self, throttled: bool, now: Instant) -> Option<Change> {
        let mut pace = self.pace();
        let before = pace.rate.gap();
        let change = pace.rate.observe(throttled, now);
        let after = pace.rate.gap();
        // The slot that is being waited for moves with the rate.
        pace.next = if after > before { pace.next + (after - before) } else { pace.next };
        drop(pace);
        if after != before {
            self.moved.notify_one();
        }
        change
    }

    /// Calls a second, as they may go now.
    pub fn rate(&self) -> Qps {
        self.pace().rate.current()
    }

    /// What the next run is to begin with: the rate, where the service has brought it below the ceiling.
    pub fn learned(&self) -> Option<Qps> {
        let pace = self.pace();
        pace.rate.is_reduced().then(|| pace.rate.current())
    }

    fn pace(&self) -> std::sync::MutexGuard<'_, RateState> {
        // Nothing panics while it holds this lock, and every state of it is a usable one.
        self.pace.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The time that `governor` sees: that of the slot which is about to be taken, not that of the late timer.
#[derive(Debug, Clone, Default)]
struct SlotClock(Arc<AtomicU64>);

impl SlotClock {
    fn set(&self, since_zero: Duration) {
        // 584 years of nanoseconds fit.
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

    const QUOTA: usize = 50;

    fn gate() -> Gate {
        Gate::new(Qps::new(QUOTA as f64).unwrap(), QuotaUse::Dedicated, None, Instant::now())
    }

    /// Most calls in any one second (half open), with `sent` in order.
    fn worst_second(sent: &[Instant]) -> usize {
        let within =
            |from: usize| sent[from..].iter().take_while(|&&at| at < sent[from] + Duration::from_secs(1)).count();
        (0..sent.len()).map(within).max().unwrap_or(0)
    }

    async fn send(gate: &Gate, count: usize) -> Vec<Instant> {
        let mut sent = Vec::new();
        for _ in 0..count {
            let _ = gate.permit().await.unwrap();
            sent.push(Instant::now());
        }
        sent
    }

    #[tokio::test(start_paused = true)]
    async fn even_pace_uses_98_percent_of_the_quota() {
        let gate = gate();
        let sent = send(&gate, 1_001).await;
        let rate = 1_000.0 / (sent[1_000] - sent[0]).as_secs_f64();
        assert!((48.95..=49.06).contains(&rate), "{rate}");
        assert_eq!(worst_second(&sent), QUOTA);
    }

    #[tokio::test(start_paused = true)]
    async fn time_lost_is_lost() {
        let gate = gate();
        let mut sent = send(&gate, 100).await;
        tokio::time::advance(Duration::from_secs(30)).await;
        let after = send(&gate, 100).await;
        assert!(after[2] - after[0] >= Duration::from_millis(35), "a burst after the stall");
        sent.extend(after);
        assert!(worst_second(&sent) <= QUOTA);
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
    async fn pause_reaches_the_caller_that_waits_already() {
        let gate = Gate::new(Qps::new(2.0).unwrap(), QuotaUse::Dedicated, None, Instant::now());
        let _ = gate.permit().await.unwrap();
        let start = Instant::now();
        let (second, ()) = tokio::join!(gate.permit(), async { gate.pause(Duration::from_secs(9), Instant::now()) });
        assert_eq!(second.unwrap_err().until, start + Duration::from_secs(9));
    }

    #[tokio::test(start_paused = true)]
    async fn restarts_do_not_add_calls_to_a_second() {
        let mut sent = Vec::new();
        for calls in [75, 1, 2, 1, 1, 30, 1, 60] {
            // The next process begins at the very moment of the last one's last call.
            sent.extend(send(&gate(), calls).await);
        }
        assert!(worst_second(&sent) <= QUOTA, "{}", worst_second(&sent));
    }

    #[tokio::test(start_paused = true)]
    async fn waiting_callers_go_in_the_order_of_their_coming() {
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
        let mut came = Vec::new();
        while let Some(caller) = order.recv().await {
            came.push(caller);
        }
        assert_eq!(came, (0..64).collect::<Vec<_>>());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        /// However late the timers wake, whatever stalls come between, and if the way delays some by up to 14 ms.
        #[test]
        fn no_second_holds_more_than_the_quota(
            late_us in proptest::collection::vec((0_u64..60_000, 0_u64..14_000), 400),
            quota in 1_usize..120,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            runtime.block_on(async {
                let gate = Gate::new(Qps::new(quota as f64).unwrap(), QuotaUse::Dedicated, None, Instant::now());
                let (mut sent, mut received) = (Vec::new(), Vec::new());
                for (late, on_the_way) in late_us {
                    // Mostly a little late, now and then a stall.
                    let late = if late > 55_000 { late * 10 } else { late / 30 };
                    let slot = { let pace = gate.pace(); pace.next.max(pace.paused_until) };
                    tokio::time::advance(slot.saturating_duration_since(Instant::now()) + Duration::from_micros(late)).await;
                    if gate.take(slot, Instant::now()).is_some() {
                        sent.push(Instant::now());
                        received.push(Instant::now() + Duration::from_micros(on_the_way));
                    }
                }
                prop_assert!(sent.len() > 390, "the ceiling refused slots of its own");
                prop_assert!(worst_second(&sent) <= quota, "{} in a second of {quota}", worst_second(&sent));
                received.sort();
                prop_assert!(worst_second(&received) <= quota, "{} received of {quota}", worst_second(&received));
                Ok(())
            })?;
        }
    }
}
