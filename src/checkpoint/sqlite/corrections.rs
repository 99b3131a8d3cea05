//! Rows of an export that were mended: each takes the place of the row that it stands for, which could not become an item.
//!
//! The refused row is kept from being counted again when its own manifest comes as it was. One that is not mended yet
//! stays where it is, with the reason that it has now; it never takes the place of somebody else's row.

use std::path::{Path, PathBuf};

use rusqlite::{OptionalExtension, Result};
use sha2::{Digest as _, Sha256};

use super::{SqliteStore, ingest::Known, rows};
use crate::{
    checkpoint::store::SourceId,
    domain::{Digest, Item, ItemId, ItemState, Origin, PictureRef, RawFields, RowDefect, RowError},
};

/// A row that could not become an item.
pub(super) struct Refused {
    source: i64,
    row: i64,
    code: String,
    /// What was written in it.
    fields: RawFields,
    /// What its path is relative to.
    root: PathBuf,
}

/// What a row of this reading stands for.
pub(super) enum Standing {
    /// Itself.
    Itself,
    /// Itself; it was refused as the second one with its id, and is it still.
    Duplicate(Known),
    /// A refused row, which is refused still.
    StillRefused,
    /// A refused row, which it mends.
    Mends(Refused),
}

impl SqliteStore {
    /// See [`Standing`]. What is refused still is noted.
    pub(super) fn standing(&mut self, source: SourceId, row: &std::result::Result<Item, RowError>) -> Result<Standing> {
        let origin = row.as_ref().map_or_else(|error| &error.fields.origin, |item| &item.origin);
        let Some(origin) = origin else { return Ok(Standing::Itself) };
        // Behind the manifest's number may stand another row by now; and one that was replaced by its own export is read anew.
        let root = &self.source(source).root;
        let refused = self.refused(origin)?.filter(|known| known.source != source.0 && known.is_same_as(row, root));
        let Some(refused) = refused else { return self.stand_alone(source, origin, row) };
        let (defect, message) = match row {
            Err(error) => (error.defect, error.message.clone()),
            Ok(item) => match self.find(item)? {
                Some(first) if self.is_anothers(&first, item, &refused)? => {
                    (RowDefect::DuplicateUserId, self.duplicate_message(source, &first))
                }
                Some(_) | None => return Ok(Standing::Mends(refused)),
            },
        };
        let row = row.as_ref().map_or_else(|error| error.row, |item| item.row);
        self.refuse_again(&refused, defect, &format!("row {row} of {}: {message}", self.name_of(source)))?;
        Ok(Standing::StillRefused)
    }

