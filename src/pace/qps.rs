//! Rate in calls a second.

use std::{fmt, str::FromStr, time::Duration};

/// Calls a second, from 0.1 to 100,000.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Qps(f64);

/// Rate that is not a number or out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of calls a second from 0.1 to 100000")]
pub struct InvalidQps;

impl Qps {
    /// Checks the range.
    pub fn new(per_second: f64) -> Result<Self, InvalidQps> {
        if (0.1..=100_000.0).contains(&per_second) { Ok(Self(per_second)) } else { Err(InvalidQps) }
    }

    /// Calls a second.
    pub fn get(self) -> f64 {
        self.0
    }

    /// Time between two calls.
    pub fn gap(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }

    /// This rate times a positive factor, clamped to the valid range.
    pub fn scaled(self, factor: f64) -> Self {
        Self((self.0 * factor).clamp(0.1, 100_000.0))
    }
}

impl FromStr for Qps {
    type Err = InvalidQps;
    fn from_str(text: &str) -> Result<Self, InvalidQps> {
        text.parse().map_err(|_| InvalidQps).and_then(Self::new)
    }
}

impl fmt::Display for Qps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded to a tenth without trailing zeros: 50, 49.5
        write!(f, "{}", (self.0 * 10.0).round() / 10.0)
    }
}
