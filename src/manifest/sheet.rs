//! Reads a sheet of an .xlsx workbook as a table. Rows are streamed: memory holds one row and the workbook's shared strings.
//!
//! The parts are read here instead of by a spreadsheet crate, because every text must stay within a budget, and because a
//! cell's value, format and formula are all needed to tell a sure id from a guess.

mod cells;
mod package;
#[cfg(test)]
mod tests;
mod value;
mod workbook;
mod xml;

use std::{borrow::Cow, fs::File, io, path::PathBuf, sync::Arc};

use csv::StringRecord;
use rawzip::FileReader;

use self::{
    cells::{RowReader, SheetRow},
    value::{Cell, CellFault, Formats, NumberFormat, cell_name},
    workbook::{Sheet, Workbook, WorkbookError},
};
use super::{
    columns::Columns,
    content,
    error::SourceError,
    fields::Field,
    options::{Row, Rows, Settings, SourcePath},
    row::{Fields, OtherFields, RowBuilder, origin, row_error, storable, storable_photo},
    table,
    text::read_head,
};
use crate::domain::{Extra, Origin, RawFields, RowError, RowErrorKind, closest_match};

/// Rows of a sheet, and its name unless it is the sheet that is read by default.
type Opened = (Rows, Option<String>);

/// Reads the header of a sheet of a workbook file.
pub(super) fn open(at: &SourcePath<'_>, settings: &Settings) -> Result<Opened, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: at.path.to_owned(), source };
    let mut file = File::open(at.path).map_err(unreadable)?;
    let head = read_head(&mut file, 512).map_err(unreadable)?;
    if head.is_empty() {
        return Err(SourceError::Empty { path: at.path.to_owned() });
    }
    if let Some(found) = content::recognize_non_workbook(&head) {
        return Err(SourceError::NotAManifest { path: at.path.to_owned(), found });
    }
    let len = file.metadata().map_err(unreadable)?.len();
    rows(Arc::new(FileReader::from(file)), len, at, settings)
}

/// Reads the header of a sheet of a workbook in memory.
pub(super) fn from_bytes(bytes: Vec<u8>, at: &SourcePath<'_>, settings: &Settings) -> Result<Opened, SourceError> {
    let len = bytes.len() as u64;
    rows(Arc::new(io::Cursor::new(bytes)), len, at, settings)
}

fn rows(bytes: package::Bytes, len: u64, at: &SourcePath<'_>, settings: &Settings) -> Result<Opened, SourceError> {
    let path = at.path;
    let damaged = |problem| SourceError::Workbook { path: path.to_owned(), problem };
    let book = Workbook::open(bytes, len).map_err(|error| match error {
        WorkbookError::Foreign(found) => SourceError::NotAManifest { path: path.to_owned(), found },
        WorkbookError::Damaged(problem) => damaged(problem),
    })?;
    let sheet = choose(&book.sheets, settings.sheet.as_deref())
        .map_err(|problem| SourceError::NoSheet { path: path.to_owned(), problem })?;
    let is_default = choose(&book.sheets, None).is_ok_and(|default| std::ptr::eq(default, sheet));
    let name = (!is_default).then(|| sheet.name.clone());
    if book.sheets.len() > 1 {
        tracing::info!(source = %path.display(), sheet = sheet.name, of = book.sheets.len(), "reading a sheet");
    }
    let formats = book.read_formats().map_err(damaged)?;
    let strings = book.read_strings().map_err(damaged)?;
    let mut reader =
        book.open_sheet(sheet).and_then(|xml| RowReader::new(xml, strings, book.is_uncomputed)).map_err(damaged)?;
    let header = reader.next().map_err(damaged)?.ok_or_else(|| SourceError::Empty { path: path.to_owned() })?;
    let names = names(&header, &formats);
    let columns = table::resolve_columns(&names, header.number.into(), path, settings)?;
    let rows = SheetRows {
        path: path.to_owned(),
        roles: roles(&columns),
        columns,
        reader,
        formats,
        builder: RowBuilder::new(at, settings),
        ids: IdForms::default(),
        hidden_rows: 0,
        is_over: false,
    };
    Ok((Box::new(rows), name))
}

