//! Photos of enrolled items that are others now, and the records that theirs take the place of.

use rusqlite::Result;

use super::{SqliteStore, claimed_columns, reopened};
use crate::{
    checkpoint::{
        StoreError,
        store::{Claimed, PhotoChange, PhotoCheck},
    },
    domain::{DeleteIntent, ItemId, ItemState},
};

impl SqliteStore {
    pub(super) fn record_photo_checks_rows(&mut self, looks: &[PhotoCheck]) -> Result<()> {
        for &PhotoCheck { item, seen } in looks {
            match seen {
                PhotoChange::Same(stamp) => {
                    self.db
                        .prepare_cached(
                            "UPDATE items SET size = ?2, mtime_ns = ?3, changed = 0 WHERE id = ?1 AND state = 3",
                        )?
                        .execute((item.0, stamp.size as i64, stamp.mtime_ns))?;
                }
                PhotoChange::Other => {
                    self.db
                        .prepare_cached("UPDATE items SET changed = 1 WHERE id = ?1 AND state = 3")?
                        .execute([item.0])?;
                }
                PhotoChange::Replacement => self.open_for_replacement(item)?,
            }
        }
        Ok(())
    }

    /// It is to be sent again. What it is to replace is asked for before that; what an earlier replacement left over is
    /// still known, and stays so.
    fn open_for_replacement(&mut self, item: ItemId) -> Result<()> {
        let code: Option<String> = self
            .db
            .prepare_cached("SELECT code FROM items WHERE id = ?1 AND state = 3")?
            .query_row([item.0], |row| row.get(0))?;
        self.db
            .prepare_cached(concat!(
                "UPDATE items SET ",
                reopened!(),
                ", changed = 1, replaces = 'null', enrolled_at = NULL, confirmed_by = NULL, quality = NULL,
                 first_intent_at = NULL WHERE id = ?1 AND state = 3"
            ))?
            .execute([item.0])?;
        self.tally.add(ItemState::Enrolled, code.as_deref(), -1);
        self.tally.add(ItemState::Pending, None, 1);
        Ok(())
    }

    pub(super) fn write_replaced(&mut self, item: ItemId, records: &[i64]) -> Result<()> {
        let records = serde_json::to_string(records).expect("numbers are JSON");
        self.db
            .prepare_cached("UPDATE items SET replaces = ?2 WHERE id = ?1 AND state = 0 AND replaces IS NOT NULL")?
            .execute((item.0, records))
            .map(drop)
    }

    pub(super) fn find_removals(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>> {
        self.db
            .prepare_cached(concat!(
                claimed_columns!(),
                "WHERE i.replaces IS NOT NULL AND i.state = 3 AND i.id > ?1 ORDER BY i.id LIMIT ?2"
            ))?
            .query_map((after.0, limit as i64), |row| Claimed::try_from(row))?
            .collect()
    }

    /// Only a record that was there before the new photo was sent, and only once the new photo is enrolled.
    pub(super) fn write_removal(&mut self, removal: &DeleteIntent) -> Result<(), StoreError> {
        let changed = self
            .db
            .prepare_cached(
                "UPDATE items SET removing = ?2 WHERE id = ?1 AND state = 3
                 AND EXISTS (SELECT 1 FROM json_each(items.replaces) AS old WHERE old.value = ?2)",
            )
            .and_then(|mut update| update.execute((removal.item.0, removal.record)))
            .map_err(StoreError::sqlite("writing a removal"))?;
        if changed == 1 { Ok(()) } else { Err(StoreError::IllegalRemoval { removal: removal.clone() }) }
    }

    pub(super) fn write_removed(&mut self, item: ItemId) -> Result<()> {
        self.db
            .prepare_cached("UPDATE items SET replaces = NULL, removing = NULL WHERE id = ?1 AND state = 3")?
            .execute([item.0])
            .map(drop)
    }
}
