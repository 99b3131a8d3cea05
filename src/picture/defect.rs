//! Permanent reasons to reject a photo.

use super::{FaceBox, FaceProblem, Kind, Warning};
use crate::{domain::ErrorCode, storage::Unavailable};

/// Reason why a photo can't be enrolled as it is. [`Defect::code`] is the stable code of the rejection. Widths and heights
/// are those of the upright photo.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Defect {
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    #[error(
        "photo has {size} bytes; at most {limit} can be sent inline: scale its shorter side to 720 pixels at quality 80"
    )]
    TooLargeInline { size: u64, limit: u64 },
    /// The file is not a JPEG, and `--fit never` is given.
    #[error(
        "file is {kind} by its content, and the service accepts only JPEG: save it as JPEG, or give --fit auto (PNG, WebP, BMP, TIFF, HEIC)"
    )]
    NotJpeg { kind: Kind },
    #[error("the picture is cut off ({found}): copy the original again, or take a new photo")]
    Truncated { found: &'static str },
    #[error("the JPEG is damaged ({found}): copy the original again, or take a new photo")]
    Malformed { found: &'static str },
    #[error("the JPEG is {found}: save it as a baseline or progressive JPEG")]
    UnsupportedJpeg { found: &'static str },
    #[error("file is {kind}, which can't be read here: save it as JPEG")]
    UnsupportedFormat { kind: Kind },
    #[error("file is {kind} of a variant that can't be read here: save it as JPEG{}", advice(*kind))]
    UnsupportedVariant { kind: Kind },
    #[error("file is {kind}: give the path of a photo")]
    NotAPicture { kind: Kind },
    #[error("photo can't be decoded ({why}): open it in a picture viewer and save it as JPEG, or take a new photo")]
    Undecodable { why: String },
    /// Internal error: fitting should never fail.
    #[error(
        "photo can't be fitted, because of a bug in face-enroll ({why}): scale it to 720x960 pixels, and report this"
    )]
    NotFitted { why: String },
    #[error(
        "photo needs more than {limit} bytes of memory to decode: scale its shorter side to 720 pixels and save it as JPEG"
    )]
    TooMuchMemory { limit: u64 },
    #[error("photo claims {width}x{height} pixels; at most {limit} are decoded: scale its shorter side to 720 pixels")]
    TooManyPixels { width: u32, height: u32, limit: u64 },
    #[error(
        "photo is {width}x{height} pixels; at most {max_width}x{max_height} are accepted: scale it down, or give --fit auto"
    )]
    TooLargeShape { width: u32, height: u32, max_width: u32, max_height: u32 },
    /// `turned` is what its face shows, if it lies on its side and `--faces` looks.
    #[error("photo is {width}x{height} pixels, not taller than wide{}", portrait_advice(*turned))]
    NotPortrait { width: u32, height: u32, turned: Option<FaceProblem> },
    #[error(
        "photo is upright only by its EXIF orientation ({orientation}), which the service may ignore: save it upright, or give --fit auto"
    )]
    NeedsRotation { orientation: u8 },
    /// The quality is too poor for `--reject-poor`.
    #[error("{}: take a better photo", warning.message())]
    PoorQuality { warning: Warning },
    /// Rejected by `--faces reject`: the photo shows no face, or several.
    #[error("{}: take a photo of one person, from the front", problem.message())]
    UnusableFace { problem: FaceProblem, face: Option<FaceBox> },
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
