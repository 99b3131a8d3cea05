//! How many retries there may be: a share of the successes, so that a service in trouble is not asked ever more.
//!
//! Calls that are sent for the first time are not concerned. When the budget is empty retries wait for it to fill again;
//! none is dropped. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Full, and what it starts with (reliability.md 4.3 and its corrections).
const FULL: f64 = 500.0;
/// What a retry costs, what a success earns, and what a second does: retries come to a tenth of the successes at most, and
/// where there are none to one in two seconds.
const RETRY: f64 = 10.0;
const SUCCESS: f64 = 1.0;
const SECOND: f64 = 5.0;

/// See the module.
#[derive(Debug)]
pub struct RetryTokens {
    /// Below zero: promised to retries that wait.
    tokens: f64,
    filled_at: Instant,
}

impl RetryTokens {
    /// Full.
    pub fn new(now: Instant) -> Self {
        Self { tokens: FULL, filled_at: now }
    }

    /// A call has succeeded.
    pub fn reward(&mut self, now: Instant) {
        self.fill(now);
        self.tokens = (self.tokens + SUCCESS).min(FULL);
    }

    /// A retry is taken; it is to wait for so long.
    pub fn try_acquire(&mut self, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= RETRY;
        Duration::from_secs_f64((-self.tokens / SECOND).max(0.0))
    }

    fn fill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.filled_at).as_secs_f64();
        self.tokens = (self.tokens + seconds * SECOND).min(FULL);
        self.filled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_retries_are_free_then_rate_limited() {
        let now = Instant::now();
        let mut budget = RetryTokens::new(now);
        let waits: Vec<f64> = (0..53).map(|_| budget.try_acquire(now).as_secs_f64()).collect();
        assert!(waits[..50].iter().all(|wait| *wait == 0.0), "{waits:?}");
        assert_eq!(waits[50..], [2.0, 4.0, 6.0]);
        assert_eq!(budget.try_acquire(now + Duration::from_secs(8)), Duration::ZERO);
    }

    #[test]
    fn ten_successes_pay_for_one_retry() {
        let now = Instant::now();
        let mut budget = RetryTokens::new(now);
        for _ in 0..50 {
            budget.try_acquire(now);
        }
        for _ in 0..10 {
            budget.reward(now);
        }
        assert_eq!(budget.try_acquire(now), Duration::ZERO);
        assert!(budget.try_acquire(now) > Duration::ZERO);
        let mut saved = RetryTokens::new(now);
        for _ in 0..10_000 {
            saved.reward(now);
        }
        assert_eq!((0..51).filter(|_| saved.try_acquire(now) == Duration::ZERO).count(), 50);
    }
}
