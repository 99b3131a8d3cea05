//! What is written: never an input, never through a link, never another user's; devices and pipes stay what they are.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::Command,
};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};

use crate::support::{Archive, Ended, Enroll, Service};

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn make_fifo(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

/// Every way to write, with the flag that names the file last.
fn writers(archive: &Archive, service: &Service) -> Vec<(&'static str, Enroll)> {
    let on = |command: &str, args: &[&str]| {
        let mut enroll = Enroll::new(command);
        enroll.arg("--checkpoint").arg(archive.checkpoint()).args(args);
        enroll
    };
    let run = |flag: &str| {
        let mut run = service.run(archive);
        run.arg(flag);
        run
    };
    let mut check = Enroll::new("check");
    check.arg(archive.manifest()).arg("--log-file");
    let mut dry_run = service.run(archive);
    dry_run.args(["--dry-run", "--log-file"]);
    vec![
        ("export", on("export", &["--output"])),
        ("report", on("report", &["--output"])),
        ("status log", on("status", &["--log-file"])),
        ("erase log", on("erase", &["--user", "nobody", "--log-file"])),
        ("check log", check),
        ("dry run log", dry_run),
        ("run metrics", run("--metrics-file")),
        ("run log", run("--log-file")),
    ]
}

/// Every file in a folder, with the digest of its bytes. SQLite's shared memory is no contents: readers note there that
/// they read.
fn contents(folder: &Path) -> Vec<(PathBuf, String)> {
    let files = walkdir::WalkDir::new(folder).sort_by_file_name().into_iter().map(Result::unwrap);
    files
        .filter(|entry| entry.file_type().is_file() && !entry.path().to_string_lossy().ends_with("-shm"))
        .map(|entry| (entry.path().to_owned(), hex::encode(Sha256::digest(fs::read(entry.path()).unwrap()))))
        .collect()
}

#[test]
fn output_that_is_an_input_is_refused_untouched() {
    let (archive, service) = (Archive::of(3, 0), Service::new());
    service.run(&archive).end().is(0, &[("enrolled", 3)]);
    let (manifest, checkpoint) = (archive.manifest(), archive.checkpoint());
    fs::write(with_suffix(&checkpoint, ".v1.bak"), "a copy").unwrap();
    // A reader keeps the WAL there.
    let reader = Connection::open(&checkpoint).unwrap();
    reader.execute_batch("BEGIN; SELECT count(*) FROM items").unwrap();
    fs::hard_link(&manifest, archive.path().join("hard")).unwrap();
    symlink(&checkpoint, archive.path().join("soft")).unwrap();
    let inputs = [
        manifest.clone(),
        checkpoint.clone(),
        with_suffix(&checkpoint, "-wal"),
        with_suffix(&checkpoint, "-shm"),
        with_suffix(&checkpoint, "-journal"),
        with_suffix(&checkpoint, ".lock"),
        with_suffix(&checkpoint, ".v1.bak"),
        archive.path().join("hard"),
        archive.path().join("soft"),
        archive.path().join("photos/../manifest.csv"),
        archive.path().join("photos/u00001.jpg"),
    ];
    let before = contents(archive.path());
    for input in &inputs {
        for (name, mut writer) in writers(&archive, &service) {
            let ended = writer.arg(input).end();
            assert_eq!(ended.code, Some(2), "{name} to {input:?}: {ended:#?}");
            assert!(ended.stderr.contains(&input.display().to_string()), "{}", ended.stderr);
            assert_eq!(contents(archive.path()), before, "{name} to {input:?}");
        }
    }
    // `erase` refuses to run beside a reader.
    drop(reader);
    for (name, mut writer) in writers(&archive, &service) {
        let fine = archive.path().join(format!("{name}.out"));
        let ended = writer.arg(&fine).end();
        assert_eq!(ended.code, Some(0), "{name}: {ended:#?}");
        // Its own file of the last time is no input.
        assert_eq!(writer.end().code, Some(0), "{name}");
        let mode = fine.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if name == "run metrics" { 0o644 } else { 0o600 }, "{name}");
    }
}

#[test]
fn output_that_is_to_become_the_checkpoint_is_refused() {
    for suffix in ["", "-wal", "-shm", "-journal", ".lock"] {
        for flag in ["--metrics-file", "--log-file"] {
            let (archive, service) = (Archive::of(1, 0), Service::new());
            let output =
                archive.path().join("photos/..").join(with_suffix(Path::new("manifest.csv.enroll.sqlite"), suffix));
            let ended = service.run(&archive).arg(flag).arg(&output).end();
            assert_eq!(ended.code, Some(2), "{flag} {suffix}: {ended:#?}");
            assert!(!output.exists() && !archive.checkpoint().exists());
        }
    }
}

