//! Faults of the machine and of the account during a run. Those of network and service are in `run.rs` and
//! `api.rs`, kills and disks in the binary `crash`.

use std::{fs, io::Read, net::TcpListener, process::Stdio, thread, time::Duration};

use face_enroll::sandbox::{Action, Credentials, Script, Settings};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Archive, Ended, Enroll, GROUP, Service, export, wait_for_calls};

#[test]
fn suspended_process_does_not_burst() {
    let archive = Archive::of(200, 0);
    let service = Service::with_quota(0, Duration::from_millis(20));
    let child = service.run(&archive).args(["--qps", "50", "--settle", "200ms"]).spawn();
    wait_for_calls(&service, 20);
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(3));
    kill_process(pid, Signal::CONT).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    ended.is(0, &[("enrolled", 200)]);
    // A run that made up for the three seconds would send 150 calls at once. How exactly the gate keeps the quota after a
    // stall is tested on a simulated clock (`pace::gate`); here a busy machine may bunch some calls on their way.
    let busiest = service.sandbox.max_calls_in_any_second(Action::AddFaceRecord);
    assert!(busiest < 100, "{busiest} calls in one second");
    service.holds_exactly(&archive);
}

#[test]
fn full_or_closed_stderr_does_not_end_run() {
    for shell in ["exec 2>/dev/full", "exec 2>&-", "exec 1>/dev/full", "exec 1>&- 2>&-"] {
        let archive = Archive::of(10, 0);
        let service = Service::new();
        let mut run = service.run(&archive);
        run.args(["--json=items", "-vv", "--log-file", "/dev/full"]);
        let status = run.under(shell).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(0), "{shell}");
        service.holds_exactly(&archive);
    }
}

#[test]
fn export_to_a_full_disk_leaves_the_old_file() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 3)]);
    let output = archive.path().join("out.csv");
    fs::write(&output, "what was there before").unwrap();
    let mut export = Enroll::new("export");
    export.arg(archive.manifest()).arg("--output").arg(&output);
    let status = export.under("trap '' XFSZ; ulimit -f 0").stderr(Stdio::null()).status().unwrap();
    assert_ne!(status.code(), Some(0));
    assert_eq!(fs::read_to_string(&output).unwrap(), "what was there before");
}

#[test]
fn gives_up_when_service_is_unreachable() {
    let archive = Archive::of(5, 0);
    let service = Service::new();
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut run = service.run(&archive);
    run.args(["--endpoint", &format!("http://{closed}"), "--give-up-after", "1s"]);
    let ended = run.end();
    ended.is(10, &[("pending", 5), ("in_doubt", 0), ("failed", 0)]);
    assert!(ended.stderr.contains("refused"), "{}", ended.stderr);
}

#[test]
fn few_file_descriptors_reject_nobody() {
    let archive = Archive::of(120, 0);
    let service = Service::with_quota(0, Duration::from_millis(50));
    let mut run = service.run(&archive);
    run.args(["--qps", "1000", "--max-duration", "4s"]);
    let ended = Ended::from(run.under("ulimit -n 40").output().unwrap());
    let summary = ended.summary();
    assert_eq!((summary["rejected"].as_u64(), summary["failed"].as_u64()), (Some(0), Some(0)), "{ended:#?}");
    service.run(&archive).end().is(0, &[("enrolled", 120)]);
    service.holds_exactly(&archive);
}

#[test]
fn revoked_key_stops_run_and_new_key_resumes() {
    let archive = Archive::of(300, 0);
    let service = Service::with_quota(0, Duration::from_millis(20));
    let child = service.run(&archive).args(["--qps", "100"]).spawn();
    wait_for_calls(&service, 30);
    let new = Credentials { access_key_id: "ANOTHER-KEY-OPENS-NOTHING".into(), ..Credentials::default() };
    service.sandbox.set_credentials(new);
    let ended = Ended::from(child.wait_with_output().unwrap());
    let summary = ended.is(7, &[("in_doubt", 0), ("rejected", 0), ("failed", 0)]);
    let burnt = summary["calls"].as_u64().unwrap() - summary["enrolled"].as_u64().unwrap();
    println!("{burnt} calls burnt");
    assert!(burnt <= 64, "{summary:#}");
    service.run(&archive).end().is(0, &[("enrolled", 300)]);
    service.holds_exactly(&archive);
}

