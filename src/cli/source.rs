use std::path::PathBuf;

use clap::{ArgAction, Args, builder::BoolishValueParser};

use super::NO_HEADING;
use crate::{
    domain::{Encoding, FaceGroupCode},
    manifest::{ColumnName, Delimiter, FileFormat, IdFrom, Pattern},
};

/// Sources, and how to read them.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct SourceArgs {
    /// Manifest (.csv, .tsv, .json, .jsonl, .ndjson, also .gz, .zst; .xlsx), directory or .zip of photos,
    /// oss://bucket/prefix/ or a manifest there, or - for stdin
    #[arg(required = true, value_name = "SOURCE", help_heading = NO_HEADING)]
    pub sources: Vec<PathBuf>,
    /// How to read them.
    #[command(flatten)]
    pub reading: ReadingArgs,
}

/// How to read a source.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct ReadingArgs {
    /// Face group of rows that name none
    #[arg(long, env = "FACE_ENROLL_GROUP", value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// Directory, .zip or oss://bucket/prefix/ of the photos [default: the manifest's directory]
    ///
    /// Relative paths start here. Photos outside it are rejected, unless --allow-outside-root is given. A directory of
    /// photos outside it is its own root.
    #[arg(long, env = "FACE_ENROLL_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Column that holds a field, such as path=photo (repeatable)
    ///
    /// Fields are path, url, merchant_user_id and face_group_code, as in --column merchant_user_id=employee_no.
    #[arg(long, env = "FACE_ENROLL_COLUMN", value_name = "FIELD=NAME", value_delimiter = ',')]
    pub column: Vec<ColumnName>,
    /// Also accept photos outside the root: .., absolute paths, links that lead out
    #[arg(long, env = "FACE_ENROLL_ALLOW_OUTSIDE_ROOT", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub allow_outside_root: bool,
    /// Format of stdin, or of a manifest with another extension: csv, tsv, json, jsonl, csv.gz, xlsx, ... [default: by
    /// extension]
    #[arg(long, env = "FACE_ENROLL_INPUT_FORMAT", value_name = "FORMAT")]
    pub input_format: Option<FileFormat>,
    /// Field separator of a table, such as ';' or tab [default: the one of , ; tab | that the header uses]
    #[arg(long, env = "FACE_ENROLL_DELIMITER", value_name = "CHAR")]
    pub delimiter: Option<Delimiter>,
    /// Encoding of a manifest without a byte-order mark: gbk, gb18030, big5, shift_jis, windows-1252, ... [default:
    /// utf-8]
    #[arg(long, env = "FACE_ENROLL_ENCODING", value_name = "NAME")]
    pub encoding: Option<Encoding>,
    /// Sheet of a workbook [default: the first visible one]
    #[arg(long, env = "FACE_ENROLL_SHEET", value_name = "NAME")]
    pub sheet: Option<String>,
    /// Encoding of names in a .zip that are not UTF-8, such as gbk, big5 or shift_jis
    #[arg(long, env = "FACE_ENROLL_NAMES_IN", value_name = "NAME")]
    pub names_in: Option<Encoding>,
    /// Accept ids that look damaged by a spreadsheet or a program: 6.2E+17, 1001.0, #N/A, NULL, nan
    #[arg(long, env = "FACE_ENROLL_ALLOW_ODD_IDS", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub allow_odd_ids: bool,
    /// In directories and .zip files, take only files that match GLOB (repeatable) [default: photos by extension or content]
    #[arg(long, env = "FACE_ENROLL_INCLUDE", value_name = "GLOB")]
    pub include: Vec<Pattern>,
    /// In directories and .zip files, skip files and folders that match GLOB (repeatable)
    #[arg(long, env = "FACE_ENROLL_EXCLUDE", value_name = "GLOB")]
    pub exclude: Vec<Pattern>,
    /// Part of the photo's path that is the id of a row without one [default: name, if the manifest has only a photo
    /// column]
    #[arg(long, env = "FACE_ENROLL_ID_FROM", value_name = "name|parent|path")]
    pub id_from: Option<IdFrom>,
}
