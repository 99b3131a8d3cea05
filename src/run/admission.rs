//! Limits the items that may write an intent and wait at the gate.
//!
//! Only few at a time: an item at the gate has its intent on disk and is in doubt after a crash. Only one while it is
//! unknown whether the service answers: a wrong key must not cost a thousand refused calls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, MutexGuard, Semaphore},
    time::Instant,
};

use crate::pace::{CircuitBreaker, Qps};

/// Calls of this duration form a batch, which covers the commit of the next one: up to about 10 ms, on a slow disk
/// more.
const BATCH_DURATION: Duration = Duration::from_millis(60);
/// Batches at the gate: while one passes, the intents of the next are written in one commit.
const BATCHES: usize = 2;

/// The slots at the gate.
pub(super) struct Admission {
    slots: Semaphore,
    /// Slots that are released together.
    batch: usize,
    /// Slots that are returned and wait until a batch is complete.
    returned: Mutex<usize>,
    probe: Turn<()>,
    breaker: Mutex<CircuitBreaker>,
}

/// An admitted item. Its slot is returned on drop.
pub(super) enum Entry<'a> {
    /// One of several; to be dropped after the gate.
    Open {
        /// The slot at the gate.
        slot: Slot<'a>,
    },
    /// The only one; to be kept until the answer.
    Probe {
        /// Lock of the only call.
        turn: MutexGuard<'a, ()>,
    },
}

/// A slot at the gate.
pub(super) struct Slot<'a>(&'a Admission);

impl Drop for Slot<'_> {
    /// Holders of slots pass the gate without those who wait for one, so every batch completes eventually.
    fn drop(&mut self) {
        let Admission { slots, batch, returned, .. } = self.0;
        let mut returned = returned.lock().unwrap_or_else(PoisonError::into_inner);
        *returned += 1;
        if *returned == *batch {
            *returned = 0;
            slots.add_permits(*batch);
        }
    }
}

impl Admission {
    pub(super) fn new(quota: Qps) -> Self {
        let batch = (quota.get() * BATCH_DURATION.as_secs_f64()).ceil().max(1.0) as usize;
        Self {
            slots: Semaphore::new(BATCHES * batch),
            batch,
            returned: Mutex::default(),
            probe: Turn::new(()),
            breaker: Mutex::new(CircuitBreaker::default()),
        }
    }

    /// Waits for a slot.
    pub(super) async fn admit(&self) -> Entry<'_> {
        loop {
            if self.is_probing() {
                let turn = self.probe.lock().await;
                if self.is_probing() {
                    return Entry::Probe { turn };
                }
            } else {
                self.slots.acquire().await.expect("the semaphore is never closed").forget();
                let slot = Slot(self);
                if !self.is_probing() {
                    return Entry::Open { slot };
                }
            }
        }
    }

    /// Records a conclusive answer. Returns whether it ends a reported outage.
    pub(super) fn on_response(&self) -> bool {
        self.breaker().on_response()
    }

    /// Records an inconclusive call. Returns the pause before the next call, if any.
    pub(super) fn on_failure(&self, now: Instant) -> Option<Duration> {
        self.breaker().on_failure(now)
    }

    /// Whether it is unknown if the service answers.
    pub(super) fn is_probing(&self) -> bool {
        self.breaker().is_probing()
    }

    /// Duration of the current outage.
    pub(super) fn outage(&self, now: Instant) -> Duration {
        self.breaker().outage(now)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, CircuitBreaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    #[tokio::test]
    async fn only_one_call_until_first_conclusive_answer() {
        let admission = Admission::new(Qps::new(50.0).unwrap());
        let first = admission.admit().await;
        assert!(matches!(first, Entry::Probe { .. }));
        assert!(admission.admit().now_or_never().is_none(), "a second call before the first is answered");
        admission.on_response();
        drop(first);
        let mut places: Vec<_> = (0..6).map_while(|_| admission.admit().now_or_never()).collect();
        assert_eq!(places.len(), 6);
        assert!(admission.admit().now_or_never().is_none(), "more intents at the gate than 120 ms of calls");
        // A batch is admitted together, so that its intents share a commit.
        places.truncate(4);
        assert!(admission.admit().now_or_never().is_none(), "two are no batch");
        places.truncate(3);
        places.extend((0..3).map_while(|_| admission.admit().now_or_never()));
        assert_eq!(places.len(), 6);
        assert!(admission.admit().now_or_never().is_none());
        // In whatever order slots are returned, no item waits for ever.
        for _ in 0..100 {
            places.remove(0);
            places.extend(std::iter::from_fn(|| admission.admit().now_or_never()));
            assert!(places.len() > 3, "{}", places.len());
        }
    }
}
