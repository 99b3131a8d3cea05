//! Looks into a checkpoint, also into that of a live run, and changes nothing.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use rusqlite::{Connection, OptionalExtension, Row};

use super::{open, rows, tally};
use crate::{
    checkpoint::{
        Lock, StoreError,
        store::{ExportRow, RateSample, RunSummaryRow},
    },
    domain::{Counts, ItemId, ItemState, Latencies},
};

/// Schema from which on runs say what they did; looking does not migrate.
const WITH_RUNS: i64 = 3;

/// See the module.
pub struct Reader {
    db: Connection,
    is_live: bool,
}

impl Reader {
    /// Opens an existing checkpoint.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        Ok(Self { db: open::read_only(path)?, is_live: Lock::is_held(path) })
    }

    /// Is the file marked as a checkpoint? Opens no database.
    pub fn is_one(path: &Path) -> bool {
        open::has_application_id(path)
    }

    /// Does a live run hold it?
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// Looks at every page, as SQLite's quick_check does: 2.6 s for 10 million rows (reliability.md, the corrections).
    pub fn integrity_check(&self) -> Result<(), StoreError> {
        let detail: String = self
            .db
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(StoreError::sqlite("checking its pages"))?;
        if detail == "ok" { Ok(()) } else { Err(StoreError::Corrupt { detail }) }
    }

    /// How the rows stand.
    pub fn counts(&self) -> Result<Counts, StoreError> {
        tally::counts(&self.db, self.is_live).map_err(StoreError::sqlite("counting"))
    }

    /// The name of the last run.
    pub fn last_run(&self) -> Result<Option<String>, StoreError> {
        self.db
            .query_row("SELECT max(run_id) FROM runs WHERE id = (SELECT max(id) FROM runs)", [], |row| row.get(0))
            .map_err(StoreError::sqlite("reading its runs"))
    }

    /// The last runs, the oldest first; those that sent nothing and never could are left out.
    pub fn runs(&self, limit: usize) -> Result<Vec<RunSummaryRow>, StoreError> {
        let runs = || -> rusqlite::Result<Vec<RunSummaryRow>> {
            if !self.knows_runs()? {
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
                    // Another's hand may have been at it: a curve is no reason to show nothing.
                    latencies: Latencies(serde_json::from_str(&latencies).unwrap_or_default()),
                    paces,
                })
            })?;
            found.collect()
        };
        runs().map_err(StoreError::sqlite("reading its runs"))
    }

    /// The groups that it holds items of, in the order of their codes.
    pub fn groups(&self) -> Result<Vec<String>, StoreError> {
        let groups = || -> rusqlite::Result<Vec<String>> {
            self.db.prepare("SELECT code FROM face_groups ORDER BY code")?.query_map([], |row| row.get(0))?.collect()
        };
        groups().map_err(StoreError::sqlite("reading its groups"))
    }

    /// The manifests and directories that it was fed by.
    pub fn manifests(&self) -> Result<Vec<PathBuf>, StoreError> {
        let names = || -> rusqlite::Result<Vec<PathBuf>> {
            let mut select = self.db.prepare("SELECT name FROM sources ORDER BY name")?;
            select.query_map([], |row| Ok(PathBuf::from(row.get::<_, String>(0)?)))?.collect()
        };
        names().map_err(StoreError::sqlite("reading its sources"))
    }

    /// What it belongs to: the region, the custom endpoint or the sandbox.
    pub fn binding(&self) -> Result<Option<String>, StoreError> {
        self.db
            .query_row("SELECT value FROM settings WHERE name = 'binding'", [], |row| row.get(0))
            .optional()
            .map_err(StoreError::sqlite("reading what it belongs to"))
    }

    /// The rate that the last run was brought down to, if it was.
    pub fn learned_rate(&self) -> Result<Option<f64>, StoreError> {
        let text: Option<String> = self
            .db
            .query_row("SELECT value FROM settings WHERE name = 'learned_rate'", [], |row| row.get(0))
            .optional()
            .map_err(StoreError::sqlite("reading its rate"))?;
        Ok(text.and_then(|text| text.parse().ok()))
    }

    /// The item of this id in this group, and its state.
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
        find().map_err(StoreError::sqlite("looking for an item"))
    }

    /// Enrolled items of a group behind `after`, in the order of their numbers.
    pub fn enrolled(&self, group: &str, after: ItemId, limit: usize) -> Result<Vec<(ItemId, String)>, StoreError> {
        self.users(
            "SELECT id, user FROM items WHERE state = 3 AND id > ?2
             AND group_id = (SELECT id FROM face_groups WHERE code = ?1) ORDER BY id LIMIT ?3",
            (group, after.0, limit as i64),
        )
    }

    /// So many enrolled items of a group, drawn by lot.
    pub fn sample(&self, group: &str, limit: usize) -> Result<Vec<(ItemId, String)>, StoreError> {
        self.users(
            "SELECT id, user FROM items WHERE state = 3
             AND group_id = (SELECT id FROM face_groups WHERE code = ?1) ORDER BY random() LIMIT ?2",
            (group, limit as i64),
        )
    }

    fn users(&self, select: &str, parameters: impl rusqlite::Params) -> Result<Vec<(ItemId, String)>, StoreError> {
        let users = || -> rusqlite::Result<Vec<(ItemId, String)>> {
            self.db
                .prepare_cached(select)?
                .query_map(parameters, |row| Ok((ItemId(row.get(0)?), row.get(1)?)))?
                .collect()
        };
        users().map_err(StoreError::sqlite("reading its items"))
    }

    /// Gives every item, then every row that could not become one, to `each`, until it fails.
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

    /// Rows by state and code, the most frequent first; no code: an empty one.
    pub fn reasons(&self) -> Result<Vec<(ItemState, String, u64)>, StoreError> {
        let reasons = || -> rusqlite::Result<Vec<(ItemState, String, u64)>> {
            self.db
                .prepare("SELECT state, code, n FROM tally WHERE n > 0 ORDER BY n DESC, state, code")?
                .query_map([], |row| Ok((self.seen_state(row.get(0)?)?, row.get(1)?, row.get(2)?)))?
                .collect()
        };
        reasons().map_err(StoreError::sqlite("counting"))
    }

    /// Enrolled items by the quality that the service told of, where it did.
    pub fn qualities(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let qualities = || -> rusqlite::Result<Vec<(String, u64)>> {
            self.db
                .prepare("SELECT coalesce(quality, ''), count(*) AS n FROM items WHERE state = 3 GROUP BY 1 ORDER BY n DESC, 1")?
                .query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?
                .collect()
        };
        qualities().map_err(StoreError::sqlite("counting"))
    }

    /// Items that came to no good end: failed, in doubt, then rejected; then rows that could not become one.
    pub fn not_enrolled(&self, limit: usize) -> Result<Vec<ExportRow>, StoreError> {
        // What a live run is sending is on its best way.
        let which = if self.is_live { "2, 4, 5" } else { "1, 2, 4, 5" };
        let mut found =
            self.items(&format!("WHERE i.state IN ({which}) ORDER BY i.state = 4, i.id LIMIT ?1"), limit)?;
        let faults = || -> rusqlite::Result<Vec<ExportRow>> {
            let sources = self.sources()?;
            self.db
                .prepare("SELECT * FROM row_faults ORDER BY source_id, row LIMIT ?1")?
                .query_map([limit.saturating_sub(found.len()) as i64], |row| fault(row, &sources))?
                .collect()
        };
        let faults = faults().map_err(StoreError::sqlite("reading its rows"))?;
        found.extend(faults);
        Ok(found)
    }

    /// Items whose last answer took longest.
    pub fn slowest(&self, limit: usize) -> Result<Vec<ExportRow>, StoreError> {
        if !self.knows_runs().map_err(StoreError::sqlite("reading its header"))? {
            return Ok(Vec::new());
        }
        self.items("WHERE i.latency_ms IS NOT NULL ORDER BY i.latency_ms DESC, i.id LIMIT ?1", limit)
    }

    fn items(&self, which: &str, limit: usize) -> Result<Vec<ExportRow>, StoreError> {
        let items = || -> rusqlite::Result<Vec<ExportRow>> {
            let sources = self.sources()?;
            self.db
                .prepare(&format!(
                    "SELECT i.*, g.code AS group_code FROM items AS i JOIN face_groups AS g ON g.id = i.group_id {which}"
                ))?
                .query_map([limit as i64], |row| item(row, &sources, self.is_live))?
                .collect()
        };
        items().map_err(StoreError::sqlite("reading its items"))
    }

    fn knows_runs(&self) -> rusqlite::Result<bool> {
        self.db.pragma_query_value(None, "user_version", |row| Ok(row.get::<_, i64>(0)? >= WITH_RUNS))
    }

    /// What is being sent by nobody any more is in doubt.
    fn seen_state(&self, stored: i64) -> rusqlite::Result<ItemState> {
        Ok(match rows::state(stored)? {
            ItemState::Sending if !self.is_live => ItemState::InDoubt,
            state => state,
        })
    }

    fn sources(&self) -> rusqlite::Result<Sources> {
        let mut select = self.db.prepare("SELECT id, name, root FROM sources")?;
        let found = select.query_map([], |row| {
            Ok((row.get(0)?, (Arc::from(row.get::<_, String>(1)?), PathBuf::from(row.get::<_, String>(2)?))))
        })?;
        found.collect()
    }
}

type Sources = HashMap<i64, (Arc<str>, PathBuf)>;

fn item(row: &Row<'_>, sources: &Sources, is_live: bool) -> rusqlite::Result<ExportRow> {
    let (source, root) = source(row, sources)?;
    let state = match rows::state(row.get("state")?)? {
        // Nobody is left to hear the answer.
        ItemState::Sending if !is_live => ItemState::InDoubt,
        state => state,
    };
    Ok(ExportRow {
        row: row.get("row")?,
        source,
        path: rows::path(row, "path", root)?,
        url: row.get("url")?,
        user: row.get("user")?,
        group: row.get("group_code")?,
        state,
        stage: rows::stage(row.get("stage")?)?,
        code: row.get("code")?,
        message: row.get("message")?,
        request_id: row.get("request_id")?,
        attempts: row.get("attempts")?,
        quality: row.get("quality")?,
        digest: rows::digest(row)?,
        enrolled_ms: row.get("enrolled_at")?,
        // A checkpoint of an older shape has none; looking does not migrate it.
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
        stage: Some(crate::domain::RejectedBy::Local),
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
