//! The checkpoint as one SQLite file: WAL, `synchronous=FULL`, one connection that writes.

mod corrections;
mod identity;
mod ingest;
mod open;
mod purge;
mod reader;
mod replace;
mod rows;
mod settle;
mod tally;
mod undo;

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params};

use self::{
    identity::FileIdentity,
    ingest::{OpenSource, SourceCounts},
    open::Opened,
    tally::CountsDelta,
};
pub use self::{
    open::companions,
    purge::{PurgeFilter, PurgeReport},
    reader::Reader,
};
use super::{
    Batch, Change, CheckpointState, Claimed, InDoubtRow, Ingested, ItemSet, Reply, RunStart, SourceId, Store,
    StoreError,
};
use crate::{
    crash,
    domain::{Bottleneck, Counts, ErrorCode, FailureKind, ItemId, ItemState, RunTotals},
};

impl StoreError {
    fn sqlite(doing: &'static str) -> impl FnOnce(rusqlite::Error) -> Self {
        move |source| match &source {
            rusqlite::Error::SqliteFailure(failure, detail)
                if matches!(failure.code, rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) =>
            {
                Self::Corrupt { detail: detail.clone().unwrap_or_else(|| failure.to_string()) }
            }
            _ => Self::Failed { doing, source: Arc::new(source) },
        }
    }
}

/// Assignments that make an item pending as if it had never been sent.
macro_rules! reopened_columns {
    () => {
        "state = 0, stage = NULL, code = NULL, message = NULL, request_id = NULL, attempts = 0"
    };
}
use reopened_columns;

/// Query for the columns of a [`Claimed`].
macro_rules! select_claimed {
    () => {
        "SELECT i.id, i.row, i.user, g.code AS group_code, i.path, i.place, i.url, i.attempts, i.first_intent_at, i.code,
         i.source_id, i.replaces, s.root
         FROM items AS i
         JOIN face_groups AS g ON g.id = i.group_id
         JOIN sources AS s ON s.id = i.source_id "
    };
}

/// `state IN (1, 2)` repeats the condition of the index `items_open`; without it SQLite scans all items.
const MARK_SENDING_AS_IN_DOUBT: &str =
    "UPDATE items SET state = 2, code = ?1, message = 'the process ended before the answer came'
     WHERE state = 1 AND state IN (1, 2)";
/// Uses `items_open` like [`MARK_SENDING_AS_IN_DOUBT`].
const SELECT_IN_DOUBT: &str =
    concat!(select_claimed!(), "WHERE i.state = 2 AND i.state IN (1, 2) AND i.id > ?1 ORDER BY i.id LIMIT ?2");
const SELECT_PENDING_DELETES: &str =
    concat!(select_claimed!(), "WHERE i.replaces IS NOT NULL AND i.state = 3 AND i.id > ?1 ORDER BY i.id LIMIT ?2");

/// Store in one SQLite file.
pub struct SqliteStore {
    db: Connection,
    /// Must be closed after the connection: see [`Opened`].
    file: File,
    path: PathBuf,
    tally: CountsDelta,
    /// Id of this run in `runs`.
    run: i64,
    groups: HashMap<String, i64>,
    sources: Vec<OpenSource>,
    source_counts: SourceCounts,
    /// Items that this run's sources have named so far.
    seen: ItemSet,
    is_ingesting: bool,
    /// Whether the last row named a known item.
    expects_known: bool,
    /// Set by [`Store::end_run`].
    vanished_rejected: u64,
}

impl SqliteStore {
    /// Opens or creates the checkpoint for runs against `target`: the region, the custom endpoint or the sandbox.
    pub fn open(path: &Path, target: &str) -> Result<Self, StoreError> {
        let opened = open::read_write(path)?;
        let bind = || -> rusqlite::Result<Option<String>> {
            let insert = "INSERT INTO settings (name, value) VALUES ('binding', ?1) ON CONFLICT DO NOTHING";
            opened.db.execute(insert, [target])?;
            setting(&opened.db, "binding")
        };
        let found = bind().map_err(StoreError::sqlite("reading its target"))?.unwrap_or_default();
        if found != target {
            return Err(StoreError::TargetMismatch { found, wanted: target.to_owned() });
        }
        Ok(Self::over(opened, path))
    }

