//! Rows into the checkpoint. The same rows again change nothing; that is what makes a second run a resumption.

use std::{collections::HashMap, path::Path, sync::Arc};

use rusqlite::{
    Connection, OptionalExtension, Result, Row,
    types::{ToSqlOutput, Value, ValueRef},
};

use super::{SqliteStore, corrections::RowResolution, reopened, rows};
use crate::{
    checkpoint::store::{Batch, EnrolledItem, Ingested, RejectedItem, SourceId, StoredPhoto},
    domain::{Digest, FaceGroupCode, Item, ItemId, ItemState, PhotoSource, RawFields, RowError, RowErrorKind},
};

/// A source of this run.
#[derive(Debug)]
pub(super) struct OpenSource {
    pub(super) id: SourceId,
    pub(super) name: String,
    pub(super) root: Arc<Path>,
    generation: i64,
}

/// The items that this run's sources have named so far, one bit each: 10 million rows take 1.25 MB.
#[derive(Debug, Default)]
pub(super) struct Seen(Vec<u64>);

impl Seen {
    /// Marks the item. True if it was marked already.
    fn mark(&mut self, item: ItemId) -> bool {
        let (word, bit) = Self::place(item);
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        let was = self.0[word] & bit != 0;
        self.0[word] |= bit;
        was
    }

    pub(super) fn has(&self, item: ItemId) -> bool {
        let (word, bit) = Self::place(item);
        self.0.get(word).is_some_and(|bits| bits & bit != 0)
    }

    fn place(item: ItemId) -> (usize, u64) {
        let n = usize::try_from(item.0).expect("SQLite numbers rows from 1");
        (n / 64, 1 << (n % 64))
    }
}

/// How many items each source was the last to name: what vanishes from it is told without a scan.
#[derive(Debug, Default)]
pub(super) struct OfSource {
    /// In this run.
    named: HashMap<SourceId, i64>,
    /// Changes of this transaction.
    moved: HashMap<SourceId, i64>,
}

impl OfSource {
    fn named(&mut self, source: SourceId) {
        *self.named.entry(source).or_default() += 1;
    }

    fn added(&mut self, source: SourceId, items: i64) {
        *self.named.entry(source).or_default() += items;
        *self.moved.entry(source).or_default() += items;
    }

    fn moved(&mut self, from: SourceId, to: SourceId) {
        *self.moved.entry(from).or_default() -= 1;
        *self.moved.entry(to).or_default() += 1;
    }

    pub(super) fn flush(&mut self, db: &Connection) -> Result<()> {
        for (source, n) in self.moved.drain() {
            db.prepare_cached("UPDATE sources SET items = items + ?2 WHERE id = ?1")?.execute((source.0, n))?;
        }
        Ok(())
    }
}

/// An item as it was before this row.
pub(super) struct Known {
    pub(super) item: ItemId,
    state: ItemState,
    code: Option<String>,
    pub(super) source: i64,
    row: i64,
    path: Value,
    url: Option<String>,
    extra: Option<String>,
    stamp: Option<crate::domain::FileStamp>,
    digest: Option<Digest>,
}

impl TryFrom<&Row<'_>> for Known {
    type Error = rusqlite::Error;
    fn try_from(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            item: ItemId(row.get("id")?),
            state: rows::state(row.get("state")?)?,
            code: row.get("code")?,
            source: row.get("source_id")?,
            row: row.get("row")?,
            path: row.get("path")?,
            url: row.get("url")?,
            extra: row.get("extra")?,
            stamp: rows::stamp(row)?,
            digest: rows::digest(row)?,
        })
    }
}

impl Known {
    /// Is that where it was named last?
    pub(super) fn is_at(&self, source: SourceId, row: u64) -> bool {
        (self.source, self.row) == (source.0, row_number(row))
    }

    /// Does a row of a source with this root name another photo, or the same by another path?
    pub(super) fn names_another(&self, picture: &PhotoSource, root: &Path) -> bool {
        (ValueRef::from(&self.path), self.url.as_deref()) != stored(picture, root)
    }

