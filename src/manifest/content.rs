//! Recognizes files that are not manifests by their first bytes: workbooks with another extension, web pages, images.

use super::input::Format;

/// Content that is not a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ForeignContent {
    /// Description with an article.
    pub(super) what: &'static str,
    /// What to do about it.
    pub(super) advice: &'static str,
}

const SAVE_AS_CSV: &str = "save it as CSV UTF-8 in the spreadsheet";
const SAVE_AS_XLSX: &str = "save it as .xlsx or as CSV UTF-8 in the spreadsheet";
const UNPACK: &str = "unpack it, or compress it with gzip or zstd";
const IMAGE: ForeignContent =
    ForeignContent { what: "an image", advice: "give a manifest that names it, or its directory" };

/// First bytes of known files.
const MAGIC: [(&[u8], ForeignContent); 18] = [
    (
        b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1",
        ForeignContent {
            what: "an old Excel workbook (.xls) or one with a password",
            advice: "save it as .xlsx without a password, or as CSV UTF-8, in the spreadsheet",
        },
    ),
    (b"%PDF-", ForeignContent { what: "a PDF", advice: "export the list as CSV UTF-8 where it was made" }),
    (b"\xFF\xD8\xFF", IMAGE),
    (b"\x89PNG\r\n\x1A\n", IMAGE),
    (b"GIF87a", IMAGE),
    (b"GIF89a", IMAGE),
    (b"II*\0", IMAGE),
    (b"MM\0*", IMAGE),
    (b"\x1F\x8B\x08", ForeignContent { what: "gzip data inside compressed data", advice: "decompress it once" }),
    (
        b"\x28\xB5\x2F\xFD",
        ForeignContent { what: "Zstandard data inside compressed data", advice: "decompress it once" },
    ),
    (b"\xFD7zXZ\0", ForeignContent { what: "xz data", advice: UNPACK }),
    (b"BZh91AY&SY", ForeignContent { what: "bzip2 data", advice: UNPACK }),
    (b"7z\xBC\xAF\x27\x1C", ForeignContent { what: "a 7z archive", advice: UNPACK }),
    (b"Rar!\x1A\x07", ForeignContent { what: "a RAR archive", advice: UNPACK }),
    (
        b"SQLite format 3\0",
        ForeignContent { what: "an SQLite database", advice: "give the manifest; a checkpoint goes with --checkpoint" },
    ),
    (b"\xFF\xFE\0\0", ForeignContent { what: "text in UTF-32", advice: "save it as UTF-8" }),
    (b"\0\0\xFE\xFF", ForeignContent { what: "text in UTF-32", advice: "save it as UTF-8" }),
    (b"+/v8", ForeignContent { what: "text in UTF-7", advice: "save it as UTF-8" }),
];

/// An OpenDocument spreadsheet.
pub(super) const ODS: ForeignContent =
    ForeignContent { what: "an OpenDocument spreadsheet (.ods)", advice: SAVE_AS_XLSX };
/// A binary workbook.
pub(super) const XLSB: ForeignContent = ForeignContent { what: "a binary workbook (.xlsb)", advice: SAVE_AS_XLSX };
/// A ZIP archive that is no office document.
pub(super) const ZIP: ForeignContent =
    ForeignContent { what: "a ZIP archive", advice: "name it .zip if it holds photos, or unpack it" };
/// An office document that is no workbook.
pub(super) const DOCUMENT: ForeignContent =
    ForeignContent { what: "an office document without sheets", advice: "give the workbook that lists the people" };
/// A compressed workbook.
pub(super) const COMPRESSED_WORKBOOK: ForeignContent =
    ForeignContent { what: "a compressed workbook", advice: "decompress it: an .xlsx file is compressed already" };

/// Entry names that tell office documents from other ZIP archives.
const WORKBOOK_ENTRIES: [&[u8]; 4] = [b"[Content_Types].xml", b"xl/", b"_rels/", b"docProps/"];

