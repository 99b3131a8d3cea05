//! What keeps a run from going faster.

use std::fmt;

/// The constraint that binds at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bottleneck {
    /// `--qps`: as it should be.
    Quota,
    /// The service throttles: the rate is below `--qps`.
    Throttled,
    /// `--window` is closed.
    Window,
    /// The service is not answering.
    Away,
    /// The service's answers are slow: every place in flight is taken.
    Answers,
    /// Intents wait for the checkpoint's disk.
    Disk,
    /// Photos are read, fitted and encoded more slowly than they could be sent.
    Photos,
    /// There is nothing to send: rows are still being read, or all are done.
    Rows,
}

impl fmt::Display for Bottleneck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Quota => "the quota",
            Self::Throttled => "throttling",
            Self::Window => "the hours of --window",
            Self::Away => "the service, which does not answer",
            Self::Answers => "slow answers (--concurrency)",
            Self::Disk => "the checkpoint's disk",
            Self::Photos => "reading and fitting photos",
            Self::Rows => "the reading of rows",
        })
    }
}