    /// What is to be looked at to tell whether the photo is another one. A link is another one if it leads elsewhere;
    /// what stands behind its question mark is a signature that is made anew each night.
    fn photo(&self, now: &PhotoSource, root: &Arc<Path>, names_another: bool) -> Option<StoredPhoto> {
        let bare = |url: &str| url.split(['?', '#']).next().unwrap_or_default().to_owned();
        match (now, &self.url) {
            (PhotoSource::Url(now), Some(before)) if bare(&now.0) == bare(before) => None,
            (PhotoSource::Url(_), _) | (PhotoSource::Path(_), Some(_)) => Some(StoredPhoto::Other),
            (PhotoSource::Path(path), None) => Some(StoredPhoto::File {
                path: path.clone(),
                root: root.clone(),
                stamp: self.stamp.filter(|_| !names_another),
                digest: self.digest,
            }),
        }
    }
}

/// The path or the link, as its column has it.
fn stored<'a>(picture: &'a PhotoSource, root: &Path) -> (ValueRef<'a>, Option<&'a str>) {
    match picture {
        PhotoSource::Path(path) => (rows::path_value(path, root), None),
        PhotoSource::Url(url) => (ValueRef::Null, Some(url.0.as_str())),
    }
}

pub(super) fn row_number(row: u64) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

/// Rows that are taken for new after one that was, among known ones.
const AHEAD: usize = 64;

impl SqliteStore {
    pub(super) fn open_source_row(&mut self, name: &str, root: &Path) -> Result<SourceId> {
        let id: i64 = self.db.query_row(
            "INSERT INTO sources (name, root, generation) VALUES (?1, ?2, 1)
             ON CONFLICT (name) DO UPDATE SET root = excluded.root, generation = generation + 1
             RETURNING id",
            (name, root.to_string_lossy()),
            |row| row.get(0),
        )?;
        let generation = self.db.query_row("SELECT generation FROM sources WHERE id = ?1", [id], |row| row.get(0))?;
        let source = OpenSource { id: SourceId(id), name: name.to_owned(), root: root.into(), generation };
        self.sources.retain(|open| open.id != source.id);
        self.sources.push(source);
        Ok(SourceId(id))
    }

    /// A row mostly fares as the one before it did: a new manifest is taken in, an old one is found again.
    pub(super) fn ingest_rows(&mut self, batch: &Batch) -> Result<Ingested> {
        let mut ingested = Ingested::default();
        let mut rest = batch.rows.as_slice();
        while let Some(row) = rest.first() {
            let taken = match (self.resolve_row(batch.source, row)?, row) {
                (RowResolution::StillInvalid, _) => 1,
                (RowResolution::Duplicate(first), Ok(item)) => {
                    self.ingest_duplicate(batch.source, item, &first)?;
                    1
                }
                (_, Err(error)) => {
                    self.ingest_fault(batch.source, error)?;
                    1
                }
                (RowResolution::Corrects(fault), Ok(item)) => {
                    match self.find(item)? {
                        Some(known) => self.ingest_known(batch.source, item, &known, &mut ingested)?,
                        None => {
                            self.insert_new(batch.source, &rest[..1])?;
                        }
                    }
                    self.remove_fault(&fault)?;
                    1
                }
                (RowResolution::Plain, Ok(item)) => {
                    let known = if self.expects_known { self.find(item)? } else { None };
                    if let Some(known) = known {
                        self.ingest_known(batch.source, item, &known, &mut ingested)?;
                        1
                    } else {
                        // Where known and new ones take turns, few are made ready at once.
                        let ahead = if self.expects_known { AHEAD.min(rest.len()) } else { rest.len() };
                        // Whatever a row of an export stands for is looked for first, one by one.
                        let is_plain = |row: &&std::result::Result<Item, RowError>| {
                            row.as_ref().is_ok_and(|item| item.origin.is_none())
                        };
                        let plain = 1 + rest[1..ahead].iter().take_while(is_plain).count();
                        let added = self.insert_new(batch.source, &rest[..plain])?;
                        self.expects_known = rest.get(added).is_some_and(Result::is_ok);
                        added
                    }
                }
            };
            rest = &rest[taken..];
        }
        Ok(ingested)
    }

