//! Errors that end the reading of a source.

use std::{io, path::PathBuf};

use super::content::ForeignContent;
use crate::{
    domain::{FatalError, InvalidObject},
    storage::Unavailable,
};

/// Why a source can't be read to its end.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SourceError {
    #[error("can't read {path}")]
    Unreadable { path: PathBuf, source: io::Error },
    /// Object storage refuses the source, or all of its photos.
    #[error("can't read {place}")]
    ObjectStorage {
        place: String,
        #[source]
        fatal: FatalError,
    },
    /// No object is below the prefix, not even the empty one that marks a folder.
    #[error("can't read {place}: no key of the bucket begins with it; check its spelling")]
    NoSuchPrefix { place: String },
    #[error("{place} {problem}")]
    InvalidObject { place: String, problem: InvalidObject },
    #[error(
        "unknown input format: {place}; give a prefix of photos with a slash at its end, a manifest (.csv, .tsv, .jsonl, .ndjson, .json, also .gz and .zst), or --input-format"
    )]
    UnknownObject { place: String },
    #[error(
        "unknown input format: {path}; give a .csv, .tsv, .jsonl, .ndjson or .json file (or one with .gz or .zst), an .xlsx workbook, a directory or .zip of photos, or --input-format"
    )]
    UnknownKind { path: PathBuf },
    #[error("{path} is empty: the first line must name the columns, such as path,merchant_user_id")]
    Empty { path: PathBuf },
    #[error("{path} named people before and has no photos now: is its disk mounted? Nothing was changed")]
    NothingLeft { path: PathBuf },
    #[error("can't read {path}")]
    Archive { path: PathBuf, source: Unavailable },
    #[error("{path} is {}: {}", found.what, found.advice)]
    NotAManifest { path: PathBuf, found: ForeignContent },
    #[error("{path} is UTF-16 without a byte-order mark: give --encoding {encoding}")]
    Utf16 { path: PathBuf, encoding: &'static str },
    #[error("{path}, line {line}: the header {problem}")]
    Encoding { path: PathBuf, line: u64, problem: String },
    /// No column is the id, but another column may be.
    #[error(
        "{path}, line {line}: no id column: expected merchant_user_id, found {columns}; give --column merchant_user_id={suggestion} if that is the id, or --id-from name to use the photos' names"
    )]
    NoIdColumn {
        path: PathBuf,
        line: u64,
        columns: String,
        /// The most likely id column, quoted for a shell.
        suggestion: String,
    },
    #[error("{path}, line {line}: {problem}")]
    Structure { path: PathBuf, line: u64, problem: String },
    #[error("{path}, line {line}: {problem}")]
    Header { path: PathBuf, line: u64, problem: String },
    #[error("can't read the workbook {path}: {problem}")]
    Workbook { path: PathBuf, problem: String },
    #[error("{path} {problem}")]
    NoSheet { path: PathBuf, problem: String },
    /// A workbook comes as a stream, and can only be read at several places.
    #[error("a workbook can't be read from standard input: give its file, or send it as CSV")]
    StreamedWorkbook,
    #[error("{path} has no column face_group_code: add --group CODE")]
    NoGroup { path: PathBuf },
    #[error("no group for the photos of {path}: add --group CODE")]
    NoGroupOfPhotos { path: PathBuf },
    #[error("--input-format (csv, tsv, jsonl or json) is required to read standard input")]
    NoFormat,
    #[error("{path}, line {line}: a quote is never closed, as in {count} rows before: is this a CSV file?")]
    UnclosedQuotes { path: PathBuf, line: u64, count: usize },
}

impl SourceError {
    /// Whether a flag is missing, rather than the source being unreadable.
    pub fn is_usage(&self) -> bool {
        match self {
            Self::NoGroup { .. }
            | Self::NoGroupOfPhotos { .. }
            | Self::NoFormat
            | Self::NoIdColumn { .. }
            | Self::NoSheet { .. }
            | Self::InvalidObject { .. }
            | Self::StreamedWorkbook => true,
            Self::Unreadable { .. }
            | Self::ObjectStorage { .. }
            | Self::NoSuchPrefix { .. }
            | Self::UnknownKind { .. }
            | Self::UnknownObject { .. }
            | Self::Empty { .. }
            | Self::NothingLeft { .. }
            | Self::Archive { .. }
            | Self::NotAManifest { .. }
            | Self::Utf16 { .. }
            | Self::Workbook { .. }
            | Self::Encoding { .. }
            | Self::Structure { .. }
            | Self::Header { .. }
            | Self::UnclosedQuotes { .. } => false,
        }
    }
}
