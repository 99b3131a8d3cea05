use std::path::PathBuf;

use clap::Args;

use super::ServiceArgs;
use crate::{domain::FaceGroupCode, pace::Qps};

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Source whose checkpoint to test; one in object storage is listed and read too
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
    /// Checkpoint database [default: SOURCE.enroll.sqlite]
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Face group that must exist
    #[arg(long, env = "FACE_ENROLL_GROUP", value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// The tenant's AddFaceRecord quota, in calls per second
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Print JSON Lines to stdout: one line per check, then the verdict
    #[arg(long)]
    pub json: bool,
    /// Service flags.
    #[command(flatten)]
    pub service: ServiceArgs,
}
