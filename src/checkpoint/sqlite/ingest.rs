//! Ingests rows into the checkpoint. Ingesting the same rows again changes nothing, so that a second run resumes the first.

use std::{borrow::Cow, collections::HashMap, path::Path, sync::Arc};

use rusqlite::{
    Connection, OptionalExtension, Result, Row,
    types::{ToSqlOutput, Value, ValueRef},
};

use super::{SqliteStore, corrections::RowResolution, reopened_columns, rows};
use crate::{
    checkpoint::{Batch, EnrolledItem, Ingested, RejectedItem, SourceId, StoredPhoto},
    crash,
    domain::{
        Digest, FaceGroupCode, FileStamp, Item, ItemId, ItemState, Member, ObjectRef, PhotoSource, RawFields, RowError,
        RowErrorKind,
    },
};

/// A source of this run.
#[derive(Debug)]
pub(super) struct OpenSource {
    pub(super) id: SourceId,
    pub(super) name: String,
    pub(super) root: Arc<Path>,
    generation: i64,
}

/// Counts of items by the source that was the last to name them, so that vanished items are counted without a scan.
#[derive(Debug, Default)]
pub(super) struct SourceCounts {
    /// Items named in this run.
    seen: HashMap<SourceId, i64>,
    /// Changes of this transaction.
    delta: HashMap<SourceId, i64>,
}

impl SourceCounts {
    fn on_seen(&mut self, source: SourceId) {
        *self.seen.entry(source).or_default() += 1;
    }

    fn on_inserted(&mut self, source: SourceId, items: i64) {
        *self.seen.entry(source).or_default() += items;
        *self.delta.entry(source).or_default() += items;
    }

    fn on_reassigned(&mut self, from: SourceId, to: SourceId) {
        *self.delta.entry(from).or_default() -= 1;
        *self.delta.entry(to).or_default() += 1;
    }

    pub(super) fn flush(&mut self, db: &Connection) -> Result<()> {
        for (source, n) in self.delta.drain() {
            db.prepare_cached("UPDATE sources SET items = items + ?2 WHERE id = ?1")?.execute((source.0, n))?;
        }
        Ok(())
    }
}

/// An item as it was before the current row.
pub(super) struct ExistingItem {
    pub(super) item: ItemId,
    state: ItemState,
    code: Option<String>,
    pub(super) source: i64,
    row: i64,
    path: Value,
    url: Option<String>,
    place: Option<i64>,
    extra: Option<String>,
    stamp: Option<FileStamp>,
    digest: Option<Digest>,
}

impl TryFrom<&Row<'_>> for ExistingItem {
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
            place: rows::place(row)?,
            extra: row.get("extra")?,
            stamp: rows::stamp(row)?,
            digest: rows::digest(row)?,
        })
    }
}

impl ExistingItem {
    /// Whether this row was the last to name the item.
    pub(super) fn is_at(&self, source: SourceId, row: u64) -> bool {
        (self.source, self.row) == (source.0, row_number(row))
    }

    /// Whether a row of a source with this root names another photo, or the same photo by another path.
    pub(super) fn has_other_photo(&self, picture: &PhotoSource, root: &Path) -> bool {
        let PhotoColumns { path, url, place: _ } = photo_columns(picture, root);
        (ValueRef::from(&self.path), self.url.as_deref()) != (path, url.as_deref())
    }

    /// Photo to check for a change. A URL is compared without its query string, because signatures in it change every
    /// night.
    fn photo(&self, now: &PhotoSource, root: &Arc<Path>, has_other_photo: bool) -> Option<StoredPhoto> {
        let bare = |url: &str| url.split(['?', '#']).next().unwrap_or_default().to_owned();
        match (now, &self.url) {
            (PhotoSource::Url(now), Some(before)) if bare(&now.0) == bare(before) => None,
            (PhotoSource::Object(..), Some(before)) if ObjectRef::is_object(before) => {
                Some(self.file(now, root, has_other_photo))
            }
            (PhotoSource::Url(_) | PhotoSource::Object(..), _)
            | (PhotoSource::Path(_) | PhotoSource::Member(_), Some(_)) => Some(StoredPhoto::Other),
            (PhotoSource::Path(_) | PhotoSource::Member(_), None) => Some(self.file(now, root, has_other_photo)),
        }
    }

    fn file(&self, now: &PhotoSource, root: &Arc<Path>, has_other_photo: bool) -> StoredPhoto {
        StoredPhoto::File {
            photo: now.clone(),
            root: root.clone(),
            stamp: self.stamp.filter(|_| !has_other_photo),
            digest: self.digest,
        }
    }
}

/// Values of the columns that locate a photo.
#[derive(Clone)]
struct PhotoColumns<'a> {
    path: ValueRef<'a>,
    url: Option<Cow<'a, str>>,
    place: Option<i64>,
}

