//! Streams the rows of a sheet: its cells that are not blank, in order. One row is held at a time.

use quick_xml::events::{BytesStart, Event};

use super::{
    value::{Cell, cell_name},
    workbook::{SharedStrings, unescape},
    xml::{Xml, flag},
};

/// Last row of a sheet.
const MAX_ROWS: u32 = 1_048_576;
/// Number of columns of a sheet.
const MAX_COLUMNS: u32 = 16_384;

/// A row with at least one cell.
#[derive(Debug, Default)]
pub(super) struct SheetRow {
    /// Number that the spreadsheet shows, from 1.
    pub(super) number: u32,
    /// Whether the row is hidden, such as by a filter.
    pub(super) is_hidden: bool,
    /// Columns from 0, ascending, and their values.
    pub(super) cells: Vec<(u32, Cell)>,
}

/// Reads the rows of a sheet.
pub(super) struct RowReader {
    xml: Xml,
    strings: SharedStrings,
    is_uncomputed: bool,
    /// Number of the last row.
    last: u32,
    buffer: Vec<u8>,
    value: String,
    formula: String,
}

/// Attributes of a cell.
#[derive(Default)]
struct Head {
    /// Column from 0 and row from 1, if the cell says so.
    place: Option<(u32, u32)>,
    style: usize,
    kind: Kind,
    has_metadata: bool,
}

/// Type of a cell's value.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Kind {
    /// Not given: a number.
    #[default]
    Unnamed,
    Number,
    Shared,
    Inline,
    FormulaText,
    Bool,
    Error,
    IsoDate,
}

impl RowReader {
    /// Goes to the first row. `is_uncomputed` says that formulas have no values yet.
    pub(super) fn new(mut xml: Xml, strings: SharedStrings, is_uncomputed: bool) -> Result<Self, String> {
        let mut buffer = Vec::new();
        loop {
            match xml.next(&mut buffer)? {
                Event::Start(tag) if tag.local_name().as_ref() == "sheetData" => break,
                Event::Eof => return Err("the sheet has no cells".to_owned()),
                _ => {}
            }
        }
        let (value, formula) = (String::new(), String::new());
        Ok(Self { xml, strings, is_uncomputed, last: 0, buffer, value, formula })
    }

    /// The next row that is not blank; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<SheetRow>, String> {
        loop {
            match self.xml.next(&mut self.buffer)? {
                Event::Start(tag) if tag.local_name().as_ref() == "row" => {
                    let row = row_head(&tag)?;
                    let row = self.read_row(row)?;
                    if row.cells.iter().any(|(_, cell)| !is_blank(cell)) {
                        return Ok(Some(row));
                    }
                }
                Event::Start(_) => self.xml.skip()?,
                // To the end of the part, whose checksum comes last.
                Event::End(_) => while !matches!(self.xml.next(&mut self.buffer)?, Event::Eof) {},
                Event::Eof => return Ok(None),
                _ => {}
            }
        }
    }

    fn read_row(&mut self, (number, is_hidden): (Option<u32>, bool)) -> Result<SheetRow, String> {
        let mut row = SheetRow { number: number.unwrap_or(self.last + 1), is_hidden, cells: Vec::new() };
        let mut is_numbered = number.is_some();
        let mut next_column = 0;
        loop {
            match self.xml.next(&mut self.buffer)? {
                Event::Start(tag) if tag.local_name().as_ref() == "c" => {
                    let head = cell_head(&tag)?;
                    let column = match head.place {
                        Some((_, at)) if is_numbered && at != row.number => {
                            return Err(format!("row {} has a cell of row {at}", row.number));
                        }
                        Some((column, at)) => {
                            (row.number, is_numbered) = (at, true);
                            column
                        }
                        None => next_column,
                    };
                    if column < next_column || column >= MAX_COLUMNS {
                        return Err(format!("cell {} is out of order", cell_name(column, row.number)));
                    }
                    next_column = column + 1;
                    let cell = self
                        .read_cell(&head)
                        .map_err(|problem| format!("cell {}: {problem}", cell_name(column, row.number)))?;
                    row.cells.extend(cell.map(|cell| (column, cell)));
                }
                Event::Start(_) => self.xml.skip()?,
                Event::End(_) => break,
                _ => {}
            }
        }
        if row.number <= self.last || row.number > MAX_ROWS {
            return Err(format!("row {} is out of order", row.number));
        }
        self.last = row.number;
        Ok(row)
    }

    /// Reads a cell; `None` if it is blank.
    fn read_cell(&mut self, head: &Head) -> Result<Option<Cell>, String> {
        self.value.clear();
        self.formula.clear();
        let mut has_formula = false;
        loop {
            match self.xml.next(&mut self.buffer)? {
                Event::Start(tag) => match tag.local_name().as_ref() {
                    "v" if head.kind != Kind::Inline => self.xml.read_text(&mut self.value)?,
                    "is" if head.kind == Kind::Inline => self.xml.read_string(&mut self.value)?,
                    "f" => {
                        has_formula = true;
                        self.xml.read_text(&mut self.formula)?;
                    }
                    _ => self.xml.skip()?,
                },
                Event::End(_) => break,
                _ => {}
            }
        }
        // Pictures in cells: DISPIMG of WPS, IMAGE of Excel, and its "place in cell", an error with metadata.
        let is_image = |formula: &str| {
            let formula = formula.trim_start_matches('=').trim_start_matches("_xlfn.");
            formula.starts_with("DISPIMG(") || formula.starts_with("IMAGE(")
        };
        let is_placed = head.kind == Kind::Error && head.has_metadata && self.value == "#VALUE!";
        if is_image(&self.formula) || self.value.starts_with("=DISPIMG(") || is_placed {
            return Ok(Some(Cell::Picture));
        }
        let value = self.value.as_str();
        Ok(match head.kind {
            Kind::Shared if value.is_empty() => None,
            Kind::Shared => {
                let index = value.trim().parse().ok();
                let text = index.and_then(|index| self.strings.get(index)).ok_or("its text is missing")?;
                Some(Cell::Text(text.to_owned())).filter(|_| !text.is_empty())
            }
            Kind::Inline | Kind::FormulaText if value.is_empty() => None,
            Kind::Inline | Kind::FormulaText => Some(Cell::Text(unescape(value).into_owned())),
            Kind::Unnamed | Kind::Number | Kind::Bool | Kind::Error | Kind::IsoDate if value.trim().is_empty() => {
                has_formula.then_some(Cell::NotComputed)
            }
            Kind::Unnamed | Kind::Number => match value.trim().parse::<f64>() {
                // What programs write for a formula that only a spreadsheet computes.
                Ok(0.0) if has_formula && self.is_uncomputed => Some(Cell::NotComputed),
                Ok(number) => Some(Cell::Number(number, head.style)),
                Err(_) if head.kind == Kind::Unnamed => Some(Cell::Text(unescape(value).into_owned())),
                Err(_) => return Err("its number is damaged".to_owned()),
            },
            Kind::Bool => Some(Cell::Bool(matches!(value.trim(), "1" | "true"))),
            Kind::Error => Some(Cell::Error(value.to_owned())),
            Kind::IsoDate => Some(Cell::IsoDate(value.to_owned())),
        })
    }
}

