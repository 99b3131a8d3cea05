//! CSV and TSV.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
};

use csv::{ByteRecord, ReaderBuilder, StringRecord};

use super::{
    columns::{self, Columns},
    framing::{Framer, Piece, RECORD_CAP, Span},
    row::{Fields, Rules, bare},
    source::{Rows, Settings, SourceError},
};
use crate::domain::{Item, RawFields, RowDefect, RowError};

/// Quotes that are never closed are forgiven so often: each costs another look at up to a record's greatest length.
const OPEN_QUOTES: usize = 100;

/// Opens a table and understands its header.
pub(super) fn rows(path: &Path, delimiter: u8, root: &Path, settings: &Settings) -> Result<Rows, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    let mut framer = Framer::new(file, delimiter);
    let encoding = |encoding| SourceError::Encoding { path: path.to_owned(), encoding };
    match framer.peek().map_err(unreadable)? {
        [0xEF, 0xBB, 0xBF, ..] => framer.skip(3),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => return Err(encoding("UTF-16")),
        _ => {}
    }
    let mut parser = Parser::new(delimiter);
    let (line, header) = match framer.next().map_err(unreadable)? {
        Piece::Record(span, range) => (span.first, parser.parse(framer.bytes(range)).clone()),
        Piece::OpenQuote(span) | Piece::TooLong(span) => {
            let problem = "the header opens a quote that is never closed, or is no header".to_owned();
            return Err(SourceError::Header { path: path.to_owned(), line: span.first, problem });
        }
        Piece::End => return Err(SourceError::Empty { path: path.to_owned() }),
    };
    let header = StringRecord::from_byte_record(header).map_err(|_| encoding("no UTF-8"))?;
    let columns =
        columns::understand(&header).map_err(|problem| SourceError::Header { path: path.to_owned(), line, problem })?;
    if !columns.has_group && settings.group.is_none() {
        return Err(SourceError::NoGroup { path: path.to_owned() });
    }
    let rules = Rules { root: root.to_owned(), group: settings.group.clone() };
    Ok(Box::new(Table { path: path.to_owned(), framer, parser, columns, rules, open_quotes: 0, is_over: false }))
}

struct Table<R> {
    path: PathBuf,
    framer: Framer<R>,
    parser: Parser,
    columns: Columns,
    rules: Rules,
    open_quotes: usize,
    is_over: bool,
}

impl<R: Read> Table<R> {
    fn row(&self, span: Span, record: &ByteRecord) -> Result<Item, RowError> {
        let width = self.columns.names.len();
        if record.len() != width {
            let across = if span.last > span.first {
                format!("; it runs from line {} to line {}: is a quote not closed?", span.first, span.last)
            } else {
                String::new()
            };
            let message = format!("it has {} fields where the header has {width}{across}", record.len());
            return Err(self.unread(span, RowDefect::WrongFieldCount, message, record));
        }
        let record = match StringRecord::from_byte_record(record.clone()) {
            Ok(record) => record,
            Err(broken) => {
                let (field, byte) = (broken.utf8_error().field() + 1, broken.utf8_error().valid_up_to() + 1);
                let message = format!("field {field} is no UTF-8 from its byte {byte} on: save the file as UTF-8");
                return Err(self.unread(span, RowDefect::UnreadableRow, message, record));
            }
        };
        let extra = self.columns.extra.iter().filter(|(at, _)| !record[*at].is_empty());
        let extra = extra.map(|(at, name)| (name.clone(), record[*at].to_owned())).collect();
        match record.deserialize::<Fields<'_>>(Some(&self.columns.names)) {
            Ok(fields) => self.rules.item(span.first, &fields, extra),
            Err(error) => Err(bare(span.first, RowDefect::UnreadableRow, error.to_string(), None)),
        }
    }

    /// A record whose fields can't be trusted; what can be given back of them is.
    fn unread(&self, span: Span, defect: RowDefect, message: String, record: &ByteRecord) -> RowError {
        let field = |name: &str| {
            let at = self.columns.names.iter().position(|known| known == name)?;
            let text = String::from_utf8_lossy(record.get(at)?).into_owned();
            (!text.is_empty()).then_some(text)
        };
        let fields = Box::new(RawFields {
            path: field("path"),
            url: field("url"),
            user: field("merchant_user_id"),
            group: field("face_group_code"),
            extra: Vec::new(),
        });
        RowError { row: span.first, defect, message, fields }
    }
}

impl<R: Read> Iterator for Table<R> {
    type Item = Result<Result<Item, RowError>, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let piece = match self.framer.next() {
            Ok(piece) => piece,
            Err(source) => {
                self.is_over = true;
                return Some(Err(SourceError::Unreadable { path: self.path.clone(), source }));
            }
        };
        Some(match piece {
            Piece::Record(span, range) => {
                self.parser.parse(self.framer.bytes(range));
                Ok(self.row(span, &self.parser.record))
            }
            Piece::OpenQuote(span) => {
                self.open_quotes += 1;
                if self.open_quotes > OPEN_QUOTES {
                    self.is_over = true;
                    return Some(Err(SourceError::TooManyOpenQuotes {
                        path: self.path.clone(),
                        line: span.first,
                        count: OPEN_QUOTES,
                    }));
                }
                let message = format!(
                    "a quote that opens on line {} is not closed (looked for as far as line {}): this line is left out",
                    span.first, span.last
                );
                Ok(Err(bare(span.first, RowDefect::UnclosedQuote, message, None)))
            }
            Piece::TooLong(span) => {
                let message = format!("the record is longer than {RECORD_CAP} bytes: is a quote not closed?");
                Ok(Err(bare(span.first, RowDefect::RecordTooLong, message, None)))
            }
            Piece::End => {
                self.is_over = true;
                return None;
            }
        })
    }
}

/// Splits one record into its fields.
struct Parser {
    delimiter: u8,
    record: ByteRecord,
}

impl Parser {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, record: ByteRecord::new() }
    }

    fn parse(&mut self, bytes: &[u8]) -> &ByteRecord {
        let mut reader = ReaderBuilder::new()
            .delimiter(self.delimiter)
            .has_headers(false)
            .flexible(true)
            .buffer_capacity(bytes.len().max(1))
            .from_reader(bytes);
        // A slice does not fail, and a framed record is there.
        let _ = reader.read_byte_record(&mut self.record);
        &self.record
    }
}
