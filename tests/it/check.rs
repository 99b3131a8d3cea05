//! `face-enroll check`: everything that a run would refuse, before a single call is made.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use serde_json::Value;

use crate::support::{Archive, Ended, Enroll, GROUP, Service, export};

const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archive");

fn summary(ended: &Ended) -> Value {
    serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap()
}

/// The photos of the odd archive, and what must become of each: `fine`, `fitted`, or the code of its refusal.
fn outcomes() -> BTreeMap<String, String> {
    let text = fs::read_to_string(Path::new(ARCHIVE).join("outcomes.csv")).unwrap();
    let rows = text.lines().skip(1).map(|line| line.split_once(',').unwrap());
    rows.map(|(name, outcome)| (name.to_owned(), outcome.to_owned())).collect()
}

/// A copy of the odd archive with a manifest of all its photos, and of what is too large to be in the repository.
fn odd_archive() -> (tempfile::TempDir, BTreeMap<String, String>) {
    let dir = tempfile::tempdir().unwrap();
    let mut outcomes = outcomes();
    let listed: BTreeSet<String> = fs::read_dir(Path::new(ARCHIVE).join("photos"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(listed, outcomes.keys().cloned().collect(), "outcomes.csv names what is in the folder");
    for name in outcomes.keys() {
        fs::copy(Path::new(ARCHIVE).join("photos").join(name), dir.path().join(name)).unwrap();
    }
    let mut made = |name: &str, outcome: &str, make: &dyn Fn(&Path)| {
        make(&dir.path().join(name));
        outcomes.insert(name.to_owned(), outcome.to_owned());
    };
    let portrait = fs::read(Path::new(ARCHIVE).join("photos/plain.jpg")).unwrap();
    let sparse = |size: u64| move |path: &Path| fs::File::create(path).unwrap().set_len(size).unwrap();
    made("sparse-10-gb.jpg", "TooLarge", &sparse(10 << 30));
    made("zeros-10-mb.jpg", "NotAPicture", &sparse(10 << 20));
    let padded = |size: usize| {
        let mut bytes = portrait.clone();
        bytes.resize(size, 0);
        move |path: &Path| fs::write(path, &bytes).unwrap()
    };
    made("exactly-1-mb.jpg", "fine", &padded(1_000_000));
    made("above-1-mb.jpg", "fitted", &padded(1_000_001));
    made("above-10-mb.jpg", "fitted", &padded(10_000_001));
    made("folder.jpg", "NotAFile", &|path| fs::create_dir(path).unwrap());
    made("link-out.jpg", "OutsideRoot", &|path| std::os::unix::fs::symlink("/etc/hostname", path).unwrap());
    made("link-within.jpg", "fine", &|path| std::os::unix::fs::symlink("plain.jpg", path).unwrap());
    made("dead-link.jpg", "NotFound", &|path| std::os::unix::fs::symlink("nowhere", path).unwrap());
    made("pipe.jpg", "NotAFile", &|path| {
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    });
    outcomes.insert("nobody.jpg".to_owned(), "NotFound".to_owned());
    let mut manifest = csv::Writer::from_path(dir.path().join("manifest.csv")).unwrap();
    manifest.write_record(["path", "merchant_user_id"]).unwrap();
    for (n, name) in outcomes.keys().enumerate() {
        manifest.write_record([name, &format!("u{n}")]).unwrap();
    }
    manifest.flush().unwrap();
    (dir, outcomes)
}

fn named(row: &Value) -> String {
    Path::new(row["path"].as_str().unwrap()).file_name().unwrap().to_str().unwrap().to_owned()
}

#[test]
fn odd_photos_have_expected_outcomes_in_check_and_run() {
    let (dir, outcomes) = odd_archive();
    assert!(outcomes.len() >= 60, "{}", outcomes.len());
    let manifest = dir.path().join("manifest.csv");
    let ended = Enroll::new("check").arg(&manifest).args(["--report", "jsonl"]).end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let findings: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let faults = findings.iter().filter(|finding| finding["gravity"] == "fault");
    let found: BTreeMap<String, String> =
        faults.map(|finding| (named(finding), finding["code"].as_str().unwrap().to_owned())).collect();
    let is_refused = |outcome: &String| outcome != "fine" && outcome != "fitted";
    let expected: BTreeMap<String, String> =
        outcomes.iter().filter(|(_, outcome)| is_refused(outcome)).map(|(n, o)| (n.clone(), o.clone())).collect();
    assert_eq!(found, expected);
    // One of them makes its decoder panic.
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);

    let service = Service::new();
    let ended = service.run_source(&manifest).end();
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    let rows = export(&dir.path().join("manifest.csv.enroll.sqlite"), &[]);
    assert_eq!(rows.len(), outcomes.len());
    let records: BTreeMap<String, String> = service
        .sandbox
        .records()
        .into_iter()
        .map(|record| (record.user, record.picture.unwrap().to_string()))
        .collect();
    for row in &rows {
        let (name, outcome) = (named(row), &outcomes[&named(row)]);
        if is_refused(outcome) {
            assert_eq!(
                (&row["status"], &row["stage"], &row["code"]),
                (&"rejected".into(), &"local".into(), &outcome.as_str().into()),
                "{name}"
            );
            continue;
        }
        assert_eq!(row["status"], "enrolled", "{name}: {row:#}");
        let is_as_it_was = records[row["merchant_user_id"].as_str().unwrap()] == row["sha256"].as_str().unwrap();
        assert_eq!(if is_as_it_was { "fine" } else { "fitted" }, outcome, "{name}");
    }
}

#[test]
fn check_lists_all_faults_and_writes_nothing() {
    let archive = Archive::of(5, 0);
    fs::remove_file(archive.path().join("photos/u00004.jpg")).unwrap();
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&(manifest + "photos/u00001.jpg,u00002\n../x.jpg,u7\n"));
    let before = fs::read_dir(archive.path()).unwrap().count();
    let ended = Enroll::new("check").arg(archive.manifest()).args(["--qps", "10"]).end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    for line in [
        "row 5: NotFound",
        "row 7: DuplicateUserId: row 3 has",
        "row 8: OutsideRoot",
        "7 rows: 4 would be sent, 3 would be rejected",
    ] {
        assert!(ended.stdout.contains(line), "{line} is not in {}", ended.stdout);
    }
    assert!(ended.stdout.contains("at 10 calls a second: 0.4s"), "{}", ended.stdout);
    let json = summary(&Enroll::new("check").arg(archive.manifest()).arg("--json").end());
    assert_eq!(
        (&json["total"], &json["good"], &json["calls"], &json["exit_code"]),
        (&7.into(), &4.into(), &4.into(), &6.into())
    );
    let report = archive.path().join("report.csv");
    let ended = Enroll::new("check").arg(archive.manifest()).arg("--report").arg(&report).end();
    assert_eq!((ended.code, ended.stdout.as_str()), (Some(6), ""));
    let text = fs::read_to_string(&report).unwrap();
    assert!(text.starts_with("row,source,path,url,merchant_user_id,") && text.lines().count() == 4, "{text}");
    assert_eq!(fs::read_dir(archive.path()).unwrap().count(), before + 1, "a check leaves nothing but its report");
}

