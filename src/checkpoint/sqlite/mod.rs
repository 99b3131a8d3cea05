//! The checkpoint in one SQLite file: WAL, `synchronous=FULL`, one connection that writes.

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

use rusqlite::{Connection, OptionalExtension, Row};

use self::{
    identity::FileIdentity,
    ingest::{OfSource, OpenSource, Seen},
    open::Opened,
    tally::CountsDelta,
};
pub use self::{
    open::companions,
    purge::{PurgeFilter, PurgeReport},
    reader::Reader,
};
use super::{
    StoreError,
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

/// An item that is to be sent again, as if for the first time.
macro_rules! reopened {
    () => {
        "state = 0, stage = NULL, code = NULL, message = NULL, request_id = NULL, attempts = 0"
    };
}
use reopened;

/// What a [`Claimed`] is made of.
macro_rules! claimed_columns {
    () => {
        "SELECT i.id, i.row, i.user, g.code AS group_code, i.path, i.url, i.attempts, i.first_intent_at, i.code,
         i.source_id, i.replaces, s.root
         FROM items AS i
         JOIN face_groups AS g ON g.id = i.group_id
         JOIN sources AS s ON s.id = i.source_id "
    };
}
use claimed_columns;

/// That it is one of two states is said as the index `items_open` says it: else SQLite reads every item.
const MARK_SENDING_AS_IN_DOUBT: &str =
    "UPDATE items SET state = 2, code = ?1, message = 'the process ended before the answer came'
     WHERE state = 1 AND state IN (1, 2)";
/// The same.
const SELECT_IN_DOUBT: &str =
    concat!(claimed_columns!(), "WHERE i.state = 2 AND i.state IN (1, 2) AND i.id > ?1 ORDER BY i.id LIMIT ?2");

/// See the module.
pub struct SqliteStore {
    db: Connection,
    /// See [`Opened`]: it is closed after the connection.
    file: File,
    path: PathBuf,
    tally: CountsDelta,
    /// The row in `runs`.
    run: i64,
    groups: HashMap<String, i64>,
    sources: Vec<OpenSource>,
    of_source: OfSource,
    seen: Seen,
    is_ingesting: bool,
    /// Was the last row of an item that is known?
    expects_known: bool,
}

impl SqliteStore {
    /// Opens the checkpoint, or makes it, for runs to `binding`: the region, the custom endpoint or the sandbox.
    pub fn open(path: &Path, binding: &str) -> Result<Self, StoreError> {
        let opened = open::read_write(path)?;
        let bind = || -> rusqlite::Result<String> {
            let db = &opened.db;
            db.execute("INSERT INTO settings (name, value) VALUES ('binding', ?1) ON CONFLICT DO NOTHING", [binding])?;
            db.query_row("SELECT value FROM settings WHERE name = 'binding'", [], |row| row.get(0))
        };
        let found = bind().map_err(StoreError::sqlite("reading what it belongs to"))?;
        if found != binding {
            return Err(StoreError::TargetMismatch { found, wanted: binding.to_owned() });
        }
        Ok(Self::over(opened, path))
    }

    /// See [`Store::end_run`]; 0 in one that no run has begun on.
    pub fn epoch(&self) -> Result<u64, StoreError> {
        let epoch = self.setting("epoch").map_err(StoreError::sqlite("reading its epoch"))?;
        Ok(epoch.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// Opens a checkpoint that is there, for a change that sends nothing and so concerns no target.
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
            of_source: OfSource::default(),
            seen: Seen::default(),
            is_ingesting: true,
            expects_known: false,
        }
    }

    /// Items in one of these states go back to pending; only those with this code, if one is given. Says how many.
    pub fn retry(&mut self, states: &[ItemState], code: Option<&str>) -> Result<u64, StoreError> {
        let mut retry = || -> rusqlite::Result<u64> {
            let mut reopened = 0;
            for &state in states.iter().filter(|state| state.can_become(ItemState::Pending)) {
                let mut by_code = self.db.prepare(
                    "SELECT code, count(*) FROM items WHERE state = ?1 AND (?2 IS NULL OR code = ?2) GROUP BY code",
                )?;
                let mut counted = by_code.query((state as i64, code))?;
                while let Some(row) = counted.next()? {
                    let (code, n): (Option<String>, i64) = (row.get(0)?, row.get(1)?);
                    self.tally.add(state, code.as_deref(), -n);
                    self.tally.add(ItemState::Pending, None, n);
                }
                let changed = self.db.execute(
                    concat!("UPDATE items SET ", reopened!(), " WHERE state = ?1 AND (?2 IS NULL OR code = ?2)"),
                    (state as i64, code),
                )?;
                reopened += changed as u64;
            }
            Ok(reopened)
        };
        retry().map_err(StoreError::sqlite("putting items back"))
    }

    /// What was being sent by a process, or a part of one, that is gone: it may have been executed.
    fn mark_sending_as_in_doubt(&mut self) -> rusqlite::Result<()> {
        let code = FailureKind::Interrupted.code();
        let changed = self.db.execute(MARK_SENDING_AS_IN_DOUBT, [&code.0])?;
        self.tally.add(ItemState::Sending, None, -(changed as i64));
        self.tally.add(ItemState::InDoubt, Some(&code.0), changed as i64);
        Ok(())
    }

    /// What was refused here, and not by the service, by other rules than these.
    fn requeue_after_rule_change(&mut self, rules: &str) -> rusqlite::Result<()> {
        let known = self.setting("photo_rules")?;
        if known.is_some_and(|known| known != rules) {
            let mut by_code =
                self.db.prepare("SELECT code, count(*) FROM items WHERE state = 4 AND stage = 0 GROUP BY code")?;
            let mut counted = by_code.query([])?;
            while let Some(row) = counted.next()? {
                let (code, n): (Option<String>, i64) = (row.get(0)?, row.get(1)?);
                self.tally.add(ItemState::Rejected, code.as_deref(), -n);
                self.tally.add(ItemState::Pending, None, n);
            }
            self.db.execute(concat!("UPDATE items SET ", reopened!(), " WHERE state = 4 AND stage = 0"), [])?;
        }
        self.db
            .execute(
                "INSERT INTO settings (name, value) VALUES ('photo_rules', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [rules],
            )
            .map(drop)
    }

    fn next_epoch(&self) -> rusqlite::Result<u64> {
        let epoch: i64 = self.db.query_row(
            "INSERT INTO settings (name, value) VALUES ('epoch', '1')
             ON CONFLICT (name) DO UPDATE SET value = CAST(value AS INTEGER) + 1 RETURNING CAST(value AS INTEGER)",
            [],
            |row| row.get(0),
        )?;
        // What the run writes from here on, it writes into this file.
        if let Ok(file) = FileIdentity::of(&self.file) {
            self.db.execute(
                "INSERT INTO settings (name, value) VALUES (?1, ?2)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                (identity::SETTING, file.to_string()),
            )?;
        }
        Ok(epoch.unsigned_abs())
    }

    fn setting(&self, name: &str) -> rusqlite::Result<Option<String>> {
        self.db.query_row("SELECT value FROM settings WHERE name = ?1", [name], |row| row.get(0)).optional()
    }

    /// Items that this run does not send although they are pending: their manifest has not named them (yet).
    fn is_skipped(&self, item: ItemId, source: i64) -> bool {
        self.sources.iter().any(|open| open.id.0 == source) && !self.seen.has(item)
    }
}

impl Store for SqliteStore {
    fn begin(&mut self) -> Result<(), StoreError> {
        self.db.execute_batch("BEGIN IMMEDIATE").map_err(StoreError::sqlite("beginning a transaction"))
    }

    fn commit(&mut self) -> Result<(), StoreError> {
        let flush = |store: &mut Self| {
            store.tally.flush(&store.db)?;
            store.of_source.flush(&store.db)
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
            let was_killed = self.db.query_row(
                "SELECT EXISTS (SELECT 1 FROM runs WHERE id = (SELECT max(id) FROM runs) AND ended_at IS NULL)",
                [],
                |row| row.get(0),
            )?;
            let was_purged = self.setting("forgotten")?.is_some() || self.setting("incomplete")?.is_some();
            let epoch = self.next_epoch()?;
            let learned_rate = self.setting("learned_rate")?.and_then(|text| text.parse().ok());
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
        let ingested = self.ingest_rows(batch).map_err(StoreError::sqlite("taking rows in"))?;
        crash::point("ingest.before_commit");
        Ok(ingested)
    }

    fn items_of(&mut self, source: SourceId) -> Result<u64, StoreError> {
        self.count_items(source).map_err(StoreError::sqlite("counting what a source has named"))
    }

    fn note_skipped(&mut self, source: SourceId, files: u64) -> Result<(), StoreError> {
        self.write_skipped(source, files).map_err(StoreError::sqlite("noting skipped files"))
    }

    fn finish_ingest(&mut self) -> Result<(), StoreError> {
        self.finish_sources().map_err(StoreError::sqlite("closing the sources"))
    }

    fn record_photo_checks(&mut self, looks: &[PhotoCheck]) -> Result<(), StoreError> {
        self.record_photo_checks_rows(looks).map_err(StoreError::sqlite("noting photos"))
    }

    fn requeue(&mut self, items: &[ItemId]) -> Result<(), StoreError> {
        let mut requeue = || {
            for &item in items {
                let (state, code) =
                    self.db.query_row("SELECT state, code FROM items WHERE id = ?1", [item.0], |row| {
                        Ok((rows::state(row.get(0)?)?, row.get::<_, Option<String>>(1)?))
                    })?;
                match state {
                    ItemState::Rejected | ItemState::Failed => self.reopen_item(item, state, code.as_deref())?,
                    ItemState::Pending | ItemState::Sending | ItemState::InDoubt | ItemState::Enrolled => {}
                }
            }
            Ok(())
        };
        requeue().map_err(StoreError::sqlite("opening items again"))
    }

    fn claim(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        let claim = || -> rusqlite::Result<Vec<Claimed>> {
            let mut select =
                self.db.prepare_cached(concat!(claimed_columns!(), "WHERE i.state = 0 AND i.id > ?1 ORDER BY i.id"))?;
            let mut found = select.query([after.0])?;
            let mut claims = Vec::new();
            while claims.len() < limit {
                let Some(row) = found.next()? else { break };
                let claimed = Claimed::try_from(row)?;
                if !self.is_skipped(claimed.item, row.get("source_id")?) {
                    claims.push(claimed);
                } else if self.is_ingesting {
                    // Mostly rows are named in the order of their numbers: what is behind has not come either. Where
                    // they are not, the final pass finds the rest.
                    break;
                }
            }
            Ok(claims)
        };
        claim().map_err(StoreError::sqlite("looking for what is to do"))
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
        in_doubt_items().map_err(StoreError::sqlite("looking for what is in doubt"))
    }

    fn intend(&mut self, intent: &NewIntent) -> Result<Intent, StoreError> {
        let intended = self.write_intent(intent)?;
        crash::point("intent.before_commit");
        Ok(intended)
    }

    fn settle(&mut self, settlement: &OutcomeRecord) -> Result<ItemUpdate, StoreError> {
        let report = self.write_outcome(settlement)?;
        crash::point("outcome.before_commit");
        Ok(report)
    }

    fn record_superseded(&mut self, item: ItemId, records: &[i64]) -> Result<(), StoreError> {
        self.write_replaced(item, records).map_err(StoreError::sqlite("noting what is to be replaced"))
    }

    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Result<Vec<Claimed>, StoreError> {
        self.find_removals(after, limit).map_err(StoreError::sqlite("looking for what is to be removed"))
    }

    fn intend_delete(&mut self, removal: &DeleteIntent) -> Result<(), StoreError> {
        self.write_removal(removal)
    }

    fn finish_delete(&mut self, item: ItemId) -> Result<(), StoreError> {
        self.write_removed(item).map_err(StoreError::sqlite("noting a removal"))
    }

    fn counts(&mut self) -> Result<Counts, StoreError> {
        let counts = |store: &mut Self| {
            store.tally.flush(&store.db)?;
            tally::counts(&store.db, true)
        };
        counts(self).map_err(StoreError::sqlite("counting"))
    }

    fn record_totals(&mut self, totals: &RunTotals, limited_by: Bottleneck) -> Result<(), StoreError> {
        let note = || {
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
        note().map(drop).map_err(StoreError::sqlite("noting what the run has done"))
    }

    fn save_rate(&mut self, per_second: Option<f64>) -> Result<(), StoreError> {
        let learn = || match per_second {
            Some(rate) => self.db.execute(
                "INSERT INTO settings (name, value) VALUES ('learned_rate', ?1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value",
                [rate.to_string()],
            ),
            None => self.db.execute("DELETE FROM settings WHERE name = 'learned_rate'", []),
        };
        learn().map(drop).map_err(StoreError::sqlite("keeping the rate"))
    }
}

impl TryFrom<&Row<'_>> for Claimed {
    type Error = rusqlite::Error;
    fn try_from(row: &Row<'_>) -> rusqlite::Result<Self> {
        let root = std::path::PathBuf::from(row.get::<_, String>("root")?);
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

/// Milliseconds since 1970.
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
