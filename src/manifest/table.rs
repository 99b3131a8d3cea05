//! CSV and TSV.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use csv::{ByteRecord, StringRecord};

use super::{
    columns::{self, Columns, OriginColumns},
    framing::{Framer, Piece, RECORD_CAP, Span},
    input::Input,
    row::{Fields, Others, Rules, bare, kept, origin},
    source::{At, Rows, Settings, SourceError},
};
use crate::domain::{Item, Origin, RawFields, RowDefect, RowError};

/// Quotes that are never closed are forgiven so often: each costs another look at up to a record's greatest length.
const OPEN_QUOTES: usize = 100;

/// Understands the header of a table.
pub(super) fn rows(input: Input, delimiter: u8, at: &At<'_>, settings: &Settings) -> Result<Rows, SourceError> {
    let path = at.path;
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let mut framer = Framer::new(input, Some(delimiter));
    skip_mark(&mut framer, path)?;
    let mut parser = Parser::new(delimiter);
    let (line, header) = match framer.next().map_err(unreadable)? {
        Piece::Record(span, range) => (span.first, parser.parse(framer.bytes(range)).clone()),
        Piece::OpenQuote(span) | Piece::TooLong(span) => {
            let problem = "the header opens a quote that is never closed, or is no header".to_owned();
            return Err(SourceError::Header { path: path.to_owned(), line: span.first, problem });
        }
        Piece::End => return Err(SourceError::Empty { path: path.to_owned() }),
    };
    let header = StringRecord::from_byte_record(header)
        .map_err(|_| SourceError::Encoding { path: path.to_owned(), encoding: "another encoding than UTF-8" })?;
    let columns = columns::understand(&header, &settings.columns).map_err(|problem| SourceError::Header {
        path: path.to_owned(),
        line,
        problem,
    })?;
    if !columns.has_group && settings.group.is_none() {
        return Err(SourceError::NoGroup { path: path.to_owned() });
    }
    if !columns.has_id && settings.id_from.is_none() && !columns.extra.is_empty() {
        // One of the others may be the id by a name of its own; then everyone would be enrolled as somebody else.
        let others: Vec<&str> = columns.extra.iter().map(|(_, name)| name.as_str()).collect();
        tracing::warn!(
            source = %path.display(),
            "no column is the id, so the photos' names are taken as ids: if it is one of {}, give --column \
             merchant_user_id=NAME; if this is meant, --id-from name",
            others.join(", ")
        );
    }
    let rules = Rules::new(at, settings);
    Ok(Box::new(Table { path: path.to_owned(), framer, parser, columns, rules, open_quotes: 0, is_over: false }))
}

