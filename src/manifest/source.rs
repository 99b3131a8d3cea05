//! Opens a source in its format.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    content::{ForeignContent, recognize_bytes},
    dialect::Delimiter,
    directory::{self, FileFilter},
    fields::ColumnName,
    input::{self, Format, Input, InputFormat},
    json::{self, Layout},
    photo_path::IdFrom,
    table,
    text::{self, Encoding, Text, read_head},
};
use crate::domain::{FaceGroupCode, Item, RowError};

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
    pub format: Option<InputFormat>,
    /// Delimiter of a table; `None` to detect it from the header.
    pub delimiter: Option<Delimiter>,
    /// Encoding of a text without a byte-order mark; `None` for UTF-8.
    pub encoding: Option<Encoding>,
    /// Whether to accept ids that look damaged.
    pub allow_odd_ids: bool,
    /// Names of columns in the manifest.
    pub columns: Vec<ColumnName>,
    /// Part of a path that gives the id of a row without one; `None` if not given, which means the name.
    pub id_from: Option<IdFrom>,
    /// Files of a directory to read.
    pub files: FileFilter,
}

/// Path of a source and the base of its relative paths.
pub(super) struct SourcePath<'a> {
    pub(super) path: &'a Path,
    pub(super) root: &'a Path,
}

/// Why a source can't be read to its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The source does not exist or can't be read.
    #[error("can't read {path}")]
    Unreadable {
        /// Path of the source.
        path: PathBuf,
        /// Error from the system.
        #[source]
        source: io::Error,
    },
    /// The format is unknown.
    #[error(
        "unknown input format: {path}; give a .csv, .tsv, .jsonl, .ndjson or .json file (or one with .gz or .zst), a directory of photos, or --input-format"
    )]
    UnknownKind {
        /// Path of the source.
        path: PathBuf,
    },
    /// The source is empty.
    #[error("{path} is empty: the first line must name the columns, such as path,merchant_user_id")]
    Empty {
        /// Path of the source.
        path: PathBuf,
    },
    /// The source named people before and is empty now.
    #[error("{path} named people before and has no photos now: is its disk mounted? Nothing was changed")]
    NothingLeft {
        /// Path of the source.
        path: PathBuf,
    },
    /// The file is something else than a manifest.
    #[error("{path} is {}: {}", found.what, found.advice)]
    NotAManifest {
        /// Path of the source.
        path: PathBuf,
        /// Content of the file.
        found: ForeignContent,
    },
    /// The text is UTF-16 without a byte-order mark.
    #[error("{path} is UTF-16 without a byte-order mark: give --encoding {encoding}")]
    Utf16 {
        /// Path of the source.
        path: PathBuf,
        /// Encoding with the byte order.
        encoding: &'static str,
    },
    /// The header can't be decoded.
    #[error("{path}, line {line}: the header {problem}")]
    Encoding {
        /// Path of the source.
        path: PathBuf,
        /// Line of the problem.
        line: u64,
        /// Encoding that failed, and what to do.
        problem: String,
    },
    /// No column is the id, but another column may be.
    #[error(
        "{path}, line {line}: no id column: expected merchant_user_id, found {columns}; give --column merchant_user_id={suggestion} if that is the id, or --id-from name to use the photos' names"
    )]
    NoIdColumn {
        /// Path of the source.
        path: PathBuf,
        /// Line of the problem.
        line: u64,
        /// All columns.
        columns: String,
        /// The most likely id column, quoted for a shell.
        suggestion: String,
    },
    /// The JSON does not have the expected structure.
    #[error("{path}, line {line}: {problem}")]
    Structure {
        /// Path of the source.
        path: PathBuf,
        /// Line of the problem.
        line: u64,
        /// Problem and what to do about it.
        problem: String,
    },
    /// The header is not usable.
    #[error("{path}, line {line}: {problem}")]
    Header {
        /// Path of the source.
        path: PathBuf,
        /// Line of the problem.
        line: u64,
        /// Problem and what to do about it.
        problem: String,
    },
    /// Neither the rows nor `--group` give a group.
    #[error("{path} has no column face_group_code: add --group CODE")]
    NoGroup {
        /// Path of the source.
        path: PathBuf,
    },
    /// Standard input needs `--input-format`.
    #[error("--input-format (csv, tsv, jsonl or json) is required to read standard input")]
    NoFormat,
    /// Too many quotes are never closed.
    #[error("{path}, line {line}: a quote is never closed, as in {count} rows before: is this a CSV file?")]
    UnclosedQuotes {
        /// Path of the source.
        path: PathBuf,
        /// Line of the last one.
        line: u64,
        /// Number of unclosed quotes before it.
        count: usize,
    },
}

impl SourceError {
    /// Whether a flag is missing, rather than the source being unreadable.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoGroup { .. } | Self::NoFormat | Self::NoIdColumn { .. } => true,
            Self::Unreadable { .. }
            | Self::UnknownKind { .. }
            | Self::Empty { .. }
            | Self::NothingLeft { .. }
            | Self::NotAManifest { .. }
            | Self::Utf16 { .. }
            | Self::Encoding { .. }
            | Self::Structure { .. }
            | Self::Header { .. }
            | Self::UnclosedQuotes { .. } => false,
        }
    }
}

