//! Reconciles items in doubt by querying their records (reference, reliability.md 4.6).
//!
//! The service may execute a call after our query, so an item is sent again only after two "absent" answers, `--settle`
//! apart. A query without an answer settles nothing and counts as nothing.

use std::{sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::mpsc, time::Instant};

use super::{
    control::Stop,
    error::{RunError, catch},
    guards::{GroupCache, Guards},
    lookup::{Lookup, NoAnswer},
    queue::{MAX_CONCURRENT_QUERIES, Queue},
    recorder::Recorder,
    task::{InDoubtItem, ReconcileStep, Reconciliation, ReplacementCleanup, Task, read_all, records},
};
use crate::{
    api::{Client, FaceRecord, Transport},
    caller::Caller,
    checkpoint::{Checkpoint, OutcomeRecord, Store, StoreError},
    domain::{ConfirmedBy, ErrorCode, ItemState, MAX_CLOCK_SKEW, Outcome, action::Query},
    pace::{Gate, InDoubtPolicy, RetryRules},
};

/// How items in doubt are reconciled.
#[derive(Debug, Clone, Copy)]
pub struct ReconcileSettings {
    /// `--in-doubt`.
    pub policy: InDoubtPolicy,
    /// `--settle`.
    pub settle: Duration,
    /// `--retries`.
    pub rules: RetryRules,
}

/// Reconciles items in doubt.
pub struct Reconciler<T, S> {
    lookup: Arc<Lookup<T, S>>,
    recorder: Arc<Recorder<S>>,
    settings: ReconcileSettings,
}

impl<T: Transport, S: Store> Reconciler<T, S> {
    pub(super) fn new(lookup: Arc<Lookup<T, S>>, settings: ReconcileSettings) -> Self {
        Self { recorder: Arc::clone(&lookup.recorder), lookup, settings }
    }

    /// A reconciler outside a run: nothing is sent, and the result is in the checkpoint. Gives up after `give_up_after`
    /// without an answer.
    pub fn alone(
        (client, gate): (Client<T>, Gate<Query>),
        (checkpoint, stop): (Checkpoint<S>, Stop),
        settings: ReconcileSettings,
        give_up_after: Duration,
    ) -> Self {
        let caller = Arc::new(Caller { client, stop: stop.token() });
        // Nobody listens to the events.
        let recorder = Arc::new(Recorder::new(checkpoint, mpsc::channel(1).0, stop, None));
        let guards = Arc::new(Guards::new(give_up_after));
        let lookup = Lookup { caller, gate, recorder, guards, groups: GroupCache::default() };
        Self::new(Arc::new(lookup), settings)
    }

    /// Number of queries made.
    pub fn queries(&self) -> u64 {
        self.recorder.stats.queries()
    }

    /// `--in-doubt retry` accepts that a call may have been executed. What `undo` left in doubt was enrolled for certain, so
    /// it is always asked about before it is sent again.
    fn policy(&self, case: &InDoubtItem) -> InDoubtPolicy {
        match self.settings.policy {
            InDoubtPolicy::Retry if case.code.0 == ErrorCode::UNDOING => InDoubtPolicy::Reconcile,
            policy @ (InDoubtPolicy::Reconcile | InDoubtPolicy::Retry | InDoubtPolicy::Hold) => policy,
        }
    }

    /// Time of the first query for an item in doubt. `None` if this run makes none.
    pub(super) fn schedule(&self, case: &mut InDoubtItem, now: Instant) -> Option<Instant> {
        match self.policy(case) {
            InDoubtPolicy::Reconcile => Some(now + self.settings.settle),
            InDoubtPolicy::Retry => Some(now + case.backoff.next(fastrand::f64())),
            InDoubtPolicy::Hold => None,
        }
    }

    /// Items that earlier runs left in doubt. `--settle` counts from now, so no clock needs to be trusted.
    pub(super) async fn leftovers(&self) -> Result<Vec<(Reconciliation, Instant)>, StoreError> {
        let checkpoint = &self.recorder.checkpoint;
        let rows = read_all(async |after, limit| checkpoint.in_doubt_items(after, limit).await, |row| row.claimed.item);
        let scheduled = rows.await?.into_iter().filter_map(|row| {
            let mut item = InDoubtItem::leftover(Task::new(row.claimed), row.code);
            let at = self.schedule(&mut item, Instant::now())?;
            Some((Reconciliation::InDoubt(item), at))
        });
        Ok(scheduled.collect())
    }

    /// Reconciles the items that earlier runs left in doubt. Absent items are pending again, for the next run, which also
    /// deletes replaced records.
    pub async fn reconcile_leftovers(&self) -> Result<(), RunError> {
        let mut queue = Queue::new(self.leftovers().await?);
        let mut queries = FuturesUnordered::new();
        while !self.recorder.stop.is_draining() {
            let now = Instant::now();
            while queries.len() < MAX_CONCURRENT_QUERIES
                && let Some(Reconciliation::InDoubt(item)) = queue.next_reconciliation(now)
            {
                queries.push(catch(self.step(item)));
            }
            let wake_at = queue.reconciliation_due().filter(|_| queries.len() < MAX_CONCURRENT_QUERIES);
            if queries.is_empty() && wake_at.is_none() {
                return Ok(());
            }
            tokio::select! {
                biased;
                Some(step) = queries.next(), if !queries.is_empty() => {
                    if let ReconcileStep::AskAgain(case @ Reconciliation::InDoubt(_), at) = step? {
                        queue.schedule_reconciliation(case, at);
                    }
                }
                () = tokio::time::sleep_until(wake_at.unwrap_or(now)), if wake_at.is_some() => {}
                () = self.recorder.stop.draining() => {}
            }
        }
        Ok(())
    }

