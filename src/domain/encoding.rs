//! Encodings of texts that do not say theirs.

use std::str::FromStr;

/// An encoding by name, as the flags `--encoding` and `--names-in` take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoding(pub &'static encoding_rs::Encoding);

impl FromStr for Encoding {
    type Err = &'static str;

    /// Parses a label of the WHATWG encoding standard, or a Windows code page number.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let label = match text.trim().to_ascii_lowercase().trim_start_matches("cp") {
            "932" => "shift_jis",
            "936" => "gbk",
            "949" => "euc-kr",
            "950" => "big5",
            "65001" => "utf-8",
            _ => text,
        };
        let found = encoding_rs::Encoding::for_label_no_replacement(label.as_bytes());
        found.map(Self).ok_or(
            "unknown encoding; use a name such as gbk, gb18030, big5, shift_jis, euc-kr, windows-1252 or utf-16le",
        )
    }
}