/// Recognizes content from its first bytes, before decoding.
pub(super) fn recognize_bytes(head: &[u8]) -> Option<ForeignContent> {
    if head.starts_with(b"PK\x03\x04") || head.starts_with(b"PK\x05\x06") {
        let contains = |name: &&[u8]| head.windows(name.len()).any(|window| window == *name);
        return Some(if contains(&&b"opendocument.spreadsheet"[..]) {
            ODS
        } else if WORKBOOK_ENTRIES.iter().any(contains) {
            ForeignContent { what: "an .xlsx workbook", advice: "rename it to .xlsx, or give --input-format xlsx" }
        } else {
            ZIP
        });
    }
    let is_riff = head.starts_with(b"RIFF") && head.get(8..12) == Some(b"WEBP");
    let is_heif = head.get(4..8) == Some(b"ftyp") && head.first() == Some(&0);
    if is_riff || is_heif {
        return Some(IMAGE);
    }
    MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, foreign)| *foreign)
}

/// Recognizes content that is certainly not an .xlsx workbook, which is a ZIP archive.
pub(super) fn recognize_non_workbook(head: &[u8]) -> Option<ForeignContent> {
    if head.starts_with(b"PK") {
        return None;
    }
    let text = ForeignContent {
        what: "no workbook",
        advice: "name it after its format, such as .csv, or give --input-format csv; if it is damaged, save it again",
    };
    let html = recognize_text(&String::from_utf8_lossy(head), Format::Csv);
    Some(recognize_bytes(head).or(html).unwrap_or(text))
}

/// Recognizes content from the start of its text.
pub(super) fn recognize_text(head: &str, format: Format) -> Option<ForeignContent> {
    let head = head.trim_start();
    let begins = |tag: &&str| head.get(..tag.len()).is_some_and(|start| start.eq_ignore_ascii_case(tag));
    if ["<!doctype", "<html", "<head", "<body", "<table", "<meta", "<style", "<!--"].iter().any(begins) {
        return Some(ForeignContent {
            what: "a web page (HTML)",
            advice: "download the list again, or open it in a spreadsheet and save it as CSV UTF-8",
        });
    }
    if begins(&"<?xml") {
        return Some(ForeignContent { what: "XML", advice: SAVE_AS_CSV });
    }
    let is_json = || {
        let inner = head.strip_prefix('[').map_or(head, str::trim_start);
        inner.strip_prefix('{').is_some_and(|members| members.trim_start().starts_with('"'))
    };
    match format {
        Format::Csv | Format::Tsv if is_json() => Some(ForeignContent {
            what: "JSON",
            advice: "name it .json (an array of objects) or .jsonl (one object per line), or give --input-format",
        }),
        Format::Csv | Format::Tsv | Format::JsonLines | Format::Json | Format::Sheet => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_files_are_recognized_by_their_first_bytes() {
        for (head, what) in [
            (&b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0[Content_Types].xml \xA2"[..], "an .xlsx workbook"),
            (b"PK\x03\x04\x14\0\0\x08\0\0mimetypeapplication/vnd.oasis.opendocument.spreadsheet", "an OpenDocument"),
            (b"PK\x03\x04\x14\0\0\0photos/a.jpg", "a ZIP archive"),
            (b"\xD0\xCF\x11\xE0\xA1\xB1\x1A\xE1\0\0", "an old Excel workbook"),
            (b"RIFF\x10\0\0\0WEBPVP8 ", "an image"),
            (b"\0\0\0\x18ftypheic", "an image"),
            (b"\xFF\xD8\xFF\xE0", "an image"),
            (b"%PDF-1.7", "a PDF"),
            (b"SQLite format 3\0", "an SQLite database"),
        ] {
            assert!(recognize_bytes(head).unwrap().what.starts_with(what), "{what}");
        }
        for head in [&b"path,id\n"[..], b"PK,path\n", b"BM,path\n", b"{\"path\":1}", b"", b"\xEF\xBB\xBFpath"] {
            assert_eq!(recognize_bytes(head), None);
        }
    }

    #[test]
    fn web_pages_and_json_are_recognized_in_a_table() {
        for (head, what) in [
            ("\r\n <!DOCTYPE html>", "a web page"),
            ("<HTML><body>", "a web page"),
            ("<table border=1>", "a web page"),
            ("<?xml version=\"1.0\"?>", "XML"),
            ("{ \"path\": 1}", "JSON"),
            (" [\n {\"path\"", "JSON"),
        ] {
            assert!(recognize_text(head, Format::Csv).unwrap().what.starts_with(what), "{head}");
        }
        assert_eq!(recognize_text("{\"path\":1}", Format::JsonLines), None);
        assert_eq!(recognize_text("<path>,id", Format::Csv), None);
    }
}
