//! `--window`: hours in which photos are sent, in local time.

use std::{str::FromStr, time::Duration};

use jiff::civil::Time;

/// Time range of a day, which may span midnight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    from: Time,
    to: Time,
}

impl Window {
    /// Time until the window opens. `None` if it is open. Ask again after a clock change.
    pub fn time_until_open(&self, now: Time) -> Option<Duration> {
        let is_open =
            if self.from < self.to { self.from <= now && now < self.to } else { now >= self.from || now < self.to };
        (!is_open).then(|| {
            let seconds =
                |time: Time| i64::from(time.hour()) * 3_600 + i64::from(time.minute()) * 60 + i64::from(time.second());
            let wait = (seconds(self.from) - seconds(now)).rem_euclid(86_400);
            Duration::from_secs(wait.max(1).unsigned_abs())
        })
    }
}

impl FromStr for Window {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const USAGE: &str = "two different times of day such as 22:00-06:00";
        let time = |text: &str| Time::strptime("%H:%M", text.trim()).map_err(|_| USAGE);
        let (from, to) = text.split_once('-').ok_or(USAGE)?;
        let (from, to) = (time(from)?, time(to)?);
        if from == to { Err(USAGE) } else { Ok(Self { from, to }) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn window_may_span_midnight() {
        let closed = |window: &str, now: &str| {
            let window: Window = window.parse().unwrap();
            window.time_until_open(now.parse().unwrap()).map(|wait| wait.as_secs())
        };
        assert_eq!(closed("22:00-06:00", "21:59:30"), Some(30));
        assert_eq!(closed("22:00-06:00", "06:00:00"), Some(16 * 3_600));
        for open in ["22:00:00", "23:59:59", "00:00:00", "05:59:59"] {
            assert_eq!(closed("22:00-06:00", open), None, "{open}");
        }
        assert_eq!(closed("09:00-17:00", "17:00:00"), Some(16 * 3_600));
        assert_eq!(closed("09:00-17:00", "09:00:00"), None);
        for bad in ["", "22:00", "22-06", "25:00-06:00", "06:00-06:00"] {
            assert!(bad.parse::<Window>().is_err(), "{bad}");
        }
    }
}
