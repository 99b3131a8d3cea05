//! `undo`: what a run put into the group is removed by record id, and nothing else.

use std::{collections::BTreeMap, fs};

use face_enroll::sandbox::{Action, Script};
use rusqlite::Connection;
use serde_json::Value;

use crate::support::{Archive, Ended, Enroll, GROUP, Service, export, wait_until};

fn command(subcommand: &str, service: &Service, archive: &Archive) -> Enroll {
    let mut enroll = Enroll::new(subcommand);
    enroll
        .arg(archive.manifest())
        .args(["--endpoint", &service.sandbox.endpoint(), "--query-qps", "1000", "--settle", "60ms", "--json"])
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret());
    enroll
}

fn undo(service: &Service, archive: &Archive, args: &[&str]) -> Ended {
    command("undo", service, archive).args(args).end()
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Asserts the exit code and the balance: total, to remove, removed, gone, refused, left, in doubt.
fn balance(ended: &Ended, code: i32, numbers: [u64; 7]) {
    let line = lines(ended).pop().unwrap_or_else(|| panic!("{ended:#?}"));
    let names = ["total", "to_remove", "removed", "gone", "refused", "left", "in_doubt"];
    let found = names.map(|name| line[name].as_u64().unwrap());
    assert_eq!((ended.code, found), (Some(code), numbers), "{ended:#?}");
    assert_eq!((line["type"].as_str(), line["exit_code"].as_i64()), (Some("undo"), Some(code.into())));
}

/// Action and code of each listed row, by id.
fn listed(ended: &Ended) -> BTreeMap<String, (String, Option<String>)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    lines(ended)
        .iter()
        .filter(|line| line["type"] == "record")
        .map(|line| (text(&line["merchant_user_id"]).unwrap(), (text(&line["action"]).unwrap(), text(&line["code"]))))
        .collect()
}

fn has_no_difference(service: &Service, archive: &Archive) {
    let ended = command("verify", service, archive).arg("--all").end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}

/// An archive of which one run enrolled the first four rows and the next one the last three. Returns the names of both.
fn two_runs() -> (Archive, Service, [String; 2]) {
    let (archive, service) = (Archive::of(7, 0), Service::new());
    let whole = fs::read_to_string(archive.manifest()).unwrap();
    let first_rows: Vec<&str> = whole.lines().take(5).collect();
    archive.write(&first_rows.join("\n"));
    let first = service.run(&archive).end().is(0, &[("newly_enrolled", 4)]);
    archive.write(&whole);
    let second = service.run(&archive).end().is(0, &[("newly_enrolled", 3)]);
    let name = |summary: &Value| summary["run_id"].as_str().unwrap().to_owned();
    (archive, service, [name(&first), name(&second)])
}

#[test]
fn undo_without_yes_lists_and_changes_nothing() {
    let (archive, service, [_, run]) = two_runs();
    let before = fs::read(archive.checkpoint()).unwrap();
    for flag in [&[][..], &["--dry-run"]] {
        let ended = undo(&service, &archive, &[&["--run", &run][..], flag].concat());
        balance(&ended, 0, [3, 3, 0, 0, 0, 3, 0]);
        let users: Vec<String> = listed(&ended).into_keys().collect();
        assert_eq!(users, ["u00005", "u00006", "u00007"]);
    }
    assert_eq!(service.calls(Action::DeleteFaceRecord), 0);
    assert_eq!(fs::read(archive.checkpoint()).unwrap(), before, "the checkpoint was changed");
    service.holds_exactly(&archive);
}

#[test]
fn undo_removes_one_run_by_record_id() {
    let (archive, service, [first, second]) = two_runs();
    balance(&undo(&service, &archive, &["--run", &second, "--yes"]), 0, [3, 0, 3, 0, 0, 0, 0]);
    service.holds_exactly_but(&archive, &["u00005", "u00006", "u00007"]);
    assert_eq!((service.calls(Action::DeleteFaceRecord), service.calls(Action::DeleteFaceRecordV2)), (3, 0));
    has_no_difference(&service, &archive);
    let pending = export(&archive.checkpoint(), &["--status", "pending"]);
    assert_eq!(pending.len(), 3);
    assert!(pending.iter().all(|row| row["code"] == "Undone" && row["enrolled_at"].is_null()), "{pending:?}");
    balance(&undo(&service, &archive, &["--run", &second, "--yes"]), 0, [0; 7]);

    // A later run enrols them again, and the first run can still be taken back alone.
    service.run(&archive).end().is(0, &[("newly_enrolled", 3), ("enrolled", 7)]);
    service.holds_exactly(&archive);
    balance(&undo(&service, &archive, &["--run", &first, "--yes"]), 0, [4, 0, 4, 0, 0, 0, 0]);
    service.holds_exactly_but(&archive, &["u00001", "u00002", "u00003", "u00004"]);
    has_no_difference(&service, &archive);
}

