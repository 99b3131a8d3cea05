//! Removes from the service the records that a run made, each by its record id, and makes their rows pending again.
//!
//! The order must not be swapped: a query shows exactly one record, made when the checkpoint sent the photo; the removal is
//! committed, which puts the row in doubt; the gate gives its permit; the record is deleted; a later query shows that it is
//! gone; the row becomes pending. After a kill in between, the row is in doubt, and the next `undo`, `verify` or `run` asks
//! the service about it. After a stop before the deletion was sent, the row is enrolled again.
//!
//! As before a resend, "absent" counts only `--settle` after the deletion, or after another "absent".

use std::time::Duration;

use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::{
    api::{FaceRecord, Transport},
    caller::{Queries, QueryError},
    checkpoint::{Checkpoint, Reader, Store, StoreError, UndoCandidate, UndoScope},
    crash,
    domain::{
        CallError, CallFailure, DeleteIntent, ErrorCode, FatalError, ItemId, ItemState, MAX_CLOCK_SKEW,
        action::DeleteFaceRecord,
    },
    pace::Gate,
};

/// Items per page: few enough for memory, enough that a page takes longer than `--settle`.
const PAGE_SIZE: usize = 10_000;
/// Items that are asked about or removed at the same time.
const CONCURRENCY: usize = 16;
/// Rounds of questions and deletions before a record that stays is left to the next undo.
const MAX_ROUNDS: u32 = 4;

/// What became of an item, or would become of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The run made this record; `--yes` would remove it.
    Removable(FaceRecord),
    /// This record is removed.
    Removed(i64),
    /// The service has no record.
    Gone,
    /// The record stays.
    Refused(Refusal),
    /// Whether the service has a record of this run is not known.
    InDoubt,
}

/// Why a record stays at the service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The checkpoint did not make it.
    #[error("the record was there before this checkpoint sent the photo")]
    AlreadyPresent,
    /// The service has several records of the id.
    #[error("the service has {0} records of this id in this group")]
    SeveralRecords(usize),
    /// It is older than the run.
    #[error("the record is from {0}, before the run sent the photo")]
    OlderRecord(Timestamp),
    /// Someone made it after the run.
    #[error("the record is from {0}, after the run enrolled the photo")]
    NewerRecord(Timestamp),
    /// The service does not say how old it is.
    #[error("the service does not say when the record was made")]
    UnknownAge,
    /// It replaced a record that is not deleted yet.
    #[error("an older record of this person is still to be removed: run again first")]
    UnfinishedReplacement,
}

impl Refusal {
    /// Code for scripts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::AlreadyPresent => ErrorCode::ALREADY_PRESENT,
            Self::SeveralRecords(_) => ErrorCode::SEVERAL_RECORDS,
            Self::OlderRecord(_) => "OlderRecord",
            Self::NewerRecord(_) => "NewerRecord",
            Self::UnknownAge => "UnknownAge",
            Self::UnfinishedReplacement => "UnfinishedReplacement",
        }
    }
}

/// Number of items by what became of them. Items in none of these numbers are left as they were.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct UndoReport {
    /// Items whose record would be removed.
    pub removable: u64,
    /// Items whose record is removed.
    pub removed: u64,
    /// Items without a record at the service.
    pub gone: u64,
    /// Items whose record stays.
    pub refused: u64,
}

impl UndoReport {
    /// Counts an item.
    pub fn add(&mut self, verdict: &Verdict) {
        match verdict {
            Verdict::Removable(_) => self.removable += 1,
            Verdict::Removed(_) => self.removed += 1,
            Verdict::Gone => self.gone += 1,
            Verdict::Refused(_) => self.refused += 1,
            Verdict::InDoubt => {}
        }
    }
}

/// Error that ended an undo early.
#[derive(Debug, thiserror::Error)]
pub enum UndoError {
    /// The checkpoint could not be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user must act first.
    #[error("{0}")]
    Fatal(FatalError),
    /// The service did not answer for too long.
    #[error("the service did not respond for too long: {}", .0.message)]
    Unanswered(CallFailure),
    /// A signal.
    #[error("stopped")]
    Stopped,
}

impl From<QueryError> for UndoError {
    fn from(error: QueryError) -> Self {
        match error {
            QueryError::Stopped => Self::Stopped,
            QueryError::Fatal(fatal) => Self::Fatal(fatal),
            QueryError::Unanswered(fault) => Self::Unanswered(fault),
        }
    }
}

