//! Reads a checkpoint, also that of a live run, and never changes it.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, Params, Row};

use super::{open, rows, setting, tally};
use crate::{
    checkpoint::{ExportRow, Lock, RateSample, RunSummaryRow, StoreError},
    domain::{Counts, ItemId, ItemState, Latencies, RejectedBy},
};

/// First schema that records what runs did; reading does not migrate.
const SCHEMA_WITH_RUNS: i64 = 3;

/// Read-only view of a checkpoint.
pub struct Reader {
    pub(super) db: Connection,
    is_live: bool,
}

impl Reader {
    /// Opens an existing checkpoint.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: open::read_only(path)?, is_live: Lock::is_held(path) })
    }

    /// Whether the file is marked as a checkpoint. Opens no database.
    pub fn is_checkpoint(path: &Path) -> bool {
        open::has_application_id(path)
    }

    /// Whether a live run held the checkpoint when it was opened.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Checks every page with SQLite's quick_check: 2.6 s for 10 million rows.
    pub fn integrity_check(&self) -> Result<(), StoreError> {
        let detail: String = self
            .db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(StoreError::sqlite("checking its pages"))?;
        if detail == "ok" { Ok(()) } else { Err(StoreError::Corrupt { detail }) }
    }

    /// Counts the rows by state.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        tally::counts(&self.db, self.is_live).map_err(StoreError::sqlite("counting"))
    }

    /// Name of the last run.
    pub fn last_run(&self) -> Result<Option<String>, StoreError> {
        self.db
            .query_row("SELECT max(run_id) FROM runs WHERE id = (SELECT max(id) FROM runs)", [], |row| row.get(0))
            .map_err(StoreError::sqlite("reading its runs"))
    }

    /// Last runs, oldest first, without those that could not send anything.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunSummaryRow>, StoreError> {
        let runs = || -> rusqlite::Result<Vec<RunSummaryRow>> {
            if !self.has_run_columns()? {
                return Ok(Vec::new());
            }
            let mut select = self.db.prepare(
                "SELECT *, ended_at IS NULL AND id = (SELECT max(id) FROM runs) AS is_open
                 FROM (SELECT * FROM runs WHERE quota IS NOT NULL ORDER BY id DESC LIMIT ?1) ORDER BY id",
            )?;
            let mut paces =
                self.db.prepare("SELECT at, calls, throttled, newly_enrolled FROM paces WHERE run = ?1 ORDER BY at")?;
            let found = select.query_map([limit as i64], |row| {
                let latencies: String = row.get("latencies")?;
                let id: i64 = row.get("id")?;
                let paces = paces.query_map([id], |row| {
                    Ok(RateSample {
                        at_ms: row.get(0)?,
                        calls: row.get(1)?,
                        throttled: row.get(2)?,
                        newly_enrolled: row.get(3)?,
                    })
                })?;
                let paces = paces.collect::<rusqlite::Result<Vec<RateSample>>>()?;
                let started_ms = row.get("started_at")?;
                Ok(RunSummaryRow {
                    run_id: row.get("run_id")?,
                    started_ms,
                    ended_ms: row.get("ended_at")?,
                    exit_code: row.get("exit_code")?,
                    exit_reason: row.get("exit_reason")?,
                    quota: row.get("quota")?,
                    limited_by: row.get("limited_by")?,
                    is_live: self.is_live && row.get("is_open")?,
                    totals: RateSample {
                        at_ms: paces.last().map_or(started_ms, |pace| pace.at_ms),
                        calls: row.get("calls")?,
                        throttled: row.get("throttled")?,
                        newly_enrolled: row.get("newly_enrolled")?,
                    },
                    // Someone may have edited the column; a broken chart must not hide the run.
                    latencies: Latencies(serde_json::from_str(&latencies).unwrap_or_default()),
                    paces,
                })
            })?;
            found.collect()
        };
        runs().map_err(StoreError::sqlite("reading its runs"))
    }

    /// Codes of the groups with items, sorted.
    pub fn groups(&self) -> Result<Vec<String>, StoreError> {
        self.query("reading its groups", "SELECT code FROM face_groups ORDER BY code", [], |row| row.get(0))
    }

    /// Manifests and directories that the checkpoint was built from.
    pub fn manifests(&self) -> Result<Vec<PathBuf>, StoreError> {
        self.query("reading its sources", "SELECT name FROM sources ORDER BY name", [], |row| {
            Ok(PathBuf::from(row.get::<_, String>(0)?))
        })
    }

    /// Target of the checkpoint: the region, the custom endpoint or the sandbox.
    pub fn binding(&self) -> Result<Option<String>, StoreError> {
        setting(&self.db, "binding").map_err(StoreError::sqlite("reading its target"))
    }

    /// Rate in calls per second that the last run was throttled to, if it was.
    pub fn learned_rate(&self) -> Result<Option<f64>, StoreError> {
        let text = setting(&self.db, "learned_rate").map_err(StoreError::sqlite("reading its rate"))?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// Item of this user in this group, with its state.
    pub fn find(&self, group: &str, user: &str) -> Result<Option<(ItemId, ItemState)>, StoreError> {
        let find = || -> rusqlite::Result<Option<(ItemId, ItemState)>> {
            self.db
                .prepare_cached(
                    "SELECT id, state FROM items
                     WHERE user = ?1 AND group_id = (SELECT id FROM face_groups WHERE code = ?2)",
                )?
                .query_row([user, group], |row| Ok((ItemId(row.get(0)?), rows::state(row.get(1)?)?)))
                .optional()
        };
        find().map_err(StoreError::sqlite("reading an item"))
    }

    /// Enrolled items of a group after `after`, in the order of their numbers.
    pub fn enrolled(&self, group: &str, after: ItemId, limit: usize) -> Result<Vec<(ItemId, String)>, StoreError> {
        self.users(
            "SELECT id, user FROM items WHERE state = 3 AND id > ?2
             AND group_id = (SELECT id FROM face_groups WHERE code = ?1) ORDER BY id LIMIT ?3",
            (group, after.0, limit as i64),
        )
    }

    /// Random sample of up to `limit` enrolled items of a group.
    pub fn sample(&self, group: &str, limit: usize) -> Result<Vec<(ItemId, String)>, StoreError> {
        self.users(
            "SELECT id, user FROM items WHERE state = 3
             AND group_id = (SELECT id FROM face_groups WHERE code = ?1) ORDER BY random() LIMIT ?2",
            (group, limit as i64),
        )
    }

    fn users(&self, select: &str, parameters: impl Params) -> Result<Vec<(ItemId, String)>, StoreError> {
        self.query("reading its items", select, parameters, |row| Ok((ItemId(row.get(0)?), row.get(1)?)))
    }

    /// Passes every item, then every invalid row, to `each` until that fails.
    pub fn export<E: From<StoreError>>(&self, each: &mut dyn FnMut(ExportRow) -> Result<(), E>) -> Result<(), E> {
        let failed = || StoreError::sqlite("reading its items");
        let sources = self.sources().map_err(failed())?;
        let mut items = self
            .db
            .prepare(
                "SELECT i.*, g.code AS group_code FROM items AS i JOIN face_groups AS g ON g.id = i.group_id ORDER BY i.id",
            )
            .map_err(failed())?;
        let mut items = items.query([]).map_err(failed())?;
        while let Some(row) = items.next().map_err(failed())? {
            each(item(row, &sources, self.is_live).map_err(failed())?)?;
        }
        let mut faults = self.db.prepare("SELECT * FROM row_faults ORDER BY source_id, row").map_err(failed())?;
        let mut faults = faults.query([]).map_err(failed())?;
        while let Some(row) = faults.next().map_err(failed())? {
            each(fault(row, &sources).map_err(failed())?)?;
        }
        Ok(())
    }

    /// Rows by state and code, the most frequent first. Rows without a code have an empty one.
    pub fn reasons(&self) -> Result<Vec<(ItemState, String, u64)>, StoreError> {
        let select = "SELECT state, code, n FROM tally WHERE n > 0 ORDER BY n DESC, state, code";
        self.query("counting", select, [], |row| {
            Ok((visible_state(row.get(0)?, self.is_live)?, row.get(1)?, row.get(2)?))
        })
    }

    /// Enrolled items by the quality that the service returned. Items without a quality have an empty one.
    pub fn qualities(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let select =
            "SELECT coalesce(quality, ''), count(*) AS n FROM items WHERE state = 3 GROUP BY 1 ORDER BY n DESC, 1";
        self.query("counting", select, [], |row| Ok((row.get(0)?, row.get(1)?)))
    }

    /// Items that are not enrolled: failed and in doubt, then rejected, then invalid rows.
    pub fn not_enrolled(&self, limit: usize) -> Result<Vec<ExportRow>, StoreError> {
        // Items that a live run is sending are not a problem yet.
        let states = if self.is_live { "2, 4, 5" } else { "1, 2, 4, 5" };
        let mut found =
            self.items(&format!("WHERE i.state IN ({states}) ORDER BY i.state = 4, i.id LIMIT ?1"), limit)?;
        let sources = self.sources().map_err(StoreError::sqlite("reading its sources"))?;
        let select = "SELECT * FROM row_faults ORDER BY source_id, row LIMIT ?1";
        let left = limit.saturating_sub(found.len()) as i64;
        found.extend(self.query("reading its rows", select, [left], |row| fault(row, &sources))?);
        Ok(found)
    }

    /// Items with the longest response times.
    pub fn slowest(&self, limit: usize) -> Result<Vec<ExportRow>, StoreError> {
        if !self.has_run_columns().map_err(StoreError::sqlite("reading its header"))? {
            return Ok(Vec::new());
        }
        self.items("WHERE i.latency_ms IS NOT NULL ORDER BY i.latency_ms DESC, i.id LIMIT ?1", limit)
    }

    fn items(&self, clauses: &str, limit: usize) -> Result<Vec<ExportRow>, StoreError> {
        let sources = self.sources().map_err(StoreError::sqlite("reading its sources"))?;
        let select = format!(
            "SELECT i.*, g.code AS group_code FROM items AS i JOIN face_groups AS g ON g.id = i.group_id {clauses}"
        );
        self.query("reading its items", &select, [limit as i64], |row| item(row, &sources, self.is_live))
    }

    pub(super) fn query<T>(
        &self,
        doing: &'static str,
        select: &str,
        parameters: impl Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, StoreError> {
        let query =
            || -> rusqlite::Result<Vec<T>> { self.db.prepare_cached(select)?.query_map(parameters, read)?.collect() };
        query().map_err(StoreError::sqlite(doing))
    }

    pub(super) fn has_run_columns(&self) -> rusqlite::Result<bool> {
        self.db.pragma_query_value(None, "user_version", |row| Ok(row.get::<_, i64>(0)? >= SCHEMA_WITH_RUNS))
    }

    fn sources(&self) -> rusqlite::Result<Sources> {
        let mut select = self.db.prepare("SELECT id, name, root FROM sources")?;
        let found = select.query_map([], |row| {
            Ok((row.get(0)?, (Arc::from(row.get::<_, String>(1)?), PathBuf::from(row.get::<_, String>(2)?))))
        })?;
        found.collect()
    }
}

/// State as a reader sees it: an item that no live run is sending any more is in doubt.
fn visible_state(stored: i64, is_live: bool) -> rusqlite::Result<ItemState> {
    Ok(match rows::state(stored)? {
        ItemState::Sending if !is_live => ItemState::InDoubt,
        state => state,
    })
}

/// Names and roots of the sources by id.
type Sources = HashMap<i64, (Arc<str>, PathBuf)>;

fn item(row: &Row<'_>, sources: &Sources, is_live: bool) -> rusqlite::Result<ExportRow> {
    let (source, root) = source(row, sources)?;
    Ok(ExportRow {
        row: row.get("row")?,
        source,
        path: rows::path(row, "path", root)?,
        url: row.get("url")?,
        user: row.get("user")?,
        group: row.get("group_code")?,
        state: visible_state(row.get("state")?, is_live)?,
        stage: rows::stage(row.get("stage")?)?,
        code: row.get("code")?,
        message: row.get("message")?,
        request_id: row.get("request_id")?,
        attempts: row.get("attempts")?,
        quality: row.get("quality")?,
        digest: rows::digest(row)?,
        enrolled_ms: row.get("enrolled_at")?,
        // An older schema has no such column; reading does not migrate it.
        latency_ms: row.get("latency_ms").or_else(|error| match error {
            rusqlite::Error::InvalidColumnName(_) => Ok(None),
            other => Err(other),
        })?,
        confirmed_by: rows::confirmed_by(row.get("confirmed_by")?)?,
        extra: rows::extra(row.get("extra")?)?,
    })
}

fn fault(row: &Row<'_>, sources: &Sources) -> rusqlite::Result<ExportRow> {
    let (source, root) = source(row, sources)?;
    Ok(ExportRow {
        row: row.get("row")?,
        source,
        path: rows::path(row, "path", root)?,
        url: row.get("url")?,
        user: row.get("user")?,
        group: row.get("group_code")?,
        state: ItemState::Rejected,
        stage: Some(RejectedBy::Local),
        code: row.get("code")?,
        message: row.get("message")?,
        request_id: None,
        attempts: 0,
        quality: None,
        digest: None,
        enrolled_ms: None,
        latency_ms: None,
        confirmed_by: None,
        extra: rows::extra(row.get("extra")?)?,
    })
}

fn source<'a>(row: &Row<'_>, sources: &'a Sources) -> rusqlite::Result<(Arc<str>, &'a Path)> {
    let id: i64 = row.get("source_id")?;
    let (name, root) = sources.get(&id).ok_or(rusqlite::Error::QueryReturnedNoRows)?;
    Ok((name.clone(), root))
}
