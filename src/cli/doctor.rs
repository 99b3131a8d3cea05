use std::path::PathBuf;

use clap::Args;

use super::{ReadingArgs, ServiceArgs, SharedQuotaArgs};
use crate::pace::Qps;

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Source to test, with its checkpoint
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
    /// Checkpoint database [default: SOURCE.enroll.sqlite]
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The tenant's AddFaceRecord quota, in calls per second
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Quota shared with other runs.
    #[command(flatten)]
    pub shared: SharedQuotaArgs,
    /// Print JSON Lines to stdout: one line per check, then the verdict
    #[arg(long)]
    pub json: bool,
    /// How to read the source.
    #[command(flatten)]
    pub reading: ReadingArgs,
    /// Service flags.
    #[command(flatten)]
    pub service: ServiceArgs,
}
