//! What holds of the rows of any manifest.

use std::path::Path;

use face_enroll::{
    domain::{FaceGroupCode, PhotoSource},
    manifest::{Format, FileFormat, Settings, from_bytes},
};

const ROOT: &str = "/archive";

/// Reads it all.
pub fn check(bytes: &[u8], format: FileFormat) {
    let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() };
    let Ok(rows) = from_bytes(bytes.to_vec(), format, Path::new(ROOT), &settings) else { return };
    // Objects of JSON that share a line count on.
    let is_line_end = |byte: &&u8| format.format == Format::Json || matches!(byte, b'\n' | b'\r');
    let lines = match format.format {
        Format::Sheet => 1_048_576,
        Format::Csv | Format::Tsv | Format::JsonLines | Format::Json => {
            1 + bytes.iter().filter(is_line_end).count() as u64
        }
    };
    let mut last = 0;
    for row in rows {
        let Ok(row) = row else { return };
        let line = row.as_ref().map_or_else(|error| error.row, |item| item.row);
        assert!(line > last && line <= lines, "row {line} behind {last}, of {lines}");
        last = line;
        if let Ok(item) = row {
            let id = item.user.as_str();
            assert!((1..=32).contains(&id.chars().count()) && !id.contains(char::is_control) && id.trim() == id);
            match item.picture {
                PhotoSource::Member(_) => unreachable!("no manifest names the place of a member"),
                PhotoSource::Object(object, stamp) => assert!(!object.is_prefix() && stamp.is_none()),
                PhotoSource::Path(path) => assert!(path.starts_with(ROOT) && !path.ends_with("..")),
                PhotoSource::Url(url) => assert!(url.0.contains("://") || url.0.contains(':')),
            }
        }
    }
}
