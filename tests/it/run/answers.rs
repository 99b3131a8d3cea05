//! Faults, throttling and refusals of the service, and how items in doubt end.

use face_enroll::sandbox::Action;

use crate::support::{Archive, GROUP, Service, export};

/// Each fault, now and then: everyone is enrolled exactly once all the same.
#[test]
fn network_and_service_faults_lose_and_duplicate_nobody() {
    for script in [
        r#"{"from": 5, "to": 30, "fault": "throttle", "retry_after_ms": 100}"#,
        r#"{"calls": [3, 4, 9], "fault": "throttle"}"#,
        r#"{"calls": [2, 5, 6], "fault": "internal_error"}"#,
        r#"{"calls": [2, 5, 6], "fault": "internal_error", "executed": true}"#,
        r#"{"calls": [1, 7, 8], "fault": "unavailable"}"#,
        r#"{"calls": [1, 7, 8], "fault": "unavailable", "executed": true}"#,
        r#"{"calls": [4, 5], "fault": "html"}"#,
        r#"{"calls": [4, 5], "fault": "html", "executed": true}"#,
        r#"{"calls": [1, 6, 7], "fault": "reset_before"}"#,
        r#"{"calls": [1, 6, 7], "fault": "reset_after"}"#,
        r#"{"calls": [2, 8], "fault": "truncated"}"#,
        r#"{"calls": [2, 8], "fault": "unreadable"}"#,
        r#"[{"calls": [3, 4], "fault": "late", "delay_ms": 30}, {"calls": [5], "fault": "reset_after"}]"#,
        r#"[{"chance": 0.2, "fault": "reset_after"}, {"action": "QueryFaceRecord", "chance": 0.3, "fault": "unavailable"}]"#,
        r#"[{"calls": [2, 3], "fault": "reset_after"}, {"fault": "query_lag", "for_ms": 40}]"#,
        r#"[{"calls": [2, 3], "fault": "reset_before"}, {"action": "QueryFaceRecord", "calls": [1, 2], "fault": "throttle"}]"#,
        r#"{"user": "u00007", "times": 2, "fault": "code", "status": 401, "code": "DownloadTimeout", "message": "slow link"}"#,
    ] {
        let archive = Archive::of(40, 0);
        let service = Service::failing(script);
        let ended = service.run(&archive).end();
        assert_eq!(ended.code, Some(0), "{script}: {ended:#?}");
        ended.is(0, &[("total", 40), ("enrolled", 40), ("in_doubt", 0)]);
        service.holds_exactly(&archive);
    }
}

