//! The moving rate: down when the service throttles, up again when it does not (reference, reliability.md 4.4, dedicated).
//!
//! Pure: time is an argument.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

use super::Qps;

/// The rate never sinks below this, so that recovery can be noticed.
const FLOOR: f64 = 0.5;
/// Replies are judged over at least this long ...
const WINDOW: Duration = Duration::from_secs(2);
/// ... and at least this many.
const WINDOW_REPLIES: u32 = 20;
/// Two or more throttled replies in a window.
const CUT: f64 = 0.7;
/// This many of the last [`RECENT`] replies throttled: no need to wait for the window.
const FAST_CUT_AT: usize = 5;
const RECENT: usize = 10;
const FAST_CUT: f64 = 0.5;
/// Fast cuts come at most this often: replies to what had left before the last cut say nothing about the new rate.
const FAST_CUT_EVERY: Duration = Duration::from_millis(250);
/// Calls a second that a second without a throttle adds.
const RISE: f64 = 0.5;
/// The same, within a tenth of the rate that was refused last.
const CAUTIOUS_RISE: f64 = 0.1;
const CAUTIOUS: std::ops::RangeInclusive<f64> = 0.9..=1.1;
/// A refused rate is forgotten after this long: quotas change.
const REFUSED_REMEMBERED: Duration = Duration::from_secs(600);

/// What an observation did to the rate, where it is worth a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Fewer calls from now on.
    Cut(Qps),
    /// Back at the ceiling.
    Recovered(Qps),
}

/// See the module.
#[derive(Debug)]
pub struct AdaptiveRate {
    ceiling: f64,
    rate: f64,
    refused: Option<(f64, Instant)>,
    window: Option<Window>,
    recent: VecDeque<bool>,
    last_cut: Option<Instant>,
    last_rise: Option<Instant>,
}

#[derive(Debug)]
struct Window {
    since: Instant,
    replies: u32,
    throttled: u32,
}

impl AdaptiveRate {
    /// Starts at `learned`, or at the ceiling.
    pub fn new(ceiling: Qps, learned: Option<Qps>) -> Self {
        let floor = FLOOR.min(ceiling.get());
        Self {
            ceiling: ceiling.get(),
            rate: learned.map_or(ceiling.get(), |learned| learned.get().clamp(floor, ceiling.get())),
            refused: None,
            window: None,
            recent: VecDeque::with_capacity(RECENT),
            last_cut: None,
            last_rise: None,
        }
    }

    /// Calls a second, now.
    pub fn current(&self) -> Qps {
        Qps::new(self.rate).expect("the rate stays between the floor and a valid ceiling")
    }

    /// Is there nothing to recover from?
    pub fn is_at_ceiling(&self) -> bool {
        self.rate >= self.ceiling
    }

    /// The time between two calls, now.
    pub fn gap(&self) -> Duration {
        self.current().gap()
    }

    /// Takes in one reply.
    pub fn observe(&mut self, throttled: bool, now: Instant) -> Option<Change> {
        if self.recent.len() == RECENT {
            self.recent.pop_front();
        }
        self.recent.push_back(throttled);
        let window = self.window.get_or_insert(Window { since: now, replies: 0, throttled: 0 });
        window.replies += 1;
        window.throttled += u32::from(throttled);

        let may_cut_again = self.last_cut.is_none_or(|cut| now >= cut + FAST_CUT_EVERY);
        if throttled && may_cut_again && self.recent.iter().filter(|&&t| t).count() >= FAST_CUT_AT {
            return self.cut(FAST_CUT, now);
        }
        if now < window.since + WINDOW || window.replies < WINDOW_REPLIES {
            return None;
        }
        let refusals = window.throttled;
        self.window = None;
        match refusals {
            0 => self.rise(now),
            1 => {
                self.last_rise = Some(now);
                None
            }
            2.. => self.cut(CUT, now),
        }
    }

