//! Text from outside: decoded where it is read, escaped where it is shown.

use std::{borrow::Cow, fmt::Write};

/// Escapes what a terminal, a log or a page would obey instead of showing: control characters, line separators, and the
/// marks that reorder text. What is left unescaped is what a person sees; one line stays one line.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unprintable)
}

/// The same, for text of several lines of ours: its line feeds stay.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_unprintable(c))
}

/// The same, for a message whose further lines are indented: a line feed in a name can't begin a line that looks like ours.
pub fn printable_message(text: &str) -> Cow<'_, str> {
    match printable_lines(text) {
        lines if lines.contains('\n') => {
            let mut parts = lines.split('\n');
            let mut message = parts.next().unwrap_or_default().to_owned();
            for part in parts {
                message.push_str(if part.starts_with(' ') { "\n" } else { r"\u{a}" });
                message.push_str(part);
            }
            Cow::Owned(message)
        }
        lines => lines,
    }
}

/// Escapes the same characters within a JSON text, in JSON's own way: its value stays the same.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let Some(first) = json.find(is_unprintable) else { return Cow::Borrowed(json) };
    let (clean, rest) = json.split_at(first);
    let mut escaped = clean.to_owned();
    for c in rest.chars() {
        if is_unprintable(c) {
            // Every one of them is one UTF-16 unit.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// C0, DEL and C1; line and paragraph separator; the marks, embeddings, overrides and isolates of bidirectional text.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn escape(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    let Some(first) = text.find(&is_escaped) else { return Cow::Borrowed(text) };
    let (clean, rest) = text.split_at(first);
    let mut escaped = clean.to_owned();
    for c in rest.chars() {
        if is_escaped(c) { escaped.extend(c.escape_unicode()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// A configuration file's text: UTF-8, or UTF-16 with its byte-order mark, as Windows' editors write it. Without the mark.
pub fn decode_text(bytes: Vec<u8>) -> Result<String, NotText> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (pairs, rest) = bytes.as_chunks::<2>();
        let units: Vec<u16> = pairs.iter().map(|pair| unit(*pair)).collect();
        if rest.is_empty() { String::from_utf16(&units).map_err(|_| NotText) } else { Err(NotText) }
    };
    match bytes.as_slice() {
        [0xFF, 0xFE, text @ ..] => utf16(text, u16::from_le_bytes),
        [0xFE, 0xFF, text @ ..] => utf16(text, u16::from_be_bytes),
        [0xEF, 0xBB, 0xBF, text @ ..] => String::from_utf8(text.to_vec()).map_err(|_| NotText),
        _ => String::from_utf8(bytes).map_err(|_| NotText),
    }
}

/// A file that holds no text that can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not UTF-8 text: save it as UTF-8")]
pub struct NotText;

impl From<NotText> for std::io::Error {
    fn from(error: NotText) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// A value as it was meant, where it was pasted with a line end, blanks or quotes around it.
pub fn unquoted(value: &str) -> &str {
    let value = value.trim();
    ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote))
        .map_or(value, |inner| inner.trim())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn escapes_are_readable() {
        assert_eq!(printable("a\u{1b}[31mb\r\nc\u{9b}d"), r"a\u{1b}[31mb\u{d}\u{a}c\u{9b}d");
        assert_eq!(printable("gpj.\u{202e}exe\u{2066}\u{200f}\u{2028}"), r"gpj.\u{202e}exe\u{2066}\u{200f}\u{2028}");
        assert_eq!(printable_lines("a\n\tb"), "a\n\\u{9}b");
        assert_eq!(printable_message("can't read x\nerror: y\n  advice"), "can't read x\\u{a}error: y\n  advice");
        assert_eq!(printable_json("{\"a\":\"\u{202e}\u{85}\u{7f}\"}"), r#"{"a":"\u202e\u0085\u007f"}"#);
    }

    #[test]
    fn letters_of_every_script_stay_as_they_are() {
        for text in ["Zoë", "张三", "مُحَمَّد", "שָׁלוֹם", "श्री\u{200d}", "می\u{200c}خواهم", "👩‍💻", "C:\\photos\\a.jpg"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn marks_of_windows_editors_are_read_and_other_encodings_are_named() {
        let utf16 = |unit: fn(u16) -> [u8; 2]| "\u{feff}kéy".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for bytes in ["kéy".into(), "\u{feff}kéy".into(), utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
            assert_eq!(decode_text(bytes), Ok("kéy".to_owned()));
        }
        for bytes in [&b"k\xe9y"[..], b"\xff\xfek", b"\xff\xfe\x00\xd8"] {
            assert_eq!(decode_text(bytes.to_vec()), Err(NotText));
        }
    }

    #[test]
    fn quotes_and_blanks_around_a_value_go() {
        for (written, meant) in
            [(" a\r", "a"), ("\"a\"", "a"), ("' a '\n", "a"), ("\"a", "\"a"), ("\"", "\""), ("", "")]
        {
            assert_eq!(unquoted(written), meant, "{written:?}");
        }
    }

    proptest! {
        #[test]
        fn printable_text_holds_nothing_that_steers(text in "\\PC*|(?s:.*)") {
            let shown = printable(&text);
            prop_assert!(!shown.contains(is_unprintable));
            prop_assert_eq!(printable(&shown), shown.clone());
            let lines = printable_lines(&text);
            prop_assert!(!lines.chars().any(|c| c != '\n' && is_unprintable(c)));
            prop_assert_eq!(lines.matches('\n').count(), text.matches('\n').count());
            // What needs no escape is kept, in its order.
            let kept = text.chars().filter(|c| !is_unprintable(*c));
            let mut all = shown.chars();
            prop_assert!(kept.into_iter().all(|c| all.any(|shown| shown == c)));
        }

        #[test]
        fn printable_json_has_the_same_value(text in "(?s:.*)") {
            let json = serde_json::to_string(&text).unwrap();
            let shown = printable_json(&json);
            prop_assert!(!shown.contains(is_unprintable));
            prop_assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), text);
        }
    }
}
