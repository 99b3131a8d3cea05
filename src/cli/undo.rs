use std::time::Duration;

use clap::Args;
use jiff::Timestamp;

use super::{
    CheckpointArgs, ServiceArgs,
    parse::{duration, moment},
};
use crate::pace::Qps;

/// Flags of `undo`.
#[derive(Debug, Args)]
pub struct UndoArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// What to take back.
    #[command(flatten)]
    pub what: UndoneArgs,
    /// Remove the records; without it they are only listed
    #[arg(long)]
    pub yes: bool,
    /// List what would be removed; change nothing (the default)
    #[arg(long, short = 'n', conflicts_with = "yes")]
    pub dry_run: bool,
    /// Queries per second, and deletions per second
    #[arg(long = "query-qps", env = "FACE_ENROLL_QUERY_QPS", default_value = "10", value_name = "N")]
    pub qps: Qps,
    /// Wait D before asking whether a record is gone
    #[arg(long, env = "FACE_ENROLL_SETTLE", value_name = "D", default_value = "30s", value_parser = duration)]
    pub settle: Duration,
    /// Stop after D without an answer from the service
    #[arg(long, env = "FACE_ENROLL_GIVE_UP_AFTER", value_name = "D", default_value = "5m", value_parser = duration)]
    pub give_up_after: Duration,
    /// Print JSON Lines to stdout: one line per record, then the balance
    #[arg(long)]
    pub json: bool,
    /// Service flags.
    #[command(flatten)]
    pub service: ServiceArgs,
}

/// What `undo` takes back.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct UndoneArgs {
    /// Take back what this run enrolled: its id, as `status` and `report` show it, or a unique beginning of it
    #[arg(long, value_name = "ID")]
    pub run: Option<String>,
    /// Take back everything sent since T: 30m, 12h or 3d ago, "2026-11-23 08:30" local time, or 2026-11-23T08:30:00Z
    #[arg(long, value_name = "T", value_parser = moment)]
    pub since: Option<Timestamp>,
}
