//! A directory of photos as a source: what of it is taken, what is left out, and what is said of both.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::support::{Ended, Enroll, Service, export, photo};

/// Photos of these names, each somebody else's.
fn directory(names: &[&str]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("photos")).unwrap();
    for name in names {
        let file = dir.path().join("photos").join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, photo(name, 0)).unwrap();
    }
    dir
}

fn status(checkpoint: &Path) -> (Value, String) {
    let status = |args: &[&str]| {
        let ended = Enroll::new("status").arg("--checkpoint").arg(checkpoint).args(args).end();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        ended.stdout
    };
    (serde_json::from_str(status(&["--json"]).trim()).unwrap(), status(&[]))
}

/// Everything but `checkpoint`, which depends on the place.
fn standing(checkpoint: &Path) -> String {
    let rows = export(checkpoint, &[]);
    let vanished = status(checkpoint).0["vanished"].clone();
    format!("{vanished} {rows:#?}")
}

#[test]
fn photos_are_taken_by_content_and_others_counted() {
    let dir =
        directory(&["p-jpg.jpg", "p-jfif.jfif", "p-gif.gif", "no-ending", "#recycle/deleted.jpg", "@Recycle/old.jpg"]);
    let photos = dir.path().join("photos");
    fs::write(photos.join("real.gif"), "GIF89a").unwrap();
    fs::write(photos.join("notes.txt"), "x").unwrap();
    let service = Service::new();
    let ended = service.run_source(&photos).end();
    let summary = ended.is(0, &[("total", 4), ("skipped", 4), ("enrolled", 4)]);
    let users: BTreeSet<String> = service.records().into_keys().collect();
    assert_eq!(users, ["no-ending", "p-gif", "p-jfif", "p-jpg"].map(str::to_owned).into());
    assert_eq!(summary["exit_reason"], "Every row is enrolled; 4 files were left out");
    for words in ["folder=#recycle", "folder=@Recycle", "4 files were left out", "1 .gif, 1 .txt"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
    let checkpoint = dir.path().join("photos.enroll.sqlite");
    let (json, text) = status(&checkpoint);
    assert_eq!(json["skipped"], 4);
    assert!(text.contains("4 files were left out"), "{text}");

    let check = |args: &[&str]| Enroll::new("check").arg(&photos).args(args).end();
    let ended = check(&["-v"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("4 files were left out"), "{}", ended.stdout);
    assert!(ended.stderr.contains("file=real.gif") && ended.stderr.contains("file=notes.txt"), "{}", ended.stderr);
    assert!(!check(&[]).stderr.contains("file=notes.txt"));
    let last: Value = serde_json::from_str(check(&["--json"]).stdout.lines().last().unwrap()).unwrap();
    assert_eq!((&last["total"], &last["skipped"]), (&4.into(), &4.into()));

    // What is no longer there is no longer left out.
    fs::remove_dir_all(photos.join("#recycle")).unwrap();
    service.run_source(&photos).end().is(0, &[("skipped", 3), ("calls", 0)]);
}

#[test]
fn check_names_the_file_in_every_finding() {
    let dir =
        directory(&["a/good.jpg", "b/good.jpg", "b/cut.jpg", "c/a name of more than 32 characters, so no id.jpg"]);
    let photos = dir.path().join("photos");
    let cut = fs::read(photos.join("b/cut.jpg")).unwrap();
    fs::write(photos.join("b/cut.jpg"), &cut[..cut.len() / 2]).unwrap();
    fs::write(photos.join("tiny.png"), "no picture").unwrap();
    std::os::unix::fs::symlink("a/good.jpg", photos.join("link.jpg")).unwrap();
    let files =
        ["b/cut.jpg", "b/good.jpg", "c/a name of more than 32 characters, so no id.jpg", "link.jpg", "tiny.png"];
    let ended = Enroll::new("check").arg(&photos).end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let findings: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("row ")).collect();
    assert_eq!(findings.len(), files.len(), "{}", ended.stdout);
    for (finding, file) in findings.iter().zip(files) {
        assert!(finding.contains(&format!(" ({file}): ")), "{file}: {finding}");
    }
    let ended = Enroll::new("check").arg(&photos).args(["--report", "jsonl"]).end();
    let findings: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(findings.len(), files.len());
    for (finding, file) in findings.iter().zip(files) {
        assert_eq!(finding["path"].as_str(), photos.join(file).to_str(), "{finding:#}");
    }
}

#[test]
fn source_that_named_people_and_is_empty_now_changes_nothing() {
    let dir = directory(&["u1.jpg", "u2.jpg"]);
    let photos = dir.path().join("photos");
    let checkpoint = dir.path().join("c.sqlite");
    let service = Service::new();
    let run = |source: &Path| -> Ended { service.run_source(source).arg("--checkpoint").arg(&checkpoint).end() };
    run(&photos).is(0, &[("enrolled", 2)]);
    let before = standing(&checkpoint);
    let elsewhere = dir.path().join("elsewhere");
    fs::rename(&photos, &elsewhere).unwrap();
    fs::create_dir(&photos).unwrap();
    for file in [None, Some("lost+found/x.jpg"), Some("README")] {
        if let Some(file) = file.map(|file| photos.join(file)) {
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, "x").unwrap();
        }
        let ended = run(&photos);
        ended.is(3, &[("enrolled", 2), ("vanished", 0), ("calls", 0)]);
        assert!(ended.stderr.contains("is its disk mounted?"), "{}", ended.stderr);
        assert_eq!(standing(&checkpoint), before);
    }
    fs::remove_dir_all(&photos).unwrap();
    fs::rename(&elsewhere, &photos).unwrap();
    run(&photos).is(0, &[("enrolled", 2), ("vanished", 0), ("calls", 0)]);
}

#[test]
fn empty_lines_file_that_named_people_is_a_fault() {
    let dir = directory(&["u1.jpg"]);
    let service = Service::new();
    for (name, full, empty, code) in [
        ("m.jsonl", "{\"path\":\"photos/u1.jpg\",\"id\":\"lines\"}\n", "", 3),
        ("m.csv", "path,id\nphotos/u1.jpg,table\n", "path,id\n", 0),
        ("m.tsv", "path\tid\nphotos/u1.jpg\ttabs\n", "", 3),
    ] {
        let manifest = dir.path().join(name);
        fs::write(&manifest, full).unwrap();
        service.run_source(&manifest).end().is(0, &[("enrolled", 1)]);
        fs::write(&manifest, empty).unwrap();
        let ended = service.run_source(&manifest).end();
        assert_eq!(ended.code, Some(code), "{name}: {ended:#?}");
        let (status, _) = status(&dir.path().join(format!("{name}.enroll.sqlite")));
        assert_eq!((&status["enrolled"], &status["vanished"]), (&1.into(), &u64::from(code == 0).into()), "{name}");
    }
    let never = dir.path().join("never.jsonl");
    fs::write(&never, "").unwrap();
    service.run_source(&never).end().is(0, &[("total", 0)]);
    fs::create_dir(dir.path().join("new")).unwrap();
    service.run_source(&dir.path().join("new")).end().is(0, &[("total", 0)]);
}
