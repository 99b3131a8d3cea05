//! Machine failures: no free file descriptors, a full disk for the log. They reject nobody.

use std::{
    io::{BufRead, BufReader, Read},
    process::Child,
    thread::sleep,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};

use crate::support::{Archive, Ended, Service, photo};

const TICK: Duration = Duration::from_millis(10);

/// Limits the files that the process may open; files above the limit stay open.
fn limit_files(child: &Child, files: u64) {
    let pid = Pid::from_raw(i32::try_from(child.id()).unwrap());
    let maximum = getrlimit(Resource::Nofile).maximum;
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(files), maximum }).unwrap();
}

/// A run that has enrolled a few people and reads its photos one by one.
fn under_way(archive: &Archive, service: &Service, args: &[&str]) -> Child {
    let mut run = service.run(archive);
    let child = run.args(["--qps", "20", "--concurrency", "1"]).args(args).spawn();
    while service.records().len() < 3 {
        sleep(TICK);
    }
    child
}

fn ended(mut child: Child, stderr: String) -> Ended {
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout).unwrap();
    Ended { code: child.wait().unwrap().code(), stdout, stderr }
}

#[test]
fn run_goes_on_when_descriptors_are_free_again() {
    let archive = Archive::of(40, 0);
    let service = Service::new();
    let mut run = under_way(&archive, &service, &[]);
    limit_files(&run, 3);
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    assert!(
        said.by_ref().any(|line| line.contains("cannot read a photo on this machine; retrying")),
        "{:?}",
        run.wait()
    );
    limit_files(&run, 1_024);
    let rest = said.collect::<Vec<_>>().join("\n");
    ended(run, rest).is(0, &[("enrolled", 40), ("rejected", 0)]);
    service.holds_exactly(&archive);
}

#[test]
fn photos_stay_pending_without_free_descriptors() {
    let archive = Archive::of(60, 0);
    let service = Service::new();
    let mut run = under_way(&archive, &service, &["--retries", "2"]);
    limit_files(&run, 3);
    let mut stderr = String::new();
    run.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    let ended = ended(run, stderr);
    let summary = ended.is(10, &[("rejected", 0), ("failed", 0), ("in_doubt", 0), ("total", 60)]);
    let reason = summary["exit_reason"].as_str().unwrap();
    assert!(reason.contains("this machine could not read them (Too many open files"), "{ended:#?}");
    service.run(&archive).end().is(0, &[("enrolled", 60)]);
    service.holds_exactly(&archive);
}

#[test]
fn check_without_descriptors_calls_no_photo_faulty() {
    let archive = Archive::of(20, 0);
    // Enough rows to keep the manifest open while the first photos are read.
    let row = |n: usize| format!("photos/u{:05}.jpg,{n}\n", n % 20 + 1);
    archive.write(&(0..400).map(row).fold("path,merchant_user_id\n".to_owned(), |all, row| all + &row));
    let mut unread = 0;
    for files in 8..30 {
        let script = format!("ulimit -n {files}; exec \"$0\" check \"$1\" --group g --json --headers-only");
        let mut check = std::process::Command::new("sh");
        check.args(["-c", &script, env!("CARGO_BIN_EXE_face-enroll")]).arg(archive.manifest());
        let ended = Ended::from(check.output().unwrap());
        // If not even the source can be opened, the error says so.
        assert!(matches!(ended.code, Some(0 | 1 | 3 | 10)), "{files}: {ended:#?}");
        let Some(10) = ended.code else { continue };
        unread += 1;
        let last: serde_json::Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
        assert!(last["rejected"] == 0 && last["unread"].as_u64() > Some(0), "{last}");
        assert!(ended.stdout.contains("this machine failed"), "{}", ended.stdout);
    }
    assert!(unread > 0);
}

