//! The `--on-change` flag.

use std::str::FromStr;

/// What to do when the photo of an enrolled id has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// Count it; the service keeps the old photo.
    #[default]
    Keep,
    /// Enroll the new photo, then delete the old record.
    Replace,
}

impl FromStr for OnChange {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => Ok(Self::Keep),
            "replace" => Ok(Self::Replace),
            _ => Err("one of keep, replace"),
        }
    }
}
