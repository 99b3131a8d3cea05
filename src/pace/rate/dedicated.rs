//! The rate of a quota that is ours alone.
//!
//! Replies are judged in windows. A window with more throttles than chance explains cuts the rate; half of the last ten
//! cut it at once. Two things look like a lower quota and are none:
//!
//! - The network squeezes evenly spaced calls together, so that a pace just below the quota is refused now and then. A
//!   few refusals near the ceiling only trim the pace to [`TRIM_FACTOR`] of it.
//! - A service of several limiters may throttle a share of the calls at any rate. When the share has stayed although the
//!   rate has fallen, it does not answer to the rate: it is put up with, and the rate returns.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::{Change, FLOOR, REMEMBERED, Refused, qps, rise_per_second};

/// Replies are judged over at least this long ...
const WINDOW: Duration = Duration::from_secs(2);
/// ... and at least this many.
const WINDOW_REPLIES: u32 = 20;
/// What a window with too many throttles leaves of the rate. Two more than expected are too many.
const CUT: f64 = 0.7;
const TOO_MANY: f64 = 2.0;
/// A window with fewer holds the rate; where they are as many as this the rate just touches a limit, and steps back.
const TOUCHES_FROM: f64 = 0.03;
const STEP_BACK: f64 = 0.95;
/// This many of the last [`RECENT`] replies throttled: no need to wait for the window.
const FAST_CUT_AT: usize = 5;
const RECENT: usize = 10;
const FAST_CUT: f64 = 0.5;
/// Fast cuts come at most this often: replies to what had left before the last cut say nothing about the new rate.
const FAST_CUT_EVERY: Duration = Duration::from_millis(250);
/// Share of the calls that chance may refuse at a pace that is right: jitter squeezes calls together.
const CHANCE: f64 = 0.005;
/// What a trim leaves of the ceiling. The ceiling is 98 % of the quota, so this is 96 %: at that pace 40 ms of jitter
/// have 0.35 % refused, at 99 % 2.3 % (reference, issue of performance).
const TRIM_FACTOR: f64 = 0.98;
/// A window with at most this share of throttles near the ceiling trims and does not cut.
const TRIMS_UP_TO: f64 = 0.06;
/// Throttles that stay while the rate falls are judged once it has fallen to this share of where it began to fall ...
const FALLEN: f64 = 0.6;
/// ... over so many replies ...
const TRIAL: u32 = 80;
/// ... and have stayed if a quarter of the first share is still there, and it is no more than this (reliability.md, the
/// corrections to 4.4).
const STAYED: f64 = 0.25;
const MOST_TOLERATED: f64 = 0.12;
/// Calls a second that a second adds on the way back from a fall that did not help.
const RETURN: f64 = 2.0;

/// At low rates a window is long: one step up is no more than this share of the rate.
const LONGEST_STEP: f64 = 0.5;

/// See the module.
#[derive(Debug)]
pub struct Dedicated {
    ceiling: f64,
    rate: f64,
    refused: Option<Refused>,
    trimmed_until: Option<Instant>,
    window: Option<Window>,
    recent: VecDeque<bool>,
    last_cut: Option<Instant>,
    last_rise: Option<Instant>,
    fall: Option<Decrease>,
    tolerated: Option<Tolerated>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    tally: Tally,
}

#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    replies: u32,
    throttled: u32,
}

impl Tally {
    fn add(&mut self, throttled: bool) {
        self.replies += 1;
        self.throttled += u32::from(throttled);
    }

    fn share(self) -> f64 {
        f64::from(self.throttled) / f64::from(self.replies.max(1))
    }
}

/// The rate falls: does the throttling follow it?
#[derive(Debug)]
struct Decrease {
    from: f64,
    share: f64,
    /// Of the replies since it has fallen far enough.
    since: Tally,
}

/// Throttling that does not follow the rate.
#[derive(Debug)]
struct Tolerated {
    tally: Tally,
    until: Instant,
    /// Where the rate returns to.
    back_to: f64,
}

impl Dedicated {
    pub(super) fn new(ceiling: f64, learned: Option<f64>) -> Self {
        Self {
            ceiling,
            rate: learned.map_or(ceiling, |learned| learned.clamp(FLOOR.min(ceiling), ceiling)),
            refused: None,
            trimmed_until: None,
            window: None,
            recent: VecDeque::with_capacity(RECENT),
            last_cut: None,
            last_rise: None,
            fall: None,
            tolerated: None,
        }
    }

    pub(super) fn current(&self) -> f64 {
        self.rate
    }

    pub(super) fn is_reduced(&self) -> bool {
        self.rate < self.ceiling
    }

    pub(super) fn observe(&mut self, throttled: bool, now: Instant) -> Option<Change> {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(throttled);
        let window = self.window.get_or_insert(Window { since: now, tally: Tally::default() });
        window.tally.add(throttled);
        let (is_over, tally) = (now >= window.since + WINDOW && window.tally.replies >= WINDOW_REPLIES, window.tally);

        let may_cut_again = self.last_cut.is_none_or(|cut| now >= cut + FAST_CUT_EVERY);
        let recent = self.recent.iter().filter(|&&throttled| throttled).count();
        if throttled && may_cut_again && recent >= FAST_CUT_AT {
            return Some(self.cut(FAST_CUT, tally.share(), now));
        }
        if let Some(change) = self.judge_fall(throttled, now) {
            return Some(change);
        }
        if is_over {
            self.window = None;
            return self.judge_window(tally, now);
        }
        None
    }

