//! What the engine asks of a checkpoint. Blocking: it is called on the writer's thread alone.
//!
//! Every call is made between [`Store::begin`] and [`Store::commit`]; nothing is promised to anyone before the commit has
//! returned. The first error ends the store: what lied once is not asked again.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use super::StoreError;
use crate::domain::{
    Bottleneck, Counts, DeleteIntent, Digest, FaceGroupCode, FileStamp, Intent, Item, ItemId, ItemState, ItemUpdate,
    Latencies, MerchantUserId, Outcome, PhotoSource, RowError, RunId, RunTotals, Supersedes,
};

/// A source's number in the checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub(super) i64);

/// Rows that go in together.
#[derive(Debug)]
pub struct Batch {
    /// Where they stood.
    pub source: SourceId,
    /// In the order of the manifest.
    pub rows: Vec<Result<Item, RowError>>,
}

/// What a batch changed.
#[derive(Debug, Default)]
pub struct Ingested {
    /// Items that were refused before and whose photo may have changed since: to be looked at.
    pub rejected_items: Vec<RejectedItem>,
    /// Items that are enrolled and whose photo may have changed since: to be looked at.
    pub enrolled_items: Vec<EnrolledItem>,
}

/// An item that is enrolled.
#[derive(Debug, Clone)]
pub struct EnrolledItem {
    /// Which.
    pub item: ItemId,
    /// What its row names now.
    pub photo: StoredPhoto,
}

/// What is known of the photo of an enrolled item.
#[derive(Debug, Clone)]
pub enum StoredPhoto {
    /// A file.
    File {
        /// Which.
        path: PathBuf,
        /// What the path has to lie beneath.
        root: Arc<Path>,
        /// The file as it was when it was sent; none: it was another file.
        stamp: Option<FileStamp>,
        /// Of the file that was sent; none: it was not sent by us, and which photo the service has is not known.
        digest: Option<Digest>,
    },
    /// A link to another place than before, or a file where a link was.
    Other,
}

/// What a look at the photo of an enrolled item has shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhotoCheck {
    /// Which.
    pub item: ItemId,
    /// What.
    pub seen: PhotoChange,
}

/// See [`PhotoCheck`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PhotoChange {
    /// The same photo; its file has this stamp now.
    Same(FileStamp),
    /// Another one, which is only counted.
    Other,
    /// Another one, which is to take the old one's place.
    Replacement,
}

/// An item that was refused before.
#[derive(Debug, Clone)]
pub struct RejectedItem {
    /// Which.
    pub item: ItemId,
    /// Its file.
    pub path: PathBuf,
    /// What the path has to lie beneath.
    pub root: Arc<Path>,
    /// The file as it was when it was refused; none if there was none.
    pub stamp: Option<FileStamp>,
}

/// An item to be sent.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// Which.
    pub item: ItemId,
    /// Its row in its manifest.
    pub row: u64,
    /// Its group.
    pub group: FaceGroupCode,
    /// Its id.
    pub user: MerchantUserId,
    /// Its photo.
    pub picture: PhotoSource,
    /// What its path has to lie beneath.
    pub root: PathBuf,
    /// The records whose place it is to take.
    pub replaces: Option<Supersedes>,
    /// Attempts made that count.
    pub attempts: u32,
    /// When its last intent was made, if one was, by the service's clock as far as it was known: milliseconds since 1970.
    /// What was sent before that is known not to have made a record, or no one would have been sent again.
    pub intent_ms: Option<i64>,
}

/// An item whose outcome is not known.
#[derive(Debug, Clone)]
pub struct InDoubtRow {
    /// Which.
    pub claimed: Claimed,
    /// Of the fault that raised the doubt.
    pub code: crate::domain::ErrorCode,
}

/// What is about to be sent.
#[derive(Debug, Clone)]
pub struct NewIntent {
    /// Which item.
    pub item: ItemId,
    /// Its group.
    pub group: FaceGroupCode,
    /// Its id.
    pub user: MerchantUserId,
    /// Of the photo's file.
    pub digest: Option<Digest>,
    /// Of what is sent, where that is not the file as it is.
    pub sent: Option<Digest>,
    /// The photo's file.
    pub stamp: Option<FileStamp>,
    /// Now, by the service's clock as far as it is known: milliseconds since 1970.
    pub at_ms: i64,
}