#[test]
fn lost_permission_or_group_stops_run_with_rows_pending() {
    for script in [
        r#"{"from": 30, "fault": "permission"}"#,
        r#"{"from": 30, "fault": "code", "status": 403, "code": "Forbidden.AccountOverdue", "message": "overdue"}"#,
    ] {
        let archive = Archive::of(100, 0);
        let service = Service::with(Settings { faults: Script::parse(script).unwrap(), ..Settings::default() });
        service.run(&archive).args(["--qps", "100"]).end().is(7, &[("rejected", 0), ("failed", 0), ("in_doubt", 0)]);
        service.sandbox.set_faults(Script::default());
        service.run(&archive).end().is(0, &[("enrolled", 100)]);
        service.holds_exactly(&archive);
    }
}

/// A proxy answers in the service's place, whether or not the record was made.
#[test]
fn proxy_answer_causes_no_duplicate_and_no_rejection() {
    let stopping = [401, 403, 407, 301, 307, 308].map(|status| (status, 7));
    let passing = [302, 413, 429, 503, 404, 200].map(|status| (status, 0));
    for (status, code) in stopping.into_iter().chain(passing) {
        for executed in [true, false] {
            let archive = Archive::of(30, 0);
            let faults =
                format!(r#"{{"calls": [3, 4, 9], "fault": "html", "executed": {executed}, "status": {status}}}"#);
            let service = Service::failing(&faults);
            let ended = service.run(&archive).end();
            let summary = ended.is(code, &[("total", 30), ("rejected", 0), ("failed", 0)]);
            if code == 7 {
                assert!(summary["in_doubt"].as_u64() >= Some(1), "{faults}: {summary:#}");
                assert!(ended.stderr.contains(&format!("HTTP {status}")), "{faults}: {}", ended.stderr);
                let (records, rows) = (service.records(), export(&archive.checkpoint(), &["--status", "pending"]));
                let sent = rows.iter().filter(|row| records.contains_key(row["merchant_user_id"].as_str().unwrap()));
                assert_eq!(sent.count(), 0, "{faults}: record exists, but the row is pending as if never sent");
            }
            service.sandbox.set_faults(Script::default());
            service.run(&archive).end().is(0, &[("enrolled", 30), ("in_doubt", 0)]);
            service.holds_exactly(&archive);
        }
    }
}

#[test]
fn run_waits_for_retry_after_of_proxy() {
    let archive = Archive::of(4, 0);
    let faults = r#"{"calls": [2], "fault": "html", "executed": true, "status": 503, "retry_after_s": 1}"#;
    let service = Service::failing(faults);
    service.run(&archive).args(["--concurrency", "1"]).end().is(0, &[("enrolled", 4)]);
    service.holds_exactly(&archive);
    let journal = service.sandbox.journal();
    let calls: Vec<_> = journal.iter().filter(|call| call.action.as_deref() == Some("AddFaceRecord")).collect();
    let waited = calls[2].at - calls[1].at;
    assert!(waited >= Duration::from_secs(1), "{waited:?}");
}

/// The clock is wrong by more than the gateway allows, both when the record is made and when it is queried.
#[test]
fn clock_20_minutes_off_mistakes_no_record() {
    for minutes in [-20, 20] {
        let archive = Archive::of(12, 0);
        let faults = r#"[{"user": "u00001", "times": 1, "fault": "reset_after"},
            {"user": "u00003", "times": 1, "fault": "reset_after"},
            {"user": "u00005", "times": 1, "fault": "reset_before"}]"#;
        let clock_offset = jiff::SignedDuration::from_mins(minutes);
        let faults = Script::parse(faults).unwrap();
        let service = Service::with(Settings { clock_offset, faults, ..Settings::default() });
        // Another tool made this record shortly before, by the service's clock.
        let before = jiff::Timestamp::now() + clock_offset - jiff::SignedDuration::from_mins(20);
        service.sandbox.insert_record(GROUP, "u00005", before).unwrap();
        service.run(&archive).args(["--in-doubt", "hold"]).end().is(12, &[("enrolled", 9), ("in_doubt", 3)]);
        service.run(&archive).end().is(0, &[("enrolled", 12), ("calls", 0)]);
        let rows = export(&archive.checkpoint(), &[]);
        let code = |user: &str| {
            let row = rows.iter().find(|row| row["merchant_user_id"] == user).unwrap();
            assert_eq!(row["confirmed_by"], "query", "{row:#}");
            row["code"].as_str().unwrap_or_default().to_owned()
        };
        assert_eq!(["u00001", "u00003", "u00005"].map(code), ["", "", "AlreadyPresent"], "{minutes} minutes");
        assert!(service.records().values().all(|&records| records == 1));
    }
}

