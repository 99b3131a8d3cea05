//! The storage interface of the engine. It blocks, so only the writer thread calls it.
//!
//! Every call is made between [`Store::begin`] and [`Store::commit`]; no caller gets a reply before the commit has
//! returned. A store is dropped after its first error and never used again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::StoreError;
use crate::domain::{
    Bottleneck, ConfirmedBy, Counts, DeleteIntent, Digest, ErrorCode, Extra, FaceGroupCode, FileStamp, Intent, Item,
    ItemId, ItemState, ItemUpdate, Latencies, MerchantUserId, Outcome, PhotoSource, RejectedBy, RowError, RunId,
    RunTotals, Supersedes,
};

/// Number of a source in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub(super) i64);

/// Rows that are ingested together.
#[derive(Debug)]
pub struct Batch {
    /// Source of the rows.
    pub source: SourceId,
    /// Rows in manifest order.
    pub rows: Vec<Result<Item, RowError>>,
}

/// Known items of a batch whose photos must be checked for changes.
#[derive(Debug, Default)]
pub struct Ingested {
    /// Rejected items whose photo may have changed since.
    pub rejected_items: Vec<RejectedItem>,
    /// Enrolled items whose photo may have changed since.
    pub enrolled_items: Vec<EnrolledItem>,
}

/// An enrolled item whose photo must be checked.
#[derive(Debug, Clone)]
pub struct EnrolledItem {
    /// Number of the item.
    pub item: ItemId,
    /// Photo that the row names now.
    pub photo: StoredPhoto,
}

/// Photo of an enrolled item.
#[derive(Debug, Clone)]
pub enum StoredPhoto {
    /// A file, or a member of an archive.
    File {
        /// The photo.
        photo: PhotoSource,
        /// Directory that its path must lie in.
        root: Arc<Path>,
        /// Stamp of the file when it was sent; `None` if it was another file.
        stamp: Option<FileStamp>,
        /// Digest of the file that was sent; `None` if this checkpoint did not send it, so the service's photo is unknown.
        digest: Option<Digest>,
    },
    /// A URL that differs from the previous one, or a file in place of a URL.
    Other,
}

/// Result of checking the photo of an enrolled item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhotoCheck {
    /// Number of the item.
    pub item: ItemId,
    /// Change of the photo.
    pub seen: PhotoChange,
}

/// Change of an enrolled item's photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhotoChange {
    /// The photo is the same; its file now has this metadata.
    Same(FileStamp),
    /// The photo differs and is only counted.
    Other,
    /// The photo differs and will replace the old one.
    Replacement,
}

/// A rejected item whose photo must be checked.
#[derive(Debug, Clone)]
pub struct RejectedItem {
    /// Number of the item.
    pub item: ItemId,
    /// The photo: a file.
    pub photo: PhotoSource,
    /// Directory that its path must lie in.
    pub root: Arc<Path>,
    /// Metadata of the file when it was rejected; `None` if there was no file.
    pub stamp: Option<FileStamp>,
}

/// An item to send.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Number of the item.
    pub item: ItemId,
    /// Row number in the manifest.
    pub row: u64,
    /// Face group.
    pub group: FaceGroupCode,
    /// User id.
    pub user: MerchantUserId,
    /// Photo to send.
    pub picture: PhotoSource,
    /// Directory that the photo's path must lie in.
    pub root: PathBuf,
    /// Records that the photo supersedes.
    pub replaces: Option<Supersedes>,
    /// Number of counted attempts.
    pub attempts: u32,
    /// Time of the last intent, in milliseconds since 1970 by the estimated service clock; `None` without an intent.
    /// Earlier requests made no record, or the item would not have been sent again.
    pub intent_ms: Option<i64>,
}

/// An item in doubt.
#[derive(Debug, Clone)]
pub struct InDoubtRow {
    /// The item.
    pub claimed: Claimed,
    /// Code of the failure that left the outcome unknown.
    pub code: ErrorCode,
}

/// A request that is about to be sent.
#[derive(Debug, Clone)]
pub struct NewIntent {
    /// Number of the item.
    pub item: ItemId,
    /// Face group.
    pub group: FaceGroupCode,
    /// User id.
    pub user: MerchantUserId,
    /// Digest of the photo's file.
    pub digest: Option<Digest>,
    /// Digest of the bytes to send, if they differ from the file.
    pub sent: Option<Digest>,
    /// Metadata of the photo's file.
    pub stamp: Option<FileStamp>,
    /// Current time in milliseconds since 1970 by the estimated service clock.
    pub at_ms: i64,
}

