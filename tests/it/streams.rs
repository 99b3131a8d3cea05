//! What is written to whom: readers that leave, disks that are full, and text that would steer a terminal.

use std::{fs::File, io::Write as _, process::Stdio};

use face_enroll::domain::is_unprintable;

use crate::support::{Archive, Ended, Enroll, GROUP, Service};

/// A pipe that nobody reads any more.
fn nobody_reads() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

/// An archive with a row that was refused, and one that was not found.
fn run_before() -> (Archive, Service) {
    let archive = Archive::of(40, 0);
    std::fs::remove_file(archive.path().join("photos/u00007.jpg")).unwrap();
    let service = Service::failing(r#"{"calls": [9], "fault": "not_passed"}"#);
    service.run(&archive).end().is(6, &[("enrolled", 38), ("rejected", 2)]);
    (archive, service)
}

/// Every command that prints a result, as it is typed.
fn result_commands(archive: &Archive, service: &Service) -> Vec<Enroll> {
    let checkpoint = archive.checkpoint();
    let checkpoint = checkpoint.to_str().unwrap();
    let endpoint = service.sandbox.endpoint();
    let typed: [&[&str]; 13] = [
        &["export", "--checkpoint", checkpoint],
        &["export", "--checkpoint", checkpoint, "--format", "jsonl"],
        &["report", "--checkpoint", checkpoint],
        &["status", "--checkpoint", checkpoint],
        &["status", "--checkpoint", checkpoint, "--json"],
        &["retry", "--checkpoint", checkpoint],
        &["check", archive.path().to_str().unwrap(), "--group", GROUP],
        &["check", archive.path().to_str().unwrap(), "--group", GROUP, "--json"],
        &["config", "show"],
        &["man"],
        &["completions", "bash"],
        &["doctor", "--endpoint", &endpoint, "--upload-endpoint", &endpoint, "--group", GROUP],
        &["verify", "--endpoint", &endpoint, "--checkpoint", checkpoint, "--all"],
    ];
    let typed = typed.iter().map(|words| {
        let mut enroll = Enroll::new(words[0]);
        enroll.args(&words[1..]);
        enroll.env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id());
        enroll.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret());
        enroll
    });
    typed.collect()
}

#[test]
fn reader_who_leaves_is_no_error() {
    let (archive, service) = run_before();
    for mut command in result_commands(&archive, &service) {
        let ended = Ended::from(command.command().stdout(nobody_reads()).stderr(Stdio::piped()).output().unwrap());
        let typed = format!("{:?}", command.command());
        assert_eq!(ended.code, Some(0), "{typed}: {ended:#?}");
        assert!(!ended.stderr.contains("error") && !ended.stderr.contains("panicked"), "{typed}: {ended:#?}");
    }
}

#[test]
fn findings_without_a_reader_end_the_check() {
    let archive = Archive::of(200, 0);
    let mut faulty = String::from("path,merchant_user_id\n");
    (0..200).for_each(|n| faulty.push_str(&format!("photos/none-{n}.jpg,{}\n", "x".repeat(20))));
    archive.write(&faulty);
    for report in [&[][..], &["--json"], &["--report", "csv"], &["--report", "jsonl"]] {
        let mut check = Enroll::new("check");
        check.arg(archive.manifest()).args(["--group", GROUP]).args(report);
        let ended = Ended::from(check.command().stdout(nobody_reads()).stderr(Stdio::piped()).output().unwrap());
        assert_eq!((ended.code, ended.stderr.contains("error")), (Some(0), false), "{report:?}: {ended:#?}");
    }
}

#[test]
fn check_of_a_silent_pipe_ends_when_its_reader_leaves() {
    let (source, mut rows) = std::io::pipe().unwrap();
    let mut check = Enroll::new("check");
    check.args(["-", "--input-format", "csv", "--group", GROUP]);
    let mut child = check.command().stdin(source).stdout(nobody_reads()).stderr(Stdio::null()).spawn().unwrap();
    rows.write_all(b"path,merchant_user_id\n").unwrap();
    (0..200).for_each(|n| writeln!(rows, "none-{n}.jpg,{}", "x".repeat(20)).unwrap());
    let (code, ended) = std::sync::mpsc::channel();
    std::thread::spawn(move || code.send(child.wait().unwrap().code()));
    let ended = ended.recv_timeout(std::time::Duration::from_secs(60));
    drop(rows);
    assert_eq!(ended, Ok(Some(0)));
}

#[test]
fn run_without_a_reader_loses_nothing() {
    let archive = Archive::of(30, 0);
    let service = Service::new();
    let mut run = service.run(&archive);
    run.args(["--json=items", "-vv"]);
    let ended = run.command().stdout(nobody_reads()).stderr(nobody_reads()).output().unwrap();
    assert_eq!(ended.status.code(), Some(0));
    service.holds_exactly(&archive);
}

#[test]
fn error_without_a_reader_keeps_its_code() {
    let mut run = Enroll::new("run");
    run.arg("m.csv").env("FACE_ENROLL_CONFIG", "/nonexistent/config.toml");
    assert_eq!(run.command().stderr(nobody_reads()).output().unwrap().status.code(), Some(2));
    let mut run = Enroll::new("run");
    run.args(["m.csv", "--log-file", "/nonexistent/log"]);
    assert_eq!(run.command().stderr(nobody_reads()).output().unwrap().status.code(), Some(2));
}

