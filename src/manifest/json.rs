//! JSON Lines: an object a line, its fields by the same names as a table's columns.

use std::{collections::HashMap, fmt, path::PathBuf};

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{
    fields::{ColumnName, Field, plain},
    framing::{Framer, Piece, RECORD_CAP, Span},
    input::Input,
    row::{Fields, Others, Rules, bare, origin},
    source::{At, Rows, Settings, SourceError},
    table::skip_mark,
};
use crate::domain::{EXPORT_COLUMNS, EXPORT_MARKS, Extra, Item, RowDefect, RowError};

/// Names that are remembered; objects that each have others are a strange manifest, and must not cost memory.
const NAMES: usize = 10_000;

/// Begins to read.
pub(super) fn rows(input: Input, at: &At<'_>, settings: &Settings) -> Result<Rows, SourceError> {
    let mut framer = Framer::new(input, None);
    skip_mark(&mut framer, at.path)?;
    let names = Names { given: settings.columns.clone(), known: HashMap::new() };
    let rules = Rules::new(at, settings);
    Ok(Box::new(Lines { path: at.path.to_owned(), framer, names, rules, is_over: false }))
}

struct Lines {
    path: PathBuf,
    framer: Framer<Input>,
    names: Names,
    rules: Rules,
    is_over: bool,
}

impl Iterator for Lines {
    type Item = Result<Result<Item, RowError>, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            match self.framer.next() {
                Ok(Piece::Record(span, range)) => {
                    let line = self.framer.bytes(range);
                    if !line.trim_ascii().is_empty() {
                        return Some(Ok(row(line, span, &mut self.names, &self.rules)));
                    }
                }
                Ok(Piece::OpenQuote(span) | Piece::TooLong(span)) => {
                    let message = format!("the line is longer than {RECORD_CAP} bytes");
                    return Some(Ok(Err(bare(span.first, RowDefect::RecordTooLong, message, None))));
                }
                Ok(Piece::End) => self.is_over = true,
                Err(source) => {
                    self.is_over = true;
                    return Some(Err(SourceError::Unreadable { path: self.path.clone(), source }));
                }
            }
        }
        None
    }
}

/// serde's words; a row is one line, so the column is all that they need to say of the place.
fn in_the_row(error: &serde_json::Error) -> String {
    error.to_string().replace(" at line 1 column ", " at column ")
}

fn row(line: &[u8], span: Span, names: &mut Names, rules: &Rules) -> Result<Item, RowError> {
    let unreadable = |message: String| bare(span.first, RowDefect::UnreadableRow, message, None);
    let text = str::from_utf8(line).map_err(|broken| {
        unreadable(format!("it is no UTF-8 from its byte {} on: save the file as UTF-8", broken.valid_up_to() + 1))
    })?;
    let Object(members) = serde_json::from_str(text)
        .map_err(|error| unreadable(format!("it is no JSON object: {}", in_the_row(&error))))?;
    let is_export = EXPORT_MARKS.iter().all(|name| members.iter().any(|(key, _)| key == name));
    let mut said = Vec::with_capacity(members.len());
    for (key, value) in &members {
        if let Some(text) = text_of(value).map_err(|error| unreadable(format!("its field {key}: {error}")))? {
            said.push((key, text, names.meaning(key)));
        }
    }
    let mut ours: [Option<&str>; Field::ALL.len()] = [None; Field::ALL.len()];
    let mut extra = Extra::new();
    for (key, text, meaning) in &said {
        let best = |field| {
            said.iter().filter_map(|(.., other)| other.filter(|other| other.0 == field)).map(|(_, rank)| rank).min()
        };
        match meaning {
            Some((field, rank)) if best(*field) == Some(*rank) => {
                if ours[*field as usize].replace(text).is_some() {
                    return Err(unreadable(format!(
                        "two of its fields could both be {field}: give --column {field}={key}"
                    )));
                }
            }
            None if is_export && EXPORT_COLUMNS.contains(&key.as_str()) => {}
            Some(_) | None => extra.push(((*key).clone(), text.clone())),
        }
    }
    let fields = Fields {
        path: ours[Field::Path as usize],
        url: ours[Field::Url as usize],
        merchant_user_id: ours[Field::MerchantUserId as usize],
        face_group_code: ours[Field::FaceGroupCode as usize],
    };
    let own = |name: &str| {
        said.iter().find(|(key, ..)| key.as_str() == name).filter(|_| is_export).map(|(_, text, _)| text.as_str())
    };
    let origin = own("source").zip(own("row")).and_then(|(source, row)| origin(source, row, own("code")));
    rules.item(span.first, &fields, Others { extra, origin })
}

