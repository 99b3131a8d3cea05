//! Share of the quota that a run uses, as counted by the service: `cargo bench --bench quota`.
//!
//! 400 photos of 80 KB; the sandbox allows 50 calls in any sliding second, and its mean latency is 40 ms.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../tests/it/support.rs"]
mod support;

use std::time::{Duration, Instant};

use face_enroll::sandbox::Action;
use support::{Archive, Service};

fn main() {
    let archive = Archive::of(400, 80_000);
    for round in 1..=3 {
        let service = Service::with_quota(50, Duration::from_millis(40));
        let _ = std::fs::remove_file(archive.checkpoint());
        let started = Instant::now();
        let ended = service
            .run(&archive)
            .args(["--qps", "50"])
            .arg("--checkpoint")
            .arg(archive.path().join(format!("{round}.sqlite")))
            .end();
        let summary = ended.is(0, &[("enrolled", 400)]);
        let elapsed = started.elapsed();
        service.holds_exactly(&archive);
        let calls: Vec<Duration> = service
            .sandbox
            .journal()
            .iter()
            .filter(|call| call.action.as_deref() == Some(Action::AddFaceRecord.name()))
            .map(|call| call.at)
            .collect();
        let sending = (calls[calls.len() - 1] - calls[0]).as_secs_f64();
        println!(
            "{:.2} calls/s while sending ({:.1} % of the quota), worst second {}, throttled {}, {:.2} s in total",
            (calls.len() - 1) as f64 / sending,
            (calls.len() - 1) as f64 / sending * 2.0,
            service.sandbox.max_calls_in_any_second(Action::AddFaceRecord),
            summary["throttled"],
            elapsed.as_secs_f64(),
        );
        assert_eq!(
            service
                .run(&archive)
                .arg("--checkpoint")
                .arg(archive.path().join(format!("{round}.sqlite")))
                .end()
                .is(0, &[("calls", 0)])["enrolled"],
            400
        );
    }
}
