//! Circuit breaker: detects from the responses alone whether the service is available.
//!
//! It is closed while responses are conclusive and opens after [`FAILURE_THRESHOLD`] failures in a row. While it is
//! open, one call at a time goes as a probe, and each failed probe doubles the wait, until a response is conclusive
//! again. Pure: time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// Consecutive failures that indicate an outage rather than bad luck.
const FAILURE_THRESHOLD: u32 = 10;
/// First wait between two probes.
const FIRST_PROBE_WAIT: Duration = Duration::from_secs(1);
/// Longest wait between two probes (reliability.md 4.3).
const MAX_PROBE_WAIT: Duration = Duration::from_secs(300);

/// Circuit breaker of one service. It starts open: a run sends one call and waits for a conclusive response to it.
#[derive(Debug)]
pub struct CircuitBreaker {
    failures: u32,
    probing: bool,
    wait: Duration,
    /// Time of the first failure of the current outage.
    unavailable_since: Option<Instant>,
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self { failures: 0, probing: true, wait: FIRST_PROBE_WAIT, unavailable_since: None }
    }
}

impl CircuitBreaker {
    /// Whether only one call at a time may go.
    pub fn is_probing(&self) -> bool {
        self.probing
    }

    /// Duration of the current outage; zero if there is none.
    pub fn outage(&self, now: Instant) -> Duration {
        self.unavailable_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Records a conclusive response. Returns whether it ends an outage that was reported.
    pub fn on_response(&mut self) -> bool {
        let was_unavailable = self.probing && self.unavailable_since.is_some();
        *self = Self { probing: false, ..Self::default() };
        was_unavailable
    }

    /// Records a failure. If it returns a wait, pause all calls for that long, then send one probe.
    pub fn on_failure(&mut self, now: Instant) -> Option<Duration> {
        self.unavailable_since.get_or_insert(now);
        self.failures += 1;
        if !self.probing && self.failures < FAILURE_THRESHOLD {
            return None;
        }
        self.probing = true;
        let wait = self.wait;
        self.wait = (wait * 2).min(MAX_PROBE_WAIT);
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaker_starts_with_a_single_probe() {
        let mut breaker = CircuitBreaker::default();
        assert!(breaker.is_probing());
        assert!(!breaker.on_response(), "no outage was reported");
        assert!(!breaker.is_probing());
    }

    #[test]
    fn consecutive_failures_open_breaker_and_double_wait() {
        let mut breaker = CircuitBreaker::default();
        let now = Instant::now();
        breaker.on_response();
        for _ in 1..FAILURE_THRESHOLD {
            assert_eq!(breaker.on_failure(now), None);
        }
        let waits: Vec<u64> = (0..11).filter_map(|_| breaker.on_failure(now)).map(|wait| wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]);
        assert!(breaker.is_probing());
        assert_eq!(breaker.outage(now + Duration::from_secs(9)), Duration::from_secs(9));
        assert!(breaker.on_response());
        assert_eq!(breaker.outage(now + Duration::from_secs(9)), Duration::ZERO);
    }

    #[test]
    fn conclusive_response_resets_the_failure_count() {
        let mut breaker = CircuitBreaker::default();
        let now = Instant::now();
        breaker.on_response();
        for _ in 0..100 {
            for _ in 1..FAILURE_THRESHOLD {
                assert_eq!(breaker.on_failure(now), None);
            }
            breaker.on_response();
        }
    }
}
