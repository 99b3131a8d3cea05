use clap::Args;

use super::{CheckpointArgs, parse::recorded_id};
use crate::domain::{FaceGroupCode, MerchantUserId};

/// Flags of `erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// merchant_user_id of the person
    #[arg(long, value_name = "ID", value_parser = recorded_id)]
    pub user: MerchantUserId,
    /// Only in this group [default: all groups]
    #[arg(long, value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
}
