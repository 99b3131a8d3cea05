//! Signals, and other runs on the same checkpoint.

use std::time::Duration;

use face_enroll::sandbox::Action;
use rustix::process::Signal;

use super::{signal, wait, wait_for_line};
use crate::support::{Archive, Enroll, Service, wait_for_calls};

#[test]
fn first_signal_drains_and_next_run_resumes() {
    for (name, number, code) in [(Signal::INT, 2, 130), (Signal::TERM, 15, 143), (Signal::HUP, 1, 129)] {
        // Under nohup: what is ignored here is ignored by the run too.
        if face_enroll::run::is_ignored(number) {
            continue;
        }
        let archive = Archive::of(400, 0);
        let service = Service::with_quota(0, Duration::from_millis(80));
        // All 400 would take 40 s.
        let child = service.run(&archive).args(["--qps", "10"]).spawn();
        wait_for_calls(&service, 5);
        signal(&child, name);
        let ended = wait(child);
        let summary = ended.is(code, &[("total", 400), ("in_doubt", 0)]);
        assert!(summary["exit_reason"].as_str().unwrap().contains(&format!("signal {number}")), "{summary:#}");
        let calls = service.calls(Action::AddFaceRecord);
        assert!(calls < 400, "{calls} calls: sending went on after the signal");
        assert_eq!(summary["enrolled"].as_u64(), Some(calls as u64), "an answer in flight was lost");
        service.run(&archive).end().is(0, &[("enrolled", 400)]);
        service.holds_exactly(&archive);
    }
}

#[test]
fn second_signal_quits_and_next_run_reconciles() {
    let archive = Archive::of(20, 0);
    let service = Service::failing(r#"{"from": 4, "fault": "slow", "delay_ms": 15000}"#);
    let mut child = service.run(&archive).spawn();
    wait_for_calls(&service, 8);
    signal(&child, Signal::TERM);
    let _stderr = wait_for_line(&mut child, "signal=15");
    signal(&child, Signal::TERM);
    let summary = wait(child).is(143, &[("total", 20)]);
    // Draining would have waited for the answers.
    assert!(summary["in_doubt"].as_u64().unwrap() >= 4, "{summary:#}");
    service.sandbox.set_faults(face_enroll::sandbox::Script::default());
    service.run(&archive).end().is(0, &[("enrolled", 20)]);
    service.holds_exactly(&archive);
}

#[test]
fn signal_that_was_ignored_at_the_start_stays_ignored() {
    let archive = Archive::of(30, 0);
    let service = Service::new();
    let mut enroll = service.run(&archive);
    enroll.args(["--qps", "60"]);
    let mut under_nohup = enroll.under("trap '' HUP");
    under_nohup.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let child = under_nohup.spawn().unwrap();
    wait_for_calls(&service, 5);
    signal(&child, Signal::HUP);
    wait(child).is(0, &[("enrolled", 30)]);
}

#[test]
fn usr1_prints_status_line() {
    let archive = Archive::of(400, 0);
    let service = Service::new();
    let mut child = service.run(&archive).args(["--qps", "40"]).spawn();
    wait_for_calls(&service, 5);
    signal(&child, Signal::USR1);
    // Without the signal, the first such line would come after a minute.
    let _stderr = wait_for_line(&mut child, "total=400");
    signal(&child, Signal::TERM);
    wait(child).is(143, &[("total", 400)]);
}

#[test]
fn second_run_is_refused_or_waits() {
    let archive = Archive::of(30, 0);
    let service = Service::new();
    let child = service.run(&archive).args(["--qps", "10"]).spawn();
    wait_for_calls(&service, 3);
    // The first run holds the checkpoint for as long as it is suspended.
    signal(&child, Signal::STOP);
    let refused = service.run(&archive).end();
    assert_eq!(refused.code, Some(11), "{refused:#?}");
    assert!(refused.stderr.contains(&format!("process {}", child.id())), "{}", refused.stderr);
    let status = Enroll::new("status").arg(archive.manifest()).arg("--json").end();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((status["total"].as_u64(), status["in_doubt"].as_u64()), (Some(30), Some(0)), "{status:#}");
    let waiting = service.run(&archive).args(["--wait-lock", "2m"]).spawn();
    signal(&child, Signal::CONT);
    wait(waiting).is(0, &[("enrolled", 30), ("calls", 0)]);
    wait(child).is(0, &[("enrolled", 30)]);
}