#[test]
fn locked_checkpoint_is_refused_after_a_wait() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    service.run(&archive).args(["--max-images", "1"]).end().is(8, &[("enrolled", 1)]);
    let other = Connection::open(archive.checkpoint()).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let ended = service.run(&archive).end();
    assert_eq!(ended.code, Some(13), "{ended:#?}");
    assert!(ended.stderr.contains("locked"), "{}", ended.stderr);
    assert_eq!(service.calls(Action::AddFaceRecord), 1);
    other.execute_batch("ROLLBACK").unwrap();
    service.run(&archive).end().is(0, &[("enrolled", 3)]);
}

/// Removes a file of the checkpoint during a run. Returns what the run says, and how another ends that starts meanwhile.
fn run_without(ending: &str) -> (String, Ended) {
    let archive = Archive::of(400, 0);
    let service = Service::with_quota(0, Duration::from_millis(10));
    let mut child = service.run(&archive).args(["--qps", "40"]).spawn();
    wait_for_calls(&service, 20);
    let mut file = archive.checkpoint().into_os_string();
    file.push(ending);
    fs::remove_file(&file).unwrap();
    let second = service.run(&archive).args(["--max-images", "1"]).end();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(13), "{said}");
    assert!(service.calls(Action::AddFaceRecord) < 300);
    service.run(&archive).end().is(0, &[("enrolled", 400)]);
    service.holds_exactly(&archive);
    (said, second)
}

#[test]
fn removed_checkpoint_ends_run_without_duplicates() {
    let (said, _) = run_without("");
    assert!(said.contains("removed or replaced"), "{said}");
}

#[test]
fn removed_lock_file_ends_run_and_blocks_others() {
    let (said, second) = run_without(".lock");
    assert!(said.contains("lock file was removed or replaced") && !said.contains("bug"), "{said}");
    if cfg!(target_os = "linux") {
        assert_eq!(second.code, Some(11), "{second:#?}");
    }
}

#[test]
fn checkpoint_without_its_wal_is_refused() {
    let archive = Archive::of(100, 0);
    let service = Service::new();
    service.run(&archive).args(["--max-images", "10"]).end().is(8, &[("enrolled", 10)]);
    let died = service.run(&archive).env("FACE_ENROLL_CRASH", "outcome.after_commit:30").end();
    assert_eq!(died.code, None);
    let mut wal = archive.checkpoint().into_os_string();
    wal.push("-wal");
    fs::remove_file(wal).unwrap();
    let refused = service.run(&archive).end();
    assert_eq!(refused.code, Some(13));
    // No summary means no run: calls that still arrived were sent before the kill.
    assert_eq!(refused.stdout, "");
    service.run(&archive).arg("--after-restore").end().is(0, &[("enrolled", 100)]);
    service.holds_exactly(&archive);
}
