//! What a [`Reader`](super::Reader) returns: rows for `export` and the summaries of runs.

use std::{path::PathBuf, sync::Arc};

use crate::domain::{
    ConfirmedBy, Digest, Extra, FaceGroupCode, ItemId, ItemState, Latencies, MerchantUserId, RejectedBy,
};

/// One item or rejected row, as `export` returns it.
#[derive(Debug, Clone)]
pub struct ExportRow {
    /// Row number in the source.
    pub row: u64,
    /// Name of the source.
    pub source: Arc<str>,
    /// Absolute path of the photo, if the row has one.
    pub path: Option<PathBuf>,
    /// URL of the photo, if the row has one.
    pub url: Option<String>,
    /// User id as written.
    pub user: Option<String>,
    /// Face group as written, or the run's `--group`.
    pub group: Option<String>,
    /// State of the item.
    pub state: ItemState,
    /// Who rejected it.
    pub stage: Option<RejectedBy>,
    /// Error code.
    pub code: Option<String>,
    /// Reason in plain text.
    pub message: Option<String>,
    /// Request id of the last response.
    pub request_id: Option<String>,
    /// Attempts made that count.
    pub attempts: u32,
    /// `faceQuality` of the response.
    pub quality: Option<String>,
    /// Digest of the photo's file.
    pub digest: Option<Digest>,
    /// Time of the enrollment in milliseconds since 1970.
    pub enrolled_ms: Option<i64>,
    /// Latency of the last response in milliseconds.
    pub latency_ms: Option<u64>,
    /// What confirmed the enrollment.
    pub confirmed_by: Option<ConfirmedBy>,
    /// Other columns of the manifest.
    pub extra: Extra,
}

/// Which items `undo` takes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UndoScope {
    /// Those that one run sent.
    Run {
        /// Number of the run in the checkpoint.
        number: i64,
        /// Start of the run in milliseconds since 1970.
        started_ms: i64,
    },
    /// Those sent at this time or later.
    Since {
        /// Milliseconds since 1970.
        ms: i64,
    },
}

impl UndoScope {
    /// Records that are older than this are not taken back; in milliseconds since 1970.
    pub fn start_ms(self) -> i64 {
        match self {
            Self::Run { started_ms, .. } => started_ms,
            Self::Since { ms } => ms,
        }
    }
}

/// Enrolled or doubtful item that `undo` may take back.
#[derive(Debug, Clone)]
pub struct UndoCandidate {
    /// Number of the item.
    pub item: ItemId,
    /// Row number in the manifest.
    pub row: u64,
    /// Face group.
    pub group: FaceGroupCode,
    /// User id.
    pub user: MerchantUserId,
    /// State of the item.
    pub state: ItemState,
    /// Code of the item.
    pub code: Option<String>,
    /// Time of the last intent in milliseconds since 1970; `None` if this checkpoint never sent the item.
    pub intent_ms: Option<i64>,
    /// Time of the enrollment in milliseconds since 1970.
    pub enrolled_ms: Option<i64>,
    /// Whether older records of the person are still to be deleted.
    pub is_replacing: bool,
}

/// Window of the recent rate; a run records a sample every 5 s.
const RECENT_WINDOW_MS: i64 = 60_000;

/// Summary of a run, as the run recorded it.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummaryRow {
    /// Name of the run.
    pub run_id: String,
    /// Start in milliseconds since 1970.
    pub started_ms: i64,
    /// End in milliseconds since 1970; `None` if the run is live or was killed.
    pub ended_ms: Option<i64>,
    /// Exit code; `None` if the run is live or was killed.
    pub exit_code: Option<u8>,
    /// Reason of the exit.
    pub exit_reason: Option<String>,
    /// Maximum calls per second; `None` if the run sent nothing.
    pub quota: Option<f64>,
    /// Bottleneck in the last sample.
    pub limited_by: Option<String>,
    /// Whether the run is live.
    pub is_live: bool,
    /// Totals in the last sample.
    pub totals: RateSample,
    /// Response times.
    pub latencies: Latencies,
    /// Samples of the totals over time.
    pub paces: Vec<RateSample>,
}

/// Totals of a run at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateSample {
    /// Time of the sample in milliseconds since 1970.
    pub at_ms: i64,
    /// Number of AddFaceRecord calls.
    pub calls: u64,
    /// Number of throttled AddFaceRecord calls.
    pub throttled: u64,
    /// Number of newly enrolled rows.
    pub newly_enrolled: u64,
}

impl RunSummaryRow {
    /// Time of the end or of the last sample, in milliseconds since 1970.
    pub fn last_ms(&self) -> i64 {
        self.ended_ms.unwrap_or(self.totals.at_ms)
    }

    /// Calls per second over the last recorded minute.
    pub fn recent_rate(&self) -> f64 {
        let Some(last) = self.paces.last().copied() else { return 0.0 };
        let first = self.paces.iter().find(|pace| pace.at_ms >= last.at_ms - RECENT_WINDOW_MS).copied().unwrap_or(last);
        let seconds = (last.at_ms - first.at_ms) as f64 / 1_000.0;
        if seconds > 0.0 { last.calls.saturating_sub(first.calls) as f64 / seconds } else { 0.0 }
    }
}
