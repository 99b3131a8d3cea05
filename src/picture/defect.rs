//! Permanent reasons to reject a photo.

use super::{FaceBox, FaceProblem, Kind, Warning};
use crate::{domain::ErrorCode, storage::Unavailable};

/// Reason why a photo can't be enrolled as it is. [`Defect::code`] is the stable code of the rejection.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Defect {
    /// Its bytes can't be had.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// The file has more bytes than an inline call may carry.
    #[error(
        "photo has {size} bytes; at most {limit} can be sent inline: scale its shorter side to 720 pixels at quality 80"
    )]
    TooLargeInline {
        /// Size in bytes.
        size: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The file is not a JPEG, and `--fit never` is given.
    #[error(
        "file is {kind} by its content, and the service accepts only JPEG: save it as JPEG, or give --fit auto (PNG, WebP, BMP, TIFF, HEIC)"
    )]
    NotJpeg {
        /// Detected type.
        kind: Kind,
    },
    /// The picture is incomplete.
    #[error("the picture is cut off ({found}): copy the original again, or take a new photo")]
    Truncated {
        /// What is missing.
        found: &'static str,
    },
    /// The JPEG violates its format.
    #[error("the JPEG is damaged ({found}): copy the original again, or take a new photo")]
    Malformed {
        /// What is wrong.
        found: &'static str,
    },
    /// The JPEG uses a variant that hardly any program decodes.
    #[error("the JPEG is {found}: save it as a baseline or progressive JPEG")]
    UnsupportedJpeg {
        /// Name of the variant.
        found: &'static str,
    },
    /// The format can't be converted to JPEG here.
    #[error("file is {kind}, which can't be read here: save it as JPEG")]
    UnsupportedFormat {
        /// Detected type.
        kind: Kind,
    },
    /// The format can be read, but not this variant of it.
    #[error("file is {kind} of a variant that can't be read here: save it as JPEG{}", advice(*kind))]
    UnsupportedVariant {
        /// Detected type.
        kind: Kind,
    },
    /// The file is not a picture.
    #[error("file is {kind}: give the path of a photo")]
    NotAPicture {
        /// Detected type.
        kind: Kind,
    },
    /// The header is valid, but the content can't be decoded.
    #[error("photo can't be decoded ({why}): open it in a picture viewer and save it as JPEG, or take a new photo")]
    Undecodable {
        /// Error of the decoder.
        why: String,
    },
    /// Internal error: fitting should never fail.
    #[error(
        "photo can't be fitted, because of a bug in face-enroll ({why}): scale it to 720x960 pixels, and report this"
    )]
    NotFitted {
        /// Error of the resizer or the encoder.
        why: String,
    },
    /// Decoding needs more memory than allowed.
    #[error(
        "photo needs more than {limit} bytes of memory to decode: scale its shorter side to 720 pixels and save it as JPEG"
    )]
    TooMuchMemory {
        /// Bytes allowed.
        limit: u64,
    },
    /// The header claims more pixels than are decoded.
    #[error("photo claims {width}x{height} pixels; at most {limit} are decoded: scale its shorter side to 720 pixels")]
    TooManyPixels {
        /// Width in pixels, upright.
        width: u32,
        /// Height in pixels, upright.
        height: u32,
        /// Pixels allowed in total.
        limit: u64,
    },
    /// The photo is wider or higher than the service accepts.
    #[error(
        "photo is {width}x{height} pixels; at most {max_width}x{max_height} are accepted: scale it down, or give --fit auto"
    )]
    TooLargeShape {
        /// Width in pixels, upright.
        width: u32,
        /// Height in pixels, upright.
        height: u32,
        /// Largest width allowed.
        max_width: u32,
        /// Largest height allowed.
        max_height: u32,
    },
    /// The photo is not taller than wide.
    #[error("photo is {width}x{height} pixels, not taller than wide{}", portrait_advice(*turned))]
    NotPortrait {
        /// Width in pixels, upright.
        width: u32,
        /// Height in pixels, upright.
        height: u32,
        /// What its face shows, if it lies on its side and `--faces` looks.
        turned: Option<FaceProblem>,
    },
    /// The pixels are not stored upright.
    #[error(
        "photo is upright only by its EXIF orientation ({orientation}), which the service may ignore: save it upright, or give --fit auto"
    )]
    NeedsRotation {
        /// EXIF orientation, 2 to 8.
        orientation: u8,
    },
    /// The quality is too poor for `--reject-poor`.
    #[error("{}: take a better photo", warning.message())]
    PoorQuality {
        /// What is wrong with the quality.
        warning: Warning,
    },
    /// Rejected by `--faces reject`: the photo shows no face, or several.
    #[error("{}: take a photo of one person, from the front", problem.message())]
    UnusableFace {
        /// What is wrong with the face.
        problem: FaceProblem,
        /// Where the largest face is.
        face: Option<FaceBox>,
    },
}

fn portrait_advice(turned: Option<FaceProblem>) -> String {
    let Some(problem) = turned else { return ": crop it, or give --landscape crop or pad".to_owned() };
    format!(" ({}), as the {}", problem.name(), problem.message())
}

fn advice(kind: Kind) -> &'static str {
    if kind == Kind::Heic { " (on an iPhone: Settings, Camera, Formats, Most Compatible)" } else { "" }
}

impl Defect {
    /// Whether the photo may pass later although its stamp stays the same.
    pub fn may_pass_unchanged(&self) -> bool {
        matches!(self, Self::Unavailable(unavailable) if unavailable.may_pass_unchanged())
    }

    /// Stable code of the rejection.
    pub fn code(&self) -> ErrorCode {
        ErrorCode::from(match self {
            Self::Unavailable(unavailable) => return unavailable.code(),
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
            Self::PoorQuality { warning } => warning.name(),
            Self::UnusableFace { problem, .. } => problem.name(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::picture::face::Turn;

    #[test]
    fn every_message_says_what_to_do() {
        let (kind, found, why) = (Kind::Tiff, "so", "so".to_owned());
        let (size, limit, width, height, max_width, max_height) = (2, 1, 4, 3, 2, 1);
        for defect in [
            Unavailable::PermissionDenied.into(),
            Unavailable::NotAFile.into(),
            Unavailable::OutsideRoot.into(),
            Unavailable::NotRestored.into(),
            Unavailable::Empty.into(),
            Unavailable::TooLarge { size, limit }.into(),
            Unavailable::DamagedArchive { archive: "a.zip".into(), found: "so".into() }.into(),
            Unavailable::SplitArchive { archive: "a.zip".into() }.into(),
            Unavailable::TooManyMembers { archive: "a.zip".into(), limit }.into(),
            Unavailable::AmbiguousMember.into(),
            Unavailable::EncryptedMember.into(),
            Unavailable::UnsupportedMethod { method: "LZMA".into() }.into(),
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
            Defect::NotPortrait { width, height, turned: None },
            Defect::NotPortrait { width, height, turned: Some(FaceProblem::Turned(Turn::Quarter)) },
            Defect::NeedsRotation { orientation: 6 },
            Defect::PoorQuality { warning: Warning::Blurred },
            Defect::UnusableFace { problem: FaceProblem::Missing, face: None },
        ] {
            let message = defect.to_string();
            let remedy = message.split_once(": ").map(|(_, remedy)| remedy.split(' ').next().unwrap());
            let verbs = [
                "copy", "correct", "crop", "give", "join", "let", "make", "open", "restore", "save", "scale", "split",
                "take", "turn",
            ];
            assert!(remedy.is_some_and(|verb| verbs.contains(&verb)), "{message}");
        }
    }
}
