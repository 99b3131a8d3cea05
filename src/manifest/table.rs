//! Reads CSV and TSV tables.

use std::{
    io::Read,
    path::{Path, PathBuf},
};

use csv::{ByteRecord, StringRecord};

use super::{
    columns::{self, Columns, OriginColumns},
    dialect::{self, Delimiter},
    error::SourceError,
    framing::{Frame, Framer, LineSpan, RECORD_CAP},
    input::Input,
    options::{Row, Rows, Settings, SourcePath},
    record_parser::RecordParser,
    row::{Fields, OtherFields, RowBuilder, origin, row_error, storable, storable_photo},
    text::{Text, undecodable},
};
use crate::domain::{Origin, RawFields, RowError, RowErrorKind};

/// Most unclosed quotes tolerated: each costs another scan of up to [`RECORD_CAP`] bytes.
const MAX_UNCLOSED_QUOTES: usize = 100;

/// Reads the header of a table. `usual` is the delimiter if none can be detected.
pub(super) fn rows(
    text: Text,
    usual: Delimiter,
    at: &SourcePath<'_>,
    settings: &Settings,
) -> Result<Rows, SourceError> {
    let path = at.path;
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let Text { input, encoding } = text;
    let mut framer = Framer::new(input, None);
    let delimiter = delimiter(&mut framer, usual, settings).map_err(unreadable)?;
    framer.set_delimiter(delimiter.0);
    let mut parser = RecordParser::new(delimiter.0);
    let (line, header) = loop {
        match framer.next().map_err(unreadable)? {
            Frame::Record(span, range) => {
                let record = parser.parse(framer.bytes(range));
                if !is_blank(record) {
                    break (span.first, record.clone());
                }
            }
            Frame::OpenQuote(span) | Frame::TooLong(span) => {
                let problem = "the header has an unclosed quote, or is not a header".to_owned();
                return Err(SourceError::Header { path: path.to_owned(), line: span.first, problem });
            }
            Frame::End => return Err(SourceError::Empty { path: path.to_owned() }),
        }
    };
    let header = StringRecord::from_byte_record(header).map_err(|_| SourceError::Encoding {
        path: path.to_owned(),
        line,
        problem: undecodable(encoding),
    })?;
    let columns = resolve_columns(&header, line, path, settings)?;
    let builder = RowBuilder::new(at, settings);
    Ok(Box::new(Table {
        path: path.to_owned(),
        encoding,
        framer,
        parser,
        columns,
        builder,
        unclosed_quotes: 0,
        has_warned: false,
        zeros: LeadingZeros::default(),
        is_over: false,
    }))
}

/// Maps the columns of a header that is on this line, and refuses a table without an id or a group.
pub(super) fn resolve_columns(
    header: &StringRecord,
    line: u64,
    path: &Path,
    settings: &Settings,
) -> Result<Columns, SourceError> {
    let columns = columns::resolve(header, &settings.columns).map_err(|problem| SourceError::Header {
        path: path.to_owned(),
        line,
        problem,
    })?;
    // Another column may be the id under an unknown name; taking the photos' names would enroll everyone under wrong ids.
    if !columns.has_id && settings.id_from.is_none() && has_extra_columns(header, &columns) {
        return Err(SourceError::NoIdColumn {
            path: path.to_owned(),
            line,
            columns: header.iter().map(str::trim).collect::<Vec<_>>().join(", "),
            suggestion: columns::suggest_id_column(&columns),
        });
    }
    if !columns.has_group && settings.group.is_none() {
        return Err(SourceError::NoGroup { path: path.to_owned() });
    }
    Ok(columns)
}

/// The delimiter from the flag, from a first line `sep=;`, or from the header.
fn delimiter(framer: &mut Framer<Input>, usual: Delimiter, settings: &Settings) -> std::io::Result<Delimiter> {
    let first_line = |bytes: &[u8], is_at_end: bool| {
        let end = bytes.iter().position(|&byte| byte == b'\n' || byte == b'\r');
        end.or(is_at_end.then_some(bytes.len())).map(|end| dialect::from_sep_line(&bytes[..end]))
    };
    let named = framer.peek(first_line)?.flatten();
    if named.is_some() {
        framer.skip_line()?;
    }
    if let Some(delimiter) = settings.delimiter.or(named) {
        return Ok(delimiter);
    }
    let header = framer.peek(|bytes, is_at_end| dialect::find_header(bytes, is_at_end).map(<[u8]>::to_vec))?;
    Ok(dialect::detect(&header.unwrap_or_default(), usual, &settings.columns))
}

