//! Statistics of a run.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    domain::{Latencies, RunTotals},
    picture::Warning,
};

/// Counters shared by all tasks.
#[derive(Debug)]
pub(super) struct Stats {
    started: Instant,
    calls: AtomicU64,
    throttled: AtomicU64,
    queries: AtomicU64,
    small: AtomicU64,
    enrolled: AtomicU64,
    sent: AtomicU64,
    sent_enrolled: AtomicU64,
    rejected: AtomicU64,
    /// Rows that reached a final state in this run; `errors` counts those rejected or failed.
    ended: AtomicU64,
    errors: AtomicU64,
    span: Mutex<Option<(Instant, Instant)>>,
    latencies: Mutex<BTreeMap<u64, u64>>,
}

impl Stats {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            calls: AtomicU64::new(0),
            throttled: AtomicU64::new(0),
            queries: AtomicU64::new(0),
            small: AtomicU64::new(0),
            enrolled: AtomicU64::new(0),
            sent: AtomicU64::new(0),
            sent_enrolled: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            errors: AtomicU64::new(0),
            span: Mutex::new(None),
            latencies: Mutex::default(),
        }
    }

    pub(super) fn called(&self, now: Instant) {
        self.calls.fetch_add(1, Relaxed);
        let mut span = self.span.lock().unwrap_or_else(PoisonError::into_inner);
        *span = Some((span.map_or(now, |(first, _)| first), now));
    }

    /// Records the latency of a conclusive answer.
    pub(super) fn on_response(&self, latency: Duration) {
        let mut latencies = self.latencies.lock().unwrap_or_else(PoisonError::into_inner);
        *latencies.entry(two_digits(latency.as_millis() as u64)).or_default() += 1;
    }

    /// Counts an item that is sent for the first time in this run.
    pub(super) fn sent(&self) {
        self.sent.fetch_add(1, Relaxed);
    }

    /// Counts an enrolled item among those sent in this run.
    pub(super) fn sent_is_enrolled(&self) {
        self.sent_enrolled.fetch_add(1, Relaxed);
    }

    pub(super) fn throttled(&self) {
        self.throttled.fetch_add(1, Relaxed);
    }

    /// Number of queries.
    pub(super) fn queries(&self) -> u64 {
        self.queries.load(Relaxed)
    }

    pub(super) fn queried(&self) {
        self.queries.fetch_add(1, Relaxed);
    }

    /// Counts the warnings about a photo that is sent all the same.
    pub(super) fn warned(&self, warnings: &[Warning]) {
        let small = warnings.iter().filter(|warning| **warning == Warning::Small).count();
        self.small.fetch_add(small as u64, Relaxed);
    }

    pub(super) fn enrolled(&self) {
        self.enrolled.fetch_add(1, Relaxed);
        self.ended.fetch_add(1, Relaxed);
    }

    /// Counts a rejected item.
    pub(super) fn rejected(&self) {
        self.rejected.fetch_add(1, Relaxed);
    }

    /// Counts a rejected or failed item. Returns (errors, ended rows) of this run.
    pub(super) fn erred(&self) -> (u64, u64) {
        (self.errors.fetch_add(1, Relaxed) + 1, self.ended.fetch_add(1, Relaxed) + 1)
    }

    pub(super) fn totals(&self, now: Instant) -> RunTotals {
        let calls = self.calls.load(Relaxed);
        let span = *self.span.lock().unwrap_or_else(PoisonError::into_inner);
        let seconds = span.map_or(0.0, |(first, last)| (last - first).as_secs_f64());
        RunTotals {
            newly_enrolled: self.enrolled.load(Relaxed),
            sent: self.sent.load(Relaxed),
            sent_enrolled: self.sent_enrolled.load(Relaxed),
            calls,
            throttled: self.throttled.load(Relaxed),
            queries: self.queries.load(Relaxed),
            small: self.small.load(Relaxed),
            newly_rejected: self.rejected.load(Relaxed),
            elapsed_s: (now - self.started).as_secs_f64(),

            latencies: Latencies(
                self.latencies.lock().unwrap_or_else(PoisonError::into_inner).clone().into_iter().collect(),
            ),
            // Count the gaps between calls: two calls a second apart are one per second.
            rate: if seconds > 0.0 { calls.saturating_sub(1) as f64 / seconds } else { 0.0 },
        }
    }
}

/// Rounds down to two significant digits, so that a few hundred distinct values cover all latencies.
fn two_digits(ms: u64) -> u64 {
    let unit = 10_u64.pow(ms.checked_ilog10().unwrap_or(0).saturating_sub(1));
    ms / unit * unit
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_are_kept_to_two_digits() {
        assert_eq!([0, 7, 42, 99, 123, 1_999, 60_000].map(two_digits), [0, 7, 42, 99, 120, 1_900, 60_000]);
    }
}
