//! Who may write an intent and go to the gate.
//!
//! Few at a time: what waits at the gate has its intent on disk, and is in doubt if the process dies there. And only one
//! while it is not known whether the service answers at all: one wrong key must not cost a thousand refused calls.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turn, MutexGuard, Semaphore},
    time::Instant,
};

use crate::pace::{CircuitBreaker, Qps};

/// Time that one group bridges while the next one writes its intents: a commit takes up to about 10 ms, on a slow disk
/// more.
const PROBE_GRACE: Duration = Duration::from_millis(60);
/// Groups before the gate: while one goes through it, the next one's intents are written, in one commit.
const GROUPS: usize = 2;

/// See the module.
pub(super) struct Admission {
    antechamber: Semaphore,
    /// Places that are let in together.
    group: usize,
    /// Places that have been given back, and wait until they are a group.
    given_back: Mutex<usize>,
    probe: Turn<()>,
    breaker: Mutex<CircuitBreaker>,
}

/// A place. Given back when it is dropped.
pub(super) enum Entry<'a> {
    /// One of several; to be dropped at the gate.
    Open {
        /// The place before the gate.
        place: Slot<'a>,
    },
    /// The only one; to be kept until the answer is known.
    Probe {
        /// The turn.
        turn: MutexGuard<'a, ()>,
    },
}

/// A place before the gate.
pub(super) struct Slot<'a>(&'a Admission);

impl Drop for Slot<'_> {
    /// Whoever holds one comes to the gate without those who wait for one: in the end there is always a group.
    fn drop(&mut self) {
        let Admission { antechamber, group, given_back, .. } = self.0;
        let mut given_back = given_back.lock().unwrap_or_else(PoisonError::into_inner);
        *given_back += 1;
        if *given_back == *group {
            *given_back = 0;
            antechamber.add_permits(*group);
        }
    }
}

impl Admission {
    pub(super) fn new(quota: Qps) -> Self {
        let group = (quota.get() * PROBE_GRACE.as_secs_f64()).ceil().max(1.0) as usize;
        Self {
            antechamber: Semaphore::new(GROUPS * group),
            group,
            given_back: Mutex::default(),
            probe: Turn::new(()),
            breaker: Mutex::new(CircuitBreaker::default()),
        }
    }

    /// Waits for a place.
    pub(super) async fn admit(&self) -> Entry<'_> {
        loop {
            if self.is_probing() {
                let turn = self.probe.lock().await;
                if self.is_probing() {
                    return Entry::Probe { turn };
                }
            } else {
                self.antechamber.acquire().await.expect("the semaphore is never closed").forget();
                let place = Slot(self);
                if !self.is_probing() {
                    return Entry::Open { place };
                }
            }
        }
    }

    /// A conclusive answer. True if it ends an absence that was told of.
    pub(super) fn on_response(&self) -> bool {
        self.breaker().on_response()
    }

    /// An answer that says nothing. Some: nobody is to call for this long.
    pub(super) fn on_failure(&self, now: Instant) -> Option<Duration> {
        self.breaker().on_failure(now)
    }

    /// Is it not known whether the service answers at all?
    pub(super) fn is_probing(&self) -> bool {
        self.breaker().is_probing()
    }

    /// How long it has been away.
    pub(super) fn retry_in(&self, now: Instant) -> Duration {
        self.breaker().outage(now)
    }

    fn breaker(&self) -> std::sync::MutexGuard<'_, CircuitBreaker> {
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
        let first = admission.admit().await;
        assert!(matches!(first, Entry::Probe { .. }));
        assert!(admission.admit().now_or_never().is_none(), "a second call before the first is answered");
        admission.on_response();
        drop(first);
        let mut places: Vec<_> = (0..6).map_while(|_| admission.admit().now_or_never()).collect();
        assert_eq!(places.len(), 6);
        assert!(admission.admit().now_or_never().is_none(), "more intents at the gate than 120 ms of calls");
        // A group goes in together, so that its intents share a commit.
        places.truncate(4);
        assert!(admission.admit().now_or_never().is_none(), "two are no group");
        places.truncate(3);
        places.extend((0..3).map_while(|_| admission.admit().now_or_never()));
        assert_eq!(places.len(), 6);
        assert!(admission.admit().now_or_never().is_none());
        // However they leave, nobody waits for ever.
        for _ in 0..100 {
            places.remove(0);
            places.extend(std::iter::from_fn(|| admission.admit().now_or_never()));
            assert!(places.len() > 3, "{}", places.len());
        }
    }
}
