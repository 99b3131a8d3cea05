//! Rows of an export that name a refused row of another source.
//!
//! One that can be an item removes the refused row. One that can't leaves it refused, with the present reason. Neither
//! takes the place of an item that another row names. If the old manifest comes again as it was, its row is refused again.

use rusqlite::{OptionalExtension, Result};

use super::{
    SqliteStore,
    ingest::{Known, row_number},
};
use crate::{
    checkpoint::store::SourceId,
    domain::{Item, ItemState, Origin, RowError, RowErrorKind},
};

/// A row that could not become an item.
pub(super) struct RowFault {
    source: i64,
    row: i64,
    code: String,
}

/// What a row is, with respect to the refused row that it may name.
pub(super) enum RowResolution {
    /// An ordinary row.
    Plain,
    /// An item that removes this refused row.
    Corrects(RowFault),
    /// The refused row that it names stays refused; there is nothing more to take in.
    StillInvalid,
    /// It was refused because another row has its id, and that one still has it.
    Duplicate(Known),
}

impl SqliteStore {
    /// See [`RowResolution`]. A row that is still invalid gives its refused row the present reason.
    pub(super) fn resolve_row(
        &mut self,
        source: SourceId,
        row: &std::result::Result<Item, RowError>,
    ) -> Result<RowResolution> {
        let origin = row.as_ref().map_or_else(|error| &error.fields.origin, |item| &item.origin);
        // A manifest that was replaced by its own export is read anew.
        let Some(origin) = origin.as_deref().filter(|origin| origin.source != self.source(source).name) else {
            return Ok(RowResolution::Plain);
        };
        let fault = self.find_fault(origin)?;
        let item = match row {
            Ok(item) => item,
            Err(error) => {
                let Some(fault) = fault else { return Ok(RowResolution::Plain) };
                self.restate_fault(source, &fault, error.row, error.defect, &error.message)?;
                return Ok(RowResolution::StillInvalid);
            }
        };
        let holder = if fault.is_some() || origin.was_duplicate { self.find(item)? } else { None };
        let holder = holder.filter(|known| !self.is_same_row(known, source, item, fault.is_some()));
        Ok(match (holder, fault) {
            (Some(holder), Some(fault)) => {
                let message = self.duplicate_message(source, &holder);
                self.restate_fault(source, &fault, item.row, RowErrorKind::DuplicateUserId, &message)?;
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
                "SELECT f.source_id, f.row, f.code FROM row_faults AS f JOIN sources AS s ON s.id = f.source_id
                 WHERE s.name = ?1 AND f.row = ?2",
            )?
            .query_row((&origin.source, row_number(origin.row)), |found| {
                Ok(RowFault { source: found.get(0)?, row: found.get(1)?, code: found.get(2)? })
            })
            .optional()
    }

    /// Was the item named last by this very row? While the refused row is there, only with the same photo: the file may be a
    /// later export under the same name.
    fn is_same_row(&self, known: &Known, source: SourceId, item: &Item, needs_same_photo: bool) -> bool {
        known.is_at(source, item.row)
            && !(needs_same_photo && known.names_another(&item.picture, &self.source(source).root))
    }

    /// The fields stay those of the refused row's own manifest.
    fn restate_fault(
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