#[test]
fn result_that_does_not_arrive_is_an_error() {
    let (archive, service) = run_before();
    for mut command in result_commands(&archive, &service) {
        let full = File::options().write(true).open("/dev/full").unwrap();
        let ended = Ended::from(command.command().stdout(full).stderr(Stdio::piped()).output().unwrap());
        let typed = format!("{:?}", command.command());
        assert_eq!(ended.code, Some(1), "{typed}: {ended:#?}");
        assert!(ended.stderr.contains("can't be written") && ended.stderr.contains("No space left"), "{ended:#?}");
    }
    // A run's code tells of its rows.
    let archive = Archive::of(3, 0);
    let mut run = service.run(&archive);
    let full = File::options().write(true).open("/dev/full").unwrap();
    let ended = Ended::from(run.command().stdout(full).stderr(Stdio::piped()).output().unwrap());
    assert!(ended.code == Some(0) && ended.stderr.contains("stdout can't be written"), "{ended:#?}");
}

/// Colors, a new title, a cleared screen, reversed text, and a line of its own.
const STEERING: &str = "a\u{1b}[31m\u{1b}]0;x\u{7}\u{9b}2J\u{202e}gpj.\u{2066}\u{200f}\u{2028}";

fn steers(text: &str) -> bool {
    text.chars().any(|c| c != '\n' && is_unprintable(c))
}

#[test]
fn names_and_service_messages_steer_no_terminal() {
    let archive = Archive::of(4, 0);
    let photo = format!("{STEERING}.jpg");
    std::fs::copy(archive.path().join("photos/u00001.jpg"), archive.path().join(&photo)).unwrap();
    let mut manifest = File::create(archive.path().join("names.jsonl")).unwrap();
    let folder = format!("missing {STEERING}\nrow 9 enrolled");
    for (path, user) in [(&photo, "u1"), (&folder, "u2"), (&photo, STEERING)] {
        let row = serde_json::json!({"path": path, "merchant_user_id": user, "note": STEERING});
        writeln!(manifest, "{row}").unwrap();
    }
    let manifest = archive.path().join("names.jsonl");
    let message = serde_json::json!(format!("no face in {STEERING}"));
    let code = r#"{"fault": "code", "status": 400, "code": "NoFaceDetected", "message": MESSAGE}"#;
    let service = Service::failing(&code.replace("MESSAGE", &message.to_string()));

    let run = service.run_source(&manifest).args(["--json=items", "-vv"]).end();
    let json_log = service.run_source(&manifest).args(["--log-format", "json", "-vv"]).end();
    let checkpoint = archive.path().join("names.jsonl.enroll.sqlite");
    let at = |command: &str, args: &[&str]| Enroll::new(command).arg("--checkpoint").arg(&checkpoint).args(args).end();
    let check = |args: &[&str]| Enroll::new("check").arg(&manifest).args(["--group", GROUP]).args(args).end();
    let said = [
        run,
        json_log,
        at("status", &[]),
        at("status", &["--json"]),
        at("report", &["--show-ids"]),
        at("export", &["--format", "jsonl"]),
        check(&[]),
        check(&["--json"]),
        Enroll::new("check").arg(archive.path().join(&folder)).args(["--group", GROUP]).end(),
        Enroll::new("status").arg("--checkpoint").arg(archive.path().join(&folder)).end(),
    ];
    for Ended { stdout, stderr, .. } in &said {
        assert!(!steers(stdout) && !steers(stderr), "{stdout}{stderr}");
        assert!(!stdout.lines().chain(stderr.lines()).any(|line| line.starts_with("row 9")), "{stdout}{stderr}");
    }
    assert!(said[0].stdout.contains("no face in"), "{:#?}", said[0]);

    // An export is a manifest: its cells are what they were, and only the words of the service are escaped.
    let rows: Vec<serde_json::Value> = said[5].stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(rows.iter().all(|row| row["note"] == STEERING), "{rows:#?}");
    assert!(rows.iter().any(|row| row["path"].as_str().unwrap().ends_with(&photo)), "{rows:#?}");
    assert!(rows.iter().all(|row| !row["message"].as_str().is_some_and(steers)), "{rows:#?}");
    let csv = at("export", &[]).stdout;
    assert!(csv.contains(&photo) && csv.contains(STEERING), "{csv}");
}

#[test]
fn columns_of_an_export_stand_where_their_names_do() {
    let archive = Archive::of(3, 0);
    let rows = [
        serde_json::json!({"path": "photos/u00001.jpg", "merchant_user_id": "u00001", "a": "1", "b": "2"}),
        serde_json::json!({"path": "photos/u00002.jpg", "merchant_user_id": "u00002", "c": "3", "a": "4"}),
        serde_json::json!({"path": "photos/u00003.jpg", "merchant_user_id": "u00003"}),
    ];
    let manifest = archive.path().join("sparse.jsonl");
    std::fs::write(&manifest, rows.map(|row| format!("{row}\n")).concat()).unwrap();
    Service::new().run_source(&manifest).end().is(0, &[("enrolled", 3)]);
    let ended = Enroll::new("export").arg(&manifest).end();
    let ends: Vec<&str> = ended
        .stdout
        .lines()
        .map(|line| line.rsplitn(4, ',').collect::<Vec<_>>()[..3].join(",").leak() as &str)
        .collect();
    assert_eq!(ends, ["c,b,a", ",2,1", "3,,4", ",,"]);
}
