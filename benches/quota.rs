//! Share of the quota that runs use, as counted by the service.
//!
//! ```sh
//! cargo bench --bench quota                                   # one run
//! cargo bench --bench quota -- --runs 3                       # three runs that share the quota (--quota-at)
//! cargo bench --bench quota -- --runs 3 --photos 29000 --disturb   # ten minutes, with a crash of the database and a stopped run
//! ```
//!
//! Photos of 80 KB; the sandbox allows 50 calls in any sliding second, and its mean latency is 40 ms.

#![allow(clippy::unwrap_used, unreachable_pub, dead_code)]

#[path = "../tests/it/postgres.rs"]
mod postgres;
#[path = "../tests/it/support.rs"]
mod support;

use std::{
    fs,
    process::Child,
    time::{Duration, Instant},
};

use face_enroll::sandbox::Action;
use postgres::Postgres;
use support::{Archive, Ended, Service};

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let number =
        |name: &str| args.iter().position(|arg| arg == name).and_then(|at| args.get(at + 1)?.parse::<usize>().ok());
    let runs = number("--runs").unwrap_or(1);
    let photos = number("--photos").unwrap_or(if runs == 1 { 400 } else { 3_000 });
    if runs == 1 {
        (1..=3).for_each(|_| one_run(photos));
    } else {
        several_runs(runs, photos, args.iter().any(|arg| arg == "--disturb"));
    }
}

fn one_run(photos: usize) {
    let archive = Archive::of(photos, 80_000);
    let service = Service::with_quota(50, Duration::from_millis(40));
    let run = || service.run(&archive).args(["--qps", "50"]).end();
    let started = Instant::now();
    let summary = run().is(0, &[("enrolled", photos as u64)]);
    let elapsed = started.elapsed();
    service.holds_exactly(&archive);
    report(&service, summary["throttled"].as_u64().unwrap(), elapsed);
    run().is(0, &[("calls", 0)]);
}

fn several_runs(runs: usize, photos: usize, is_disturbed: bool) {
    let Some(mut postgres) = Postgres::start() else { return };
    let service = Service::with_quota(50, Duration::from_millis(40));
    let each = photos / runs;
    let archives: Vec<Archive> = (0..runs)
        .map(|run| {
            let archive = Archive::of(each, 80_000);
            let manifest = fs::read_to_string(archive.manifest()).unwrap();
            archive.write(&manifest.replace(",u", &format!(",run{run}-")));
            archive
        })
        .collect();
    let started = Instant::now();
    let url = postgres.url("enroll");
    let children: Vec<Child> =
        archives.iter().map(|archive| service.run(archive).args(["--qps", "50", "--quota-at", &url]).spawn()).collect();
    if is_disturbed {
        let wait_for = |part: usize| {
            while service.calls(Action::AddFaceRecord) < photos * part / 4 {
                std::thread::sleep(Duration::from_millis(500));
            }
        };
        wait_for(1);
        let signal = |signal| {
            rustix::process::kill_process(rustix::process::Pid::from_child(&children[0]), signal).unwrap();
        };
        signal(rustix::process::Signal::STOP);
        std::thread::sleep(Duration::from_secs(6));
        signal(rustix::process::Signal::CONT);
        wait_for(2);
        postgres.kill();
        postgres.up();
    }
    let mut throttled = 0;
    for child in children {
        let ended = Ended::from(child.wait_with_output().unwrap());
        throttled += ended.is(0, &[("enrolled", each as u64)])["throttled"].as_u64().unwrap();
    }
    assert_eq!(service.records().len(), each * runs);
    report(&service, throttled, started.elapsed());
}

fn report(service: &Service, throttled: u64, elapsed: Duration) {
    let journal = service.sandbox.journal();
    let calls: Vec<Duration> = journal
        .iter()
        .filter(|call| call.action.as_deref() == Some(Action::AddFaceRecord.name()))
        .map(|call| call.at)
        .collect();
    let sending = (calls[calls.len() - 1] - calls[0]).as_secs_f64();
    println!(
        "{:.2} calls/s while sending ({:.1} % of the quota), worst second {}, throttled {throttled}, {:.2} s in total",
        (calls.len() - 1) as f64 / sending,
        (calls.len() - 1) as f64 / sending * 2.0,
        service.sandbox.max_calls_in_any_second(Action::AddFaceRecord),
        elapsed.as_secs_f64(),
    );
}
