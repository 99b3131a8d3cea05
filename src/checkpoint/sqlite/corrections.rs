//! Rows of an export that name a rejected row of another source.
//!
//! A row that is now a valid item removes the rejected row. One that is still invalid leaves it rejected with the current
//! reason. Neither takes over an item that another row names. If the old manifest is read again unchanged, its row is
//! rejected again.

use rusqlite::{OptionalExtension, Result};

use super::{
    SqliteStore,
    ingest::{ExistingItem, row_number},
};
use crate::{
    checkpoint::SourceId,
    domain::{Item, ItemState, Origin, RowError, RowErrorKind},
};

/// A row that is not a valid item.
pub(super) struct RowFault {
    source: i64,
    row: i64,
    code: String,
    has_photo: bool,
    has_user: bool,
    has_group: bool,
}

impl RowFault {
    /// Whether the row lacks only what could not be exported, such as the id in a cell that is a date.
    fn explains(&self, defect: RowErrorKind) -> bool {
        let is_stored = [
            (RowErrorKind::MissingPicture, self.has_photo),
            (RowErrorKind::MissingUserId, self.has_user),
            (RowErrorKind::MissingGroup, self.has_group),
        ];
        is_stored.contains(&(defect, false)) && self.code != defect.code().0
    }
}

/// How a row relates to the rejected row that it may name.
pub(super) enum RowResolution {
    /// It names no rejected row.
    Plain,
    /// It is a valid item and removes this rejected row.
    Corrects(RowFault),
    /// The rejected row that it names stays rejected; nothing else is ingested.
    StillInvalid,
    /// It was rejected because another row has its id, and that row still has it.
    Duplicate(ExistingItem),
}

impl SqliteStore {
    /// Resolves the row that an export row names. A row that is still invalid updates the reason of its rejected row.
    pub(super) fn resolve_row(
        &mut self,
        source: SourceId,
        row: &std::result::Result<Item, RowError>,
    ) -> Result<RowResolution> {
        let origin = row.as_ref().map_or_else(|error| &error.fields.origin, |item| &item.origin);
        // A manifest that was replaced by its own export is an ordinary source.
        let Some(origin) = origin.as_deref().filter(|origin| origin.source != self.source(source).name) else {
            return Ok(RowResolution::Plain);
        };
        let fault = self.find_fault(origin)?;
        let item = match row {
            Ok(item) => item,
            Err(error) => {
                let Some(fault) = fault else { return Ok(RowResolution::Plain) };
                if !fault.explains(error.defect) {
                    self.update_fault(source, &fault, error.row, error.defect, &error.message)?;
                }
                return Ok(RowResolution::StillInvalid);
            }
        };
        let holder = if fault.is_some() || origin.was_duplicate { self.find(item)? } else { None };
        let holder = holder.filter(|known| !self.is_same_row(known, source, item, fault.is_some()));
        Ok(match (holder, fault) {
            (Some(holder), Some(fault)) => {
                let message = self.duplicate_message(source, &holder);
                self.update_fault(source, &fault, item.row, RowErrorKind::DuplicateUserId, &message)?;
                RowResolution::StillInvalid
            }
            (Some(holder), None) => RowResolution::Duplicate(holder),
            (None, Some(fault)) => RowResolution::Corrects(fault),
            (None, None) => RowResolution::Plain,
        })
    }

    pub(super) fn remove_fault(&mut self, fault: &RowFault) -> Result<()> {
        self.db
            .prepare_cached("DELETE FROM row_faults WHERE source_id = ?1 AND row = ?2")?
            .execute((fault.source, fault.row))?;
        self.tally.add(ItemState::Rejected, Some(&fault.code), -1);
        Ok(())
    }

    fn find_fault(&self, origin: &Origin) -> Result<Option<RowFault>> {
        self.db
            .prepare_cached(
                "SELECT f.source_id, f.row, f.code, coalesce(f.path, f.url) IS NOT NULL AS has_photo,
                        f.user IS NOT NULL AS has_user, f.group_code IS NOT NULL AS has_group
                 FROM row_faults AS f JOIN sources AS s ON s.id = f.source_id
                 WHERE s.name = ?1 AND f.row = ?2",
            )?
            .query_row((&origin.source, row_number(origin.row)), |row| {
                Ok(RowFault {
                    source: row.get(0)?,
                    row: row.get(1)?,
                    code: row.get(2)?,
                    has_photo: row.get(3)?,
                    has_user: row.get(4)?,
                    has_group: row.get(5)?,
                })
            })
            .optional()
    }

    /// Whether this row was the last to name the item. While the rejected row exists, the photo must be the same too: the
    /// file may be a later export under the same name.
    fn is_same_row(&self, known: &ExistingItem, source: SourceId, item: &Item, needs_same_photo: bool) -> bool {
        known.is_at(source, item.row)
            && !(needs_same_photo && known.has_other_photo(&item.picture, &self.source(source).root))
    }

    /// Updates the reason of a rejected row; its fields stay those of its own manifest.
    fn update_fault(
        &mut self,
        source: SourceId,
        fault: &RowFault,
        row: u64,
        defect: RowErrorKind,
        message: &str,
    ) -> Result<()> {
        let code = defect.code();
        let message = format!("row {row} of {}: {message}", self.name_of(source));
        self.db
            .prepare_cached("UPDATE row_faults SET code = ?3, message = ?4 WHERE source_id = ?1 AND row = ?2")?
            .execute((fault.source, fault.row, &code.0, message))?;
        self.tally.add(ItemState::Rejected, Some(&fault.code), -1);
        self.tally.add(ItemState::Rejected, Some(&code.0), 1);
        Ok(())
    }
}
