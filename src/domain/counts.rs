//! Counts of a checkpoint and of a run.

use std::collections::BTreeMap;

/// Number of rows by state, as `status` and the summary show them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// All rows: items and rows that could not become one.
    pub total: u64,
    /// Files of directories that were skipped. They are not rows.
    pub skipped: u64,
    /// Items with a record at the service.
    pub enrolled: u64,
    /// Items that will never pass unchanged.
    pub rejected: u64,
    /// Items whose attempts are used up.
    pub failed: u64,
    /// Items whose outcome is unknown.
    pub in_doubt: u64,
    /// Items not attempted yet, or waiting for another attempt.
    pub pending: u64,
    /// Enrolled items whose photo has changed since.
    pub changed: u64,
    /// Items enrolled again with a new photo while the old record still exists.
    pub to_remove: u64,
    /// Items that are no longer in their manifest.
    pub vanished: u64,
    /// Rejected items that are no longer in their manifest, once a run has read it and has ended.
    pub vanished_rejected: u64,
    /// Number of items by code, where they have one.
    pub by_code: BTreeMap<String, u64>,
}

impl Counts {
    /// Whether the states add up to the rows.
    pub fn is_balanced(&self) -> bool {
        self.total == self.enrolled + self.rejected + self.failed + self.in_doubt + self.pending
    }
}

/// What one run did, in addition to the checkpoint's counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunTotals {
    /// Items that became `enrolled` in this run.
    pub newly_enrolled: u64,
    /// Items sent, each counted once.
    pub sent: u64,
    /// Sent items that are now enrolled.
    pub sent_enrolled: u64,
    /// AddFaceRecord calls made.
    pub calls: u64,
    /// AddFaceRecord calls that were throttled.
    pub throttled: u64,
    /// QueryFaceRecord and QueryFaceGroup calls made.
    pub queries: u64,
    /// Items that became `rejected` in this run.
    pub newly_rejected: u64,
    /// Prepared photos that are smaller than the service recommends.
    pub small: u64,
    /// Duration of the run in seconds.
    pub elapsed_s: f64,
    /// AddFaceRecord calls per second, from the first call to the last.
    pub rate: f64,
    /// Latencies of the conclusive answers.
    pub latencies: Latencies,
}

/// Latency histogram: (milliseconds, number of answers), ascending.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies(pub Vec<(u64, u64)>);

impl Latencies {
    /// Total number of answers.
    pub fn answers(&self) -> u64 {
        self.0.iter().map(|(_, n)| n).sum()
    }

    /// Milliseconds within which this share of the answers came; `None` without answers.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.answers() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = |(_, n): &&(u64, u64)| {
            seen += n;
            seen >= wanted
        };
        self.0.iter().find(reached).map(|(ms, _)| *ms)
    }

    /// Combines the histograms of several runs.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = BTreeMap::new();
        for (ms, n) in all.into_iter().flat_map(|latencies| &latencies.0) {
            *sum.entry(*ms).or_default() += n;
        }
        Self(sum.into_iter().collect())
    }
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// What this run did.
    pub totals: RunTotals,
    /// The exit code.
    pub exit_code: u8,
    /// Reason for the exit code, as a sentence.
    pub exit_reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_cover_all_runs() {
        let one = Latencies(vec![(10, 98), (200, 1)]);
        let both = Latencies::sum([&one, &Latencies(vec![(10, 1)])]);
        assert_eq!(both, Latencies(vec![(10, 99), (200, 1)]));
        assert_eq!([0.5, 0.99, 1.0].map(|share| both.quantile(share)), [Some(10), Some(10), Some(200)]);
        assert_eq!(Latencies::default().quantile(0.5), None);
    }
}
