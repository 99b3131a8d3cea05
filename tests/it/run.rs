//! The main job, by the real binary against a sandbox that outlives it: what a run promises, and how it ends.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::Child,
    time::{Duration, Instant},
};

use face_enroll::sandbox::{Action, Settings};
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Archive, Ended, Enroll, GROUP, Service, codes, export, skip};

fn signal(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
}

/// Waits until the sandbox has seen so many calls.
fn wait_for_calls(service: &Service, calls: usize) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while service.calls(Action::AddFaceRecord) < calls {
        assert!(Instant::now() < deadline, "the calls did not come");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait(child: Child) -> Ended {
    Ended::from(child.wait_with_output().unwrap())
}

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
    let service = Service::with_quota(50, Duration::from_millis(400));
    service.run(&archive).args(["--qps", "50"]).end().is(0, &[("enrolled", 60)]);
    let arrivals: Vec<Duration> = service.sandbox.journal().iter().map(|arrival| arrival.at).collect();
    // Behind the first, which goes alone: 58 gaps of 20 ms. With five in flight it would take five seconds.
    let sending = arrivals[59] - arrivals[1];
    assert!(sending < Duration::from_secs(3), "{sending:?}");
}

#[test]
fn dns_lookup_is_not_starved_by_large_photos() {
    let archive = Archive::of(150, 900_000);
    let service = Service::new();
    let named = service.sandbox.endpoint().replace("127.0.0.1", "localhost");
    let ended = service.run(&archive).args(["--endpoint", &named, "--give-up-after", "20s", "--settle", "20s"]).end();
    ended.is(0, &[("enrolled", 150), ("calls", 150)]);
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
fn retry_puts_back_what_is_named_and_nothing_else() {
    let archive = Archive::of(6, 0);
    let service = Service::failing(
        r#"[{"user": "u00001", "times": 2, "fault": "reset_before"},
            {"user": "u00002", "times": 1, "fault": "not_passed"},
            {"user": "u00003", "fault": "code", "status": 401, "code": "NoFaceDetected", "message": "no face"}]"#,
    );
    service.run(&archive).args(["--retries", "2"]).end().is(5, &[("enrolled", 3), ("failed", 1), ("rejected", 2)]);
    let retry = |args: &[&str], expected: &str| {
        let ended = Enroll::new("retry").arg(archive.manifest()).args(args).end();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.stdout.starts_with(expected), "{}", ended.stdout);
    };
    retry(&[], "1 pending");
    service.run(&archive).end().is(6, &[("enrolled", 4), ("rejected", 2), ("calls", 1)]);
    retry(&["--status", "failed,rejected", "--code", "Passed=N"], "1 pending");
    service.run(&archive).end().is(6, &[("enrolled", 5), ("rejected", 1), ("calls", 1)]);
    assert_eq!(Enroll::new("retry").arg(archive.manifest()).args(["--status", "enrolled"]).end().code, Some(2));
    service.holds_exactly_but(&archive, &["u00003"]);
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
fn local_refusals_cost_no_call() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/manifest-with-faults.csv");
    let service = Service::new();
    let checkpoint = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint.path().join("c.sqlite");
    let ended =
        service.run_source(samples.as_ref()).args(["--fit", "never"]).arg("--checkpoint").arg(&checkpoint).end();
    let summary = ended.is(6, &[("total", 14), ("enrolled", 2), ("rejected", 12), ("calls", 2)]);
    let rows = export(&checkpoint, &["--status", "rejected"]);
    assert!(rows.iter().all(|row| row["stage"] == "local"), "{rows:#?}");
    let lines: Vec<u64> = rows.iter().filter_map(|row| row["row"].as_u64()).collect();
    assert_eq!(lines.iter().sum::<u64>(), (3..=14).sum::<u64>(), "{lines:?}");
    let expected = [
        "DuplicateUserId",
        "Empty",
        "InvalidUserId",
        "MissingPicture",
        "NeedsRotation",
        "NotFound",
        "NotJpeg",
        "NotPortrait",
        "OutsideRoot",
        "Truncated",
        "UnclosedQuote",
        "WrongFieldCount",
    ];
    assert_eq!(codes(&rows).into_iter().collect::<Vec<_>>(), expected, "{summary:#}");
    // Two of them can be made to meet the rules: other rules look at them again.
    let ended = service.run_source(samples.as_ref()).arg("--checkpoint").arg(&checkpoint).end();
    ended.is(6, &[("total", 14), ("enrolled", 4), ("rejected", 10), ("calls", 2)]);
}