    /// Epoch, as [`Store::end_run`] returns it; 0 before the first run.
    pub fn epoch(&self) -> Result<u64, StoreError> {
        let epoch = setting(&self.db, "epoch").map_err(StoreError::sqlite("reading its epoch"))?;
        Ok(epoch.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Opens a checkpoint for a change that sends nothing and therefore needs no target.
    pub fn open_existing(path: &Path) -> Result<Self, StoreError> {
        open::read_write(path).map(|opened| Self::over(opened, path))
    }

    fn over(opened: Opened, path: &Path) -> Self {
        let Opened { db, file } = opened;
        Self {
            db,
            file,
            path: path.to_owned(),
            tally: CountsDelta::default(),
            run: 0,
            groups: HashMap::new(),
            sources: Vec::new(),
            source_counts: SourceCounts::default(),
            seen: ItemSet::default(),
            is_ingesting: true,
            expects_known: false,
            vanished_rejected: 0,
        }
    }

    /// Makes items in these states pending again, or only those with `code`. Returns how many.
    pub fn retry(&mut self, states: &[ItemState], code: Option<&str>) -> Result<u64, StoreError> {
        self.transact("reopening items", |store| {
            let states = states.iter().filter(|state| state.can_become(ItemState::Pending));
            let reopen = |&state| store.reopen_all("(?2 IS NULL OR code = ?2)", params![state as i64, code]);
            states.map(reopen).sum()
        })
    }

    /// Makes the items in state `?1` that meet `condition` pending again. Returns how many.
    fn reopen_all(&mut self, condition: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<u64> {
        let condition = format!("WHERE state = ?1 AND {condition}");
        let select = format!("SELECT state, code, count(*) FROM items {condition} GROUP BY code");
        let n = self.discount(&select, parameters)?;
        self.tally.add(ItemState::Pending, None, n as i64);
        self.db.execute(&format!("UPDATE items SET {} {condition}", reopened_columns!()), parameters)?;
        Ok(n)
    }

    /// Takes rows out of the tally that `select` counts by state and code. Returns how many.
    fn discount(&mut self, select: &str, parameters: impl Params) -> rusqlite::Result<u64> {
        let mut counted = self.db.prepare(select)?;
        let mut counted = counted.query(parameters)?;
        let mut rows = 0;
        while let Some(row) = counted.next()? {
            let (code, n): (Option<String>, i64) = (row.get(1)?, row.get(2)?);
            self.tally.add(rows::state(row.get(0)?)?, code.as_deref(), -n);
            rows += n.unsigned_abs();
        }
        Ok(rows)
    }

    /// Marks items in doubt that were being sent by a process or a task that is gone: the requests may have been executed.
    fn mark_sending_as_in_doubt(&mut self) -> rusqlite::Result<()> {
        let code = FailureKind::Interrupted.code();
        let changed = self.db.execute(MARK_SENDING_AS_IN_DOUBT, [&code.0])?;
        self.tally.add(ItemState::Sending, None, -(changed as i64));
        self.tally.add(ItemState::InDoubt, Some(&code.0), changed as i64);
        Ok(())
    }

    /// Reopens local rejections that were made under other photo rules.
    fn reopen_after_rule_change(&mut self, rules: &str) -> rusqlite::Result<()> {
        if setting(&self.db, "photo_rules")?.is_some_and(|previous| previous != rules) {
            self.reopen_all("stage = 0", params![ItemState::Rejected as i64])?;
            self.reread_refused_photos()?;
        }
        set_setting(&self.db, "photo_rules", rules)
    }

    fn was_last_run_killed(&self) -> rusqlite::Result<bool> {
        self.db.query_row(
            "SELECT EXISTS (SELECT 1 FROM runs WHERE id = (SELECT max(id) FROM runs) AND ended_at IS NULL)",
            [],
            |row| row.get(0),
        )
    }

    fn next_epoch(&self) -> rusqlite::Result<u64> {
        let epoch: i64 = self.db.query_row(
            "INSERT INTO settings (name, value) VALUES ('epoch', '1')
             ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)",
            [],
            |row| row.get(0),
        )?;
        // Everything the run writes from here on goes into this file.
        if let Ok(file) = FileIdentity::of(&self.file) {
            set_setting(&self.db, identity::SETTING, &file.to_string())?;
        }
        Ok(epoch.unsigned_abs())
    }

    /// Whether a pending item is not sent in this run, because its manifest has not named it (yet).
    fn is_skipped(&self, item: ItemId, source: i64) -> bool {
        self.sources.iter().any(|open| open.id.0 == source) && !self.seen.contains(item)
    }

    /// Runs `apply` as one durable transaction. After an error the store must be dropped, which rolls it back.
    fn in_transaction<R>(&mut self, apply: impl FnOnce(&mut Self) -> Result<R, StoreError>) -> Result<R, StoreError> {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::sqlite("beginning a transaction"))?;
        let result = apply(self)?;
        let flush = |store: &mut Self| {
            store.tally.flush(&store.db)?;
            store.source_counts.flush(&store.db)
        };
        flush(self).map_err(StoreError::sqlite("counting"))?;
        crash::point("commit.before");
        self.db.execute_batch("COMMIT").map_err(StoreError::sqlite("committing"))?;
        crash::point("commit.after");
        Ok(result)
    }

    /// Like [`in_transaction`](Self::in_transaction), for SQL alone.
    fn transact<R>(
        &mut self,
        doing: &'static str,
        apply: impl FnOnce(&mut Self) -> rusqlite::Result<R>,
    ) -> Result<R, StoreError> {
        self.in_transaction(|store| apply(store).map_err(StoreError::sqlite(doing)))
    }

    fn apply(&mut self, change: &Change) -> Result<Reply, StoreError> {
        let (doing, done) = match change {
            Change::Intend(intent) => return self.intend(intent).map(Reply::Intent),
            Change::Settle(record) => return self.settle(record).map(Reply::Settled),
            Change::IntendDelete(delete) => return self.intend_delete(delete),
            Change::IntendUndo(delete) => return self.intend_undo(delete),
            Change::Reopen(items) => ("reopening items", self.reopen(items)),
            Change::RecordPhotoChecks(checks) => ("recording photo checks", self.record_photo_checks(checks)),
            Change::RecordSuperseded(item, records) => {
                ("recording superseded records", self.record_superseded(*item, records))
            }
            Change::ReleaseDelete(delete) => ("releasing a delete intent", self.release_delete(delete)),
            Change::FinishDelete(item) => ("recording a delete", self.finish_delete(*item)),
            Change::FinishUndo(item) => ("recording a removal", self.finish_undo(*item)),
            Change::RecordSkipped(source, files) => ("recording skipped files", self.record_skipped(*source, *files)),
            Change::RecordTotals(totals, limited_by) => {
                ("recording what the run has done", self.record_totals(totals, *limited_by))
            }
            Change::SaveRate(per_second) => ("saving the rate", self.save_rate(*per_second)),
        };
        done.map_err(StoreError::sqlite(doing)).map(|()| Reply::Done)
    }

    fn reopen(&mut self, items: &[ItemId]) -> rusqlite::Result<()> {
        for &item in items {
            let (state, code) = self.db.query_row("SELECT state, code FROM items WHERE id = ?1", [item.0], |row| {
                Ok((rows::state(row.get(0)?)?, row.get::<_, Option<String>>(1)?))
            })?;
            match state {
                ItemState::Rejected | ItemState::Failed => self.reopen_item(item, state, code.as_deref())?,
                ItemState::Pending | ItemState::Sending | ItemState::InDoubt | ItemState::Enrolled => {}
            }
        }
        Ok(())
    }

    fn record_skipped(&self, source: SourceId, files: u64) -> rusqlite::Result<()> {
        self.db.execute("UPDATE sources SET skipped = ?2 WHERE id = ?1", (source.0, files)).map(drop)
    }

    fn record_totals(&self, totals: &RunTotals, limited_by: Bottleneck) -> rusqlite::Result<()> {
        let latencies = serde_json::to_string(&totals.latencies.0).expect("pairs of numbers are JSON");
        let n = |n: u64| n as i64;
        self.db.execute(
            "UPDATE runs SET newly_enrolled = ?2, calls = ?3, throttled = ?4, queries = ?5, latencies = ?6,
             limited_by = ?7 WHERE id = ?1",
            (
                self.run,
                n(totals.newly_enrolled),
                n(totals.calls),
                n(totals.throttled),
                n(totals.queries),
                latencies,
                limited_by.to_string(),
            ),
        )?;
        self.db
            .execute(
                "INSERT OR REPLACE INTO paces (run, at, calls, throttled, newly_enrolled) VALUES (?1, ?2, ?3, ?4, ?5)",
                (self.run, now_ms(), n(totals.calls), n(totals.throttled), n(totals.newly_enrolled)),
            )
            .map(drop)
    }

    fn save_rate(&self, per_second: Option<f64>) -> rusqlite::Result<()> {
        match per_second {
            Some(rate) => set_setting(&self.db, "learned_rate", &rate.to_string()),
            None => self.db.execute("DELETE FROM settings WHERE name = 'learned_rate'", []).map(drop),
        }
    }

    fn list<R>(
        &self,
        select: &str,
        (after, limit): (ItemId, usize),
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<R>,
    ) -> rusqlite::Result<Vec<R>> {
        self.db.prepare_cached(select)?.query_map((after.0, limit as i64), read)?.collect()
    }
}

impl Store for SqliteStore {
    fn start_run(&mut self, run: &RunStart) -> Result<CheckpointState, StoreError> {
        self.transact("starting the run", |store| {
            store.mark_sending_as_in_doubt()?;
            run.rules.as_deref().map_or(Ok(()), |rules| store.reopen_after_rule_change(rules))?;
            store.tally.flush(&store.db)?;
            let runs: i64 = store.db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?;
            let was_killed = store.was_last_run_killed()?;
            let was_purged = setting(&store.db, "forgotten")?.is_some() || setting(&store.db, "incomplete")?.is_some();
            let epoch = store.next_epoch()?;
            let learned_rate = setting(&store.db, "learned_rate")?.and_then(|text| text.parse().ok());
            store.run = store.db.query_row(
                "INSERT INTO runs (run_id, access_key, started_at, quota) VALUES (?1, ?2, ?3, ?4) RETURNING id",
                (&run.id.0, &run.access_key, now_ms(), run.quota),
                |row| row.get(0),
            )?;
            let counts = tally::counts(&store.db, true)?;
            Ok(CheckpointState { counts, is_resumed: runs > 0, learned_rate, was_killed, was_purged, epoch })
        })
    }

