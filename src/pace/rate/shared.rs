//! Rate for a quota that production traffic uses too: throttling halves it, at most once a second, and it rises slowly
//! after a hold time.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{MIN_RATE, RateChange, Throttle, qps, rise_per_second};

/// Initial rate in calls a second; it doubles until the first throttling.
const START: f64 = 5.0;
/// Time without throttling after which the rate rises.
const RISE_INTERVAL: Duration = Duration::from_secs(1);
/// Factor of a cut.
const CUT_FACTOR: f64 = 0.5;
/// Least time between two cuts.
const CUT_INTERVAL: Duration = Duration::from_secs(1);
/// Time without a rise after a cut.
const HOLD: Duration = Duration::from_secs(5);

/// Adaptive rate for a shared quota.
#[derive(Debug, Serialize, Deserialize)]
pub struct Shared {
    ceiling: f64,
    rate: f64,
    /// Whether the rate doubles; ends with the first throttling.
    is_starting: bool,
    last_throttle: Option<Throttle>,
    last_change: Option<Duration>,
}

impl Shared {
    pub(super) fn new(ceiling: f64, learned: Option<f64>) -> Self {
        let start = START.min(ceiling);
        Self {
            ceiling,
            rate: learned.map_or(start, |learned| learned.clamp(MIN_RATE.min(start), start)),
            // A reduced rate of an earlier run must not be doubled.
            is_starting: learned.is_none(),
            last_throttle: None,
            last_change: None,
        }
    }

    pub(super) fn current(&self) -> f64 {
        self.rate
    }

    pub(super) fn is_reduced(&self) -> bool {
        !self.is_starting && self.rate < self.ceiling
    }

    pub(super) fn observe(&mut self, throttled: bool, now: Duration) -> Option<RateChange> {
        let last = *self.last_change.get_or_insert(now);
        if throttled {
            let may_cut = self.last_throttle.is_none_or(|last_throttle| now >= last_throttle.at + CUT_INTERVAL);
            return may_cut.then(|| {
                self.is_starting = false;
                self.last_throttle = Some(Throttle { rate: self.rate, at: now });
                self.rate = (self.rate * CUT_FACTOR).max(MIN_RATE.min(self.ceiling));
                self.last_change = Some(now + HOLD);
                RateChange::Cut(qps(self.rate))
            });
        }
        let quiet = now.saturating_sub(last);
        if self.rate >= self.ceiling || quiet < RISE_INTERVAL {
            return None;
        }
        let rate = if self.is_starting {
            self.rate * 2.0
        } else {
            self.rate + rise_per_second(self.rate, self.last_throttle, now) * quiet.as_secs_f64()
        };
        self.rate = rate.min(self.ceiling);
        self.last_change = Some(now);
        (self.rate >= self.ceiling).then(|| {
            self.is_starting = false;
            RateChange::Recovered(qps(self.rate))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_doubles_until_first_throttling() {
        let mut rate = Shared::new(49.5, None);
        let start = Duration::ZERO;
        let mut seen = Vec::new();
        for tenth in 0..60 {
            rate.observe(false, start + Duration::from_millis(100) * tenth);
            seen.push(rate.current());
        }
        seen.dedup();
        assert_eq!(seen, [5.0, 10.0, 20.0, 40.0, 49.5]);
    }

    #[test]
    fn throttling_within_a_second_halves_rate_once() {
        let mut rate = Shared::new(49.5, Some(4.0));
        let start = Duration::ZERO;
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
