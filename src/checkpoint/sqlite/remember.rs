//! Sources that come again unchanged: what they are known by, and what a reading of them would have found.

use std::{path::Path, sync::Arc};

use rusqlite::{OptionalExtension, Result};

use super::{SqliteStore, rows};
use crate::{
    checkpoint::store::{EnrolledBefore, Ingested, KnownPhoto, RefusedBefore, Relook, Remembered},
    domain::{Digest, ItemId, ItemState},
};

impl SqliteStore {
    /// A source with items that have vanished from it is read: which they are stands nowhere.
    pub(super) fn find_remembered(&mut self, names: &[String]) -> Result<Option<Remembered>> {
        let mut all: Option<Remembered> = None;
        let mut sources = Vec::new();
        for name in names {
            let known = self
                .db
                .prepare_cached(
                    "SELECT id, root, items, mark, (SELECT count(*) FROM row_faults WHERE source_id = sources.id)
                     + (SELECT count(*) FROM mended_rows WHERE source_id = sources.id) AS faults
                     FROM sources WHERE name = ?1 AND mark IS NOT NULL AND vanished = 0",
                )?
                .query_row([name], |row| {
                    sources.push((row.get("id")?, Arc::from(Path::new(&row.get::<_, String>("root")?))));
                    let (items, faults): (u64, u64) = (row.get("items")?, row.get("faults")?);
                    Ok(Remembered { mark: Digest(row.get("mark")?), rows: items + faults, items })
                })
                .optional()?;
            let Some(known) = known else { return Ok(None) };
            all = match all {
                None => Some(known),
                Some(sum) if sum.mark == known.mark => {
                    Some(Remembered { rows: sum.rows + known.rows, items: sum.items + known.items, ..sum })
                }
                Some(_) => return Ok(None),
            };
        }
        self.remembered = sources;
        Ok(all)
    }

    /// Not of sources with rows that are another one's: nothing of these would be found again.
    pub(super) fn write_mark(&mut self, mark: &Digest) -> Result<()> {
        if self.has_stood_in_vain {
            return Ok(());
        }
        for open in &self.sources {
            self.db.execute("UPDATE sources SET mark = ?2 WHERE id = ?1", (open.id.0, mark.0))?;
        }
        Ok(())
    }

    /// By number, so that a part takes as long where nothing is to be looked at as where everything is.
    pub(super) fn find_again(&self, after: ItemId, numbers: usize) -> Result<Relook> {
        let last: i64 = self.db.query_row("SELECT coalesce(max(id), 0) FROM items", [], |row| row.get(0))?;
        let end = after.0.saturating_add(i64::try_from(numbers).unwrap_or(i64::MAX));
        let mut found = Ingested::default();
        let mut select = self.db.prepare_cached(
            "SELECT id, state, source_id, path, size, mtime_ns, sha256 FROM items
             WHERE id > ?1 AND id <= ?2 AND state IN (3, 4) AND path IS NOT NULL",
        )?;
        let mut items = select.query((after.0, end))?;
        while let Some(row) = items.next()? {
            let source: i64 = row.get("source_id")?;
            let Some((_, root)) = self.remembered.iter().find(|(id, _)| *id == source) else { continue };
            let Some(path) = rows::path(row, "path", root)? else { continue };
            let (item, stamp) = (ItemId(row.get("id")?), rows::stamp(row)?);
            if rows::state(row.get("state")?)? == ItemState::Rejected {
                found.refused_before.push(RefusedBefore { item, path, root: root.clone(), stamp });
            } else {
                let photo = KnownPhoto::File { path, root: root.clone(), stamp, digest: rows::digest(row)? };
                found.enrolled_before.push(EnrolledBefore { item, photo });
            }
        }
        Ok(Relook { found, after: (end < last).then_some(ItemId(end)) })
    }
}
