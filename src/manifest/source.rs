//! Opens a source by what it is.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{
    content::{Foreign, recognise_bytes},
    dialect::Delimiter,
    directory::{self, Files},
    fields::ColumnName,
    input::{self, Format, Input, InputFormat},
    json::{self, Layout},
    place::IdFrom,
    table,
    text::{self, Encoding, Text, read_head},
};
use crate::domain::{FaceGroupCode, Item, RowError};

/// How rows are to be read.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Group of rows that name none.
    pub group: Option<FaceGroupCode>,
    /// What relative paths are relative to; none: the manifest's own folder.
    pub root: Option<PathBuf>,
    /// May photos lie elsewhere than beneath the root?
    pub allow_outside_root: bool,
    /// What the source is, whatever its name says.
    pub format: Option<InputFormat>,
    /// What separates the fields of a table; none: what its header says.
    pub delimiter: Option<Delimiter>,
    /// What a text without a byte-order mark is in; none: UTF-8.
    pub encoding: Option<Encoding>,
    /// Take ids that look damaged?
    pub allow_odd_ids: bool,
    /// What columns are called in it.
    pub columns: Vec<ColumnName>,
    /// Which part of a path is the id of a row that names none; none: its name, and nobody has said so.
    pub id_from: Option<IdFrom>,
    /// Which files of a directory.
    pub files: Files,
}

/// Where a source is, and what its relative paths are relative to.
pub(super) struct At<'a> {
    pub(super) path: &'a Path,
    pub(super) root: &'a Path,
}

/// Why a source can't be read, or not to its end.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// It is not there, or is not to be read.
    #[error("{path} can't be read")]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// None of the known kinds.
    #[error(
        "{path} is of no known kind: give a .csv, .tsv, .jsonl, .ndjson or .json file (also .gz, .zst), a directory of photos, or --input-format"
    )]
    UnknownKind {
        /// Which.
        path: PathBuf,
    },
    /// Nothing in it.
    #[error("{path} is empty: its first line must name its columns, such as path,merchant_user_id")]
    Empty {
        /// Which.
        path: PathBuf,
    },
    /// It has named people before, and now there is nothing in it.
    #[error(
        "{path} named people before and has no photo now: is the disk that holds it mounted? Nothing was changed by it"
    )]
    NothingLeft {
        /// Which.
        path: PathBuf,
    },
    /// Something else under the name of a manifest.
    #[error("{path} is {}: {}", found.what, found.advice)]
    Foreign {
        /// Which.
        path: PathBuf,
        /// What it is.
        found: Foreign,
    },
    /// UTF-16 that doesn't say so.
    #[error("{path} is in UTF-16 without a byte-order mark: give --encoding {encoding}")]
    Utf16 {
        /// Which.
        path: PathBuf,
        /// In which order of bytes.
        encoding: &'static str,
    },
    /// The header has bytes that are no characters.
    #[error("{path}, line {line}: the header {problem}")]
    Encoding {
        /// Which.
        path: PathBuf,
        /// Where.
        line: u64,
        /// What it is not, and what to do.
        problem: String,
    },
    /// A table with other columns, of which one may be the id.
    #[error(
        "{path}, line {line}: no column is the id (merchant_user_id): found {columns}; give --column merchant_user_id={suggestion} if that is the id, or --id-from name if the photos' names are"
    )]
    NoIdColumn {
        /// Which.
        path: PathBuf,
        /// Where.
        line: u64,
        /// All of them.
        columns: String,
        /// The one that is most likely the id, in quotes where a shell needs them.
        suggestion: String,
    },
    /// JSON that is not built as it has to be.
    #[error("{path}, line {line}: {problem}")]
    Structure {
        /// Which.
        path: PathBuf,
        /// Where.
        line: u64,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// The header can't be used.
    #[error("{path}, line {line}: {problem}")]
    Header {
        /// Which.
        path: PathBuf,
        /// Where.
        line: u64,
        /// What is wrong, and what to do.
        problem: String,
    },
    /// No row names a group, and the run doesn't either.
    #[error("{path} has no column face_group_code, and no group was given: add --group CODE")]
    NoGroup {
        /// Which.
        path: PathBuf,
    },
    /// Standard input has no name to tell what it is.
    #[error("standard input can be anything: give --input-format csv, tsv, jsonl or json")]
    NoFormat,
    /// Too many quotes that are never closed.
    #[error("{path}, line {line}: a quote that is never closed, as in {count} rows before: is this a CSV file?")]
    TooManyOpenQuotes {
        /// Which.
        path: PathBuf,
        /// The last one.
        line: u64,
        /// So many before.
        count: usize,
    },
}

