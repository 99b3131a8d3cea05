//! Items with their outcomes, as CSV or JSON Lines. An export is itself a manifest: mended, it can be run.

use std::{
    borrow::Cow,
    collections::HashMap,
    io::{self, Write},
    path::{Path, PathBuf},
};

use serde_json::{Map, Value};

use super::progress::json_line;
use crate::checkpoint::{ExportRow, Reader, StoreError};
use crate::domain::{EXPORT_COLUMNS, ItemState, printable};

/// Why there is no export.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The checkpoint.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output.
    #[error("the output can't be written")]
    Write(#[from] io::Error),
}

impl From<csv::Error> for ExportError {
    fn from(error: csv::Error) -> Self {
        // csv makes `Other` of every kind; the kind tells whether the reader has gone away.
        match error.is_io_error() {
            false => Self::Write(error.into()),
            true => match error.into_kind() {
                csv::ErrorKind::Io(error) => Self::Write(error),
                other => Self::Write(io::Error::other(format!("{other:?}"))),
            },
        }
    }
}

impl ExportError {
    /// Has the reader of our output gone away, as `head` does? Then nothing is wrong.
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Write(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Store(_) => false,
        }
    }
}

/// Which rows, and how their paths are written.
pub struct Exporter<'a> {
    /// Where they are.
    pub reader: &'a Reader,
    /// Only these states; none means all.
    pub states: &'a [ItemState],
    /// Paths beneath this folder are written relative to it.
    pub folder: PathBuf,
    /// For a spreadsheet: no cell may be taken for a formula. What is written so is no manifest any more.
    pub is_for_spreadsheet: bool,
}

impl Exporter<'_> {
    /// A header line, then a line for each row. Two passes: the manifests' other fields are columns too.
    pub fn csv(&self, output: impl Write) -> Result<(), ExportError> {
        // In the order of the manifests' columns, each with its place.
        let mut others: Vec<String> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        self.rows(&mut |row| {
            for (name, _) in row.extra {
                if !places.contains_key(&name) {
                    places.insert(name.clone(), others.len());
                    others.push(name);
                }
            }
            Ok(())
        })?;
        let mut writer = csv::Writer::from_writer(output);
        let names = EXPORT_COLUMNS.iter().copied().chain(others.iter().map(String::as_str));
        writer.write_record(names.map(|name| self.cell(name, name).into_owned()))?;
        self.rows(&mut |row| {
            let fields = self.fields(&row);
            let mut theirs = vec![""; others.len()];
            // Of several of one name the first stands.
            for (name, value) in row.extra.iter().rev() {
                theirs[places[name]] = value;
            }
            let ours =
                EXPORT_COLUMNS.iter().copied().zip(fields.iter().map(|field| field.as_deref().unwrap_or_default()));
            let theirs = others.iter().map(String::as_str).zip(theirs);
            writer.write_record(ours.chain(theirs).map(|(name, text)| self.cell(name, text).into_owned()))?;
            Ok(())
        })?;
        writer.flush()?;
        Ok(())
    }

    /// A cell that a spreadsheet would take for a formula begins with an apostrophe (OWASP, CSV injection): the service's
    /// message always, for it is never read again; the others only where the file is for a spreadsheet.
    fn cell<'a>(&self, name: &str, text: &'a str) -> Cow<'a, str> {
        let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if is_formula && (self.is_for_spreadsheet || name == "message") {
            Cow::Owned(format!("'{text}"))
        } else {
            Cow::Borrowed(text)
        }
    }

    /// An object a line. Fields of ours that are absent are null: a manifest with all of our columns is an export of ours.
    pub fn jsonl(&self, mut output: impl Write) -> Result<(), ExportError> {
        self.rows(&mut |row| {
            let mut object = Map::new();
            for (name, field) in EXPORT_COLUMNS.iter().zip(self.fields(&row)) {
                let is_number = matches!(*name, "row" | "attempts");
                let number = field.as_deref().filter(|_| is_number).and_then(|text| text.parse::<u64>().ok());
                let value = number.map(Value::from).or_else(|| field.map(Value::String));
                object.insert((*name).to_owned(), value.unwrap_or(Value::Null));
            }
            for (name, value) in row.extra {
                object.entry(name).or_insert(Value::String(value));
            }
            writeln!(output, "{}", json_line(&object))?;
            Ok(())
        })?;
        output.flush()?;
        Ok(())
    }

    fn rows(&self, each: &mut dyn FnMut(ExportRow) -> Result<(), ExportError>) -> Result<(), ExportError> {
        self.reader.export(&mut |row| {
            let name = row.state.name();
            let is_wanted = self.states.is_empty() || self.states.iter().any(|state| state.name() == name);
            if is_wanted { each(row) } else { Ok(()) }
        })
    }

    fn fields(&self, row: &ExportRow) -> [Option<String>; EXPORT_COLUMNS.len()] {
        [
            Some(row.row.to_string()),
            Some(row.source.to_string()),
            row.path.as_deref().map(|path| relative(path, &self.folder)),
            row.url.clone(),
            row.user.clone(),
            row.group.clone(),
            Some(row.state.name().to_owned()),
            row.stage.map(|stage| stage.name().to_owned()),
            shown(&row.code),
            shown(&row.message),
            shown(&row.request_id),
            Some(row.attempts.to_string()),
            shown(&row.quality),
            row.digest.map(|digest| digest.to_string()),
            row.enrolled_ms.and_then(time),
            row.confirmed_by.map(|by| by.name().to_owned()),
        ]
    }
}

/// The service's words; the manifest's own cells stay as they were.
fn shown(text: &Option<String>) -> Option<String> {
    text.as_deref().map(|text| printable(text).into_owned())
}

fn relative(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

fn time(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
