//! Faults of the machine and of the account while a run goes on. Those of network and service are in `run.rs` and
//! `api.rs`, kills and disks in the binary `crash`.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use face_enroll::sandbox::{Action, Credentials, Script, Settings};
use rusqlite::Connection;
use rustix::process::{Pid, Signal, kill_process};

use crate::support::{Archive, Ended, Enroll, Service};

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn wait_for_calls(service: &Service, calls: usize) {
    wait_until("the calls did not come", || service.calls(Action::AddFaceRecord) >= calls);
}

/// The same program with the same arguments and environment, begun by a shell that sets limits first.
fn under(shell: &str, run: &mut Enroll) -> Command {
    let run = run.command();
    let mut command = Command::new("bash");
    command.arg("-c").arg(format!("{shell}; exec \"$0\" \"$@\"")).arg(run.get_program()).args(run.get_args());
    for (name, value) in run.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.stdin(Stdio::null());
    command
}

#[test]
fn stopped_and_continued_process_makes_up_for_nothing_and_loses_nobody() {
    let archive = Archive::of(200, 0);
    let service = Service::with_quota(50, Duration::from_millis(20));
    let child = service.run(&archive).args(["--qps", "50", "--settle", "200ms"]).spawn();
    wait_for_calls(&service, 20);
    let pid = Pid::from_raw(child.id() as i32).unwrap();
    kill_process(pid, Signal::STOP).unwrap();
    thread::sleep(Duration::from_secs(3));
    kill_process(pid, Signal::CONT).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    ended.is(0, &[("enrolled", 200), ("throttled", 0)]);
    let busiest = service.sandbox.busiest_second(Action::AddFaceRecord);
    assert!(busiest <= 50, "{busiest} calls in one second");
    service.holds_exactly(&archive);
}

#[test]
fn full_or_closed_streams_for_what_is_said_end_no_run() {
    for shell in ["exec 2>/dev/full", "exec 2>&-", "exec 1>/dev/full", "exec 1>&- 2>&-"] {
        let archive = Archive::of(10, 0);
        let service = Service::new();
        let mut run = service.run(&archive);
        run.args(["--json=items", "-vv", "--log-file", "/dev/full"]);
        let status = under(shell, &mut run).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
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
    let status = under("trap '' XFSZ; ulimit -f 0", &mut export).stderr(Stdio::null()).status().unwrap();
    assert_ne!(status.code(), Some(0));
    assert_eq!(fs::read_to_string(&output).unwrap(), "what was there before");
}

#[test]
fn nobody_listening_is_waited_out_and_given_up_with_everyone_pending() {
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
fn few_file_descriptors_slow_a_run_down_and_reject_nobody() {
    let archive = Archive::of(120, 0);
    let service = Service::with_quota(0, Duration::from_millis(50));
    let mut run = service.run(&archive);
    run.args(["--qps", "1000", "--retries", "100", "--give-up-after", "5s"]);
    let ended = Ended::from(under("ulimit -n 40", &mut run).output().unwrap());
    let summary = ended.summary();
    assert_eq!((summary["rejected"].as_u64(), summary["failed"].as_u64()), (Some(0), Some(0)), "{ended:#?}");
    service.run(&archive).end().is(0, &[("enrolled", 120)]);
    service.holds_exactly(&archive);
}

#[test]
fn key_that_is_revoked_stops_the_run_at_once_and_a_new_one_goes_on() {
    let archive = Archive::of(300, 0);
    let service = Service::with_quota(0, Duration::from_millis(20));
    let child = service.run(&archive).args(["--qps", "100"]).spawn();
    wait_for_calls(&service, 30);
    let new = Credentials { access_key_id: "ANOTHER-KEY-OPENS-NOTHING".into(), ..Credentials::default() };
    service.sandbox.set_credentials(new);
    let revoked = Instant::now();
    let ended = Ended::from(child.wait_with_output().unwrap());
    assert!(revoked.elapsed() < Duration::from_secs(2), "{:?}", revoked.elapsed());
    let summary = ended.is(7, &[("in_doubt", 0), ("rejected", 0), ("failed", 0)]);
    let burnt = summary["calls"].as_u64().unwrap() - summary["enrolled"].as_u64().unwrap();
    println!("{burnt} calls burnt");
    assert!(burnt <= 64, "{summary:#}");
    service.run(&archive).end().is(0, &[("enrolled", 300)]);
    service.holds_exactly(&archive);
}

#[test]
fn permission_or_group_that_goes_while_a_run_lasts_stops_it_with_everyone_pending() {
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

#[test]
fn checkpoint_that_someone_else_has_locked_is_waited_for_and_then_refused() {
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

#[test]
fn checkpoint_that_is_removed_while_it_is_used_ends_the_run_and_enrols_nobody_twice() {
    let archive = Archive::of(400, 0);
    let service = Service::with_quota(0, Duration::from_millis(10));
    let mut child = service.run(&archive).args(["--qps", "40"]).spawn();
    wait_for_calls(&service, 20);
    fs::remove_file(archive.checkpoint()).unwrap();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(13), "{said}");
    assert!(said.contains("removed or replaced"), "{said}");
    assert!(service.calls(Action::AddFaceRecord) < 300);
    service.run(&archive).end().is(0, &[("enrolled", 400)]);
    service.holds_exactly(&archive);
}

#[test]
fn removed_lock_file_ends_the_run_and_lets_no_other_begin() {
    let archive = Archive::of(400, 0);
    let service = Service::with_quota(0, Duration::from_millis(10));
    let mut child = service.run(&archive).args(["--qps", "40"]).spawn();
    wait_for_calls(&service, 20);
    let mut lock = archive.checkpoint().into_os_string();
    lock.push(".lock");
    fs::remove_file(&lock).unwrap();
    let second = service.run(&archive).end();
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(13), "{said}");
    assert!(said.contains("lock file was removed or replaced") && !said.contains("bug"), "{said}");
    assert!(service.calls(Action::AddFaceRecord) < 300);
    if cfg!(target_os = "linux") {
        assert_eq!(second.code, Some(11), "{second:#?}");
    }
    service.run(&archive).end().is(0, &[("enrolled", 400)]);
    service.holds_exactly(&archive);
}

#[test]
fn checkpoint_without_its_wal_is_known_for_an_old_one() {
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
    // No summary, no run: what still arrived at the service had left before the kill.
    assert_eq!(refused.stdout, "");
    service.run(&archive).arg("--after-restore").end().is(0, &[("enrolled", 100)]);
    service.holds_exactly(&archive);
}
