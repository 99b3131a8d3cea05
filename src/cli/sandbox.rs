use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};

use super::parse::{bucket, duration};
use crate::domain::FaceGroupCode;

/// Flags of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Loopback address to listen on; port 0 picks a free port
    #[arg(long, default_value = "127.0.0.1:8470", value_name = "ADDR:PORT")]
    pub listen: SocketAddr,
    /// Face group that exists (repeatable) [default: all groups exist]
    #[arg(long, value_name = "CODE")]
    pub group: Vec<FaceGroupCode>,
    /// Quota of each action, in calls per second; 0 means no limit
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub qps: u32,
    /// How to count the quota's second
    #[arg(long, default_value = "sliding", value_name = "fixed|sliding")]
    pub window: WindowKind,
    /// Mean response time
    #[arg(long, default_value = "40ms", value_name = "D", value_parser = duration)]
    pub latency: Duration,
    /// Longest delay before a record is made, even if the client has disconnected
    #[arg(long, default_value = "0s", value_name = "D", value_parser = duration)]
    pub late: Duration,
    /// Serve the files of DIR as the objects of a bucket (repeatable); what is put into it stays in memory
    #[arg(long, value_name = "NAME=DIR", value_parser = bucket)]
    pub bucket: Vec<(String, PathBuf)>,
    /// Fault script (JSON Lines)
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Seed for random faults
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Keep the records in FILE [default: in memory]
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Write every call to FILE as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Print the endpoint and its key to stdout as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How the quota's second is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WindowKind {
    /// Each full second of the clock
    Fixed,
    /// Any second, wherever it starts
    Sliding,
}
