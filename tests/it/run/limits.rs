//! Everything that stops a run early, other than a signal.

use face_enroll::sandbox::Action;

use crate::support::{Archive, Service};

#[test]
fn wrong_secret_costs_one_call() {
    let archive = Archive::of(30, 0);
    let service = Service::new();
    let ended = service.run(&archive).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "planted-wrong-secret").end();
    let summary = ended.is(7, &[("total", 30), ("pending", 30), ("calls", 1)]);
    assert!(summary["exit_reason"].as_str().unwrap().contains("ALIBABA_CLOUD_ACCESS_KEY_SECRET"), "{summary:#}");
    assert_eq!(service.calls(Action::AddFaceRecord), 1);
    assert!(!format!("{ended:?}").contains("planted-wrong-secret"));
    // With the right one it goes on where it stopped.
    service.run(&archive).end().is(0, &[("enrolled", 30)]);
}

#[test]
fn missing_permission_stops_the_run_after_one_call() {
    let archive = Archive::of(30, 0);
    let service = Service::failing(r#"{"fault": "permission"}"#);
    let summary = service.run(&archive).end().is(7, &[("pending", 30), ("calls", 1)]);
    assert!(summary["exit_reason"].as_str().unwrap().contains("AliyunAntCloudAuthFullAccess"), "{summary:#}");
}

#[test]
fn unknown_group_stops_run_with_rows_pending() {
    let archive = Archive::of(30, 0);
    let service = Service::new();
    let ended = service.run(&archive).args(["--group", "sgl-nobody-knows"]).end();
    let summary = ended.is(7, &[("total", 30), ("pending", 30), ("calls", 1), ("queries", 1)]);
    assert!(summary["exit_reason"].as_str().unwrap().contains("sgl-nobody-knows"), "{summary:#}");
}

#[test]
fn repeated_refusal_stops_run_with_rows_pending() {
    let archive = Archive::of(60, 0);
    let service = Service::failing(
        r#"{"from": 11, "fault": "code", "status": 400, "code": "InvalidParameter", "message": "something is wrong"}"#,
    );
    let summary = service.run(&archive).args(["--concurrency", "1"]).end().is(7, &[("enrolled", 10), ("pending", 50)]);
    assert!(summary["exit_reason"].as_str().unwrap().contains("InvalidParameter"), "{summary:#}");
    let kept_going = service.run(&archive).arg("--keep-going").end();
    kept_going.is(6, &[("enrolled", 10), ("rejected", 50)]);
}

#[test]
fn limits_drain_and_leave_the_rest_pending() {
    let archive = Archive::of(40, 0);
    let service = Service::new();
    service
        .run(&archive)
        .args(["--max-images", "15"])
        .end()
        .is(8, &[("total", 40), ("enrolled", 15), ("pending", 25), ("calls", 15)]);
    let ended = service.run(&archive).args(["--qps", "20", "--max-duration", "300ms"]).end();
    let summary = ended.is(10, &[("total", 40)]);
    assert!(summary["pending"].as_u64().unwrap() > 10, "{summary:#}");
    service.run(&archive).end().is(0, &[("enrolled", 40)]);
    service.holds_exactly(&archive);
}

#[test]
fn too_many_errors_stop_the_run() {
    let archive = Archive::of(200, 0);
    let service = Service::failing(r#"{"fault": "not_passed"}"#);
    let ended = service.run(&archive).args(["--max-errors", "10"]).end();
    let summary = ended.is(8, &[("total", 200), ("enrolled", 0)]);
    let rejected = summary["rejected"].as_u64().unwrap();
    assert!((10..100).contains(&rejected), "{summary:#}");
}
