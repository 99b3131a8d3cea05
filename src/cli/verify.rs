use std::{num::NonZeroUsize, time::Duration};

use clap::Args;

use super::{CheckpointArgs, ServiceArgs, parse::duration};
use crate::{domain::FaceGroupCode, pace::Qps};

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Compare all records of the groups with the checkpoint; change nothing
    #[arg(long)]
    pub all: bool,
    /// Compare a random sample of N enrolled people of each group; change nothing
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub sample: Option<NonZeroUsize>,
    /// Compare only this group
    #[arg(long, value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// Queries per second
    #[arg(long = "query-qps", env = "FACE_ENROLL_QUERY_QPS", default_value = "10", value_name = "N")]
    pub qps: Qps,
    /// Wait D before asking about a request in doubt; two such answers confirm absence
    #[arg(long, env = "FACE_ENROLL_SETTLE", value_name = "D", default_value = "30s", value_parser = duration)]
    pub settle: Duration,
    /// Attempts per item before an absent one is failed
    #[arg(long, env = "FACE_ENROLL_RETRIES", default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: u32,
    /// Stop after D without an answer from the service
    #[arg(long, env = "FACE_ENROLL_GIVE_UP_AFTER", value_name = "D", default_value = "5m", value_parser = duration)]
    pub give_up_after: Duration,
    /// Print JSON Lines to stdout: one line per difference, then the verdict
    #[arg(long)]
    pub json: bool,
    /// Service flags.
    #[command(flatten)]
    pub service: ServiceArgs,
}
