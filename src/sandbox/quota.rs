//! The quota of one action: so many calls a second. Pure: time is an argument.

use std::{collections::VecDeque, num::NonZeroU32, time::Duration};

use super::Window;

/// How long the quota remembers a call in a sliding window.
const SECOND: Duration = Duration::from_secs(1);

#[derive(Debug, Clone)]
pub(super) struct Quota {
    qps: Option<NonZeroU32>,
    window: Window,
    /// The calls let through within the window, oldest first.
    taken: VecDeque<Duration>,
}

impl Quota {
    pub(super) fn new(qps: Option<NonZeroU32>, window: Window) -> Self {
        Self { qps, window, taken: VecDeque::new() }
    }

    /// Another limit from here on; what it has counted stays counted.
    pub(super) fn set_qps(&mut self, qps: Option<NonZeroU32>) {
        self.qps = qps;
    }

    /// Lets a call through, or not. A refused call takes nothing.
    pub(super) fn admit(&mut self, at: Duration) -> bool {
        // Stamps come from several threads and may overtake one another by microseconds.
        let at = self.taken.back().map_or(at, |&last| last.max(at));
        while self.taken.front().is_some_and(|&earlier| self.has_passed(earlier, at)) {
            self.taken.pop_front();
        }
        if self.qps.is_some_and(|qps| self.taken.len() >= qps.get() as usize) {
            return false;
        }
        self.taken.push_back(at);
        true
    }

    /// Takes back the last admission: a fault refuses the call after all.
    pub(super) fn give_back(&mut self) {
        self.taken.pop_back();
    }

    fn has_passed(&self, earlier: Duration, now: Duration) -> bool {
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
    fn fixed_window_allows_twice_quota_at_boundary() {
        let calls = [900, 950, 960, 1000, 1010, 1020, 2000];
        assert_eq!(admitted(Window::Fixed, 2, &calls), [900, 950, 1000, 1010, 2000]);
    }

    #[test]
    fn sliding_window_holds_the_quota() {
        let calls = [900, 950, 960, 1000, 1899, 1900, 1949, 1950, 1951];
        assert_eq!(admitted(Window::Sliding, 2, &calls), [900, 950, 1900, 1950]);
    }

    #[test]
    fn refused_calls_take_nothing() {
        let calls: Vec<u64> = (0..1000).chain([1000]).collect();
        assert_eq!(admitted(Window::Sliding, 1, &calls), [0, 1000]);
    }

    #[test]
    fn no_quota_refuses_nothing() {
        assert_eq!(admitted(Window::Sliding, 0, &[1; 100]).len(), 100);
    }

    #[test]
    fn released_call_frees_its_slot() {
        let mut quota = Quota::new(NonZeroU32::new(1), Window::Sliding);
        assert!(quota.admit(Duration::ZERO));
        quota.give_back();
        assert!(quota.admit(Duration::ZERO));
        assert!(!quota.admit(Duration::ZERO));
    }
}
