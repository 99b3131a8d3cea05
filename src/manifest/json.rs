//! Reads JSON Lines and JSON arrays of objects. Their fields have the same names as a table's columns.
//!
//! No header says whether objects have ids. An object without an id takes the photo's name only if neither it nor any
//! earlier object has an id, or any field other than the photo and the group; otherwise its id is missing.
//!
//! The row of an object is the line on which it begins. Row numbers are unique: if several objects begin on one line, those
//! after the first count on from it.

use std::{collections::HashMap, fmt, path::PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    error::SourceError,
    fields::{ColumnName, Field, normalize_name},
    framing::{Frame, Framer, JsonPosition, RECORD_CAP, Value},
    input::Input,
    options::{Row, Rows, Settings, SourcePath},
    row::{Fields, OtherFields, RowBuilder, origin, row_error},
    text::{Text, undecodable},
};
use crate::domain::{Damage, EXPORT_COLUMNS, Extra, RowErrorKind, find_damage};

/// Most keys in the cache, so that a manifest with ever new keys does not use up memory.
const MAX_CACHED_KEYS: usize = 10_000;

/// Arrangement of the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    /// One object per line.
    Lines,
    /// An array or a sequence of objects.
    Values,
}

/// Starts reading the rows.
pub(super) fn rows(text: Text, layout: Layout, at: &SourcePath<'_>, settings: &Settings) -> Result<Rows, SourceError> {
    let Text { input, encoding } = text;
    let mut framer = Framer::new(input, None);
    if layout == Layout::Lines {
        let first = framer.peek(|bytes, _| bytes.iter().copied().find(|byte| !byte.is_ascii_whitespace()));
        if first.map_err(|source| SourceError::Unreadable { path: at.path.to_owned(), source })? == Some(b'[') {
            let problem = "it is a JSON array, not one object per line: name it .json or give --input-format json";
            return Err(SourceError::Structure { path: at.path.to_owned(), line: 1, problem: problem.to_owned() });
        }
    }
    let objects = ObjectParser {
        names: KeyMap { given: settings.columns.clone(), known: HashMap::new() },
        builder: RowBuilder::new(at, settings),
        encoding,
        layout,
        needs_id: false,
        best_id_name: None,
    };
    Ok(Box::new(Reader {
        path: at.path.to_owned(),
        framer,
        position: JsonPosition::Start,
        objects,
        last_row: 0,
        is_over: false,
    }))
}

struct Reader {
    path: PathBuf,
    framer: Framer<Input>,
    position: JsonPosition,
    objects: ObjectParser,
    /// Row of the previous object.
    last_row: u64,
    is_over: bool,
}

impl Reader {
    /// The next object's text; `None` at the end.
    fn next_value(&mut self) -> Result<Option<Value>, SourceError> {
        let value = match self.objects.layout {
            Layout::Values => self.framer.next_value(&mut self.position),
            Layout::Lines => self.framer.next().map(|piece| match piece {
                Frame::Record(span, range) => Value::Whole(span, range),
                Frame::OpenQuote(span) | Frame::TooLong(span) => Value::TooLong(span),
                Frame::End => Value::End,
            }),
        };
        match value {
            Ok(Value::End) => Ok(None),
            Ok(Value::Broken { line, problem }) => {
                Err(SourceError::Structure { path: self.path.clone(), line, problem })
            }
            Ok(value) => Ok(Some(value)),
            Err(source) => Err(SourceError::Unreadable { path: self.path.clone(), source }),
        }
    }
}

impl Iterator for Reader {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            match self.next_value() {
                Ok(Some(Value::Whole(span, range))) => {
                    let text = self.framer.bytes(range);
                    if !text.trim_ascii().is_empty() {
                        self.last_row = span.first.max(self.last_row + 1);
                        return Some(Ok(self.objects.row(text, self.last_row)));
                    }
                }
                Ok(Some(Value::TooLong(span))) => {
                    self.last_row = span.first.max(self.last_row + 1);
                    let message = match self.objects.layout {
                        Layout::Lines => format!("the line is longer than {RECORD_CAP} bytes"),
                        Layout::Values => format!(
                            "the object is longer than {RECORD_CAP} bytes: if it wraps a list, give the list alone"
                        ),
                    };
                    return Some(Ok(Err(row_error(self.last_row, RowErrorKind::RecordTooLong, message, None))));
                }
                Ok(_) => self.is_over = true,
                Err(error) => {
                    self.is_over = true;
                    return Some(Err(error));
                }
            }
        }
        None
    }
}

