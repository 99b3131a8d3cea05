//! Items that `undo` takes back. An item whose record is being removed is in doubt, so that a run after a kill asks the
//! service about it.

use rusqlite::{Result, Row, params};

use super::{Reader, SqliteStore, reopened_columns, rows};
use crate::{
    checkpoint::{Reply, StoreError, UndoCandidate, UndoScope},
    domain::{ConfirmedBy, DeleteIntent, ErrorCode, ItemId, ItemState},
};

/// First schema with `sent_by`; reading does not migrate.
const SCHEMA_WITH_SENT_BY: i64 = 8;
/// Shortest beginning of a run's id that stands for it, as for git's commits.
const MIN_RUN_PREFIX: usize = 4;

impl SqliteStore {
    pub(super) fn intend_undo(&mut self, delete: &DeleteIntent) -> Result<Reply, StoreError> {
        let failed = StoreError::sqlite;
        let before = self.prior_state(delete.item).map_err(failed("reading an item"))?;
        let may_repeat = before.state == ItemState::InDoubt && before.code.as_deref() == Some(ErrorCode::UNDOING);
        if before.state != ItemState::Enrolled && !may_repeat {
            return Ok(Reply::Refused);
        }
        // The attempts that enrolled the person are over; a run that finds the record gone starts anew.
        self.db
            .prepare_cached(
                "UPDATE items SET state = 2, code = ?2, message = ?3, removing = ?4, confirmed_by = NULL, attempts = 0
                 WHERE id = ?1 AND replaces IS NULL",
            )
            .and_then(|mut update| {
                let message = format!("undo was removing record {}", delete.record);
                update.execute(params![delete.item.0, ErrorCode::UNDOING, message, delete.record])
            })
            .map_err(failed("writing a removal intent"))
            .map(|changed| {
                if changed == 0 {
                    return Reply::Refused;
                }
                self.tally.add(before.state, before.code.as_deref(), -1);
                self.tally.add(ItemState::InDoubt, Some(ErrorCode::UNDOING), 1);
                Reply::Done
            })
    }

    /// The removal was not sent, and a query had just shown the record. Why a new photo was refused is forgotten, so the photo
    /// is read again.
    pub(super) fn release_undo(&mut self, (item, record): (i64, i64)) -> Result<()> {
        let changed = self
            .db
            .prepare_cached(
                "UPDATE items SET state = 3, code = NULL, message = NULL, confirmed_by = ?4, removing = NULL,
                 size = NULL, mark = NULL
                 WHERE id = ?1 AND removing = ?2 AND state = 2 AND code = ?3",
            )?
            .execute(params![item, record, ErrorCode::UNDOING, rows::confirmed_by_number(ConfirmedBy::Query)])?;
        if changed == 1 {
            self.tally.add(ItemState::InDoubt, Some(ErrorCode::UNDOING), -1);
            self.tally.add(ItemState::Enrolled, None, 1);
        }
        Ok(())
    }

    pub(super) fn finish_undo(&mut self, item: ItemId) -> Result<()> {
        let before = self.prior_state(item)?;
        let changed = self
            .db
            .prepare_cached(concat!(
                "UPDATE items SET ",
                reopened_columns!(),
                ", code = ?2, message = 'undo: the service has no record any more', removing = NULL, changed = 0,
                 enrolled_at = NULL, confirmed_by = NULL, quality = NULL, first_intent_at = NULL, sent_by = NULL
                 WHERE id = ?1 AND replaces IS NULL AND (state = 3 OR (state = 2 AND code = ?3))"
            ))?
            .execute(params![item.0, ErrorCode::UNDONE, ErrorCode::UNDOING])?;
        if changed == 1 {
            self.tally.add(before.state, before.code.as_deref(), -1);
            self.tally.add(ItemState::Pending, Some(ErrorCode::UNDONE), 1);
        }
        Ok(())
    }
}

