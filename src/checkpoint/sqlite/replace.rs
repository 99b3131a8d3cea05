//! Changed photos of enrolled items and the records that they supersede.

use rusqlite::Result;

use super::{SqliteStore, requeued_columns};
use crate::{
    checkpoint::{PhotoChange, PhotoCheck, Reply, StoreError},
    domain::{DeleteIntent, ItemId, ItemState},
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
                }
                PhotoChange::Other => {
                    self.db
                        .prepare_cached("UPDATE items SET changed = 1 WHERE id = ?1 AND state = 3")?
                        .execute([item.0])?;
                }
                PhotoChange::Replacement => self.requeue_for_replacement(item)?,
            }
        }
        Ok(())
    }

    /// Requeues an item so that its new photo is sent. The records to supersede are queried before that; records left over
    /// from an earlier replacement are among them.
    fn requeue_for_replacement(&mut self, item: ItemId) -> Result<()> {
        let code: Option<String> = self
            .db
            .prepare_cached("SELECT code FROM items WHERE id = ?1 AND state = 3")?
            .query_row([item.0], |row| row.get(0))?;
        self.db
            .prepare_cached(concat!(
                "UPDATE items SET ",
                requeued_columns!(),
                ", changed = 1, replaces = 'null', enrolled_at = NULL, confirmed_by = NULL, quality = NULL,
                 first_intent_at = NULL WHERE id = ?1 AND state = 3"
            ))?
            .execute([item.0])?;
        self.tally.add(ItemState::Enrolled, code.as_deref(), -1);
        self.tally.add(ItemState::Pending, None, 1);
        Ok(())
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
