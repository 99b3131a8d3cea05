//! Tests of the sandbox: what it accepts, what it rejects, and how it fails on demand.

mod actions;
mod buckets;
mod client;
mod faults;
mod quota;
mod records;
mod rejections;
mod sdk;
mod upload;
mod vectors;

use face_enroll::sandbox::{Sandbox, Script, Settings};

/// A default sandbox with this fault script.
async fn with_faults(script: &str) -> Sandbox {
    Sandbox::start(Settings { faults: Script::parse(script).unwrap(), ..Settings::default() }).await.unwrap()
}
