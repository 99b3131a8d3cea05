//! Rate limiting and retries: when the next call may be made, and whether there is one.
//!
//! A [`Gate`] issues permits for single calls, evenly spaced and first come, first served; [`Bandwidth`] grants bytes in the
//! same way. [`RetryRules`] and the [`CircuitBreaker`] decide whether an item is sent again. All but these two are pure:
//! time and randomness are arguments. This module never sends, never stores, and never sleeps while it holds an item's resources.

mod bandwidth;
mod breaker;
mod budget;
mod gate;
mod qps;
mod rate;
mod retry;
mod shared_slots;

pub use bandwidth::{Bandwidth, BandwidthLimit};
pub use breaker::CircuitBreaker;
pub use budget::RetryTokens;
pub use gate::{Deferred, Gate};
pub use qps::{InvalidQps, Qps};
pub use rate::{AdaptiveRate, QuotaUse, RateChange};
pub use retry::{Backoff, InDoubtPolicy, RetryDecision, RetryRules};
pub use shared_slots::{Feedback, SharedSlots, Waiting};
