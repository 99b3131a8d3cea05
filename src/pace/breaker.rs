//! Is the service there? Told by the answers alone.
//!
//! Closed while answers are conclusive. Open after [`TRIPS_AT`] in a row that are not; then one call at a time goes as a
//! probe, each failed one doubling the wait, until an answer is conclusive again. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Inconclusive answers in a row that mean an outage rather than bad luck.
const TRIPS_AT: u32 = 10;
/// First wait between probes.
const FIRST_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between probes (reliability.md 4.3).
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// See the module. Starts in doubt: a run sends one call first, and no more until that one is answered conclusively.
#[derive(Debug)]
pub struct CircuitBreaker {
    faults: u32,
    probing: bool,
    wait: Duration,
    /// Of this absence: the first fault.
    away_since: Option<Instant>,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { faults: 0, probing: true, wait: FIRST_WAIT, away_since: None }
    }
}

impl CircuitBreaker {
    /// One call at a time?
    pub fn is_probing(&self) -> bool {
        self.probing
    }

    /// How long the service has been away.
    pub fn retry_in(&self, now: Instant) -> Duration {
        self.away_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// A conclusive answer. True if it ends an absence that was told of.
    pub fn on_response(&mut self) -> bool {
        let was_away = self.probing && self.away_since.is_some();
        *self = Self { probing: false, ..Self::default() };
        was_away
    }

    /// An answer that says nothing. Some(wait): nobody calls for this long, then one.
    pub fn on_failure(&mut self, now: Instant) -> Option<Duration> {
        self.away_since.get_or_insert(now);
        self.faults += 1;
        if !self.probing && self.faults < TRIPS_AT {
            return None;
        }
        self.probing = true;
        let wait = self.wait;
        self.wait = (wait * 2).min(LONGEST_WAIT);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_begins_with_one_call() {
        let mut breaker = CircuitBreaker::default();
        assert!(breaker.is_probing());
        assert!(!breaker.on_response(), "no absence was told of");
        assert!(!breaker.is_probing());
    }

    #[test]
    fn consecutive_failures_open_breaker_and_double_wait() {
        let mut breaker = CircuitBreaker::default();
        let now = Instant::now();
        breaker.on_response();
        for _ in 1..TRIPS_AT {
            assert_eq!(breaker.on_failure(now), None);
        }
        let waits: Vec<u64> = (0..11).filter_map(|_| breaker.on_failure(now)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(breaker.is_probing());
        assert_eq!(breaker.retry_in(now + Duration::from_secs(9)), Duration::from_secs(9));
        assert!(breaker.on_response());
        assert_eq!(breaker.retry_in(now + Duration::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn one_conclusive_answer_starts_the_count_anew() {
        let mut breaker = CircuitBreaker::default();
        let now = Instant::now();
        breaker.on_response();
        for _ in 0..100 {
            for _ in 1..TRIPS_AT {
                assert_eq!(breaker.on_failure(now), None);
            }
            breaker.on_response();
        }
    }
}