#[test]
fn undo_since_takes_back_what_was_sent_later() {
    let (archive, service, _) = two_runs();
    let (earlier, later) = ("2020-01-01T00:00:00Z", "2199-01-01T00:00:00Z");
    balance(&undo(&service, &archive, &["--since", later, "--yes"]), 0, [0; 7]);
    balance(&undo(&service, &archive, &["--since", earlier, "--yes"]), 0, [7, 0, 7, 0, 0, 0, 0]);
    assert!(service.records().is_empty());
    has_no_difference(&service, &archive);
}

#[test]
fn checkpoint_of_older_version_knows_runs_by_time() {
    let (archive, service, [_, second]) = two_runs();
    let db = Connection::open(archive.checkpoint()).unwrap();
    db.execute("UPDATE items SET sent_by = NULL", []).unwrap();
    // The runs of this test are only milliseconds apart.
    let start = "(SELECT min(enrolled_at) FROM items WHERE user > 'u00004')";
    db.execute(&format!("UPDATE runs SET started_at = {start} WHERE run_id = ?1"), [&second]).unwrap();
    drop(db);
    balance(&undo(&service, &archive, &["--run", &second, "--yes"]), 0, [3, 0, 3, 0, 0, 0, 0]);
    service.holds_exactly_but(&archive, &["u00005", "u00006", "u00007"]);
}

#[test]
fn records_that_the_run_did_not_make_stay() {
    let (archive, service) = (Archive::of(6, 0), Service::new());
    let at = |text: &str| text.parse().unwrap();
    let long_ago = at("2026-01-01T00:00:00Z");
    service.sandbox.insert_record(GROUP, "u00001", long_ago).unwrap();
    let summary = service.run(&archive).arg("--precheck").end().is(0, &[("enrolled", 6), ("calls", 5)]);
    // Other tools: a second record, an older one instead of ours, a later one instead of ours, and none.
    service.sandbox.insert_record(GROUP, "u00002", long_ago).unwrap();
    for (user, created) in [("u00003", Some(long_ago)), ("u00004", Some(at("2199-01-01T00:00:00Z"))), ("u00005", None)]
    {
        let ours = service.sandbox.records().into_iter().find(|record| record.user == user).unwrap();
        assert!(service.sandbox.delete_record(ours.id).unwrap());
        created.map(|created| service.sandbox.insert_record(GROUP, user, created).unwrap());
    }
    let run = summary["run_id"].as_str().unwrap();
    let ended = undo(&service, &archive, &["--run", run]);
    balance(&ended, 6, [6, 1, 0, 1, 4, 1, 0]);
    let ended = undo(&service, &archive, &["--run", run, "--yes"]);
    balance(&ended, 6, [6, 0, 1, 1, 4, 0, 0]);
    let listed = listed(&ended);
    for (user, action, code) in [
        ("u00001", "refused", Some("AlreadyPresent")),
        ("u00002", "refused", Some("SeveralRecords")),
        ("u00003", "refused", Some("OlderRecord")),
        ("u00004", "refused", Some("NewerRecord")),
        ("u00005", "gone", None),
        ("u00006", "removed", None),
    ] {
        assert_eq!(listed[user], (action.to_owned(), code.map(str::to_owned)), "{user}");
    }
    let left: Vec<(String, usize)> = service.records().into_iter().collect();
    let expected = [("u00001", 1), ("u00002", 2), ("u00003", 1), ("u00004", 1)];
    assert_eq!(left, expected.map(|(user, records)| (user.to_owned(), records)));
    assert_eq!(service.calls(Action::DeleteFaceRecord), 1);
}

#[test]
fn throttled_and_failing_deletions_are_repeated() {
    let (archive, service, [_, second]) = two_runs();
    let faults = r#"[{"action": "DeleteFaceRecord", "calls": [1, 4], "fault": "throttle"},
        {"action": "DeleteFaceRecord", "calls": [2], "fault": "reset_before"},
        {"action": "DeleteFaceRecord", "calls": [3], "fault": "reset_after"}]"#;
    service.sandbox.set_faults(Script::parse(faults).unwrap());
    balance(&undo(&service, &archive, &["--run", &second, "--yes"]), 0, [3, 0, 3, 0, 0, 0, 0]);
    service.holds_exactly_but(&archive, &["u00005", "u00006", "u00007"]);
    has_no_difference(&service, &archive);
}

