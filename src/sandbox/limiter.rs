//! Counts calls, first against the quota of their action, then for the fault script.
//!
//! One lock covers both, because a call throttled by a fault must release its quota slot before the next call is counted.

use std::{num::NonZeroU32, time::Duration};

use super::{Action, Fault, Script, faults::FaultPlayer, quota::Quota, response::ApiError};

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

    /// Admits a call and returns the fault to inject, if any.
    pub(super) fn admit(
        &mut self,
        action: Action,
        user: Option<&str>,
        at: Duration,
    ) -> Result<Option<Fault>, ApiError> {
        let quota = &mut self.quotas[action as usize];
        if action.has_quota() && !quota.admit(at) {
            return Err(ApiError::throttled(self.retry_after));
        }
        match self.faults.next_fault(action, user) {
            Some(Fault::Throttle { retry_after }) => {
                if action.has_quota() {
                    quota.release();
                }
                Err(ApiError::throttled(retry_after))
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
