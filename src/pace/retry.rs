//! Decides whether and when to send an item again. Pure: randomness is an argument.

use std::time::Duration;

use clap::ValueEnum;

use crate::domain::{CallFailure, ErrorCode, Outcome};

/// First backoff step (reliability.md 4.2).
const FIRST_BACKOFF: Duration = Duration::from_millis(250);
/// Longest backoff.
const MAX_BACKOFF: Duration = Duration::from_secs(20);
/// Shortest backoff.
const MIN_BACKOFF: Duration = Duration::from_millis(50);

/// Exponential backoff with full jitter: `max(50 ms, random * min(20 s, 250 ms * 2^n))`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backoff {
    tries: u32,
}

impl Backoff {
    /// Next wait, for a `random` number from 0 to 1.
    pub fn next(&mut self, random: f64) -> Duration {
        let step = FIRST_BACKOFF.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(MAX_BACKOFF);
        self.tries = self.tries.saturating_add(1).min(16);
        step.mul_f64(random.clamp(0.0, 1.0)).max(MIN_BACKOFF)
    }
}

/// `--in-doubt`: what to do with a call that may have been executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum InDoubtPolicy {
    /// Query the record, and send again only if it is absent.
    Reconcile,
    /// Send again without a query, which may create a second record.
    Retry,
    /// Leave it for a person to decide.
    Hold,
}

/// What to do with an item after a failed attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RetryDecision {
    /// Retry the item later.
    Retry {
        /// Whether the attempt counts.
        counts: bool,
    },
    /// No attempts are left.
    GiveUp,
}

/// Retry rules of a run.
#[derive(Debug, Clone, Copy)]
pub struct RetryRules {
    /// `--retries`: most attempts per item.
    pub attempts: u32,
}

impl RetryRules {
    /// Decides after an attempt that was certainly not executed. During an outage no attempts are counted.
    pub fn after_failure(self, attempts_made: u32, service_unavailable: bool) -> RetryDecision {
        if service_unavailable {
            RetryDecision::Retry { counts: false }
        } else if attempts_made < self.attempts {
            RetryDecision::Retry { counts: true }
        } else {
            RetryDecision::GiveUp
        }
    }

    /// Outcome to store after [`after_failure`](Self::after_failure).
    pub fn outcome(self, decision: &RetryDecision, failure: &CallFailure) -> Outcome {
        match decision {
            RetryDecision::Retry { counts } => Outcome::Retry { counts: *counts },
            RetryDecision::GiveUp => Outcome::Failed {
                code: failure.kind.code(),
                message: failure.message.clone(),
                request_id: failure.request_id.clone(),
            },
        }
    }

    /// Outcome after the service has said twice that the record is absent.
    pub fn after_confirmed_absence(self, attempts_made: u32, last_code: ErrorCode) -> Outcome {
        if attempts_made < self.attempts {
            Outcome::Retry { counts: true }
        } else {
            Outcome::Failed {
                code: last_code,
                message: format!("sent {attempts_made} times, but the service has no record"),
                request_id: None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_between_minimum_and_maximum() {
        let mut backoff = Backoff::default();
        let waits: Vec<u128> = (0..9).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(waits, [250, 500, 1_000, 2_000, 4_000, 8_000, 16_000, 20_000, 20_000]);
        assert_eq!(Backoff::default().next(0.0), MIN_BACKOFF);
        for _ in 0..100 {
            assert!(backoff.next(1.0) <= MAX_BACKOFF);
        }
    }

    #[test]
    fn last_attempt_gives_up_except_during_outage() {
        let rules = RetryRules { attempts: 8 };
        assert_eq!(rules.after_failure(7, false), RetryDecision::Retry { counts: true });
        assert_eq!(rules.after_failure(8, false), RetryDecision::GiveUp);
        assert_eq!(rules.after_failure(8, true), RetryDecision::Retry { counts: false });
    }

    #[test]
    fn confirmed_absence_counts_as_an_attempt() {
        let rules = RetryRules { attempts: 2 };
        assert_eq!(rules.after_confirmed_absence(1, "Timeout".into()), Outcome::Retry { counts: true });
        assert!(matches!(rules.after_confirmed_absence(2, "Timeout".into()), Outcome::Failed { .. }));
    }
}
