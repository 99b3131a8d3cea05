//! Events that the engine reports while it runs. Outcomes are reported only after their commit.

use std::time::Duration;

use super::{ErrorCode, FatalError, ItemId, ItemState, Outcome};

/// An event of a run. Consumers match every variant, so a new one can't be overlooked.
#[derive(Debug, Clone)]
pub enum Event {
    /// Rows have been taken into the checkpoint.
    Ingested {
        /// Rows read so far in this run.
        rows: u64,
        /// Whether all rows have been read.
        done: bool,
    },
    /// An item has changed its state on disk.
    Item(ItemUpdate),
    /// The service throttled a call.
    Throttled {
        /// New rate in calls per second.
        rate: f64,
        /// Pause before the next call.
        pause: Option<Duration>,
    },
    /// The rate is back at its maximum.
    RateRestored {
        /// Rate in calls per second.
        rate: f64,
    },
    /// The service throttles this share of calls at any rate, so the rate stays.
    ThrottlingTolerated {
        /// Share from 0 to 1.
        share: f64,
    },
    /// The service does not answer; the run waits before the next try.
    ServiceUnavailable {
        /// Time until the next try.
        pause: Duration,
        /// The last failure.
        fault: String,
    },
    /// The service answers again.
    ServiceRecovered,
    /// The `--window` closed; nothing is sent until it opens.
    WindowClosed {
        /// Time until it opens.
        opens_in: Duration,
    },
    /// The `--window` opened again.
    WindowOpened,
    /// No new calls are made from now on.
    Draining(DrainReason),
}

/// State change of one item.
#[derive(Debug, Clone)]
pub struct ItemUpdate {
    /// The item.
    pub item: ItemId,
    /// Row in the manifest.
    pub row: u64,
    /// Number of times it was sent.
    pub attempts: u32,
    /// State before the change.
    pub before: ItemState,
    /// Outcome that changed the state.
    pub outcome: Outcome,
    /// Latency of the service's answer, if a call was made.
    pub latency: Option<Duration>,
}

impl ItemUpdate {
    /// Code of the outcome, if it has one.
    pub fn code(&self) -> Option<&ErrorCode> {
        match &self.outcome {
            Outcome::Enrolled { code, .. } => code.as_ref(),
            Outcome::Rejected { code, .. } | Outcome::Failed { code, .. } | Outcome::InDoubt { code, .. } => Some(code),
            Outcome::Retry { .. } => None,
        }
    }
}

/// Why a run stops before everything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainReason {
    /// Signal number of SIGHUP, SIGINT or SIGTERM.
    Signal(u8),
    /// `--max-duration`.
    MaxDuration,
    /// `--max-images`.
    MaxImages,
    /// `--max-errors`.
    MaxErrors,
    /// The service did not answer for this long.
    ServiceUnavailable(Duration),
    /// The database of the shared quota could not be used for this long.
    QuotaUnavailable {
        /// For how long.
        away: Duration,
        /// The last error.
        error: String,
    },
    /// No call can succeed until a person acts.
    Fatal(FatalError),
    /// The machine could not read these photos; the photos are not at fault.
    Unread {
        /// Number of photos.
        photos: u64,
        /// The last error.
        error: String,
    },
    /// A source could not be read to its end.
    SourceFailed,
    /// None of the photos named by the rows exists.
    NoPhotoFound {
        /// Number of photos looked for.
        looked_for: u64,
    },
    /// The checkpoint file is corrupt.
    CheckpointCorrupt,
    /// The checkpoint file was removed or replaced.
    CheckpointRemoved,
    /// The lock file was removed or replaced, so another run may have started.
    LockGone,
    /// Nearly every call was throttled for this long, even at a very low rate.
    ThrottledTooLong(Duration),
}

impl DrainReason {
    /// Whether the checkpoint can no longer be trusted, or is no longer ours.
    pub fn is_checkpoint_lost(&self) -> bool {
        match self {
            Self::CheckpointCorrupt | Self::CheckpointRemoved | Self::LockGone => true,
            Self::Signal(_)
            | Self::MaxDuration
            | Self::MaxImages
            | Self::MaxErrors
            | Self::ServiceUnavailable(_)
            | Self::QuotaUnavailable { .. }
            | Self::Fatal(_)
            | Self::Unread { .. }
            | Self::SourceFailed
            | Self::NoPhotoFound { .. }
            | Self::ThrottledTooLong(_) => false,
        }
    }
}