/// What became of an item.
#[derive(Debug, Clone)]
pub struct OutcomeRecord {
    /// Which.
    pub item: ItemId,
    /// The state in which it is expected to be: `Pending` for a local refusal, `Sending` for an answer, `InDoubt` for a query.
    pub before: ItemState,
    /// What happened.
    pub outcome: Outcome,
    /// The photo's file, for a local refusal.
    pub stamp: Option<FileStamp>,
    /// How long the service took, where it was asked.
    pub latency: Option<Duration>,
}

impl OutcomeRecord {
    /// Of no file, and without the service.
    pub fn new(item: ItemId, before: ItemState, outcome: Outcome) -> Self {
        Self { item, before, outcome, stamp: None, latency: None }
    }
}

/// A run that begins.
#[derive(Debug, Clone)]
pub struct RunStart {
    /// Its name.
    pub id: RunId,
    /// The access key, masked.
    pub access_key: String,
    /// The rules for photos, in words of their own; none: nothing is to be sent.
    pub rules: Option<String>,
    /// Calls a second that it may make; none: it sends nothing.
    pub quota: Option<f64>,
}

/// What an opened checkpoint is found to hold.
#[derive(Debug, Clone)]
pub struct CheckpointState {
    /// Rows in it, and how they stand.
    pub counts: Counts,
    /// Was there a run before?
    pub is_resumed: bool,
    /// The rate that the last run learned.
    pub learned_rate: Option<f64>,
    /// Did the last run end without a word?
    pub was_killed: bool,
    /// Have items been removed from it? Then the service may have people who are not in it.
    pub was_purged: bool,
    /// See [`Store::end_run`].
    pub epoch: u64,
}

/// See the module.
pub trait Store: Send + 'static {
    /// Opens a transaction.
    fn begin(&mut self) -> Result<(), StoreError>;
    /// Makes everything since [`begin`](Self::begin) durable.
    fn commit(&mut self) -> Result<(), StoreError>;

    /// A run begins: what was being sent when the last one died is in doubt from here on, and what was refused by other
    /// rules than these is pending again.
    fn start_run(&mut self, run: &RunStart) -> Result<CheckpointState, StoreError>;
    /// A run ends, in whatever way it can still tell of. Gives the checkpoint's epoch: a number that grows with every run
    /// that begins or ends, so that an old copy is known from a new one.
    fn end_run(&mut self, exit_code: u8, reason: &str) -> Result<u64, StoreError>;

    /// A source is about to be read.
    fn open_source(&mut self, name: &str, root: &Path) -> Result<SourceId, StoreError>;
    /// Takes rows in.
    fn ingest(&mut self, batch: &Batch) -> Result<Ingested, StoreError>;
    /// How many items this source has named and no other one since.
    fn items_of(&mut self, _source: SourceId) -> Result<u64, StoreError> {
        Ok(0)
    }
    /// So many files of this source, a directory, were left out in this reading.
    fn note_skipped(&mut self, _source: SourceId, _files: u64) -> Result<(), StoreError> {
        Ok(())
    }
    /// Every source has been read to its end: what they no longer name has vanished.
    fn finish_ingest(&mut self) -> Result<(), StoreError>;
    /// Looks at photos of enrolled items.
    fn record_photo_checks(&mut self, looks: &[PhotoCheck]) -> Result<(), StoreError>;
    /// Items that were refused, or had failed, are to be sent again.
    fn requeue(&mut self, items: &[ItemId]) -> Result<(), StoreError>;

    /// Pending items behind `after`, in the order of their numbers, that this run's sources name or that other sources
    /// left over. While rows are still coming in, fewer may be given than there are.
    fn claim(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError>;
    /// Items in doubt behind `after`.
    fn in_doubt_items(&mut self, after: ItemId, limit: usize) -> Result<Vec<InDoubtRow>, StoreError>;
    /// Records that this is about to be sent.
    fn intend(&mut self, intent: &NewIntent) -> Result<Intent, StoreError>;
    /// Records what became of it.
    fn settle(&mut self, settlement: &OutcomeRecord) -> Result<ItemUpdate, StoreError>;

    /// The service has these records of an item that is to replace them.
    fn record_superseded(&mut self, item: ItemId, records: &[i64]) -> Result<(), StoreError>;
    /// Enrolled items behind `after` whose old records are still to be removed.
    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError>;
    /// Records that this is about to be removed.
    fn intend_delete(&mut self, removal: &DeleteIntent) -> Result<(), StoreError>;
    /// The old records of an item are gone.
    fn finish_delete(&mut self, item: ItemId) -> Result<(), StoreError>;

    /// How the rows stand.
    fn counts(&mut self) -> Result<Counts, StoreError>;
    /// What the run has done so far, for whoever looks from elsewhere, or afterwards.
    fn record_totals(&mut self, totals: &RunTotals, limited_by: Bottleneck) -> Result<(), StoreError>;
    /// The rate that this run has learned; none: the service takes whatever it is given.
    fn save_rate(&mut self, per_second: Option<f64>) -> Result<(), StoreError>;
}