#[test]
fn equal_outputs_or_source_as_checkpoint_are_refused() {
    let (archive, service) = (Archive::of(1, 0), Service::new());
    let file = archive.path().join("out.txt");
    let ended = service.run(&archive).arg("--metrics-file").arg(&file).arg("--log-file").arg(&file).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    archive.write("");
    let ended = service.run(&archive).arg("--checkpoint").arg(archive.manifest()).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(fs::read(archive.manifest()).unwrap(), b"");
    let findings = archive.path().join("findings.csv");
    fs::write(&findings, "path,merchant_user_id\n").unwrap();
    let ended = Enroll::new("check").arg(&findings).arg("--report").arg(&findings).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(fs::read(&findings).unwrap(), b"path,merchant_user_id\n");
}

#[test]
fn only_an_export_that_was_run_may_be_overwritten() {
    let (archive, service) = (Archive::of(2, 0), Service::new());
    service.run(&archive).end().is(0, &[("enrolled", 2)]);
    for format in ["csv", "jsonl"] {
        let file = archive.path().join("again").with_extension(format);
        let export = || {
            let mut export = Enroll::new("export");
            export.arg("--checkpoint").arg(archive.checkpoint()).arg("--output").arg(&file).end().code
        };
        assert_eq!(export(), Some(0));
        let run = || service.run_source(&file).arg("--checkpoint").arg(archive.checkpoint()).end();
        run().is(0, &[("calls", 0)]);
        assert_eq!(export(), Some(0), "{format}");
        let report = Enroll::new("report").arg("--checkpoint").arg(archive.checkpoint()).arg("-o").arg(&file).end();
        assert_eq!(report.code, Some(2), "{report:#?}");
        fs::write(&file, fs::read_to_string(&file).unwrap().replace("attempts", "tries")).unwrap();
        assert_eq!(export(), Some(2), "{format}");
    }
}

#[test]
fn foreign_file_is_overwritten_only_with_force() {
    let (archive, service) = (Archive::of(1, 0), Service::new());
    service.run(&archive).end().is(0, &[("enrolled", 1)]);
    let output = archive.path().join("payroll.csv");
    let write = |command: &str, flags: &[&str]| {
        let mut enroll = Enroll::new(command);
        enroll.arg("--checkpoint").arg(archive.checkpoint()).arg("--output").arg(&output).args(flags).end()
    };
    for (command, other) in [("export", "report"), ("report", "export")] {
        fs::write(&output, "name,salary\n").unwrap();
        let refused = write(command, &[]);
        assert_eq!(refused.code, Some(2), "{refused:#?}");
        assert!(refused.stderr.contains("--force"), "{refused:#?}");
        assert_eq!(fs::read(&output).unwrap(), b"name,salary\n");
        assert_eq!(write(command, &["--force"]).code, Some(0));
        // Now it is one of its own kind, but not of the other.
        assert_eq!(write(command, &[]).code, Some(0));
        assert_eq!(write(other, &[]).code, Some(2));
        // Nothing is lost with an empty file or a link.
        fs::write(&output, "").unwrap();
        assert_eq!(write(other, &[]).code, Some(0));
        let target = archive.path().join("target");
        fs::write(&target, "theirs").unwrap();
        fs::remove_file(&output).unwrap();
        symlink(&target, &output).unwrap();
        assert_eq!(write(command, &[]).code, Some(0));
        assert_eq!(fs::read(&target).unwrap(), b"theirs");
    }
    fs::remove_file(&output).unwrap();
    let check = || Enroll::new("check").arg(archive.manifest()).arg("--report").arg(&output).end().code;
    assert_eq!((check(), check()), (Some(0), Some(0)), "its own report is replaced");
    fs::write(&output, "name,salary\n").unwrap();
    assert_eq!((check(), fs::read(&output).unwrap()), (Some(2), b"name,salary\n".to_vec()));
    // Not even --force overwrites an input.
    let forced = Enroll::new("export").arg(archive.manifest()).arg("-o").arg(archive.manifest()).arg("--force").end();
    assert_eq!(forced.code, Some(2), "{forced:#?}");
}

