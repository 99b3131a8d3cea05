//! Options for reading a source, and what reading gives.

use std::path::{Path, PathBuf};

use super::{
    SourceError, dialect::Delimiter, fields::ColumnName, file_filter::FileFilter, input::FileFormat, photo_path::IdFrom,
};
use crate::{
    domain::{Encoding, FaceGroupCode, Item, RowError},
    storage::Objects,
};

/// Options for reading rows.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Group of rows that name none.
    pub group: Option<FaceGroupCode>,
    /// Base of relative paths; `None` for the manifest's own directory.
    pub root: Option<PathBuf>,
    /// Whether photos may be outside the root.
    pub allow_outside_root: bool,
    /// Format of the source; `None` to go by its name.
    pub format: Option<FileFormat>,
    /// Delimiter of a table; `None` to detect it from the header.
    pub delimiter: Option<Delimiter>,
    /// Encoding of a text without a byte-order mark; `None` for UTF-8.
    pub encoding: Option<Encoding>,
    /// Encoding of names in a ZIP archive that are not marked as UTF-8; `None` for UTF-8.
    pub names_in: Option<Encoding>,
    /// Whether to accept ids that look damaged.
    pub allow_odd_ids: bool,
    /// Name of the sheet of a workbook; `None` for the first visible one.
    pub sheet: Option<String>,
    /// Names of columns in the manifest.
    pub columns: Vec<ColumnName>,
    /// Part of a path that gives the id of a row without one; `None` if not given, which means the name.
    pub id_from: Option<IdFrom>,
    /// Files of a directory or an archive to read.
    pub files: FileFilter,
    /// Object storage, for sources and roots in it.
    pub objects: Objects,
}

/// Path of a source and the base of its relative paths.
pub(super) struct SourcePath<'a> {
    pub(super) path: &'a Path,
    pub(super) root: &'a Path,
}

/// Rows of a source: an item, an invalid row, or an error that ends the source.
pub(super) type Rows = Box<dyn Iterator<Item = Result<Row, SourceError>> + Send>;

/// A row of a source: an item, or why it is not one.
pub(super) type Row = Result<Item, RowError>;