#[test]
fn mended_photo_is_sent_by_the_next_run() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    let photo = archive.path().join("photos/u00002.jpg");
    let good = fs::read(&photo).unwrap();
    fs::write(&photo, &good[..1_000]).unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 3), ("rejected", 1)]);
    service.run(&archive).end().is(6, &[("calls", 0)]);
    fs::write(&photo, good).unwrap();
    service.run(&archive).end().is(0, &[("enrolled", 4), ("calls", 1)]);
    service.holds_exactly(&archive);
}

#[test]
fn export_of_rejected_rows_can_be_corrected_and_run() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    let lost = archive.path().join("photos/u00002.jpg");
    let elsewhere = archive.path().join("photos/found.jpg");
    fs::rename(&lost, &elsewhere).unwrap();
    archive.write(
        &fs::read_to_string(archive.manifest())
            .unwrap()
            .replace("merchant_user_id", "merchant_user_id,badge")
            .replace("\n", ",b\n")
            .replacen(",b\n", "\n", 1),
    );
    service.run(&archive).end().is(6, &[("enrolled", 3), ("rejected", 1)]);
    let mended = archive.path().join("mended.csv");
    let ended =
        Enroll::new("export").arg(archive.manifest()).args(["--status", "rejected", "--output"]).arg(&mended).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let text = fs::read_to_string(&mended).unwrap();
    assert!(text.starts_with(
        "row,source,path,url,merchant_user_id,face_group_code,status,stage,code,message,request_id,attempts,\
         face_quality,sha256,enrolled_at,confirmed_by,badge\n3,"
    ));
    assert!(text.contains(",photos/u00002.jpg,,u00002,sgl0001uc,rejected,local,NotFound,"), "{text}");
    fs::write(&mended, text.replace("u00002.jpg", "found.jpg")).unwrap();
    let ended = service.run_source(&mended).arg("--checkpoint").arg(archive.checkpoint()).end();
    ended.is(0, &[("total", 4), ("enrolled", 4), ("calls", 1)]);
    service.holds_exactly(&archive);
}

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
fn quiet_run_says_only_why_it_stopped_early() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    let wrong = service.run(&archive).arg("-q").env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "planted-wrong-secret").end();
    assert_eq!(wrong.code, Some(7));
    assert!(wrong.stderr.contains("check ALIBABA_CLOUD_ACCESS_KEY_SECRET, then run again"), "{wrong:#?}");
    for (args, code) in [(&["--max-images", "1"][..], 8), (&["--max-duration", "0s"], 10), (&[], 0)] {
        let ended = service.run(&archive).arg("-q").args(args).end();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(code), ""), "{args:?}");
    }
    // Nobody else will tell of what is new: the next run knows it.
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&(manifest + "../x.jpg,u9\n"));
    for (duration, is_told) in [("0s", true), ("1h", false)] {
        let args = ["-q", "--exit-on", "new", "--max-duration", duration];
        let ended = service.run(&archive).args(args).end();
        assert_eq!(ended.stderr.contains("export --status rejected"), is_told, "{ended:#?}");
    }
}

#[test]
fn quiet_run_logs_start_and_end_to_file() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let log = archive.path().join("run.log");
    let ended = service.run(&archive).arg("-q").arg("--log-file").arg(&log).end();
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let log = fs::read_to_string(log).unwrap();
    assert!(log.contains("INFO run started run=") && log.contains("INFO Every row is enrolled exit=0"), "{log}");
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

