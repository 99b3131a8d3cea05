//! Removes people from the checkpoint, so that nothing of them is left in its file, its WAL or its free pages.
//!
//! What was removed is not known any more: from here on every run asks the service before each send, or it might enrol
//! someone twice.

use std::{path::PathBuf, sync::Arc};

use rusqlite::{Connection, params};

use super::{SqliteStore, open, rows};
use crate::{
    checkpoint::StoreError,
    domain::{FaceGroupCode, ItemState, MerchantUserId},
};

/// Who is to be removed.
#[derive(Debug, Clone)]
pub enum PurgeFilter {
    /// Whoever was enrolled before this time, in milliseconds since 1970.
    EnrolledItem(i64),
    /// This person, in this group or in all, enrolled or not.
    User(MerchantUserId, Option<FaceGroupCode>),
}

/// What was removed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Items, and rows that could not become one.
    pub rows: u64,
    /// In these groups, in which the service has a record, or may have one.
    pub groups: Vec<String>,
    /// Copies made before a migration, which held them too.
    pub backups: Vec<PathBuf>,
    /// The manifests that the checkpoint was fed by; they are not touched.
    pub manifests: Vec<PathBuf>,
}

impl SqliteStore {
    /// Removes them, all or none, rewrites the file without them, and removes the copies of it that hold them still.
    pub fn purge(&mut self, whom: &PurgeFilter) -> Result<PurgeReport, StoreError> {
        let failed = StoreError::sqlite;
        let mut forgotten = self.remove(whom).map_err(failed("removing items"))?;
        forgotten.manifests = strings(&self.db, "SELECT name FROM sources ORDER BY name")
            .map_err(failed("reading its sources"))?
            .into_iter()
            .map(PathBuf::from)
            .collect();
        // VACUUM leaves no free page behind; the checkpoint of the WAL, none of its frames.
        self.db
            .execute_batch("VACUUM; PRAGMA wal_checkpoint(TRUNCATE);")
            .map_err(failed("rewriting it without what was removed"))?;
        forgotten.backups = open::backups(&self.path);
        for backup in &forgotten.backups {
            std::fs::remove_file(backup)
                .map_err(|source| StoreError::Open { path: backup.clone(), source: Arc::new(source) })?;
        }
        Ok(forgotten)
    }

    fn remove(&mut self, whom: &PurgeFilter) -> rusqlite::Result<PurgeReport> {
        let changes = self.db.unchecked_transaction()?;
        // Items are few or many; their numbers are not kept in memory.
        self.db.execute_batch("CREATE TEMP TABLE gone (id INTEGER PRIMARY KEY)")?;
        match whom {
            PurgeFilter::EnrolledItem(ms) => self.db.execute(
                "INSERT INTO temp.gone SELECT id FROM items
                 WHERE state = 3 AND enrolled_at < ?1 AND replaces IS NULL",
                [ms],
            )?,
            PurgeFilter::User(user, group) => self.db.execute(
                "INSERT INTO temp.gone SELECT i.id FROM items AS i JOIN face_groups AS g ON g.id = i.group_id
                 WHERE i.user = ?1 AND (?2 IS NULL OR g.code = ?2)",
                params![user.as_str(), group.as_ref().map(FaceGroupCode::as_str)],
            )?,
        };
        let groups = strings(
            &self.db,
            "SELECT DISTINCT g.code FROM items AS i JOIN face_groups AS g ON g.id = i.group_id
             WHERE i.id IN (SELECT id FROM temp.gone) AND (i.first_intent_at IS NOT NULL OR i.state = 3) ORDER BY g.code",
        )?;
        let mut rows = 0;
        {
            let mut counted = self.db.prepare(
                "SELECT state, code, count(*) FROM items WHERE id IN (SELECT id FROM temp.gone) GROUP BY state, code",
            )?;
            let mut counted = counted.query([])?;
            while let Some(row) = counted.next()? {
                let (state, code, n): (i64, Option<String>, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
                self.tally.add(rows::state(state)?, code.as_deref(), -n);
                rows += n.unsigned_abs();
            }
        }
        self.db.execute_batch(
            "UPDATE sources SET items = items - (SELECT count(*) FROM items AS i
               WHERE i.source_id = sources.id AND i.id IN (SELECT id FROM temp.gone));
             UPDATE sources SET vanished = min(vanished, items), mark = NULL;
             DELETE FROM mended_rows WHERE item IN (SELECT id FROM temp.gone);
             DELETE FROM items WHERE id IN (SELECT id FROM temp.gone);
             DROP TABLE temp.gone;",
        )?;
        if let PurgeFilter::User(user, group) = whom {
            let group = group.as_ref().map(FaceGroupCode::as_str);
            let faulty = "user = ?1 AND (?2 IS NULL OR group_code IS NULL OR group_code = ?2)";
            {
                let mut counted =
                    self.db.prepare(&format!("SELECT code, count(*) FROM row_faults WHERE {faulty} GROUP BY code"))?;
                let mut counted = counted.query(params![user.as_str(), group])?;
                while let Some(row) = counted.next()? {
                    let (code, n): (String, i64) = (row.get(0)?, row.get(1)?);
                    self.tally.add(ItemState::Rejected, Some(&code), -n);
                    rows += n.unsigned_abs();
                }
            }
            self.db.execute(&format!("DELETE FROM row_faults WHERE {faulty}"), params![user.as_str(), group])?;
        }
        self.tally.flush(&self.db)?;
        // Of whom the service has nothing, and never had, nothing need be known.
        if !groups.is_empty() {
            self.db
                .execute("INSERT INTO settings (name, value) VALUES ('forgotten', '1') ON CONFLICT DO NOTHING", [])?;
        }
        changes.commit()?;
        Ok(PurgeReport { rows, groups, ..PurgeReport::default() })
    }
}

fn strings(db: &Connection, select: &str) -> rusqlite::Result<Vec<String>> {
    db.prepare(select)?.query_map([], |row| row.get(0))?.collect()
}
