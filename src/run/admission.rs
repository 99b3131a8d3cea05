//! Who may write an intent and go to the gate.
//!
//! Few at a time: what waits at the gate has its intent on disk, and is in doubt if the process dies there. And only one
//! while it is not known whether the service answers at all: one wrong key must not cost a thousand refused calls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, MutexGuard, Semaphore, SemaphorePermit},
    time::Instant,
};

use crate::pace::{Breaker, Qps};

/// Time that the antechamber bridges: an intent's commit takes up to about 10 ms, on a slow disk more.
const BRIDGED: Duration = Duration::from_millis(100);
/// At least one waits while the next one writes its intent.
const LEAST: usize = 2;

/// See the module.
pub(super) struct Admission {
    antechamber: Semaphore,
    probe: Turn<()>,
    breaker: Mutex<Breaker>,
}

/// A place. Given back when it is dropped.
pub(super) enum Entry<'a> {
    /// One of several; to be dropped at the gate.
    Open {
        /// The place before the gate.
        place: SemaphorePermit<'a>,
    },
    /// The only one; to be kept until the answer is known.
    Probe {
        /// The turn.
        turn: MutexGuard<'a, ()>,
    },
}

impl Admission {
    pub(super) fn new(quota: Qps) -> Self {
        let places = (quota.get() * BRIDGED.as_secs_f64()).ceil() as usize;
        Self {
            antechamber: Semaphore::new(places.max(LEAST)),
            probe: Turn::new(()),
            breaker: Mutex::new(Breaker::default()),
        }
    }

    /// Waits for a place.
    pub(super) async fn enter(&self) -> Entry<'_> {
        loop {
            if self.is_probing() {
                let turn = self.probe.lock().await;
                if self.is_probing() {
                    return Entry::Probe { turn };
                }
            } else {
                let place = self.antechamber.acquire().await.expect("the semaphore is never closed");
                if !self.is_probing() {
                    return Entry::Open { place };
                }
            }
        }
    }

    /// A conclusive answer. True if it ends an absence that was told of.
    pub(super) fn answered(&self) -> bool {
        self.breaker().answered()
    }

    /// An answer that says nothing. Some: nobody is to call for this long.
    pub(super) fn faulted(&self, now: Instant) -> Option<Duration> {
        self.breaker().faulted(now)
    }

    /// Is it not known whether the service answers at all?
    pub(super) fn is_probing(&self) -> bool {
        self.breaker().is_probing()
    }

    /// How long it has been away.
    pub(super) fn away_for(&self, now: Instant) -> Duration {
        self.breaker().away_for(now)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn one_goes_first_until_an_answer_is_conclusive() {
        let admission = Admission::new(Qps::new(50.0).unwrap());
        let first = admission.enter().await;
        assert!(matches!(first, Entry::Probe { .. }));
        assert!(admission.enter().now_or_never().is_none(), "a second call before the first is answered");
        admission.answered();
        drop(first);
        let places: Vec<_> = (0..5).map_while(|_| admission.enter().now_or_never()).collect();
        assert_eq!(places.len(), 5);
        assert!(admission.enter().now_or_never().is_none(), "more intents at the gate than 100 ms of calls");
    }
}