#[test]
fn stalled_request_is_reconciled_after_timeout() {
    let archive = Archive::of(12, 0);
    let service =
        Service::failing(r#"[{"calls": [3], "fault": "stall", "executed": true}, {"calls": [5], "fault": "stall"}]"#);
    service.run(&archive).end().is(0, &[("enrolled", 12), ("in_doubt", 0)]);
    service.holds_exactly(&archive);
    let queries = service.calls(Action::QueryFaceRecord);
    assert!(queries >= 3, "one for what was executed, two for what was not: {queries}");
    let rows = export(&archive.checkpoint(), &[]);
    let by_query = rows.iter().filter(|row| row["confirmed_by"] == "query").count();
    assert_eq!(by_query, 1);
}

#[test]
fn throttled_attempt_is_not_counted_and_rate_is_kept() {
    let archive = Archive::of(30, 0);
    let service = Service::failing(r#"{"from": 2, "to": 15, "fault": "throttle"}"#);
    let ended = service.run(&archive).args(["--retries", "1"]).end();
    let summary = ended.is(0, &[("enrolled", 30), ("throttled", 14), ("calls", 44)]);
    assert_eq!(summary["by_code"], serde_json::json!({}));
    for row in export(&archive.checkpoint(), &[]) {
        assert_eq!(row["attempts"], 1, "{row}");
    }
    assert!(ended.stderr.contains("the service throttles"), "{}", ended.stderr);
}

#[test]
fn refusals_of_the_service_are_final_and_named() {
    let archive = Archive::of(12, 0);
    let service = Service::failing(
        r#"[{"user": "u00003", "fault": "not_passed"},
            {"user": "u00005", "fault": "code", "status": 401, "code": "NoFaceDetected", "message": "no face"},
            {"user": "u00007", "fault": "code", "status": 400, "code": "BrandNew", "message": "never heard of"}]"#,
    );
    let summary = service.run(&archive).end().is(6, &[("enrolled", 9), ("rejected", 3), ("calls", 12)]);
    assert_eq!(summary["by_code"], serde_json::json!({"BrandNew": 1, "NoFaceDetected": 1, "Passed=N": 1}));
    let rows = export(&archive.checkpoint(), &["--status", "rejected"]);
    assert_eq!(rows.len(), 3);
    assert!(rows.iter().all(|row| row["stage"] == "service" && row["request_id"].is_string()), "{rows:#?}");
    let again = service.run(&archive).end();
    again.is(6, &[("rejected", 3), ("calls", 0)]);
}

#[test]
fn attempts_used_up_is_failed_and_says_so() {
    let archive = Archive::of(6, 0);
    let service = Service::failing(r#"{"user": "u00004", "fault": "reset_before"}"#);
    let summary = service.run(&archive).args(["--retries", "2"]).end().is(5, &[("enrolled", 5), ("failed", 1)]);
    assert_eq!(summary["by_code"], serde_json::json!({"ConnectionLost": 1}));
    let [row] = &export(&archive.checkpoint(), &["--status", "failed"])[..] else { panic!() };
    assert_eq!((row["merchant_user_id"].as_str(), row["attempts"].as_u64()), (Some("u00004"), Some(2)));
}

#[test]
fn hold_policy_leaves_items_in_doubt() {
    let archive = Archive::of(10, 0);
    let service = Service::failing(r#"{"calls": [2, 6], "fault": "reset_after"}"#);
    let held = service.run(&archive).args(["--in-doubt", "hold"]).end();
    held.is(12, &[("enrolled", 8), ("in_doubt", 2), ("queries", 0)]);
    service.run(&archive).end().is(0, &[("enrolled", 10), ("in_doubt", 0), ("calls", 0), ("queries", 2)]);
    service.holds_exactly(&archive);
}

#[test]
fn retry_policy_sends_again_without_asking() {
    let archive = Archive::of(10, 0);
    let service = Service::failing(r#"{"calls": [2], "fault": "reset_after"}"#);
    let ended = service.run(&archive).args(["--in-doubt", "retry"]).end();
    ended.is(0, &[("enrolled", 10), ("queries", 0), ("calls", 11)]);
    assert_eq!(service.records().values().filter(|&&n| n == 2).count(), 1, "that is what the policy risks");
}

#[test]
fn earlier_record_is_adopted_as_already_present() {
    let archive = Archive::of(5, 0);
    let service = Service::failing(r#"{"user": "u00002", "fault": "reset_before"}"#);
    let yesterday = jiff::Timestamp::now() - jiff::SignedDuration::from_hours(24);
    service.sandbox.insert_record(GROUP, "u00002", yesterday).unwrap();
    let summary = service.run(&archive).end().is(0, &[("enrolled", 5)]);
    assert_eq!(summary["by_code"], serde_json::json!({"AlreadyPresent": 1}));
}

#[test]
fn precheck_adopts_existing_records() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    for user in ["u00002", "u00004"] {
        service.sandbox.insert_record(GROUP, user, jiff::Timestamp::now()).unwrap();
    }
    let numbers = [("enrolled", 4), ("calls", 2), ("queries", 4)];
    service.run(&archive).arg("--precheck").end().is(0, &numbers);
    assert!(service.records().values().all(|n| *n == 1));
    let rows = export(&archive.checkpoint(), &[]);
    assert_eq!(rows.iter().filter(|row| row["code"] == "AlreadyPresent").count(), 2, "{rows:#?}");
    service.run(&archive).args(["--precheck", "--on-change", "replace"]).end().is(0, &[("calls", 0), ("queries", 0)]);
}