#[test]
fn check_exits_0_on_warnings() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/manifest.csv");
    let ended = Enroll::new("check").arg(samples).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let dark = Path::new(ARCHIVE).join("photos");
    let check = |args: &[&str]| Enroll::new("check").arg(&dark).args(["--include", "dark.jpg"]).args(args).end();
    let ended = check(&[]);
    assert!(ended.code == Some(0) && ended.stdout.contains("warning: TooDark"), "{ended:#?}");
    assert_eq!(check(&["--reject-poor"]).code, Some(6));
    assert_eq!(check(&["--headers-only", "--reject-poor"]).code, Some(0), "nothing is decoded");
    assert_eq!(Enroll::new("check").arg("/nowhere.csv").end().code, Some(3));
    let bad = Enroll::new("check").arg(&dark).args(["--include", "empty.jpg", "--id-from", "parent"]).end();
    assert_eq!(bad.code, Some(3), "no row parses: {bad:#?}");
}

#[test]
fn standard_input_packed_and_mixed_sources_are_one_run() {
    let archive = Archive::of(4, 0);
    let lines: String = (1..=2)
        .map(|n| format!("{{\"path\":\"photos/u0000{n}.jpg\",\"merchant_user_id\":\"u0000{n}\",\"floor\":{n}}}\n"))
        .collect();
    let packed = archive.path().join("half.jsonl.gz");
    let mut encoder = flate2::write::GzEncoder::new(fs::File::create(&packed).unwrap(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, lines.as_bytes()).unwrap();
    encoder.finish().unwrap();
    let service = Service::new();
    let checkpoint = archive.path().join("all.sqlite");
    let piped = archive.path().join("piped.tsv");
    fs::write(&piped, "photos/u00003.jpg\tu00003\n").unwrap();
    let tsv = "badge\tPortrait\nu00003\tphotos/u00003.jpg\nu00004\tphotos/u00004.jpg\n";
    fs::write(&piped, tsv).unwrap();
    let mut enroll = service.run_source(Path::new("-"));
    enroll
        .args([
            "--input-format",
            "tsv",
            "--column",
            "path=portrait",
            "--column",
            "merchant_user_id=badge",
            "--checkpoint",
        ])
        .arg(&checkpoint)
        .arg("--root")
        .arg(archive.path());
    enroll.command().stdin(fs::File::open(&piped).unwrap());
    enroll.end().is(0, &[("enrolled", 2)]);
    service.run_source(&packed).arg("--checkpoint").arg(&checkpoint).end().is(0, &[("total", 4), ("enrolled", 4)]);
    service.holds_exactly(&archive);
    let rows = export(&checkpoint, &[]);
    assert!(rows.iter().any(|row| row["floor"] == "1"), "{rows:#?}");
    let missing = Enroll::new("run").arg("-").args(["--group", GROUP, "--sandbox", "--checkpoint", "x"]).end();
    assert!(missing.code == Some(2) && missing.stderr.contains("--input-format"), "{missing:#?}");
}
