//! Values that a run gives to a [`Store`](super::Store) or gets from it.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use crate::domain::{
    Counts, Digest, ErrorCode, FaceGroupCode, FileStamp, Item, ItemId, ItemState, MerchantUserId, Outcome, PhotoSource,
    RowError, RunId, Supersedes,
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
    /// Rows skipped because they repeat an earlier row of this run: same id, group and photo.
    pub repeated: u64,
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
    /// Epoch, as [`Store::end_run`](super::Store::end_run) returns it.
    pub epoch: u64,
}
