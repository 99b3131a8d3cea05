//! Everything that the engine reports while it runs. A report that is on disk already: outcomes are told after their commit.

use std::time::Duration;

use super::{ErrorCode, FatalError, ItemId, ItemState, Outcome};

/// What the engine tells whoever watches. Closed: a new kind makes every watcher decide.
#[derive(Debug, Clone)]
pub enum Event {
    /// Rows have been taken into the checkpoint.
    Ingested {
        /// Rows read so far in this run.
        rows: u64,
        /// Was this the last of them?
        done: bool,
    },
    /// An item has changed its state, durably.
    Item(ItemUpdate),
    /// The service asks for fewer calls.
    Throttled {
        /// Calls a second from now on.
        rate: f64,
        /// Nobody calls before this has passed.
        pause: Option<Duration>,
    },
    /// The rate is back at the ceiling.
    RateRestored {
        /// Calls a second.
        rate: f64,
    },
    /// The service throttles this share of the calls at any rate: the rate stays.
    ThrottlingTolerated {
        /// From 0 to 1.
        share: f64,
    },
    /// The service does not answer: waiting before the next try.
    ServiceUnavailable {
        /// How long.
        pause: Duration,
        /// The last fault.
        fault: String,
    },
    /// The service answers again.
    ServiceRecovered,
    /// `--window` is closed: nothing is sent before it opens.
    WindowClosed {
        /// In so long.
        opens_in: Duration,
    },
    /// `--window` is open again.
    WindowOpened,
    /// No new sends from here on.
    Draining(DrainReason),
}

/// One item's change of state.
#[derive(Debug, Clone)]
pub struct ItemUpdate {
    /// Which.
    pub item: ItemId,
    /// Its row in its manifest.
    pub row: u64,
    /// How often it has been sent.
    pub attempts: u32,
    /// Its state before.
    pub before: ItemState,
    /// What happened.
    pub outcome: Outcome,
    /// How long the service took, where it was asked.
    pub latency: Option<Duration>,
}

impl ItemUpdate {
    /// The code of the outcome, if it has one.
    pub fn code(&self) -> Option<&ErrorCode> {
        match &self.outcome {
            Outcome::Enrolled { code, .. } => code.as_ref(),
            Outcome::Rejected { code, .. } | Outcome::Failed { code, .. } | Outcome::InDoubt { code, .. } => Some(code),
            Outcome::Requeue { .. } => None,
        }
    }
}

/// Why a run stops sending before everything is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DrainReason {
    /// SIGHUP, SIGINT or SIGTERM, by its number.
    Signal(u8),
    /// `--max-duration`.
    MaxDuration,
    /// `--max-images`.
    MaxImages,
    /// `--max-errors`.
    MaxErrors,
    /// The service stayed away for longer than we wait.
    ServiceUnavailable(Duration),
    /// Nothing will go better until a person acts.
    Fatal(FatalError),
    /// The machine could not read these photos: its trouble, not theirs.
    Unread {
        /// So many.
        photos: u64,
        /// The last error.
        error: String,
    },
    /// A source could not be read to its end.
    SourceFailed,
    /// None of the photos that the rows name is there.
    NoPhotoFound {
        /// So many.
        looked_for: u64,
    },
    /// The checkpoint's pages are damaged.
    CheckpointCorrupt,
    /// The checkpoint's file was removed or replaced.
    CheckpointRemoved,
    /// Its lock file was removed or replaced: another run may have begun.
    LockGone,
    /// Nearly every call was throttled for so long, although there were hardly any.
    ThrottledTooLong(Duration),
}