fn photo_columns<'a>(picture: &'a PhotoSource, root: &Path) -> PhotoColumns<'a> {
    match picture {
        PhotoSource::Path(path) => PhotoColumns { path: rows::path_value(path, root), url: None, place: None },
        PhotoSource::Member(Member { path, at }) => {
            PhotoColumns { path: rows::path_value(path, root), url: None, place: i64::try_from(*at).ok() }
        }
        PhotoSource::Object(object, _) => {
            PhotoColumns { path: ValueRef::Null, url: Some(object.to_string().into()), place: None }
        }
        PhotoSource::Url(url) => PhotoColumns { path: ValueRef::Null, url: Some(url.0.as_str().into()), place: None },
    }
}

pub(super) fn row_number(row: u64) -> i64 {
    i64::try_from(row).unwrap_or(i64::MAX)
}

/// Maximum number of rows tried as new after one new row among known ones.
const MAX_LOOKAHEAD: usize = 64;

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

    /// Ingests rows. It expects each row to be new or known like the one before it, as in a new or an old manifest.
    pub(super) fn ingest_rows(&mut self, batch: &Batch) -> Result<Ingested> {
        let mut ingested = Ingested::default();
        let mut rest = batch.rows.as_slice();
        while let Some(row) = rest.first() {
            let consumed = match (self.resolve_row(batch.source, row)?, row) {
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
                        // If known and new rows alternate, few are prepared at once.
                        let ahead = if self.expects_known { MAX_LOOKAHEAD.min(rest.len()) } else { rest.len() };
                        // Rows of an export are resolved one by one.
                        let is_plain = |row: &&std::result::Result<Item, RowError>| {
                            row.as_ref().is_ok_and(|item| item.origin.is_none())
                        };
                        let plain = 1 + rest[1..ahead].iter().take_while(is_plain).count();
                        let inserted = self.insert_new(batch.source, &rest[..plain])?;
                        self.expects_known = rest.get(inserted).is_some_and(Result::is_ok);
                        inserted
                    }
                }
            };
            rest = &rest[consumed..];
        }
        crash::point("ingest.before_commit");
        Ok(ingested)
    }

    /// Inserts rows up to the first known one. Returns how many.
    fn insert_new(&mut self, source: SourceId, rows: &[Result<Item, RowError>]) -> Result<usize> {
        let mut groups = Vec::with_capacity(rows.len());
        for item in rows.iter().flatten() {
            groups.push(self.group_id(&item.group)?);
        }
        // No RETURNING: it builds a temporary table for each row.
        let mut insert = self.db.prepare_cached(
            "INSERT INTO items (user, group_id, source_id, row, path, url, extra, place)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (user, group_id) DO NOTHING",
        )?;
        let root = &self.source(source).root;
        let mut new = Vec::with_capacity(groups.len());
        for (item, group) in rows.iter().flatten().zip(groups) {
            let PhotoColumns { path, url, place } = photo_columns(&item.picture, root);
            let (row, extra) = (row_number(item.row), rows::extra_text(&item.extra));
            let path = ToSqlOutput::Borrowed(path);
            if insert.execute((item.user.as_str(), group, source.0, row, path, url, &extra, place))? == 0 {
                break;
            }
            new.push(ItemId(self.db.last_insert_rowid()));
        }
        drop(insert);
        let inserted = new.len();
        for item in new {
            self.seen.insert(item);
        }
        self.source_counts.on_inserted(source, inserted as i64);
        self.tally.add(ItemState::Pending, None, inserted as i64);
        Ok(inserted)
    }

    fn ingest_known(
        &mut self,
        source: SourceId,
        item: &Item,
        known: &ExistingItem,
        ingested: &mut Ingested,
    ) -> Result<()> {
        if !self.seen.insert(known.item) {
            if self.names_same_photo(source, item, known) {
                ingested.repeated += 1;
                return Ok(());
            }
            return self.ingest_duplicate(source, item, known);
        }
        if known.source != source.0 && matches!(known.state, ItemState::Sending | ItemState::InDoubt) {
            // Its path is relative to its own source's root: under another root it would name another person's photo. The
            // run after the reconciliation assigns it to this source.
            return Ok(());
        }
        let photo = photo_columns(&item.picture, &self.source(source).root);
        let (row, extra) = (row_number(item.row), rows::extra_text(&item.extra));
        self.source_counts.on_seen(source);
        if known.source != source.0 {
            self.source_counts.on_reassigned(SourceId(known.source), source);
        }
        if (known.source, known.row, &known.extra) != (source.0, row, &extra) {
            self.db
                .prepare_cached("UPDATE items SET source_id = ?2, row = ?3, extra = ?4 WHERE id = ?1")?
                .execute((known.item.0, source.0, row, &extra))?;
        }
        let has_other_photo = known.has_other_photo(&item.picture, &self.source(source).root);
        match known.state {
            // The service is queried about these before anything changes.
            ItemState::Sending | ItemState::InDoubt => {}
            ItemState::Enrolled => {
                let stored = known.photo(&item.picture, &self.source(source).root, has_other_photo);
                if has_other_photo {
                    self.update_photo(known.item, photo)?;
                }
                ingested.enrolled_items.extend(stored.map(|photo| EnrolledItem { item: known.item, photo }));
            }
            // A member of an archive that was written anew has another place.
            ItemState::Pending if has_other_photo || known.place != photo.place => {
                self.update_photo(known.item, photo)?
            }
            ItemState::Pending => {}
            ItemState::Rejected | ItemState::Failed if has_other_photo => {
                self.update_photo(known.item, photo)?;
                self.reopen_item(known.item, known.state, known.code.as_deref())?;
            }
            ItemState::Rejected => {
                if !matches!(item.picture, PhotoSource::Url(_)) {
                    let (photo, root) = (item.picture.clone(), self.source(source).root.clone());
                    ingested.rejected_items.push(RejectedItem { item: known.item, photo, root, stamp: known.stamp });
                }
            }
            ItemState::Failed => {}
        }
        Ok(())
    }

    /// Whether the row names the photo of an earlier row of this run, whose path is stored relative to its own source's root.
    /// Each member that an archive lists is a photo of its own, even if two have the same name.
    fn names_same_photo(&self, source: SourceId, item: &Item, first: &ExistingItem) -> bool {
        let archive = &self.source(source).name;
        if matches!(&item.picture, PhotoSource::Member(member) if member.path.starts_with(archive)) {
            return false;
        }
        let source = self.sources.iter().find(|open| open.id.0 == first.source);
        source.is_some_and(|source| !first.has_other_photo(&item.picture, &source.root))
    }

    /// Rejects a row with the id of an earlier one, which keeps it.
    fn ingest_duplicate(&mut self, source: SourceId, item: &Item, first: &ExistingItem) -> Result<()> {
        let (path, url) = match &item.picture {
            PhotoSource::Path(path) | PhotoSource::Member(Member { path, .. }) => {
                (Some(path.to_string_lossy().into_owned()), None)
            }
            PhotoSource::Object(object, _) => (None, Some(object.to_string())),
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

    pub(super) fn duplicate_message(&self, source: SourceId, first: &ExistingItem) -> String {
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

    /// File name of an open source, without its directory, because others may read reports.
    pub(super) fn name_of(&self, source: SourceId) -> String {
        Path::new(&self.source(source).name).file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn ingest_fault(&mut self, source: SourceId, error: &RowError) -> Result<()> {
        let row = row_number(error.row);
        let code = error.defect.code();
        let before: Option<String> = self
            .db
            .prepare_cached("SELECT code FROM row_faults WHERE source_id = ?1 AND row = ?2")?
            .query_row((source.0, row), |row| row.get(0))
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

    /// Removes row faults that this reading did not find again, and counts items that it did not name as vanished.
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
        self.source_counts.flush(&self.db)?;
        for open in &self.sources {
            let seen = self.source_counts.seen.get(&open.id).copied().unwrap_or_default();
            self.db.execute("UPDATE sources SET vanished = items - ?2 WHERE id = ?1", (open.id.0, seen))?;
        }
        self.is_ingesting = false;
        Ok(())
    }

    /// Counts the rejected items that this run's sources no longer name. Scans the items, but only if some have vanished.
    pub(super) fn count_vanished_rejected(&self) -> Result<u64> {
        let mut select = self.db.prepare(
            "SELECT i.id FROM sources AS s JOIN items AS i ON i.source_id = s.id
             WHERE s.id = ?1 AND s.vanished > 0 AND i.state = 4",
        )?;
        let mut vanished = 0;
        for open in self.sources.iter().filter(|_| !self.is_ingesting) {
            let rejected = select.query_map([open.id.0], |row| row.get(0).map(ItemId))?;
            for item in rejected {
                vanished += u64::from(!self.seen.contains(item?));
            }
        }
        Ok(vanished)
    }

    pub(super) fn find(&mut self, item: &Item) -> Result<Option<ExistingItem>> {
        let group = self.group_id(&item.group)?;
        self.db
            .prepare_cached(
                "SELECT id, state, code, source_id, row, path, url, place, extra, size, mark, sha256 FROM items
                 WHERE user = ?1 AND group_id = ?2",
            )?
            .query_row((item.user.as_str(), group), |row| ExistingItem::try_from(row))
            .optional()
    }

    fn update_photo(&self, item: ItemId, PhotoColumns { path, url, place }: PhotoColumns<'_>) -> Result<()> {
        self.db
            .prepare_cached("UPDATE items SET path = ?2, url = ?3, place = ?4 WHERE id = ?1")?
            .execute((item.0, ToSqlOutput::Borrowed(path), url, place))
            .map(drop)
    }

    pub(super) fn reopen_item(&mut self, item: ItemId, before: ItemState, code: Option<&str>) -> Result<()> {
        self.db
            .prepare_cached(concat!("UPDATE items SET ", reopened_columns!(), " WHERE id = ?1 AND state IN (4, 5)"))?
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