/// Decides which records a scope made. Changes nothing.
pub struct Inspector<T> {
    /// Queries of the service.
    pub queries: Queries<T>,
    /// Reader of the checkpoint.
    pub reader: Reader,
    /// Items to take back.
    pub scope: UndoScope,
}

impl<T: Transport> Inspector<T> {
    /// Passes the verdict about each item to `emit`, in the order of the items.
    pub async fn list(&self, emit: &mut dyn FnMut(&UndoCandidate, &Verdict)) -> Result<(), UndoError> {
        let mut after = ItemId(0);
        while let Some(page) = self.page(&mut after)? {
            let mut verdicts = futures_util::stream::iter(page)
                .map(async |item| self.inspect(&item).await.map(|verdict| (item, verdict)))
                .buffered(CONCURRENCY);
            while let Some(inspected) = verdicts.next().await {
                let (item, verdict) = inspected?;
                emit(&item, &verdict);
            }
        }
        Ok(())
    }

    fn page(&self, after: &mut ItemId) -> Result<Option<Vec<UndoCandidate>>, StoreError> {
        let page = self.reader.undo_candidates(self.scope, *after, PAGE_SIZE)?;
        let Some(last) = page.last() else { return Ok(None) };
        *after = last.item;
        Ok(Some(page))
    }

    async fn inspect(&self, item: &UndoCandidate) -> Result<Verdict, QueryError> {
        if let Some(verdict) = verdict_without_query(item) {
            return Ok(verdict);
        }
        let records = self.queries.records(&item.group, &item.user).await?;
        crash::point("query.after");
        Ok(verdict_of_records(item, self.scope.start_ms(), &records))
    }
}

/// Removes the records of a scope.
pub struct Undo<T, S> {
    /// Decides which records to remove.
    pub inspector: Inspector<T>,
    /// Rate gate of DeleteFaceRecord.
    pub gate: Gate<DeleteFaceRecord>,
    /// The checkpoint.
    pub checkpoint: Checkpoint<S>,
    /// Wait before a missing record counts as absent.
    pub settle: Duration,
}

/// Item that is not finished yet.
struct OpenItem {
    item: UndoCandidate,
    /// Record whose deletion was sent by this process.
    deleted: Option<i64>,
    /// Whether a deletion was sent, or the record was absent, in an earlier round.
    is_settling: bool,
}

enum Step {
    Done(UndoCandidate, Verdict),
    AskAgain(OpenItem),
}

impl<T: Transport, S: Store> Undo<T, S> {
    /// Removes the records, and passes what became of each item to `emit`.
    pub async fn remove(&self, emit: &mut dyn FnMut(&UndoCandidate, &Verdict)) -> Result<(), UndoError> {
        let mut after = ItemId(0);
        while let Some(page) = self.inspector.page(&mut after)? {
            let open = page.into_iter().map(|item| OpenItem { item, deleted: None, is_settling: false });
            self.remove_page(open.collect(), emit).await?;
        }
        Ok(())
    }

    async fn remove_page(
        &self,
        mut open: Vec<OpenItem>,
        emit: &mut dyn FnMut(&UndoCandidate, &Verdict),
    ) -> Result<(), UndoError> {
        for round in 1..=MAX_ROUNDS {
            let mut again = Vec::new();
            let mut first_error = None;
            let stop = &self.inspector.queries.caller.stop;
            let started = open.into_iter().take_while(|_| !stop.is_cancelled()).map(|item| self.step(item));
            let mut steps = futures_util::stream::iter(started).buffer_unordered(CONCURRENCY);
            while let Some(step) = steps.next().await {
                match step {
                    Ok(Step::Done(item, verdict)) => emit(&item, &verdict),
                    Ok(Step::AskAgain(item)) => again.push(item),
                    // The other steps release what they have not sent.
                    Err(error) => {
                        first_error.get_or_insert(error);
                        stop.cancel();
                    }
                }
            }
            first_error.map_or(Ok(()), Err)?;
            if stop.is_cancelled() {
                return Err(UndoError::Stopped);
            }
            open = again;
            if open.is_empty() {
                return Ok(());
            }
            if round < MAX_ROUNDS {
                tracing::info!(
                    rows = open.len(),
                    wait = ?self.settle,
                    "waiting (--settle), then asking the service whether these records are gone"
                );
                self.inspector.queries.caller.pause(self.settle).await.ok_or(UndoError::Stopped)?;
            }
        }
        for left in open {
            emit(&left.item, &Verdict::InDoubt);
        }
        Ok(())
    }