impl SourceError {
    /// Is it a flag that is missing, rather than anything about the source?
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoGroup { .. } | Self::NoFormat | Self::NoIdColumn { .. } => true,
            Self::Unreadable { .. }
            | Self::UnknownKind { .. }
            | Self::Empty { .. }
            | Self::NothingLeft { .. }
            | Self::Foreign { .. }
            | Self::Utf16 { .. }
            | Self::Encoding { .. }
            | Self::Structure { .. }
            | Self::Header { .. }
            | Self::TooManyOpenQuotes { .. } => false,
        }
    }
}

/// What a format gives: a row, a row that is none, or the end of it all.
pub(super) type Rows = Box<dyn Iterator<Item = Result<Result<Item, RowError>, SourceError>> + Send>;

/// An open source: an iterator of its rows.
pub struct Source {
    name: String,
    root: PathBuf,
    rows: Rows,
    kind: Kind,
}

/// What a source is.
enum Kind {
    /// A table or a JSON array: it is complete even without a row.
    Table,
    /// Objects, one after the other.
    Objects,
    /// A directory, and how many of its files are left out so far.
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
        let InputFormat { format, packing } = settings.format.ok_or(SourceError::NoFormat)?;
        let root = root_given.map_or_else(|| absolute(Path::new(".")), Ok)?;
        let rows = rows(input::open(None, packing)?, format, &At { path, root: &root }, settings)?;
        return Ok(Source { name: "-".to_owned(), root, rows, kind: Kind::of(format) });
    }
    let absolute = absolute(path)?;
    let is_directory = absolute.is_dir();
    let folder = if is_directory { absolute.as_path() } else { absolute.parent().unwrap_or(&absolute) };
    let root = root_given.unwrap_or_else(|| folder.to_owned());
    let at = At { path: &absolute, root: &root };
    let (rows, kind) = if is_directory {
        let skipped = Arc::default();
        (directory::rows(&at, settings, Arc::clone(&skipped))?, Kind::Directory(skipped))
    } else {
        let named = || InputFormat::of_name(&absolute.file_name()?.to_string_lossy());
        let unknown = || unknown_kind(&absolute, path);
        let InputFormat { format, packing } = settings.format.or_else(named).ok_or_else(unknown)?;
        (rows(input::open(Some(&absolute), packing)?, format, &at, settings)?, Kind::of(format))
    };
    Ok(Source { name: absolute.to_string_lossy().into_owned(), root, rows, kind })
}

/// A manifest that is in memory already, whatever it is called.
pub fn from_bytes(
    bytes: Vec<u8>,
    format: InputFormat,
    root: &Path,
    settings: &Settings,
) -> Result<Source, SourceError> {
    let path = Path::new("-");
    let rows = rows(Box::new(std::io::Cursor::new(bytes)), format.format, &At { path, root }, settings)?;
    Ok(Source { name: "-".to_owned(), root: root.to_owned(), rows, kind: Kind::of(format.format) })
}

/// Links stay as they were named: what lies beneath a folder lies beneath it by its name.
fn absolute(path: &Path) -> Result<PathBuf, SourceError> {
    let found = path.metadata().and_then(|_| std::path::absolute(path));
    let found = found.map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })?;
    Ok(found.components().collect())
}

fn rows(input: Input, format: Format, at: &At<'_>, settings: &Settings) -> Result<Rows, SourceError> {
    let text: Text = text::open(input, format, settings.encoding, at.path)?;
    match format {
        Format::Csv => table::rows(text, Delimiter::COMMA, at, settings),
        Format::Tsv => table::rows(text, Delimiter::TAB, at, settings),
        Format::JsonLines => json::rows(text, Layout::Lines, at, settings),
        Format::Json => json::rows(text, Layout::Values, at, settings),
    }
}

/// A file whose name says nothing: its content may.
fn unknown_kind(file: &Path, path: &Path) -> SourceError {
    let head = std::fs::File::open(file).and_then(|mut file| read_head(&mut file, 512)).unwrap_or_default();
    match recognise_bytes(&head) {
        Some(found) => SourceError::Foreign { path: path.to_owned(), found },
        None => SourceError::UnknownKind { path: path.to_owned() },
    }
}

impl Source {
    /// Its absolute path; `-` for standard input.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its relative paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Is it a directory of photos?
    pub fn is_directory(&self) -> bool {
        matches!(self.kind, Kind::Directory(_))
    }

    /// May it have no row although it had some before? A table that has its header may.
    pub fn may_be_empty(&self) -> bool {
        matches!(self.kind, Kind::Table)
    }

    /// Number of files left out so far; `None` if it is not a directory.
    pub fn skipped(&self) -> Option<u64> {
        self.skipped_counter().map(|skipped| skipped.load(Relaxed))
    }

    /// Counts the files that are left out while the directory is read; `None` if it is not a directory.
    pub fn skipped_counter(&self) -> Option<Arc<AtomicU64>> {
        match &self.kind {
            Kind::Directory(skipped) => Some(Arc::clone(skipped)),
            Kind::Table | Kind::Objects => None,
        }
    }
}

impl Iterator for Source {
    type Item = Result<Result<Item, RowError>, SourceError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}
