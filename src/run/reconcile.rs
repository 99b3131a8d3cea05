//! Reconciles items in doubt by querying their records (reference, reliability.md 4.6).
//!
//! The service may execute a call after our query, so an item is sent again only after two "absent" answers, `--settle`
//! apart. A query without an answer settles nothing and counts as nothing.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{
    engine::Engine,
    task::{InDoubtItem, Next, ReconcileStep, Reconciliation, ReplacementCleanup, Task, records},
};
use crate::{
    api::{FaceRecord, GroupLookup, Lookup, LookupPages, Transport},
    checkpoint::{Claimed, OutcomeRecord, Store, StoreError},
    domain::{ConfirmedBy, DrainReason, ErrorCode, FaceGroupCode, ItemState, Outcome},
    pace::InDoubtPolicy,
};

/// A record older than our intent by more than this is not ours (contract.md). Clocks differ, and the gateway tolerates
/// 15 minutes; it refuses a larger skew, which is then corrected and the intent made again.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);
/// Code for an id with more than one record.
const SEVERAL_RECORDS: &str = "SeveralRecords";

impl<T: Transport, S: Store> Engine<T, S> {
    /// Time of the first query for an item in doubt. `None` if this run makes none.
    pub(super) fn schedule(&self, case: &mut InDoubtItem, now: Instant) -> Option<Instant> {
        match self.settings.in_doubt {
            InDoubtPolicy::Reconcile => Some(now + self.settings.settle),
            InDoubtPolicy::Retry => Some(now + case.backoff.next(fastrand::f64())),
            InDoubtPolicy::Hold => None,
        }
    }

    /// Takes the next step of a reconciliation.
    pub(super) async fn reconcile(&self, case: Reconciliation) -> Result<ReconcileStep, StoreError> {
        match case {
            Reconciliation::InDoubt(doubt) => self.query_record(doubt).await,
            Reconciliation::Replacement(replacement) => self.clean_up(replacement).await,
        }
    }

    /// Queries all pages of the records of an id. `None` if the run is draining.
    pub(super) async fn query(&self, claimed: &Claimed) -> Option<Lookup> {
        let mut pages = LookupPages::default();
        loop {
            let permit = tokio::select! {
                biased;
                () = self.stop.draining() => return None,
                permit = self.query_gate.permit() => permit,
            };
            let permit = match permit {
                Ok(permit) => permit,
                Err(deferred) => {
                    tokio::select! {
                        biased;
                        () = self.stop.draining() => return None,
                        () = tokio::time::sleep_until(deferred.until) => continue,
                    }
                }
            };
            self.stats.queried();
            let (id, number) = ((&claimed.group, &claimed.user), pages.next_page());
            let lookup = pages.add(self.client.query_face_record(permit, id, number).await);
            let now = Instant::now();
            self.note_query(matches!(lookup, Some(Lookup::Unanswered(_))), now);
            match &lookup {
                Some(Lookup::Unanswered(fault)) => self.guard_proxy(fault, now),
                None | Some(Lookup::Present { .. } | Lookup::Absent | Lookup::Throttled { .. } | Lookup::Fatal(_)) => {
                    self.proxy_failures.on_success();
                }
            }
            match &lookup {
                None | Some(Lookup::Present { .. } | Lookup::Absent) => drop(self.query_gate.observe(false, now)),
                Some(Lookup::Throttled { retry_after }) => {
                    self.query_gate.observe(true, now);
                    if let Some(pause) = retry_after {
                        self.query_gate.pause(*pause, now);
                    }
                }
                Some(Lookup::Unanswered(_) | Lookup::Fatal(_)) => {}
            }
            if lookup.is_some() {
                return lookup;
            }
        }
    }

    /// Stops the run if no query is answered for too long. Items stay in doubt, so nothing is lost.
    fn note_query(&self, is_unanswered: bool, now: Instant) {
        let mut since = self.query_outage_since.lock().unwrap_or_else(PoisonError::into_inner);
        if !is_unanswered {
            *since = None;
            return;
        }
        let away = now.saturating_duration_since(*since.get_or_insert(now));
        if away > self.settings.give_up_after {
            self.drain(DrainReason::ServiceUnavailable(away));
        }
    }

