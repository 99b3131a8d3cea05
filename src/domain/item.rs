//! Items of a manifest, and rows that could not become one.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::{ErrorCode, FaceGroupCode, MerchantUserId, ObjectRef};

/// Columns of an export, in its order (contract.md); the manifest's extra fields follow. An export can be read as a
/// manifest: the photo, the id, the group and the origin of the row are used, the rest is ignored. A manifest with all of
/// these columns is an export.
pub const EXPORT_COLUMNS: [&str; 16] = [
    "row", "source", "path", "url", "merchant_user_id", "face_group_code", "status", "stage", "code", "message",
    "request_id", "attempts", "face_quality", "sha256", "enrolled_at", "confirmed_by",
];

/// Extra fields of a row, in the order of the manifest's columns.
pub type Extra = Vec<(String, String)>;

/// A photo by reference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PhotoSource {
    /// A file on this machine, or a member of a ZIP archive that a manifest names. A relative path is already joined to the
    /// root.
    Path(PathBuf),
    /// A member of a ZIP archive that is the source itself.
    Member(Member),
    /// An object in object storage, with its stamp if a listing gave it.
    Object(ObjectRef, Option<FileStamp>),
    /// A link that the service downloads itself.
    Url(PhotoUrl),
}

impl PhotoSource {
    /// Path of a file or a member; `None` for an object or a link.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Member(member) => Some(&member.path),
            Self::Object(..) | Self::Url(_) => None,
        }
    }
}

/// A member of a ZIP archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Path of the archive, and the member's name below it: `/data/photos.zip/0001.jpg`.
    pub path: PathBuf,
    /// Offset of the member's record in the archive's directory when it was listed. Only a hint: the record found there must
    /// have the member's name.
    pub at: u64,
}

/// Shows without reading a photo that it has most likely not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStamp {
    /// Size in bytes.
    pub size: u64,
    /// Changes whenever the content does: modification time of a file in nanoseconds since 1970, CRC-32 of a member,
    /// a digest of the ETag of an object.
    pub mark: i64,
}

/// A link to a photo. A signed link is a secret, so `Debug` and `Display` hide the query and the user part.
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

/// The row of an earlier manifest that an export row names. A valid export row removes that row if it was rejected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Name of the manifest in the checkpoint.
    pub source: String,
    /// Row in that manifest.
    pub row: u64,
    /// Whether it was rejected because another row has its id.
    pub was_duplicate: bool,
}

/// A valid row: one photo to enroll under one id in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Item {
    /// Physical line on which the row begins; the header is line 1.
    pub row: u64,
    /// Face group of the person.
    pub group: FaceGroupCode,
    /// Id of the person.
    pub user: MerchantUserId,
    /// The photo.
    pub picture: PhotoSource,
    /// Extra fields of the row.
    pub extra: Extra,
    /// Origin of an export row.
    pub origin: Option<Box<Origin>>,
}

/// Why a row could not become an item. The variant's name becomes the `code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RowErrorKind {
    /// The record is not valid CSV, JSON or UTF-8.
    UnreadableRow,
    /// The record does not have as many fields as the header.
    WrongFieldCount,
    /// A quote is never closed.
    UnclosedQuote,
    /// The record is longer than 1 MiB.
    RecordTooLong,
    /// Neither `path` nor `url` is given.
    MissingPicture,
    /// Both `path` and `url` are given.
    TwoPictures,
    /// The `url` is not http or https.
    InvalidUrl,
    /// The field holds the photo itself instead of its path or link.
    EmbeddedPhoto,
    /// The path is longer than the system allows.
    PathTooLong,
    /// The path leads out of the root.
    OutsideRoot,
    /// A symbolic link in a directory: its target would be enrolled twice, or is outside the directory.
    NotFollowed,
    /// A pipe, a socket or a device with the name of a photo.
    NotAFile,
    /// No id is given, and the photo's name gives none.
    MissingUserId,
    /// The id is not valid for the service or for reports.
    InvalidUserId,
    /// A spreadsheet or a program has damaged the id.
    SuspiciousUserId,
    /// Neither the row nor `--group` gives a group.
    MissingGroup,
    /// The group code is not valid.
    InvalidGroup,
    /// An earlier row has the same id in the same group.
    DuplicateUserId,
}

impl RowErrorKind {
    /// Value of the `code` column.
    pub fn code(self) -> ErrorCode {
        ErrorCode(format!("{self:?}"))
    }
}

/// A row that could not become an item. The run continues without it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("row {row}: {message}")]
pub struct RowError {
    /// Physical line on which the row begins; the header is line 1.
    pub row: u64,
    /// Kind of defect.
    pub defect: RowErrorKind,
    /// What is wrong and what to do about it, without the id.
    pub message: String,
    /// Fields as written, as far as they could be parsed.
    pub fields: Box<RawFields>,
}

/// Fields of a rejected row as written, so that an export can return them for correction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawFields {
    /// Value of `path`.
    pub path: Option<String>,
    /// Value of `url`.
    pub url: Option<String>,
    /// Value of `merchant_user_id`.
    pub user: Option<String>,
    /// Value of `face_group_code`, or of `--group`.
    pub group: Option<String>,
    /// Extra fields.
    pub extra: Extra,
    /// `source` and `row` of an export row.
    pub origin: Option<Box<Origin>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signed_url_is_masked_when_shown() {
        let url = PhotoUrl("https://me:pw@b.oss.example/a.jpg?Expires=1&Signature=s3cret".into());
        assert_eq!(url.to_string(), "https://b.oss.example/a.jpg?…");
        assert_eq!(format!("{url:?}"), "PhotoUrl(https://b.oss.example/a.jpg?…)");
        assert_eq!(PhotoUrl("http://h/a@b.jpg".into()).to_string(), "http://h/a@b.jpg");
    }
}
