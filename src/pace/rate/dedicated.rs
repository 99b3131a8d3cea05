//! Rate for a dedicated quota.
//!
//! Responses are evaluated in windows. A window with more throttling than chance explains cuts the rate; throttling of
//! half of the last ten responses cuts it at once. Two effects look like a lower quota but are not:
//!
//! - The network bunches evenly spaced calls, so that a rate just below the quota is throttled now and then. A little
//!   throttling near the ceiling only trims the rate to [`TRIM_FACTOR`] of the ceiling.
//! - A service with several limiters may throttle a share of the calls at any rate. If that share stays while the rate
//!   falls, it does not depend on the rate: it is tolerated, and the rate returns.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{MIN_RATE, RateChange, THROTTLE_MEMORY, Throttle, qps, rise_per_second};

/// Shortest window.
const WINDOW: Duration = Duration::from_secs(2);
/// Fewest responses in a window.
const WINDOW_RESPONSES: u32 = 20;
/// Throttled responses in a window, beyond those that chance explains, that cut the rate.
const CUT_EXCESS: f64 = 2.0;
/// Factor of such a cut.
const CUT_FACTOR: f64 = 0.7;
/// Share of throttled responses with a smaller excess at which the rate just touches a limit and steps back.
const STEP_BACK_SHARE: f64 = 0.03;
/// Factor of a step back.
const STEP_BACK_FACTOR: f64 = 0.95;
/// Number of last responses that may cut the rate before the window ends.
const RECENT: usize = 10;
/// Throttled responses among them that do so.
const FAST_CUT_THROTTLED: usize = 5;
/// Factor of a fast cut.
const FAST_CUT_FACTOR: f64 = 0.5;
/// Least time between fast cuts: responses to calls sent before the last cut say nothing about the new rate.
const FAST_CUT_INTERVAL: Duration = Duration::from_millis(250);
/// Share of the calls that is throttled by chance at a correct rate, because jitter bunches calls.
const CHANCE_SHARE: f64 = 0.005;
/// Trimmed rate as a share of the ceiling. The ceiling is 98 % of the quota, so this is 96 %: there 40 ms of jitter
/// cause 0.35 % throttling, but 2.3 % at 99 % (reference, issue of performance).
const TRIM_FACTOR: f64 = 0.98;
/// Highest share of throttled responses near the ceiling that trims the rate instead of cutting it.
const MAX_TRIM_SHARE: f64 = 0.06;
/// A decrease is evaluated once the rate has fallen to this share of where the decrease began.
const TRIAL_RATE_SHARE: f64 = 0.6;
/// Responses over which a decrease is evaluated.
const TRIAL_RESPONSES: u32 = 80;
/// Throttling is independent of the rate if at least this part of its first share remains (reliability.md, the
/// corrections to 4.4).
const REMAINING_SHARE: f64 = 0.25;
/// Highest share of throttled responses that is tolerated (same source).
const MAX_TOLERATED_SHARE: f64 = 0.12;
/// Rise in calls a second per second after a decrease that did not help.
const RETURN_PER_SECOND: f64 = 2.0;
/// Largest rise as a share of the rate; at low rates a window is long.
const MAX_STEP_SHARE: f64 = 0.5;

