//! Conversions between SQLite values and domain types.

use std::{
    ffi::OsStr,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use rusqlite::{
    Result, Row,
    types::{FromSqlError, Type, ValueRef},
};

use crate::domain::{
    ConfirmedBy, Digest, Extra, FaceGroupCode, FileStamp, ItemState, Member, MerchantUserId, PhotoSource, PhotoUrl,
    RejectedBy, Supersedes,
};

fn unknown(column: usize, what: String) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, Type::Integer, what.into())
}

pub(super) fn state(number: i64) -> Result<ItemState> {
    ItemState::ALL
        .into_iter()
        .find(|&state| state as i64 == number)
        .ok_or_else(|| unknown(0, format!("state {number}")))
}

pub(super) fn stage(number: Option<i64>) -> Result<Option<RejectedBy>> {
    match number {
        None => Ok(None),
        Some(0) => Ok(Some(RejectedBy::Local)),
        Some(1) => Ok(Some(RejectedBy::Service)),
        Some(other) => Err(unknown(0, format!("stage {other}"))),
    }
}

pub(super) fn stage_number(stage: RejectedBy) -> i64 {
    match stage {
        RejectedBy::Local => 0,
        RejectedBy::Service => 1,
    }
}

pub(super) fn confirmed_by(number: Option<i64>) -> Result<Option<ConfirmedBy>> {
    match number {
        None => Ok(None),
        Some(0) => Ok(Some(ConfirmedBy::Response)),
        Some(1) => Ok(Some(ConfirmedBy::Query)),
        Some(other) => Err(unknown(0, format!("confirmation {other}"))),
    }
}

pub(super) fn confirmed_by_number(confirmed_by: ConfirmedBy) -> i64 {
    match confirmed_by {
        ConfirmedBy::Response => 0,
        ConfirmedBy::Query => 1,
    }
}

pub(super) fn group(row: &Row<'_>, column: &str) -> Result<FaceGroupCode> {
    let text: String = row.get(column)?;
    FaceGroupCode::parse_recorded(text).map_err(|invalid| unknown(0, format!("group code: {invalid}")))
}

pub(super) fn user(row: &Row<'_>, column: &str) -> Result<MerchantUserId> {
    let text: String = row.get(column)?;
    MerchantUserId::parse_recorded(text).map_err(|invalid| unknown(0, format!("user id: {invalid}")))
}

/// Stored form of a path: relative to the root if it lies in it, and as text if it is UTF-8.
pub(super) fn path_value<'a>(path: &'a Path, root: &Path) -> ValueRef<'a> {
    let relative = path.strip_prefix(root).unwrap_or(path);
    match relative.to_str() {
        Some(text) => ValueRef::Text(text.as_bytes()),
        None => ValueRef::Blob(relative.as_os_str().as_bytes()),
    }
}

pub(super) fn path(row: &Row<'_>, column: &str, root: &Path) -> Result<Option<PathBuf>> {
    match row.get_ref(column)? {
        ValueRef::Null => Ok(None),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => Ok(Some(root.join(OsStr::from_bytes(bytes)))),
        ValueRef::Integer(_) | ValueRef::Real(_) => Err(FromSqlError::InvalidType.into()),
    }
}

/// Photo of an item. A constraint of the table ensures that it has either a path or a URL.
pub(super) fn picture(row: &Row<'_>, root: &Path) -> Result<PhotoSource> {
    Ok(match (path(row, "path", root)?, place(row)?) {
        (Some(path), None) => PhotoSource::Path(path),
        (Some(path), Some(at)) => PhotoSource::Member(Member { path, at: at.unsigned_abs() }),
        (None, _) => link(row.get("url")?),
    })
}

/// Photo of the column `url`: a link, or a place in object storage.
fn link(url: String) -> PhotoSource {
    match url.parse() {
        Ok(object) => PhotoSource::Object(object, None),
        Err(_) => PhotoSource::Url(PhotoUrl(url)),
    }
}

/// Column `place` as described in migrations/0007.
pub(super) fn place(row: &Row<'_>) -> Result<Option<i64>> {
    row.get("place")
}

pub(super) fn stamp(row: &Row<'_>) -> Result<Option<FileStamp>> {
    let (size, mark): (Option<i64>, Option<i64>) = (row.get("size")?, row.get("mark")?);
    Ok(size.zip(mark).map(|(size, mark)| FileStamp { size: size.unsigned_abs(), mark }))
}

pub(super) fn digest(row: &Row<'_>) -> Result<Option<Digest>> {
    Ok(row.get::<_, Option<[u8; 32]>>("sha256")?.map(Digest))
}

/// Parses the column `replaces` as described in migrations/0002.
pub(super) fn replaces(text: Option<String>) -> Result<Option<Supersedes>> {
    let Some(text) = text else { return Ok(None) };
    let records: Option<Vec<i64>> =
        serde_json::from_str(&text).map_err(|source| unknown(0, format!("records to replace: {source}")))?;
    Ok(Some(records.map_or(Supersedes::Unknown, Supersedes::Records)))
}

pub(super) fn extra_text(extra: &Extra) -> Option<String> {
    (!extra.is_empty()).then(|| serde_json::to_string(extra).expect("pairs of strings are JSON"))
}

pub(super) fn extra(text: Option<String>) -> Result<Extra> {
    text.map_or(Ok(Extra::new()), |text| {
        serde_json::from_str(&text).map_err(|source| unknown(0, format!("other fields: {source}")))
    })
}
