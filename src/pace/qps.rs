//! Calls a second, as a type.

use std::{fmt, str::FromStr, time::Duration};

/// A positive number of calls a second.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Qps(f64);

/// The text is not a usable rate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a rate is a number of calls a second from 0.1 to 100000")]
pub struct InvalidQps;

impl Qps {
    /// Takes 0.1 to 100,000 calls a second.
    pub fn new(per_second: f64) -> Result<Self, InvalidQps> {
        if (0.1..=100_000.0).contains(&per_second) { Ok(Self(per_second)) } else { Err(InvalidQps) }
    }

    /// Calls a second.
    pub fn get(self) -> f64 {
        self.0
    }

    /// The time between two calls.
    pub fn gap(self) -> Duration {
        Duration::from_secs_f64(1.0 / self.0)
    }

    /// This rate times a positive factor, kept within the type's bounds.
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
        // As short as it is exact to a tenth: 50, 49.5
        write!(f, "{}", (self.0 * 10.0).round() / 10.0)
    }
}
