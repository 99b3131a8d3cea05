use clap::Args;

use super::{CheckpointArgs, parse::retryable_state};
use crate::domain::ItemState;

/// Flags of `retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Only items in these states: failed, rejected
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', default_value = "failed", value_parser = retryable_state)]
    pub status: Vec<ItemState>,
    /// Only items with this code
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
}
