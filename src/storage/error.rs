//! Why a photo's bytes can't be had.

use std::io;

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
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Unavailable(Unavailable::NotFound { .. }) => io::ErrorKind::NotFound.into(),
            ReadError::Unavailable(Unavailable::PermissionDenied) => io::ErrorKind::PermissionDenied.into(),
            ReadError::Unavailable(unavailable) => Self::other(unavailable),
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
        })
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