    /// A row of an export that stands for none that is refused.
    fn stand_alone(
        &mut self,
        source: SourceId,
        origin: &Origin,
        row: &std::result::Result<Item, RowError>,
    ) -> Result<Standing> {
        let item = match row {
            Err(error) if self.is_outdated(origin, &error.fields)? => return Ok(Standing::StillRefused),
            Ok(item) if origin.was_duplicate => item,
            Ok(_) | Err(_) => return Ok(Standing::Itself),
        };
        let Some(known) = self.find(item)? else { return Ok(Standing::Itself) };
        let is_mended = self
            .db
            .prepare_cached(
                "SELECT EXISTS (SELECT 1 FROM mended_rows AS m JOIN sources AS s ON s.id = m.source_id
                 WHERE m.item = ?1 AND m.row = ?2 AND s.name = ?3)",
            )?
            .query_row((known.item.0, i64::try_from(origin.row).unwrap_or(i64::MAX), &origin.source), |found| {
                found.get(0)
            })?;
        let is_its_own = is_mended || known.is_at(source, item.row) || origin.source == self.source(source).name;
        Ok(if is_its_own { Standing::Itself } else { Standing::Duplicate(known) })
    }

    /// Is it, as it was refused, a row that was mended since?
    fn is_outdated(&self, origin: &Origin, fields: &RawFields) -> Result<bool> {
        let source: Option<i64> = self
            .db
            .prepare_cached("SELECT id FROM sources WHERE name = ?1")?
            .query_row([&origin.source], |found| found.get(0))
            .optional()?;
        let row = i64::try_from(origin.row).unwrap_or(i64::MAX);
        source.map_or(Ok(false), |source| self.is_mended(SourceId(source), row, fields))
    }

    /// The refused row is this item from now on.
    pub(super) fn replace_refused(&mut self, refused: &Refused, item: ItemId) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM row_faults WHERE source_id = ?1 AND row = ?2")?
            .execute((refused.source, refused.row))?;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO mended_rows (source_id, row, item, digest) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((refused.source, refused.row, item.0, digest(&refused.fields).0))?;
        self.tally.add(ItemState::Rejected, Some(&refused.code), -1);
        Ok(())
    }

    /// Was this row mended, and is it as it was before that?
    pub(super) fn is_mended(&self, source: SourceId, row: i64, fields: &RawFields) -> Result<bool> {
        let known: Option<[u8; 32]> = self
            .db
            .prepare_cached("SELECT digest FROM mended_rows WHERE source_id = ?1 AND row = ?2")?
            .query_row((source.0, row), |found| found.get(0))
            .optional()?;
        Ok(known.is_some_and(|known| known == digest(fields).0))
    }

    /// Items of a source that stand for another one's rows: they do not vanish with the file that mended them.
    pub(super) fn mended_by(&self, source: SourceId) -> Result<Vec<ItemId>> {
        self.db
            .prepare_cached(
                "SELECT m.item FROM mended_rows AS m JOIN items AS i ON i.id = m.item
                 WHERE i.source_id = ?1 AND m.source_id <> ?1",
            )?
            .query_map([source.0], |found| found.get(0).map(ItemId))?
            .collect()
    }

    fn refused(&self, origin: &Origin) -> Result<Option<Refused>> {
        self.db
            .prepare_cached(
                "SELECT f.*, s.root FROM row_faults AS f JOIN sources AS s ON s.id = f.source_id
                 WHERE s.name = ?1 AND f.row = ?2",
            )?
            .query_row((&origin.source, i64::try_from(origin.row).unwrap_or(i64::MAX)), |found| {
                Ok(Refused {
                    source: found.get("source_id")?,
                    row: found.get("row")?,
                    code: found.get("code")?,
                    fields: RawFields {
                        path: found.get("path")?,
                        url: found.get("url")?,
                        user: found.get("user")?,
                        group: found.get("group_code")?,
                        extra: rows::extra(found.get("extra")?)?,
                        origin: None,
                    },
                    root: found.get::<_, String>("root")?.into(),
                })
            })
            .optional()
    }

    /// Does the id that it has now belong to another row: of the same manifest, mended or not, of this run, or as before?
    fn is_anothers(&self, known: &Known, item: &Item, refused: &Refused) -> Result<bool> {
        let RawFields { user, group, .. } = &refused.fields;
        let is_as_before = refused.code == RowDefect::DuplicateUserId.code().0
            && (user.as_deref(), group.as_deref()) == (Some(item.user.as_str()), Some(item.group.as_str()));
        let is_mended = || {
            self.db
                .prepare_cached("SELECT EXISTS (SELECT 1 FROM mended_rows WHERE item = ?1 AND source_id = ?2)")?
                .query_row((known.item.0, refused.source), |found| found.get(0))
        };
        Ok(known.source == refused.source || self.seen.has(known.item) || is_as_before || is_mended()?)
    }

    /// Its fields stay those of its own manifest.
    fn refuse_again(&mut self, refused: &Refused, defect: RowDefect, message: &str) -> Result<()> {
        let code = defect.code();
        self.db
            .prepare_cached("UPDATE row_faults SET code = ?3, message = ?4 WHERE source_id = ?1 AND row = ?2")?
            .execute((refused.source, refused.row, &code.0, message))?;
        self.tally.add(ItemState::Rejected, Some(&refused.code), -1);
        self.tally.add(ItemState::Rejected, Some(&code.0), 1);
        self.has_stood_in_vain = true;
        Ok(())
    }
}

impl Refused {
    /// Is this row of an export, read with that root, the refused one? Whatever was mended in it, its photo or its id is
    /// as it was; where it had neither, all the rest is.
    fn is_same_as(&self, row: &std::result::Result<Item, RowError>, root: &Path) -> bool {
        let full = |path: &str, root: &Path| root.join(path).components().collect::<PathBuf>();
        let before = &self.fields;
        let path_before = before.path.as_deref().map(|path| full(path, &self.root));
        let (path, url, user, extra) = match row {
            Ok(Item { picture, user, extra, .. }) => match picture {
                PictureRef::Path(path) => (Some(path.components().collect()), None, Some(user.as_str()), extra),
                PictureRef::Url(url) => (None, Some(url.0.as_str()), Some(user.as_str()), extra),
            },
            Err(error) => {
                let RawFields { path, url, user, extra, .. } = &*error.fields;
                (path.as_deref().map(|path| full(path, root)), url.as_deref(), user.as_deref(), extra)
            }
        };
        let is_kept = (path_before.is_some() && path_before == path)
            || (before.url.is_some() && before.url.as_deref() == url)
            || (before.user.is_some() && before.user.as_deref() == user);
        let had_neither = path_before.is_none() && before.url.is_none() && before.user.is_none();
        is_kept || (had_neither && before.extra == *extra)
    }
}

/// Of all that was written in a row.
fn digest(written: &RawFields) -> Digest {
    let RawFields { path, url, user, group, extra, origin: _ } = written;
    let written = serde_json::to_vec(&(path, url, user, group, extra)).expect("texts are JSON");
    Digest(Sha256::digest(written).into())
}
