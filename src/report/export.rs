//! Exports items with their outcomes, as CSV or JSON Lines. An export is a manifest too: corrected, it can be run.

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

/// Why an export failed.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The checkpoint could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The output could not be written.
    #[error("the output can't be written")]
    Write(#[from] io::Error),
}

impl From<csv::Error> for ExportError {
    fn from(error: csv::Error) -> Self {
        // Converting csv::Error directly loses the io::ErrorKind, which `is_closed_pipe` needs.
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
    /// Whether the reader of stdout has left, as `head` does. That is not an error.
    pub fn is_closed_pipe(&self) -> bool {
        match self {
            Self::Write(error) => error.kind() == io::ErrorKind::BrokenPipe,
            Self::Store(_) => false,
        }
    }
}

/// Selects rows and writes them.
pub struct Exporter<'a> {
    /// The checkpoint.
    pub reader: &'a Reader,
    /// States to export; empty for all.
    pub states: &'a [ItemState],
    /// Paths in this directory are written relative to it.
    pub folder: PathBuf,
    /// Whether to escape cells that a spreadsheet would run as a formula. Such an export is no longer a manifest.
    pub is_for_spreadsheet: bool,
}

impl Exporter<'_> {
    /// Writes a header and a line for each row. Makes two passes: the header also has the other
    /// columns of the manifests.
    pub fn csv(&self, output: impl Write) -> Result<(), ExportError> {
        // The other columns in the order of the manifests, and the index of each.
        let mut extra_columns: Vec<String> = Vec::new();
        let mut indexes: HashMap<String, usize> = HashMap::new();
        self.rows(&mut |row| {
            for (name, _) in row.extra {
                if !indexes.contains_key(&name) {
                    indexes.insert(name.clone(), extra_columns.len());
                    extra_columns.push(name);
                }
            }
            Ok(())
        })?;
        let mut writer = csv::Writer::from_writer(output);
        let names = EXPORT_COLUMNS.iter().copied().chain(extra_columns.iter().map(String::as_str));
        writer.write_record(names.map(|name| self.cell(name, name).into_owned()))?;
        self.rows(&mut |row| {
            let fields = self.fields(&row);
            let mut extra_cells = vec![""; extra_columns.len()];
            // In reverse, so that the first of several columns with one name wins.
            for (name, value) in row.extra.iter().rev() {
                extra_cells[indexes[name]] = value;
            }
            let ours =
                EXPORT_COLUMNS.iter().copied().zip(fields.iter().map(|field| field.as_deref().unwrap_or_default()));
            let extra = extra_columns.iter().map(String::as_str).zip(extra_cells);
            writer.write_record(ours.chain(extra).map(|(name, text)| self.cell(name, text).into_owned()))?;
            Ok(())
        })?;
        writer.flush()?;
        Ok(())
    }

    /// Puts an apostrophe before a formula (OWASP, CSV injection): always in the service's message, which is never read
    /// back, and in the other cells only with `is_for_spreadsheet`.
    fn cell<'a>(&self, name: &str, text: &'a str) -> Cow<'a, str> {
        let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
        if is_formula && (self.is_for_spreadsheet || name == "message") {
            Cow::Owned(format!("'{text}"))
        } else {
            Cow::Borrowed(text)
        }
    }

    /// Writes one JSON object per line. Absent fields are null, because a manifest is recognised as an export by having all
    /// the export columns.
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
            printable_text(&row.code),
            printable_text(&row.message),
            printable_text(&row.request_id),
            Some(row.attempts.to_string()),
            printable_text(&row.quality),
            row.digest.map(|digest| digest.to_string()),
            row.enrolled_ms.and_then(time),
            row.confirmed_by.map(|by| by.name().to_owned()),
        ]
    }
}

/// Makes the service's text safe for a terminal; the manifest's own cells stay unchanged.
fn printable_text(text: &Option<String>) -> Option<String> {
    text.as_deref().map(|text| printable(text).into_owned())
}

fn relative(path: &Path, folder: &Path) -> String {
    path.strip_prefix(folder).unwrap_or(path).to_string_lossy().into_owned()
}

fn time(ms: i64) -> Option<String> {
    jiff::Timestamp::from_millisecond(ms).ok().map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string())
}