    async fn step(&self, mut open: OpenItem) -> Result<Step, UndoError> {
        let verdict = self.inspector.inspect(&open.item).await?;
        Ok(match verdict {
            Verdict::Removable(record) => {
                if !self.delete(&open, record.id).await? {
                    return Ok(Step::Done(open.item, Verdict::InDoubt));
                }
                open.deleted = Some(record.id);
                open.is_settling = true;
                Step::AskAgain(open)
            }
            Verdict::Gone if open.is_settling => {
                self.checkpoint.finish_undo(open.item.item).await?;
                let verdict = open.deleted.map_or(Verdict::Gone, Verdict::Removed);
                Step::Done(open.item, verdict)
            }
            Verdict::Gone => {
                open.is_settling = true;
                Step::AskAgain(open)
            }
            // The deletion was sent, so the row stays in doubt.
            Verdict::Refused(_) if open.deleted.is_some() => Step::Done(open.item, Verdict::InDoubt),
            verdict @ (Verdict::Refused(_) | Verdict::InDoubt | Verdict::Removed(_)) => Step::Done(open.item, verdict),
        })
    }

    /// Sends the deletion, again if it is throttled. Whether it was executed, only a query tells. `false` if the checkpoint
    /// refuses it.
    async fn delete(&self, open: &OpenItem, record: i64) -> Result<bool, UndoError> {
        let caller = &self.inspector.queries.caller;
        let delete = DeleteIntent { item: open.item.item, record };
        let mut throttled_since = None;
        let error = loop {
            let Some(intent) = self.checkpoint.intend_undo(delete.clone()).await? else { return Ok(false) };
            crash::point("removal.intended");
            let Some(permit) = caller.patient_permit(&self.gate).await else { break UndoError::Stopped };
            crash::point("removal.before");
            let deleted = caller.client.delete_face_record(permit, intent).await;
            crash::point("removal.after");
            let now = Instant::now();
            self.gate.record(&deleted, now);
            match deleted {
                Ok(()) => return Ok(true),
                Err(CallError::Throttled { .. }) => {
                    let lasted = now.saturating_duration_since(*throttled_since.get_or_insert(now));
                    if lasted > self.inspector.queries.give_up_after() {
                        break UndoError::Unanswered(CallFailure::only_throttled());
                    }
                }
                Err(CallError::Fatal(fatal)) => break UndoError::Fatal(fatal),
                Err(CallError::NotExecuted(fault) | CallError::MaybeExecuted(fault)) => {
                    tracing::warn!(fault = fault.message, "the deletion got no response; asking for the record later");
                    return Ok(true);
                }
                Err(CallError::Rejected(rejection)) => {
                    tracing::warn!(code = %rejection.code, fault = rejection.message, "the deletion was refused");
                    return Ok(true);
                }
            }
        };
        // Nothing was deleted. An earlier deletion of this record may still be executed, so its row stays in doubt.
        if open.deleted.is_none() && open.item.state == ItemState::Enrolled {
            self.checkpoint.release_delete(delete).await?;
        }
        Err(error)
    }
}

/// The verdict that needs no query, if there is one.
fn verdict_without_query(item: &UndoCandidate) -> Option<Verdict> {
    let has_code = |code: &str| item.code.as_deref() == Some(code);
    match item.state {
        ItemState::InDoubt if has_code(ErrorCode::UNDOING) => None,
        ItemState::Enrolled if has_code(ErrorCode::ALREADY_PRESENT) || item.intent_ms.is_none() => {
            Some(Verdict::Refused(Refusal::AlreadyPresent))
        }
        ItemState::Enrolled if item.is_replacing => Some(Verdict::Refused(Refusal::UnfinishedReplacement)),
        ItemState::Enrolled => None,
        ItemState::Pending | ItemState::Sending | ItemState::InDoubt | ItemState::Rejected | ItemState::Failed => {
            Some(Verdict::InDoubt)
        }
    }
}

