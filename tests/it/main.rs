//! One integration binary, a file per theme.

// The lint's allowance for tests does not reach helper functions.
#![allow(clippy::unwrap_used)]

mod checkpoint;
mod house;
mod sandbox;