    fn judge_window(&mut self, tally: Tally, now: Instant) -> Option<Change> {
        if self.tolerated.as_ref().is_some_and(|tolerated| now > tolerated.until) {
            self.tolerated = None;
        }
        let share = self.tolerated.as_ref().map_or(CHANCE, |tolerated| tolerated.tally.share().max(CHANCE));
        let expected = share * f64::from(tally.replies);
        let excess = f64::from(tally.throttled) - expected - 2.0 * expected.sqrt();
        if excess <= 0.0 {
            if let Some(tolerated) = &mut self.tolerated {
                tolerated.tally.replies += tally.replies;
                tolerated.tally.throttled += tally.throttled;
            }
            return self.rise(now);
        }
        let trimmed = self.ceiling * TRIM_FACTOR;
        if self.rate > trimmed && tally.share() <= TRIMS_UP_TO {
            self.rate = trimmed;
            self.trimmed_until = Some(now + REMEMBERED);
            self.last_rise = Some(now);
            return Some(Change::Cut(qps(self.rate)));
        }
        if excess >= TOO_MANY {
            return Some(self.cut(CUT, tally.share(), now));
        }
        self.last_rise = Some(now);
        if tally.share() >= TOUCHES_FROM {
            self.refused = Some(Refused { rate: self.rate, at: now });
            self.rate = (self.rate * STEP_BACK).max(FLOOR.min(self.ceiling));
        }
        None
    }

    /// Has the throttling stayed although the rate has fallen?
    fn judge_fall(&mut self, throttled: bool, now: Instant) -> Option<Change> {
        let rate = self.rate;
        let fall = self.fall.as_mut()?;
        if rate > fall.from * FALLEN {
            return None;
        }
        fall.since.add(throttled);
        if fall.since.replies < TRIAL {
            return None;
        }
        let share = fall.since.share();
        if share > MOST_TOLERATED {
            fall.since = Tally::default();
            return None;
        }
        let has_stayed = share > 0.0 && share >= fall.share * STAYED;
        let Decrease { from, since, .. } = self.fall.take()?;
        has_stayed.then(|| {
            self.tolerated = Some(Tolerated { tally: since, until: now + REMEMBERED, back_to: from });
            self.refused = None;
            self.window = None;
            self.last_rise = Some(now);
            Change::Tolerated(share)
        })
    }

    fn cut(&mut self, factor: f64, share: f64, now: Instant) -> Change {
        self.fall.get_or_insert(Decrease { from: self.rate, share, since: Tally::default() });
        self.refused = Some(Refused { rate: self.rate, at: now });
        self.rate = (self.rate * factor).max(FLOOR.min(self.ceiling));
        self.window = None;
        self.recent.clear();
        self.last_cut = Some(now);
        self.last_rise = Some(now);
        Change::Cut(qps(self.rate))
    }

    fn rise(&mut self, now: Instant) -> Option<Change> {
        if self.trimmed_until.is_some_and(|until| now > until) {
            self.trimmed_until = None;
        }
        let highest = if self.trimmed_until.is_some() { self.ceiling * TRIM_FACTOR } else { self.ceiling };
        let quiet = self.last_rise.map_or(WINDOW, |rise| now.saturating_duration_since(rise));
        self.last_rise = Some(now);
        if self.rate >= highest {
            return None;
        }
        let returns = self.tolerated.as_ref().is_some_and(|tolerated| self.rate < tolerated.back_to);
        let per_second = if returns { RETURN } else { rise_per_second(self.rate, self.refused, now) };
        let step = (per_second * quiet.as_secs_f64()).min(self.rate * LONGEST_STEP);
        self.rate = (self.rate + step).min(highest);
        if self.fall.as_ref().is_some_and(|fall| self.rate >= fall.from) {
            self.fall = None;
        }
        (self.rate >= highest).then(|| Change::Recovered(qps(self.rate)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_has_a_floor() {
        let mut rate = Dedicated::new(49.5, None);
        let mut now = Instant::now();
        for _ in 0..500 {
            rate.observe(true, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(rate.current(), FLOOR);
    }

    #[test]
    fn one_throttle_now_and_then_changes_nothing() {
        let mut rate = Dedicated::new(49.5, None);
        let start = Instant::now();
        for reply in 0..3_000_u32 {
            rate.observe(reply % 250 == 7, start + Duration::from_millis(20) * reply);
        }
        assert_eq!(rate.current(), 49.5);
    }

    #[test]
    fn learned_rate_is_where_the_next_run_begins() {
        assert_eq!(Dedicated::new(49.5, Some(10.0)).current(), 10.0);
        assert_eq!(Dedicated::new(3.0, Some(10.0)).current(), 3.0);
    }
}
