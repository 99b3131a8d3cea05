//! Slots of a quota that several processes share.
//!
//! A database hands out the slots, in its own time and over all processes. `quota` asks it for as many as callers wait for,
//! translates their times to this machine's clock and puts them here. It takes what the service answered from here, because
//! the rate is decided for all processes together. This module does no I/O.
//!
//! A slot that is not used within [`LATENESS_TOLERANCE`] of its time is lost. Nobody else can use it either, but a later use
//! could put one call too many into a second. Without the database there are no slots, so nothing is sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::Notify, time::Instant};

use super::{
    Qps,
    gate::{LATENESS_TOLERANCE, MAX_INLINE_WAIT},
};

/// Most slots asked for at once: 100 ms at 50 calls a second, which is what a process loses when it stops.
const MAX_BLOCK: usize = 5;
/// New slots are asked for when no more than this many are left.
const LOW_WATER: usize = 2;

/// The slots in hand and what is to be told to the database.
#[derive(Debug)]
pub struct SharedSlots {
    state: Mutex<State>,
    /// Wakes the caller that waits for a slot.
    pub(super) changed: Notify,
    /// Wakes whoever talks to the database.
    wake: Arc<Notify>,
}

#[derive(Debug)]
struct State {
    /// Times of the slots, in order.
    slots: VecDeque<Instant>,
    /// Callers that wait for a permit.
    waiting: usize,
    rate: Qps,
    is_reduced: bool,
    /// No slots before this time: the service asked for a pause.
    paused_until: Option<Instant>,
    is_away: bool,
    feedback: Feedback,
}

/// What the service answered since the database was last told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    /// Answers that were not throttled.
    pub accepted: u32,
    /// Throttled answers.
    pub throttled: u32,
    /// Pause that the service asked for.
    pub pause: Option<Duration>,
}

impl Feedback {
    /// Adds what could not be delivered.
    fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.throttled += other.throttled;
        self.pause = self.pause.max(other.pause);
    }
}

/// A caller that waits for a permit, until it is dropped.
#[derive(Debug)]
pub struct Waiting<'a>(&'a SharedSlots);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.state().waiting -= 1;
    }
}

impl SharedSlots {
    /// No slots yet. `wake` is notified when slots are wanted or a throttled answer is to be told.
    pub fn new(rate: Qps, wake: Arc<Notify>) -> Self {
        Self {
            state: Mutex::new(State {
                slots: VecDeque::new(),
                waiting: 0,
                rate,
                is_reduced: false,
                paused_until: None,
                is_away: false,
                feedback: Feedback::default(),
            }),
            changed: Notify::new(),
            wake,
        }
    }

    /// How many slots to ask the database for now.
    pub fn wanted(&self, now: Instant) -> usize {
        let mut state = self.state();
        state.drop_late(now);
        if state.slots.len() > LOW_WATER || state.paused_until.is_some_and(|until| until > now + MAX_INLINE_WAIT) {
            return 0;
        }
        state.waiting.saturating_sub(state.slots.len()).min(MAX_BLOCK)
    }

    /// Adds slots that the database has handed out, in order.
    pub fn fill(&self, slots: impl IntoIterator<Item = Instant>) {
        let mut state = self.state();
        state.slots.extend(slots);
        drop(state);
        self.changed.notify_one();
    }

    /// Gives up the slots in hand: the connection or the database's clock has changed, so their times mean nothing.
    pub fn clear(&self) {
        self.state().slots.clear();
    }

    /// Records whether the database answers.
    pub fn set_away(&self, is_away: bool) {
        self.state().is_away = is_away;
        self.changed.notify_one();
    }

    /// Records the rate that was decided for all processes, and whether throttling has reduced it.
    pub fn set_rate(&self, rate: Qps, is_reduced: bool) {
        let mut state = self.state();
        (state.rate, state.is_reduced) = (rate, is_reduced);
    }

    /// Records that nobody gets slots before this time.
    pub fn set_paused(&self, until: Instant) {
        self.state().paused_until = Some(until);
        self.changed.notify_one();
    }

    /// Takes what is to be told to the database.
    pub fn take_feedback(&self) -> Feedback {
        std::mem::take(&mut self.state().feedback)
    }

    /// Puts back what could not be told.
    pub fn return_feedback(&self, feedback: Feedback) {
        self.state().feedback.add(feedback);
    }

    /// Whether something waits that all processes must know at once.
    pub fn has_urgent_feedback(&self) -> bool {
        let feedback = self.state().feedback;
        feedback.throttled > 0 || feedback.pause.is_some()
    }

