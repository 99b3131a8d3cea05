//! Replaces the records of an enrolled person with one for the new photo (`--on-change replace`).
//!
//! The order must not be swapped: the ids of the old records are committed before the new photo is sent; the new
//! record is visible before an old one is deleted; each deletion is committed, then waits for the gate, then is sent, and
//! names a record by its id. After a kill in between, a person may have two records for a while, and never none. An intent
//! whose deletion was not sent changes nothing: the item still names its old records, and the next run deletes them.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{
    guards::Sign,
    lookup::{Lookup, NoAnswer},
    recorder::Recorder,
    task::{ReconcileStep, Reconciliation, ReplacementCleanup, read_all},
};
use crate::{
    api::{FaceRecord, Transport},
    caller::NoPermit,
    checkpoint::{Store, StoreError},
    domain::{CallError, CallFailure, DeleteIntent, DrainReason, action::DeleteFaceRecord},
    pace::{Gate, RetryRules},
};

/// Wait between a deletion and the query that checks it.
const DELETE_SETTLE: Duration = Duration::from_millis(500);

/// Deletes the records that new photos replace.
pub(super) struct Replacer<T, S> {
    pub(super) lookup: Arc<Lookup<T, S>>,
    pub(super) recorder: Arc<Recorder<S>>,
    pub(super) gate: Gate<DeleteFaceRecord>,
    pub(super) rules: RetryRules,
    pub(super) settle: Duration,
}

impl<T: Transport, S: Store> Replacer<T, S> {
    /// Deletions of replaced records that earlier runs left unfinished.
    pub(super) async fn leftovers(&self) -> Result<Vec<(Reconciliation, Instant)>, StoreError> {
        let checkpoint = &self.recorder.checkpoint;
        let items = read_all(async |after, limit| checkpoint.pending_deletes(after, limit).await, |item| item.item);
        let replacements = items.await?.into_iter().filter_map(ReplacementCleanup::of);
        Ok(replacements.map(|replacement| (Reconciliation::Replacement(replacement), Instant::now())).collect())
    }

    /// Takes the next step of a replacement: queries the records and deletes one of the replaced ones.
    pub(super) async fn step(&self, replacement: ReplacementCleanup) -> Result<ReconcileStep, StoreError> {
        Ok(match self.clean_up(replacement).await? {
            // A second change of the photo may have made the item pending meanwhile.
            ReconcileStep::Settled | ReconcileStep::Deferred => ReconcileStep::Rescan,
            step @ (ReconcileStep::AskAgain(..) | ReconcileStep::Resend(_) | ReconcileStep::Rescan) => step,
        })
    }

    async fn clean_up(&self, mut replacement: ReplacementCleanup) -> Result<ReconcileStep, StoreError> {
        let found = match self.lookup.records(&replacement.claimed).await {
            Ok(found) => found,
            Err(NoAnswer::Draining) => return Ok(ReconcileStep::Deferred),
            Err(NoAnswer::Throttled) => return Ok(self.requeue_cleanup(replacement, None)),
            Err(NoAnswer::Unanswered(fault)) => return Ok(self.requeue_cleanup(replacement, Some(&fault))),
        };
        let is_old = |record: &&FaceRecord| replacement.replaced().contains(&record.id);
        let old = found.iter().find(is_old).map(|record| record.id);
        if found.iter().all(|record| is_old(&record)) {
            replacement.unseen += 1;
            return Ok(self.wait_until_visible(replacement));
        }
        match old {
            None => {
                self.recorder.checkpoint.finish_delete(replacement.claimed.item).await?;
                Ok(ReconcileStep::Settled)
            }
            Some(record) => self.delete(replacement, record).await,
        }
    }

    /// Deletes nothing while the new record is not visible. As for any item in doubt, "absent" has to be answered
    /// twice.
    fn wait_until_visible(&self, replacement: ReplacementCleanup) -> ReconcileStep {
        if replacement.unseen < 2 {
            return ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), Instant::now() + self.settle);
        }
        tracing::warn!(
            row = replacement.claimed.row,
            "the new photo is enrolled, but the service shows no new record: keeping the old one; the next run checks again"
        );
        ReconcileStep::Deferred
    }

    async fn delete(&self, mut replacement: ReplacementCleanup, record: i64) -> Result<ReconcileStep, StoreError> {
        let (caller, checkpoint) = (&self.lookup.caller, &self.recorder.checkpoint);
        if let Some(deferred) = self.gate.deferred(Instant::now()) {
            return Ok(ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), deferred.until));
        }
        let delete = DeleteIntent { item: replacement.claimed.item, record };
        let Some(intent) = checkpoint.intend_delete(delete.clone()).await? else { return Ok(ReconcileStep::Rescan) };
        crate::crash::point("removal.intended");
        let permit = match caller.permit(&self.gate).await {
            Ok(permit) => permit,
            // Nothing was sent: release the intent.
            Err(no_permit) => {
                checkpoint.release_delete(delete).await?;
                return Ok(match no_permit {
                    NoPermit::Deferred(until) => {
                        ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), until)
                    }
                    NoPermit::Stopped => ReconcileStep::Deferred,
                });
            }
        };
        crate::crash::point("removal.before");
        let deleted = caller.client.delete_face_record(permit, intent).await;
        crate::crash::point("removal.after");
        let now = Instant::now();
        self.gate.record(&deleted, now);
        self.recorder.drain_for(self.lookup.guards.observe(Sign::Deletion(deleted.as_ref().err()), now));
        Ok(match deleted {
            Ok(()) => {
                replacement.failures = 0;
                let at = Instant::now() + DELETE_SETTLE.min(self.settle);
                ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), at)
            }
            Err(CallError::Throttled { .. }) => {
                checkpoint.release_delete(delete).await?;
                self.requeue_cleanup(replacement, None)
            }
            // Perhaps it is deleted: the next query shows it.
            Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => {
                self.requeue_cleanup(replacement, Some(&fault))
            }
            Err(CallError::Rejected(rejection)) => self.requeue_cleanup(replacement, Some(&rejection.into())),
            Err(CallError::Fatal(fatal)) => {
                checkpoint.release_delete(delete).await?;
                self.recorder.drain(DrainReason::Fatal(fatal));
                ReconcileStep::Deferred
            }
        })
    }

    /// Tries again later. Throttling is not counted, but ends the run if it lasts; after too many failures the next run
    /// continues.
    fn requeue_cleanup(&self, mut replacement: ReplacementCleanup, fault: Option<&CallFailure>) -> ReconcileStep {
        if let Some(fault) = fault {
            replacement.failures += 1;
            if replacement.failures >= self.rules.attempts {
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
