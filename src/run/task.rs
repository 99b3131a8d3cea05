//! Types shared by the steps of a run: an item in progress, what the steps return, and open reconciliations.
//!
//! The steps import these.

use std::time::Duration;

use tokio::time::Instant;

use super::budget::BytePermit;
use crate::{
    api::{ObjectUrl, Payload},
    checkpoint::{Claimed, StoreError},
    domain::{Digest, ErrorCode, FatalError, FileStamp, ItemId, Supersedes},
    pace::Backoff,
    picture::{Defect, Warning},
};

/// An item in progress, with the state of its earlier attempts in this run.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) claimed: Claimed,
    /// Backoff after failures and throttled calls.
    pub(super) backoff: Backoff,
    /// Failed reads of its file that were the machine's fault.
    pub(super) read_faults: u32,
    /// Failed uploads of its photo.
    pub(super) upload_faults: u32,
    /// The uploaded photo, if any.
    pub(super) uploaded: Option<UploadedPhoto>,
    /// Whether it counts against `--max-images` already.
    pub(super) is_counted: bool,
}

impl Task {
    pub(super) fn new(claimed: Claimed) -> Self {
        Self {
            claimed,
            backoff: Backoff::default(),
            read_faults: 0,
            upload_faults: 0,
            uploaded: None,
            is_counted: false,
        }
    }

    /// Retries the item after its next backoff.
    pub(super) fn requeue(mut self) -> Next {
        let wait = self.backoff.next(fastrand::f64());
        Next::Requeue(self, Instant::now() + wait)
    }
}

/// The next step for an item.
pub(super) enum Next {
    /// Nothing: its outcome is on disk.
    Done,
    /// Retry at this time.
    Requeue(Task, Instant),
    /// Reconcile it; the code is that of its failure.
    InDoubt(Task, ErrorCode),
    /// Delete the records that it replaces; its outcome is on disk.
    CleanUp(ReplacementCleanup),
    /// Leave it pending: the run is draining.
    Cancelled,
    /// Leave it pending: its photo is missing, and perhaps all photos are.
    Withheld,
    /// Leave it pending and do not claim it again in this run.
    SetAside,
    /// Leave it and all later items pending: `--max-images` is reached.
    LimitReached,
}

/// A photo that is ready to be sent.
pub(super) struct Prepared {
    pub(super) load: Delivery,
    pub(super) file: PhotoFile,
    pub(super) warnings: Vec<Warning>,
    /// Share of the byte budget, released with the bytes.
    pub(super) _bytes: Option<BytePermit>,
}

/// How the photo is sent.
pub(super) enum Delivery {
    /// In the call itself.
    Inline(Payload),
    /// By an upload before the call.
    Upload(Vec<u8>),
}

/// The file that a photo came from; empty for a URL.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PhotoFile {
    /// Digest of its bytes.
    pub(super) digest: Option<Digest>,
    /// Digest of what is sent, if it differs from the file.
    pub(super) sent: Option<Digest>,
    pub(super) stamp: Option<FileStamp>,
}

/// Why a photo cannot be sent.
pub(super) enum PrepareError {
    /// The photo is unusable as it is.
    Defect(Defect, Option<FileStamp>),
    /// Nothing in object storage can be read until a person acts.
    Fatal(FatalError),
    /// The machine failed, not the photo.
    Machine(std::io::Error),
}

/// Retries reuse an uploaded file for this long: its retention is not documented.
const UPLOAD_REUSE_TTL: Duration = Duration::from_secs(10 * 60);

/// A photo that has been uploaded.
#[derive(Debug, Clone)]
pub(super) struct UploadedPhoto {
    pub(super) address: ObjectUrl,
    pub(super) file: PhotoFile,
    pub(super) at: Instant,
}

impl UploadedPhoto {
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        now < self.at + UPLOAD_REUSE_TTL
    }
}

/// An open question to the service.
#[derive(Debug)]
pub(super) enum Reconciliation {
    /// Whether an item in doubt was enrolled.
    InDoubt(InDoubtItem),
    /// Whether the new record is visible and the old ones are deleted.
    Replacement(ReplacementCleanup),
}

impl Reconciliation {
    pub(super) fn item(&self) -> ItemId {
        match self {
            Self::InDoubt(doubt) => doubt.task.claimed.item,
            Self::Replacement(replacement) => replacement.item(),
        }
    }
}

/// An item in doubt and the state of its reconciliation.
#[derive(Debug)]
pub(super) struct InDoubtItem {
    pub(super) task: Task,
    /// Code of the failure that put it in doubt.
    pub(super) code: ErrorCode,
    /// Whether "absent" has been answered once.
    pub(super) was_absent: bool,
    /// Whether an earlier run left it in doubt. The sources of this run may no longer name it.
    pub(super) is_leftover: bool,
    pub(super) backoff: Backoff,
}

impl InDoubtItem {
    /// Item put in doubt by this run.
    pub(super) fn new(task: Task, code: ErrorCode) -> Self {
        Self { task, code, was_absent: false, is_leftover: false, backoff: Backoff::default() }
    }

    /// Item left in doubt by an earlier run.
    pub(super) fn leftover(task: Task, code: ErrorCode) -> Self {
        Self { is_leftover: true, ..Self::new(task, code) }
    }
}

/// The next step of a reconciliation.
pub(super) enum ReconcileStep {
    /// Nothing: it is settled.
    Settled,
    /// Query again at this time.
    AskAgain(Reconciliation, Instant),
    /// Send the item again: it is absent.
    Resend(Task),
    /// Leave the item to the scan, which knows whether the sources still name it. It may be pending.
    Rescan,
    /// Leave it to the next run.
    Deferred,
}

/// A person enrolled with a new photo whose old records still have to be deleted.
#[derive(Debug)]
pub(super) struct ReplacementCleanup {
    pub(super) claimed: Claimed,
    /// Queries that did not show the new record.
    pub(super) unseen: u32,
    /// Deletions and queries that failed.
    pub(super) failures: u32,
    pub(super) backoff: Backoff,
}

impl ReplacementCleanup {
    /// `None` if the item replaces nothing.
    pub(super) fn of(claimed: Claimed) -> Option<Self> {
        match &claimed.replaces {
            None => None,
            Some(Supersedes::Records(records)) if records.is_empty() => None,
            Some(Supersedes::Records(_) | Supersedes::Unknown) => {
                Some(Self { claimed, unseen: 0, failures: 0, backoff: Backoff::default() })
            }
        }
    }

    pub(super) fn replaced(&self) -> &[i64] {
        records(&self.claimed)
    }

    pub(super) fn item(&self) -> ItemId {
        self.claimed.item
    }
}

/// The records that an item replaces.
pub(super) fn records(claimed: &Claimed) -> &[i64] {
    match &claimed.replaces {
        Some(Supersedes::Records(records)) => records,
        Some(Supersedes::Unknown) | None => &[],
    }
}

/// Items read from the checkpoint at once.
const PAGE_SIZE: usize = 256;

/// Reads all items of one kind, page by page.
pub(super) async fn read_all<R>(
    read: impl AsyncFn(ItemId, usize) -> Result<Vec<R>, StoreError>,
    item: impl Fn(&R) -> ItemId,
) -> Result<Vec<R>, StoreError> {
    let (mut all, mut after) = (Vec::new(), ItemId(0));
    loop {
        let page = read(after, PAGE_SIZE).await?;
        let Some(last) = page.last() else { return Ok(all) };
        after = item(last);
        all.extend(page);
    }
}
