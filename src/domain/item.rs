//! What a manifest says: items, and rows that could not become one.

use std::{fmt, path::PathBuf};

use super::{ErrorCode, FaceGroupCode, MerchantUserId};

/// The columns of an export, in its order (contract.md); the manifest's own other fields follow. An export is itself a
/// manifest, which reads of these the photo, the id and the group, and which row it is; it passes over the rest. A manifest
/// is an export of ours where all of them are there.
pub const EXPORT_COLUMNS: [&str; 16] = [
    "row",
    "source",
    "path",
    "url",
    "merchant_user_id",
    "face_group_code",
    "status",
    "stage",
    "code",
    "message",
    "request_id",
    "attempts",
    "face_quality",
    "sha256",
    "enrolled_at",
    "confirmed_by",
];

/// The manifest's own other fields of a row, in the order of its columns.
pub type Extra = Vec<(String, String)>;

/// A photo by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhotoSource {
    /// A file on this machine. Relative paths are already joined to the root.
    Path(PathBuf),
    /// A link that the service reads by itself.
    Url(PhotoUrl),
}

/// What tells, without reading a file, that it is most likely the one that was read before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// Time of the last change, in nanoseconds since 1970.
    pub mtime_ns: i64,
}

/// A link to a photo. Often signed, and then a secret: `Debug` and `Display` show neither query nor user part.
#[derive(Clone, PartialEq, Eq)]
pub struct PhotoUrl(pub String);

impl fmt::Display for PhotoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = self.0.split(['?', '#']).next().unwrap_or_default();
        let (scheme, rest) = shown.split_once("://").unwrap_or(("", shown));
        let authority_end = rest.find('/').unwrap_or(rest.len());
        let host_start = rest[..authority_end].rfind('@').map_or(0, |at| at + 1);
        let masked = if shown.len() < self.0.len() { "?…" } else { "" };
        write!(f, "{scheme}://{}{masked}", &rest[host_start..])
    }
}

impl fmt::Debug for PhotoUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PhotoUrl({self})")
    }
}

/// The row of an earlier manifest that a row of an export names. Once it can be an item, it removes that row if it was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The manifest, as the checkpoint names it.
    pub source: String,
    /// The row in it.
    pub row: u64,
    /// Was it refused because another row has its id?
    pub was_duplicate: bool,
}

/// A row that parsed: one photo to enrol under one id in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// The physical line on which the row begins, the header being 1.
    pub row: u64,
    /// Where the person is to be found.
    pub group: FaceGroupCode,
    /// Who it is.
    pub user: MerchantUserId,
    /// The photo.
    pub picture: PhotoSource,
    /// The manifest's other fields.
    pub extra: Extra,
    /// Of a row of an export.
    pub origin: Option<Box<Origin>>,
}

/// Why a row could not become an item. The name of each is the `code` of its refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowErrorKind {
    /// The record can't be read as CSV or JSON, or is not UTF-8.
    UnreadableRow,
    /// Not as many fields as the header names.
    WrongFieldCount,
    /// A quote that is never closed.
    UnclosedQuote,
    /// A line of more than 1 MiB.
    RecordTooLong,
    /// Neither `path` nor `url`.
    MissingPicture,
    /// Both `path` and `url`.
    TwoPictures,
    /// A `url` that is not http or https.
    InvalidUrl,
    /// The photo itself where its path or link belongs.
    EmbeddedPhoto,
    /// A path that is longer than any file's.
    PathTooLong,
    /// A path that leads out of the root.
    OutsideRoot,
    /// A link in a directory of photos: what it points to would be enrolled twice, or is not of this directory.
    NotFollowed,
    /// A pipe, a socket or a device with the name of a photo.
    NotAFile,
    /// No id given, and none to be taken from the photo's name.
    MissingUserId,
    /// An id that the service, or a report, can't carry.
    InvalidUserId,
    /// An id that a spreadsheet or a program has damaged.
    SuspiciousUserId,
    /// No group given, and no `--group`.
    MissingGroup,
    /// A group code that can't be one.
    InvalidGroup,
    /// An earlier row has the same id in the same group.
    DuplicateUserId,
}

impl RowErrorKind {
    /// The `code` column of the refused row.
    pub fn code(self) -> ErrorCode {
        ErrorCode(format!("{self:?}"))
    }
}

/// A row that could not become an item. The run goes on without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {message}")]
pub struct RowError {
    /// The physical line on which the row begins, the header being 1.
    pub row: u64,
    /// What kind of defect.
    pub defect: RowErrorKind,
    /// What is wrong and what to do, for a person. No id in it.
    pub message: String,
    /// The fields as written, as far as they could be told apart.
    pub fields: Box<RawFields>,
}

/// The fields of a refused row as they were written, so that an export can give them back for mending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawFields {
    /// `path`
    pub path: Option<String>,
    /// `url`
    pub url: Option<String>,
    /// `merchant_user_id`
    pub user: Option<String>,
    /// `face_group_code`, or the run's `--group`
    pub group: Option<String>,
    /// the others
    pub extra: Extra,
    /// `source` and `row`, of a row of an export
    pub origin: Option<Box<Origin>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_url_shows_neither_signature_nor_user() {
        let url = PhotoUrl("https://me:pw@b.oss.example/a.jpg?Expires=1&Signature=s3cret".into());
        assert_eq!(url.to_string(), "https://b.oss.example/a.jpg?…");
        assert_eq!(format!("{url:?}"), "PhotoUrl(https://b.oss.example/a.jpg?…)");
        assert_eq!(PhotoUrl("http://h/a@b.jpg".into()).to_string(), "http://h/a@b.jpg");
    }
}
