//! Replaces the records of an enrolled person with one for the new photo (`--on-change replace`).
//!
//! The order must not be swapped: the ids of the old records are committed before the new photo is sent; the new
//! record is visible before an old one is deleted; each deletion is committed before it is sent, and names a record by
//! its id. After a kill in between, a person may have two records for a while, and never none.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    engine::Engine,
    task::{ReconcileStep, Reconciliation, ReplacementCleanup, ReplacementLookup, Task},
};
use crate::{
    api::{FaceRecord, Lookup, Removed, Transport},
    checkpoint::{Store, StoreError},
    domain::{CallFailure, DeleteIntent, DrainReason, Supersedes},
};

/// Wait between a deletion and the query that checks it.
const DELETE_SETTLE: Duration = Duration::from_millis(500);

impl<T: Transport, S: Store> Engine<T, S> {
    /// Finds the records that the item replaces and commits their ids, before its photo is sent.
    pub(super) async fn find_superseded_records(&self, mut task: Task) -> Result<ReplacementLookup, StoreError> {
        let lookup = match self.query(&task.claimed).await {
            Some(lookup) => lookup,
            None => return Ok(ReplacementLookup::Draining),
        };
        let records: Vec<i64> = match lookup {
            Lookup::Present { records } => records.iter().map(|record| record.id).collect(),
            Lookup::Absent => Vec::new(),
            Lookup::Throttled { .. } => return Ok(ReplacementLookup::Later(task)),
            Lookup::Unanswered(fault) => {
                tracing::debug!(fault = fault.message, "query not answered");
                return Ok(ReplacementLookup::Later(task));
            }
            Lookup::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                return Ok(ReplacementLookup::Draining);
            }
        };
        self.checkpoint.record_superseded(task.claimed.item, records.clone()).await?;
        task.claimed.replaces = Some(Supersedes::Records(records));
        Ok(ReplacementLookup::Known(task))
    }

    /// Queries the records and deletes one of the replaced ones.
    pub(super) async fn clean_up(&self, mut replacement: ReplacementCleanup) -> Result<ReconcileStep, StoreError> {
        let Some(lookup) = self.query(&replacement.claimed).await else { return Ok(ReconcileStep::Deferred) };
        let found = match lookup {
            Lookup::Present { records } => records,
            Lookup::Absent => Vec::new(),
            Lookup::Throttled { .. } => return Ok(self.requeue_cleanup(replacement, None)),
            Lookup::Unanswered(fault) => return Ok(self.requeue_cleanup(replacement, Some(&fault))),
            Lookup::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                return Ok(ReconcileStep::Deferred);
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
            Some(record) => self.delete(replacement, record).await,
        }
    }

    /// Deletes nothing while the new record is not visible. As for any item in doubt, "absent" has to be answered
    /// twice.
    fn wait_until_visible(&self, replacement: ReplacementCleanup) -> ReconcileStep {
        if replacement.unseen < 2 {
            return ReconcileStep::AskAgain(
                Reconciliation::Replacement(replacement),
                Instant::now() + self.settings.settle,
            );
        }
        tracing::warn!(
            row = replacement.claimed.row,
            "the new photo is enrolled, but the service shows no new record: keeping the old one; the next run checks again"
        );
        ReconcileStep::Deferred
    }

    async fn delete(&self, mut replacement: ReplacementCleanup, record: i64) -> Result<ReconcileStep, StoreError> {
        let permit = tokio::select! {
            biased;
            () = self.stop.draining() => return Ok(ReconcileStep::Deferred),
            permit = self.delete_gate.permit() => permit,
        };
        let permit = match permit {
            Ok(permit) => permit,
            Err(deferred) => {
                return Ok(ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), deferred.until));
            }
        };
        let delete = DeleteIntent { item: replacement.claimed.item, record };
        let Some(intent) = self.checkpoint.intend_delete(delete).await? else { return Ok(ReconcileStep::Rescan) };
        crate::crash::point("removal.before");
        let removed = self.client.delete_face_record(permit, intent).await;
        crate::crash::point("removal.after");
        match removed {
            Removed::Done => {
                self.delete_gate.observe(false, Instant::now());
                replacement.failures = 0;
                Ok(ReconcileStep::AskAgain(
                    Reconciliation::Replacement(replacement),
                    Instant::now() + DELETE_SETTLE.min(self.settings.settle),
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
                Ok(ReconcileStep::Deferred)
            }
        }
    }

    /// Tries again later. Throttling is not counted; after too many failures the next run continues.
    fn requeue_cleanup(&self, mut replacement: ReplacementCleanup, fault: Option<&CallFailure>) -> ReconcileStep {
        if let Some(fault) = fault {
            replacement.failures += 1;
            if replacement.failures >= self.settings.rules.attempts {
                tracing::warn!(
                    row = replacement.claimed.row,
                    fault = fault.message,
                    "cannot delete the old record; the next run tries again"
                );
                return ReconcileStep::Deferred;
            }
        }
        let wait = replacement.backoff.next(fastrand::f64());
        ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), Instant::now() + wait)
    }
}
