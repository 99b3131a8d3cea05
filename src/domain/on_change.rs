//! The `--on-change` flag.

use clap::ValueEnum;

/// What to do when the photo of an enrolled id has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum OnChange {
    /// Count it; the service keeps the old photo.
    #[default]
    Keep,
    /// Enrol the new photo, then delete the old record.
    Replace,
}
