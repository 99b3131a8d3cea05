use std::time::Duration;

use clap::Args;

use super::{CheckpointArgs, parse::duration};

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Print one JSON object to stdout
    #[arg(long)]
    pub json: bool,
    /// Refresh every D [default: 2s] until the run ends
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_name = "D", value_parser = duration)]
    pub watch: Option<Duration>,
}