/// One item or refused row, as `export` gives it.
#[derive(Debug, Clone)]
pub struct ExportRow {
    /// The row in its source.
    pub row: u64,
    /// The source's name.
    pub source: Arc<str>,
    /// The photo's file, absolute, if the row has one.
    pub path: Option<PathBuf>,
    /// The photo's link, if the row has one.
    pub url: Option<String>,
    /// As written.
    pub user: Option<String>,
    /// As written, or the run's `--group`.
    pub group: Option<String>,
    /// How it stands.
    pub state: ItemState,
    /// Who refused.
    pub stage: Option<crate::domain::RejectedBy>,
    /// Why.
    pub code: Option<String>,
    /// Why, for a person.
    pub message: Option<String>,
    /// Of the last answer.
    pub request_id: Option<String>,
    /// Attempts made that count.
    pub attempts: u32,
    /// `faceQuality`.
    pub quality: Option<String>,
    /// Of the bytes that were sent.
    pub digest: Option<Digest>,
    /// Milliseconds since 1970.
    pub enrolled_ms: Option<i64>,
    /// Of the last answer.
    pub latency_ms: Option<u64>,
    /// What told us.
    pub confirmed_by: Option<crate::domain::ConfirmedBy>,
    /// The manifest's other fields.
    pub extra: crate::domain::Extra,
}

/// The rate of now is that of so long: a run notes what it has done every 5 s.
const LATELY_MS: i64 = 60_000;

/// What a run did, as it noted it itself.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummaryRow {
    /// Its name.
    pub run_id: String,
    /// Milliseconds since 1970.
    pub started_ms: i64,
    /// None: it goes on, or it died.
    pub ended_ms: Option<i64>,
    /// None: it goes on, or it died.
    pub exit_code: Option<u8>,
    /// Why it ended so.
    pub exit_reason: Option<String>,
    /// Calls a second that it might make; none: it sent nothing.
    pub quota: Option<f64>,
    /// What kept it from going faster, when it noted it last.
    pub limited_by: Option<String>,
    /// Does it go on?
    pub is_live: bool,
    /// What it has done, when it noted it last.
    pub totals: RateSample,
    /// How long answers took.
    pub latencies: Latencies,
    /// Its totals at moments.
    pub paces: Vec<RateSample>,
}

/// A run's totals at a moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RateSample {
    /// Milliseconds since 1970.
    pub at_ms: i64,
    /// AddFaceRecord calls.
    pub calls: u64,
    /// Of them, throttled.
    pub throttled: u64,
    /// Rows enrolled.
    pub newly_enrolled: u64,
}

impl RunSummaryRow {
    /// When it was last heard of: milliseconds since 1970.
    pub fn last_ms(&self) -> i64 {
        self.ended_ms.unwrap_or(self.totals.at_ms)
    }

    /// Calls a second over the last minute that it noted.
    pub fn recent_rate(&self) -> f64 {
        let Some(last) = self.paces.last().copied() else { return 0.0 };
        let first = self.paces.iter().find(|pace| pace.at_ms >= last.at_ms - LATELY_MS).copied().unwrap_or(last);
        let seconds = (last.at_ms - first.at_ms) as f64 / 1_000.0;
        if seconds > 0.0 { last.calls.saturating_sub(first.calls) as f64 / seconds } else { 0.0 }
    }
}