/// What a value says as text: null and nothing are absent, a text is itself, anything else its JSON.
fn text_of(value: &RawValue) -> Result<Option<String>, serde_json::Error> {
    let raw = value.get();
    let text = if raw.starts_with('"') { serde_json::from_str(raw)? } else { raw.to_owned() };
    Ok(Some(text).filter(|text| !text.is_empty() && raw != "null"))
}

/// How well a name fits: the one that was given, our own, another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Given,
    Own,
    Alias,
}

/// What keys mean.
struct Names {
    given: Vec<ColumnName>,
    known: HashMap<String, Option<(Field, Rank)>>,
}

impl Names {
    fn meaning(&mut self, key: &str) -> Option<(Field, Rank)> {
        if let Some(&known) = self.known.get(key) {
            return known;
        }
        let name = plain(key);
        let given = self.given.iter().find(|given| plain(&given.name) == name).map(|given| (given.field, Rank::Given));
        let is_open = |field: &Field| self.given.iter().all(|given| given.field != *field);
        let named = || {
            let field = Field::ALL.into_iter().filter(is_open).find(|field| field.names().contains(&name.as_str()))?;
            Some((field, if field.name() == name { Rank::Own } else { Rank::Alias }))
        };
        let meaning = given.or_else(named);
        if self.known.len() < NAMES {
            self.known.insert(key.to_owned(), meaning);
        }
        meaning
    }
}

