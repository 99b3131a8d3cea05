//! Is an item to be sent again, and when? Pure: randomness is an argument.

use std::{str::FromStr, time::Duration};

use crate::domain::{CallFailure, ErrorCode, Outcome};

/// First step of the backoff (reliability.md 4.2).
const BASE: Duration = Duration::from_millis(250);
/// Longest backoff.
const CAP: Duration = Duration::from_secs(20);
/// Shortest backoff.
const LEAST: Duration = Duration::from_millis(50);

/// Exponential backoff with full jitter: `max(50 ms, random * min(20 s, 250 ms * 2^n))`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// The next wait; `random` is from 0 to 1.
    pub fn next(&mut self, random: f64) -> Duration {
        let step = BASE.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(CAP);
        self.tries = self.tries.saturating_add(1).min(16);
        step.mul_f64(random.clamp(0.0, 1.0)).max(LEAST)
    }
}

/// `--in-doubt`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InDoubtPolicy {
    /// Ask QueryFaceRecord; send again only what is absent.
    Reconcile,
    /// Send again without asking: a record may come to be there twice.
    Retry,
    /// UploadAuthorization it for a person.
    Hold,
}

impl FromStr for InDoubtPolicy {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "reconcile" => Ok(Self::Reconcile),
            "retry" => Ok(Self::Retry),
            "hold" => Ok(Self::Hold),
            _ => Err("one of reconcile, retry, hold"),
        }
    }
}

/// What becomes of an item after a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryDecision {
    /// Back to the queue.
    Retry {
        /// Does the attempt count?
        counts: bool,
    },
    /// Attempts are used up.
    GiveUp,
}

/// The rules of one run.
#[derive(Debug, Clone, Copy)]
pub struct RetryRules {
    /// `--retries`: attempts per item.
    pub attempts: u32,
}

impl RetryRules {
    /// After an attempt that is known not to have been executed. While the service is away nobody's attempts are used up.
    pub fn after_fault(self, attempts_made: u32, service_away: bool) -> RetryDecision {
        if service_away {
            RetryDecision::Retry { counts: false }
        } else if attempts_made < self.attempts {
            RetryDecision::Retry { counts: true }
        } else {
            RetryDecision::GiveUp
        }
    }

    /// What to store after [`after_fault`](Self::after_fault).
    pub fn outcome(self, next: &RetryDecision, fault: &CallFailure) -> Outcome {
        match next {
            RetryDecision::Retry { counts } => Outcome::Requeue { counts: *counts },
            RetryDecision::GiveUp => Outcome::Failed {
                code: fault.kind.code(),
                message: fault.message.clone(),
                request_id: fault.request_id.clone(),
            },
        }
    }

    /// After the service has said twice that the record is absent.
    pub fn after_absence(self, attempts_made: u32, last_code: ErrorCode) -> Outcome {
        if attempts_made < self.attempts {
            Outcome::Requeue { counts: true }
        } else {
            Outcome::Failed {
                code: last_code,
                message: format!("sent {attempts_made} times, and the service has no record of it"),
                request_id: None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_to_its_cap_and_keeps_its_least() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
        assert_eq!(Backoff::default().next(0.0), LEAST);
        for _ in 0..100 {
            assert!(backoff.next(1.0) <= CAP);
        }
    }

    #[test]
    fn last_attempt_gives_up_unless_the_service_is_away() {
        let rules = RetryRules { attempts: 8 };
        assert_eq!(rules.after_fault(7, false), RetryDecision::Retry { counts: true });
        assert_eq!(rules.after_fault(8, false), RetryDecision::GiveUp);
        assert_eq!(rules.after_fault(8, true), RetryDecision::Retry { counts: false });
    }

    #[test]
    fn proved_absent_counts_as_an_attempt() {
        let rules = RetryRules { attempts: 2 };
        assert_eq!(rules.after_absence(1, "Timeout".into()), Outcome::Requeue { counts: true });
        assert!(matches!(rules.after_absence(2, "Timeout".into()), Outcome::Failed { .. }));
    }
}
