//! When the next call may go, and whether there is one.
//!
//! A [`Gate`] hands out the right to make one call, evenly spaced and first come first served; the retry rules and the
//! [`CircuitBreaker`] say whether an item is to be sent again. Deciders are pure: time and randomness are arguments.
//! This room never sends, never stores and never sleeps while it holds anything of an item's.

mod breaker;
mod budget;
mod gate;
mod qps;
mod rate;
mod retry;

pub use breaker::CircuitBreaker;
pub use budget::RetryTokens;
pub use gate::{Deferred, Gate};
pub use qps::{InvalidQps, Qps};
pub use rate::{AdaptiveRate, Change, QuotaUse};
pub use retry::{Backoff, InDoubtPolicy, RetryDecision, RetryRules};
