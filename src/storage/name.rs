//! Names of members: their encoding, and the path that they mean.

use rawzip::{ZipFileHeaderRecord, extra_fields::ExtraFieldId};

use crate::{domain::Encoding, files::spelling::has_drive};

/// Why a name gives no path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BadName {
    /// It is not UTF-8, and nothing says what it is.
    UnknownEncoding,
    /// It can't be decoded with the given encoding, or is not the UTF-8 that it claims to be.
    Undecodable,
    /// It leads out of the archive.
    Outside,
    /// It is empty, or holds a NUL.
    NoName,
}

/// Decodes the name of a member. Names are ids, so none is guessed.
pub(super) fn decode(record: &ZipFileHeaderRecord<'_>, given: Option<Encoding>) -> Result<String, BadName> {
    let path = record.file_path();
    let raw = path.as_bytes();
    if raw.is_ascii() || record.flags().is_utf8() {
        return utf_8(raw, BadName::Undecodable);
    }
    if let Some(name) = unicode_path(record, raw) {
        return utf_8(name, BadName::Undecodable);
    }
    match given {
        Some(Encoding(encoding)) => {
            let name = encoding.decode_without_bom_handling_and_without_replacement(raw);
            name.map(|name| name.into_owned()).ok_or(BadName::Undecodable)
        }
        None => utf_8(raw, BadName::UnknownEncoding),
    }
}

fn utf_8(raw: &[u8], otherwise: BadName) -> Result<String, BadName> {
    std::str::from_utf8(raw).map(str::to_owned).map_err(|_| otherwise)
}

/// The name in UTF-8 that archivers add beside one in another encoding (APPNOTE 4.6.9). It counts only for the name that it
/// was made for.
fn unicode_path<'a>(record: &'a ZipFileHeaderRecord<'_>, raw: &[u8]) -> Option<&'a [u8]> {
    let (_, field) = record.extra_fields().find(|(id, _)| *id == ExtraFieldId::INFO_ZIP_UNICODE_PATH)?;
    let (version, rest) = field.split_first()?;
    let (crc, name) = rest.split_first_chunk::<4>()?;
    (*version == 1 && u32::from_le_bytes(*crc) == rawzip::crc32(raw)).then_some(name)
}

/// Whether a name is that of a folder.
pub(super) fn is_folder(name: &str) -> bool {
    name.ends_with(separator(name))
}

/// The path that a name means. Leading slashes are dropped, as unzip does.
pub(super) fn normalize(name: &str) -> Result<String, BadName> {
    if name.contains('\0') {
        return Err(BadName::NoName);
    }
    let parts: Vec<&str> = name.split(separator(name)).filter(|part| !matches!(*part, "" | ".")).collect();
    if parts.contains(&"..") || has_drive(&format!("{}/", parts.first().ok_or(BadName::NoName)?)) {
        return Err(BadName::Outside);
    }
    Ok(parts.join("/"))
}

/// Archivers on Windows write backslashes; a name with a slash may hold one.
fn separator(name: &str) -> char {
    if name.contains('\\') && !name.contains('/') { '\\' } else { '/' }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_paths_below_the_archive() {
        for (name, path) in [
            ("a.jpg", Ok("a.jpg")),
            ("photos/a.jpg", Ok("photos/a.jpg")),
            ("./photos//a.jpg", Ok("photos/a.jpg")),
            ("/photos/a.jpg", Ok("photos/a.jpg")),
            ("photos\\a.jpg", Ok("photos/a.jpg")),
            ("photos/a\\b.jpg", Ok("photos/a\\b.jpg")),
            ("a..b/c...jpg", Ok("a..b/c...jpg")),
            ("../a.jpg", Err(BadName::Outside)),
            ("photos/../../a.jpg", Err(BadName::Outside)),
            ("photos\\..\\a.jpg", Err(BadName::Outside)),
            ("C:\\photos\\a.jpg", Err(BadName::Outside)),
            ("c:/a.jpg", Err(BadName::Outside)),
            ("", Err(BadName::NoName)),
            ("./", Err(BadName::NoName)),
            ("a\0.jpg", Err(BadName::NoName)),
        ] {
            assert_eq!(normalize(name), path.map(str::to_owned), "{name:?}");
        }
        assert!(is_folder("photos/") && is_folder("photos\\") && !is_folder("a.jpg") && !is_folder("a/b\\"));
    }
}