/// The members of an object, as they are written. One that is there twice has no one meaning.
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for Object<'de> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Members;
        impl<'de> Visitor<'de> for Members {
            type Value = Object<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members: Vec<(String, &RawValue)> = Vec::with_capacity(8);
                while let Some((key, value)) = map.next_entry::<String, &RawValue>()? {
                    if members.iter().any(|(known, _)| *known == key) {
                        return Err(A::Error::custom(format!("the field {key} is there twice")));
                    }
                    members.push((key, value));
                }
                Ok(Object(members))
            }
        }
        from.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        domain::{FaceGroupCode, Item, Origin, PictureRef, RowError},
        manifest::{Settings, SourceError, open},
    };

    fn read_as(name: &str, bytes: &[u8], settings: &Settings) -> Result<Vec<Result<Item, RowError>>, SourceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        open(&path, settings)?.collect()
    }

    fn settings() -> Settings {
        Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() }
    }

    fn shown(bytes: &[u8], settings: &Settings) -> Vec<String> {
        let show = |row: &Result<Item, RowError>| match row {
            Ok(Item { row, user, picture: PictureRef::Path(path), extra, .. }) => {
                let extra: Vec<String> = extra.iter().map(|(name, value)| format!(" {name}={value}")).collect();
                format!("{row} {user} {}{}", path.file_name().unwrap().to_string_lossy(), extra.concat())
            }
            Ok(Item { row, user, picture: PictureRef::Url(url), .. }) => format!("{row} {user} {url}"),
            Err(error) => format!("{} {}: {}", error.row, error.defect.code(), error.message),
        };
        read_as("m.jsonl", bytes, settings).unwrap().iter().map(show).collect()
    }

    #[test]
    fn object_is_a_row_and_its_other_fields_are_kept() {
        let text = "\u{feff}{\"photo\": \"a.jpg\", \"Employee No\": 18446744073709551617, \"dept\": {\"a\": [1]}}\r\n\n \
                    \t\n{\"merchant_user_id\":\"张\\u4e09\",\"path\":\"b.jpg\",\"file\":\"z\",\"x\":null,\"y\":\"\"}\n\
                    {\"url\":\"https://h/c.jpg?Signature=s\"}";
        let expected =
            ["1 18446744073709551617 a.jpg dept={\"a\": [1]}", "4 张三 b.jpg file=z", "5 c https://h/c.jpg?…"];
        assert_eq!(shown(text.as_bytes(), &settings()), expected);
    }

    #[test]
    fn line_that_is_no_row_is_named_and_the_rest_goes_on() {
        let deep = format!("{{\"path\":\"a.jpg\",\"x\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let mut text =
            b"[1]\n{\"path\":\"a.jpg\"\n{\"path\":\"a.jpg\",\"path\":\"b.jpg\"}\n{\"path\":\"a.jpg\",\"id\":NaN}\n\
            {\"path\":\"a\xff.jpg\"}\n{\"file\":\"a.jpg\",\"photo\":\"b.jpg\"}\n\"text\"\n{}\n"
                .to_vec();
        text.extend_from_slice(deep.as_bytes());
        let shown = shown(&text, &settings());
        let starts = [
            "1 UnreadableRow: it is no JSON object: invalid type: sequence",
            "2 UnreadableRow: it is no JSON object: EOF",
            "3 UnreadableRow: it is no JSON object: the field path is there twice",
            "4 UnreadableRow: it is no JSON object: expected value",
            "5 UnreadableRow: it is no UTF-8 from its byte 11 on",
            "6 UnreadableRow: two of its fields could both be path",
            "7 UnreadableRow: it is no JSON object: invalid type: string",
            "8 MissingPicture",
            "9 a a.jpg",
        ];
        assert_eq!(shown.len(), starts.len());
        for (shown, start) in shown.iter().zip(starts) {
            assert!(shown.starts_with(start), "{shown}");
        }
    }

    #[test]
    fn line_of_ten_megabytes_is_refused_and_the_next_is_read() {
        let text = format!("{{\"path\":\"{}\"}}\n{{\"path\":\"b.jpg\"}}\n", "x".repeat(10_000_000));
        let shown = shown(text.as_bytes(), &settings());
        assert_eq!(shown, ["1 RecordTooLong: the line is longer than 1048576 bytes", "2 b b.jpg"]);
    }

    #[test]
    fn given_name_wins_over_all() {
        let settings = Settings {
            columns: vec!["path=img".parse().unwrap(), "merchant_user_id=nr".parse().unwrap()],
            ..settings()
        };
        let text = br#"{"img":"a.jpg","path":"old.jpg","nr":7,"id":"x"}"#;
        assert_eq!(shown(text, &settings), ["1 7 a.jpg path=old.jpg id=x"]);
    }

    #[test]
    fn export_of_ours_is_a_manifest() {
        let text = br#"{"row":2,"source":"m.csv","path":"a.jpg","merchant_user_id":"u","face_group_code":"g2",
            "status":"rejected","attempts":0,"dept":"x"}"#;
        let line: Vec<u8> = text.iter().copied().filter(|&byte| byte != b'\n').collect();
        let rows = read_as("m.ndjson", &line, &settings()).unwrap();
        let item = rows[0].as_ref().unwrap();
        assert_eq!((item.group.as_str(), &item.extra[..]), ("g2", &[("dept".to_owned(), "x".to_owned())][..]));
        assert_eq!(item.origin.as_deref(), Some(&Origin { source: "m.csv".into(), row: 2, was_duplicate: false }));
    }

    #[test]
    fn utf_16_is_refused_with_a_remedy() {
        let refused = read_as("m.jsonl", b"\xff\xfe{\0\"\0", &settings()).unwrap_err();
        assert!(refused.to_string().contains("iconv -f UTF-16 -t UTF-8"), "{refused}");
    }
}