/// Leaves out the mark of UTF-8, and refuses UTF-16, with a mark or without.
pub(super) fn skip_mark<R: Read>(framer: &mut Framer<R>, path: &Path) -> Result<(), SourceError> {
    match framer.peek().map_err(|source| SourceError::Unreadable { path: path.to_owned(), source })? {
        [0xEF, 0xBB, 0xBF, ..] => framer.skip(3),
        [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] | [0, _, ..] | [_, 0, ..] => {
            return Err(SourceError::Encoding { path: path.to_owned(), encoding: "UTF-16" });
        }
        _ => {}
    }
    Ok(())
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
        let origin = self.origin(|at| record.get(at));
        match record.deserialize::<Fields<'_>>(Some(&self.columns.names)) {
            Ok(fields) => self.rules.item(span.first, &fields, Others { extra, origin }),
            Err(error) => Err(bare(span.first, RowDefect::UnreadableRow, error.to_string(), None)),
        }
    }

    fn origin<'r>(&self, field: impl Fn(usize) -> Option<&'r str>) -> Option<Box<Origin>> {
        let OriginColumns { source, row, code } = self.columns.origin?;
        origin(field(source)?, field(row)?, code.and_then(&field))
    }

    /// A record whose fields can't be trusted; what can be given back of them is.
    fn unread(&self, span: Span, defect: RowDefect, message: String, record: &ByteRecord) -> RowError {
        let field = |name: &str| {
            let at = self.columns.names.iter().position(|known| known == name)?;
            let text = String::from_utf8_lossy(record.get(at)?);
            kept(Some(&text).filter(|text| !text.is_empty()).map(AsRef::as_ref))
        };
        let fields = Box::new(RawFields {
            path: field("path"),
            url: field("url"),
            user: field("merchant_user_id"),
            group: field("face_group_code"),
            extra: Vec::new(),
            origin: self.origin(|at| str::from_utf8(record.get(at)?).ok()),
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

/// Splits one record into its fields. A `csv::Reader` for each record would cost more than all the rest of the reading,
/// for the tables that it builds; the state machine beneath it can be used again.
struct Parser {
    machine: csv_core::Reader,
    fields: Vec<u8>,
    ends: Vec<usize>,
    record: ByteRecord,
}

impl Parser {
    fn new(delimiter: u8) -> Self {
        let machine = csv_core::ReaderBuilder::new().delimiter(delimiter).build();
        Self { machine, fields: Vec::new(), ends: Vec::new(), record: ByteRecord::new() }
    }

    /// Fields are never longer than their record, and never more than its bytes and one.
    fn parse(&mut self, bytes: &[u8]) -> &ByteRecord {
        self.fields.resize(bytes.len().max(self.fields.len()), 0);
        self.ends.resize((bytes.len() + 1).max(self.ends.len()), 0);
        self.machine.reset();
        let (mut read, mut written, mut ended) = (0, 0, 0);
        loop {
            let (result, r, w, e) =
                self.machine.read_record(&bytes[read..], &mut self.fields[written..], &mut self.ends[ended..]);
            (read, written, ended) = (read + r, written + w, ended + e);
            // With no input left, the machine is told that there is none.
            if !matches!(result, csv_core::ReadRecordResult::InputEmpty) {
                break;
            }
        }
        self.record.clear();
        let mut from = 0;
        for &end in &self.ends[..ended] {
            self.record.push_field(&self.fields[from..end]);
            from = end;
        }
        &self.record
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{FaceGroupCode, PictureRef},
        manifest::{Settings, open},
    };

    fn settings() -> Settings {
        Settings { group: Some(FaceGroupCode::parse("g").unwrap()), ..Settings::default() }
    }

    fn read_as(name: &str, bytes: &[u8], settings: &Settings) -> Result<Vec<Result<Item, RowError>>, SourceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        open(&path, settings)?.collect()
    }

    fn read(text: &str) -> Vec<Result<Item, RowError>> {
        read_as("m.csv", text.as_bytes(), &settings()).unwrap()
    }

    /// `row user file` of each item, `row code` of each that is none.
    fn shown(text: &str) -> Vec<String> {
        let show = |row: &Result<Item, RowError>| match row {
            Ok(Item { row, user, picture: PictureRef::Path(path), .. }) => {
                format!("{row} {user} {}", path.file_name().unwrap().to_string_lossy())
            }
            Ok(Item { row, user, picture: PictureRef::Url(url), .. }) => format!("{row} {user} {url}"),
            Err(error) => format!("{} {}", error.row, error.defect.code()),
        };
        read(text).iter().map(show).collect()
    }

    #[test]
    fn bom_line_ends_and_quotes_do_not_matter() {
        let expected = ["2 张三 a b.jpg", "3 u2 c.jpg"];
        for text in [
            "path,merchant_user_id\na b.jpg,张三\nc.jpg,u2\n",
            "\u{feff}path,merchant_user_id\r\n\"a b.jpg\",张三\r\nc.jpg,\"u2\"",
            "path,merchant_user_id\ra b.jpg,张三\rc.jpg,u2\r",
        ] {
            assert_eq!(shown(text), expected, "{text:?}");
        }
        let tabs = read_as("m.TSV", b"path\tid\na.jpg\tu1\n", &settings()).unwrap();
        assert_eq!(tabs[0].as_ref().unwrap().user.as_str(), "u1");
    }

    #[test]
    fn row_is_the_physical_line_also_behind_long_and_blank_records() {
        let text = "path,id,note\n\na.jpg,u1,\"two\nlines\"\n\n\nb.jpg,u2,x\n";
        assert_eq!(shown(text), ["3 u1 a.jpg", "7 u2 b.jpg"]);
    }

    #[test]
    fn row_without_an_id_takes_the_photos_name_and_links_their_last_part() {
        let text = "path,url,id\nx/Zoë.01.jpg,,\n,https://h/p/%E5%BC%A0.jpg?Signature=s,\n,https://h/q.jpg,u3\n";
        let expected = ["2 Zoë.01 Zoë.01.jpg", "3 张 https://h/p/%E5%BC%A0.jpg?…", "4 u3 https://h/q.jpg"];
        assert_eq!(shown(text), expected);
    }

    #[test]
    fn bad_row_is_named_with_its_line_and_the_rest_goes_on() {
        let long = "x".repeat(33);
        let text = format!(
            "path,url,id,group\n,,u1,\na.jpg,http://h/b.jpg,u2,\n,ftp://h/a,u3,\n../a.jpg,,u4,\na.jpg,,{long},\n\
             a.jpg,, u6,\na.jpg\na.jpg,,u8,\" \"\na.jpg,,u9,\n"
        );
        assert_eq!(
            shown(&text),
            [
                "2 MissingPicture",
                "3 TwoPictures",
                "4 InvalidUrl",
                "5 OutsideRoot",
                "6 InvalidUserId",
                "7 InvalidUserId",
                "8 WrongFieldCount",
                "9 InvalidGroup",
                "10 u9 a.jpg",
            ]
        );
    }

    #[test]
    fn refused_row_keeps_what_was_written() {
        let rows = read("path,id,department\n../a.jpg,u1,R&D\n");
        let error = rows[0].as_ref().unwrap_err();
        assert_eq!(error.fields.path.as_deref(), Some("../a.jpg"));
        assert_eq!(error.fields.user.as_deref(), Some("u1"));
        assert_eq!(error.fields.group.as_deref(), Some("g"));
        assert_eq!(error.fields.extra, [("department".to_owned(), "R&D".to_owned())]);
    }

    #[test]
    fn swallowed_lines_are_told_as_such() {
        let rows = read("path,id\n\"a.jpg,u1\nb.jpg,\"u2\nc.jpg,u3\n");
        let error = rows[0].as_ref().unwrap_err();
        assert!(error.message.contains("runs from line 2 to line 3: is a quote not closed?"), "{}", error.message);
    }

    #[test]
    fn bytes_that_are_no_utf_8_are_found_by_field_and_byte() {
        let rows = read_as("m.csv", b"path,id\na.jpg,u\xff1\nb.jpg,u2\n", &settings()).unwrap();
        let error = rows[0].as_ref().unwrap_err();
        assert!(error.message.contains("field 2 is no UTF-8 from its byte 2"), "{}", error.message);
        assert!(rows[1].is_ok());
    }

    #[test]
    fn other_encodings_and_empty_files_are_refused_with_a_remedy() {
        for bytes in [&b"\xff\xfep\0a\0"[..], b"\xfe\xff\0p\0a", b"p\0a\0t\0"] {
            let refused = read_as("m.csv", bytes, &settings()).unwrap_err();
            assert!(refused.to_string().contains("UTF-16"), "{refused}");
            assert!(refused.to_string().contains("save it as UTF-8"), "{refused}");
        }
        assert!(matches!(read_as("m.csv", b"", &settings()), Err(SourceError::Empty { .. })));
        assert!(matches!(read_as("m.csv", b"\n\n", &settings()), Err(SourceError::Empty { .. })));
        assert!(matches!(read_as("m.xlsx", b"PK", &settings()), Err(SourceError::UnknownKind { .. })));
    }

    #[test]
    fn group_has_to_come_from_somewhere() {
        let nowhere = Settings::default();
        let missing = read_as("m.csv", b"path,id\na.jpg,u1\n", &nowhere).unwrap_err();
        assert!(missing.is_usage() && missing.to_string().contains("--group"), "{missing}");
        let rows = read_as("m.csv", b"path,id,group\na.jpg,u1,g7\nb.jpg,u2,\n", &nowhere).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().group.as_str(), "g7");
        assert_eq!(rows[1].as_ref().unwrap_err().defect, RowDefect::MissingGroup);
    }

    #[test]
    fn file_of_nothing_but_open_quotes_ends_in_bounded_time() {
        // Read by itself such a line opens a quote; read within one it closes it and opens another.
        let text = |lines: usize| format!("path,id\n{}", "a\"b,\"c\n".repeat(lines));
        let rows = read_as("m.csv", text(OPEN_QUOTES).as_bytes(), &settings()).unwrap();
        assert!(rows.iter().all(|row| row.as_ref().is_err_and(|error| error.defect == RowDefect::UnclosedQuote)));
        assert_eq!(rows.len(), OPEN_QUOTES);
        let refused = read_as("m.csv", text(OPEN_QUOTES + 1).as_bytes(), &settings()).unwrap_err();
        assert!(matches!(refused, SourceError::TooManyOpenQuotes { line: 102, count: OPEN_QUOTES, .. }), "{refused:?}");
    }
}