/// Whether there are extra columns. Unnamed columns at the end come from trailing delimiters and don't count.
fn has_extra_columns(header: &StringRecord, columns: &Columns) -> bool {
    let last_named = header.iter().enumerate().filter(|(_, name)| !name.trim().is_empty()).last();
    columns.extra.iter().any(|(at, _)| last_named.is_some_and(|(last, _)| *at <= last))
}

/// Whether all fields are blank, as in the rows that spreadsheets write below the last one.
fn is_blank(record: &ByteRecord) -> bool {
    record.iter().all(|field| str::from_utf8(field).is_ok_and(|text| text.trim().is_empty()))
}

struct Table<R> {
    path: PathBuf,
    /// Original encoding of the text.
    encoding: Option<&'static str>,
    framer: Framer<R>,
    parser: RecordParser,
    columns: Columns,
    builder: RowBuilder,
    unclosed_quotes: usize,
    has_warned: bool,
    zeros: LeadingZeros,
    is_over: bool,
}

/// Ids that are digits alone: whether some begin with 0 while shorter ones do not, as after a spreadsheet has opened the file.
#[derive(Debug, Default)]
struct LeadingZeros {
    longest_with: Option<usize>,
    shortest_without: Option<usize>,
    has_warned: bool,
}

impl LeadingZeros {
    /// True for the first id that shows it.
    fn are_lost(&mut self, id: &str) -> bool {
        if self.has_warned || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return false;
        }
        if id.len() > 1 && id.starts_with('0') {
            self.longest_with = self.longest_with.max(Some(id.len()));
        } else {
            self.shortest_without = Some(self.shortest_without.map_or(id.len(), |shortest| shortest.min(id.len())));
        }
        let (with, without) = (self.longest_with, self.shortest_without);
        self.has_warned = with.zip(without).is_some_and(|(with, without)| without < with);
        self.has_warned
    }
}

impl<R: Read> Table<R> {
    fn row(&self, span: LineSpan, record: &ByteRecord) -> Row {
        let width = self.columns.names.len();
        let is_sound = record.len() >= self.columns.min_fields && record.iter().skip(width).all(<[u8]>::is_empty);
        if !is_sound {
            let span_note = if span.last > span.first {
                format!("; it spans lines {} to {}: is a quote not closed?", span.first, span.last)
            } else {
                String::new()
            };
            let message = format!("it has {} fields, the header has {width}{span_note}", record.len());
            return Err(self.error_with_fields(span, RowErrorKind::WrongFieldCount, message, record));
        }
        let mut record = match StringRecord::from_byte_record(record.clone()) {
            Ok(record) => record,
            Err(broken) => {
                let (field, byte) = (broken.utf8_error().field() + 1, broken.utf8_error().valid_up_to() + 1);
                let message = format!("field {field}, byte {byte}: it {}", undecodable(self.encoding));
                return Err(self.error_with_fields(span, RowErrorKind::UnreadableRow, message, record));
            }
        };
        // Missing fields at the end are empty, and so are the fields beyond the header.
        record.truncate(width);
        (record.len()..width).for_each(|_| record.push_field(""));
        let extra = self.columns.extra.iter().filter(|(at, _)| !record[*at].is_empty());
        let extra = extra.map(|(at, name)| (name.clone(), record[*at].to_owned())).collect();
        let origin = self.origin(|at| record.get(at));
        match record.deserialize::<Fields<'_>>(Some(&self.columns.names)) {
            Ok(fields) => {
                let fields = Fields { needs_id: self.columns.has_id, ..fields };
                self.builder.item(span.first, &fields, OtherFields { extra, origin })
            }
            Err(error) => Err(row_error(span.first, RowErrorKind::UnreadableRow, error.to_string(), None)),
        }
    }

    fn origin<'r>(&self, field: impl Fn(usize) -> Option<&'r str>) -> Option<Box<Origin>> {
        let OriginColumns { source, row, code } = self.columns.origin?;
        origin(field(source)?, field(row)?, code.and_then(&field))
    }

    /// The error of a record that can't be parsed, with the fields that can be shown.
    fn error_with_fields(
        &self,
        span: LineSpan,
        defect: RowErrorKind,
        message: String,
        record: &ByteRecord,
    ) -> RowError {
        let field = |name: &str| {
            let at = self.columns.names.iter().position(|known| known == name)?;
            // A replacement character would look like what was written.
            let text = str::from_utf8(record.get(at)?).ok()?;
            Some(text).filter(|text| !text.is_empty())
        };
        let (path, url) = storable_photo(field("path"), field("url"));
        let fields = Box::new(RawFields {
            path,
            url,
            user: storable(field("merchant_user_id")),
            group: storable(field("face_group_code")),
            extra: Vec::new(),
            origin: self.origin(|at| str::from_utf8(record.get(at)?).ok()),
        });
        RowError { row: span.first, defect, message, fields }
    }
}

