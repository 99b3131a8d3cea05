//! Why a photo will never pass as it is.

use super::{Kind, Warning};
use crate::domain::ErrorCode;

/// See the module. The name of each is the `code` of its refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Defect {
    /// No such file.
    #[error("file not found: {path}{advice}")]
    NotFound {
        /// As it is written, relative to the root where it lies beneath it.
        path: String,
        /// What may be meant, or what to do.
        advice: String,
    },
    /// A file that may not be read.
    #[error("permission denied: let this user read the file")]
    PermissionDenied,
    /// A directory, a pipe, a device.
    #[error("it is not a regular file: give the path of a photo")]
    NotAFile,
    /// Beneath the root by its name, elsewhere by a link.
    #[error("a link leads it out of its source's root: give --allow-outside-root if that is meant")]
    OutsideRoot,
    /// No byte in it.
    #[error("the file is empty: copy it from its origin again")]
    Empty,
    /// More bytes than the service takes.
    #[error("it has {size} bytes; at most {limit} are allowed: scale its shorter side to 720 pixels at quality 80")]
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
    /// Another format, where nothing is fitted.
    #[error(
        "it is {kind}, whatever its name says, and the service takes JPEG only: save it as JPEG (--fit auto does so with PNG, WebP, BMP and TIFF)"
    )]
    NotJpeg {
        /// Which.
        kind: Kind,
    },
    /// It ends before its end.
    #[error("the picture is cut off ({found}): copy it from its origin again, or take a new photo")]
    Truncated {
        /// Where.
        found: &'static str,
    },
    /// It breaks the format's own rules.
    #[error("the JPEG is damaged ({found}): copy it from its origin again, or take a new photo")]
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
    /// A picture of a format that can't be made a JPEG here.
    #[error("it is {kind}, which can't be read here: save it as JPEG{}", advice(*kind))]
    UnsupportedFormat {
        /// Which.
        kind: Kind,
    },
    /// A form of a format that is read, which is not.
    #[error("it is {kind} of a form that can't be read here: save it as JPEG")]
    UnsupportedVariant {
        /// Which.
        kind: Kind,
    },
    /// No picture at all.
    #[error("it is {kind}: give the path of a photo")]
    NotAPicture {
        /// What then.
        kind: Kind,
    },
    /// Its header is fine and its content is not.
    #[error("it can't be decoded ({why}): open it in a picture viewer and save it as JPEG, or take a new photo")]
    Undecodable {
        /// The decoder's words.
        why: String,
    },
    /// Our own fault: no photo should come to this.
    #[error("it can't be fitted, by a fault of face-enroll ({why}): scale it to 720x960 pixels, and report this")]
    NotFitted {
        /// The resizer's or the encoder's words.
        why: String,
    },
    /// Its pixels take more memory than they may.
    #[error("decoded it takes more than {limit} bytes: scale its shorter side to 720 pixels and save it as JPEG")]
    TooMuchMemory {
        /// Bytes allowed.
        limit: u64,
    },
    /// More pixels than are decoded.
    #[error("it claims {width}x{height} pixels; at most {limit} are decoded: scale its shorter side to 720 pixels")]
    TooManyPixels {
        /// Across, upright.
        width: u32,
        /// Down, upright.
        height: u32,
        /// Allowed in all.
        limit: u64,
    },
    /// Wider or higher than the service takes.
    #[error(
        "it is {width}x{height} pixels; at most {max_width}x{max_height} are taken: scale it down, or give --fit auto"
    )]
    TooLargeShape {
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
    #[error("it is {width}x{height} pixels, not taller than wide: crop it, or give --landscape crop or pad")]
    NotPortrait {
        /// Across, upright.
        width: u32,
        /// Down, upright.
        height: u32,
    },
    /// Upright by its EXIF data alone.
    #[error(
        "its pixels lie on their side (EXIF orientation {orientation}), and the service may not turn them: save it upright, or give --fit auto"
    )]
    NeedsRotation {
        /// 2 to 8.
        orientation: u8,
    },
    /// Its quality is far too poor, by `--reject-poor`.
    #[error("{}: take a better photo", warning.message())]
    QualityPolicy {
        /// What is wrong with it.
        warning: Warning,
    },
}

fn advice(kind: Kind) -> &'static str {
    match kind {
        Kind::Heic => " (on an iPhone: Settings, Camera, Formats, Most Compatible)",
        Kind::Jpeg
        | Kind::Png
        | Kind::Gif
        | Kind::WebP
        | Kind::Avif
        | Kind::Bmp
        | Kind::Tiff
        | Kind::JpegXl
        | Kind::Pdf
        | Kind::Html
        | Kind::Zip
        | Kind::Unknown => "",
    }
}

impl Defect {
    /// The `code` column.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::from(match self {
            Self::NotFound { .. } => "NotFound",
            Self::PermissionDenied => "PermissionDenied",
            Self::NotAFile => "NotAFile",
            Self::OutsideRoot => "OutsideRoot",
            Self::Empty => "Empty",
            Self::TooLarge { .. } => "TooLarge",
            Self::TooLargeInline { .. } => "TooLargeInline",
            Self::NotJpeg { .. } => "NotJpeg",
            Self::Truncated { .. } => "Truncated",
            Self::Malformed { .. } => "Malformed",
            Self::UnsupportedJpeg { .. } => "UnsupportedJpeg",
            Self::UnsupportedFormat { .. } | Self::UnsupportedVariant { .. } => "UnsupportedFormat",
            Self::NotAPicture { .. } => "NotAPicture",
            Self::Undecodable { .. } => "Undecodable",
            Self::NotFitted { .. } => "NotFitted",
            Self::TooManyPixels { .. } | Self::TooMuchMemory { .. } => "TooManyPixels",
            Self::TooLargeShape { .. } => "TooLargeShape",
            Self::NotPortrait { .. } => "NotPortrait",
            Self::NeedsRotation { .. } => "NeedsRotation",
            Self::QualityPolicy { warning } => warning.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_says_what_to_do() {
        let (kind, found, why) = (Kind::Tiff, "so", "so".to_owned());
        let (size, limit, width, height, max_width, max_height) = (2, 1, 4, 3, 2, 1);
        for defect in [
            Defect::PermissionDenied,
            Defect::NotAFile,
            Defect::OutsideRoot,
            Defect::Empty,
            Defect::TooLarge { size, limit },
            Defect::TooLargeInline { size, limit },
            Defect::NotJpeg { kind },
            Defect::Truncated { found },
            Defect::Malformed { found },
            Defect::UnsupportedJpeg { found },
            Defect::UnsupportedFormat { kind },
            Defect::UnsupportedVariant { kind },
            Defect::NotAPicture { kind },
            Defect::Undecodable { why: why.clone() },
            Defect::NotFitted { why },
            Defect::TooMuchMemory { limit },
            Defect::TooManyPixels { width, height, limit },
            Defect::TooLargeShape { width, height, max_width, max_height },
            Defect::NotPortrait { width, height },
            Defect::NeedsRotation { orientation: 6 },
            Defect::QualityPolicy { warning: Warning::Blurred },
        ] {
            let message = defect.to_string();
            let remedy = message.split_once(": ").map(|(_, remedy)| remedy.split(' ').next().unwrap());
            let verbs = ["copy", "correct", "crop", "give", "let", "open", "save", "scale", "take"];
            assert!(remedy.is_some_and(|verb| verbs.contains(&verb)), "{message}");
        }
    }
}
