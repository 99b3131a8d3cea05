//! Stops a run: signals, deadlines, limits, and errors that only a person can fix.
//!
//! The first reason drains the run: nothing new is sent, and calls in flight are awaited. A second signal quits at
//! once.

use std::{
    num::NonZeroU64,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio_util::sync::CancellationToken;

use crate::domain::DrainReason;

/// Stop signal of a run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Stop {
    drain: CancellationToken,
    force_quit: CancellationToken,
    signalled: CancellationToken,
    reading: CancellationToken,
    reason: Arc<OnceLock<DrainReason>>,
    /// The checkpoint is lost: more severe than any other reason, whenever it comes.
    checkpoint_lost: Arc<OnceLock<DrainReason>>,
}

impl Stop {
    /// Starts draining. Returns whether this reason is now the one that is kept: the first one, or the first loss of the
    /// checkpoint. At a sending limit the sources are still read to the end; any other reason ends the reading too.
    pub fn drain(&self, reason: DrainReason) -> bool {
        if !matches!(reason, DrainReason::MaxImages | DrainReason::MaxErrors) {
            self.end_reading();
        }
        let is_kept = if reason.is_checkpoint_lost() {
            self.checkpoint_lost.set(reason).is_ok()
        } else {
            self.reason.set(reason).is_ok() && self.checkpoint_lost.get().is_none()
        };
        self.drain.cancel();
        is_kept
    }

    /// Drains for a signal, even if the run is draining already.
    pub fn on_signal(&self, number: u8) {
        self.signalled.cancel();
        self.drain(DrainReason::Signal(number));
    }

    /// Ends the reading of the sources.
    pub fn end_reading(&self) {
        self.reading.cancel();
    }

    /// Whether the reading has to end.
    pub fn is_reading_ended(&self) -> bool {
        self.reading.is_cancelled()
    }

    /// Waits until the reading has to end.
    pub async fn reading_ended(&self) {
        self.reading.cancelled().await;
    }

    /// Whether a signal has been received.
    pub fn is_signalled(&self) -> bool {
        self.signalled.is_cancelled()
    }

    /// Quits at once; items in flight are in doubt.
    pub fn force_quit(&self) {
        self.force_quit.cancel();
    }

    /// Reason for draining, if the run is draining.
    pub fn reason(&self) -> Option<&DrainReason> {
        self.checkpoint_lost.get().or(self.reason.get())
    }

    /// Whether the run is draining.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Whether the run has to quit at once.
    pub fn is_forced(&self) -> bool {
        self.force_quit.is_cancelled()
    }

    /// Waits until the run is draining.
    pub async fn draining(&self) {
        self.drain.cancelled().await;
    }

    /// Token that is cancelled when the run drains.
    pub fn token(&self) -> CancellationToken {
        self.drain.clone()
    }

    /// Waits until the run has to quit at once.
    pub async fn forced(&self) {
        self.force_quit.cancelled().await;
    }
}

/// `--max-errors`: a number, or a share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MaxErrors {
    /// Number of rows.
    Count(NonZeroU64),
    /// Percentage of the rows that reached a final state in this run.
    Percent(f64),
}

/// A percentage applies only after this many rows: one bad row in two is no trend.
const MIN_ROWS_FOR_PERCENT: u64 = 20;

impl MaxErrors {
    /// Whether the limit is reached.
    pub(super) fn is_reached(self, errors: u64, ended: u64) -> bool {
        match self {
            Self::Count(limit) => errors >= limit.get(),
            Self::Percent(limit) => ended >= MIN_ROWS_FOR_PERCENT && errors as f64 * 100.0 >= limit * ended as f64,
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

/// Limits at which a run drains.
#[derive(Debug, Clone, Copy, Default)]
pub struct Limits {
    /// `--max-duration`.
    pub duration: Option<Duration>,
    /// `--max-images`: items sent.
    pub images: Option<NonZeroU64>,
    /// `--max-errors`.
    pub errors: Option<MaxErrors>,
}

/// Whether the process started with this signal ignored, as SIGHUP is under nohup. It must then stay ignored.
pub fn is_ignored(signal: u8) -> bool {
    // /proc answers without unsafe code; without /proc no signal counts as ignored.
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    mask & (1 << (signal - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_reason_is_kept() {
        let stop = Stop::default();
        assert!(stop.drain(DrainReason::MaxImages));
        assert!(!stop.drain(DrainReason::MaxDuration));
        assert_eq!(stop.reason(), Some(&DrainReason::MaxImages));
    }

    #[test]
    fn lost_checkpoint_outranks_earlier_reason() {
        for lost in [DrainReason::CheckpointRemoved, DrainReason::LockGone, DrainReason::CheckpointCorrupt] {
            let stop = Stop::default();
            stop.on_signal(15);
            assert!(stop.drain(lost.clone()));
            assert!(!stop.drain(DrainReason::MaxDuration));
            assert_eq!(stop.reason(), Some(&lost));
        }
    }

    #[test]
    fn reading_continues_after_limit_and_ends_on_signal() {
        let stop = Stop::default();
        stop.drain(DrainReason::MaxImages);
        assert!(!stop.is_reading_ended());
        stop.on_signal(15);
        assert!(stop.is_reading_ended());
    }

    #[test]
    fn errors_are_limited_by_count_or_percentage() {
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
