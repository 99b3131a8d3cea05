//! Tests of the sandbox room: what it takes, what it refuses, and how it fails on demand.

mod actions;
mod client;
mod faults;
mod quota;
mod records;
mod refusals;
mod sdk;
mod upload;
mod vectors;

use face_enroll::sandbox::{Sandbox, Script, Settings};

/// A sandbox whose only peculiarity is this script of faults.
async fn with_faults(script: &str) -> Sandbox {
    Sandbox::start(Settings { faults: Script::parse(script).unwrap(), ..Settings::default() }).await.unwrap()
}
