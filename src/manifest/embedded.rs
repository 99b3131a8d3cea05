//! Recognizes a photo that is embedded in a row as Base64 or hexadecimal, instead of its name.
//!
//! An embedded photo never goes into a checkpoint, an export, a log or a report.

/// Longest path in bytes (PATH_MAX on Linux).
pub(super) const MAX_PATH_BYTES: usize = 4_096;
/// Shortest encoded photo in characters.
const MIN_PHOTO_CHARS: usize = 48;
/// An all-encoded text of this length is not a path, whatever it begins with.
const MIN_ENCODED_CHARS: usize = 512;
/// Shortest line of an encoded photo that is split into lines, but for the last one.
const MIN_LINE_CHARS: usize = 32;
/// First characters of JPEG, PNG, GIF, WebP and TIFF in Base64.
const BASE64_PREFIXES: [&str; 6] = ["/9j/", "_9j_", "iVBORw0KGg", "R0lGOD", "UklGR", "SUkqA"];
/// First characters of JPEG, PNG and GIF in hexadecimal.
const HEX_PREFIXES: [&str; 3] = ["ffd8ff", "89504e47", "47494638"];

/// Whether the text is or contains an encoded photo.
pub(super) fn is_photo(text: &str) -> bool {
    let text = text.trim_start();
    if is_data_url(text) {
        return true;
    }
    if text.len() < MIN_PHOTO_CHARS || is_file_name(text) {
        return false;
    }
    // Some JSON writers escape slashes.
    let text = text.replace('\\', "");
    is_all_encoded(&text)
        || contains_photo(&text, &BASE64_PREFIXES)
        || contains_photo(&text.to_ascii_lowercase(), &HEX_PREFIXES)
}

/// Whether the text is a `data:` URL of an image or of Base64.
fn is_data_url(text: &str) -> bool {
    let Some((head, _)) = text.split_once(',') else { return false };
    let head = head.to_ascii_lowercase();
    head.starts_with("data:image/") || (head.starts_with("data:") && head.ends_with(";base64"))
}

/// Whether the text is long and encoded from end to end. Base64 may be split into lines, but not into words.
fn is_all_encoded(text: &str) -> bool {
    let lines: Vec<&str> = text.split_whitespace().collect();
    let is_split_into_lines = lines.iter().rev().skip(1).all(|line| line.len() >= MIN_LINE_CHARS);
    let chars: usize = lines.iter().map(|line| line.len()).sum();
    is_split_into_lines && chars >= MIN_ENCODED_CHARS && lines.iter().all(|line| line.chars().all(is_encoded))
}

/// Whether a text ends as a file name does. Encoded photos have no dot, but a folder may be named like their beginning.
fn is_file_name(text: &str) -> bool {
    let extension = text.trim_end().rsplit_once('.').map(|(_, extension)| extension);
    text.len() < MIN_ENCODED_CHARS
        && extension
            .is_some_and(|text| (2..=5).contains(&text.len()) && text.chars().all(|c| c.is_ascii_alphanumeric()))
}

/// Whether an encoded photo begins anywhere in the text, as in `b'/9j/…'`, `\xffd8ff…` or `{"data": "/9j/…"}`.
fn contains_photo(text: &str, heads: &[&str]) -> bool {
    heads.iter().flat_map(|head| text.match_indices(head)).any(|(at, head)| {
        // Letters inside a word don't start a photo, except after the `x` of 0x and \x.
        let before = text[..at].chars().next_back();
        let is_word = |c: char| c.is_ascii_alphanumeric() && c != 'x';
        let begins = !head.starts_with(|c: char| c.is_ascii_alphanumeric()) || !before.is_some_and(is_word);
        // Base64 may be split into lines.
        let encoded = text[at..].chars().filter(|c| !c.is_whitespace());
        begins && encoded.take(MIN_PHOTO_CHARS).filter(|c| is_encoded(*c)).count() == MIN_PHOTO_CHARS
    })
}

fn is_encoded(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=' | '-' | '_')
}

#[cfg(test)]
mod tests {
    use base64::{
        Engine as _,
        engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE},
    };
    use proptest::prelude::*;

    use super::*;

    fn photo(head: &[u8], rest: &[u8]) -> Vec<u8> {
        [head, rest].concat()
    }

    fn encodings(bytes: &[u8]) -> Vec<String> {
        let plain = STANDARD.encode(bytes);
        let lines: Vec<String> =
            plain.as_bytes().chunks(20).map(|line| String::from_utf8_lossy(line).into_owned()).collect();
        vec![
            STANDARD_NO_PAD.encode(bytes),
            URL_SAFE.encode(bytes),
            lines.join("\r\n"),
            plain.replace('/', "\\/"),
            format!("b'{plain}'"),
            format!(" data:image/jpeg;base64,{plain}"),
            format!("{{\"type\":\"jpg\",\"data\":\"{plain}\"}}"),
            hex::encode(bytes),
            format!("0x{}", hex::encode_upper(bytes)),
            format!("\\x{}", hex::encode(bytes)),
            plain,
        ]
    }

    proptest! {
        #[test]
        fn photo_is_recognized_in_every_encoding(rest in prop::collection::vec(any::<u8>(), 48..2_000)) {
            for head in [&b"\xff\xd8\xff\xe0"[..], b"\x89PNG\r\n\x1a\n", b"GIF89a"] {
                for text in encodings(&photo(head, &rest)) {
                    prop_assert!(is_photo(&text), "{}", text);
                }
            }
        }

        #[test]
        fn any_long_encoded_text_is_a_photo(bytes in prop::collection::vec(any::<u8>(), 400..1_000)) {
            prop_assert!(is_photo(&STANDARD.encode(&bytes)) && is_photo(&hex::encode(&bytes)));
        }

        #[test]
        fn photo_path_is_not_a_photo(
            folders in prop::collection::vec("[A-Za-z0-9 _-]{1,60}", 0..8),
            name in "[A-Za-z0-9_-]{1,60}",
            ending in "(jpg|JPEG|png)",
        ) {
            let path = folders.iter().map(|folder| format!("{folder}/")).collect::<String>();
            let path = format!("{}{}.{}", path, name, ending);
            prop_assert!(!is_photo(&path), "{}", path);
        }
    }

    #[test]
    fn remarks_are_not_photos() {
        let remark = "moved here from the old building and waits for a badge ".repeat(20);
        for text in
            ["data: unknown", "data:2024-01-05, second take", "DATA:", &remark, &format!("a{}", " ".repeat(600))]
        {
            assert!(!is_photo(text), "{text}");
        }
        let lines =
            STANDARD.encode([7; 600]).as_bytes().chunks(76).map(<[u8]>::to_vec).collect::<Vec<_>>().join(&b'\n');
        for text in
            ["data:image/png,%89PNG", "Data:Application/Octet-Stream;Base64,AAAA", str::from_utf8(&lines).unwrap()]
        {
            assert!(is_photo(text), "{text}");
        }
    }

    #[test]
    fn short_texts_and_digests_are_not_photos() {
        for text in ["", "/9j/a.jpg", "photos/9j/u00001.jpg", &"ab".repeat(32), "ffd8ff.jpg", "/9j/4AAQSkZJRgABAQ.jpg"]
        {
            assert!(!is_photo(text), "{text}");
        }
    }
}
