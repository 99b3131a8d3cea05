//! Removes people from the checkpoint so that no trace is left in its file, its WAL or its free pages.
//!
//! The checkpoint no longer knows who was removed, so from then on every run queries the service before each send;
//! otherwise it might enrol someone twice.

use std::{path::PathBuf, sync::Arc};

use rusqlite::{Connection, params};

use super::{SqliteStore, open, set_setting};
use crate::{
    checkpoint::StoreError,
    domain::{FaceGroupCode, ItemState, MerchantUserId},
};

/// Items to remove.
#[derive(Debug, Clone)]
pub enum PurgeFilter {
    /// Items enrolled before this time, in milliseconds since 1970.
    EnrolledBefore(i64),
    /// One user in one group or in all groups, enrolled or not.
    User(MerchantUserId, Option<FaceGroupCode>),
}

/// Result of a purge.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PurgeReport {
    /// Number of removed items and invalid rows.
    pub rows: u64,
    /// Groups in which the service has or may have records of removed items.
    pub groups: Vec<String>,
    /// Removed backups, which contained the items too.
    pub backups: Vec<PathBuf>,
    /// Manifests that the checkpoint was built from; they are not changed.
    pub manifests: Vec<PathBuf>,
}

impl SqliteStore {
    /// Removes the items in one transaction, rewrites the file without them, and removes its backups. Removes nothing while
    /// another program reads the file.
    pub fn purge(&mut self, filter: &PurgeFilter) -> Result<PurgeReport, StoreError> {
        let failed = StoreError::sqlite;
        // A reader does not block an empty WAL, so it is written first.
        self.db.execute("UPDATE settings SET value = value", []).map_err(failed("writing its WAL"))?;
        self.truncate_wal()?;
        let mut report = self.transact("removing items", |store| store.remove(filter))?;
        report.manifests = strings(&self.db, "SELECT name FROM sources ORDER BY name")
            .map_err(failed("reading its sources"))?
            .into_iter()
            .map(PathBuf::from)
            .collect();
        // VACUUM leaves no free pages; truncating the WAL leaves none of its frames.
        self.db.execute_batch("VACUUM").map_err(failed("rewriting it without the removed items"))?;
        self.truncate_wal()?;
        report.backups = open::backups(&self.path);
        for backup in &report.backups {
            std::fs::remove_file(backup)
                .map_err(|source| StoreError::Open { path: backup.clone(), source: Arc::new(source) })?;
        }
        Ok(report)
    }

    /// Empties the WAL. SQLite keeps frames that a reader may need, and reports that as a column, not as an error.
    fn truncate_wal(&self) -> Result<(), StoreError> {
        let is_blocked: bool = self
            .db
            .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
            .map_err(StoreError::sqlite("emptying its WAL"))?;
        if is_blocked { Err(StoreError::InUse { path: self.path.clone() }) } else { Ok(()) }
    }

    fn remove(&mut self, filter: &PurgeFilter) -> rusqlite::Result<PurgeReport> {
        // A table, because the ids may not fit in memory.
        self.db.execute_batch("CREATE TEMP TABLE purged (id INTEGER PRIMARY KEY)")?;
        match filter {
            PurgeFilter::EnrolledBefore(ms) => self.db.execute(
                "INSERT INTO temp.purged SELECT id FROM items
                 WHERE state = 3 AND enrolled_at < ?1 AND replaces IS NULL",
                [ms],
            )?,
            PurgeFilter::User(user, group) => self.db.execute(
                "INSERT INTO temp.purged SELECT i.id FROM items AS i JOIN face_groups AS g ON g.id = i.group_id
                 WHERE i.user = ?1 AND (?2 IS NULL OR g.code = ?2)",
                params![user.as_str(), group.as_ref().map(FaceGroupCode::as_str)],
            )?,
        };
        let groups = strings(
            &self.db,
            "SELECT DISTINCT g.code FROM items AS i JOIN face_groups AS g ON g.id = i.group_id
             WHERE i.id IN (SELECT id FROM temp.purged) AND (i.first_intent_at IS NOT NULL OR i.state = 3 OR i.replaces IS NOT NULL)
             ORDER BY g.code",
        )?;
        let mut rows = self.discount(
            "SELECT state, code, count(*) FROM items WHERE id IN (SELECT id FROM temp.purged) GROUP BY state, code",
            [],
        )?;
        self.db.execute_batch(
            "UPDATE sources SET items = items - (SELECT count(*) FROM items AS i
               WHERE i.source_id = sources.id AND i.id IN (SELECT id FROM temp.purged));
             UPDATE sources SET vanished = min(vanished, items), mark = NULL;
             DELETE FROM mended_rows WHERE item IN (SELECT id FROM temp.purged);
             DELETE FROM items WHERE id IN (SELECT id FROM temp.purged);
             DROP TABLE temp.purged;",
        )?;
        if let PurgeFilter::User(user, group) = filter {
            let group = group.as_ref().map(FaceGroupCode::as_str);
            let faults = "FROM row_faults WHERE user = ?1 AND (?2 IS NULL OR group_code IS NULL OR group_code = ?2)";
            let rejected = ItemState::Rejected as i64;
            rows += self.discount(
                &format!("SELECT {rejected}, code, count(*) {faults} GROUP BY code"),
                params![user.as_str(), group],
            )?;
            self.db.execute(&format!("DELETE {faults}"), params![user.as_str(), group])?;
        }
        // If the service never had a record of them, it need not be queried.
        if !groups.is_empty() {
            set_setting(&self.db, "forgotten", "1")?;
        }
        Ok(PurgeReport { rows, groups, ..PurgeReport::default() })
    }
}

fn strings(db: &Connection, select: &str) -> rusqlite::Result<Vec<String>> {
    db.prepare(select)?.query_map([], |row| row.get(0))?.collect()
}
