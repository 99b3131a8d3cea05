//! Token bucket that limits retries to a share of the successes, so that retries do not overload a service in trouble.
//!
//! First attempts need no token. When the bucket is empty, retries wait for it to refill; none is dropped. Pure: time
//! is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Capacity and initial tokens (reliability.md 4.3 and its corrections).
const CAPACITY: f64 = 500.0;
/// Tokens that a retry costs.
const RETRY_COST: f64 = 10.0;
/// Tokens earned by a success: retries are at most a tenth of the successes.
const SUCCESS_REWARD: f64 = 1.0;
/// Tokens earned per second: without any success, one retry every two seconds.
const REFILL_PER_SECOND: f64 = 5.0;

/// Token bucket for retries.
#[derive(Debug)]
pub struct RetryTokens {
    /// Negative if waiting retries have reserved future tokens.
    tokens: f64,
    refilled_at: Instant,
}

impl RetryTokens {
    /// A full bucket.
    pub fn new(now: Instant) -> Self {
        Self { tokens: CAPACITY, refilled_at: now }
    }

    /// Adds the tokens for a successful call.
    pub fn reward(&mut self, now: Instant) {
        self.refill(now);
        self.tokens = (self.tokens + SUCCESS_REWARD).min(CAPACITY);
    }

    /// Takes the tokens for a retry and returns how long the retry must wait for them.
    pub fn try_acquire(&mut self, now: Instant) -> Duration {
        self.refill(now);
        self.tokens -= RETRY_COST;
        Duration::from_secs_f64((-self.tokens / REFILL_PER_SECOND).max(0.0))
    }

    fn refill(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.refilled_at).as_secs_f64();
        self.tokens = (self.tokens + seconds * REFILL_PER_SECOND).min(CAPACITY);
        self.refilled_at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fifty_retries_are_free_then_rate_limited() {
        let now = Instant::now();
        let mut tokens = RetryTokens::new(now);
        let waits: Vec<f64> = (0..53).map(|_| tokens.try_acquire(now).as_secs_f64()).collect();
        assert!(waits[..50].iter().all(|wait| *wait == 0.0), "{waits:?}");
        assert_eq!(waits[50..], [2.0, 4.0, 6.0]);
        assert_eq!(tokens.try_acquire(now + Duration::from_secs(8)), Duration::ZERO);
    }

    #[test]
    fn ten_successes_pay_for_one_retry() {
        let now = Instant::now();
        let mut tokens = RetryTokens::new(now);
        for _ in 0..50 {
            tokens.try_acquire(now);
        }
        for _ in 0..10 {
            tokens.reward(now);
        }
        assert_eq!(tokens.try_acquire(now), Duration::ZERO);
        assert!(tokens.try_acquire(now) > Duration::ZERO);
        let mut saved = RetryTokens::new(now);
        for _ in 0..10_000 {
            saved.reward(now);
        }
        assert_eq!((0..51).filter(|_| saved.try_acquire(now) == Duration::ZERO).count(), 50);
    }
}