    fn end_run(&mut self, exit_code: u8, reason: &str) -> Result<u64, StoreError> {
        self.transact("ending the run", |store| {
            store.mark_sending_as_in_doubt()?;
            store.vanished_rejected = store.count_vanished_rejected()?;
            store.db.execute(
                "UPDATE runs SET ended_at = ?2, exit_code = ?3, exit_reason = ?4 WHERE id = ?1",
                (store.run, now_ms(), exit_code, reason),
            )?;
            store.next_epoch()
        })
    }

    fn write(&mut self, changes: &[Change]) -> Result<Vec<Reply>, StoreError> {
        self.in_transaction(|store| changes.iter().map(|change| store.apply(change)).collect())
    }

    fn open_source(&mut self, name: &str, root: &Path) -> Result<SourceId, StoreError> {
        self.transact("opening a source", |store| store.open_source_row(name, root))
    }

    fn ingest(&mut self, batch: &Batch) -> Result<Ingested, StoreError> {
        self.transact("ingesting rows", |store| store.ingest_rows(batch))
    }

    fn finish_ingest(&mut self) -> Result<(), StoreError> {
        self.transact("closing the sources", Self::finish_sources)
    }

    fn count_items(&mut self, source: SourceId) -> Result<u64, StoreError> {
        self.db
            .query_row("SELECT items FROM sources WHERE id = ?1", [source.0], |row| row.get(0))
            .map_err(StoreError::sqlite("counting the items of a source"))
    }