/// Parses objects into rows.
struct ObjectParser {
    names: KeyMap,
    builder: RowBuilder,
    /// Original encoding of the text.
    encoding: Option<&'static str>,
    layout: Layout,
    /// Whether an object without an id is rejected; see the module's documentation.
    needs_id: bool,
    /// Best name of the id in this and all earlier objects, also where its value is null or empty. A worse name is never
    /// taken for the id after that: it may be the number of a database row.
    best_id_name: Option<Priority>,
}

impl ObjectParser {
    fn row(&mut self, text: &[u8], row: u64) -> Row {
        let unreadable = |message: String| row_error(row, RowErrorKind::UnreadableRow, message, None);
        let text = str::from_utf8(text).map_err(|broken| {
            unreadable(format!("byte {}: it {}", broken.valid_up_to() + 1, undecodable(self.encoding)))
        })?;
        let JsonObject(members) = serde_json::from_str(text).map_err(|error| unreadable(self.explain(&error)))?;
        let is_export = EXPORT_COLUMNS.iter().all(|name| members.iter().any(|(key, _)| key == name));
        let is_own = |key: &str| is_export && EXPORT_COLUMNS.contains(&key);
        let mut present = Vec::with_capacity(members.len());
        for (key, value) in &members {
            let mapped = self.names.resolve(key);
            self.needs_id |= match mapped {
                Some((field, _)) => field == Field::MerchantUserId,
                None => !is_own(key),
            };
            if let Some((Field::MerchantUserId, priority)) = mapped {
                self.best_id_name = Some(self.best_id_name.map_or(priority, |best| best.min(priority)));
            }
            if let Some(text) = text_of(value).map_err(|error| unreadable(format!("field {key}: {error}")))? {
                present.push((key, text, mapped));
            }
        }
        let mut ours: [Option<(&str, &str)>; Field::ALL.len()] = [None; Field::ALL.len()];
        let mut extra = Extra::new();
        for (key, text, mapped) in &present {
            let best = |field| {
                present
                    .iter()
                    .filter_map(|(.., other)| other.filter(|other| other.0 == field))
                    .map(|(_, rank)| rank)
                    .min()
            };
            match mapped {
                Some((Field::MerchantUserId, rank)) if self.best_id_name.is_some_and(|best| *rank > best) => {
                    extra.push((name_of(key, &members), text.clone()));
                }
                Some((field, rank)) if best(*field) == Some(*rank) => {
                    if ours[*field as usize].replace((key, text)).is_some() {
                        return Err(unreadable(format!(
                            "two fields could both be {field}: give --column {field}={key}"
                        )));
                    }
                }
                None if is_own(key) => {}
                Some(_) | None => extra.push((name_of(key, &members), text.clone())),
            }
        }
        let text_of = |field: Field| ours[field as usize].map(|(_, text)| text);
        if self.layout == Layout::Values && text_of(Field::Path).is_none() && text_of(Field::Url).is_none() {
            let is_list =
                |value: &RawValue| value.get().strip_prefix('[').is_some_and(|list| list.trim_start().starts_with('{'));
            if let Some((key, _)) = members.iter().find(|(_, value)| is_list(value)) {
                return Err(unreadable(format!("the object wraps a list: give the list alone (jq .{key})")));
            }
        }
        let id = members.iter().find(|(key, _)| match ours[Field::MerchantUserId as usize] {
            Some((chosen, _)) => key == chosen,
            // A null id was lost on the way, except in an export, where it means that there is none.
            None => !is_export && self.names.resolve(key).is_some_and(|(field, _)| field == Field::MerchantUserId),
        });
        let fields = Fields {
            path: text_of(Field::Path),
            url: text_of(Field::Url),
            merchant_user_id: text_of(Field::MerchantUserId),
            face_group_code: text_of(Field::FaceGroupCode),
            id_damage: id.and_then(|(_, value)| id_damage(value)),
            needs_id: self.needs_id,
        };
        let own = |name: &str| {
            present
                .iter()
                .find(|(key, ..)| key.as_str() == name)
                .filter(|_| is_export)
                .map(|(_, text, _)| text.as_str())
        };
        let origin = own("source").zip(own("row")).and_then(|(source, row)| origin(source, row, own("code")));
        self.builder.item(row, &fields, OtherFields { extra, origin })
    }

