//! `--bwlimit`: limits the bytes sent per second, by one rate or by a timetable as in rclone.
//!
//! Whole bodies are paced, one after the other, before their intents and permits: each waits until all its bytes are
//! granted and is then sent at the speed of the line. So the rate holds from body to body, and a waiting body holds
//! neither an intent nor a slot in the quota.

use std::{num::NonZeroU64, str::FromStr, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    nanos::Nanos,
    state::{InMemoryState, NotKeyed},
};
use jiff::civil::{DateTime, Time, Weekday};
use tokio::{sync::Mutex, time::Instant};

/// Bytes are granted in pieces that take this long.
const PIECE: Duration = Duration::from_millis(20);
/// Pieces granted at once after a pause. The second makes up for late timers.
const BURST: std::num::NonZeroU32 = std::num::NonZeroU32::new(2).expect("2 is not zero");
const MINUTES_PER_DAY: u16 = 24 * 60;

/// Bytes per second by local time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BandwidthLimit {
    /// Minute of the week, from Monday 00:00, at which a rate begins to apply; `None` is no limit. Sorted, never empty.
    rates: Vec<(u16, Option<NonZeroU64>)>,
}

impl BandwidthLimit {
    /// Bytes per second at this local time; `None` is no limit.
    pub fn rate_at(&self, now: DateTime) -> Option<NonZeroU64> {
        let minute = minute_of_week(now.weekday(), now.time());
        let begun = self.rates.iter().rev().find(|(from, _)| *from <= minute);
        // Before the first time of the week, the last one still applies.
        begun.or(self.rates.last()).and_then(|(_, rate)| *rate)
    }
}

fn minute_of_week(day: Weekday, time: Time) -> u16 {
    u16::from(day.to_monday_zero_offset().unsigned_abs()) * MINUTES_PER_DAY
        + u16::from(time.hour().unsigned_abs()) * 60
        + u16::from(time.minute().unsigned_abs())
}

const RATE_USAGE: &str = "a rate is a number of bytes a second such as 512k or 10M, or off";
const TABLE_USAGE: &str =
    "a timetable is a list of times and rates such as \"08:00,2M 19:00,off\" or \"Sat-00:00,off\"";

impl FromStr for BandwidthLimit {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !text.contains(',') {
            return Ok(Self { rates: vec![(0, parse_rate(text.trim())?)] });
        }
        let mut rates = Vec::new();
        for entry in text.split_whitespace() {
            let (when, rate) = entry.split_once(',').ok_or(TABLE_USAGE)?;
            let rate = parse_rate(rate)?;
            let (days, time) = match when.split_once('-') {
                None => (ALL_DAYS.as_slice(), when),
                Some((day, time)) => {
                    let named = ALL_DAYS.iter().position(|known| name(*known).eq_ignore_ascii_case(day));
                    (named.map(|at| &ALL_DAYS[at..=at]).ok_or(TABLE_USAGE)?, time)
                }
            };
            let time = Time::strptime("%H:%M", time).map_err(|_| TABLE_USAGE)?;
            rates.extend(days.iter().map(|day| (minute_of_week(*day, time), rate)));
        }
        rates.sort_unstable_by_key(|(from, _)| *from);
        if rates.windows(2).any(|pair| pair[0].0 == pair[1].0) {
            return Err("a timetable gives each time once");
        }
        Ok(Self { rates })
    }
}

const ALL_DAYS: [Weekday; 7] = [
    Weekday::Monday,
    Weekday::Tuesday,
    Weekday::Wednesday,
    Weekday::Thursday,
    Weekday::Friday,
    Weekday::Saturday,
    Weekday::Sunday,
];

fn name(day: Weekday) -> &'static str {
    match day {
        Weekday::Monday => "Mon",
        Weekday::Tuesday => "Tue",
        Weekday::Wednesday => "Wed",
        Weekday::Thursday => "Thu",
        Weekday::Friday => "Fri",
        Weekday::Saturday => "Sat",
        Weekday::Sunday => "Sun",
    }
}