    fn claim(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        let claim = || -> rusqlite::Result<Vec<Claimed>> {
            let mut select =
                self.db.prepare_cached(concat!(select_claimed!(), "WHERE i.state = 0 AND i.id > ?1 ORDER BY i.id"))?;
            let mut found = select.query([after.0])?;
            let mut claims = Vec::new();
            while claims.len() < limit {
                let Some(row) = found.next()? else { break };
                let claimed = Claimed::try_from(row)?;
                if !self.is_skipped(claimed.item, row.get("source_id")?) {
                    claims.push(claimed);
                } else if self.is_ingesting {
                    // Rows are mostly named in the order of their numbers, so later items have not come either. If
                    // they are not, the final scan finds the rest.
                    break;
                }
            }
            Ok(claims)
        };
        claim().map_err(StoreError::sqlite("claiming items"))
    }

    fn in_doubt_items(&mut self, after: ItemId, limit: usize) -> Result<Vec<InDoubtRow>, StoreError> {
        self.list(SELECT_IN_DOUBT, (after, limit), |row| {
            Ok(InDoubtRow { claimed: Claimed::try_from(row)?, code: ErrorCode(row.get("code")?) })
        })
        .map_err(StoreError::sqlite("reading items in doubt"))
    }

    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.list(SELECT_PENDING_DELETES, (after, limit), |row| Claimed::try_from(row))
            .map_err(StoreError::sqlite("reading pending deletes"))
    }