    fn cut(&mut self, factor: f64, now: Instant) -> Option<Change> {
        self.refused = Some((self.rate, now));
        self.rate = (self.rate * factor).max(FLOOR.min(self.ceiling));
        self.window = None;
        self.recent.clear();
        self.last_cut = Some(now);
        self.last_rise = Some(now);
        Some(Change::Cut(self.current()))
    }

    fn rise(&mut self, now: Instant) -> Option<Change> {
        if self.rate >= self.ceiling {
            return None;
        }
        if self.refused.is_some_and(|(_, at)| now > at + REFUSED_REMEMBERED) {
            self.refused = None;
        }
        let near_refused = self.refused.is_some_and(|(refused, _)| CAUTIOUS.contains(&(self.rate / refused)));
        let per_second = if near_refused { CAUTIOUS_RISE } else { RISE };
        let quiet = self.last_rise.map_or(WINDOW, |rise| now.saturating_duration_since(rise));
        self.last_rise = Some(now);
        self.rate = (self.rate + per_second * quiet.as_secs_f64()).min(self.ceiling);
        (self.rate >= self.ceiling).then(|| Change::Recovered(self.current()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fifty() -> AdaptiveRate {
        AdaptiveRate::new(Qps::new(50.0).unwrap(), None)
    }

    /// Plays a service with a true quota, counted in one-second buckets; returns (accepted, refused, final rate).
    fn play(rate: &mut AdaptiveRate, quota: u32, seconds: u64, start: Instant) -> (u32, u32, f64) {
        let (mut now, mut accepted, mut refused) = (start, 0, 0);
        let (mut bucket, mut used) = (0, 0);
        while now < start + Duration::from_secs(seconds) {
            let second = (now - start).as_secs();
            if second != bucket {
                (bucket, used) = (second, 0);
            }
            used += 1;
            let throttled = used > quota;
            if throttled {
                refused += 1
            } else {
                accepted += 1
            }
            rate.observe(throttled, now);
            now += rate.gap();
        }
        (accepted, refused, rate.current().get())
    }

    #[test]
    fn no_throttle_no_change() {
        let (accepted, refused, rate) = play(&mut fifty(), 50, 60, Instant::now());
        assert_eq!((accepted, refused, rate), (3_000, 0, 50.0));
    }

    #[test]
    fn true_quota_of_ten_is_found_within_seconds() {
        let (accepted, refused, rate) = play(&mut fifty(), 10, 60, Instant::now());
        assert!((5.0..=12.0).contains(&rate), "{rate}");
        assert!(accepted >= 420, "{accepted} accepted");
        assert!(refused * 10 <= accepted, "{refused} refused of {accepted}");
    }

    #[test]
    fn rate_recovers_when_the_throttling_ends() {
        let mut rate = fifty();
        let start = Instant::now();
        let (.., slow) = play(&mut rate, 3, 20, start);
        assert!(slow < 6.0, "{slow}");
        let (_, refused, fast) = play(&mut rate, 50, 400, start + Duration::from_secs(20));
        assert_eq!((refused, fast), (0, 50.0));
    }

    #[test]
    fn rate_has_a_floor() {
        let mut rate = fifty();
        let mut now = Instant::now();
        for _ in 0..500 {
            rate.observe(true, now);
            now += Duration::from_secs(1);
        }
        assert_eq!(rate.current().get(), FLOOR);
    }

    #[test]
    fn one_throttle_now_and_then_does_not_cut() {
        let mut rate = fifty();
        let start = Instant::now();
        for reply in 0..3_000_u32 {
            let at = start + Duration::from_millis(20) * reply;
            rate.observe(reply % 250 == 7, at);
        }
        assert_eq!(rate.current().get(), 50.0);
    }

    #[test]
    fn learned_rate_is_where_the_next_run_begins() {
        let learned = Some(Qps::new(10.0).unwrap());
        assert_eq!(AdaptiveRate::new(Qps::new(49.5).unwrap(), learned).current().get(), 10.0);
        assert_eq!(AdaptiveRate::new(Qps::new(3.0).unwrap(), learned).current().get(), 3.0);
    }
}
