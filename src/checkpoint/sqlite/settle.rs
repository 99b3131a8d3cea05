//! Writes intents and outcomes. Every change checks the state that it starts from and changes exactly one row.

use rusqlite::Connection;

use super::{SqliteStore, now_ms, rows};
use crate::{
    checkpoint::{NewIntent, OutcomeRecord, StoreError},
    crash,
    domain::{ErrorCode, Intent, ItemId, ItemState, ItemUpdate, Outcome, RejectedBy},
};

/// State of an item before a change.
pub(super) struct PriorState {
    pub(super) state: ItemState,
    pub(super) code: Option<String>,
    row: u64,
    attempts: u32,
}

impl SqliteStore {
    pub(super) fn prior_state(&self, item: ItemId) -> rusqlite::Result<PriorState> {
        self.db.prepare_cached("SELECT state, code, row, attempts FROM items WHERE id = ?1")?.query_row(
            [item.0],
            |row| {
                Ok(PriorState {
                    state: rows::state(row.get(0)?)?,
                    code: row.get(1)?,
                    row: row.get(2)?,
                    attempts: row.get(3)?,
                })
            },
        )
    }

    pub(super) fn intend(&mut self, intent: &NewIntent) -> Result<Intent, StoreError> {
        let failed = StoreError::sqlite;
        let before = self.prior_state(intent.item).map_err(failed("reading an item"))?;
        if before.state != ItemState::Pending {
            let (from, to) = (before.state, ItemState::Sending);
            return Err(StoreError::InvalidTransition { item: intent.item, from, to });
        }
        let run = self.run;
        let write = |db: &Connection| -> rusqlite::Result<()> {
            // Despite its name, the column holds the last intent: an earlier one made no record, or there would be no new one.
            db.prepare_cached(
                "UPDATE items SET state = 1, attempts = attempts + 1, code = NULL, message = NULL, request_id = NULL,
                 sha256 = ?2, sent_sha256 = ?3, size = ?4, mark = ?5,
                 first_intent_at = ?6, sent_by = ?7 WHERE id = ?1",
            )?
            .execute((
                intent.item.0,
                intent.digest.map(|digest| digest.0),
                intent.sent.map(|digest| digest.0),
                intent.stamp.map(|stamp| stamp.size as i64),
                intent.stamp.map(|stamp| stamp.mark),
                intent.at_ms,
                run,
            ))?;
            Ok(())
        };
        write(&self.db).map_err(failed("writing an intent"))?;
        self.tally.add(before.state, before.code.as_deref(), -1);
        self.tally.add(ItemState::Sending, None, 1);
        crash::point("intent.before_commit");
        Ok(Intent {
            item: intent.item,
            group: intent.group.clone(),
            user: intent.user.clone(),
            attempt: before.attempts + 1,
            digest: intent.digest,
        })
    }

    pub(super) fn settle(&mut self, record: &OutcomeRecord) -> Result<ItemUpdate, StoreError> {
        let failed = StoreError::sqlite;
        let before = self.prior_state(record.item).map_err(failed("reading an item"))?;
        if before.state != record.before || !record.outcome.can_follow(before.state) {
            let (item, to) = (record.item, record.outcome.state());
            return Err(StoreError::InvalidTransition { item, from: before.state, to });
        }
        let update = |outcome: &Outcome, attempts| ItemUpdate {
            item: record.item,
            row: before.row,
            attempts,
            before: before.state,
            outcome: outcome.clone(),
            latency: record.latency,
        };
        if let Some(kept) = self.keep_old_photo(record).map_err(failed("keeping a photo"))? {
            self.tally.add(before.state, before.code.as_deref(), -1);
            self.tally.add(ItemState::Enrolled, Some(ErrorCode::NEW_PHOTO_REFUSED), 1);
            return Ok(update(&kept, before.attempts));
        }
        let attempts = match &record.outcome {
            Outcome::Retry { counts: false } => before.attempts.saturating_sub(1),
            Outcome::Retry { counts: true }
            | Outcome::Enrolled { .. }
            | Outcome::Rejected { .. }
            | Outcome::Failed { .. }
            | Outcome::InDoubt { .. } => before.attempts,
        };
        let columns = Columns::of(&record.outcome);
        // A local rejection is about the file as it was found, which may be absent; another outcome is about what was sent.
        let keeps_stamp = !matches!(&record.outcome, Outcome::Rejected { stage: RejectedBy::Local, .. });
        let write = |db: &Connection| {
            db.prepare_cached(
                "UPDATE items SET state = ?2, attempts = ?3, stage = ?4, code = ?5, message = ?6, request_id = ?7,
                 quality = ?8, enrolled_at = ?9, confirmed_by = ?10, latency_ms = coalesce(?13, latency_ms),
                 size = coalesce(?11, iif(?14, size, NULL)), mark = coalesce(?12, iif(?14, mark, NULL)),
                 changed = iif(?2 = 3, 0, changed), replaces = iif(?2 = 3 AND replaces = '[]', NULL, replaces)
                 WHERE id = ?1",
            )?
            .execute(rusqlite::params![
                record.item.0,
                record.outcome.state() as i64,
                attempts,
                columns.stage,
                columns.code.map(|code| &code.0),
                columns.message,
                columns.request_id,
                columns.quality,
                columns.enrolled_at,
                columns.confirmed_by,
                record.stamp.map(|stamp| stamp.size as i64),
                record.stamp.map(|stamp| stamp.mark),
                record.latency.map(|latency| latency.as_millis() as i64),
                keeps_stamp,
            ])
        };
        write(&self.db).map_err(failed("writing an outcome"))?;
        self.tally.add(before.state, before.code.as_deref(), -1);
        self.tally.add(record.outcome.state(), columns.code.map(|code| code.0.as_str()), 1);
        crash::point("outcome.before_commit");
        Ok(update(&record.outcome, attempts))
    }
}

/// Column values of an outcome.
#[derive(Default)]
struct Columns<'a> {
    stage: Option<i64>,
    code: Option<&'a ErrorCode>,
    message: Option<&'a str>,
    request_id: Option<&'a str>,
    quality: Option<&'a str>,
    enrolled_at: Option<i64>,
    confirmed_by: Option<i64>,
}

impl<'a> Columns<'a> {
    fn of(outcome: &'a Outcome) -> Self {
        match outcome {
            Outcome::Enrolled { confirmed_by, quality, code, message, request_id } => Self {
                code: code.as_ref(),
                message: message.as_deref(),
                request_id: request_id.as_ref().map(|id| id.0.as_str()),
                quality: quality.as_deref(),
                enrolled_at: Some(now_ms()),
                confirmed_by: Some(rows::confirmed_by_number(*confirmed_by)),
                ..Self::default()
            },
            Outcome::Rejected { stage, code, message, request_id } => Self {
                stage: Some(rows::stage_number(*stage)),
                code: Some(code),
                message: Some(message),
                request_id: request_id.as_ref().map(|id| id.0.as_str()),
                ..Self::default()
            },
            Outcome::Failed { code, message, request_id } | Outcome::InDoubt { code, message, request_id } => Self {
                code: Some(code),
                message: Some(message),
                request_id: request_id.as_ref().map(|id| id.0.as_str()),
                ..Self::default()
            },
            Outcome::Retry { counts: _ } => Self::default(),
        }
    }
}
