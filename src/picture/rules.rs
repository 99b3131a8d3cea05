//! Limits for photos and what to do with photos outside them: the AddFaceRecord page, "Image upload requirements", and
//! the flags `--fit`, `--landscape`, `--send`, `--reject-poor` and `--faces`.

use clap::ValueEnum;

/// When to re-encode photos (`--fit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Fit {
    /// Send compliant photos unchanged; re-encode the others.
    #[default]
    Auto,
    /// Send compliant photos unchanged; reject the others.
    Never,
    /// Re-encode every photo, compliant ones too.
    Always,
}

/// What to do with an upright photo that is not taller than wide, which the service rejects (`--landscape`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Landscape {
    /// Reject the photo.
    #[default]
    Reject,
    /// Crop to 3:4 around the face, or the centre if none is found.
    Crop,
    /// Pad with white to 3:4.
    Pad,
}

/// What to do with a photo that is far too dark, too bright or too blurred.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QualityPolicy {
    /// Send it; do not check the quality.
    #[default]
    Allow,
    /// Send it with a warning.
    Warn,
    /// Reject it.
    Reject,
}

/// What to do with a photo without a clear face, or with several (`--faces`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum FacePolicy {
    /// Send it; do not look for faces.
    #[default]
    Ignore,
    /// Send it with a warning.
    Warn,
    /// Reject photos without a face or with several of similar size; send the others with a warning.
    Reject,
}

/// Size limits in bytes and pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SizeLimits {
    /// Most bytes of an inline photo; larger ones are fitted or uploaded.
    pub inline_bytes: u64,
    /// Most bytes that the service accepts by any route.
    pub bytes: u64,
    /// Largest width in pixels, upright.
    pub width: u32,
    /// Largest height in pixels, upright.
    pub height: u32,
    /// Shorter side in pixels to which a photo is scaled down.
    pub shorter_side: u32,
    /// Most bytes of a file to be fitted: more than the largest photo of a 108-megapixel camera.
    pub original_bytes: u64,
    /// Most pixels of a photo to be fitted: slightly more than a 108-megapixel camera takes.
    pub original_pixels: u64,
}

impl SizeLimits {
    /// Limits of the API page, with "1 MB" read strictly as 1,000,000 bytes; the limits of originals are our own.
    pub const DOCUMENTED: Self = Self {
        inline_bytes: 1_000_000,
        bytes: 10_000_000,
        width: 1_080,
        height: 1_920,
        shorter_side: 720,
        original_bytes: 64_000_000,
        original_pixels: 120_000_000,
    };
}

impl Default for SizeLimits {
    fn default() -> Self {
        Self::DOCUMENTED
    }
}

/// Rules for photos in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// `--fit`
    pub fit: Fit,
    /// `--landscape`
    pub landscape: Landscape,
    /// `--reject-poor`
    pub quality: QualityPolicy,
    /// `--faces`
    pub faces: FacePolicy,
    /// `--send auto|upload`: whether a photo too large to go inline may be uploaded.
    pub allows_upload: bool,
    /// Size limits.
    pub limits: SizeLimits,
}

impl Rules {
    /// Most bytes of a file that is read at all.
    pub(crate) fn readable_bytes(&self) -> u64 {
        match self.fit {
            Fit::Never => self.limits.bytes,
            Fit::Auto | Fit::Always => self.limits.original_bytes,
        }
    }
}