/// The sheet with this name, or the first visible one.
fn choose<'s>(sheets: &'s [Sheet], name: Option<&str>) -> Result<&'s Sheet, String> {
    let Some(name) = name else {
        let first = sheets.iter().find(|sheet| sheet.is_visible).or(sheets.first());
        return first.ok_or_else(|| "has no sheet with cells".to_owned());
    };
    let exact = sheets.iter().find(|sheet| sheet.name == name);
    // A spreadsheet ignores case in the names of sheets.
    let alike = || sheets.iter().find(|sheet| sheet.name.to_lowercase() == name.trim().to_lowercase());
    exact.or_else(alike).ok_or_else(|| {
        let names: Vec<&str> = sheets.iter().map(|sheet| sheet.name.as_str()).take(20).collect();
        let more = if sheets.len() > names.len() { ", ..." } else { "" };
        let meant = closest_match(name, names.iter().copied()).map(|name| format!("; did you mean {name}?"));
        format!("has no sheet {name}{}; it has {}{more}", meant.unwrap_or_default(), names.join(", "))
    })
}

/// Names of the columns, up to the last one with a name.
fn names(header: &SheetRow, formats: &Formats) -> StringRecord {
    let mut names = StringRecord::new();
    for (column, cell) in &header.cells {
        let name = formats.shown(cell);
        if !name.trim().is_empty() {
            (names.len()..*column as usize).for_each(|_| names.push_field(""));
            names.push_field(&name);
        }
    }
    names
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Field(Field),
    /// An extra column, by its index.
    Extra(usize),
    /// A column of an export that is not read.
    Export,
}

/// Roles of the columns. A column without a name is an extra one.
fn roles(columns: &Columns) -> Vec<Role> {
    let mut roles: Vec<Role> = columns
        .names
        .iter()
        .map(|name| Field::ALL.into_iter().find(|field| field.name() == name).map_or(Role::Export, Role::Field))
        .collect();
    for (index, (column, _)) in columns.extra.iter().enumerate() {
        roles[*column] = Role::Extra(index);
    }
    roles
}

/// Forms of the ids seen so far.
#[derive(Default)]
struct IdForms {
    has_number: bool,
    has_zero_text: bool,
    has_warned: bool,
}

struct SheetRows {
    path: PathBuf,
    reader: RowReader,
    columns: Columns,
    roles: Vec<Role>,
    formats: Formats,
    builder: RowBuilder,
    ids: IdForms,
    hidden_rows: u64,
    is_over: bool,
}