#[test]
fn first_signal_drains_and_next_run_resumes() {
    for (name, number, code) in [(Signal::INT, 2, 130), (Signal::TERM, 15, 143), (Signal::HUP, 1, 129)] {
        // Under nohup: what is ignored here is ignored by the run too.
        if face_enroll::run::is_ignored(number) {
            continue;
        }
        let archive = Archive::of(400, 0);
        let service = Service::with_quota(0, Duration::from_millis(80));
        let child = service.run(&archive).args(["--qps", "40"]).spawn();
        wait_for_calls(&service, 10);
        let before = service.calls(Action::AddFaceRecord);
        signal(&child, name);
        let ended = wait(child);
        let summary = ended.is(code, &[("total", 400), ("in_doubt", 0)]);
        assert!(summary["exit_reason"].as_str().unwrap().contains(&format!("signal {number}")), "{summary:#}");
        let calls = service.calls(Action::AddFaceRecord);
        assert!(calls < before + 20, "{before}, then {calls} calls: sending went on after the signal");
        assert_eq!(summary["enrolled"].as_u64(), Some(calls as u64), "an answer was not heard out");
        service.run(&archive).end().is(0, &[("enrolled", 400)]);
        service.holds_exactly(&archive);
    }
}

#[test]
fn second_signal_quits_and_next_run_reconciles() {
    let archive = Archive::of(20, 0);
    let service = Service::failing(r#"{"from": 4, "fault": "slow", "delay_ms": 15000}"#);
    let child = service.run(&archive).spawn();
    wait_for_calls(&service, 8);
    signal(&child, Signal::TERM);
    std::thread::sleep(Duration::from_millis(100));
    let second = Instant::now();
    signal(&child, Signal::TERM);
    let ended = wait(child);
    assert!(second.elapsed() < Duration::from_secs(2), "{:?}", second.elapsed());
    let summary = ended.is(143, &[("total", 20)]);
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
    let mut under_nohup = std::process::Command::new("sh");
    under_nohup.args(["-c", "trap '' HUP; exec \"$@\"", "sh"]).arg(enroll.command().get_program());
    under_nohup
        .args(enroll.command().get_args())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    for (name, value) in enroll.command().get_envs() {
        if let Some(value) = value {
            under_nohup.env(name, value);
        }
    }
    let child = under_nohup.spawn().unwrap();
    wait_for_calls(&service, 5);
    signal(&child, Signal::HUP);
    wait(child).is(0, &[("enrolled", 30)]);
}

#[test]
fn usr1_prints_how_it_stands() {
    let archive = Archive::of(40, 0);
    let service = Service::new();
    let child = service.run(&archive).args(["--qps", "40"]).spawn();
    wait_for_calls(&service, 5);
    signal(&child, Signal::USR1);
    let ended = wait(child);
    ended.is(0, &[("enrolled", 40)]);
    let lines = ended.stderr.lines().filter(|line| line.contains("enrolling") && line.contains("total=40")).count();
    assert_eq!(lines, 1, "{}", ended.stderr);
}

#[test]
fn second_run_is_refused_or_waits() {
    let archive = Archive::of(30, 0);
    let service = Service::new();
    let child = service.run(&archive).args(["--qps", "20"]).spawn();
    wait_for_calls(&service, 3);
    let refused = service.run(&archive).end();
    assert_eq!(refused.code, Some(11), "{refused:#?}");
    assert!(refused.stderr.contains(&format!("process {}", child.id())), "{}", refused.stderr);
    let status = Enroll::new("status").arg(archive.manifest()).arg("--json").end();
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((status["total"].as_u64(), status["in_doubt"].as_u64()), (Some(30), Some(0)), "{status:#}");
    let waited = service.run(&archive).args(["--wait-lock", "20s"]).end();
    waited.is(0, &[("enrolled", 30), ("calls", 0)]);
    wait(child).is(0, &[("enrolled", 30)]);
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
fn usage_errors_exit_2_with_advice() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let manifest = archive.manifest();
    let with_key = || {
        let mut enroll = Enroll::new("run");
        enroll
            .arg(&manifest)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAIplanted")
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "planted");
        enroll
    };
    for (mut enroll, code, words) in [
        (with_key(), 2, "--group"),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g"]);
                e
            },
            2,
            "--region",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g", "--region", "cn-shanghai"]);
                e
            },
            2,
            "cn-shanghai",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g", "--endpoint", "http://10.0.0.1"]);
                e
            },
            2,
            "cleartext",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--group", "g", "--qps", "0"]);
                e
            },
            2,
            "--qps",
        ),
        (
            {
                let mut e = with_key();
                e.args(["--groupp", "g"]);
                e
            },
            2,
            "--group",
        ),
        (
            {
                let mut e = Enroll::new("run");
                e.arg("no-such.csv").arg("--sandbox");
                e
            },
            3,
            "no-such.csv",
        ),
        (
            {
                let mut e = service.run(&archive);
                e.env("ALIBABA_CLOUD_ACCESS_KEY_ID", "");
                e
            },
            7,
            "ALIBABA_CLOUD_ACCESS_KEY_ID",
        ),
    ] {
        let ended = enroll.end();
        assert_eq!(ended.code, Some(code), "{ended:#?}");
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
        assert!(!ended.stderr.contains("planted"), "{}", ended.stderr);
    }
    assert_eq!(service.calls(Action::AddFaceRecord), 0);
    let left: Vec<_> = fs::read_dir(archive.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "a mistake of usage left something behind: {left:?}");
}

