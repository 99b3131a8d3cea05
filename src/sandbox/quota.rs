//! Quota of one action in calls per second. Pure: time is an argument.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

use super::Window;

/// Length of the sliding window.
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Quota {
    qps: Option<NonZeroU32>,
    window: Window,
    /// Times of the calls admitted within the window, oldest first.
    admitted: VecDeque<Duration>,
}

impl Quota {
    pub(super) fn new(qps: Option<NonZeroU32>, window: Window) -> Self {
        Self { qps, window, admitted: VecDeque::new() }
    }

    /// Changes the limit; calls already counted stay counted.
    pub(super) fn set_qps(&mut self, qps: Option<NonZeroU32>) {
        self.qps = qps;
    }

    /// Returns whether the call is within the quota. A rejected call does not count.
    pub(super) fn admit(&mut self, at: Duration) -> bool {
        // Times come from several threads and may be out of order by microseconds.
        let at = self.admitted.back().map_or(at, |&last| last.max(at));
        while self.admitted.front().is_some_and(|&earlier| self.has_left_window(earlier, at)) {
            self.admitted.pop_front();
        }
        if self.qps.is_some_and(|qps| self.admitted.len() >= qps.get() as usize) {
            return false;
        }
        self.admitted.push_back(at);
        true
    }

    /// Undoes the last admission, for a call that a fault throttles.
    pub(super) fn release(&mut self) {
        self.admitted.pop_back();
    }

    fn has_left_window(&self, earlier: Duration, now: Duration) -> bool {
        match self.window {
            Window::Fixed => earlier.as_secs() < now.as_secs(),
            Window::Sliding => earlier + SECOND <= now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admitted(window: Window, qps: u32, millis: &[u64]) -> Vec<u64> {
        let mut quota = Quota::new(NonZeroU32::new(qps), window);
        millis.iter().copied().filter(|&ms| quota.admit(Duration::from_millis(ms))).collect()
    }

    #[test]
    fn fixed_window_admits_twice_the_quota_at_a_boundary() {
        let calls = [900, 950, 960, 1000, 1010, 1020, 2000];
        assert_eq!(admitted(Window::Fixed, 2, &calls), [900, 950, 1000, 1010, 2000]);
    }

    #[test]
    fn sliding_window_never_exceeds_the_quota() {
        let calls = [900, 950, 960, 1000, 1899, 1900, 1949, 1950, 1951];
        assert_eq!(admitted(Window::Sliding, 2, &calls), [900, 950, 1900, 1950]);
    }

    #[test]
    fn rejected_calls_do_not_count() {
        let calls: Vec<u64> = (0..1000).chain([1000]).collect();
        assert_eq!(admitted(Window::Sliding, 1, &calls), [0, 1000]);
    }

    #[test]
    fn no_quota_admits_every_call() {
        assert_eq!(admitted(Window::Sliding, 0, &[1; 100]).len(), 100);
    }

    #[test]
    fn released_call_frees_its_slot() {
        let mut quota = Quota::new(NonZeroU32::new(1), Window::Sliding);
        assert!(quota.admit(Duration::ZERO));
        quota.release();
        assert!(quota.admit(Duration::ZERO));
        assert!(!quota.admit(Duration::ZERO));
    }
}