    /// Takes the next step for an item in doubt: by a query, or as the policy says without one.
    pub(super) async fn step(&self, mut case: InDoubtItem) -> Result<ReconcileStep, StoreError> {
        match self.policy(&case) {
            InDoubtPolicy::Reconcile => {}
            InDoubtPolicy::Retry if case.task.claimed.attempts < self.settings.rules.attempts => {
                return self.resend(case).await;
            }
            // The last attempt may have been executed, so the item is not `failed`.
            InDoubtPolicy::Retry | InDoubtPolicy::Hold => return Ok(ReconcileStep::Deferred),
        }
        let found = match self.lookup.records(&case.task.claimed).await {
            Ok(found) => found,
            Err(NoAnswer::Draining) => return Ok(ReconcileStep::Deferred),
            Err(NoAnswer::Throttled | NoAnswer::Unanswered(_)) => {
                let at = Instant::now() + case.backoff.next(fastrand::f64());
                return Ok(ReconcileStep::AskAgain(Reconciliation::InDoubt(case), at));
            }
        };
        crate::crash::point("query.after");
        // Records from before the call do not show whether it was executed.
        let replaced = records(&case.task.claimed);
        let new: Vec<FaceRecord> = found.into_iter().filter(|record| !replaced.contains(&record.id)).collect();
        if !new.is_empty() {
            let outcome = outcome_of_records(&new, case.task.claimed.intent_ms);
            self.settle(&case, outcome).await?;
            return Ok(match ReplacementCleanup::of(case.task.claimed) {
                None => ReconcileStep::Settled,
                Some(replacement) => ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), Instant::now()),
            });
        }
        if !case.was_absent {
            case.was_absent = true;
            return Ok(ReconcileStep::AskAgain(Reconciliation::InDoubt(case), Instant::now() + self.settings.settle));
        }
        if case.task.claimed.attempts < self.settings.rules.attempts {
            return self.resend(case).await;
        }
        let outcome = self.settings.rules.after_confirmed_absence(case.task.claimed.attempts, case.code.clone());
        self.settle(&case, outcome).await?;
        Ok(ReconcileStep::Settled)
    }

    async fn resend(&self, case: InDoubtItem) -> Result<ReconcileStep, StoreError> {
        self.settle(&case, Outcome::Retry { counts: true }).await?;
        Ok(if case.is_leftover { ReconcileStep::Rescan } else { ReconcileStep::Resend(case.task) })
    }

    async fn settle(&self, case: &InDoubtItem, outcome: Outcome) -> Result<(), StoreError> {
        if case.task.is_counted && matches!(outcome, Outcome::Enrolled { .. }) {
            self.recorder.stats.sent_is_enrolled();
        }
        self.recorder.settle(OutcomeRecord::new(case.task.claimed.item, ItemState::InDoubt, outcome)).await
    }
}

/// Outcome for an item whose records were found, which may be older than our intent.
fn outcome_of_records(records: &[FaceRecord], intent_ms: Option<i64>) -> Outcome {
    let horizon = intent_ms.map_or(i64::MIN, |ms| ms - MAX_CLOCK_SKEW.as_millis() as i64);
    let is_ours = |record: &FaceRecord| record.created.is_none_or(|created| created.as_millisecond() >= horizon);
    let (code, message) = if !records.iter().any(is_ours) {
        let text = "the service had this id in this group before our first attempt; its photo may be another one";
        (Some(ErrorCode::from(ErrorCode::ALREADY_PRESENT)), Some(text.to_owned()))
    } else if records.len() > 1 {
        let text = format!("the service has {} records of this id in this group", records.len());
        (Some(ErrorCode::from(ErrorCode::SEVERAL_RECORDS)), Some(text))
    } else {
        (None, None)
    };
    Outcome::Enrolled { confirmed_by: ConfirmedBy::Query, quality: None, code, message, request_id: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(created: Option<&str>) -> FaceRecord {
        FaceRecord { id: 1, created: created.map(|text| text.parse().unwrap()) }
    }

    fn code(records: &[FaceRecord]) -> Option<String> {
        let intent: jiff::Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        match outcome_of_records(records, Some(intent.as_millisecond())) {
            Outcome::Enrolled { code, confirmed_by: ConfirmedBy::Query, .. } => code.map(|code| code.0),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn record_from_15_minutes_before_the_intent_is_not_ours() {
        assert_eq!(code(&[record(Some("2026-11-23T11:44:59Z"))]).as_deref(), Some("AlreadyPresent"));
        assert_eq!(code(&[record(Some("2026-11-23T11:45:00Z"))]), None);
        assert_eq!(code(&[record(None)]), None);
    }

    #[test]
    fn several_records_of_one_id_are_flagged() {
        let two = [record(Some("2026-11-23T12:00:01Z")), record(Some("2026-11-23T12:00:02Z"))];
        assert_eq!(code(&two).as_deref(), Some("SeveralRecords"));
    }
}