    /// Takes in rows for as long as they are new, and says how many.
    fn insert_new(&mut self, source: SourceId, rows: &[Result<Item, RowError>]) -> Result<usize> {
        let mut groups = Vec::with_capacity(rows.len());
        for item in rows.iter().flatten() {
            groups.push(self.group_id(&item.group)?);
        }
        // Without RETURNING, which builds a table for each row.
        let mut insert = self.db.prepare_cached(
            "INSERT INTO items (user, group_id, source_id, row, path, url, extra)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT (user, group_id) DO NOTHING",
        )?;
        let root = &self.source(source).root;
        let mut new = Vec::with_capacity(groups.len());
        for (item, group) in rows.iter().flatten().zip(groups) {
            let (path, url) = stored(&item.picture, root);
            let (row, extra) = (row_number(item.row), rows::extra_text(&item.extra));
            let path = ToSqlOutput::Borrowed(path);
            if insert.execute((item.user.as_str(), group, source.0, row, path, url, &extra))? == 0 {
                break;
            }
            new.push(ItemId(self.db.last_insert_rowid()));
        }
        drop(insert);
        let added = new.len();
        for item in new {
            self.seen.mark(item);
        }
        self.of_source.added(source, added as i64);
        self.tally.add(ItemState::Pending, None, added as i64);
        Ok(added)
    }

    fn ingest_known(&mut self, source: SourceId, item: &Item, known: &Known, ingested: &mut Ingested) -> Result<()> {
        if self.seen.mark(known.item) {
            return self.ingest_duplicate(source, item, known);
        }
        let (path, url) = stored(&item.picture, &self.source(source).root);
        let (row, extra) = (row_number(item.row), rows::extra_text(&item.extra));
        self.of_source.named(source);
        if known.source != source.0 {
            self.of_source.moved(SourceId(known.source), source);
        }
        if (known.source, known.row, &known.extra) != (source.0, row, &extra) {
            self.db
                .prepare_cached("UPDATE items SET source_id = ?2, row = ?3, extra = ?4 WHERE id = ?1")?
                .execute((known.item.0, source.0, row, &extra))?;
        }
        let names_another = known.names_another(&item.picture, &self.source(source).root);
        match known.state {
            // What may have been sent is asked about first.
            ItemState::Sending | ItemState::InDoubt => {}
            ItemState::Enrolled => {
                let photo = known.photo(&item.picture, &self.source(source).root, names_another);
                if names_another {
                    self.point_to(known.item, path, url)?;
                }
                ingested.enrolled_items.extend(photo.map(|photo| EnrolledItem { item: known.item, photo }));
            }
            ItemState::Pending if names_another => self.point_to(known.item, path, url)?,
            ItemState::Pending => {}
            ItemState::Rejected | ItemState::Failed if names_another => {
                self.point_to(known.item, path, url)?;
                self.reopen_item(known.item, known.state, known.code.as_deref())?;
            }
            ItemState::Rejected => {
                if let PhotoSource::Path(path) = &item.picture {
                    let (path, root) = (path.clone(), self.source(source).root.clone());
                    ingested.rejected_items.push(RejectedItem { item: known.item, path, root, stamp: known.stamp });
                }
            }
            ItemState::Failed => {}
        }
        Ok(())
    }

    /// The same id twice in one manifest: the first row keeps it.
    fn ingest_duplicate(&mut self, source: SourceId, item: &Item, first: &Known) -> Result<()> {
        let (path, url) = match &item.picture {
            PhotoSource::Path(path) => (Some(path.to_string_lossy().into_owned()), None),
            PhotoSource::Url(url) => (None, Some(url.0.clone())),
        };
        self.ingest_fault(
            source,
            &RowError {
                row: item.row,
                defect: RowErrorKind::DuplicateUserId,
                message: self.duplicate_message(source, first),
                fields: Box::new(RawFields {
                    path,
                    url,
                    user: Some(item.user.to_string()),
                    group: Some(item.group.to_string()),
                    extra: item.extra.clone(),
                    origin: None,
                }),
            },
        )
    }

    pub(super) fn duplicate_message(&self, source: SourceId, first: &Known) -> String {
        let is_open = self.sources.iter().any(|open| open.id.0 == first.source);
        let elsewhere = if is_open && first.source != source.0 {
            format!(" of {}", self.name_of(SourceId(first.source)))
        } else {
            String::new()
        };
        format!(
            "row {}{elsewhere} has the same id in the same group: give this one another id, or remove one of the two",
            first.row
        )
    }