    /// Reconciles an item in doubt by a query, or as the policy says without one.
    async fn query_record(&self, mut case: InDoubtItem) -> Result<ReconcileStep, StoreError> {
        match self.settings.in_doubt {
            InDoubtPolicy::Reconcile => {}
            InDoubtPolicy::Retry if case.task.claimed.attempts < self.settings.rules.attempts => {
                return self.resend(case).await;
            }
            // The last attempt may have been executed, so the item is not `failed`.
            InDoubtPolicy::Retry | InDoubtPolicy::Hold => return Ok(ReconcileStep::Deferred),
        }
        let Some(lookup) = self.query(&case.task.claimed).await else { return Ok(ReconcileStep::Deferred) };
        crate::crash::point("query.after");
        // Records from before the call do not show whether it was executed.
        let replaced = records(&case.task.claimed);
        let lookup = match lookup {
            Lookup::Present { records } => {
                let new: Vec<FaceRecord> =
                    records.into_iter().filter(|record| !replaced.contains(&record.id)).collect();
                if new.is_empty() { Lookup::Absent } else { Lookup::Present { records: new } }
            }
            other => other,
        };
        match lookup {
            Lookup::Present { records } => {
                let outcome = outcome_of_records(&records, case.task.claimed.intent_ms);
                self.settle_in_doubt(&case, outcome).await?;
                Ok(self.after_enrolment(case.task.claimed))
            }
            Lookup::Absent if !case.was_absent => {
                case.was_absent = true;
                Ok(ReconcileStep::AskAgain(Reconciliation::InDoubt(case), Instant::now() + self.settings.settle))
            }
            Lookup::Absent => {
                if case.task.claimed.attempts < self.settings.rules.attempts {
                    return self.resend(case).await;
                }
                let outcome =
                    self.settings.rules.after_confirmed_absence(case.task.claimed.attempts, case.code.clone());
                self.settle_in_doubt(&case, outcome).await?;
                Ok(ReconcileStep::Settled)
            }
            Lookup::Throttled { .. } => Ok(self.requeue_query(case)),
            Lookup::Unanswered(fault) => {
                tracing::debug!(fault = fault.message, "query not answered");
                Ok(self.requeue_query(case))
            }
            Lookup::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                Ok(ReconcileStep::Deferred)
            }
        }
    }

    /// Goes on to delete the records that an enrolled item replaces.
    fn after_enrolment(&self, claimed: Claimed) -> ReconcileStep {
        match ReplacementCleanup::of(claimed) {
            None => ReconcileStep::Settled,
            Some(replacement) => ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), Instant::now()),
        }
    }

    /// `--precheck`: marks an item as enrolled if the service already has its id. `Ok` if the id is absent.
    pub(super) async fn adopt(&self, task: Task) -> Result<Result<Task, Next>, StoreError> {
        let Some(lookup) = self.query(&task.claimed).await else { return Ok(Err(Next::Cancelled)) };
        Ok(match lookup {
            Lookup::Absent => Ok(task),
            Lookup::Present { .. } => {
                let item = task.claimed.item;
                let outcome = Outcome::Enrolled {
                    confirmed_by: ConfirmedBy::Query,
                    quality: None,
                    code: Some(ErrorCode::from(ErrorCode::ALREADY_PRESENT)),
                    message: Some("the service had this id in this group already; its photo may be another one".into()),
                    request_id: None,
                };
                self.settle(OutcomeRecord::new(item, ItemState::Pending, outcome)).await?;
                Err(Next::Done)
            }
            Lookup::Throttled { .. } => Err(self.requeue(task)),
            Lookup::Unanswered(fault) => {
                tracing::debug!(fault = fault.message, "query not answered");
                Err(self.requeue(task))
            }
            Lookup::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                Err(Next::Cancelled)
            }
        })
    }

    fn requeue_query(&self, mut case: InDoubtItem) -> ReconcileStep {
        let wait = case.backoff.next(fastrand::f64());
        ReconcileStep::AskAgain(Reconciliation::InDoubt(case), Instant::now() + wait)
    }

    async fn resend(&self, case: InDoubtItem) -> Result<ReconcileStep, StoreError> {
        self.settle_in_doubt(&case, Outcome::Requeue { counts: true }).await?;
        let wait = if case.is_leftover { Duration::ZERO } else { self.retry_wait() };
        Ok(ReconcileStep::Resend(case.task, Instant::now() + wait))
    }

    async fn settle_in_doubt(&self, case: &InDoubtItem, outcome: Outcome) -> Result<(), StoreError> {
        if case.task.is_counted && matches!(outcome, Outcome::Enrolled { .. }) {
            self.stats.sent_is_enrolled();
        }
        self.settle(OutcomeRecord::new(case.task.claimed.item, ItemState::InDoubt, outcome)).await
    }

    /// Whether the service does not know this group. Asks at most once a minute; without an answer, false.
    pub(super) async fn is_group_missing(&self, group: &FaceGroupCode) -> bool {
        if self.groups.is_known(group, Instant::now()) {
            return false;
        }
        let Ok(permit) = self.query_gate.permit().await else { return false };
        self.stats.queried();
        match self.client.query_face_group(permit, group).await {
            GroupLookup::Missing => true,
            GroupLookup::Exists => {
                self.groups.exists(group, Instant::now());
                false
            }
            GroupLookup::Throttled { .. } | GroupLookup::Unanswered(_) | GroupLookup::Fatal(_) => false,
        }
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
        (Some(ErrorCode::from(SEVERAL_RECORDS)), Some(text))
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
    fn record_from_more_than_15_minutes_before_the_intent_is_not_ours() {
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
