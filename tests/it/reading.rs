//! Slow, silent and endless sources: rows are sent as they arrive, and a stopped run ends.

use std::{
    fs::{self, File},
    io::Write,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    fs::{CWD, FileType, Mode, mknodat},
    process::{Pid, Signal, kill_process},
};

use crate::support::{Archive, Ended, Enroll, Service, wait_until};

/// Kill a hanging run after this long, so that the test fails instead of hanging.
const HANGS_AFTER: Duration = Duration::from_secs(120);

/// A run that reads a manifest from standard input.
pub fn piped(service: &Service, archive: &Archive, format: &str) -> Enroll {
    let mut enroll = service.run_source(Path::new("-"));
    enroll.args(["--input-format", format, "--root"]).arg(archive.path());
    enroll.arg("--checkpoint").arg(archive.checkpoint());
    enroll.command().stdin(Stdio::piped());
    enroll
}

pub fn start(enroll: &mut Enroll) -> (Child, ChildStdin) {
    let mut child = enroll.spawn();
    let input = child.stdin.take().unwrap();
    (child, input)
}

fn end(mut child: Child) -> Ended {
    let deadline = Instant::now() + HANGS_AFTER;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() >= deadline {
            child.kill().unwrap();
            panic!("the run does not end: {:#?}", child.wait_with_output());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ended::from(child.wait_with_output().unwrap())
}

fn terminate(child: &Child) {
    kill_process(Pid::from_child(child), Signal::TERM).unwrap();
}

#[test]
fn rows_of_a_pipe_are_sent_before_more_come() {
    let (archive, service) = (Archive::of(4, 0), Service::new());
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    let (first, last) = manifest.split_at(manifest.find("photos/u00004").unwrap());
    let (child, mut input) = start(&mut piped(&service, &archive, "csv"));
    input.write_all(first.as_bytes()).unwrap();
    wait_until("three people are not sent while the pipe is open", || service.records().len() == 3);
    input.write_all(last.as_bytes()).unwrap();
    drop(input);
    end(child).is(0, &[("total", 4), ("enrolled", 4), ("calls", 4)]);
    service.holds_exactly(&archive);
}

#[test]
fn signal_ends_silent_or_endless_source() {
    let csv = "path,merchant_user_id\nphotos/u00001.jpg,u00001\n";
    let jsonl = "{\"path\":\"photos/u00001.jpg\",\"merchant_user_id\":\"u00001\"}\n";
    for (format, first, endless) in [
        ("csv", csv, ""),
        ("csv", csv, "\n"),
        ("csv", csv, "photos/u00001.jpg,u00001\n"),
        ("csv", csv, "\"x"),
        ("jsonl", jsonl, "x"),
    ] {
        let (archive, service) = (Archive::of(1, 0), Service::new());
        let (child, mut input) = start(&mut piped(&service, &archive, format));
        input.write_all(first.as_bytes()).unwrap();
        wait_until("the first row is not sent", || service.records().len() == 1);
        let feeding = std::thread::spawn(move || {
            if endless.is_empty() {
                return Some(input);
            }
            let block = endless.repeat(10_000);
            while input.write_all(block.as_bytes()).is_ok() {}
            None
        });
        terminate(&child);
        let ended = end(child);
        ended.is(143, &[("enrolled", 1), ("pending", 0), ("vanished", 0)]);
        drop(feeding.join().unwrap());
    }
}

#[test]
fn limit_ends_silent_source() {
    for (limit, code, enrolled) in [(["--max-duration", "2s"], 10, 2), (["--max-images", "1"], 8, 1)] {
        let (archive, service) = (Archive::of(2, 0), Service::new());
        let (child, mut input) = start(piped(&service, &archive, "csv").args(limit));
        input.write_all(&fs::read(archive.manifest()).unwrap()).unwrap();
        end(child).is(code, &[("total", 2), ("enrolled", enrolled), ("vanished", 0)]);
    }
}

/// A named pipe as manifest, which is the same source for each run.
fn named_pipe(archive: &Archive) -> PathBuf {
    let source = archive.path().join("people.csv");
    mknodat(CWD, &source, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
    source
}

/// Starts a run and writes these lines to the pipe. Returns the run and the open end of the pipe.
fn run_named_pipe(service: &Service, source: &Path, lines: &[&str], args: &[&str]) -> (Child, File) {
    let child = service.run_source(source).args(args).spawn();
    let mut input = File::options().write(true).open(source).unwrap();
    input.write_all([lines, &[""]].concat().join("\n").as_bytes()).unwrap();
    (child, input)
}

#[test]
fn resumed_run_sends_pending_rows_before_source_ends() {
    let (archive, service) = (Archive::of(3, 0), Service::new());
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    let lines: Vec<&str> = manifest.lines().collect();
    let source = named_pipe(&archive);
    let (child, input) = run_named_pipe(&service, &source, &lines, &["--max-images", "2"]);
    drop(input);
    end(child).is(8, &[("total", 3), ("enrolled", 2), ("pending", 1)]);
    let (child, input) = run_named_pipe(&service, &source, &lines, &[]);
    wait_until("what is pending is not sent", || service.records().len() == 3);
    drop(input);
    end(child).is(0, &[("total", 3), ("enrolled", 3), ("calls", 1)]);
}

#[test]
fn rows_unread_before_a_stop_have_not_vanished() {
    let (archive, service) = (Archive::of(4, 0), Service::new());
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    let lines: Vec<&str> = manifest.lines().collect();
    let source = named_pipe(&archive);
    let (child, input) = run_named_pipe(&service, &source, &lines[..4], &[]);
    drop(input);
    end(child).is(0, &[("total", 3), ("enrolled", 3)]);
    // The new row comes first; the others have not arrived when the run is stopped.
    let (child, input) = run_named_pipe(&service, &source, &[lines[0], lines[4]], &[]);
    wait_until("the new row is not sent", || service.records().len() == 4);
    terminate(&child);
    end(child).is(143, &[("total", 4), ("enrolled", 4), ("vanished", 0)]);
    drop(input);
    let (child, input) = run_named_pipe(&service, &source, &lines, &[]);
    drop(input);
    end(child).is(0, &[("total", 4), ("enrolled", 4), ("vanished", 0), ("calls", 0)]);
}
