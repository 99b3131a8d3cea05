use std::time::Duration;

use clap::Args;

use super::{CheckpointArgs, parse::duration};

/// Flags of `purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Remove people enrolled longer than D ago, such as 90d
    #[arg(long, value_name = "D", value_parser = duration)]
    pub older_than: Duration,
}
