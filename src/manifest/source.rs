//! Opens a source by what it is.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{directory, table};
use crate::domain::{FaceGroupCode, Item, RowError};

/// How rows are to be read.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Group of rows that name none.
    pub group: Option<FaceGroupCode>,
    /// What relative paths are relative to; none: the manifest's own folder.
    pub root: Option<PathBuf>,
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
    #[error("{path} is of no known kind: give a .csv or .tsv file, or a directory of photos")]
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
    /// Not UTF-8.
    #[error("{path} is in {encoding}: save it as UTF-8 (in a spreadsheet: \"CSV UTF-8\")")]
    Encoding {
        /// Which.
        path: PathBuf,
        /// What it is in.
        encoding: &'static str,
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
            Self::NoGroup { .. } => true,
            Self::Unreadable { .. }
            | Self::UnknownKind { .. }
            | Self::Empty { .. }
            | Self::Encoding { .. }
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
}

/// Opens a manifest or a directory.
pub fn open(path: &Path, settings: &Settings) -> Result<Source, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    // Links stay as they were named: what lies beneath a folder lies beneath it by its name.
    let absolute = |path: &Path| std::path::absolute(path).map(|path| path.components().collect::<PathBuf>());
    let root_given = settings.root.as_deref().map(|root| {
        let unreadable = |source| SourceError::Unreadable { path: root.to_owned(), source };
        root.metadata().and_then(|_| absolute(root)).map_err(unreadable)
    });
    let absolute = path.metadata().and_then(|_| absolute(path)).map_err(unreadable)?;
    let is_directory = absolute.is_dir();
    let folder = if is_directory { absolute.as_path() } else { absolute.parent().unwrap_or(&absolute) };
    let root = root_given.transpose()?.unwrap_or_else(|| folder.to_owned());
    let ending = absolute.extension().map(|ending| ending.to_string_lossy().to_lowercase()).unwrap_or_default();
    let rows = match ending.as_str() {
        _ if is_directory => directory::rows(&absolute, settings)?,
        "csv" => table::rows(&absolute, b',', &root, settings)?,
        "tsv" => table::rows(&absolute, b'\t', &root, settings)?,
        _ => return Err(SourceError::UnknownKind { path: path.to_owned() }),
    };
    Ok(Source { name: absolute.to_string_lossy().into_owned(), root, rows })
}

impl Source {
    /// Its absolute path.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its relative paths are relative to.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

impl Iterator for Source {
    type Item = Result<Result<Item, RowError>, SourceError>;
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}
