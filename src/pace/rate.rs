//! The moving rate: down when the service throttles, up again when it does not (reference, reliability.md 4.4).
//!
//! No one rule is best for everyone. Where the quota is ours alone, a throttle that does not depend on our rate must not
//! make the run collapse; where production lives on the same quota, it must make us yield at once. So there are two,
//! and the operator says which. Pure: time is an argument.

mod dedicated;
mod shared;
#[cfg(test)]
mod simulation;

use std::{str::FromStr, time::Duration};

use tokio::time::Instant;

use self::{dedicated::Dedicated, shared::Shared};
use super::Qps;

/// The rate never sinks below this, so that recovery can be noticed.
const FLOOR: f64 = 0.5;
/// Calls a second that a second without a throttle adds.
const RISE: f64 = 0.5;
/// The same, within a tenth of the rate that was refused last.
const CAUTIOUS_RISE: f64 = 0.1;
const CAUTIOUS: std::ops::RangeInclusive<f64> = 0.9..=1.1;
/// What was learned of a quota is forgotten after this long: quotas change.
const REMEMBERED: Duration = Duration::from_secs(600);

/// `--quota`: whose the quota is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QuotaUse {
    /// Ours alone.
    #[default]
    Dedicated,
    /// Production traffic's too: yield quickly.
    Shared,
}

impl FromStr for QuotaUse {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "dedicated" => Ok(Self::Dedicated),
            "shared" => Ok(Self::Shared),
            _ => Err("one of dedicated, shared"),
        }
    }
}

/// What an observation did to the rate, where it is worth a word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// Fewer calls from now on.
    Cut(Qps),
    /// Back at the ceiling.
    Recovered(Qps),
    /// This share of the calls is throttled at any rate: it is put up with.
    Tolerated(f64),
}

/// See the module.
#[derive(Debug)]
pub enum AdaptiveRate {
    /// For a quota of our own.
    Dedicated(Dedicated),
    /// For one that others use too.
    Shared(Shared),
}

impl AdaptiveRate {
    /// Never above `ceiling`; starts at `learned`, what an earlier run found, or where its kind starts.
    pub fn new(quota_use: QuotaUse, ceiling: Qps, learned: Option<Qps>) -> Self {
        match quota_use {
            QuotaUse::Dedicated => Self::Dedicated(Dedicated::new(ceiling.get(), learned.map(Qps::get))),
            QuotaUse::Shared => Self::Shared(Shared::new(ceiling.get(), learned.map(Qps::get))),
        }
    }

    /// Calls a second, now.
    pub fn current(&self) -> Qps {
        let rate = match self {
            Self::Dedicated(rate) => rate.current(),
            Self::Shared(rate) => rate.current(),
        };
        Qps::new(rate).expect("the rate stays between the floor and a valid ceiling")
    }

    /// The time between two calls, now.
    pub fn gap(&self) -> Duration {
        self.current().gap()
    }

    /// Has the service brought it below the ceiling?
    pub fn is_reduced(&self) -> bool {
        match self {
            Self::Dedicated(rate) => rate.is_reduced(),
            Self::Shared(rate) => rate.is_reduced(),
        }
    }

    /// Takes in one reply.
    pub fn observe(&mut self, throttled: bool, now: Instant) -> Option<Change> {
        match self {
            Self::Dedicated(rate) => rate.observe(throttled, now),
            Self::Shared(rate) => rate.observe(throttled, now),
        }
    }
}

/// A rate that was refused.
#[derive(Debug, Clone, Copy)]
struct Refused {
    rate: f64,
    at: Instant,
}

/// Calls a second that a quiet second adds at this rate.
fn rise_per_second(rate: f64, refused: Option<Refused>, now: Instant) -> f64 {
    let is_near =
        refused.is_some_and(|refused| now <= refused.at + REMEMBERED && CAUTIOUS.contains(&(rate / refused.rate)));
    if is_near { CAUTIOUS_RISE } else { RISE }
}

fn qps(rate: f64) -> Qps {
    Qps::new(rate).expect("the rate stays between the floor and a valid ceiling")
}
