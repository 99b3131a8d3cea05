//! `--on-change`.

use std::str::FromStr;

/// What becomes of an enrolled id with another photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// It is counted, and the service keeps the photo that it has.
    #[default]
    Keep,
    /// The new photo is sent, and replaces the old one.
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