/// Rows of a source: an item, an invalid row, or an error that ends the source.
pub(super) type Rows = Box<dyn Iterator<Item = Result<Row, SourceError>> + Send>;

/// A row of a source: an item, or why it is not one.
pub(super) type Row = Result<Item, RowError>;

/// An open source: an iterator of its rows.
pub struct Source {
    name: String,
    root: PathBuf,
    rows: Rows,
    kind: Kind,
}

/// Kind of a source.
enum Kind {
    /// A table or a JSON array, which is complete even without rows.
    Table,
    /// A sequence of JSON objects.
    Objects,
    /// A directory, with the number of files skipped so far.
    Directory(Arc<AtomicU64>),
}

impl Kind {
    fn of(format: Format) -> Self {
        match format {
            Format::Csv | Format::Tsv | Format::Json => Self::Table,
            Format::JsonLines => Self::Objects,
        }
    }
}

/// Opens a manifest or a directory; `-` is standard input.
pub fn open(path: &Path, settings: &Settings) -> Result<Source, SourceError> {
    let root_given = settings.root.as_deref().map(absolute).transpose()?;
    if path == Path::new("-") {
        let InputFormat { format, compression } = settings.format.ok_or(SourceError::NoFormat)?;
        let root = root_given.map_or_else(|| absolute(Path::new(".")), Ok)?;
        let rows = rows(input::open(None, compression)?, format, &SourcePath { path, root: &root }, settings)?;
        return Ok(Source { name: "-".to_owned(), root, rows, kind: Kind::of(format) });
    }
    let absolute = absolute(path)?;
    let is_directory = absolute.is_dir();
    let folder = if is_directory { absolute.as_path() } else { absolute.parent().unwrap_or(&absolute) };
    let root = root_given.unwrap_or_else(|| folder.to_owned());
    let at = SourcePath { path: &absolute, root: &root };
    let (rows, kind) = if is_directory {
        let skipped = Arc::default();
        (directory::rows(&at, settings, Arc::clone(&skipped))?, Kind::Directory(skipped))
    } else {
        let named = || InputFormat::from_name(&absolute.file_name()?.to_string_lossy());
        let unknown = || unknown_kind(&absolute, path);
        let InputFormat { format, compression } = settings.format.or_else(named).ok_or_else(unknown)?;
        (rows(input::open(Some(&absolute), compression)?, format, &at, settings)?, Kind::of(format))
    };
    Ok(Source { name: absolute.to_string_lossy().into_owned(), root, rows, kind })
}

/// Opens a manifest in memory.
pub fn from_bytes(
    bytes: Vec<u8>,
    format: InputFormat,
    root: &Path,
    settings: &Settings,
) -> Result<Source, SourceError> {
    let path = Path::new("-");
    let rows = rows(Box::new(std::io::Cursor::new(bytes)), format.format, &SourcePath { path, root }, settings)?;
    Ok(Source { name: "-".to_owned(), root: root.to_owned(), rows, kind: Kind::of(format.format) })
}

/// Makes a path absolute without resolving links, so that files under a directory keep it as their prefix.
fn absolute(path: &Path) -> Result<PathBuf, SourceError> {
    let found = path.metadata().and_then(|_| std::path::absolute(path));
    let found = found.map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
    Ok(found.components().collect())
}

fn rows(input: Input, format: Format, at: &SourcePath<'_>, settings: &Settings) -> Result<Rows, SourceError> {
    let text: Text = text::open(input, format, settings.encoding, at.path)?;
    match format {
        Format::Csv => table::rows(text, Delimiter::COMMA, at, settings),
        Format::Tsv => table::rows(text, Delimiter::TAB, at, settings),
        Format::JsonLines => json::rows(text, Layout::Lines, at, settings),
        Format::Json => json::rows(text, Layout::Values, at, settings),
    }
}

/// Error for a file of unknown format, which names the content if it is recognized.
fn unknown_kind(file: &Path, path: &Path) -> SourceError {
    let head = std::fs::File::open(file).and_then(|mut file| read_head(&mut file, 512)).unwrap_or_default();
    match recognize_bytes(&head) {
        Some(found) => SourceError::NotAManifest { path: path.to_owned(), found },
        None => SourceError::UnknownKind { path: path.to_owned() },
    }
}

impl Source {
    /// Absolute path of the source; `-` for standard input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Base of relative paths.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Whether the source is a directory.
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// Whether the source may be empty although it had rows before. A table with a header may.
    pub fn may_be_empty(&self) -> bool {
        matches!(self.kind, Kind::Table)
    }

    /// Number of files skipped so far; `None` if the source is not a directory.
    pub fn skipped(&self) -> Option<u64> {
        self.skipped_counter().map(|skipped| skipped.load(Relaxed))
    }

    /// Counter of skipped files, updated while reading; `None` if the source is not a directory.
    pub fn skipped_counter(&self) -> Option<Arc<AtomicU64>> {
        match &self.kind {
            Kind::Directory(skipped) => Some(Arc::clone(skipped)),
            Kind::Table | Kind::Objects => None,
        }
    }
}

impl Iterator for Source {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}