#[test]
fn manifest_without_a_usable_row_is_no_source() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    archive.write("path,merchant_user_id\n,a\n,b\n");
    service.run(&archive).end().is(3, &[("total", 2), ("rejected", 2), ("calls", 0)]);
    let empty = Archive::of(0, 0);
    service.run(&empty).end().is(0, &[("total", 0)]);
}

#[test]
fn run_can_be_set_up_by_the_environment_alone() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    let ended = Enroll::new("run")
        .arg(archive.manifest())
        .env("FACE_ENROLL_GROUP", GROUP)
        .env("FACE_ENROLL_ENDPOINT", service.sandbox.endpoint())
        .env("FACE_ENROLL_JSON", "items")
        .env("FACE_ENROLL_QPS", "1000")
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret())
        .end();
    ended.is(0, &[("enrolled", 3)]);
    let items = ended.stdout.lines().filter(|line| line.contains(r#""type":"item""#)).count();
    assert_eq!(items, 3, "{}", ended.stdout);
}

#[test]
fn dry_run_only_reports() {
    let archive = Archive::of(5, 0);
    let service = Service::new();
    fs::remove_file(archive.path().join("photos/u00004.jpg")).unwrap();
    let ended = service.run(&archive).arg("--dry-run").end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let lines: Vec<serde_json::Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let [finding, sum] = &lines[..] else { panic!("{}", ended.stdout) };
    assert_eq!(
        (&finding["type"], &finding["row"], &finding["code"]),
        (&"finding".into(), &5.into(), &"NotFound".into())
    );
    assert_eq!((&sum["type"], &sum["total"], &sum["good"]), (&"check".into(), &5.into(), &4.into()));
    assert_eq!(service.calls(Action::AddFaceRecord), 0);
    assert!(!archive.checkpoint().exists());
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

#[test]
fn outputs_hold_no_secret_and_no_photo() {
    let archive = Archive::of(6, 0);
    let credentials = face_enroll::sandbox::Credentials {
        access_key_id: "LTAI5tPLANTEDKEY0001".into(),
        access_key_secret: "planted-secret-4711".into(),
        security_token: Some("planted-token-0815".into()),
    };
    let faults = r#"[{"user": "u00006", "fault": "not_passed"}, {"calls": [2], "fault": "reset_after"}, {"calls": [4], "fault": "html"}]"#;
    let faults = face_enroll::sandbox::Script::parse(faults).unwrap();
    let service = Service::with(Settings { credentials, faults, ..Settings::default() });
    let log = archive.path().join("run.log");
    let ended = service
        .run(&archive)
        .args(["-vv", "--json=items", "--log-file"])
        .arg(&log)
        .env("RUST_LOG", "trace")
        .env("ALIBABA_CLOUD_SECURITY_TOKEN", "planted-token-0815")
        .end();
    ended.is(6, &[("enrolled", 5), ("rejected", 1)]);
    let mut everything = vec![ended.stdout.into_bytes(), ended.stderr.into_bytes()];
    for entry in fs::read_dir(archive.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            everything.push(fs::read(&path).unwrap());
            let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
            let is_ours = path != archive.manifest();
            assert!(!is_ours || mode & 0o077 == 0, "{} is readable by others", path.display());
        }
    }
    let photo = fs::read(archive.path().join("photos/u00003.jpg")).unwrap();
    let slice = &photo[20_000..20_024];
    let base64 = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, slice);
    for canary in [
        &b"planted-secret-4711"[..],
        b"planted-token-0815",
        b"LTAI5tPLANTEDKEY0001",
        b"Signature=",
        slice,
        base64.as_bytes(),
    ] {
        for output in &everything {
            let is_there = output.windows(canary.len()).any(|window| window == canary);
            assert!(!is_there, "{} was found in an output", String::from_utf8_lossy(canary));
        }
    }
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

#[test]
fn exit_on_new_ignores_earlier_rejections() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    fs::write(archive.path().join("photos/u00002.jpg"), "no photo").unwrap();
    let run = || service.run(&archive).args(["--exit-on", "new"]).end();
    run().is(6, &[("rejected", 1)]);
    let ended = run();
    ended.is(0, &[("rejected", 1), ("enrolled", 2)]);
    assert!(ended.stderr.contains("all of them by earlier runs"), "{}", ended.stderr);
    service.run(&archive).end().is(6, &[("rejected", 1)]);
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&(manifest + "../out.jpg,u9\n"));
    run().is(6, &[("rejected", 2)]);
    run().is(0, &[("rejected", 2)]);
}

