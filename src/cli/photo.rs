use clap::{ArgAction, Args, ValueEnum, builder::BoolishValueParser};

use crate::picture::{FacePolicy, Fit, Landscape};

/// Photo flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Photos")]
pub struct PhotoArgs {
    /// When to re-encode photos
    #[arg(long, env = "FACE_ENROLL_FIT", default_value = "auto", value_name = "auto|never|always")]
    pub fit: Fit,
    /// What to do with photos that are not taller than wide
    #[arg(long, env = "FACE_ENROLL_LANDSCAPE", default_value = "reject", value_name = "reject|crop|pad")]
    pub landscape: Landscape,
    /// Reject photos that are far too dark, bright or blurred
    #[arg(long, env = "FACE_ENROLL_REJECT_POOR", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub reject_poor: bool,
    /// Look for the face on each photo [default: ignore; check: warn]
    #[arg(long, env = "FACE_ENROLL_FACES", value_name = "ignore|warn|reject")]
    pub faces: Option<FacePolicy>,
    /// How to send photos
    #[arg(long, env = "FACE_ENROLL_SEND", default_value = "auto", value_name = "auto|inline|upload|link")]
    pub send: Send,
}

/// How to send photos.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Send {
    /// In the call up to 1 MB, as a file above
    Auto,
    /// In the call; at most 1 MB
    Inline,
    /// As a file, uploaded before the call
    Upload,
    /// Photos in object storage by a link valid for 15 minutes, from which the service fetches them as they are; others as
    /// with auto
    Link,
}