impl Reader {
    /// Ids and scopes of the run with this id; else of the last runs that sent something and whose ids begin so.
    pub fn undo_scopes(&self, run_id: &str, limit: usize) -> Result<Vec<(String, UndoScope)>, StoreError> {
        let read = |row: &Row<'_>| {
            Ok((row.get("run_id")?, UndoScope::Run { number: row.get("id")?, started_ms: row.get("started_at")? }))
        };
        let exact = self.query("reading its runs", "SELECT * FROM runs WHERE run_id = ?1", [run_id], read)?;
        if !exact.is_empty() || run_id.len() < MIN_RUN_PREFIX {
            return Ok(exact);
        }
        // Undo and verify are runs too, but there is nothing of them to take back.
        let sent = if self.has_run_columns().map_err(StoreError::sqlite("reading its runs"))? {
            "quota IS NOT NULL"
        } else {
            "TRUE"
        };
        let select =
            format!("SELECT * FROM runs WHERE substr(run_id, 1, length(?1)) = ?1 AND {sent} ORDER BY id DESC LIMIT ?2");
        self.query("reading its runs", &select, params![run_id, limit as i64], read)
    }

    /// Enrolled and doubtful items of the scope after `after`, in the order of their numbers.
    pub fn undo_candidates(
        &self,
        scope: UndoScope,
        after: ItemId,
        limit: usize,
    ) -> Result<Vec<UndoCandidate>, StoreError> {
        let (condition, value) = self.undo_condition(scope)?;
        let select = format!(
            "SELECT i.id, i.row, i.user, g.code AS group_code, i.state, i.code, i.first_intent_at, i.enrolled_at,
             i.replaces IS NOT NULL AS is_replacing
             FROM items AS i JOIN face_groups AS g ON g.id = i.group_id
             WHERE i.id > ?2 AND {condition} ORDER BY i.id LIMIT ?3"
        );
        self.query("reading its items", &select, params![value, after.0, limit as i64], |row| row.try_into())
    }

    /// Number of items of the scope, and how many of them are in doubt.
    pub fn count_undo_candidates(&self, scope: UndoScope) -> Result<(u64, u64), StoreError> {
        let (condition, value) = self.undo_condition(scope)?;
        let select = format!("SELECT count(*), count(*) FILTER (WHERE i.state <> 3) FROM items AS i WHERE {condition}");
        let n = |n: i64| n.unsigned_abs();
        self.db
            .query_row(&select, [value], |row| Ok((n(row.get(0)?), n(row.get(1)?))))
            .map_err(StoreError::sqlite("counting its items"))
    }

    /// Condition on `items AS i`, and the value of its parameter `?1`.
    fn undo_condition(&self, scope: UndoScope) -> Result<(String, i64), StoreError> {
        let version: i64 = self
            .db
            .pragma_query_value(None, "user_version", |row| row.get(0))
            .map_err(StoreError::sqlite("reading its header"))?;
        let sent_by = if version < SCHEMA_WITH_SENT_BY { "NULL" } else { "i.sent_by" };
        let (of_scope, value) = match scope {
            UndoScope::Run { number, started_ms: _ } => (
                format!(
                    "coalesce({sent_by}, (SELECT max(id) FROM runs
                     WHERE started_at <= coalesce(i.enrolled_at, i.first_intent_at))) = ?1"
                ),
                number,
            ),
            UndoScope::Since { ms } => ("coalesce(i.first_intent_at, i.enrolled_at) >= ?1".to_owned(), ms),
        };
        Ok((format!("i.state IN (1, 2, 3) AND {of_scope}"), value))
    }
}

impl TryFrom<&Row<'_>> for UndoCandidate {
    type Error = rusqlite::Error;
    fn try_from(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            item: ItemId(row.get("id")?),
            row: row.get("row")?,
            group: rows::group(row, "group_code")?,
            user: rows::user(row, "user")?,
            state: rows::state(row.get("state")?)?,
            code: row.get("code")?,
            intent_ms: row.get("first_intent_at")?,
            enrolled_ms: row.get("enrolled_at")?,
            is_replacing: row.get("is_replacing")?,
        })
    }
}
