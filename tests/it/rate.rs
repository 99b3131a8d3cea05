//! End-to-end tests of a service that allows less than its stated quota. `src/pace/rate/simulation.rs` simulates the
//! same cases with tolerance bands.

use std::{num::NonZeroU32, thread, time::Duration};

use face_enroll::sandbox::{Action, Settings};

use crate::support::{Archive, Service};

const LATENCY: Duration = Duration::from_millis(40);

#[test]
fn true_quota_of_10_is_found_from_50_and_used() {
    let archive = Archive::of(450, 0);
    let service =
        Service::with(Settings { qps: NonZeroU32::new(10), latency: LATENCY, seed: 1, ..Settings::default() });
    let summary = service.run(&archive).args(["--qps", "50"]).end().is(0, &[("enrolled", 450)]);
    let (calls, throttled) = (summary["calls"].as_f64().unwrap(), summary["throttled"].as_f64().unwrap());
    let accepted = 450.0 / summary["elapsed_s"].as_f64().unwrap();
    println!("{accepted:.2}/s of 10, {throttled} of {calls} throttled");
    assert!(throttled <= 0.1 * calls, "{summary:#}");
    service.holds_exactly(&archive);
}

#[test]
fn shared_quota_starts_low_and_yields_on_throttle() {
    let archive = Archive::of(150, 0);
    let service =
        Service::with(Settings { qps: NonZeroU32::new(20), latency: LATENCY, seed: 1, ..Settings::default() });
    let summary = service.run(&archive).args(["--qps", "50", "--quota", "shared"]).end().is(0, &[("enrolled", 150)]);
    let (calls, throttled) = (summary["calls"].as_f64().unwrap(), summary["throttled"].as_f64().unwrap());
    println!("{throttled} of {calls} throttled");
    assert!(throttled <= 0.1 * calls, "{summary:#}");
}

#[test]
fn restarts_stay_within_the_quota() {
    let archive = Archive::of(200, 0);
    let service = Service::with_quota(50, Duration::from_millis(20));
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..12 {
        let mut child = service.run(&archive).args(["--qps", "50", "--settle", "250ms"]).spawn();
        thread::sleep(Duration::from_millis(random.u64(50..700)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let busiest = service.sandbox.max_calls_in_any_second(Action::AddFaceRecord);
    assert!(busiest <= 50, "{busiest} calls in one second");
    service.run(&archive).args(["--settle", "250ms"]).end().is(0, &[("enrolled", 200)]);
    service.holds_exactly(&archive);
}
