//! End-to-end tests of a service that allows less than its stated quota. `src/pace/rate/simulation.rs` simulates the
//! same cases with tolerance bands.

use std::{num::NonZeroU32, thread, time::Duration};

use face_enroll::{
    checkpoint::Reader,
    sandbox::{Action, Settings},
};
use serde_json::Value;

use crate::support::{Archive, Ended, Service};

const LATENCY: Duration = Duration::from_millis(40);

#[test]
fn lower_true_quota_is_found_and_used() {
    let archive = Archive::of(300, 0);
    let service =
        Service::with(Settings { qps: NonZeroU32::new(20), latency: LATENCY, seed: 1, ..Settings::default() });
    let summary = service.run(&archive).args(["--qps", "50"]).end().is(0, &[("enrolled", 300)]);
    let (calls, throttled) = (summary["calls"].as_f64().unwrap(), summary["throttled"].as_f64().unwrap());
    assert!(throttled <= 0.1 * calls, "{summary:#}");
    // The pace at the end of the run. How fast the calls are on a busy machine is another matter.
    let used = Reader::open(&archive.checkpoint()).unwrap().learned_rate().unwrap();
    assert!(used.is_some_and(|used| (15.0..=25.0).contains(&used)), "{used:?}, {summary:#}");
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

/// Arrivals of photos: time, and bytes of the body.
fn arrivals(service: &Service, action: Action) -> Vec<(Duration, u64)> {
    let calls = service.sandbox.journal();
    calls
        .iter()
        .filter(|call| call.action.as_deref() == Some(action.name()))
        .map(|call| (call.at, call.bytes))
        .collect()
}

#[test]
fn bwlimit_holds_over_bodies_and_uploads() {
    const RATE: u64 = 800 * 1024;
    for (send, action) in [("inline", Action::AddFaceRecord), ("upload", Action::PostObject)] {
        let archive = Archive::of(24, 60_000);
        let service = Service::new();
        let mut run = service.run(&archive);
        let ended = run.args(["--bwlimit", "800k", "--send", send, "--stats", "300ms"]).end();
        ended.is(0, &[("enrolled", 24)]);
        service.holds_exactly(&archive);
        assert!(ended.stderr.contains("limited_by=\"bandwidth\""), "{}", ended.stderr);
        let arrived = arrivals(&service, action);
        let bytes: u64 = arrived.iter().map(|(_, bytes)| bytes).sum();
        let largest = arrived.iter().map(|(_, bytes)| *bytes).max().unwrap();
        // The first item is alone until the service has answered. The second body has left before the measurement starts.
        let took = (arrived.last().unwrap().0 - arrived[1].0).as_secs_f64();
        let rate = (bytes - arrived[0].1 - arrived[1].1) as f64 / took;
        println!("{send}: {bytes} bytes, {:.0} KiB/s of {}", rate / 1024.0, RATE / 1024);
        assert!((0.5..1.06).contains(&(rate / RATE as f64)), "{send}: {rate} bytes a second in {took} s");
        for (at, _) in &arrived {
            let second = arrived.iter().filter(|(other, _)| *other >= *at && *other < *at + Duration::from_secs(1));
            let in_second: u64 = second.map(|(_, bytes)| bytes).sum();
            // Whole bodies leave: one more than the rate, and 40 ms of burst.
            assert!(in_second <= RATE + largest + RATE / 20, "{send}: {in_second} bytes in a second");
        }
    }
}

#[test]
fn body_that_waits_for_bandwidth_holds_no_intent() {
    let archive = Archive::of(20, 0);
    let service = Service::new();
    let run = service.run(&archive).args(["--bwlimit", "1k", "--max-duration", "1500ms"]).end();
    // A body takes a minute. The stop finds none of them under way, and loses nothing.
    run.is(10, &[("enrolled", 0), ("calls", 0), ("in_doubt", 0), ("pending", 20)]);
    service.run(&archive).args(["--bwlimit", "00:00,off 12:00,off"]).end().is(0, &[("enrolled", 20)]);
    for bad in ["0", "fast", "08:00,2M 19:00", "25:00,2M"] {
        assert_eq!(service.run(&archive).args(["--bwlimit", bad]).end().code, Some(2), "{bad}");
    }
}

#[test]
fn dry_run_forecasts_the_bandwidth_limit() {
    let archive = Archive::of(10, 0);
    let service = Service::new();
    let plan = |args: &[&str]| service.run(&archive).args(["-n"]).args(args).end();
    let forecast = |ended: &Ended| serde_json::from_str::<Value>(ended.stdout.lines().last().unwrap()).unwrap();
    let ended = plan(&["--bwlimit", "10k"]);
    let bytes = forecast(&ended)["call_bytes"].as_f64().unwrap();
    let seconds = forecast(&ended)["seconds_at_bwlimit"].as_f64().unwrap();
    assert!((seconds - bytes / 10_240.0).abs() < 0.1, "{ended:#?}");
    assert_eq!(forecast(&plan(&[]))["seconds_at_bwlimit"], Value::Null);
}