impl SheetRows {
    fn row(&mut self, row: &SheetRow) -> Row {
        let mut values: [Option<Cow<'_, str>>; 4] = [const { None }; 4];
        let mut fault: Option<(Field, u32, CellFault)> = None;
        let (mut extra, mut beyond) = (Extra::new(), None);
        for (column, cell) in &row.cells {
            match self.roles.get(*column as usize) {
                Some(Role::Field(field)) => match self.formats.field(cell) {
                    Ok(text) => values[*field as usize] = Some(text).filter(|text| !text.is_empty()),
                    Err(problem) => fault = fault.or(Some((*field, *column, problem))),
                },
                Some(Role::Extra(index)) => {
                    let text = self.formats.shown(cell);
                    if !text.is_empty() {
                        extra.push((self.columns.extra[*index].1.clone(), text.into_owned()));
                    }
                }
                Some(Role::Export) => {}
                None => beyond = beyond.or(Some(*column)),
            }
        }
        let fields = Fields {
            path: values[Field::Path as usize].as_deref(),
            url: values[Field::Url as usize].as_deref(),
            merchant_user_id: values[Field::MerchantUserId as usize].as_deref(),
            face_group_code: values[Field::FaceGroupCode as usize].as_deref(),
            id_damage: None,
            needs_id: self.columns.has_id,
        };
        let others = OtherFields { extra, origin: self.origin(row) };
        let refusal = match (fault, beyond) {
            (Some((field, column, problem)), _) => {
                Some((kind_of(field, &problem), format!("cell {} {problem}", cell_name(column, row.number))))
            }
            (None, Some(column)) => {
                let message = format!(
                    "cell {} has a value, but the header has no column there: name the column or clear the cell",
                    cell_name(column, row.number)
                );
                Some((RowErrorKind::WrongFieldCount, message))
            }
            (None, None) => None,
        };
        if let Some((defect, message)) = refusal {
            return Err(refused(row.number, (defect, message), &fields, others));
        }
        self.note_id(row, fields.merchant_user_id);
        self.builder.item(row.number.into(), &fields, others).map_err(|error| self.with_cell(error))
    }

    fn origin(&self, row: &SheetRow) -> Option<Box<Origin>> {
        let columns = self.columns.origin?;
        let text = |at: usize| {
            let (_, cell) = row.cells.iter().find(|(column, _)| *column as usize == at)?;
            Some(self.formats.shown(cell))
        };
        let code = columns.code.and_then(text);
        origin(&text(columns.source)?, &text(columns.row)?, code.as_deref())
    }

    /// Names the cell in the error of a field.
    fn with_cell(&self, error: RowError) -> RowError {
        let fields: &[Field] = match error.defect {
            RowErrorKind::MissingUserId | RowErrorKind::InvalidUserId | RowErrorKind::SuspiciousUserId => {
                &[Field::MerchantUserId, Field::Path, Field::Url]
            }
            RowErrorKind::MissingGroup | RowErrorKind::InvalidGroup => &[Field::FaceGroupCode],
            RowErrorKind::InvalidUrl | RowErrorKind::EmbeddedPhoto => {
                let is_path = error.fields.path.is_some();
                if is_path { &[Field::Path, Field::Url] } else { &[Field::Url, Field::Path] }
            }
            RowErrorKind::MissingPicture
            | RowErrorKind::TwoPictures
            | RowErrorKind::PathTooLong
            | RowErrorKind::OutsideRoot => &[Field::Path, Field::Url],
            RowErrorKind::UnreadableRow
            | RowErrorKind::WrongFieldCount
            | RowErrorKind::UnclosedQuote
            | RowErrorKind::RecordTooLong
            | RowErrorKind::NotFollowed
            | RowErrorKind::NotAFile
            | RowErrorKind::DuplicateUserId => &[],
        };
        let column = fields.iter().find_map(|field| self.roles.iter().position(|role| *role == Role::Field(*field)));
        let (Some(column), Ok(row)) = (column, u32::try_from(error.row)) else { return error };
        // A column index is below 16,384.
        let cell = cell_name(column as u32, row);
        RowError { message: format!("cell {cell}: {}", error.message), ..error }
    }

    /// Warns once if some ids are numbers and others are texts with leading zeros.
    fn note_id(&mut self, row: &SheetRow, id: Option<&str>) {
        let cell = row
            .cells
            .iter()
            .find(|(column, _)| self.roles.get(*column as usize) == Some(&Role::Field(Field::MerchantUserId)));
        match cell {
            Some((_, Cell::Number(_, style))) => {
                self.ids.has_number |= matches!(self.formats.by_style.get(*style), None | Some(NumberFormat::Digits));
            }
            Some((_, Cell::Text(_))) => self.ids.has_zero_text |= id.is_some_and(|id| id.starts_with('0')),
            Some(_) | None => {}
        }
        if self.ids.has_number && self.ids.has_zero_text && !std::mem::replace(&mut self.ids.has_warned, true) {
            tracing::warn!(
                source = %self.path.display(),
                row = row.number,
                "some ids are numbers and others are texts that begin with 0: numbers may have lost their leading zeros; \
                 format the column as Text and enter them again"
            );
        }
    }
}

/// The code of a row whose cell can't be a field.
fn kind_of(field: Field, fault: &CellFault) -> RowErrorKind {
    match (field, fault) {
        (Field::Path | Field::Url, CellFault::Picture) => RowErrorKind::EmbeddedPhoto,
        (Field::Path, _) => RowErrorKind::UnreadableRow,
        (Field::Url, _) => RowErrorKind::InvalidUrl,
        (Field::MerchantUserId, _) => RowErrorKind::InvalidUserId,
        (Field::FaceGroupCode, _) => RowErrorKind::InvalidGroup,
    }
}

/// A row with a cell that can't be read. That cell stays empty in an export, so that nothing wrong comes back as text.
fn refused(row: u32, (defect, message): (RowErrorKind, String), fields: &Fields<'_>, others: OtherFields) -> RowError {
    let (path, url) = storable_photo(fields.path, fields.url);
    let fields = RawFields {
        path,
        url,
        user: storable(fields.merchant_user_id),
        group: storable(fields.face_group_code),
        extra: others.extra,
        origin: others.origin,
    };
    RowError { fields: Box::new(fields), ..row_error(row.into(), defect, message, None) }
}

impl Iterator for SheetRows {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        match self.reader.next() {
            Ok(Some(row)) => {
                self.hidden_rows += u64::from(row.is_hidden);
                Some(Ok(self.row(&row)))
            }
            Ok(None) => {
                self.is_over = true;
                if self.hidden_rows > 0 {
                    tracing::warn!(source = %self.path.display(), rows = self.hidden_rows, "hidden rows were read too");
                }
                None
            }
            Err(problem) => {
                self.is_over = true;
                Some(Err(SourceError::Workbook { path: self.path.clone(), problem }))
            }
        }
    }
}
