use std::path::PathBuf;

use clap::Args;

/// Checkpoint to open, named directly or by its source.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// Source whose checkpoint to use
    #[arg(value_name = "SOURCE", required_unless_present = "checkpoint")]
    pub source: Option<PathBuf>,
    /// Checkpoint database [default: SOURCE.enroll.sqlite]
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Use the source's sandbox checkpoint
    #[arg(long, conflicts_with = "checkpoint")]
    pub sandbox: bool,
}