    /// Explains an error of serde, without the line number, which is relative to the object.
    fn explain(&self, error: &serde_json::Error) -> String {
        let words = error.to_string().replace(" at line 1 column ", " at column ");
        let advice = match self.layout {
            Layout::Lines if error.is_eof() => "; write each object on one line, or name the file .json",
            Layout::Lines | Layout::Values => "",
        };
        format!("not a JSON object: {words}{advice}")
    }
}

/// Damage of an id that is not text in JSON.
fn id_damage(value: &RawValue) -> Option<Damage> {
    match value.get() {
        "null" => Some(Damage::NoValue),
        "true" | "false" => Some(Damage::TruthValue),
        text if text.starts_with('"') => None,
        number if number.strip_prefix('-').unwrap_or(number).bytes().all(|byte| byte.is_ascii_digit()) => None,
        other => Some(find_damage(other).unwrap_or(Damage::JsonValue)),
    }
}

/// Name of an extra field, numbered if an export column has the same name.
fn name_of(key: &str, members: &[(String, &RawValue)]) -> String {
    if !EXPORT_COLUMNS.contains(&key) {
        return key.to_owned();
    }
    let mut names = (2..).map(|number| format!("{key} {number}"));
    names.find(|name| members.iter().all(|(known, _)| known != name)).expect("numbers never run out")
}

/// Text of a value: `None` for null and empty strings, a string's content, or the JSON of anything else.
fn text_of(value: &RawValue) -> Result<Option<String>, serde_json::Error> {
    let raw = value.get();
    let text = if raw.starts_with('"') { serde_json::from_str(raw)? } else { raw.to_owned() };
    Ok(Some(text).filter(|text| !text.is_empty() && raw != "null"))
}

/// Priority of a name: given by `--column`, canonical, or an alias.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Priority {
    Given,
    Canonical,
    Alias,
}

/// Maps keys to fields.
struct KeyMap {
    given: Vec<ColumnName>,
    known: HashMap<String, Option<(Field, Priority)>>,
}

impl KeyMap {
    fn resolve(&mut self, key: &str) -> Option<(Field, Priority)> {
        if let Some(&known) = self.known.get(key) {
            return known;
        }
        let name = normalize_name(key);
        let given = self
            .given
            .iter()
            .find(|given| normalize_name(&given.name) == name)
            .map(|given| (given.field, Priority::Given));
        let is_open = |field: &Field| self.given.iter().all(|given| given.field != *field);
        let named = || {
            let field = Field::ALL.into_iter().filter(is_open).find(|field| field.names().contains(&name.as_str()))?;
            Some((field, if field.name() == name { Priority::Canonical } else { Priority::Alias }))
        };
        let mapped = given.or_else(named);
        if self.known.len() < MAX_CACHED_KEYS {
            self.known.insert(key.to_owned(), mapped);
        }
        mapped
    }
}

