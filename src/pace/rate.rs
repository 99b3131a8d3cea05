//! Adaptive rate: falls when the service throttles and rises when it does not (reference, reliability.md 4.4).
//!
//! No single rule fits every case. On a dedicated quota, throttling that does not depend on our rate must not slow the
//! run down; on a quota shared with production, throttling must make us back off at once. So there are two rules, and
//! the operator chooses one. Pure: time is an argument.

mod dedicated;
mod shared;
#[cfg(test)]
mod simulation;

use std::time::Duration;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use self::{dedicated::Dedicated, shared::Shared};
use super::Qps;

/// Lowest rate in calls a second; enough calls to notice a recovery.
const MIN_RATE: f64 = 0.5;
/// Rise of the rate, in calls a second per second without throttling.
const RISE_PER_SECOND: f64 = 0.5;
/// Rise per second near the rate that was last throttled.
const CAUTIOUS_RISE_PER_SECOND: f64 = 0.1;
/// Range around the last throttled rate, as a share of it, where the rise is cautious.
const CAUTIOUS_RANGE: std::ops::RangeInclusive<f64> = 0.9..=1.1;
/// How long throttling is remembered; quotas change.
const THROTTLE_MEMORY: Duration = Duration::from_secs(600);

/// `--quota`: whether other traffic uses the quota too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum QuotaUse {
    /// This run may use the whole quota.
    #[default]
    Dedicated,
    /// Production traffic uses the quota too: back off quickly.
    Shared,
}

/// Change of the rate that is worth reporting.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RateChange {
    /// The rate was cut to this.
    Cut(Qps),
    /// The rate is back at this ceiling.
    Recovered(Qps),
    /// This share of the calls is throttled at any rate and is tolerated.
    Tolerated(f64),
}

/// Adaptive rate of one API action.
#[derive(Debug, Serialize, Deserialize)]
pub enum AdaptiveRate {
    /// For a dedicated quota.
    Dedicated(Dedicated),
    /// For a shared quota.
    Shared(Shared),
}

impl AdaptiveRate {
    /// Stays at or below `ceiling`. Starts at `learned`, the rate of an earlier run, or else at the initial rate.
    pub fn new(quota_use: QuotaUse, ceiling: Qps, learned: Option<Qps>) -> Self {
        match quota_use {
            QuotaUse::Dedicated => Self::Dedicated(Dedicated::new(ceiling.get(), learned.map(Qps::get))),
            QuotaUse::Shared => Self::Shared(Shared::new(ceiling.get(), learned.map(Qps::get))),
        }
    }

    /// Whether it follows the rule for this use of the quota.
    pub fn is_for(&self, quota_use: QuotaUse) -> bool {
        match self {
            Self::Dedicated(_) => quota_use == QuotaUse::Dedicated,
            Self::Shared(_) => quota_use == QuotaUse::Shared,
        }
    }

    /// Current rate.
    pub fn current(&self) -> Qps {
        qps(match self {
            Self::Dedicated(rate) => rate.current(),
            Self::Shared(rate) => rate.current(),
        })
    }

    /// Current time between two calls.
    pub fn gap(&self) -> Duration {
        self.current().gap()
    }

    /// Whether throttling has reduced the rate below the ceiling.
    pub fn is_reduced(&self) -> bool {
        match self {
            Self::Dedicated(rate) => rate.is_reduced(),
            Self::Shared(rate) => rate.is_reduced(),
        }
    }

    /// Adapts the rate to one response.
    pub fn observe(&mut self, throttled: bool, now: Duration) -> Option<RateChange> {
        match self {
            Self::Dedicated(rate) => rate.observe(throttled, now),
            Self::Shared(rate) => rate.observe(throttled, now),
        }
    }
}

/// Rate at the last throttling.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Throttle {
    rate: f64,
    at: Duration,
}

/// Rise of the rate, in calls a second per second without throttling.
fn rise_per_second(rate: f64, last: Option<Throttle>, now: Duration) -> f64 {
    let is_near =
        last.is_some_and(|last| now <= last.at + THROTTLE_MEMORY && CAUTIOUS_RANGE.contains(&(rate / last.rate)));
    if is_near { CAUTIOUS_RISE_PER_SECOND } else { RISE_PER_SECOND }
}

fn qps(rate: f64) -> Qps {
    Qps::new(rate).expect("the rate stays between MIN_RATE and a valid ceiling")
}
