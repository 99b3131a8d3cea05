//! Another photo of someone who is enrolled takes the old one's place (`--on-change replace`).
//!
//! The order must not be swapped: the old records' numbers are read and on disk before the new photo is sent; the new
//! record is seen before an old one is removed; each removal is on disk before it is sent, and names a record by its
//! number. Killed in between, there may be two records of one person for a while, and never none.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    attempt::Task,
    engine::Engine,
    reconcile::{ReconcileStep, Reconciliation},
};
use crate::{
    api::{FaceRecord, Lookup, Removed, Transport},
    checkpoint::{Claimed, Store, StoreError},
    domain::{CallFailure, DeleteIntent, DrainReason, ItemId, Supersedes},
    pace::Backoff,
};

/// How long to leave the service with a removal before it is asked what is there.
const REMOVAL_SETTLES: Duration = Duration::from_millis(500);

/// Someone who is enrolled anew, and whose old records are still to be removed.
#[derive(Debug)]
pub(super) struct Replacement {
    claimed: Claimed,
    /// Looks that did not show the new record.
    unseen: u32,
    /// Removals, and looks that were not answered.
    tries: u32,
    backoff: Backoff,
}

impl Replacement {
    pub(super) fn item(&self) -> ItemId {
        self.claimed.item
    }
}

/// What a question before the sending has shown.
pub(super) enum ReplacementLookup {
    /// It may be sent: this is what it replaces.
    Known(Task),
    /// To be asked later.
    Later(Task),
    /// The run drains.
    Left,
}

impl Replacement {
    /// None: it replaces nothing.
    pub(super) fn of(claimed: Claimed) -> Option<Self> {
        match &claimed.replaces {
            None => None,
            Some(Supersedes::Records(records)) if records.is_empty() => None,
            Some(Supersedes::Records(_) | Supersedes::Unknown) => {
                Some(Self { claimed, unseen: 0, tries: 0, backoff: Backoff::default() })
            }
        }
    }

    fn replaced(&self) -> &[i64] {
        records(&self.claimed)
    }
}

/// The records that an item replaces.
pub(super) fn records(claimed: &Claimed) -> &[i64] {
    match &claimed.replaces {
        Some(Supersedes::Records(records)) => records,
        Some(Supersedes::Unknown) | None => &[],
    }
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// What a new photo is to replace, on disk, before the photo is sent.
    pub(super) async fn find_superseded_records(&self, mut work: Task) -> Result<ReplacementLookup, StoreError> {
        let lookup = match self.query(&work.claimed).await {
            Some(lookup) => lookup,
            None => return Ok(ReplacementLookup::Left),
        };
        let records: Vec<i64> = match lookup {
            Lookup::Present { records } => records.iter().map(|record| record.id).collect(),
            Lookup::Absent => Vec::new(),
            Lookup::Throttled { .. } => return Ok(ReplacementLookup::Later(work)),
            Lookup::Unanswered(fault) => {
                tracing::debug!(fault = fault.message, "a query was not answered");
                return Ok(ReplacementLookup::Later(work));
            }
            Lookup::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                return Ok(ReplacementLookup::Left);
            }
        };
        self.checkpoint.record_superseded(work.claimed.item, records.clone()).await?;
        work.claimed.replaces = Some(Supersedes::Records(records));
        Ok(ReplacementLookup::Known(work))
    }

    /// Asks what is there, and removes what is to go.
    pub(super) async fn clean_up(&self, mut replacement: Replacement) -> Result<ReconcileStep, StoreError> {
        let Some(lookup) = self.query(&replacement.claimed).await else { return Ok(ReconcileStep::Left) };
        let found = match lookup {
            Lookup::Present { records } => records,
            Lookup::Absent => Vec::new(),
            Lookup::Throttled { .. } => return Ok(self.requeue_cleanup(replacement, None)),
            Lookup::Unanswered(fault) => return Ok(self.requeue_cleanup(replacement, Some(&fault))),
            Lookup::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                return Ok(ReconcileStep::Left);
            }
        };
        let is_old = |record: &&FaceRecord| replacement.replaced().contains(&record.id);
        let old = found.iter().find(is_old).map(|record| record.id);
        if found.iter().all(|record| is_old(&record)) {
            replacement.unseen += 1;
            return Ok(self.wait_until_visible(replacement));
        }
        match old {
            None => {
                self.checkpoint.finish_delete(replacement.claimed.item).await?;
                Ok(ReconcileStep::Settled)
            }
            Some(record) => self.remove(replacement, record).await,
        }
    }

    /// The new record is not there, or not yet; then nothing is removed. "Absent" is heard twice, as of any doubt.
    fn wait_until_visible(&self, replacement: Replacement) -> ReconcileStep {
        if replacement.unseen < 2 {
            return ReconcileStep::AskAgain(
                Reconciliation::Replacement(replacement),
                Instant::now() + self.settings.settle,
            );
        }
        tracing::warn!(
            row = replacement.claimed.row,
            "the new photo is enrolled, but the service shows no new record: the old one is kept, and looked at again by the next run"
        );
        ReconcileStep::Left
    }

    async fn remove(&self, mut replacement: Replacement, record: i64) -> Result<ReconcileStep, StoreError> {
        let permit = tokio::select! {
            biased;
            () = self.stop.draining() => return Ok(ReconcileStep::Left),
            permit = self.delete_gate.permit() => permit,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(deferred) => {
                return Ok(ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), deferred.until));
            }
        };
        let intent = self.checkpoint.intend_delete(DeleteIntent { item: replacement.claimed.item, record }).await?;
        crate::crash::point("removal.before");
        let removed = self.client.delete_face_record(permit, intent).await;
        crate::crash::point("removal.after");
        match removed {
            Removed::Done => {
                self.delete_gate.observe(false, Instant::now());
                replacement.tries = 0;
                Ok(ReconcileStep::AskAgain(
                    Reconciliation::Replacement(replacement),
                    Instant::now() + REMOVAL_SETTLES.min(self.settings.settle),
                ))
            }
            Removed::Throttled { retry_after } => {
                let now = Instant::now();
                self.delete_gate.observe(true, now);
                if let Some(pause) = retry_after {
                    self.delete_gate.pause(pause, now);
                }
                Ok(self.requeue_cleanup(replacement, None))
            }
            Removed::Unanswered(fault) => Ok(self.requeue_cleanup(replacement, Some(&fault))),
            Removed::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                Ok(ReconcileStep::Left)
            }
        }
    }

    /// A throttle uses nothing up; faults do, and then the rest is the next run's.
    fn requeue_cleanup(&self, mut replacement: Replacement, fault: Option<&CallFailure>) -> ReconcileStep {
        if let Some(fault) = fault {
            replacement.tries += 1;
            if replacement.tries >= self.settings.rules.attempts {
                tracing::warn!(
                    row = replacement.claimed.row,
                    fault = fault.message,
                    "the old record could not be removed: it is left to the next run"
                );
                return ReconcileStep::Left;
            }
        }
        let wait = replacement.backoff.next(fastrand::f64());
        ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), Instant::now() + wait)
    }
}
