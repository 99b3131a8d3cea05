//! Why a photo's bytes can't be had.

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::domain::{ErrorCode, FatalError};

/// Permanent reason why the bytes of a photo can't be had. [`Unavailable::code`] is the stable code of the rejection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unavailable {
    /// The file does not exist.
    #[error("file not found: {path}{advice}")]
    NotFound {
        /// Path as written; relative to the root if inside it.
        path: String,
        /// Suggested path or hint; may be empty.
        advice: String,
    },
    /// The file may not be read.
    #[error("permission denied: let this user read the file")]
    PermissionDenied,
    /// The path is a directory, a pipe or a device.
    #[error("not a regular file: give the path of a photo")]
    NotAFile,
    /// The path is inside the root, but a symbolic link leads out of it.
    #[error("a symbolic link leads outside the source's root: give --allow-outside-root to allow it")]
    OutsideRoot,
    /// The object is archived.
    #[error("the object is in an archive storage class: restore it, or copy it to the Standard class")]
    NotRestored,
    /// The file has no bytes.
    #[error("the file is empty: copy the original again")]
    Empty,
    /// The file has more bytes than are read.
    #[error("photo has {size} bytes; at most {limit} are allowed: scale its shorter side to 720 pixels at quality 80")]
    TooLarge {
        /// Size in bytes.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The ZIP archive, or the member in it, is not what it should be.
    #[error("the ZIP archive {archive} is damaged ({found}): copy or make it again")]
    DamagedArchive {
        /// File name of the archive.
        archive: String,
        /// What is wrong.
        found: String,
    },
    /// The archive is one part of several.
    #[error("{archive} is a part of a split ZIP archive: join the parts (zip -s 0 PARTS.zip --out WHOLE.zip)")]
    SplitArchive {
        /// File name of the archive.
        archive: String,
    },
    /// The archive has too many members to look up names in it.
    #[error(
        "{} has more than {limit} members, too many to look up names: split it, unpack it, or run it as a source", archive.display()
    )]
    TooManyMembers {
        /// Path of the archive.
        archive: PathBuf,
        /// Most members.
        limit: u64,
    },
    /// Several members have the name.
    #[error("the archive has several members of this name: make it again with one")]
    AmbiguousMember,
    /// The member is encrypted.
    #[error("the member is encrypted: make the archive without a password")]
    EncryptedMember,
    /// The member is compressed by another method than deflate.
    #[error("the member is compressed by {method}: make the archive with deflate, the usual method")]
    UnsupportedMethod {
        /// Name of the method.
        method: String,
    },
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(absent @ Unavailable::NotFound { .. }) => Self::new(io::ErrorKind::NotFound, absent),
            ReadError::Unavailable(denied @ Unavailable::PermissionDenied) => {
                Self::new(io::ErrorKind::PermissionDenied, denied)
            }
            ReadError::Unavailable(unavailable) => Self::new(io::ErrorKind::InvalidData, unavailable),
            ReadError::Fatal(fatal) => Self::other(fatal),
            ReadError::Io(error) => error,
        }
    }
}

impl Unavailable {
    /// Stable code of the rejection.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::from(match self {
            Self::NotFound { .. } => "NotFound",
            Self::PermissionDenied => "PermissionDenied",
            Self::NotAFile => "NotAFile",
            Self::OutsideRoot => "OutsideRoot",
            Self::NotRestored => "NotRestored",
            Self::Empty => "Empty",
            Self::TooLarge { .. } => "TooLarge",
            Self::DamagedArchive { .. } => "DamagedArchive",
            Self::SplitArchive { .. } => "SplitArchive",
            Self::TooManyMembers { .. } => "TooManyMembers",
            Self::AmbiguousMember => "AmbiguousMember",
            Self::EncryptedMember => "EncryptedMember",
            Self::UnsupportedMethod { .. } => "UnsupportedMethod",
        })
    }

    /// A damaged archive.
    pub(super) fn damaged(archive: &Path, found: &str) -> Self {
        let archive = archive.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Self::DamagedArchive { archive, found: found.to_owned() }
    }

    /// Whether the photo may be had later although its stamp stays the same: size and CRC-32 do not tell a damaged or
    /// encrypted archive from a good one.
    pub fn may_pass_unchanged(&self) -> bool {
        match self {
            Self::NotFound { .. } | Self::PermissionDenied | Self::NotAFile | Self::OutsideRoot | Self::Empty => false,
            Self::TooLarge { .. } => false,
            Self::DamagedArchive { .. }
            | Self::SplitArchive { .. }
            | Self::TooManyMembers { .. }
            | Self::AmbiguousMember
            | Self::EncryptedMember
            | Self::UnsupportedMethod { .. }
            | Self::NotRestored => true,
        }
    }
}

/// Why a photo was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It can't be had as it is.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No photo in object storage can be read until a person acts.
    #[error(transparent)]
    Fatal(FatalError),
    /// A failure of this machine, such as no free file descriptor or a failing disk or file server; a retry may help.
    #[error(transparent)]
    Io(#[from] io::Error),
}
