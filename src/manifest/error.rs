//! Errors that end the reading of a source.

use std::{io, path::PathBuf};

use super::content::ForeignContent;
use crate::{
    domain::{FatalError, InvalidObject},
    storage::Unavailable,
};

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
    /// Object storage refuses the source, or all of its photos.
    #[error("can't read {place}")]
    ObjectStorage {
        /// Name of the source.
        place: String,
        /// Reason.
        #[source]
        fatal: FatalError,
    },
    /// No object is below the prefix, not even the empty one that marks a folder.
    #[error("can't read {place}: no key of the bucket begins with it; check its spelling")]
    NoSuchPrefix {
        /// Name of the source.
        place: String,
    },
    /// The place in object storage is malformed.
    #[error("{place} {problem}")]
    InvalidObject {
        /// Place as given.
        place: String,
        /// Reason.
        problem: InvalidObject,
    },
    /// An object of unknown format.
    #[error(
        "unknown input format: {place}; give a prefix of photos with a slash at its end, a manifest (.csv, .tsv, .jsonl, .ndjson, .json, also .gz and .zst), or --input-format"
    )]
    UnknownObject {
        /// Place as given.
        place: String,
    },
    /// The format is unknown.
    #[error(
        "unknown input format: {path}; give a .csv, .tsv, .jsonl, .ndjson or .json file (or one with .gz or .zst), an .xlsx workbook, a directory or .zip of photos, or --input-format"
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
    /// The ZIP archive can't be read.
    #[error("can't read {path}")]
    Archive {
        /// Path of the source.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: Unavailable,
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
    /// A workbook is damaged or beyond a limit.
    #[error("can't read the workbook {path}: {problem}")]
    Workbook {
        /// Path of the source.
        path: PathBuf,
        /// What is wrong, and where.
        problem: String,
    },
    /// A workbook has no such sheet.
    #[error("{path} {problem}")]
    NoSheet {
        /// Path of the source.
        path: PathBuf,
        /// The missing sheet, and the sheets that there are.
        problem: String,
    },
    /// A workbook comes as a stream, and can only be read at several places.
    #[error("a workbook can't be read from standard input: give its file, or send it as CSV")]
    StreamedWorkbook,
    /// Neither the rows nor `--group` give a group.
    #[error("{path} has no column face_group_code: add --group CODE")]
    NoGroup {
        /// Path of the source.
        path: PathBuf,
    },
    /// Photos without a table need `--group`.
    #[error("no group for the photos of {path}: add --group CODE")]
    NoGroupOfPhotos {
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
