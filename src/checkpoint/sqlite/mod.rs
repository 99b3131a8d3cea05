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

use std::{
    collections::HashMap,
    fs::File,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

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
    ItemSet, StoreError,
    store::{
        Batch, CheckpointState, Claimed, InDoubtRow, Ingested, NewIntent, OutcomeRecord, PhotoCheck, RunStart,
        SourceId, Store,
    },
};
use crate::{
    crash,
    domain::{
        Bottleneck, Counts, DeleteIntent, ErrorCode, FailureKind, Intent, ItemId, ItemState, ItemUpdate, RunTotals,
    },
};

/// Assignments that make an item pending as if it had never been sent.
macro_rules! requeued_columns {
    () => {
        "state = 0, stage = NULL, code = NULL, message = NULL, request_id = NULL, attempts = 0"
    };
}
use requeued_columns;

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
use select_claimed;

/// `state IN (1, 2)` repeats the condition of the index `items_open`; without it SQLite scans all items.
const MARK_SENDING_AS_IN_DOUBT: &str =
    "UPDATE items SET state = 2, code = ?1, message = 'the process ended before the answer came'
     WHERE state = 1 AND state IN (1, 2)";
/// Uses `items_open` like [`MARK_SENDING_AS_IN_DOUBT`].
const SELECT_IN_DOUBT: &str =
    concat!(select_claimed!(), "WHERE i.state = 2 AND i.state IN (1, 2) AND i.id > ?1 ORDER BY i.id LIMIT ?2");

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
        }
    }

    /// Makes items in these states pending again, or only those with `code`. Returns how many.
    pub fn retry(&mut self, states: &[ItemState], code: Option<&str>) -> Result<u64, StoreError> {
        let mut requeued = 0;
        for &state in states.iter().filter(|state| state.can_become(ItemState::Pending)) {
            requeued += self
                .requeue_all(state, "(?2 IS NULL OR code = ?2)", params![state as i64, code])
                .map_err(StoreError::sqlite("requeuing items"))?;
        }
        Ok(requeued)
    }

    /// Makes all items in `state` (bound as `?1`) that meet `condition` pending again. Returns how many.
    fn requeue_all(&mut self, state: ItemState, condition: &str, parameters: &[&dyn ToSql]) -> rusqlite::Result<u64> {
        let condition = format!("WHERE state = ?1 AND {condition}");
        let mut by_code = self.db.prepare(&format!("SELECT code, count(*) FROM items {condition} GROUP BY code"))?;
        let mut by_code = by_code.query(parameters)?;
        while let Some(row) = by_code.next()? {
            let (code, n): (Option<String>, i64) = (row.get(0)?, row.get(1)?);
            self.tally.add(state, code.as_deref(), -n);
            self.tally.add(ItemState::Pending, None, n);
        }
        let requeued = self.db.execute(&format!("UPDATE items SET {} {condition}", requeued_columns!()), parameters)?;
        Ok(requeued as u64)
    }

    /// Marks items in doubt that were being sent by a process or a task that is gone: the requests may have been executed.
    fn mark_sending_as_in_doubt(&mut self) -> rusqlite::Result<()> {
        let code = FailureKind::Interrupted.code();
        let changed = self.db.execute(MARK_SENDING_AS_IN_DOUBT, [&code.0])?;
        self.tally.add(ItemState::Sending, None, -(changed as i64));
        self.tally.add(ItemState::InDoubt, Some(&code.0), changed as i64);
        Ok(())
    }

    /// Requeues local rejections that were made under other photo rules.
    fn requeue_after_rule_change(&mut self, rules: &str) -> rusqlite::Result<()> {
        if setting(&self.db, "photo_rules")?.is_some_and(|previous| previous != rules) {
            self.requeue_all(ItemState::Rejected, "stage = 0", params![ItemState::Rejected as i64])?;
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
}

impl Store for SqliteStore {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::sqlite("beginning a transaction"))
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let flush = |store: &mut Self| {
            store.tally.flush(&store.db)?;
            store.source_counts.flush(&store.db)
        };
        flush(self).map_err(StoreError::sqlite("counting"))?;
        crash::point("commit.before");
        self.db.execute_batch("COMMIT").map_err(StoreError::sqlite("committing"))?;
        crash::point("commit.after");
        Ok(())
    }

    fn start_run(&mut self, run: &RunStart) -> Result<CheckpointState, StoreError> {
        let mut start = || -> rusqlite::Result<CheckpointState> {
            self.mark_sending_as_in_doubt()?;
            run.rules.as_deref().map_or(Ok(()), |rules| self.requeue_after_rule_change(rules))?;
            self.tally.flush(&self.db)?;
            let runs: i64 = self.db.query_row("SELECT count(*) FROM runs", [], |row| row.get(0))?;
            let was_killed = self.was_last_run_killed()?;
            let was_purged = setting(&self.db, "forgotten")?.is_some() || setting(&self.db, "incomplete")?.is_some();
            let epoch = self.next_epoch()?;
            let learned_rate = setting(&self.db, "learned_rate")?.and_then(|text| text.parse().ok());
            self.run = self.db.query_row(
                "INSERT INTO runs (run_id, access_key, started_at, quota) VALUES (?1, ?2, ?3, ?4) RETURNING id",
                (&run.id.0, &run.access_key, now_ms(), run.quota),
                |row| row.get(0),
            )?;
            let counts = tally::counts(&self.db, true)?;
            Ok(CheckpointState { counts, is_resumed: runs > 0, learned_rate, was_killed, was_purged, epoch })
        };
        start().map_err(StoreError::sqlite("starting the run"))
    }

    fn end_run(&mut self, exit_code: u8, reason: &str) -> Result<u64, StoreError> {
        let mut end = || {
            self.mark_sending_as_in_doubt()?;
            self.db.execute(
                "UPDATE runs SET ended_at = ?2, exit_code = ?3, exit_reason = ?4 WHERE id = ?1",
                (self.run, now_ms(), exit_code, reason),
            )?;
            self.next_epoch()
        };
        end().map_err(StoreError::sqlite("ending the run"))
    }

    fn open_source(&mut self, name: &str, root: &Path) -> Result<SourceId, StoreError> {
        self.open_source_row(name, root).map_err(StoreError::sqlite("opening a source"))
    }

    fn ingest(&mut self, batch: &Batch) -> Result<Ingested, StoreError> {
        let ingested = self.ingest_rows(batch).map_err(StoreError::sqlite("ingesting rows"))?;
        crash::point("ingest.before_commit");
        Ok(ingested)
    }

    fn count_items(&mut self, source: SourceId) -> Result<u64, StoreError> {
        self.count_items_of(source).map_err(StoreError::sqlite("counting the items of a source"))
    }

    fn record_skipped(&mut self, source: SourceId, files: u64) -> Result<(), StoreError> {
        self.db
            .execute("UPDATE sources SET skipped = ?2 WHERE id = ?1", (source.0, files))
            .map(drop)
            .map_err(StoreError::sqlite("recording skipped files"))
    }

    fn finish_ingest(&mut self) -> Result<(), StoreError> {
        self.finish_sources().map_err(StoreError::sqlite("closing the sources"))
    }

    fn record_photo_checks(&mut self, checks: &[PhotoCheck]) -> Result<(), StoreError> {
        self.write_photo_checks(checks).map_err(StoreError::sqlite("recording photo checks"))
    }

    fn requeue(&mut self, items: &[ItemId]) -> Result<(), StoreError> {
        let mut requeue = || {
            for &item in items {
                let (state, code) =
                    self.db.query_row("SELECT state, code FROM items WHERE id = ?1", [item.0], |row| {
                        Ok((rows::state(row.get(0)?)?, row.get::<_, Option<String>>(1)?))
                    })?;
                match state {
                    ItemState::Rejected | ItemState::Failed => self.requeue_item(item, state, code.as_deref())?,
                    ItemState::Pending | ItemState::Sending | ItemState::InDoubt | ItemState::Enrolled => {}
                }
            }
            Ok(())
        };
        requeue().map_err(StoreError::sqlite("requeuing items"))
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
        let in_doubt_items = || -> rusqlite::Result<Vec<InDoubtRow>> {
            self.db
                .prepare_cached(SELECT_IN_DOUBT)?
                .query_map((after.0, limit as i64), |row| {
                    Ok(InDoubtRow { claimed: Claimed::try_from(row)?, code: ErrorCode(row.get("code")?) })
                })?
                .collect()
        };
        in_doubt_items().map_err(StoreError::sqlite("reading items in doubt"))
    }

    fn intend(&mut self, intent: &NewIntent) -> Result<Intent, StoreError> {
        let intent = self.write_intent(intent)?;
        crash::point("intent.before_commit");
        Ok(intent)
    }

    fn settle(&mut self, outcome: &OutcomeRecord) -> Result<ItemUpdate, StoreError> {
        let update = self.write_outcome(outcome)?;
        crash::point("outcome.before_commit");
        Ok(update)
    }

    fn record_superseded(&mut self, item: ItemId, records: &[i64]) -> Result<(), StoreError> {
        self.write_superseded(item, records).map_err(StoreError::sqlite("recording superseded records"))
    }

    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.find_pending_deletes(after, limit).map_err(StoreError::sqlite("reading pending deletes"))
    }

    fn intend_delete(&mut self, delete: &DeleteIntent) -> Result<(), StoreError> {
        self.write_delete_intent(delete)
    }

    fn finish_delete(&mut self, item: ItemId) -> Result<(), StoreError> {
        self.write_deleted(item).map_err(StoreError::sqlite("recording a delete"))
    }

    fn counts(&mut self) -> Result<Counts, StoreError> {
        let counts = |store: &mut Self| {
            store.tally.flush(&store.db)?;
            tally::counts(&store.db, true)
        };
        counts(self).map_err(StoreError::sqlite("counting"))
    }

    fn record_totals(&mut self, totals: &RunTotals, limited_by: Bottleneck) -> Result<(), StoreError> {
        let record = || {
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
            self.db.execute(
                "INSERT OR REPLACE INTO paces (run, at, calls, throttled, newly_enrolled) VALUES (?1, ?2, ?3, ?4, ?5)",
                (self.run, now_ms(), n(totals.calls), n(totals.throttled), n(totals.newly_enrolled)),
            )
        };
        record().map(drop).map_err(StoreError::sqlite("recording what the run has done"))
    }

    fn save_rate(&mut self, per_second: Option<f64>) -> Result<(), StoreError> {
        let save = || match per_second {
            Some(rate) => set_setting(&self.db, "learned_rate", &rate.to_string()),
            None => self.db.execute("DELETE FROM settings WHERE name = 'learned_rate'", []).map(drop),
        };
        save().map_err(StoreError::sqlite("saving the rate"))
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
