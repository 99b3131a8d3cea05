//! One integration binary, a file per theme.

// The lint's allowance for tests does not reach helper functions.
#![allow(clippy::unwrap_used)]
// Nothing imports a test binary.
#![allow(unreachable_pub)]

mod api;
mod check;
mod checkpoint;
mod credentials;
mod delivery;
mod doctor;
mod errors;
mod faults;
mod house;
mod lifetime;
mod manifests;
mod mend;
mod model;
mod nightly;
mod rate;
mod recording;
mod report;
mod run;
mod sandbox;
mod scale;
mod services;
mod supply;
mod support;
mod tls;
mod verify;
