//! Finds the delimiter of a table: from `--delimiter`, a first line `sep=;`, or the header.

use std::{fmt, str::FromStr};

use super::{
    fields::{ColumnName, Field, normalize_name},
    framing::RECORD_CAP,
    record_parser::RecordParser,
};

/// The `--delimiter` flag: the character between the fields of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Delimiter(pub(super) u8);

impl Delimiter {
    pub(super) const COMMA: Self = Self(b',');
    pub(super) const TAB: Self = Self(b'\t');
    /// Delimiters that are detected.
    const KNOWN: [Self; 4] = [Self::COMMA, Self(b';'), Self::TAB, Self(b'|')];

    fn from_byte(byte: u8) -> Option<Self> {
        let is_usable = byte.is_ascii() && !byte.is_ascii_alphanumeric() && !b"\"\r\n\0".contains(&byte);
        is_usable.then_some(Self(byte))
    }
}

impl fmt::Debug for Delimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delimiter({:?})", char::from(self.0))
    }
}

impl FromStr for Delimiter {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.as_bytes() {
            b"tab" | b"\\t" => Ok(Self::TAB),
            [byte] => Self::from_byte(*byte).ok_or("a letter, a digit or a quote can't be the delimiter"),
            _ => Err("expected one character, such as ';' or '|', or the word tab"),
        }
    }
}

/// Parses a line `sep=;`, which Excel writes and reads.
pub(super) fn from_sep_line(line: &[u8]) -> Option<Delimiter> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = line.strip_prefix(b"\"").and_then(|line| line.strip_suffix(b"\"")).unwrap_or(line);
    let (name, rest) = line.split_at_checked(4)?;
    let (&byte, others) = rest.split_first().filter(|_| name.eq_ignore_ascii_case(b"sep="))?;
    // A table saved again by a spreadsheet has the delimiter once per column.
    Delimiter::from_byte(byte).filter(|_| others.iter().all(|other| *other == byte))
}

/// Finds the first record that is not blank; `None` if it is not complete yet.
///
/// A quote may open a field after any possible delimiter. An unclosed quote ends with its line.
pub(super) fn find_header(bytes: &[u8], is_at_end: bool) -> Option<&[u8]> {
    let is_delimiter = |byte: u8| Delimiter::KNOWN.contains(&Delimiter(byte));
    let (mut from, mut first_line, mut at) = (0, None, 0);
    let (mut is_quoted, mut is_field_start, mut is_blank) = (false, true, true);
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        let is_line_end = byte == b'\n' || byte == b'\r';
        if is_line_end {
            first_line.get_or_insert(at);
        }
        if !is_quoted && is_line_end {
            if !is_blank {
                return Some(&bytes[from..at]);
            }
            (from, first_line, is_field_start) = (at, None, true);
            continue;
        }
        if byte == b'"' && (is_quoted || is_field_start) {
            // A doubled quote opens the field again.
            (is_quoted, is_field_start) = (!is_quoted, is_quoted);
        } else {
            is_field_start = !is_quoted && is_delimiter(byte);
        }
        is_blank = is_blank && (is_delimiter(byte) || b" \r\n\"\0\x1A".contains(&byte));
    }
    match first_line {
        Some(end) if is_at_end || bytes.len() > RECORD_CAP => Some(&bytes[from..end]),
        None if is_at_end || bytes.len() > RECORD_CAP => Some(&bytes[from..]),
        Some(_) | None => None,
    }
}

/// Detects the delimiter that gives the header the most known columns, or else the most columns. `usual` wins a tie.
pub(super) fn detect(header: &[u8], usual: Delimiter, given: &[ColumnName]) -> Delimiter {
    let is_known = |name: &str| {
        let name = normalize_name(name);
        Field::ALL.iter().any(|field| field.names().contains(&name.as_str()))
            || given.iter().any(|given| normalize_name(&given.name) == name)
    };
    let mut best = (usual, (0, 1));
    for delimiter in [usual].into_iter().chain(Delimiter::KNOWN) {
        let mut parser = RecordParser::new(delimiter.0);
        let names = parser.parse(header);
        let known = names.iter().filter(|name| str::from_utf8(name).is_ok_and(is_known)).count();
        if names.len() > 1 && (known, names.len()) > best.1 {
            best = (delimiter, (known, names.len()));
        }
    }
    best.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn detected(header: &str) -> char {
        char::from(detect(header.as_bytes(), Delimiter::COMMA, &["path=Foto".parse().unwrap()]).0)
    }

    #[test]
    fn delimiter_is_detected_from_the_header() {
        for (header, delimiter) in [
            ("path,id", ','),
            ("path;id", ';'),
            ("path\tid", '\t'),
            ("path|id", '|'),
            ("path", ','),
            ("Name, first;path;id", ';'),
            ("\"a;b;c;d\",path", ','),
            ("\"a,b\";\"path\"", ';'),
            ("Foto;Name, first, last", ';'),
            ("a;b;c", ';'),
            ("path|a;b;c", ','),
        ] {
            assert_eq!(detected(header), if header == "path|a;b;c" { '|' } else { delimiter }, "{header}");
        }
        assert_eq!(detect(b"a\tb,c", Delimiter::TAB, &[]), Delimiter::TAB);
        assert_eq!(detect(b"path,id", Delimiter::TAB, &[]), Delimiter::COMMA);
    }

    #[test]
    fn sep_line_gives_the_delimiter() {
        for (line, delimiter) in [
            (&b"sep=;\r\n"[..], Some(b';')),
            (b"SEP=\t\n", Some(b'\t')),
            (b"\"sep=|\"", Some(b'|')),
            (b"sep=;;;\n", Some(b';')),
            (b"sep=^", Some(b'^')),
            (b"sep=", None),
            (b"sep=a", None),
            (b"sep=;,", None),
            (b"separator", None),
        ] {
            assert_eq!(from_sep_line(line).map(|delimiter| delimiter.0), delimiter, "{}", line.escape_ascii());
        }
    }

    #[test]
    fn delimiter_is_one_character_or_tab() {
        assert_eq!("tab".parse(), Ok(Delimiter::TAB));
        assert_eq!(";".parse(), Ok(Delimiter(b';')));
        for wrong in ["", "a", "\"", ";;", "é", "\n"] {
            assert!(wrong.parse::<Delimiter>().is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn header_is_the_first_record_not_blank() {
        let found =
            |text: &'static str| find_header(text.as_bytes(), true).map(|header| str::from_utf8(header).unwrap());
        assert_eq!(found("path;id\nx"), Some("path;id\n"));
        assert_eq!(found("\r\n;;\r\n \"\"\npath;id\r\nx"), Some("path;id\r"));
        assert_eq!(found("\"Photo\npath\";id\nx"), Some("\"Photo\npath\";id\n"));
        assert_eq!(found("\"a\"\"\n;b\";id\nx"), Some("\"a\"\"\n;b\";id\n"));
        assert_eq!(found("\"open;id\nx\ny"), Some("\"open;id\n"));
        assert_eq!(found("path"), Some("path"));
        assert_eq!(find_header(b"path;id", false), None);
    }
}
