//! Why a photo will never pass as it is.

use super::Kind;
use crate::domain::ApiCode;

/// What a photo may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that go inline; more has to be fitted, or sent as a file.
    pub inline_bytes: u64,
    /// Bytes that the service takes in any way.
    pub bytes: u64,
    /// Pixels across, upright.
    pub width: u32,
    /// Pixels down, upright.
    pub height: u32,
}

impl Default for Limits {
    /// The API page's; "1 MB" is taken as 1,000,000 bytes, the stricter reading.
    fn default() -> Self {
        Self { inline_bytes: 1_000_000, bytes: 10_000_000, width: 1_080, height: 1_920 }
    }
}

/// See the module. The name of each is the `code` of its refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// No such file.
    #[error("there is no such file")]
    NotFound,
    /// A file that may not be read.
    #[error("the file may not be read: give this user the permission")]
    PermissionDenied,
    /// A directory, a pipe, a device.
    #[error("it is not a regular file")]
    NotAFile,
    /// No byte in it.
    #[error("the file is empty")]
    Empty,
    /// More bytes than the service takes.
    #[error("it has {size} bytes; the service takes at most {limit}")]
    TooLarge {
        /// Bytes found.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// More bytes than go inline.
    #[error("it has {size} bytes; at most {limit} can be sent: scale its shorter side to 720 pixels at quality 80")]
    TooLargeInline {
        /// Bytes found.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// Another format.
    #[error("it is {kind}, whatever its name says: the service takes JPEG only")]
    NotJpeg {
        /// Which.
        kind: Kind,
    },
    /// It ends before its end.
    #[error("the JPEG is cut off: {found}")]
    Truncated {
        /// Where.
        found: &'static str,
    },
    /// It breaks the format's own rules.
    #[error("the JPEG is damaged: {found}")]
    Malformed {
        /// How.
        found: &'static str,
    },
    /// A JPEG that hardly anything decodes.
    #[error("the JPEG is {found}: save it as a baseline or progressive JPEG")]
    UnsupportedJpeg {
        /// Which.
        found: &'static str,
    },
    /// More pixels than the service takes.
    #[error("it is {width}x{height} pixels; at most {max_width}x{max_height} are taken")]
    TooManyPixels {
        /// Across, upright.
        width: u32,
        /// Down, upright.
        height: u32,
        /// Allowed across.
        max_width: u32,
        /// Allowed down.
        max_height: u32,
    },
    /// As wide as it is high, or wider.
    #[error("it is {width}x{height} pixels: the height must be greater than the width")]
    NotPortrait {
        /// Across, upright.
        width: u32,
        /// Down, upright.
        height: u32,
    },
    /// Upright by its EXIF data alone.
    #[error(
        "its pixels lie on their side (EXIF orientation {orientation}), and the service may not turn them: save it upright"
    )]
    NeedsRotation {
        /// 2 to 8.
        orientation: u8,
    },
}

impl Defect {
    /// The `code` column.
    pub fn code(&self) -> ApiCode {
        ApiCode::from(match self {
            Self::NotFound => "NotFound",
            Self::PermissionDenied => "PermissionDenied",
            Self::NotAFile => "NotAFile",
            Self::Empty => "Empty",
            Self::TooLarge { .. } => "TooLarge",
            Self::TooLargeInline { .. } => "TooLargeInline",
            Self::NotJpeg { .. } => "NotJpeg",
            Self::Truncated { .. } => "Truncated",
            Self::Malformed { .. } => "Malformed",
            Self::UnsupportedJpeg { .. } => "UnsupportedJpeg",
            Self::TooManyPixels { .. } => "TooManyPixels",
            Self::NotPortrait { .. } => "NotPortrait",
            Self::NeedsRotation { .. } => "NeedsRotation",
        })
    }
}