/// Adaptive rate for a dedicated quota.
#[derive(Debug, Serialize, Deserialize)]
pub struct Dedicated {
    ceiling: f64,
    rate: f64,
    last_throttle: Option<Throttle>,
    trimmed_until: Option<Duration>,
    window: Option<Window>,
    recent: VecDeque<bool>,
    last_cut: Option<Duration>,
    last_rise: Option<Duration>,
    decrease: Option<Decrease>,
    tolerated: Option<BaselineThrottling>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Window {
    since: Duration,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct Tally {
    responses: u32,
    throttled: u32,
}

impl Tally {
    fn add(&mut self, throttled: bool) {
        self.responses += 1;
        self.throttled += u32::from(throttled);
    }

    fn share(self) -> f64 {
        f64::from(self.throttled) / f64::from(self.responses.max(1))
    }
}

/// Ongoing decrease of the rate, to see whether the throttling follows it.
#[derive(Debug, Serialize, Deserialize)]
struct Decrease {
    from: f64,
    share: f64,
    /// Responses since the rate has fallen far enough.
    since: Tally,
}

/// Throttling that does not depend on the rate.
#[derive(Debug, Serialize, Deserialize)]
struct BaselineThrottling {
    tally: Tally,
    until: Duration,
    /// Rate to return to.
    return_to: f64,
}

impl Dedicated {
    pub(super) fn new(ceiling: f64, learned: Option<f64>) -> Self {
        Self {
            ceiling,
            rate: learned.map_or(ceiling, |learned| learned.clamp(MIN_RATE.min(ceiling), ceiling)),
            last_throttle: None,
            trimmed_until: None,
            window: None,
            recent: VecDeque::with_capacity(RECENT),
            last_cut: None,
            last_rise: None,
            decrease: None,
            tolerated: None,
        }
    }

    pub(super) fn current(&self) -> f64 {
        self.rate
    }

    pub(super) fn is_reduced(&self) -> bool {
        self.rate < self.ceiling
    }

    pub(super) fn observe(&mut self, throttled: bool, now: Duration) -> Option<RateChange> {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(throttled);
        let window = self.window.get_or_insert(Window { since: now, tally: Tally::default() });
        window.tally.add(throttled);
        let (is_over, tally) =
            (now >= window.since + WINDOW && window.tally.responses >= WINDOW_RESPONSES, window.tally);

        let may_cut_again = self.last_cut.is_none_or(|cut| now >= cut + FAST_CUT_INTERVAL);
        let recent = self.recent.iter().filter(|&&throttled| throttled).count();
        if throttled && may_cut_again && recent >= FAST_CUT_THROTTLED {
            return Some(self.cut(FAST_CUT_FACTOR, tally.share(), now));
        }
        if let Some(change) = self.evaluate_decrease(throttled, now) {
            return Some(change);
        }
        if is_over {
            self.window = None;
            return self.evaluate_window(tally, now);
        }
        None
    }

    fn evaluate_window(&mut self, tally: Tally, now: Duration) -> Option<RateChange> {
        if self.tolerated.as_ref().is_some_and(|tolerated| now > tolerated.until) {
            self.tolerated = None;
        }
        let share = self.tolerated.as_ref().map_or(CHANCE_SHARE, |tolerated| tolerated.tally.share().max(CHANCE_SHARE));
        let expected = share * f64::from(tally.responses);
        let excess = f64::from(tally.throttled) - expected - 2.0 * expected.sqrt();
        if excess <= 0.0 {
            if let Some(tolerated) = &mut self.tolerated {
                tolerated.tally.responses += tally.responses;
                tolerated.tally.throttled += tally.throttled;
            }
            return self.rise(now);
        }
        let trimmed = self.ceiling * TRIM_FACTOR;
        if self.rate > trimmed && tally.share() <= MAX_TRIM_SHARE {
            self.rate = trimmed;
            self.trimmed_until = Some(now + THROTTLE_MEMORY);
            self.last_rise = Some(now);
            return Some(RateChange::Cut(qps(self.rate)));
        }
        if excess >= CUT_EXCESS {
            return Some(self.cut(CUT_FACTOR, tally.share(), now));
        }
        self.last_rise = Some(now);
        if tally.share() >= STEP_BACK_SHARE {
            self.last_throttle = Some(Throttle { rate: self.rate, at: now });
            self.rate = (self.rate * STEP_BACK_FACTOR).max(MIN_RATE.min(self.ceiling));
        }
        None
    }

    /// Tolerates throttling that remains although the rate has fallen.
    fn evaluate_decrease(&mut self, throttled: bool, now: Duration) -> Option<RateChange> {
        let rate = self.rate;
        let decrease = self.decrease.as_mut()?;
        if rate > decrease.from * TRIAL_RATE_SHARE {
            return None;
        }
        decrease.since.add(throttled);
        if decrease.since.responses < TRIAL_RESPONSES {
            return None;
        }
        let share = decrease.since.share();
        if share > MAX_TOLERATED_SHARE {
            decrease.since = Tally::default();
            return None;
        }
        let remains = share > 0.0 && share >= decrease.share * REMAINING_SHARE;
        let Decrease { from, since, .. } = self.decrease.take()?;
        remains.then(|| {
            self.tolerated = Some(BaselineThrottling { tally: since, until: now + THROTTLE_MEMORY, return_to: from });
            self.last_throttle = None;
            self.window = None;
            self.last_rise = Some(now);
            RateChange::Tolerated(share)
        })
    }

    fn cut(&mut self, factor: f64, share: f64, now: Duration) -> RateChange {
        self.decrease.get_or_insert(Decrease { from: self.rate, share, since: Tally::default() });
        self.last_throttle = Some(Throttle { rate: self.rate, at: now });
        self.rate = (self.rate * factor).max(MIN_RATE.min(self.ceiling));
        self.window = None;
        self.recent.clear();
        self.last_cut = Some(now);
        self.last_rise = Some(now);
        RateChange::Cut(qps(self.rate))
    }

    fn rise(&mut self, now: Duration) -> Option<RateChange> {
        if self.trimmed_until.is_some_and(|until| now > until) {
            self.trimmed_until = None;
        }
        let highest = if self.trimmed_until.is_some() { self.ceiling * TRIM_FACTOR } else { self.ceiling };
        let quiet = self.last_rise.map_or(WINDOW, |rise| now.saturating_sub(rise));
        self.last_rise = Some(now);
        if self.rate >= highest {
            return None;
        }
        let returns = self.tolerated.as_ref().is_some_and(|tolerated| self.rate < tolerated.return_to);
        let per_second = if returns { RETURN_PER_SECOND } else { rise_per_second(self.rate, self.last_throttle, now) };
        let step = (per_second * quiet.as_secs_f64()).min(self.rate * MAX_STEP_SHARE);
        self.rate = (self.rate + step).min(highest);
        if self.decrease.as_ref().is_some_and(|decrease| self.rate >= decrease.from) {
            self.decrease = None;
        }
        (self.rate >= highest).then(|| RateChange::Recovered(qps(self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_never_falls_below_minimum() {
        let mut rate = Dedicated::new(49.5, None);
        let mut now = Duration::ZERO;
        for _ in 0..500 {
            rate.observe(true, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(rate.current(), MIN_RATE);
    }

    #[test]
    fn occasional_throttling_does_not_change_rate() {
        let mut rate = Dedicated::new(49.5, None);
        let start = Duration::ZERO;
        for reply in 0..3_000_u32 {
            rate.observe(reply % 250 == 7, start + Duration::from_millis(20) * reply);
        }
        assert_eq!(rate.current(), 49.5);
    }

    #[test]
    fn rate_starts_at_learned_rate() {
        assert_eq!(Dedicated::new(49.5, Some(10.0)).current(), 10.0);
        assert_eq!(Dedicated::new(3.0, Some(10.0)).current(), 3.0);
    }
}