fn is_blank(cell: &Cell) -> bool {
    matches!(cell, Cell::Text(text) if text.trim().is_empty())
}

/// Number of a row, if it has one, and whether it is hidden.
fn row_head(tag: &BytesStart<'_>) -> Result<(Option<u32>, bool), String> {
    let number = super::xml::attribute(tag, "r")?;
    let parse = |number: String| number.parse().map_err(|_| format!("it has a row numbered {number}"));
    Ok((number.map(parse).transpose()?, flag(tag, "hidden")?))
}

fn cell_head(tag: &BytesStart<'_>) -> Result<Head, String> {
    let mut head = Head::default();
    for attribute in tag.attributes().with_checks(false) {
        let attribute = attribute.map_err(|error| format!("its XML is damaged ({error})"))?;
        let value = &*attribute.value;
        match attribute.key.as_ref() {
            "r" => head.place = Some(parse_place(value).ok_or_else(|| format!("it has a cell named {value}"))?),
            "s" => head.style = value.parse().map_err(|_| format!("it has a cell of style {value}"))?,
            "vm" => head.has_metadata = true,
            "t" => {
                head.kind = match value {
                    "n" => Kind::Number,
                    "s" => Kind::Shared,
                    "inlineStr" => Kind::Inline,
                    "str" => Kind::FormulaText,
                    "b" => Kind::Bool,
                    "e" => Kind::Error,
                    "d" => Kind::IsoDate,
                    other => return Err(format!("it has a cell of type {other}")),
                }
            }
            _ => {}
        }
    }
    Ok(head)
}

/// Column from 0 and row from 1 of a name such as B7.
fn parse_place(name: &str) -> Option<(u32, u32)> {
    let digits = name.find(|c: char| !c.is_ascii_alphabetic())?;
    let (letters, row) = name.split_at(digits);
    if !(1..=3).contains(&letters.len()) || !row.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let column =
        letters.bytes().fold(0, |column, letter| column * 26 + u32::from(letter.to_ascii_uppercase() - b'A') + 1);
    Some((column - 1, row.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn name_of_a_cell_is_parsed_back(column in 0..MAX_COLUMNS, row in 1..=MAX_ROWS) {
            prop_assert_eq!(parse_place(&cell_name(column, row)), Some((column, row)));
        }

        #[test]
        fn any_name_of_a_cell_is_parsed_or_refused(name in "\\PC{0,9}") {
            parse_place(&name);
        }
    }

    #[test]
    fn odd_names_of_cells_are_refused() {
        for name in ["", "A", "7", "7A", "ABCD1", "A-1", "A1B", "É1", "A99999999999"] {
            assert_eq!(parse_place(name), None, "{name}");
        }
    }
}