#[test]
fn completions_and_the_manual_name_every_command() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = Enroll::new("completions").arg(shell).end();
        assert!(script.code == Some(0) && script.stdout.contains("in-doubt"), "{shell}");
    }
    let page = Enroll::new("man").end();
    for command in ["run", "check", "status", "export", "retry", "sandbox"] {
        assert!(page.stdout.contains(&format!("face\\-enroll {command}")), "{command} is not in the manual");
    }
}

#[test]
fn bash_completes_the_flags_of_a_command() {
    let script = Enroll::new("completions").arg("bash").end().stdout;
    // As bash calls it: the word that is being typed, and the one before.
    let typed =
        "COMP_WORDS=(face-enroll run --precheck --wind); COMP_CWORD=3; _face__enroll face-enroll --wind --precheck";
    let shell = std::process::Command::new("bash")
        .args(["-c", &format!("{script}\n{typed}; echo \"${{COMPREPLY[*]}}\"")])
        .output();
    let Ok(output) = shell else {
        skip("bash");
        return;
    };
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "--window", "{output:?}");
}

#[test]
fn metrics_file_holds_run_figures_and_exit_code() {
    let archive = Archive::of(5, 0);
    let service = Service::new();
    let file = archive.path().join("face_enroll.prom");
    service.run(&archive).arg("--metrics-file").arg(&file).args(["--max-images", "3"]).end().is(8, &[("enrolled", 3)]);
    let text = fs::read_to_string(&file).unwrap();
    let lines = ["face_enroll_rows{state=\"enrolled\"} 3", "face_enroll_calls_total 3", "face_enroll_exit_code 8"];
    for line in lines {
        assert!(text.lines().any(|found| found == line), "{line} is not in {text}");
    }
    let ended = service.run(&archive).args(["--metrics-file", "/nowhere/at/all.prom"]).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(service.calls(Action::AddFaceRecord), 3);
}

#[test]
fn settings_file_has_lowest_precedence() {
    let archive = Archive::of(6, 0);
    let service = Service::new();
    let folder = archive.path().join("config/face-enroll");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("config.toml"), "max-images = 1\n[profile.two]\nmax-images = 2\n").unwrap();
    let home = archive.path().join("config");
    service.run(&archive).env("XDG_CONFIG_HOME", &home).end().is(8, &[("calls", 1)]);
    let mut run = service.run(&archive);
    run.env("XDG_CONFIG_HOME", &home).env("FACE_ENROLL_PROFILE", "two").end().is(8, &[("calls", 2)]);
    let mut run = service.run(&archive);
    run.env("XDG_CONFIG_HOME", &home).env("FACE_ENROLL_MAX_IMAGES", "1").end().is(8, &[("calls", 1)]);
    service.run(&archive).env("XDG_CONFIG_HOME", &home).args(["--max-images", "9"]).end().is(0, &[("calls", 2)]);
    fs::write(folder.join("config.toml"), "maximages = 1\n").unwrap();
    let ended = service.run(&archive).env("XDG_CONFIG_HOME", &home).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("did you mean max-images?"), "{}", ended.stderr);
}
