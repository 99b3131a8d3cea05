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
mod directory;
mod doctor;
mod engine;
mod errors;
mod faces;
mod faults;
mod house;
mod lifetime;
mod machine;
mod manifests;
mod mend;
mod missing;
mod model;
mod nightly;
mod objects;
mod outputs;
mod package;
mod paths;
mod ping;
mod postgres;
mod proxy;
mod quota;
mod rate;
mod reading;
mod recording;
mod report;
mod run;
mod sandbox;
mod scale;
mod services;
mod streams;
mod supply;
mod support;
mod tls;
mod undo;
mod verify;
mod zip;
