//! Where calls are counted: first by the quota of their action, then by the script of faults.
//!
//! One lock for both, because a call that a fault throttles must give its place back before another one is counted.

use std::{num::NonZeroU32, time::Duration};

use super::{Action, Fault, Script, answer::Refusal, faults::FaultPlayer, quota::Quota};

#[derive(Debug)]
pub(super) struct ActionLimiter {
    quotas: [Quota; Action::ALL.len()],
    faults: FaultPlayer,
    retry_after: Option<Duration>,
    seed: u64,
}

impl ActionLimiter {
    pub(super) fn new(quota: Quota, retry_after: Option<Duration>, faults: Script, seed: u64) -> Self {
        let quotas = std::array::from_fn(|_| quota.clone());
        Self { quotas, faults: FaultPlayer::new(faults, seed), retry_after, seed }
    }

    /// Lets a call through, perhaps to a fault.
    pub(super) fn pass(&mut self, action: Action, user: Option<&str>, at: Duration) -> Result<Option<Fault>, Refusal> {
        let quota = &mut self.quotas[action as usize];
        if !quota.admit(at) {
            return Err(Refusal::throttled(self.retry_after));
        }
        match self.faults.next(action, user) {
            Some(Fault::Throttle { retry_after }) => {
                quota.give_back();
                Err(Refusal::throttled(retry_after))
            }
            other => Ok(other),
        }
    }

    pub(super) fn set_qps(&mut self, qps: Option<NonZeroU32>) {
        self.quotas.iter_mut().for_each(|quota| quota.set_qps(qps));
    }

    pub(super) fn set_faults(&mut self, script: Script) {
        self.faults = FaultPlayer::new(script, self.seed);
    }
}