impl<R: Read> Iterator for Table<R> {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let piece = loop {
            match self.framer.next() {
                Ok(Frame::Record(span, range)) => {
                    if !is_blank(self.parser.parse(self.framer.bytes(range.clone()))) {
                        break Frame::Record(span, range);
                    }
                }
                Ok(piece) => break piece,
                Err(source) => {
                    self.is_over = true;
                    return Some(Err(SourceError::Unreadable { path: self.path.clone(), source }));
                }
            }
        };
        Some(match piece {
            Frame::Record(span, _) => {
                let row = self.row(span, self.parser.record());
                let is_undecodable = row.as_ref().is_err_and(|error| error.defect == RowErrorKind::UnreadableRow);
                if is_undecodable && !std::mem::replace(&mut self.has_warned, true) {
                    tracing::warn!(source = %self.path.display(), row = span.first, "a row {}", undecodable(self.encoding));
                }
                if let Ok(item) = &row
                    && self.zeros.are_lost(item.user.as_str())
                {
                    tracing::warn!(
                        source = %self.path.display(),
                        row = span.first,
                        "some ids begin with 0 and others are shorter: a spreadsheet may have dropped zeros, and such an id \
                         enrols its person a second time; compare the ids with their source"
                    );
                }
                Ok(row)
            }
            Frame::OpenQuote(span) => {
                self.unclosed_quotes += 1;
                if self.unclosed_quotes > MAX_UNCLOSED_QUOTES {
                    self.is_over = true;
                    return Some(Err(SourceError::UnclosedQuotes {
                        path: self.path.clone(),
                        line: span.first,
                        count: MAX_UNCLOSED_QUOTES,
                    }));
                }
                let message = format!(
                    "the quote opened on line {} is not closed (searched up to line {}): this line is skipped",
                    span.first, span.last
                );
                Ok(Err(row_error(span.first, RowErrorKind::UnclosedQuote, message, None)))
            }
            Frame::TooLong(span) => {
                let message = format!("the record is longer than {RECORD_CAP} bytes: is a quote not closed?");
                Ok(Err(row_error(span.first, RowErrorKind::RecordTooLong, message, None)))
            }
            Frame::End => {
                self.is_over = true;
                return None;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        domain::{Item, PhotoSource},
        manifest::{
            IdFrom, Settings,
            test_support::{read_as, settings},
        },
    };

    fn read(text: &str) -> Vec<Row> {
        read_as("m.csv", text.as_bytes(), &settings()).unwrap()
    }

    /// Shows an item as `row user file`, an invalid row as `row code`.
    fn show(row: &Row) -> String {
        match row {
            Ok(Item { picture: PhotoSource::Member(_) | PhotoSource::Object(..), .. }) => {
                unreachable!("paths and links only")
            }
            Ok(Item { row, user, picture: PhotoSource::Path(path), .. }) => {
                format!("{row} {user} {}", path.file_name().unwrap().to_string_lossy())
            }
            Ok(Item { row, user, picture: PhotoSource::Url(url), .. }) => format!("{row} {user} {url}"),
            Err(error) => format!("{} {}", error.row, error.defect.code()),
        }
    }

    fn shown(text: &str) -> Vec<String> {
        read(text).iter().map(show).collect()
    }

    #[test]
    fn lost_leading_zeros_are_noticed_once() {
        for (ids, at) in [
            (&["00010", "6"][..], Some(1)),
            (&["6", "12", "00010", "7"], Some(2)),
            (&["00010", "12345", "a1", "00011"], None),
            (&["6", "12", "345", "0"], None),
        ] {
            let mut zeros = LeadingZeros::default();
            let seen: Vec<usize> = (0..ids.len()).filter(|&n| zeros.are_lost(ids[n])).collect();
            assert_eq!(seen, Vec::from_iter(at), "{ids:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn zeros_are_lost_where_a_shorter_id_stands_beside_one_with_zeros(
            ids in proptest::collection::vec("0{0,2}[1-9][0-9]{0,3}|[a-z]1", 0..8),
        ) {
            let mut zeros = LeadingZeros::default();
            let warnings = ids.iter().filter(|id| zeros.are_lost(id)).count();
            let numbers = || ids.iter().filter(|id| !id.starts_with(|c: char| c.is_ascii_lowercase()));
            let is_lost = numbers()
                .any(|long| long.starts_with('0') && numbers().any(|id| !id.starts_with('0') && id.len() < long.len()));
            proptest::prop_assert_eq!(warnings, usize::from(is_lost), "{:?}", ids);
        }
    }

    #[test]
    fn bom_line_ends_and_quotes_are_handled() {
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
    fn row_number_is_the_physical_line() {
        let text = "path,id,note\n\na.jpg,u1,\"two\nlines\"\n\n\nb.jpg,u2,x\n";
        assert_eq!(shown(text), ["3 u1 a.jpg", "7 u2 b.jpg"]);
    }

    #[test]
    fn photo_name_is_the_id_without_other_columns() {
        let text = "path,url,group\nx/Zoë.01.jpg,,\n,https://h/p/%E5%BC%A0.jpg?Signature=s,\n";
        assert_eq!(shown(text), ["2 Zoë.01 Zoë.01.jpg", "3 张 https://h/p/%E5%BC%A0.jpg?…"]);
        let text = "path,id\nx/Zoë.jpg,\nb.jpg,u2\n";
        assert_eq!(shown(text), ["2 MissingUserId", "3 u2 b.jpg"], "an id column has the ids");
        let by_name = Settings { id_from: Some(IdFrom::Name), ..settings() };
        let rows = read_as("m.csv", text.as_bytes(), &by_name).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().user.as_str(), "Zoë");
    }

    #[test]
    fn table_without_id_column_is_refused_with_advice() {
        let refused = read_as("m.csv", b"Emp ID,Photo\n1001,a.jpg\n", &settings()).unwrap_err();
        let words = refused.to_string();
        assert!(refused.is_usage(), "{words}");
        assert!(words.contains("--column merchant_user_id=\"Emp ID\"") && words.contains("--id-from name"), "{words}");
        assert!(read_as("m.csv", b",path\n0,a.jpg\n", &settings()).is_err(), "as pandas writes its index");
        let given = Settings { columns: vec!["merchant_user_id=Emp ID".parse().unwrap()], ..settings() };
        let rows = read_as("m.csv", b"Emp ID,Photo\n1001,a.jpg\n", &given).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().user.as_str(), "1001");
        assert_eq!(shown("path,\na.jpg,\n"), ["2 a a.jpg"], "a comma too many is no column");
    }

    #[test]
    fn blank_rows_are_skipped() {
        let text = "\n,,\npath,id,note\n,,\n \t,\u{A0},\n\"\",\"\",\"\"\na.jpg,u1,\n,,,,\n , ,\n,\n\x1A\0\0";
        assert_eq!(shown(text), ["7 u1 a.jpg"]);
    }

    #[test]
    fn missing_trailing_cells_are_empty() {
        let text = "path,id,dept,note\na.jpg,u1\nb.jpg,u2,x\nc.jpg\nd.jpg,u4,x,y,,\ne.jpg,u5,x,y,z\n";
        assert_eq!(shown(text), ["2 u1 a.jpg", "3 u2 b.jpg", "4 WrongFieldCount", "5 u4 d.jpg", "6 WrongFieldCount"]);
        assert_eq!(shown("dept,path,id\nx,a.jpg\n,b.jpg,u2"), ["2 WrongFieldCount", "3 u2 b.jpg"]);
        let rows = read("path,id,dept\na.jpg,u1\n");
        assert_eq!(rows[0].as_ref().unwrap().extra, []);
    }

    #[test]
    fn columns_with_the_same_name_are_kept() {
        let rows = read("path,id,Name,Name\na.jpg,u1,x,y\n");
        let extra = rows[0].as_ref().unwrap().extra.clone();
        assert_eq!(extra, [("Name".to_owned(), "x".to_owned()), ("Name 2".to_owned(), "y".to_owned())]);
    }

    #[test]
    fn delimiter_is_given_or_detected() {
        let expected = ["2 u1 a.jpg"];
        for (text, given) in [
            ("path;id\na.jpg;u1\n", None),
            ("path|id|\"a;b\"\na.jpg|u1|\n", None),
            ("path\tid\na.jpg\tu1\n", None),
            ("path^id\na.jpg^u1\n", Some("^")),
            ("path id\na.jpg u1\n", Some(" ")),
        ] {
            let settings = Settings { delimiter: given.map(|given| given.parse().unwrap()), ..settings() };
            for name in ["m.csv", "m.tsv"] {
                let rows = read_as(name, text.as_bytes(), &settings).unwrap();
                assert_eq!(rows.iter().map(show).collect::<Vec<_>>(), expected, "{name} {text:?}");
            }
        }
        assert_eq!(shown("sep=;\r\npath;id\r\na,1.jpg;u1\r\n"), ["3 u1 a,1.jpg"]);
        let overruled = Settings { delimiter: ",".parse().ok(), ..settings() };
        assert_eq!(read_as("m.csv", b"sep=;\npath,id\na.jpg,u1\n", &overruled).unwrap().len(), 1);
    }

    #[test]
    fn damaged_ids_are_rejected_unless_allowed() {
        let text = "path,id\na.jpg,6.22848E+17\nb.jpg,1001.0\nc.jpg,\"=\"\"00123\"\"\"\nd.jpg,#N/A\ne.jpg,NULL\n\
                    f.jpg,nan\ng.jpg,'0042\nh.jpg,#REF!\n";
        let refused: Vec<String> = (2..10).map(|row| format!("{row} SuspiciousUserId")).collect();
        assert_eq!(shown(text), refused);
        let rows = read_as("m.csv", text.as_bytes(), &Settings { allow_odd_ids: true, ..settings() }).unwrap();
        assert_eq!(rows[2].as_ref().unwrap().user.as_str(), "=\"00123\"");
        assert!(rows.iter().all(Result::is_ok));
        let hidden = "path,id\na.jpg,E\u{200B}1\n";
        let odd = Settings { allow_odd_ids: true, ..settings() };
        let error = read_as("m.csv", hidden.as_bytes(), &odd).unwrap().remove(0).unwrap_err();
        assert_eq!(error.defect, RowErrorKind::InvalidUserId);
        assert!(error.message.contains("U+200B ZERO WIDTH SPACE at character 2"), "{}", error.message);
    }

    #[test]
    fn bad_row_is_reported_and_reading_continues() {
        let long = "x".repeat(33);
        let text = format!(
            "path,url,id,group\n,,u1,\na.jpg,http://h/b.jpg,u2,\n,ftp://h/a,u3,\n../a.jpg,,u4,\na.jpg,,{long},\n\
             a.jpg,, u6,\na.jpg\na.jpg,,u8,\" \"\na.jpg,,u9,\n"
        );
        assert_eq!(
            shown(&text),
            [
                "2 MissingPicture", "3 TwoPictures", "4 InvalidUrl", "5 OutsideRoot", "6 InvalidUserId",
                "7 InvalidUserId", "8 WrongFieldCount", "9 InvalidGroup", "10 u9 a.jpg",
            ]
        );
    }

    #[test]
    fn rejected_row_keeps_its_fields() {
        let rows = read("path,id,department\n../a.jpg,u1,R&D\n");
        let error = rows[0].as_ref().unwrap_err();
        assert_eq!(error.fields.path.as_deref(), Some("../a.jpg"));
        assert_eq!(error.fields.user.as_deref(), Some("u1"));
        assert_eq!(error.fields.group.as_deref(), Some("g"));
        assert_eq!(error.fields.extra, [("department".to_owned(), "R&D".to_owned())]);
    }

    #[test]
    fn record_over_several_lines_is_reported() {
        let rows = read("path,id\n\"a.jpg,u1\nb.jpg,\"u2\nc.jpg,u3\n");
        let error = rows[0].as_ref().unwrap_err();
        assert!(error.message.contains("spans lines 2 to 3: is a quote not closed?"), "{}", error.message);
    }

    #[test]
    fn invalid_utf8_is_located_by_field_and_byte() {
        let rows = read_as("m.csv", b"path,id\na.jpg,u\xff1\nb.jpg,u2\n", &settings()).unwrap();
        let error = rows[0].as_ref().unwrap_err();
        assert!(error.message.contains("field 2, byte 2: it is not UTF-8: give --encoding NAME"), "{}", error.message);
        assert_eq!(error.fields.user, None, "no replacement character in an id");
        assert!(rows[1].is_ok());
        let gbk = Settings { encoding: "gbk".parse().ok(), ..settings() };
        let rows = read_as("m.csv", b"path,id\na.jpg,\xD5\xC5\xFF1\nb.jpg,\xD5\xC5\n", &gbk).unwrap();
        let error = rows[0].as_ref().unwrap_err();
        assert!(error.message.contains("field 2, byte 4: it is not GBK"), "{}", error.message);
        assert_eq!(rows[1].as_ref().unwrap().user.as_str(), "张");
    }

    #[test]
    fn empty_and_undecodable_files_are_refused_with_advice() {
        let refused = read_as("m.csv", b"\xCE\xC4\xBC\xFE,id\na.jpg,u1\n", &settings()).unwrap_err();
        assert!(refused.to_string().contains("line 1: the header is not UTF-8: give --encoding NAME"), "{refused}");
        for empty in [&b""[..], b"\n\n", b"\xEF\xBB\xBF", b"\xFF\xFE", b"\0\0\0\0", b",,\n ,\n", b"sep=;\n"] {
            assert!(matches!(read_as("m.csv", empty, &settings()), Err(SourceError::Empty { .. })), "{empty:?}");
        }
    }

    #[test]
    fn group_is_required() {
        let nowhere = Settings::default();
        let missing = read_as("m.csv", b"path,id\na.jpg,u1\n", &nowhere).unwrap_err();
        assert!(missing.is_usage() && missing.to_string().contains("--group"), "{missing}");
        let rows = read_as("m.csv", b"path,id,group\na.jpg,u1,g7\nb.jpg,u2,\n", &nowhere).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().group.as_str(), "g7");
        assert_eq!(rows[1].as_ref().unwrap_err().defect, RowErrorKind::MissingGroup);
    }

    #[test]
    fn unclosed_quotes_end_in_bounded_time() {
        // Read by itself such a line opens a quote; read within one it closes it and opens another.
        let text = |lines: usize| format!("path,id\n{}", "a\"b,\"c\n".repeat(lines));
        let rows = read_as("m.csv", text(MAX_UNCLOSED_QUOTES).as_bytes(), &settings()).unwrap();
        assert!(rows.iter().all(|row| row.as_ref().is_err_and(|error| error.defect == RowErrorKind::UnclosedQuote)));
        assert_eq!(rows.len(), MAX_UNCLOSED_QUOTES);
        let refused = read_as("m.csv", text(MAX_UNCLOSED_QUOTES + 1).as_bytes(), &settings()).unwrap_err();
        assert!(
            matches!(refused, SourceError::UnclosedQuotes { line: 102, count: MAX_UNCLOSED_QUOTES, .. }),
            "{refused:?}"
        );
    }
    /// A table as some program writes it: delimiter, quoting, line ends, encoding and compression.
    #[derive(Debug, Clone)]
    struct Written {
        delimiter: u8,
        quotes: csv::QuoteStyle,
        line_end: csv::Terminator,
        encoding: &'static str,
        has_sep_line: bool,
        compression: &'static str,
    }

    fn written() -> impl Strategy<Value = Written> {
        let quotes = prop::sample::select(vec![csv::QuoteStyle::Necessary, csv::QuoteStyle::Always]);
        let line_end =
            prop::sample::select(vec![csv::Terminator::CRLF, csv::Terminator::Any(b'\n'), csv::Terminator::Any(b'\r')]);
        let encoding = prop::sample::select(vec![
            "utf-8", "utf-8 bom", "utf-16le bom", "utf-16be bom", "utf-16le", "gbk", "gb18030", "big5", "shift_jis",
            "euc-kr", "windows-1252",
        ]);
        let (delimiter, compression) =
            (prop::sample::select(b",;\t|".to_vec()), prop::sample::select(vec!["", ".gz", ".zst"]));
        (delimiter, quotes, line_end, encoding, any::<bool>(), compression).prop_map(
            |(delimiter, quotes, line_end, encoding, has_sep_line, compression)| Written {
                delimiter,
                quotes,
                line_end,
                encoding,
                has_sep_line,
                compression,
            },
        )
    }

    impl Written {
        /// Writes the table; `None` if the encoding lacks some of its characters.
        fn bytes(&self, records: &[[String; 4]]) -> Option<Vec<u8>> {
            let mut writer = csv::WriterBuilder::new()
                .delimiter(self.delimiter)
                .quote_style(self.quotes)
                .terminator(self.line_end)
                .from_writer(Vec::new());
            writer.write_record(["note", "path", "Name", "merchant_user_id"]).unwrap();
            records.iter().for_each(|record| writer.write_record(record).unwrap());
            let mut text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            if self.has_sep_line {
                text.insert_str(0, &format!("sep={}\r\n", char::from(self.delimiter)));
            }
            let (name, mark) =
                self.encoding.split_once(' ').map_or((self.encoding, ""), |(name, _)| (name, "\u{FEFF}"));
            let text = format!("{mark}{text}");
            let bytes = match name {
                "utf-16le" => text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
                "utf-16be" => text.encode_utf16().flat_map(u16::to_be_bytes).collect(),
                name => {
                    let (bytes, _, has_replaced) =
                        encoding_rs::Encoding::for_label(name.as_bytes()).unwrap().encode(&text);
                    if has_replaced {
                        return None;
                    }
                    bytes.into_owned()
                }
            };
            Some(match self.compression {
                ".gz" => {
                    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                    std::io::Write::write_all(&mut encoder, &bytes).unwrap();
                    encoder.finish().unwrap()
                }
                ".zst" => zstd::encode_all(&bytes[..], 1).unwrap(),
                _ => bytes,
            })
        }

        fn settings(&self) -> Settings {
            let encoding = (!self.encoding.ends_with("bom")).then(|| self.encoding.parse().unwrap());
            Settings { encoding, ..settings() }
        }
    }

    /// Cells in the scripts of the encodings above, with characters that need quotes.
    fn cell() -> impl Strategy<Value = String> {
        prop_oneof![
            "[ -~]{0,8}",
            "([a-z]|[,;\t|\"]|\n|\r\n){0,8}",
            "(张|三|文|件| |;){0,4}",
            "(テ|ス|ト|ソ|表|,){0,4}",
            "(é|ü|ß|€|a){0,6}",
            "(김|민|수){0,3}",
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn table_of_any_program_is_read_as_written(
            written in written(),
            cells in prop::collection::vec((cell(), "[a-z0-9]{1,6}", cell(), "u[a-z0-9]{1,9}"), 0..8),
            suffix in prop::sample::select(vec![".csv", ".tsv"]),
        ) {
            let records: Vec<[String; 4]> =
                cells.into_iter().map(|(note, path, name, id)| [note, format!("{path}.jpg"), name, id]).collect();
            let bytes = written.bytes(&records);
            prop_assume!(bytes.is_some());
            let name = format!("m{suffix}{}", written.compression);
            let rows = read_as(&name, &bytes.unwrap(), &written.settings()).unwrap();
            let found: Vec<[String; 4]> = rows
                .into_iter()
                .map(|row| {
                    let row = row.unwrap();
                    let PhotoSource::Path(path) = row.picture else { unreachable!("paths only") };
                    let extra = |wanted: &str| {
                        let found = row.extra.iter().find(|(name, _)| name == wanted);
                        found.map(|(_, text)| text.clone()).unwrap_or_default()
                    };
                    let path = path.file_name().unwrap().to_string_lossy().into_owned();
                    [extra("note"), path, extra("Name"), row.user.as_str().to_owned()]
                })
                .collect();
            prop_assert_eq!(found, records);
        }
    }
}
