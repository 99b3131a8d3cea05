//! Rows of an export that were mended: each takes the place of the row that it stands for, which could not become an item.
//!
//! The refused row is kept from being counted again when its own manifest comes as it was. One that is not mended yet
//! stays where it is, with the reason that it has now; it never takes the place of somebody else's row.

use rusqlite::{OptionalExtension, Result};
use sha2::{Digest as _, Sha256};

use super::{SqliteStore, ingest::Known, rows};
use crate::{
    checkpoint::store::SourceId,
    domain::{Digest, Item, ItemState, Origin, RawFields, RowDefect, RowError},
};

/// A row that could not become an item.
struct Refused {
    source: i64,
    row: i64,
    code: String,
    user: Option<String>,
    group: Option<String>,
    digest: Digest,
}

impl SqliteStore {
    /// Takes in a row of an export as that which it stands for. False: it is a row like any other from here on.
    pub(super) fn ingest_mended(
        &mut self,
        source: SourceId,
        row: &std::result::Result<Item, RowError>,
    ) -> Result<bool> {
        let origin = row.as_ref().map_or_else(|error| &error.fields.origin, |item| &item.origin);
        let Some(origin) = origin else { return Ok(false) };
        let Some(refused) = self.refused(origin)? else { return Ok(false) };
        let (defect, message) = match row {
            Err(error) => (error.defect, error.message.clone()),
            Ok(item) => match self.find(item)?.filter(|known| self.is_anothers(known, item, &refused)) {
                Some(first) => (RowDefect::DuplicateUserId, self.duplicate_message(source, &first)),
                None => {
                    self.replace_refused(&refused)?;
                    return Ok(false);
                }
            },
        };
        let row = row.as_ref().map_or_else(|error| error.row, |item| item.row);
        self.refuse_again(&refused, defect, &format!("row {row} of {}: {message}", self.name_of(source)))?;
        Ok(true)
    }

    /// Was this row mended, and is it as it was before that?
    pub(super) fn is_mended(&self, source: SourceId, row: i64, fields: &RawFields) -> Result<bool> {
        let digest: Option<[u8; 32]> = self
            .db
            .prepare_cached("SELECT digest FROM mended_rows WHERE source_id = ?1 AND row = ?2")?
            .query_row((source.0, row), |found| found.get(0))
            .optional()?;
        let RawFields { path, url, user, group, extra, origin: _ } = fields;
        let now =
            digest_of(path.as_deref(), url.as_deref(), user.as_deref(), group.as_deref(), rows::extra_text(extra));
        Ok(digest == Some(now.0))
    }

    fn refused(&self, origin: &Origin) -> Result<Option<Refused>> {
        self.db
            .prepare_cached(
                "SELECT f.* FROM row_faults AS f JOIN sources AS s ON s.id = f.source_id WHERE s.name = ?1 AND f.row = ?2",
            )?
            .query_row((&origin.source, i64::try_from(origin.row).unwrap_or(i64::MAX)), |found| {
                let text = |name| found.get::<_, Option<String>>(name);
                let [path, url, user, group] = [text("path")?, text("url")?, text("user")?, text("group_code")?];
                Ok(Refused {
                    source: found.get("source_id")?,
                    row: found.get("row")?,
                    code: found.get("code")?,
                    digest: digest_of(
                        path.as_deref(),
                        url.as_deref(),
                        user.as_deref(),
                        group.as_deref(),
                        text("extra")?,
                    ),
                    user,
                    group,
                })
            })
            .optional()
    }

    /// Does the id that it has now belong to another row: of the same manifest, of this run, or as before?
    fn is_anothers(&self, known: &Known, item: &Item, refused: &Refused) -> bool {
        let (user, group) = (item.user.as_str(), item.group.as_str());
        let is_as_before = refused.code == RowDefect::DuplicateUserId.code().0
            && (refused.user.as_deref(), refused.group.as_deref()) == (Some(user), Some(group));
        known.source == refused.source || self.seen.has(known.item) || is_as_before
    }

    fn replace_refused(&mut self, refused: &Refused) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM row_faults WHERE source_id = ?1 AND row = ?2")?
            .execute((refused.source, refused.row))?;
        self.db
            .prepare_cached(
                "INSERT OR REPLACE INTO mended_rows (source_id, row, user, digest) VALUES (?1, ?2, ?3, ?4)",
            )?
            .execute((refused.source, refused.row, &refused.user, refused.digest.0))?;
        self.tally.add(ItemState::Rejected, Some(&refused.code), -1);
        Ok(())
    }

    /// Its fields stay those of its own manifest.
    fn refuse_again(&mut self, refused: &Refused, defect: RowDefect, message: &str) -> Result<()> {
        let code = defect.code();
        self.db
            .prepare_cached("UPDATE row_faults SET code = ?3, message = ?4 WHERE source_id = ?1 AND row = ?2")?
            .execute((refused.source, refused.row, &code.0, message))?;
        self.tally.add(ItemState::Rejected, Some(&refused.code), -1);
        self.tally.add(ItemState::Rejected, Some(&code.0), 1);
        Ok(())
    }
}

/// Of all that was written in a row.
fn digest_of(
    path: Option<&str>,
    url: Option<&str>,
    user: Option<&str>,
    group: Option<&str>,
    extra: Option<String>,
) -> Digest {
    let written = serde_json::to_vec(&(path, url, user, group, extra)).expect("texts are JSON");
    Digest(Sha256::digest(written).into())
}