#[test]
fn missing_permission_stops_undo_and_rows_recover() {
    for policy in ["reconcile", "retry"] {
        let (archive, service, [_, second]) = two_runs();
        service.sandbox.set_faults(Script::parse(r#"{"action": "DeleteFaceRecord", "fault": "permission"}"#).unwrap());
        let ended = undo(&service, &archive, &["--run", &second, "--yes"]);
        let line = lines(&ended).pop().unwrap();
        assert_eq!(
            (ended.code, line["removed"].as_u64(), line["left"].as_u64()),
            (Some(7), Some(0), Some(3)),
            "{ended:#?}"
        );
        service.sandbox.set_faults(Script::default());
        // The records are still there, so nobody is sent again.
        service.run(&archive).args(["--in-doubt", policy]).end().is(0, &[("calls", 0), ("enrolled", 7)]);
        service.holds_exactly(&archive);
        balance(&undo(&service, &archive, &["--run", &second, "--yes"]), 0, [3, 0, 3, 0, 0, 0, 0]);
    }
}

#[test]
fn rows_in_doubt_are_left_to_verify() {
    let archive = Archive::of(3, 0);
    let service = Service::failing(r#"{"calls": [2], "fault": "reset_after"}"#);
    let ended = service.run(&archive).args(["--in-doubt", "hold", "--concurrency", "1"]).end();
    let summary = ended.is(12, &[("in_doubt", 1)]);
    let run = summary["run_id"].as_str().unwrap();
    balance(&undo(&service, &archive, &["--run", run, "--yes"]), 12, [3, 0, 2, 0, 0, 1, 1]);
    assert_eq!(command("verify", &service, &archive).end().code, Some(0));
    balance(&undo(&service, &archive, &["--run", run, "--yes"]), 0, [1, 0, 1, 0, 0, 0, 0]);
    assert!(service.records().is_empty());
}

#[test]
fn unknown_run_is_refused_with_the_known_ones() {
    let (archive, service, [first, second]) = two_runs();
    let ended = undo(&service, &archive, &["--run", "20200101T000000Z-0000", "--yes"]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains(&first) && ended.stderr.contains(&second), "{ended:#?}");
    let neither = undo(&service, &archive, &["--yes"]);
    assert_eq!(neither.code, Some(2), "{neither:#?}");
    assert!(neither.stderr.contains("--run <ID>|--since <T>"), "{neither:#?}");
    let other = Service::new();
    for flag in ["--dry-run", "--yes"] {
        assert_eq!(undo(&other, &archive, &["--run", &first, flag]).code, Some(2), "another endpoint");
    }
    service.holds_exactly(&archive);
}

#[test]
fn unique_beginning_names_a_run() {
    let (archive, service, runs) = two_runs();
    // Tell the ids apart: both runs started in this second.
    let db = Connection::open(archive.checkpoint()).unwrap();
    for (run, id) in runs.iter().zip(["20261123T020015Z-7f3a", "20261124T020015Z-c001"]) {
        db.execute("UPDATE runs SET run_id = ?1 WHERE run_id = ?2", [id, run]).unwrap();
    }
    drop(db);
    let several = undo(&service, &archive, &["--run", "202611"]);
    assert_eq!(several.code, Some(2), "{several:#?}");
    assert!(several.stderr.contains("20261124T020015Z-c001, 20261123T020015Z-7f3a"), "{several:#?}");
    assert_eq!(undo(&service, &archive, &["--run", "202"]).code, Some(2), "too short");
    balance(&undo(&service, &archive, &["--run", "20261124"]), 0, [3, 3, 0, 0, 0, 3, 0]);
    // Taking back is a run too, but not one to take back.
    balance(&undo(&service, &archive, &["--run", "20261124", "--yes"]), 0, [3, 0, 3, 0, 0, 0, 0]);
    balance(&undo(&service, &archive, &["--since", "1h", "--yes"]), 0, [4, 0, 4, 0, 0, 0, 0]);
}

#[test]
fn run_id_is_shown_where_undo_is_looked_for() {
    let archive = Archive::of(3, 0);
    let ended = Enroll::new("run").arg(archive.manifest()).args(["--sandbox", "--json"]).end();
    let run = ended.is(0, &[("enrolled", 3)])["run_id"].as_str().unwrap().to_owned();
    let row = format!("\n  run id    {run}\n");
    assert!(ended.stderr.contains(&row), "{ended:#?}");
    let status = Enroll::new("status").arg(archive.manifest()).end();
    assert!(status.stdout.contains(&row), "{status:#?}");
    let report = Enroll::new("report").arg(archive.manifest()).end();
    assert!(report.stdout.contains(&format!("<code>{run}</code>")), "{report:#?}");
}

#[test]
fn undo_works_against_embedded_sandbox() {
    let archive = Archive::of(3, 0);
    let ended = Enroll::new("run").arg(archive.manifest()).args(["--sandbox", "--json"]).end();
    let run = ended.is(0, &[("enrolled", 3)])["run_id"].as_str().unwrap().to_owned();
    let undo = |flags: &[&str]| {
        let mut enroll = Enroll::new("undo");
        enroll.arg(archive.manifest()).args(["--run", &run, "--settle", "60ms"]).args(flags);
        enroll.end()
    };
    let ended = undo(&[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("to remove  3") && ended.stdout.contains("--yes"), "{}", ended.stdout);
    let ended = undo(&["--yes"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("removed    3") && ended.stdout.contains("a later run enrols them"), "{ended:#?}");
    assert!(ended.stderr.contains("waiting (--settle)"), "{}", ended.stderr);
    assert_eq!(Enroll::new("verify").arg(archive.manifest()).arg("--all").end().code, Some(0));
}

#[test]
fn stop_before_deletion_leaves_rows_enrolled() {
    let (archive, service, [_, second]) = two_runs();
    let pause = r#"{"action": "DeleteFaceRecord", "fault": "throttle", "retry_after_ms": 60000}"#;
    service.sandbox.set_faults(Script::parse(pause).unwrap());
    let child = command("undo", &service, &archive).args(["--run", &second, "--yes"]).spawn();
    wait_until("no deletion was tried", || service.calls(Action::DeleteFaceRecord) > 0);
    let is_waiting = || {
        let db = Connection::open(archive.checkpoint()).unwrap();
        db.query_row("SELECT count(*) FROM items WHERE state = 2", [], |row| row.get::<_, i64>(0)).unwrap() == 3
    };
    wait_until("the intents are not on disk", is_waiting);
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    balance(&ended, 143, [3, 0, 0, 0, 0, 3, 0]);
    let rows = export(&archive.checkpoint(), &["--status", "enrolled"]);
    assert!(rows.len() == 7 && rows.iter().all(|row| row["code"].is_null() && !row["enrolled_at"].is_null()));
    service.sandbox.set_faults(Script::default());
    balance(&undo(&service, &archive, &["--run", &second, "--yes"]), 0, [3, 0, 3, 0, 0, 0, 0]);
}

#[test]
fn endless_throttling_ends_undo_and_verify() {
    let (archive, service, [_, second]) = two_runs();
    let throttle = |action: &str| {
        let script = format!(r#"{{"action": "{action}", "fault": "throttle"}}"#);
        service.sandbox.set_faults(Script::parse(&script).unwrap());
    };
    throttle("DeleteFaceRecord");
    let ended = undo(&service, &archive, &["--run", &second, "--yes", "--give-up-after", "100ms"]);
    balance(&ended, 10, [3, 0, 0, 0, 0, 3, 0]);
    assert!(ended.stderr.contains("every call was throttled"), "{ended:#?}");
    throttle("QueryFaceRecord");
    let ended = undo(&service, &archive, &["--run", &second, "--give-up-after", "100ms"]);
    balance(&ended, 10, [3, 0, 0, 0, 0, 3, 0]);
    let ended = command("verify", &service, &archive).args(["--all", "--give-up-after", "100ms"]).end();
    assert_eq!(ended.code, Some(10), "{ended:#?}");
}

#[test]
fn deletion_answered_by_a_proxy_is_asked_about() {
    let (archive, service, [_, second]) = two_runs();
    let proxy = r#"[{"action": "DeleteFaceRecord", "calls": [1], "fault": "html", "executed": true, "status": 429},
        {"action": "DeleteFaceRecord", "calls": [2], "fault": "html", "executed": true, "status": 302},
        {"action": "DeleteFaceRecord", "calls": [3], "fault": "html", "status": 429}]"#;
    service.sandbox.set_faults(Script::parse(proxy).unwrap());
    balance(&undo(&service, &archive, &["--run", &second, "--yes"]), 0, [3, 0, 3, 0, 0, 0, 0]);
    assert_eq!(service.calls(Action::DeleteFaceRecord), 4, "what was executed is not sent again");
    has_no_difference(&service, &archive);
}
