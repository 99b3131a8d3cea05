//! Translates the database's time to this machine's clock.
//!
//! Each answer tells the database's time at some moment between request and answer. The answer with the shortest round trip
//! of the last 20 s counts, at its midpoint: a mapping "not before the answer" was 3 calls in a million too early on a host
//! 21 ms away (scaleout.md, section 4).

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// How long an answer counts; clocks drift by about 1 ms in this time.
const SAMPLE_AGE: Duration = Duration::from_secs(20);
/// A larger difference is a step of one of the clocks, or a suspended machine.
const MAX_DRIFT: Duration = Duration::from_millis(50);

/// An answer of the database.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sample {
    pub(super) sent: Instant,
    pub(super) received: Instant,
    /// The database's time, since 1970.
    pub(super) server: Duration,
}

impl Sample {
    fn round_trip(&self) -> Duration {
        self.received.saturating_duration_since(self.sent)
    }

    fn midpoint(&self) -> Instant {
        self.sent + self.round_trip() / 2
    }

    /// This machine's time at a time of the database.
    fn local(&self, server: Duration) -> Instant {
        let ahead = self.midpoint() + server.saturating_sub(self.server);
        ahead.checked_sub(self.server.saturating_sub(server)).unwrap_or(ahead)
    }
}

/// The answers of the last 20 s.
#[derive(Debug, Default)]
pub(super) struct ServerClock {
    samples: VecDeque<Sample>,
}

/// One of the clocks was set, or this machine slept.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stepped;

impl ServerClock {
    /// Adds an answer. After a step only this answer counts.
    pub(super) fn add(&mut self, sample: Sample) -> Result<(), Stepped> {
        let difference = self.best().map(|best| {
            let (expected, found) = (best.local(sample.server), sample.midpoint());
            expected.max(found).saturating_duration_since(expected.min(found))
        });
        let has_stepped = difference.is_some_and(|difference| difference > MAX_DRIFT + sample.round_trip() / 2);
        if has_stepped {
            self.samples.clear();
        }
        while self.samples.front().is_some_and(|oldest| oldest.received + SAMPLE_AGE < sample.received) {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        if has_stepped { Err(Stepped) } else { Ok(()) }
    }

    /// This machine's time at a time of the database. `None` before the first answer.
    pub(super) fn local(&self, server: Duration) -> Option<Instant> {
        self.best().map(|best| best.local(server))
    }

    /// Shortest round trip.
    pub(super) fn round_trip(&self) -> Duration {
        self.best().map_or(Duration::ZERO, |best| best.round_trip())
    }

    fn best(&self) -> Option<Sample> {
        self.samples.iter().copied().min_by_key(Sample::round_trip)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EPOCH: Duration = Duration::from_secs(1_800_000_000);

    fn sample(zero: Instant, sent_us: u64, there_us: u64, back_us: u64, server_at_zero: Duration) -> Sample {
        let sent = zero + Duration::from_micros(sent_us);
        Sample {
            sent,
            received: sent + Duration::from_micros(there_us + back_us),
            server: server_at_zero + Duration::from_micros(sent_us + there_us),
        }
    }

    #[test]
    fn step_of_a_clock_is_noticed() {
        let (zero, mut clock) = (Instant::now(), ServerClock::default());
        for at in 0..5 {
            clock.add(sample(zero, at * 100_000, 500, 500, EPOCH)).unwrap();
        }
        for server in [EPOCH + Duration::from_secs(1), EPOCH - Duration::from_millis(200)] {
            assert_eq!(clock.add(sample(zero, 600_000, 500, 500, server)), Err(Stepped));
            assert_eq!(clock.add(sample(zero, 700_000, 500, 500, server)), Ok(()));
        }
    }

    #[test]
    fn slow_answer_is_no_step() {
        let (zero, mut clock) = (Instant::now(), ServerClock::default());
        clock.add(sample(zero, 0, 500, 500, EPOCH)).unwrap();
        clock.add(sample(zero, 1_000, 6_000_000, 500, EPOCH)).unwrap();
        clock.add(sample(zero, 7_000_000, 500, 6_000_000, EPOCH)).unwrap();
        assert_eq!(clock.round_trip(), Duration::from_millis(1));
    }

    proptest! {
        #[test]
        fn error_is_at_most_half_the_shortest_round_trip(
            trips in proptest::collection::vec((0_u64..30_000, 0_u64..30_000), 1..40),
            ahead_us in 0_u64..500_000,
        ) {
            let (zero, mut clock) = (Instant::now(), ServerClock::default());
            for (n, (there, back)) in trips.iter().enumerate() {
                clock.add(sample(zero, n as u64 * 100_000, *there, *back, EPOCH)).unwrap();
            }
            let shortest = trips.iter().map(|(there, back)| there + back).min().unwrap();
            prop_assert_eq!(clock.round_trip(), Duration::from_micros(shortest));
            let truth = zero + Duration::from_micros(ahead_us);
            let found = clock.local(EPOCH + Duration::from_micros(ahead_us)).unwrap();
            let error = found.max(truth) - found.min(truth);
            prop_assert!(error <= Duration::from_micros(shortest / 2 + 1), "{error:?} of {shortest} us");
        }
    }
}
