//! Counts rows by state and code. Changes are collected during a transaction and written with it.

use std::collections::{BTreeMap, HashMap};

use rusqlite::Connection;

use crate::domain::{Counts, ItemState};

/// First schema with changed photos; reading does not migrate.
const SCHEMA_WITH_CHANGES: i64 = 2;
/// First schema with skipped files.
const SCHEMA_WITH_SKIPPED: i64 = 6;

/// Changes of the tally in this transaction.
#[derive(Debug, Default)]
pub(super) struct CountsDelta(HashMap<(ItemState, String), i64>);

impl CountsDelta {
    pub(super) fn add(&mut self, state: ItemState, code: Option<&str>, n: i64) {
        *self.0.entry((state, code.unwrap_or_default().to_owned())).or_default() += n;
    }

    pub(super) fn flush(&mut self, db: &Connection) -> rusqlite::Result<()> {
        let mut upsert = db.prepare_cached(
            "INSERT INTO tally (state, code, n) VALUES (?1, ?2, ?3)
             ON CONFLICT (state, code) DO UPDATE SET n = n + excluded.n",
        )?;
        for ((state, code), n) in self.0.drain().filter(|(_, n)| *n != 0) {
            upsert.execute((state as i64, code, n))?;
        }
        Ok(())
    }
}

/// Reads the counts from the tally. Items being sent are pending in a live run, otherwise in doubt.
pub(super) fn counts(db: &Connection, is_live: bool) -> rusqlite::Result<Counts> {
    let mut counts = Counts::default();
    let mut by_code = BTreeMap::new();
    let mut rows = db.prepare_cached("SELECT state, code, n FROM tally WHERE n <> 0")?;
    let mut rows = rows.query([])?;
    while let Some(row) = rows.next()? {
        let (state, code, n): (i64, String, i64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let n = u64::try_from(n).unwrap_or(0);
        counts.total += n;
        match super::rows::state(state)? {
            ItemState::Pending => counts.pending += n,
            ItemState::Sending if is_live => counts.pending += n,
            ItemState::Sending | ItemState::InDoubt => counts.in_doubt += n,
            ItemState::Enrolled => counts.enrolled += n,
            ItemState::Rejected => counts.rejected += n,
            ItemState::Failed => counts.failed += n,
        }
        if !code.is_empty() {
            *by_code.entry(code).or_default() += n;
        }
    }
    counts.by_code = by_code;
    counts.vanished = db
        .query_row("SELECT coalesce(sum(vanished), 0) FROM sources", [], |row| row.get::<_, i64>(0))?
        .try_into()
        .unwrap_or(0);
    let count = |sql: &str| db.query_row(sql, [], |row| row.get::<_, i64>(0)).map(i64::unsigned_abs);
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    if version < SCHEMA_WITH_CHANGES {
        return Ok(counts);
    }
    // Each uses a partial index of few rows.
    counts.changed = count("SELECT count(*) FROM items WHERE changed = 1")?;
    counts.to_remove = count("SELECT count(*) FROM items WHERE replaces IS NOT NULL AND state = 3")?;
    if version >= SCHEMA_WITH_SKIPPED {
        counts.skipped = count("SELECT coalesce(sum(skipped), 0) FROM sources")?;
    }
    Ok(counts)
}
