//! Settles what is in doubt, by asking the service for the record (reference, reliability.md 4.6).
//!
//! A late execution can come after our question, so "absent" must be heard twice, `--settle` apart, before anything is
//! sent again. A question that is not answered settles nothing and uses nothing up.

use std::{sync::PoisonError, time::Duration};

use tokio::time::Instant;

use super::{
    attempt::{Next, Task},
    engine::Engine,
    replace::{Replacement, records},
};
use crate::{
    api::{FaceRecord, Lookup, LookupPages, Transport},
    checkpoint::{Claimed, OutcomeRecord, Store, StoreError},
    domain::{ConfirmedBy, DrainReason, ErrorCode, FaceGroupCode, ItemId, ItemState, Outcome},
    pace::{Backoff, InDoubtPolicy},
};

/// A record older than our intent by more than this is not ours (contract.md): clocks differ, and the gateway itself
/// tolerates 15 minutes. A clock that is further off is refused by it, then corrected, and the intent is made anew.
const CLOCKS_MAY_DIFFER: Duration = Duration::from_secs(15 * 60);
/// The code of an id of which the service has more than one record.
const SEVERAL_RECORDS: &str = "SeveralRecords";

/// Something that the service is to be asked about.
#[derive(Debug)]
pub(super) enum Reconciliation {
    /// Was it enrolled?
    InDoubt(InDoubtItem),
    /// Is the new record there, and are the old ones gone?
    Replacement(Replacement),
}

impl Reconciliation {
    pub(super) fn item(&self) -> ItemId {
        match self {
            Self::InDoubt(doubt) => doubt.work.claimed.item,
            Self::Replacement(replacement) => replacement.item(),
        }
    }
}

/// An item in doubt, and how far the asking has come.
#[derive(Debug)]
pub(super) struct InDoubtItem {
    work: Task,
    /// Of the fault that raised it.
    code: ErrorCode,
    /// Has "absent" been heard once?
    was_absent: bool,
    /// Does an earlier process owe it? Then sending it again is no retry of this run's.
    is_leftover: bool,
    backoff: Backoff,
}

/// Where a case goes from here.
pub(super) enum ReconcileStep {
    /// Nowhere: it is settled.
    Settled,
    /// To be asked again.
    AskAgain(Reconciliation, Instant),
    /// Absent: to be sent again, then.
    Resend(Task, Instant),
    /// The run drains: it stays in doubt.
    Left,
}

impl InDoubtItem {
    /// Raised in this run.
    pub(super) fn new(work: Task, code: ErrorCode) -> Self {
        Self { work, code, was_absent: false, is_leftover: false, backoff: Backoff::default() }
    }

    /// Left over from an earlier run.
    pub(super) fn leftover(work: Task, code: ErrorCode) -> Self {
        Self { is_leftover: true, ..Self::new(work, code) }
    }
}

impl<T: Transport, S: Store> Engine<T, S> {
    /// When a case that has just come up is to be looked at. None: never, in this run.
    pub(super) fn schedule(&self, case: &mut InDoubtItem, now: Instant) -> Option<Instant> {
        match self.settings.in_doubt {
            InDoubtPolicy::Reconcile => Some(now + self.settings.settle),
            InDoubtPolicy::Retry => Some(now + case.backoff.next(fastrand::f64())),
            InDoubtPolicy::Hold => None,
        }
    }

    /// Asks about it.
    pub(super) async fn look_at(&self, case: Reconciliation) -> Result<ReconcileStep, StoreError> {
        match case {
            Reconciliation::InDoubt(doubt) => self.query_record(doubt).await,
            Reconciliation::Replacement(replacement) => self.clean_up(replacement).await,
        }
    }

    /// QueryFaceRecord, each page in its turn. None: the run drains.
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
                    self.proxy_failures.worked();
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

    /// A service that answers no query for too long is away: asking is given up, and nothing is lost by it.
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