/// Members of an object as written. A duplicate key is an error.
struct JsonObject<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for JsonObject<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = JsonObject<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::with_capacity(8);
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("duplicate field {key}")));
                    }
                    members.push((key, value));
                }
                Ok(JsonObject(members))
            }
        }
        from.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use crate::{
        domain::{EXPORT_COLUMNS, Item, Origin, PhotoSource, RowErrorKind},
        manifest::{
            IdFrom, Settings, open,
            options::Row,
            test_support::{read_as, settings},
        },
    };

    fn shown(bytes: &[u8], settings: &Settings) -> Vec<String> {
        let show = |row: &Row| match row {
            Ok(Item { picture: PhotoSource::Member(_) | PhotoSource::Object(..), .. }) => {
                unreachable!("paths and links only")
            }
            Ok(Item { row, user, picture: PhotoSource::Path(path), extra, .. }) => {
                let extra: Vec<String> = extra.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{row} {user} {}{}", path.file_name().unwrap().to_string_lossy(), extra.concat())
            }
            Ok(Item { row, user, picture: PhotoSource::Url(url), .. }) => format!("{row} {user} {url}"),
            Err(error) => format!("{} {}: {}", error.row, error.defect.code(), error.message),
        };
        read_as("m.jsonl", bytes, settings).unwrap().iter().map(show).collect()
    }

    #[test]
    fn null_or_missing_id_is_not_replaced_by_an_alias() {
        let text = br#"{"path":"a.jpg","merchant_user_id":"E1","id":"7"}
{"path":"b.jpg","merchant_user_id":null,"id":"8"}
{"path":"c.jpg","merchant_user_id":"","id":"9"}
{"path":"d.jpg","id":"10"}"#;
        let shown = shown(text, &settings());
        assert_eq!(shown[0], "1 E1 a.jpg id=7");
        for (row, code) in [(1, "SuspiciousUserId"), (2, "MissingUserId"), (3, "MissingUserId")] {
            assert!(shown[row].contains(code), "{}", shown[row]);
        }
    }

    #[test]
    fn json_object_is_a_row_with_extra_fields() {
        let text = "\u{feff}{\"photo\": \"a.jpg\", \"Employee No\": 18446744073709551617, \"dept\": {\"a\": [1]}}\r\n\n \
                    \t\n{\"merchant_user_id\":\"张\\u4e09\",\"path\":\"b.jpg\",\"file\":\"z\",\"x\":null,\"y\":\"\"}\n\
                    {\"url\":\"https://h/c.jpg?Signature=s\",\"merchant_user_id\":\"c\"}";
        let expected =
            ["1 18446744073709551617 a.jpg dept={\"a\": [1]}", "4 张三 b.jpg file=z", "5 c https://h/c.jpg?…"];
        assert_eq!(shown(text.as_bytes(), &settings()), expected);
    }

    #[test]
    fn bad_json_line_is_reported_and_reading_continues() {
        let deep = format!("{{\"path\":\"a.jpg\",\"x\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let mut text =
            b"1\n{\"path\":\"a.jpg\"\n{\"path\":\"a.jpg\",\"path\":\"b.jpg\"}\n{\"path\":\"a.jpg\",\"id\":NaN}\n\
            {\"path\":\"a\xff.jpg\"}\n{\"file\":\"a.jpg\",\"photo\":\"b.jpg\"}\n\"text\"\n{}\n"
                .to_vec();
        text.extend_from_slice(deep.as_bytes());
        let shown = shown(&text, &settings());
        let starts = [
            "1 UnreadableRow: not a JSON object: invalid type: integer",
            "2 UnreadableRow: not a JSON object: EOF",
            "3 UnreadableRow: not a JSON object: duplicate field path",
            "4 UnreadableRow: not a JSON object: expected value",
            "5 UnreadableRow: byte 11: it is not UTF-8: give --encoding",
            "6 UnreadableRow: two fields could both be path",
            "7 UnreadableRow: not a JSON object: invalid type: string",
            "8 MissingPicture",
            "9 MissingUserId",
        ];
        assert_eq!(shown.len(), starts.len());
        for (shown, start) in shown.iter().zip(starts) {
            assert!(shown.starts_with(start), "{shown}");
        }
    }

    #[test]
    fn overlong_json_line_is_rejected_alone() {
        let text = format!("{{\"path\":\"{}\"}}\n{{\"path\":\"b.jpg\"}}\n", "x".repeat(10_000_000));
        let shown = shown(text.as_bytes(), &settings());
        assert_eq!(shown, ["1 RecordTooLong: the line is longer than 1048576 bytes", "2 b b.jpg"]);
    }

    #[test]
    fn given_column_wins_over_all_names() {
        let settings = Settings {
            columns: vec!["path=img".parse().unwrap(), "merchant_user_id=nr".parse().unwrap()],
            ..settings()
        };
        let text = br#"{"img":"a.jpg","path":"old.jpg","nr":7,"id":"x"}"#;
        assert_eq!(shown(text, &settings), ["1 7 a.jpg path 2=old.jpg id=x"]);
    }

    #[test]
    fn export_can_be_read_as_a_manifest() {
        let mut line: serde_json::Map<String, serde_json::Value> =
            EXPORT_COLUMNS.iter().map(|name| ((*name).to_owned(), serde_json::Value::Null)).collect();
        for (name, value) in [("row", "2"), ("source", "m.csv"), ("path", "a.jpg"), ("face_group_code", "g2")] {
            line.insert(name.to_owned(), value.into());
        }
        line.insert("dept".to_owned(), "x".into());
        let read = |line: &serde_json::Map<_, _>| {
            read_as("m.ndjson", serde_json::to_string(line).unwrap().as_bytes(), &settings()).unwrap().remove(0)
        };
        assert_eq!(
            read(&line).unwrap_err().defect,
            RowErrorKind::MissingUserId,
            "a row that has none is not suspicious"
        );
        line.insert("merchant_user_id".to_owned(), "u".into());
        let item = read(&line).unwrap();
        assert_eq!((item.group.as_str(), &item.extra[..]), ("g2", &[("dept".to_owned(), "x".to_owned())][..]));
        assert_eq!(item.origin.as_deref(), Some(&Origin { source: "m.csv".into(), row: 2, was_duplicate: false }));
        line.remove("stage");
        line.insert("row 2".to_owned(), "y".into());
        let names: Vec<String> = read(&line).unwrap().extra.into_iter().map(|(name, _)| name).collect();
        assert_eq!(names, ["row 3", "source 2", "dept", "row 2"], "not an export: its fields are kept");
    }

    #[test]
    fn photo_name_is_the_id_only_without_other_fields() {
        let shown = |text: &str| shown(text.as_bytes(), &settings());
        let photos = "{\"path\":\"a.jpg\"}\n{\"path\":\"b.jpg\",\"group\":\"g\"}\n";
        assert_eq!(shown(photos), ["1 a a.jpg", "2 b b.jpg"]);
        let mixed = format!("{photos}{{\"path\":\"c.jpg\",\"id\":\"u3\"}}\n{{\"path\":\"d.jpg\"}}\n");
        let rows = shown(&mixed);
        assert_eq!(rows[2], "3 u3 c.jpg");
        assert!(rows[3].starts_with("4 MissingUserId: ") && rows[3].contains("--id-from name"), "{}", rows[3]);
        assert!(shown("{\"path\":\"a.jpg\",\"Emp ID\":7}\n")[0].starts_with("1 MissingUserId: "));
        let by_name = Settings { id_from: Some(IdFrom::Name), ..settings() };
        let text = b"{\"path\":\"a.jpg\",\"Emp ID\":7}\n{\"path\":\"b.jpg\",\"id\":\"\"}\n";
        assert_eq!(self::shown(text, &by_name), ["1 a a.jpg Emp ID=7", "2 b b.jpg"]);
    }

    #[test]
    fn ids_other_than_text_and_integers_are_suspicious() {
        let odd = Settings { allow_odd_ids: true, ..settings() };
        for (id, is_sound) in [
            ("7", true),
            ("-7", true),
            ("123456789012345678901234567890", true),
            ("\"1E5\"", true),
            ("1E5", false),
            ("1001.0", false),
            ("1.5", false),
            ("6.2E17", false),
            ("true", false),
            ("\"nan\"", false),
            ("{}", false),
            ("[1]", false),
        ] {
            let text = format!("{{\"path\":\"a.jpg\",\"id\":{id}}}");
            let row = shown(text.as_bytes(), &settings()).remove(0);
            let taken = format!("1 {} a.jpg", id.trim_matches('"'));
            assert_eq!(row == taken, is_sound, "{row}");
            assert!(is_sound || row.starts_with("1 SuspiciousUserId: merchant_user_id is "), "{row}");
            assert_eq!(shown(text.as_bytes(), &odd), [taken]);
        }
        let null = br#"{"path":"a.jpg","id":null}"#;
        assert!(shown(null, &settings())[0].starts_with("1 SuspiciousUserId: "));
        assert!(shown(null, &odd)[0].starts_with("1 MissingUserId: "), "no text to take");
    }

    #[test]
    fn array_in_a_jsonl_file_is_refused() {
        for text in ["[\n {\"path\":\"a.jpg\",\"id\":\"E1\"},\n {\"path\":\"b.jpg\",\"id\":\"E2\"}\n]\n", "\n [{}]"] {
            let refused = read_as("m.jsonl", text.as_bytes(), &settings()).unwrap_err().to_string();
            assert!(refused.contains("it is a JSON array") && refused.contains("name it .json"), "{refused}");
        }
    }

    #[test]
    fn objects_on_one_line_have_different_rows() {
        let text = "[{\"path\":\"a.jpg\"},{},{\"path\":\"b.jpg\"},\n{\"path\":\"c.jpg\"},\n\n\n{\"path\":\"d.jpg\"}]";
        let rows = read_as("m.json", text.as_bytes(), &settings()).unwrap();
        let numbers: Vec<u64> =
            rows.iter().map(|row| row.as_ref().map_or_else(|error| error.row, |item| item.row)).collect();
        assert_eq!(numbers, [1, 2, 3, 4, 5]);
    }

    #[test]
    fn object_around_a_list_is_rejected_with_advice() {
        let text = b"{\"count\": 1, \"people\": [ {\"path\": \"a.jpg\"} ]}";
        let error = read_as("m.json", text, &settings()).unwrap().remove(0).unwrap_err();
        assert!(error.message.contains("give the list alone (jq .people)"), "{}", error.message);
    }

    #[test]
    fn truncated_json_ends_the_source() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.json");
        std::fs::write(&path, "[\n{\"path\":\"a.jpg\"},\n{\"path\":").unwrap();
        let mut rows = open(&path, &settings()).unwrap();
        assert_eq!(rows.next().unwrap().unwrap().unwrap().user.as_str(), "a");
        let error = rows.next().unwrap().unwrap_err().to_string();
        assert!(error.ends_with("line 3: truncated: the value that begins on line 3 is not closed"), "{error}");
        assert!(rows.next().is_none());
    }

    #[test]
    fn encodings_are_decoded_and_the_flag_is_suggested() {
        let text = "[{\"path\":\"a.jpg\",\"id\":\"张三\"}]";
        let gbk = encoding_rs::GBK.encode(text).0.into_owned();
        let given = Settings { encoding: "gbk".parse().ok(), ..settings() };
        let rows = read_as("m.json", &gbk, &given).unwrap();
        assert_eq!(rows[0].as_ref().unwrap().user.as_str(), "张三");
        let refused = read_as("m.json", &gbk, &settings()).unwrap().remove(0).unwrap_err();
        assert!(refused.message.contains("--encoding"), "{}", refused.message);
        let utf_16: Vec<u8> = format!("\u{FEFF}{text}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(read_as("m.json", &utf_16, &settings()).unwrap()[0].as_ref().unwrap().user.as_str(), "张三");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn array_and_lines_give_the_same_rows(
            rows in prop::collection::vec(
                prop::collection::btree_map(
                    prop::sample::select(vec!["path", "url", "id", "group", "dept", "status", "Name", "photo"]),
                    prop_oneof![
                        "[a-z0-9./:]{0,8}".prop_map(serde_json::Value::from),
                        any::<u32>().prop_map(serde_json::Value::from),
                        any::<f64>().prop_map(serde_json::Value::from),
                        Just(serde_json::Value::Null),
                        Just(serde_json::Value::Bool(true)),
                        Just(serde_json::json!({"a": ["}", "\"]"]})),
                    ],
                    0..6,
                ),
                0..8,
            ),
        ) {
            let lines: Vec<String> = rows.iter().map(|row| serde_json::to_string(row).unwrap()).collect();
            let dir = tempfile::tempdir().unwrap();
            let read = |name: &str, text: String| {
                let path = dir.path().join(name);
                std::fs::write(&path, text).unwrap();
                open(&path, &settings()).unwrap().map(Result::unwrap).collect::<Vec<_>>()
            };
            let as_lines = read("m.jsonl", lines.join("\n"));
            prop_assert_eq!(&read("a.json", format!("[{}]", lines.join(",\n"))), &as_lines);
            prop_assert_eq!(&read("b.json", format!("[{}]", lines.join("\n,"))), &as_lines);
            if !lines.is_empty() {
                prop_assert_eq!(&read("c.json", lines.join("\n")), &as_lines);
            }
        }
    }
}