#[test]
fn directory_without_descriptors_rejects_nobody() {
    let dir = tempfile::tempdir().unwrap();
    for n in 0..40 {
        let folder = dir.path().join(format!("{n:02}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(format!("u{n}")), photo("u", 0)).unwrap();
    }
    let mut unreadable = 0;
    for files in 8..30 {
        let script = format!("ulimit -n {files}; exec \"$0\" check \"$1\" --group g --json --headers-only");
        let mut check = std::process::Command::new("sh");
        check.args(["-c", &script, env!("CARGO_BIN_EXE_face-enroll")]).arg(dir.path());
        let ended = Ended::from(check.output().unwrap());
        assert!(!ended.stdout.contains("UnreadableRow"), "{files}: {ended:#?}");
        match ended.code {
            Some(3) => {
                assert!(ended.stderr.contains("Too many open files"), "{files}: {ended:#?}");
                unreadable += 1;
            }
            Some(0) => assert!(ended.stdout.contains("\"total\":40,\"skipped\":0"), "{files}: {ended:#?}"),
            // Too few even for the runtime.
            Some(1) => assert!(ended.stdout.is_empty(), "{files}: {ended:#?}"),
            _ => assert_eq!(ended.code, Some(10), "{files}: {ended:#?}"),
        }
    }
    assert!(unreadable > 0);
}

#[test]
fn full_log_disk_is_reported_once_and_ends_nothing() {
    let archive = Archive::of(10, 0);
    let service = Service::new();
    let ended = service.run(&archive).args(["--log-file", "/dev/full", "-vv"]).end();
    ended.is(0, &[("enrolled", 10)]);
    assert_eq!(ended.stderr.matches("warning: can't write the log file /dev/full").count(), 1, "{ended:#?}");
}

#[test]
fn idle_metrics_connections_take_few_descriptors() {
    let archive = Archive::of(100, 0);
    let service = Service::new();
    let mut run = service.run(&archive);
    let mut run = run.args(["--qps", "2", "--concurrency", "1", "--metrics-addr", "0"]).spawn();
    let mut said = BufReader::new(run.stderr.take().unwrap()).lines().map(Result::unwrap);
    let line = said.find(|line| line.contains("/metrics")).unwrap();
    let address = line.split("address=").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    while service.records().is_empty() {
        sleep(TICK);
    }
    let files = || std::fs::read_dir(format!("/proc/{}/fd", run.id())).unwrap().count();
    let before = files();
    let idle: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    // Old connections are closed to make room for new ones.
    let mut closed = 0;
    for mut stream in idle.iter().take(32) {
        assert!(files() <= before + 16 + 2, "{} of {before}", files());
        closed += usize::from(stream.read(&mut [0; 1]).unwrap_or(0) == 0);
    }
    assert_eq!(closed, 32);
    run.kill().unwrap();
    run.wait().unwrap();
}

#[test]
fn too_few_open_files_is_an_error_in_words() {
    let archive = Archive::of(1, 0);
    for files in 4..9 {
        let script = format!("ulimit -n {files}; exec \"$0\" check \"$1\" --group g");
        let mut check = std::process::Command::new("sh");
        check.args(["-c", &script, env!("CARGO_BIN_EXE_face-enroll")]).arg(archive.manifest());
        let ended = Ended::from(check.output().unwrap());
        assert_eq!(ended.code, Some(1), "{files}: {ended:#?}");
        assert!(ended.stderr.starts_with("error: can't start the async runtime: Too many open files"), "{ended:#?}");
    }
}

#[test]
fn copied_and_truncated_log_loses_no_later_line() {
    let archive = Archive::of(60, 0);
    let service = Service::new();
    let log = archive.path().join("run.log");
    let path = log.display().to_string();
    let child = under_way(&archive, &service, &["-v", "--log-file", &path]);
    let rotated = std::fs::read_to_string(&log).unwrap();
    // As logrotate does with copytruncate.
    std::fs::OpenOptions::new().write(true).truncate(true).open(&log).unwrap();
    let ended = Ended::from(child.wait_with_output().unwrap());
    ended.is(0, &[("enrolled", 60)]);
    let rest = std::fs::read_to_string(&log).unwrap();
    assert!(rotated.contains("run started") && !rest.contains("run started"), "{rest}");
    // Without a hole at the start.
    assert!(rest.starts_with("20") && !rest.contains('\0'), "{rest:?}");
    assert!(rest.contains("Every row is enrolled exit=0"), "{rest}");
    // After a rename, the next run writes to a new file of the name.
    std::fs::rename(&log, archive.path().join("run.log.1")).unwrap();
    service.run(&archive).arg("--log-file").arg(&log).end().is(0, &[("calls", 0)]);
    assert!(std::fs::read_to_string(&log).unwrap().contains("run resumed"));
}