/// Parses `off`, `500000`, `512k`, `1.5M`. Refuses 0, which could mean either extreme.
fn parse_rate(text: &str) -> Result<Option<NonZeroU64>, &'static str> {
    if text == "off" {
        return Ok(None);
    }
    let (number, unit) = match text.as_bytes().last() {
        Some(b'k' | b'K') => (&text[..text.len() - 1], 1_u64 << 10),
        Some(b'm' | b'M') => (&text[..text.len() - 1], 1 << 20),
        Some(b'g' | b'G') => (&text[..text.len() - 1], 1 << 30),
        Some(_) | None => (text, 1),
    };
    let is_plain = number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let number = number.parse::<f64>().ok().filter(|_| is_plain).ok_or(RATE_USAGE)?;
    NonZeroU64::new((number * unit as f64) as u64).map(Some).ok_or(RATE_USAGE)
}

/// Paces bodies by a [`BandwidthLimit`].
pub struct Bandwidth {
    limit: Option<BandwidthLimit>,
    /// Locked by the body whose turn it is; the others queue for it in order.
    pacer: Mutex<Option<Pacer>>,
}

/// Grants bytes at one rate.
struct Pacer {
    rate: NonZeroU64,
    limiter: RateLimiter<NotKeyed, InMemoryState, TokioClock, NoOpMiddleware<Nanos>>,
    clock: TokioClock,
    /// Bytes granted that no body has used yet.
    granted: u64,
}

impl Bandwidth {
    /// No limit if `None`.
    pub fn new(limit: Option<BandwidthLimit>) -> Self {
        Self { limit, pacer: Mutex::default() }
    }

    /// Waits until a body of this size may be sent. Follows the timetable while it waits.
    pub async fn wait(&self, bytes: u64) {
        let Some(limit) = &self.limit else { return };
        let mut pacer = self.pacer.lock().await;
        let mut left = bytes;
        loop {
            let Some(rate) = limit.rate_at(jiff::Zoned::now().datetime()) else { return *pacer = None };
            let pacer = match &mut *pacer {
                Some(pacer) if pacer.rate == rate => pacer,
                other => other.insert(Pacer::new(rate)),
            };
            let used = left.min(pacer.granted);
            pacer.granted -= used;
            left -= used;
            if left == 0 {
                return;
            }
            pacer.grant_piece().await;
        }
    }
}

impl Pacer {
    fn new(rate: NonZeroU64) -> Self {
        let clock = TokioClock(Instant::now());
        // At a rate of a few bytes a second, a piece of one byte takes longer than `PIECE`.
        let piece = Duration::from_secs_f64(Self::piece_bytes(rate) as f64 / rate.get() as f64);
        let quota = Quota::with_period(piece).expect("a piece takes time").allow_burst(BURST);
        Self { rate, limiter: RateLimiter::direct_with_clock(quota, clock.clone()), clock, granted: 0 }
    }

    fn piece_bytes(rate: NonZeroU64) -> u64 {
        ((rate.get() as f64 * PIECE.as_secs_f64()) as u64).max(1)
    }

    async fn grant_piece(&mut self) {
        while let Err(early) = self.limiter.check() {
            tokio::time::sleep(early.wait_time_from(self.clock.now())).await;
        }
        self.granted += Self::piece_bytes(self.rate);
    }
}

/// Tokio's clock for `governor`; zero is the start.
#[derive(Debug, Clone)]
struct TokioClock(Instant);

