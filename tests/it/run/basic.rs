//! A run's main job: every photo arrives once, at the quota, and a second run sends only what is new.

use std::{
    fs,
    io::{BufRead, BufReader},
    time::Duration,
};

use face_enroll::sandbox::Action;
use rustix::process::Signal;

use super::signal;
use crate::support::{Archive, Enroll, GROUP, Service, wait_for_calls};

#[test]
fn photos_arrive_unchanged_within_the_quota() {
    let archive = Archive::of(150, 80_000);
    let service = Service::with_quota(50, Duration::from_millis(40));
    let ended = service.run(&archive).args(["--qps", "50"]).end();
    let summary = ended.is(0, &[("total", 150), ("enrolled", 150), ("newly_enrolled", 150)]);
    service.holds_exactly(&archive);
    assert!(service.sandbox.max_calls_in_any_second(Action::AddFaceRecord) <= 50);
    assert!(summary["throttled"].as_u64().unwrap() <= 2, "{summary:#}");
}

#[test]
fn slow_answers_do_not_slow_the_sending() {
    let archive = Archive::of(60, 0);
    let service = Service::failing(r#"{"from": 2, "fault": "slow", "delay_ms": 600000}"#);
    let mut child = service.run(&archive).args(["--qps", "50"]).spawn();
    // Only the first call is answered: the others are all in flight at once.
    wait_for_calls(&service, 40);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn dns_lookup_is_not_starved_by_large_photos() {
    let archive = Archive::of(150, 900_000);
    let service = Service::new();
    let named = service.sandbox.endpoint().replace("127.0.0.1", "localhost");
    let ended = service.run(&archive).args(["--endpoint", &named, "--give-up-after", "20s", "--settle", "20s"]).end();
    // A starved lookup would never end, and the run would give up.
    ended.is(0, &[("enrolled", 150)]);
    service.holds_exactly(&archive);
}

#[test]
fn second_run_of_a_finished_manifest_makes_no_call() {
    let archive = Archive::of(20, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 20), ("calls", 20)]);
    let ended = service.run(&archive).end();
    ended.is(0, &[("enrolled", 20), ("newly_enrolled", 0), ("calls", 0), ("queries", 0)]);
    assert!(ended.stderr.contains("nothing to do: 20 already enrolled, 0 calls"), "{}", ended.stderr);
    assert_eq!(service.calls(Action::AddFaceRecord), 20);
}

#[test]
fn renamed_and_grown_manifest_sends_only_what_is_new() {
    let archive = Archive::of(20, 0);
    let service = Service::new();
    let all = fs::read_to_string(archive.manifest()).unwrap();
    let mut lines: Vec<&str> = all.lines().collect();
    archive.write(&lines[..11].join("\n"));
    service.run(&archive).end().is(0, &[("total", 10), ("enrolled", 10)]);
    lines[1..].reverse();
    let renamed = archive.path().join("tuesday.csv");
    fs::write(&renamed, lines.join("\r\n")).unwrap();
    let ended = service.run_source(&renamed).arg("--checkpoint").arg(archive.checkpoint()).end();
    ended.is(0, &[("total", 20), ("enrolled", 20), ("newly_enrolled", 10), ("calls", 10)]);
    service.holds_exactly(&archive);
}

#[test]
fn checkpoint_of_one_target_is_refused_for_another() {
    let archive = Archive::of(3, 0);
    let (service, other) = (Service::new(), Service::new());
    service.run(&archive).end().is(0, &[("enrolled", 3)]);
    let refused = other.run(&archive).end();
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr.contains("checkpoint is for"), "{}", refused.stderr);
    let rehearsal =
        Enroll::new("run").arg(archive.manifest()).arg("--sandbox").arg("--checkpoint").arg(archive.checkpoint()).end();
    assert_eq!(rehearsal.code, Some(2), "{rehearsal:#?}");
    assert_eq!(other.calls(Action::AddFaceRecord), 0);
}

#[test]
fn sandbox_within_the_process_needs_nothing_and_remembers() {
    let archive = Archive::of(9, 0);
    let sandbox = || {
        let mut enroll = Enroll::new("run");
        enroll.arg(archive.manifest()).args(["--sandbox", "--json"]);
        enroll
    };
    sandbox().args(["--max-images", "4"]).end().is(8, &[("enrolled", 4)]);
    sandbox().end().is(0, &[("enrolled", 9), ("newly_enrolled", 5)]);
    let records = archive.path().join("manifest.csv.sandbox.sqlite.records.jsonl");
    assert_eq!(fs::read_to_string(&records).unwrap().lines().count(), 9);
    let mode = std::os::unix::fs::PermissionsExt::mode(&records.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600, "ids are for the owner alone");
    assert!(!archive.checkpoint().exists());
    // The records outlive the checkpoint too: whoever loses it finds out by asking.
    let status = Enroll::new("status").arg(archive.manifest()).args(["--sandbox", "--json"]).end();
    assert!(status.stdout.contains(r#""enrolled":9"#), "{status:#?}");
}

#[test]
fn sandbox_prints_endpoint_and_key_first() {
    let mut child =
        Enroll::new("sandbox").args(["--listen", "127.0.0.1:0", "--group", GROUP, "--qps", "0", "--json"]).spawn();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!(said["type"], "sandbox");
    let archive = Archive::of(4, 0);
    let ended = Enroll::new("run")
        .arg(archive.manifest())
        .args(["--group", GROUP, "--qps", "500", "--json", "--endpoint", said["endpoint"].as_str().unwrap()])
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", said["access_key_id"].as_str().unwrap())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", said["access_key_secret"].as_str().unwrap())
        .end();
    ended.is(0, &[("enrolled", 4)]);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