    fn counts(&mut self) -> Result<Counts, StoreError> {
        let counts = Counts {
            vanished_rejected: self.vanished_rejected,
            ..tally::counts(&self.db, true).map_err(StoreError::sqlite("counting"))?
        };
        Ok(counts)
    }
}

impl TryFrom<&Row<'_>> for Claimed {
    type Error = rusqlite::Error;
    fn try_from(row: &Row<'_>) -> rusqlite::Result<Self> {
        let root = PathBuf::from(row.get::<_, String>("root")?);
        Ok(Self {
            item: ItemId(row.get("id")?),
            row: row.get("row")?,
            group: rows::group(row, "group_code")?,
            user: rows::user(row, "user")?,
            picture: rows::picture(row, &root)?,
            root,
            replaces: rows::replaces(row.get("replaces")?)?,
            attempts: row.get("attempts")?,
            intent_ms: row.get("first_intent_at")?,
        })
    }
}

fn setting(db: &Connection, name: &str) -> rusqlite::Result<Option<String>> {
    db.query_row("SELECT value FROM settings WHERE name = ?1", [name], |row| row.get(0)).optional()
}

fn set_setting(db: &Connection, name: &str, value: &str) -> rusqlite::Result<()> {
    db.execute(
        "INSERT INTO settings (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        [name, value],
    )
    .map(drop)
}

/// Current time in milliseconds since 1970.
fn now_ms() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn in_doubt_query_uses_the_index() {
        let dir = tempfile::tempdir().unwrap();
        let store = SqliteStore::open(&dir.path().join("c.sqlite"), "test").unwrap();
        for statement in [MARK_SENDING_AS_IN_DOUBT, SELECT_IN_DOUBT] {
            let mut explained = store.db.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let nulls = vec![None::<i64>; explained.parameter_count()];
            let steps = explained.query_map(rusqlite::params_from_iter(nulls), |row| row.get::<_, String>("detail"));
            let steps: Vec<String> = steps.unwrap().map(Result::unwrap).collect();
            assert!(steps[0].contains("USING INDEX items_open"), "{steps:?}");
        }
    }
}