    pub(super) fn wait(&self) -> Waiting<'_> {
        self.state().waiting += 1;
        self.wake.notify_one();
        Waiting(self)
    }

    /// Time of the next slot in hand.
    pub(super) fn next(&self, now: Instant) -> Option<Instant> {
        let mut state = self.state();
        state.drop_late(now);
        let next = state.slots.front().copied();
        if next.is_none() {
            self.wake.notify_one();
        }
        next
    }

    /// Takes the slot if it is still in hand and due.
    pub(super) fn take(&self, slot: Instant, now: Instant) -> bool {
        let mut state = self.state();
        state.drop_late(now);
        let is_due = state.slots.front().is_some_and(|&front| front == slot && front <= now);
        if is_due {
            state.slots.pop_front();
            if state.slots.len() <= LOW_WATER {
                self.wake.notify_one();
            }
        }
        is_due
    }

    /// Until when there are no slots.
    pub(super) fn closed_until(&self, now: Instant) -> Option<Instant> {
        let state = self.state();
        // Slightly longer than a caller waits, so that it gives its memory and its intent back.
        let away = state.is_away.then(|| now + 2 * MAX_INLINE_WAIT);
        state.paused_until.max(away)
    }

    pub(super) fn observe(&self, throttled: bool) {
        let feedback = &mut self.state().feedback;
        if throttled {
            feedback.throttled += 1;
            self.wake.notify_one();
        } else {
            feedback.accepted += 1;
        }
    }

    pub(super) fn retry_after(&self, pause: Duration) {
        self.state().feedback.add(Feedback { pause: Some(pause), ..Feedback::default() });
        self.wake.notify_one();
    }

    pub(super) fn rate(&self) -> Qps {
        self.state().rate
    }

    pub(super) fn reduced_rate(&self) -> Option<Qps> {
        let state = self.state();
        state.is_reduced.then_some(state.rate)
    }

    pub(super) fn is_away(&self) -> bool {
        self.state().is_away
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        // No holder of this lock panics, and every state is valid.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn drop_late(&mut self, now: Instant) {
        while self.slots.front().is_some_and(|&slot| slot + LATENESS_TOLERANCE < now) {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{domain::action::AddFaceRecord, pace::Gate};

    fn shared() -> (Arc<SharedSlots>, Gate<AddFaceRecord>) {
        let slots = Arc::new(SharedSlots::new(Qps::new(50.0).unwrap(), Arc::default()));
        slots.set_away(false);
        (slots.clone(), Gate::shared(slots, Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn permits_wait_for_their_slots() {
        let (slots, gate) = shared();
        let start = Instant::now();
        let at = [30, 50, 70].map(|ms| start + Duration::from_millis(ms));
        let fill = async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            slots.fill(at);
        };
        let take = async {
            for slot in at {
                let _ = gate.permit().await.unwrap();
                assert_eq!(Instant::now(), slot);
            }
        };
        tokio::join!(fill, take);
        assert_eq!(slots.wanted(Instant::now()), 0, "nobody waits");
    }

    #[tokio::test(start_paused = true)]
    async fn as_many_slots_are_wanted_as_callers_wait_for() {
        let (slots, gate) = shared();
        let mut callers: Vec<_> = (0..7).map(|_| Box::pin(gate.permit())).collect();
        for caller in &mut callers {
            assert!(futures_util::poll!(caller).is_pending());
        }
        assert_eq!(slots.wanted(Instant::now()), MAX_BLOCK);
        callers.truncate(2);
        assert_eq!(slots.wanted(Instant::now()), 2);
        slots.fill([Instant::now() + Duration::from_millis(20)]);
        assert_eq!(slots.wanted(Instant::now()), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn callers_are_deferred_while_the_database_is_away() {
        let (slots, gate) = shared();
        slots.fill([Instant::now() + Duration::from_millis(20)]);
        slots.set_away(true);
        assert!(gate.permit().await.is_err());
        slots.set_away(false);
        assert!(gate.permit().await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn retry_after_pauses_this_process_and_is_told() {
        let (slots, gate) = shared();
        gate.observe(false, Instant::now());
        gate.observe(true, Instant::now());
        gate.retry_after(Duration::from_secs(3), Instant::now());
        assert!(gate.permit().await.is_err());
        assert!(slots.has_urgent_feedback());
        let told = Feedback { accepted: 1, throttled: 1, pause: Some(Duration::from_secs(3)) };
        assert_eq!(slots.take_feedback(), told);
        slots.return_feedback(told);
        assert_eq!(slots.take_feedback(), told);
        assert!(!slots.has_urgent_feedback());
    }

    proptest! {
        /// However late the timers are, and whenever the slots come.
        #[test]
        fn no_permit_is_early_or_late(
            gaps_us in proptest::collection::vec(1_000_u64..60_000, 1..60),
            late_us in proptest::collection::vec(0_u64..20_000, 60),
        ) {
            let (slots, mut at, mut now) = (SharedSlots::new(Qps::new(50.0).unwrap(), Arc::default()), Instant::now(), Instant::now());
            for (gap, late) in gaps_us.into_iter().zip(late_us) {
                at += Duration::from_micros(gap);
                slots.fill([at]);
                now = now.max(at + Duration::from_micros(late));
                let taken = slots.next(now).is_some_and(|slot| slots.take(slot, now));
                prop_assert_eq!(taken, now <= at + LATENESS_TOLERANCE, "{:?} late", now - at);
                prop_assert!(!slots.take(at, now), "one slot was taken twice");
            }
        }
    }
}
