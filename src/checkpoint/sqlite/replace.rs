//! Changed photos of enrolled items and the records that they supersede.

use rusqlite::Result;

use super::{SqliteStore, now_ms, reopened_columns, rows};
use crate::{
    checkpoint::{OutcomeRecord, PhotoChange, PhotoCheck, Reply, StoreError},
    domain::{ConfirmedBy, DeleteIntent, ErrorCode, ItemId, ItemState, Outcome, RejectedBy},
};

impl SqliteStore {
    pub(super) fn record_photo_checks(&mut self, checks: &[PhotoCheck]) -> Result<()> {
        for &PhotoCheck { item, seen } in checks {
            match seen {
                PhotoChange::Same(stamp) => {
                    self.db
                        .prepare_cached(
                            "UPDATE items SET size = ?2, mark = ?3, changed = 0 WHERE id = ?1 AND state = 3",
                        )?
                        .execute((item.0, stamp.size as i64, stamp.mark))?;
                    self.forget_refused_photo(item)?;
                }
                PhotoChange::Other => {
                    self.db
                        .prepare_cached("UPDATE items SET changed = 1 WHERE id = ?1 AND state = 3")?
                        .execute([item.0])?;
                }
                PhotoChange::Replacement => self.reopen_for_replacement(item)?,
            }
        }
        Ok(())
    }

    /// Reopens an item so that its new photo is sent. The records to supersede are queried before that; records left over
    /// from an earlier replacement are among them.
    fn reopen_for_replacement(&mut self, item: ItemId) -> Result<()> {
        let code: Option<String> = self
            .db
            .prepare_cached("SELECT code FROM items WHERE id = ?1 AND state = 3")?
            .query_row([item.0], |row| row.get(0))?;
        self.db
            .prepare_cached(concat!(
                "UPDATE items SET ",
                reopened_columns!(),
                ", changed = 1, replaces = 'null', confirmed_by = NULL WHERE id = ?1 AND state = 3"
            ))?
            .execute([item.0])?;
        self.tally.add(ItemState::Enrolled, code.as_deref(), -1);
        self.tally.add(ItemState::Pending, None, 1);
        Ok(())
    }

    /// Keeps a person enrolled whose new photo is refused before it was sent. The stamp of the new photo is kept, so that it is
    /// read again only once it changes. `None` if the item replaces nothing, or if several records are left from earlier
    /// replacements: a rejected item keeps their ids, and the next good photo removes them.
    ///
    /// A digest that was intended after the person was enrolled is not that of the record: no photo may match it. The outcome of
    /// such an intent has removed the time of the enrolment.
    pub(super) fn keep_old_photo(
        &mut self,
        OutcomeRecord { item, outcome, stamp, .. }: &OutcomeRecord,
    ) -> Result<Option<Outcome>> {
        let Outcome::Rejected { stage: RejectedBy::Local, code, message, request_id: None } = outcome else {
            return Ok(None);
        };
        let message = format!("the old photo stays enrolled; the new one is refused ({code}): {message}");
        let confirmed_by = ConfirmedBy::Query;
        let kept = self
            .db
            .prepare_cached(
                "UPDATE items SET state = 3, stage = NULL, code = ?2, message = ?3, changed = 1, replaces = NULL,
                 sha256 = iif(enrolled_at IS NULL OR first_intent_at > enrolled_at, zeroblob(32), sha256),
                 enrolled_at = coalesce(enrolled_at, ?4), confirmed_by = ?5, size = ?6, mark = ?7
                 WHERE id = ?1 AND state = 0 AND json_array_length(replaces) = 1",
            )?
            .execute((
                item.0,
                ErrorCode::NEW_PHOTO_REFUSED,
                &message,
                now_ms(),
                rows::confirmed_by_number(confirmed_by),
                stamp.map(|stamp| stamp.size as i64),
                stamp.map(|stamp| stamp.mark),
            ))?;
        Ok((kept == 1).then(|| Outcome::Enrolled {
            confirmed_by,
            quality: None,
            code: Some(ErrorCode::NEW_PHOTO_REFUSED.into()),
            message: Some(message),
            request_id: None,
        }))
    }

    /// The photo is again the one that is enrolled.
    fn forget_refused_photo(&mut self, item: ItemId) -> Result<()> {
        let changed = self
            .db
            .prepare_cached("UPDATE items SET code = NULL, message = NULL WHERE id = ?1 AND state = 3 AND code = ?2")?
            .execute((item.0, ErrorCode::NEW_PHOTO_REFUSED))?;
        if changed == 1 {
            self.tally.add(ItemState::Enrolled, Some(ErrorCode::NEW_PHOTO_REFUSED), -1);
            self.tally.add(ItemState::Enrolled, None, 1);
        }
        Ok(())
    }

    /// Lets new photos be read again that were refused under other photo rules.
    pub(super) fn reread_refused_photos(&self) -> Result<()> {
        self.db
            .execute(
                "UPDATE items SET size = NULL, mark = NULL WHERE state = 3 AND code = ?1",
                [ErrorCode::NEW_PHOTO_REFUSED],
            )
            .map(drop)
    }

    pub(super) fn record_superseded(&mut self, item: ItemId, records: &[i64]) -> Result<()> {
        let records = serde_json::to_string(records).expect("numbers are JSON");
        self.db
            .prepare_cached("UPDATE items SET replaces = ?2 WHERE id = ?1 AND state = 0 AND replaces IS NOT NULL")?
            .execute((item.0, records))
            .map(drop)
    }

    pub(super) fn intend_delete(&mut self, delete: &DeleteIntent) -> Result<Reply, StoreError> {
        self.db
            .prepare_cached(
                "UPDATE items SET removing = ?2 WHERE id = ?1 AND state = 3
                 AND EXISTS (SELECT 1 FROM json_each(items.replaces) AS old WHERE old.value = ?2)",
            )
            .and_then(|mut update| update.execute((delete.item.0, delete.record)))
            .map(|changed| if changed == 1 { Reply::Done } else { Reply::Refused })
            .map_err(StoreError::sqlite("writing a delete intent"))
    }

    pub(super) fn release_delete(&mut self, delete: &DeleteIntent) -> Result<()> {
        let key = (delete.item.0, delete.record);
        self.db
            .prepare_cached("UPDATE items SET removing = NULL WHERE id = ?1 AND removing = ?2 AND state = 3")?
            .execute(key)?;
        self.release_undo(key)
    }

    pub(super) fn finish_delete(&mut self, item: ItemId) -> Result<()> {
        self.db
            .prepare_cached("UPDATE items SET replaces = NULL, removing = NULL WHERE id = ?1 AND state = 3")?
            .execute([item.0])
            .map(drop)
    }
}
