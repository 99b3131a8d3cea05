//! What limits the rate of a run.

use std::fmt;

/// What limits the rate at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    /// `--qps`, the intended limit.
    Quota,
    /// The service throttles, so the rate is below `--qps`.
    Throttled,
    /// The database of the shared quota does not answer.
    QuotaAway,
    /// `--bwlimit`.
    Bandwidth,
    /// The `--window` is closed.
    Window,
    /// The service does not answer.
    Away,
    /// Answers are slow and every in-flight slot is taken.
    Answers,
    /// Intents wait for the checkpoint's disk to commit.
    Disk,
    /// Photos are prepared more slowly than they could be sent.
    Photos,
    /// Only rows in doubt are left, and the service is asked about them after `--settle`.
    InDoubt,
    /// Nothing to send: rows are still being read, or all are done.
    Rows,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quota => "the quota",
            Self::Throttled => "throttling",
            Self::QuotaAway => "the database of the quota, which can't be used",
            Self::Bandwidth => "bandwidth",
            Self::Window => "the hours of --window",
            Self::Away => "the service, which does not answer",
            Self::Answers => "slow answers (--concurrency)",
            Self::Disk => "the checkpoint's disk",
            Self::Photos => "reading and fitting photos",
            Self::InDoubt => "the wait before asking about rows in doubt (--settle)",
            Self::Rows => "the reading of rows",
        })
    }
}
