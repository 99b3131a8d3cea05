//! Decoding and escaping of text from outside.

use std::{borrow::Cow, fmt::Write};

/// Escapes what a terminal, a log or a page would interpret instead of showing: control characters, line separators, and
/// the marks that reorder text. One line stays one line.
pub fn printable(text: &str) -> Cow<'_, str> {
    escape(text, is_unprintable)
}

/// Like [`printable`], but keeps line feeds, for our own text of several lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escape(text, |c| c != '\n' && is_unprintable(c))
}

/// Like [`printable_lines`], but escapes line feeds unless the next line is indented, so a name can't forge a line of ours.
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

/// Escapes the same characters in a JSON text as `\uXXXX`, which keeps its value.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    let Some(first) = json.find(is_unprintable) else { return Cow::Borrowed(json) };
    let (clean, rest) = json.split_at(first);
    let mut escaped = clean.to_owned();
    for c in rest.chars() {
        if is_unprintable(c) {
            // Each of these characters is a single UTF-16 unit.
            let _ = write!(escaped, "\\u{:04x}", u32::from(c));
        } else {
            escaped.push(c);
        }
    }
    Cow::Owned(escaped)
}

/// Whether a character is a control, a line or paragraph separator, or a bidirectional formatting character.
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

/// Decodes a configuration file: UTF-8, or UTF-16 with a byte-order mark as Windows editors write it. Removes the mark.
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

/// A file that is not UTF-8 text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("it is not UTF-8 text: save it as UTF-8")]
pub struct NotText;

impl From<NotText> for std::io::Error {
    fn from(error: NotText) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, error)
    }
}

/// Strips white space and one pair of quotes from a pasted value.
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
    fn unprintable_characters_are_escaped() {
        assert_eq!(printable("a\u{1b}[31mb\r\nc\u{9b}d"), r"a\u{1b}[31mb\u{d}\u{a}c\u{9b}d");
        assert_eq!(printable("gpj.\u{202e}exe\u{2066}\u{200f}\u{2028}"), r"gpj.\u{202e}exe\u{2066}\u{200f}\u{2028}");
        assert_eq!(printable_lines("a\n\tb"), "a\n\\u{9}b");
        assert_eq!(printable_message("can't read x\nerror: y\n  advice"), "can't read x\\u{a}error: y\n  advice");
        assert_eq!(printable_json("{\"a\":\"\u{202e}\u{85}\u{7f}\"}"), r#"{"a":"\u202e\u0085\u007f"}"#);
    }

    #[test]
    fn letters_of_every_script_are_kept() {
        for text in ["Zoë", "张三", "مُحَمَّد", "שָׁלוֹם", "श्री\u{200d}", "می\u{200c}خواهم", "👩‍💻", "C:\\photos\\a.jpg"]
        {
            assert!(matches!(printable(text), Cow::Borrowed(same) if same == text), "{text}");
        }
    }

    #[test]
    fn bom_is_honoured_and_other_encodings_are_rejected() {
        let utf16 = |unit: fn(u16) -> [u8; 2]| "\u{feff}kéy".encode_utf16().flat_map(unit).collect::<Vec<u8>>();
        for bytes in ["kéy".into(), "\u{feff}kéy".into(), utf16(u16::to_le_bytes), utf16(u16::to_be_bytes)] {
            assert_eq!(decode_text(bytes), Ok("kéy".to_owned()));
        }
        for bytes in [&b"k\xe9y"[..], b"\xff\xfek", b"\xff\xfe\x00\xd8"] {
            assert_eq!(decode_text(bytes.to_vec()), Err(NotText));
        }
    }

    #[test]
    fn quotes_and_blanks_around_a_value_are_stripped() {
        for (written, meant) in
            [(" a\r", "a"), ("\"a\"", "a"), ("' a '\n", "a"), ("\"a", "\"a"), ("\"", "\""), ("", "")]
        {
            assert_eq!(unquoted(written), meant, "{written:?}");
        }
    }

    proptest! {
        #[test]
        fn printable_text_has_no_control_characters(text in "\\PC*|(?s:.*)") {
            let shown = printable(&text);
            prop_assert!(!shown.contains(is_unprintable));
            prop_assert_eq!(printable(&shown), shown.clone());
            let lines = printable_lines(&text);
            prop_assert!(!lines.chars().any(|c| c != '\n' && is_unprintable(c)));
            prop_assert_eq!(lines.matches('\n').count(), text.matches('\n').count());
            // Printable characters are kept, in order.
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