#[test]
fn pipe_and_device_stay_what_they_are() {
    let (archive, service) = (Archive::of(3, 0), Service::new());
    service.run(&archive).end().is(0, &[("enrolled", 3)]);
    for (name, mut writer) in writers(&archive, &service) {
        let null = archive.path().join(format!("{name}.null"));
        symlink("/dev/null", &null).unwrap();
        assert_eq!(writer.arg(&null).end().code, Some(0), "{name}");
        assert!(null.symlink_metadata().unwrap().is_symlink(), "{name} replaced it");
    }
    let pipe = archive.path().join("pipe");
    make_fifo(&pipe);
    let reader = std::thread::spawn({
        let pipe = pipe.clone();
        move || fs::read_to_string(pipe).unwrap()
    });
    let mut export = Enroll::new("export");
    export.arg("--checkpoint").arg(archive.checkpoint());
    assert_eq!(export.arg("--output").arg(&pipe).end().code, Some(0));
    let through_pipe = reader.join().unwrap();
    assert_eq!(through_pipe.lines().count(), 4, "{through_pipe}");
    assert!(pipe.symlink_metadata().unwrap().file_type().is_fifo());
    // By its name in /dev, stdout is stdout, also where it is a file that has something in it.
    let file = archive.path().join("stdout.csv");
    fs::write(&file, "before\n").unwrap();
    let stdout = fs::File::options().append(true).open(&file).unwrap();
    let mut export = Enroll::new("export");
    export.arg("--checkpoint").arg(archive.checkpoint()).args(["--output", "/dev/stdout"]);
    assert!(export.command().stdout(stdout).status().unwrap().success());
    assert_eq!(fs::read_to_string(&file).unwrap().lines().count(), 5);
}

#[test]
fn kept_file_that_is_link_or_pipe_is_refused() {
    for suffix in ["", ".lock", "-wal", "-shm"] {
        for is_link in [true, false] {
            let (archive, service) = (Archive::of(2, 0), Service::new());
            let victim = archive.path().join("victim");
            fs::write(&victim, "theirs").unwrap();
            let place = with_suffix(&archive.checkpoint(), suffix);
            if is_link {
                symlink(&victim, &place).unwrap()
            } else {
                make_fifo(&place)
            }
            let ended = service.run(&archive).end();
            assert_eq!(ended.code, Some(13), "{place:?}: {ended:#?}");
            assert!(ended.stderr.contains(&place.display().to_string()), "{}", ended.stderr);
            assert_eq!(fs::read(&victim).unwrap(), b"theirs");
            assert!(service.records().is_empty());
        }
    }
    let archive = Archive::of(1, 0);
    let (victim, log) = (archive.path().join("victim"), archive.path().join("log"));
    fs::write(&victim, "theirs").unwrap();
    symlink(&victim, &log).unwrap();
    let ended = Enroll::new("check").arg(archive.manifest()).arg("--log-file").arg(&log).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert_eq!(fs::read(&victim).unwrap(), b"theirs");
}

#[test]
fn checkpoint_of_another_user_is_refused() {
    let (archive, service) = (Archive::of(2, 0), Service::new());
    service.run(&archive).args(["--max-images", "1"]).end().is(8, &[("enrolled", 1)]);
    for suffix in ["", ".lock"] {
        let file = with_suffix(&archive.checkpoint(), suffix);
        // Only root can give a file away.
        if std::os::unix::fs::chown(&file, Some(12_345), None).is_err() {
            return;
        }
        let refused: Ended = service.run(&archive).end();
        assert_eq!(refused.code, Some(13), "{refused:#?}");
        assert!(refused.stderr.contains("belongs to another user (uid 12345"), "{}", refused.stderr);
        // Looking at it changes nothing.
        let status = Enroll::new("status").arg("--checkpoint").arg(archive.checkpoint()).end();
        assert_eq!(status.code, Some(0), "{status:#?}");
        std::os::unix::fs::chown(&file, Some(0), None).unwrap();
    }
    service.run(&archive).end().is(0, &[("enrolled", 2)]);
}

#[test]
fn metrics_file_replaces_only_metrics() {
    let archive = Archive::of(1, 0);
    let service = Service::new();
    let file = archive.path().join("metrics.prom");
    let run = || service.run(&archive).arg("--metrics-file").arg(&file).end();
    fs::write(&file, "budget of the year\n").unwrap();
    let refused = run();
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    assert!(refused.stderr.contains("--metrics-file") && refused.stderr.contains("not a metrics file"), "{refused:#?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "budget of the year\n");
    fs::remove_file(&file).unwrap();
    for _ in 0..2 {
        run().is(0, &[("enrolled", 1)]);
    }
    assert!(fs::read_to_string(&file).unwrap().starts_with("# HELP face_enroll_rows"));
}
