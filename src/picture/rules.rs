//! What a photo may be, and what may be done to one that is not: the AddFaceRecord page, "Image upload requirements",
//! and the flags `--fit`, `--landscape`, `--send` and `--reject-poor`.

use std::str::FromStr;

/// Whether photos are made to meet the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Fit {
    /// One that meets them goes byte for byte; one that can be made to, is.
    #[default]
    Auto,
    /// Byte for byte, or not at all.
    Never,
    /// Each is encoded anew, also one that meets them.
    Always,
}

impl FromStr for Fit {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "auto" => Ok(Self::Auto),
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            _ => Err("one of auto, never, always"),
        }
    }
}

/// What becomes of a photo that is not higher than it is wide, once upright. The service refuses it as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Landscape {
    /// It is rejected.
    #[default]
    Reject,
    /// Its middle is taken, 3:4.
    Crop,
    /// It is laid in the middle of a white sheet, 3:4.
    Pad,
}

impl FromStr for Landscape {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "reject" => Ok(Self::Reject),
            "crop" => Ok(Self::Crop),
            "pad" => Ok(Self::Pad),
            _ => Err("one of reject, crop, pad"),
        }
    }
}

/// What becomes of a photo that is far too dark, too bright or too blurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QualityPolicy {
    /// It goes; a run does not look for it.
    #[default]
    Allow,
    /// It goes, with a warning.
    Warn,
    /// It is rejected.
    Reject,
}

/// Sizes in bytes and pixels.
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
    /// The shorter side that a fitted photo is scaled to.
    pub shorter_side: u32,
    /// Bytes of a file that is read to be fitted: more than the largest photo of a 108-megapixel camera.
    pub original_bytes: u64,
    /// Pixels of a photo that is decoded to be fitted: a 108-megapixel camera's, and some.
    pub original_pixels: u64,
}

impl Limits {
    /// The API page's; "1 MB" is taken as 1,000,000 bytes, the stricter reading.
    pub const PAGE: Self = Self {
        inline_bytes: 1_000_000,
        bytes: 10_000_000,
        width: 1_080,
        height: 1_920,
        shorter_side: 720,
        original_bytes: 64_000_000,
        original_pixels: 120_000_000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::PAGE
    }
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// `--fit`
    pub fit: Fit,
    /// `--landscape`
    pub landscape: Landscape,
    /// `--reject-poor`
    pub poor: QualityPolicy,
    /// `--send auto|upload`: what is too large to go inline may go as a file.
    pub has_stream: bool,
    /// The page's, and ours.
    pub limits: Limits,
}

impl Rules {
    /// Bytes of a file that is worth reading.
    pub(super) fn readable_bytes(&self) -> u64 {
        match self.fit {
            Fit::Never => self.limits.bytes,
            Fit::Auto | Fit::Always => self.limits.original_bytes,
        }
    }
}