/// Outcome of an item.
#[derive(Debug, Clone)]
pub struct OutcomeRecord {
    /// Number of the item.
    pub item: ItemId,
    /// Expected state: `Pending` for a local rejection, `Sending` for a response, `InDoubt` for a query.
    pub before: ItemState,
    /// The outcome.
    pub outcome: Outcome,
    /// Metadata of the photo's file, for a local rejection.
    pub stamp: Option<FileStamp>,
    /// Response time of the service, if it was called.
    pub latency: Option<Duration>,
}

impl OutcomeRecord {
    /// Creates a record without file metadata and latency.
    pub fn new(item: ItemId, before: ItemState, outcome: Outcome) -> Self {
        Self { item, before, outcome, stamp: None, latency: None }
    }
}

/// A run that starts.
#[derive(Debug, Clone)]
pub struct RunStart {
    /// Name of the run.
    pub id: RunId,
    /// Masked access key.
    pub access_key: String,
    /// Fingerprint of the photo rules; `None` if the run sends nothing.
    pub rules: Option<String>,
    /// Maximum calls per second; `None` if the run sends nothing.
    pub quota: Option<f64>,
}

/// State of a checkpoint at the start of a run.
#[derive(Debug, Clone)]
pub struct CheckpointState {
    /// Rows by state.
    pub counts: Counts,
    /// Whether there was a run before.
    pub is_resumed: bool,
    /// Rate in calls per second that the last run learned.
    pub learned_rate: Option<f64>,
    /// Whether the last run ended without recording a result.
    pub was_killed: bool,
    /// Whether items may be missing from it, so that the service may hold people whom the checkpoint does not know.
    pub was_purged: bool,
    /// Epoch, as [`Store::end_run`] returns it.
    pub epoch: u64,
}

/// Transactional storage of one run.
pub trait Store: Send + 'static {
    /// Opens a transaction.
    fn begin(&mut self) -> Result<(), StoreError>;
    /// Makes everything since [`begin`](Self::begin) durable.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// Starts a run: items that were being sent when the last run died become in doubt, and items rejected under other
    /// photo rules become pending again.
    fn start_run(&mut self, run: &RunStart) -> Result<CheckpointState, StoreError>;
    /// Ends the run and returns the checkpoint's epoch: a number that grows whenever a run starts or ends, so that an old
    /// copy can be told from a new one.
    fn end_run(&mut self, exit_code: u8, reason: &str) -> Result<u64, StoreError>;

    /// Registers a source before it is read.
    fn open_source(&mut self, name: &str, root: &Path) -> Result<SourceId, StoreError>;
    /// Ingests rows.
    fn ingest(&mut self, batch: &Batch) -> Result<Ingested, StoreError>;
    /// Counts the items that this source was the last to name.
    fn count_items(&mut self, source: SourceId) -> Result<u64, StoreError>;
    /// Records how many files of this directory were skipped.
    fn record_skipped(&mut self, source: SourceId, files: u64) -> Result<(), StoreError>;
    /// Ends the ingest after every source was read to its end: items that they no longer name have vanished.
    fn finish_ingest(&mut self) -> Result<(), StoreError>;
    /// Records the results of checking photos of enrolled items.
    fn record_photo_checks(&mut self, checks: &[PhotoCheck]) -> Result<(), StoreError>;
    /// Makes rejected and failed items pending again.
    fn requeue(&mut self, items: &[ItemId]) -> Result<(), StoreError>;

    /// Returns pending items after `after` in the order of their numbers, both named by this run's sources and left over
    /// from other sources. During ingest, it may return fewer than there are.
    fn claim(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError>;
    /// Returns items in doubt after `after`.
    fn in_doubt_items(&mut self, after: ItemId, limit: usize) -> Result<Vec<InDoubtRow>, StoreError>;
    /// Records a request before it is sent.
    fn intend(&mut self, intent: &NewIntent) -> Result<Intent, StoreError>;
    /// Records the outcome of an item.
    fn settle(&mut self, outcome: &OutcomeRecord) -> Result<ItemUpdate, StoreError>;

    /// Records which records of the service an item supersedes.
    fn record_superseded(&mut self, item: ItemId, records: &[i64]) -> Result<(), StoreError>;
    /// Returns enrolled items after `after` whose superseded records must still be deleted.
    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError>;
    /// Records the deletion of a record before it is sent.
    fn intend_delete(&mut self, delete: &DeleteIntent) -> Result<(), StoreError>;
    /// Records that all superseded records of an item are deleted.
    fn finish_delete(&mut self, item: ItemId) -> Result<(), StoreError>;

    /// Counts the rows by state.
    fn counts(&mut self) -> Result<Counts, StoreError>;
    /// Records what the run has done so far, for readers of the checkpoint.
    fn record_totals(&mut self, totals: &RunTotals, limited_by: Bottleneck) -> Result<(), StoreError>;
    /// Saves the learned rate in calls per second; `None` if the service does not throttle.
    fn save_rate(&mut self, per_second: Option<f64>) -> Result<(), StoreError>;
}

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