/// The verdict about an item that the checkpoint sent. A record is removable if it is the only one and was made between the
/// intent and the enrollment, as far as clocks agree.
fn verdict_of_records(item: &UndoCandidate, start_ms: i64, records: &[FaceRecord]) -> Verdict {
    let skew = MAX_CLOCK_SKEW.as_millis() as i64;
    let [record] = records else {
        return match records.len() {
            0 => Verdict::Gone,
            several => Verdict::Refused(Refusal::SeveralRecords(several)),
        };
    };
    let Some(created) = record.created else { return Verdict::Refused(Refusal::UnknownAge) };
    let intent_ms = item.intent_ms.unwrap_or(start_ms);
    let enrolled_ms = item.enrolled_ms.unwrap_or(intent_ms).max(intent_ms);
    if created.as_millisecond() < intent_ms.max(start_ms) - skew {
        Verdict::Refused(Refusal::OlderRecord(created))
    } else if created.as_millisecond() > enrolled_ms + skew {
        Verdict::Refused(Refusal::NewerRecord(created))
    } else {
        Verdict::Removable(record.clone())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{FaceGroupCode, MerchantUserId};

    const SKEW_MS: i64 = 15 * 60 * 1_000;

    fn item(state: ItemState, code: Option<&str>) -> UndoCandidate {
        UndoCandidate {
            item: ItemId(1),
            row: 2,
            group: FaceGroupCode::parse_recorded("g".to_owned()).unwrap(),
            user: MerchantUserId::parse_recorded("u".to_owned()).unwrap(),
            state,
            code: code.map(str::to_owned),
            intent_ms: Some(1_790_000_000_000),
            enrolled_ms: Some(1_790_000_001_000),
            is_replacing: false,
        }
    }

    fn record(id: i64, created_ms: i64) -> FaceRecord {
        FaceRecord { id, created: Timestamp::from_millisecond(created_ms).ok() }
    }

    #[test]
    fn only_items_that_were_sent_and_enrolled_are_asked_about() {
        let refused = Some(Verdict::Refused(Refusal::AlreadyPresent));
        assert_eq!(verdict_without_query(&item(ItemState::Enrolled, None)), None);
        assert_eq!(verdict_without_query(&item(ItemState::InDoubt, Some("Undoing"))), None);
        assert_eq!(verdict_without_query(&item(ItemState::Enrolled, Some("AlreadyPresent"))), refused);
        let never_sent = UndoCandidate { intent_ms: None, ..item(ItemState::Enrolled, None) };
        assert_eq!(verdict_without_query(&never_sent), refused);
        let replacing = UndoCandidate { is_replacing: true, ..item(ItemState::Enrolled, None) };
        let unfinished = Some(Verdict::Refused(Refusal::UnfinishedReplacement));
        assert_eq!(verdict_without_query(&replacing), unfinished);
        for state in [ItemState::Sending, ItemState::InDoubt] {
            assert_eq!(verdict_without_query(&item(state, Some("Timeout"))), Some(Verdict::InDoubt), "{state:?}");
        }
    }

    #[test]
    fn record_of_unknown_age_stays() {
        let unknown = FaceRecord { id: 7, created: None };
        let verdict = verdict_of_records(&item(ItemState::Enrolled, None), 0, &[unknown]);
        assert_eq!(verdict, Verdict::Refused(Refusal::UnknownAge));
    }

    proptest! {
        /// A record is removed only if it is alone and was made between the later of the intent and the run's start, and
        /// the enrollment, give or take the skew of the clocks.
        #[test]
        fn only_a_sole_record_of_the_run_is_removable(
            start in -2 * SKEW_MS..2 * SKEW_MS,
            created in prop::collection::vec(-2 * SKEW_MS..2 * SKEW_MS, 0..3),
        ) {
            let item = item(ItemState::Enrolled, None);
            let (intent, enrolled) = (item.intent_ms.unwrap(), item.enrolled_ms.unwrap());
            let records: Vec<FaceRecord> = (1..).zip(&created).map(|(id, ms)| record(id, intent + ms)).collect();
            let verdict = verdict_of_records(&item, intent + start, &records);
            let from = intent.max(intent + start) - SKEW_MS;
            let expected = match created[..] {
                [] => "gone",
                [ms] if intent + ms < from => "OlderRecord",
                [ms] if intent + ms > enrolled + SKEW_MS => "NewerRecord",
                [_] => "removable",
                [_, _, ..] => "SeveralRecords",
            };
            let found = match &verdict {
                Verdict::Gone => "gone",
                Verdict::Removable(only) => {
                    prop_assert_eq!(only, &records[0]);
                    "removable"
                }
                Verdict::Refused(refusal) => refusal.code(),
                Verdict::Removed(_) | Verdict::InDoubt => "other",
            };
            prop_assert_eq!(found, expected);
        }
    }
}