    /// An open source's name alone, without its folder: a report may be read by others.
    pub(super) fn name_of(&self, source: SourceId) -> String {
        Path::new(&self.source(source).name).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn ingest_fault(&mut self, source: SourceId, error: &RowError) -> Result<()> {
        let row = row_number(error.row);
        let code = error.defect.code();
        let before: Option<String> = self
            .db
            .prepare_cached("SELECT code FROM row_faults WHERE source_id = ?1 AND row = ?2")?
            .query_row((source.0, row), |found| found.get(0))
            .optional()?;
        if let Some(before) = before {
            self.tally.add(ItemState::Rejected, Some(&before), -1);
        }
        let RawFields { path, url, user, group, extra, origin: _ } = &*error.fields;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO row_faults
                 (source_id, row, generation, code, message, path, url, user, group_code, extra)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
            )?
            .execute((
                source.0,
                row,
                self.source(source).generation,
                &code.0,
                &error.message,
                path,
                url,
                user,
                group,
                rows::extra_text(extra),
            ))?;
        self.tally.add(ItemState::Rejected, Some(&code.0), 1);
        Ok(())
    }

    /// With what this transaction has changed so far.
    pub(super) fn count_items(&mut self, source: SourceId) -> Result<u64> {
        self.of_source.flush(&self.db)?;
        self.db.query_row("SELECT items FROM sources WHERE id = ?1", [source.0], |row| row.get(0))
    }

    pub(super) fn write_skipped(&mut self, source: SourceId, files: u64) -> Result<()> {
        self.db.execute("UPDATE sources SET skipped = ?2 WHERE id = ?1", (source.0, files)).map(drop)
    }

    /// Rows that the last reading no longer found faulty are gone; items that it no longer named have vanished.
    pub(super) fn finish_sources(&mut self) -> Result<()> {
        for open in &self.sources {
            let mut outdated = self
                .db
                .prepare_cached("DELETE FROM row_faults WHERE source_id = ?1 AND generation <> ?2 RETURNING code")?;
            let codes = outdated.query_map((open.id.0, open.generation), |row| row.get::<_, String>(0))?;
            for code in codes {
                self.tally.add(ItemState::Rejected, Some(&code?), -1);
            }
        }
        self.of_source.flush(&self.db)?;
        for open in &self.sources {
            let named = self.of_source.named.get(&open.id).copied().unwrap_or_default();
            self.db.execute("UPDATE sources SET vanished = items - ?2 WHERE id = ?1", (open.id.0, named))?;
        }
        self.is_ingesting = false;
        Ok(())
    }

    pub(super) fn find(&mut self, item: &Item) -> Result<Option<Known>> {
        let group = self.group_id(&item.group)?;
        self.db
            .prepare_cached(
                "SELECT id, state, code, source_id, row, path, url, extra, size, mtime_ns, sha256 FROM items
                 WHERE user = ?1 AND group_id = ?2",
            )?
            .query_row((item.user.as_str(), group), |row| Known::try_from(row))
            .optional()
    }

    fn point_to(&self, item: ItemId, path: ValueRef<'_>, url: Option<&str>) -> Result<()> {
        self.db
            .prepare_cached("UPDATE items SET path = ?2, url = ?3 WHERE id = ?1")?
            .execute((item.0, ToSqlOutput::Borrowed(path), url))
            .map(drop)
    }

    pub(super) fn reopen_item(&mut self, item: ItemId, before: ItemState, code: Option<&str>) -> Result<()> {
        self.db
            .prepare_cached(concat!("UPDATE items SET ", reopened!(), " WHERE id = ?1 AND state IN (4, 5)"))?
            .execute([item.0])?;
        self.tally.add(before, code, -1);
        self.tally.add(ItemState::Pending, None, 1);
        Ok(())
    }

    pub(super) fn source(&self, id: SourceId) -> &OpenSource {
        self.sources.iter().find(|open| open.id == id).expect("rows come from an open source")
    }

    fn group_id(&mut self, group: &FaceGroupCode) -> Result<i64> {
        if let Some(&id) = self.groups.get(group.as_str()) {
            return Ok(id);
        }
        self.db.execute("INSERT INTO face_groups (code) VALUES (?1) ON CONFLICT DO NOTHING", [group.as_str()])?;
        let id = self.db.query_row("SELECT id FROM face_groups WHERE code = ?1", [group.as_str()], |row| row.get(0))?;
        self.groups.insert(group.as_str().to_owned(), id);
        Ok(id)
    }
}
