//! The rate of a quota that production traffic uses too: any throttle halves it, at most once a second, and it rises again
//! slowly, after a while.

use std::time::Duration;

use tokio::time::Instant;

use super::{Change, FLOOR, Refused, qps, rise_per_second};

/// Calls a second at the start; each second without a throttle doubles them.
const START: f64 = 5.0;
const DOUBLES_EVERY: Duration = Duration::from_secs(1);
/// What a throttle leaves of the rate.
const CUT: f64 = 0.5;
/// Throttles of one second are one.
const CUTS_EVERY: Duration = Duration::from_secs(1);
/// No rise so soon after a cut.
const HOLD: Duration = Duration::from_secs(5);

/// See the module.
#[derive(Debug)]
pub struct Shared {
    ceiling: f64,
    rate: f64,
    /// Doubling, until the first throttle.
    is_starting: bool,
    refused: Option<Refused>,
    last_change: Option<Instant>,
}

impl Shared {
    pub(super) fn new(ceiling: f64, learned: Option<f64>) -> Self {
        let start = START.min(ceiling);
        Self {
            ceiling,
            rate: learned.map_or(start, |learned| learned.clamp(FLOOR.min(start), start)),
            // What an earlier run was brought down to is no rate to double from.
            is_starting: learned.is_none(),
            refused: None,
            last_change: None,
        }
    }

    pub(super) fn current(&self) -> f64 {
        self.rate
    }

    pub(super) fn is_reduced(&self) -> bool {
        !self.is_starting && self.rate < self.ceiling
    }

    pub(super) fn observe(&mut self, throttled: bool, now: Instant) -> Option<Change> {
        let last = *self.last_change.get_or_insert(now);
        if throttled {
            let is_another = self.refused.is_none_or(|refused| now >= refused.at + CUTS_EVERY);
            return is_another.then(|| {
                self.is_starting = false;
                self.refused = Some(Refused { rate: self.rate, at: now });
                self.rate = (self.rate * CUT).max(FLOOR.min(self.ceiling));
                self.last_change = Some(now + HOLD);
                Change::Cut(qps(self.rate))
            });
        }
        let quiet = now.saturating_duration_since(last);
        if self.rate >= self.ceiling || quiet < DOUBLES_EVERY {
            return None;
        }
        let rate = if self.is_starting {
            self.rate * 2.0
        } else {
            self.rate + rise_per_second(self.rate, self.refused, now) * quiet.as_secs_f64()
        };
        self.rate = rate.min(self.ceiling);
        self.last_change = Some(now);
        (self.rate >= self.ceiling).then(|| {
            self.is_starting = false;
            Change::Recovered(qps(self.rate))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shared_rate_doubles_until_first_throttle() {
        let mut rate = Shared::new(49.5, None);
        let start = Instant::now();
        let mut seen = Vec::new();
        for tenth in 0..60 {
            rate.observe(false, start + Duration::from_millis(100) * tenth);
            seen.push(rate.current());
        }
        seen.dedup();
        assert_eq!(seen, [5.0, 10.0, 20.0, 40.0, 49.5]);
    }

    #[test]
    fn throttles_in_one_second_halve_rate_once() {
        let mut rate = Shared::new(49.5, Some(4.0));
        let start = Instant::now();
        for tenth in 0..10 {
            rate.observe(true, start + Duration::from_millis(100) * tenth);
        }
        assert_eq!(rate.current(), 2.0);
        rate.observe(false, start + Duration::from_millis(5_900));
        assert_eq!(rate.current(), 2.0);
        rate.observe(false, start + Duration::from_secs(7));
        assert!(rate.current() > 2.0);
    }
}
