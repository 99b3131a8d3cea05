use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use secrecy::SecretString;

use super::{
    When,
    parse::{duration, metrics_address},
};

/// Output flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print JSON Lines to stdout, the summary last; --json=items adds a line per item
    #[arg(long, env = "FACE_ENROLL_JSON", num_args = 0..=1, require_equals = true, default_missing_value = "status", value_name = "items", hide_possible_values = true)]
    pub json: Option<Json>,
    /// Show a progress bar
    #[arg(long, env = "FACE_ENROLL_PROGRESS", default_value = "auto", value_name = "WHEN")]
    pub progress: When,
    /// Print a status line every D when there is no progress bar
    #[arg(long, env = "FACE_ENROLL_STATS", default_value = "1m", value_name = "D", value_parser = duration)]
    pub stats: Duration,
    /// Write Prometheus metrics to FILE every 5 s and at the end (replaced atomically)
    #[arg(long, env = "FACE_ENROLL_METRICS_FILE", value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Serve Prometheus metrics at ADDR:PORT; a port alone binds to loopback
    #[arg(long, env = "FACE_ENROLL_METRICS_ADDR", value_name = "[ADDR:]PORT", value_parser = metrics_address)]
    pub metrics_addr: Option<SocketAddr>,
    /// Tell a monitor such as healthchecks.io when the run starts and how it ends
    ///
    /// GET URL/start at the start; at the end, POST the summary (JSON) to URL after exit 0, and to URL/fail after any
    /// other, also if rows are rejected. At most three tries in 10 s, which never change the exit code; none with --dry-run.
    /// https only, except to loopback. Whoever knows the URL can ping: keep it in the environment or the settings file.
    #[arg(long, env = "FACE_ENROLL_PING_URL", value_name = "URL", hide_env_values = true)]
    pub ping_url: Option<SecretString>,
    /// Run COMMAND in a shell at the end, with the summary (JSON) on its stdin
    #[arg(long, env = "FACE_ENROLL_ON_FINISH", value_name = "COMMAND")]
    pub on_finish: Option<String>,
}

/// What `--json` prints in addition to the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Json {
    /// Status lines and the summary
    Status,
    /// Also a line per item
    Items,
}
