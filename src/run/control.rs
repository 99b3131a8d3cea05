//! What stops a run: signals, deadlines, limits, and what only a person can mend.
//!
//! The first reason drains: no new sends, what is in flight is heard out. A second signal leaves at once.

use std::{
    num::NonZeroU64,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::domain::DrainReason;

/// How a run is told to stop. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    leave: CancellationToken,
    signalled: CancellationToken,
    reading: CancellationToken,
    reason: Arc<OnceLock<DrainReason>>,
}

impl Stop {
    /// No new sends from here on. The first reason stands; true if this was it. A run that has sent as much as it may still
    /// reads its sources to the end; for any other reason the reading ends too.
    pub fn drain(&self, reason: DrainReason) -> bool {
        if !matches!(reason, DrainReason::MaxImages | DrainReason::MaxErrors) {
            self.end_reading();
        }
        let first = self.reason.set(reason).is_ok();
        self.drain.cancel();
        first
    }

    /// A signal has come: drains, whatever else it drains for already.
    pub fn on_signal(&self, number: u8) {
        self.signalled.cancel();
        self.drain(DrainReason::Signal(number));
    }

    /// No more rows are to be read.
    pub fn end_reading(&self) {
        self.reading.cancel();
    }

    /// Is the reading to end?
    pub fn is_reading_ended(&self) -> bool {
        self.reading.is_cancelled()
    }

    /// Returns when the reading is to end.
    pub async fn reading_ended(&self) {
        self.reading.cancelled().await;
    }

    /// Has a signal come before?
    pub fn is_signalled(&self) -> bool {
        self.signalled.is_cancelled()
    }

    /// UploadAuthorization now; what is in flight is in doubt.
    pub fn force_quit(&self) {
        self.leave.cancel();
    }

    /// Why the run drains, if it does.
    pub fn reason(&self) -> Option<&DrainReason> {
        self.reason.get()
    }

    /// Is it draining?
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Is it to leave at once?
    pub fn is_forced(&self) -> bool {
        self.leave.is_cancelled()
    }

    /// Returns when the run is to drain.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Returns when the run is to leave at once.
    pub async fn forced(&self) {
        self.leave.cancelled().await;
    }
}

/// `--max-errors`: a number, or a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxErrors {
    /// So many rows.
    Count(NonZeroU64),
    /// So many percent of the rows that came to an end in this run.
    Percent(f64),
}

/// A share is not judged before so many rows have come to an end: one bad row in two is no trend.
const SHARE_FROM: u64 = 20;

impl MaxErrors {
    /// Have there been too many?
    pub(super) fn is_reached(self, errors: u64, ended: u64) -> bool {
        match self {
            Self::Count(limit) => errors >= limit.get(),
            Self::Percent(limit) => ended >= SHARE_FROM && errors as f64 * 100.0 >= limit * ended as f64,
        }
    }
}

impl std::str::FromStr for MaxErrors {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const USAGE: &str = "a number of rows from 1, or a percentage such as 5%";
        match text.strip_suffix('%') {
            Some(share) => match share.trim().parse::<f64>() {
                Ok(share) if share > 0.0 && share <= 100.0 => Ok(Self::Percent(share)),
                Ok(_) | Err(_) => Err(USAGE),
            },
            None => text.parse().map(Self::Count).map_err(|_| USAGE),
        }
    }
}

/// What a run may use up before it drains.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// `--max-duration`.
    pub duration: Option<Duration>,
    /// `--max-images`: items sent.
    pub images: Option<NonZeroU64>,
    /// `--max-errors`.
    pub errors: Option<MaxErrors>,
}

/// Was this signal ignored when the process began, as SIGHUP is under nohup? Then it is to stay so.
pub fn is_ignored(signal: u8) -> bool {
    // The kernel tells without unsafe code; where there is no /proc, nothing is taken as ignored.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_reason_stands() {
        let stop = Stop::default();
        assert!(stop.drain(DrainReason::MaxImages));
        assert!(!stop.drain(DrainReason::MaxDuration));
        assert_eq!(stop.reason(), Some(&DrainReason::MaxImages));
    }

    #[test]
    fn reading_goes_on_behind_a_limit_and_ends_with_a_signal() {
        let stop = Stop::default();
        stop.drain(DrainReason::MaxImages);
        assert!(!stop.is_reading_ended());
        stop.on_signal(15);
        assert!(stop.is_reading_ended());
    }

    #[test]
    fn errors_are_limited_by_number_or_by_share() {
        let three: MaxErrors = "3".parse().unwrap();
        assert!(!three.is_reached(2, 2) && three.is_reached(3, 1_000));
        let tenth: MaxErrors = "10%".parse().unwrap();
        assert!(!tenth.is_reached(2, 19), "too early to tell");
        assert!(tenth.is_reached(2, 20) && !tenth.is_reached(2, 21));
        for bad in ["0", "-1", "0%", "101%", "x", ""] {
            assert!(bad.parse::<MaxErrors>().is_err(), "{bad}");
        }
    }
}