impl Clock for TokioClock {
    type Instant = Nanos;
    fn now(&self) -> Nanos {
        Nanos::from(self.0.elapsed())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::join_all;
    use proptest::prelude::*;

    use super::*;

    fn limit(text: &str) -> BandwidthLimit {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    /// Rate at a time of a week in which the 2nd is a Monday.
    fn rate(limit: &BandwidthLimit, day: i8, time: &str) -> Option<u64> {
        let now = DateTime::from_parts(jiff::civil::date(2026, 11, day), time.parse().unwrap());
        limit.rate_at(now).map(NonZeroU64::get)
    }

    #[test]
    fn rates_have_binary_units() {
        for (text, bytes) in [
            ("1", Some(1)),
            ("500000", Some(500_000)),
            ("512k", Some(512 << 10)),
            ("512K", Some(512 << 10)),
            ("10M", Some(10 << 20)),
            ("1.5m", Some(3 << 19)),
            ("2G", Some(2 << 30)),
            ("off", None),
        ] {
            assert_eq!(rate(&limit(text), 2, "12:00:00"), bytes, "{text}");
        }
        for bad in ["", "0", "0k", "-1", "k", "10MB", "10 M", "1e6", "inf", "nan", "OFF", "10M 5M", "1..5k", "+5k"] {
            assert!(bad.parse::<BandwidthLimit>().is_err(), "{bad}");
        }
    }

    #[test]
    fn timetable_changes_the_rate_at_its_times() {
        let daily = limit("19:00,off  08:00,2k");
        for (time, bytes) in [
            ("00:00:00", None),
            ("07:59:59", None),
            ("08:00:00", Some(2_048)),
            ("18:59:59", Some(2_048)),
            ("19:00:00", None),
        ] {
            assert_eq!(rate(&daily, 2, time), bytes, "{time}");
            assert_eq!(rate(&daily, 8, time), bytes, "Sunday, {time}");
        }
        let weekly = limit("Mon-08:00,1k fri-18:30,off");
        for (day, time, bytes) in [
            (2, "07:59:59", None),
            (2, "08:00:00", Some(1_024)),
            (5, "23:00:00", Some(1_024)),
            (6, "18:29:59", Some(1_024)),
            (6, "18:30:00", None),
            (8, "23:59:59", None),
        ] {
            assert_eq!(rate(&weekly, day, time), bytes, "{day}, {time}");
        }
        for bad in [
            "08:00,",
            ",2M",
            "8h,2M",
            "24:00,2M",
            "08:60,2M",
            "08:00,2M 19:00",
            "08:00,2M 08:00,1M",
            "Moo-08:00,2M",
            "08:00,0",
            "08:00,2M Mon-08:00,3M",
        ] {
            assert!(bad.parse::<BandwidthLimit>().is_err(), "{bad}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_leave_one_after_the_other_at_the_rate() {
        let bandwidth = Bandwidth::new(Some(limit("100000")));
        let started = Instant::now();
        let ends = join_all((0..4).map(|_| async {
            bandwidth.wait(50_000).await;
            started.elapsed().as_millis()
        }));
        let ends = ends.await;
        for (at, end) in ends.iter().enumerate() {
            let due = 500 * (at as u128 + 1);
            assert!((due - 45..=due + 5).contains(end), "{ends:?}");
        }
        let unlimited = Bandwidth::new(None);
        let before = Instant::now();
        unlimited.wait(u64::MAX).await;
        assert_eq!(before.elapsed(), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn bytes_sent_stay_within_the_rate(
            rate in 10_u64..10_000_000,
            bodies in prop::collection::vec((0_u64..2_000_000, 0_u64..3_000), 1..20),
        ) {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
            let (sent, elapsed, paused) = runtime.block_on(async {
                let bandwidth = Bandwidth::new(Some(limit(&rate.to_string())));
                let started = Instant::now();
                let (mut sent, mut paused) = (0, Duration::ZERO);
                for (bytes, pause_ms) in bodies {
                    // At most some minutes for each body.
                    let bytes = bytes.min(rate * 100);
                    bandwidth.wait(bytes).await;
                    sent += bytes;
                    let pause = Duration::from_millis(pause_ms);
                    tokio::time::sleep(pause).await;
                    paused += pause;
                }
                (sent as f64, started.elapsed().as_secs_f64(), paused.as_secs_f64())
            });
            let piece = (rate as f64 * PIECE.as_secs_f64()).max(1.0);
            prop_assert!(sent <= rate as f64 * elapsed + 2.0 * piece, "{} in {} s", sent, elapsed);
            // Time is only lost while nothing waits.
            prop_assert!(elapsed <= sent / rate as f64 + paused + 0.05 + piece / rate as f64, "{} in {} s", sent, elapsed);
        }

        #[test]
        fn any_timetable_gives_the_rate_of_its_latest_time(
            times in prop::collection::btree_map(0_u16..MINUTES_PER_DAY, 0_u64..5, 1..6),
            day in 2_i8..9,
            minute in 0_u16..MINUTES_PER_DAY,
        ) {
            let entry = |(at, rate): (&u16, &u64)| {
                let rate = if *rate == 0 { "off".to_owned() } else { rate.to_string() };
                format!("{:02}:{:02},{rate}", at / 60, at % 60)
            };
            let table = limit(&times.iter().rev().map(entry).collect::<Vec<_>>().join(" "));
            let latest = times.range(..=minute).next_back().or(times.last_key_value()).map(|(_, rate)| *rate);
            let now = format!("{:02}:{:02}:30", minute / 60, minute % 60);
            prop_assert_eq!(rate(&table, day, &now), latest.filter(|rate| *rate > 0));
        }
    }
}