    /// Asks, or does without asking where that is the policy.
    async fn query_record(&self, mut case: InDoubtItem) -> Result<ReconcileStep, StoreError> {
        match self.settings.in_doubt {
            InDoubtPolicy::Reconcile => {}
            InDoubtPolicy::Retry if case.work.claimed.attempts < self.settings.rules.attempts => {
                return self.resend(case).await;
            }
            // The last attempt may have been executed: that is not `failed`.
            InDoubtPolicy::Retry | InDoubtPolicy::Hold => return Ok(ReconcileStep::Left),
        }
        let Some(lookup) = self.query(&case.work.claimed).await else { return Ok(ReconcileStep::Left) };
        crate::crash::point("query.after");
        // What was there before is no answer to what became of the request.
        let replaced = records(&case.work.claimed);
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
                let outcome = found(&records, case.work.claimed.intent_ms);
                self.settle_doubt(&case, outcome).await?;
                Ok(self.after_enrolment(case.work.claimed))
            }
            Lookup::Absent if !case.was_absent => {
                case.was_absent = true;
                Ok(ReconcileStep::AskAgain(Reconciliation::InDoubt(case), Instant::now() + self.settings.settle))
            }
            Lookup::Absent => {
                if case.work.claimed.attempts < self.settings.rules.attempts {
                    return self.resend(case).await;
                }
                let outcome =
                    self.settings.rules.after_confirmed_absence(case.work.claimed.attempts, case.code.clone());
                self.settle_doubt(&case, outcome).await?;
                Ok(ReconcileStep::Settled)
            }
            Lookup::Throttled { .. } => Ok(self.requeue_query(case)),
            Lookup::Unanswered(fault) => {
                tracing::debug!(fault = fault.message, "a query was not answered");
                Ok(self.requeue_query(case))
            }
            Lookup::Fatal(fatal) => {
                self.drain(DrainReason::Fatal(fatal));
                Ok(ReconcileStep::Left)
            }
        }
    }

    /// Someone is enrolled: what the new record replaces is to go.
    fn after_enrolment(&self, claimed: Claimed) -> ReconcileStep {
        match Replacement::of(claimed) {
            None => ReconcileStep::Settled,
            Some(replacement) => ReconcileStep::AskAgain(Reconciliation::Replacement(replacement), Instant::now()),
        }
    }

    /// `--precheck`: what the service has already is adopted, and not sent. Ok: it has nothing of this id.
    pub(super) async fn adopt(&self, work: Task) -> Result<Result<Task, Next>, StoreError> {
        let Some(lookup) = self.query(&work.claimed).await else { return Ok(Err(Next::Cancelled)) };
        Ok(match lookup {
            Lookup::Absent => Ok(work),
            Lookup::Present { .. } => {
                let item = work.claimed.item;
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
            Lookup::Throttled { .. } => Err(self.requeue(work)),
            Lookup::Unanswered(fault) => {
                tracing::debug!(fault = fault.message, "a query was not answered");
                Err(self.requeue(work))
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
        self.settle_doubt(&case, Outcome::Requeue { counts: true }).await?;
        let wait = if case.is_leftover { Duration::ZERO } else { self.retry_wait() };
        Ok(ReconcileStep::Resend(case.work, Instant::now() + wait))
    }

    async fn settle_doubt(&self, case: &InDoubtItem, outcome: Outcome) -> Result<(), StoreError> {
        if case.work.is_counted && matches!(outcome, Outcome::Enrolled { .. }) {
            self.stats.sent_is_enrolled();
        }
        self.settle(OutcomeRecord::new(case.work.claimed.item, ItemState::InDoubt, outcome)).await
    }

    /// Is it this group that the service does not know? ReplacementLookup once a minute at most; no answer is no.
    pub(super) async fn is_group_missing(&self, group: &FaceGroupCode) -> bool {
        if self.groups.is_known(group, Instant::now()) {
            return false;
        }
        let Ok(permit) = self.query_gate.permit().await else { return false };
        self.stats.queried();
        match self.client.query_face_group(permit, group).await {
            crate::api::GroupLookup::Missing => true,
            crate::api::GroupLookup::Exists => {
                self.groups.exists(group, Instant::now());
                false
            }
            crate::api::GroupLookup::Throttled { .. }
            | crate::api::GroupLookup::Unanswered(_)
            | crate::api::GroupLookup::Fatal(_) => false,
        }
    }
}

/// The record is there. Is it ours?
fn found(records: &[FaceRecord], intent_ms: Option<i64>) -> Outcome {
    let horizon = intent_ms.map_or(i64::MIN, |ms| ms - CLOCKS_MAY_DIFFER.as_millis() as i64);
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
        match found(records, Some(intent.as_millisecond())) {
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
