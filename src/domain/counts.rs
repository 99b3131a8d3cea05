//! Counts that must add up.

use std::collections::BTreeMap;

/// The rows by state, as `status` and the summary show them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Every row: items and rows that could not become one.
    pub total: u64,
    /// Files of directories that were left out: no rows.
    pub skipped: u64,
    /// The service has the record.
    pub enrolled: u64,
    /// Refused for good.
    pub rejected: u64,
    /// Attempts used up.
    pub failed: u64,
    /// Outcome not known.
    pub in_doubt: u64,
    /// Not attempted yet, or to be attempted again.
    pub pending: u64,
    /// Enrolled ids with another photo now.
    pub changed: u64,
    /// Enrolled again with another photo, and the old one's record is still there.
    pub to_remove: u64,
    /// Items that their manifest no longer names.
    pub vanished: u64,
    /// Items by code, of those that have one.
    pub by_code: BTreeMap<String, u64>,
}

impl Counts {
    /// Do the states add up to the rows?
    pub fn is_balanced(&self) -> bool {
        self.total == self.enrolled + self.rejected + self.failed + self.in_doubt + self.pending
    }
}

/// What one run did, beside what the checkpoint holds.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunTotals {
    /// Items that became `enrolled` in this run.
    pub newly_enrolled: u64,
    /// Items that were sent, however often.
    pub sent: u64,
    /// Of them, those that are enrolled.
    pub sent_enrolled: u64,
    /// AddFaceRecord calls made.
    pub calls: u64,
    /// Of them, answered by a throttle.
    pub throttled: u64,
    /// QueryFaceRecord and QueryFaceGroup calls made.
    pub queries: u64,
    /// Items that became `rejected` in this run.
    pub newly_rejected: u64,
    /// Photos that were prepared and are smaller than the service recommends.
    pub small: u64,
    /// Seconds from start to end.
    pub elapsed_s: f64,
    /// AddFaceRecord calls a second, between the first and the last of them.
    pub rate: f64,
    /// How long its conclusive answers took.
    pub latencies: Latencies,
}

/// How long answers took: (milliseconds, answers), in ascending order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Latencies(pub Vec<(u64, u64)>);

impl Latencies {
    /// Answers in all.
    pub fn answers(&self) -> u64 {
        self.0.iter().map(|(_, n)| n).sum()
    }

    /// Milliseconds within which this share of them came; none without an answer.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        let wanted = (self.answers() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let reached = |(_, n): &&(u64, u64)| {
            seen += n;
            seen >= wanted
        };
        self.0.iter().find(reached).map(|(ms, _)| *ms)
    }

    /// Those of several runs together.
    pub fn sum<'a>(all: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sum = BTreeMap::new();
        for (ms, n) in all.into_iter().flat_map(|latencies| &latencies.0) {
            *sum.entry(*ms).or_default() += n;
        }
        Self(sum.into_iter().collect())
    }
}

/// The last word of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSummary {
    /// What this run did.
    pub totals: RunTotals,
    /// The exit code.
    pub exit_code: u8,
    /// Why, in a sentence.
    pub exit_reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_all_answers() {
        let one = Latencies(vec![(10, 98), (200, 1)]);
        let both = Latencies::sum([&one, &Latencies(vec![(10, 1)])]);
        assert_eq!(both, Latencies(vec![(10, 99), (200, 1)]));
        assert_eq!([0.5, 0.99, 1.0].map(|share| both.quantile(share)), [Some(10), Some(10), Some(200)]);
        assert_eq!(Latencies::default().quantile(0.5), None);
    }
}
