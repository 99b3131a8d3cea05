//! Counts that must add up.

use std::collections::BTreeMap;

/// The rows by state, as `status` and the summary show them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Every row: items and rows that could not become one.
    pub total: u64,
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
