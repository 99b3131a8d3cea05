use std::path::PathBuf;

use clap::Args;

use super::CheckpointArgs;

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Show full ids instead of u*****07
    #[arg(long)]
    pub show_ids: bool,
    /// Overwrite the output file even if it is not a report
    #[arg(long)]
    pub force: bool,
    /// Output file; - is stdout
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}
