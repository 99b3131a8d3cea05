//! ZIP archives as sources and as roots. The archives of `tests/zips` are made by the tools that people use.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write,
    path::{Path, PathBuf},
    time::Duration,
};

use face_enroll::sandbox::{Action, Settings};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::{
    scale::usage_until_end,
    support::{Ended, Enroll, GROUP, Service, export, photo, zip},
};

fn zips(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/zips")).join(name)
}

/// A copy of an archive, so that its checkpoint is not written into this repository.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.zip");
    fs::copy(zips(name), &path).unwrap();
    (dir, path)
}

/// An archive of photos `u1.jpg`, `u2.jpg`, ...; `version` tells photos of the same name apart.
fn photos(people: usize, version: &str) -> Vec<u8> {
    let names: Vec<String> = (1..=people).map(|n| format!("u{n}.jpg")).collect();
    zip(names.iter().map(|name| (name.as_str(), photo(&format!("{name} {version}"), 0))))
}

fn users(service: &Service) -> BTreeSet<String> {
    service.records().into_keys().collect()
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Code of each rejected row by the name of its photo.
fn rejected(checkpoint: &Path) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = export(checkpoint, &["--status", "rejected"]).into_iter();
    rows.map(|row| (text(&row["path"]).rsplit('/').next().unwrap().to_owned(), text(&row["code"]))).collect()
}

#[test]
fn archives_of_every_archiver_enroll_the_same_people() {
    for name in ["python.zip", "infozip.zip", "infozip-stream.zip", "7zip.zip", "prefix-and-comment.zip"] {
        let (dir, path) = copy(name);
        let service = Service::new();
        let ended = service.run_source(&path).end();
        // Left out: the note, .DS_Store, #recycle and __MACOSX, which count as one each.
        ended.is(0, &[("total", 4), ("enrolled", 4), ("skipped", 4)]);
        assert_eq!(users(&service), set(&["0001", "0002", "no-extension", "张三"]), "{name}");
        let check = Enroll::new("check").arg(&path).args(["--report", "jsonl"]).end();
        assert_eq!(check.code, Some(0), "{name}: {check:#?}");
        // The same archive costs no call.
        service.run_source(&path).end().is(0, &[("total", 4), ("enrolled", 4), ("calls", 0), ("queries", 0)]);
        drop(dir);
    }
    let (_dir, path) = copy("python-stream.zip");
    let service = Service::new();
    service.run_source(&path).end().is(0, &[("enrolled", 3)]);
}

#[test]
fn members_that_cannot_be_read_are_refused_by_name() {
    for (name, enrolled, refused) in [
        ("methods.zip", 2, vec![("bzip2.jpg", "UnsupportedMethod"), ("lzma.jpg", "UnsupportedMethod")]),
        ("encrypted.zip", 0, vec![("0001.jpg", "EncryptedMember")]),
        ("7zip-encrypted.zip", 0, vec![("0001.jpg", "EncryptedMember")]),
        (
            "odd-names.zip",
            4,
            vec![("0004.jpg", "OutsideRoot"), ("C:\\photos\\0005.jpg", "OutsideRoot"), ("0007.jpg", "NotFollowed")],
        ),
        ("twice.zip", 2, vec![("0001.jpg", "DuplicateUserId")]),
    ] {
        let (dir, path) = copy(name);
        let service = Service::new();
        service.run_source(&path).end().is(6, &[("enrolled", enrolled), ("rejected", refused.len() as u64)]);
        let refused: BTreeMap<String, String> =
            refused.into_iter().map(|(name, code)| (name.to_owned(), code.to_owned())).collect();
        assert_eq!(rejected(&dir.path().join("photos.zip.enroll.sqlite")), refused, "{name}");
        let check = Enroll::new("check").arg(&path).args(["--report", "jsonl"]).end();
        let found: Vec<Value> = check.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let codes: Vec<&str> = found.iter().filter_map(|finding| finding["code"].as_str()).collect();
        assert!(refused.values().all(|code| codes.contains(&code.as_str())), "{name}: {found:#?}");
    }
    let (_dir, split) = copy("split.zip");
    let ended = Service::new().run_source(&split).end();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert!(ended.stderr.contains("is a part of a split ZIP archive: join the parts"), "{}", ended.stderr);
}

#[test]
fn names_in_gbk_are_ids_only_where_the_flag_says_so() {
    let (dir, path) = copy("gbk.zip");
    let service = Service::new();
    let run = |args: &[&str]| service.run_source(&path).args(args).end();
    run(&[]).is(3, &[("total", 2), ("rejected", 2), ("calls", 0)]);
    let rows = export(&dir.path().join("photos.zip.enroll.sqlite"), &[]);
    assert!(rows[0]["message"].as_str().unwrap().contains("give --names-in gbk"), "{rows:#?}");
    run(&["--names-in", "gbk"]).is(0, &[("total", 2), ("enrolled", 2)]);
    assert_eq!(users(&service), set(&["张三", "李四"]));
    let manifest = dir.path().join("people.csv");
    fs::write(&manifest, "path,id\n李四.jpg,4\n").unwrap();
    let root = ["--root", path.to_str().unwrap()];
    let check = |args: &[&str]| Enroll::new("check").arg(&manifest).args(root).args(args).end();
    assert_eq!(check(&["--names-in", "gbk"]).code, Some(0));
    assert_eq!(check(&[]).code, Some(6));
}

#[test]
fn manifest_names_members_by_root_or_by_path() {
    let (dir, path) = copy("infozip.zip");
    let manifest = dir.path().join("people.csv");
    for (root, rows) in [
        ("photos.zip", "photos/0001.jpg,1\nphotos\\0002.JPG ,2\nphotos/张三.jpg,3\n"),
        ("photos.zip/photos", "0001.jpg,1\n0002.JPG,2\n张三.jpg,3\n"),
        (".", "photos.zip/photos/0001.jpg,1\nphotos.zip/photos/0002.JPG,2\nphotos.zip/photos/张三.jpg,3\n"),
    ] {
        fs::write(&manifest, format!("path,id\n{rows}")).unwrap();
        let service = Service::new();
        let checkpoint = dir.path().join("c.sqlite");
        let root = dir.path().join(root);
        let run = |source: &Path| {
            let mut run = service.run_source(source);
            if source == manifest {
                run.arg("--root").arg(&root);
            }
            run.arg("--checkpoint").arg(&checkpoint).end()
        };
        run(&manifest).is(0, &[("enrolled", 3)]);
        assert_eq!(users(&service), set(&["1", "2", "3"]));
        run(&manifest).is(0, &[("enrolled", 3), ("calls", 0)]);
        // An export is a manifest, with the archive in its paths.
        let exported = dir.path().join("export.csv");
        let export = Enroll::new("export").arg("--checkpoint").arg(&checkpoint).arg("-o").arg(&exported).end();
        assert_eq!(export.code, Some(0), "{export:#?}");
        let text = fs::read_to_string(&exported).unwrap();
        assert!(text.contains(",photos.zip/photos/0001.jpg,"), "{text}");
        run(&exported).is(0, &[("enrolled", 3), ("calls", 0), ("changed", 0)]);
        fs::remove_file(&checkpoint).unwrap();
        fs::remove_file(dir.path().join("c.sqlite.lock")).unwrap();
    }
    assert_eq!(fs::read(&path).unwrap(), fs::read(zips("infozip.zip")).unwrap());
}

#[test]
fn missing_member_is_named_with_what_may_be_meant() {
    let (dir, _) = copy("infozip.zip");
    let manifest = dir.path().join("people.csv");
    let rows = "photos/0001.jpg,1\nphotos/0001.JPG,2\nphotos/none.jpg,3\nphotos,4\n";
    fs::write(&manifest, format!("path,id\n{rows}")).unwrap();
    let ended = Enroll::new("check")
        .arg(&manifest)
        .args(["--report", "jsonl", "--root"])
        .arg(dir.path().join("photos.zip"))
        .end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let messages: Vec<String> = ended
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|finding| finding["code"] == "NotFound")
        .map(|finding| finding["message"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(
        messages,
        [
            "file not found: photos.zip/photos/0001.JPG; did you mean photos/0001.jpg?",
            "file not found: photos.zip/photos/none.jpg",
            "file not found: photos.zip/photos",
        ]
    );
}

#[test]
fn list_in_an_archive_is_said_not_to_be_read() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.zip");
    fs::write(&path, zip([("IMG_1.jpg", photo("1", 0)), ("people.csv", b"path,id\nIMG_1.jpg,42\n".to_vec())])).unwrap();
    let ended = Service::new().run_source(&path).end();
    ended.is(0, &[("enrolled", 1), ("skipped", 1)]);
    assert!(ended.stderr.contains("people.csv, which is not read: the ids are the photos' names"), "{}", ended.stderr);
}

#[test]
fn archive_exported_anew_costs_no_read_and_no_call() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.zip");
    fs::write(&path, photos(20, "")).unwrap();
    let service = Service::new();
    service.run_source(&path).end().is(0, &[("enrolled", 20)]);
    // The same photos in another order, in an archive written anew. Their data is destroyed: it is not read.
    let names: Vec<String> = (1..=20).rev().map(|n| format!("u{n}.jpg")).collect();
    let mut anew = zip(names.iter().map(|name| (name.as_str(), photo(&format!("{name} "), 0))));
    let directory = anew.windows(4).position(|bytes| bytes == b"PK\x01\x02").unwrap();
    anew[..directory].fill(0);
    fs::write(&path, anew).unwrap();
    service
        .run_source(&path)
        .end()
        .is(0, &[("enrolled", 20), ("calls", 0), ("queries", 0), ("changed", 0), ("vanished", 0)]);
    // One photo is another one, one is gone, one is new.
    let names: Vec<String> = (2..=21).map(|n| format!("u{n}.jpg")).collect();
    let member = |name: &String| photo(&format!("{name} {}", if name == "u7.jpg" { "other" } else { "" }), 0);
    fs::write(&path, zip(names.iter().map(|name| (name.as_str(), member(name))))).unwrap();
    let run = |args: &[&str]| service.run_source(&path).args(args).end();
    run(&[]).is(0, &[("enrolled", 21), ("calls", 1), ("changed", 1), ("vanished", 1)]);
    run(&["--on-change", "replace"]).is(0, &[("enrolled", 21), ("calls", 1), ("changed", 0)]);
}

#[test]
fn damaged_archive_mixes_up_nobody_and_is_read_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.zip");
    let whole = photos(3, "");
    let mut damaged = whole.clone();
    // A bit in the data of the second photo.
    let second = damaged.windows(6).position(|bytes| bytes == b"u2.jpg").unwrap();
    damaged[second + 1_000] ^= 1;
    fs::write(&path, &damaged).unwrap();
    let service = Service::new();
    service.run_source(&path).end().is(6, &[("enrolled", 2), ("rejected", 1)]);
    assert_eq!(rejected(&dir.path().join("photos.zip.enroll.sqlite"))["u2.jpg"], "DamagedArchive");
    fs::write(&path, &whole).unwrap();
    service.run_source(&path).end().is(0, &[("enrolled", 3), ("calls", 1)]);
    // Cut off: nothing is known, nothing is changed.
    fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    let ended = service.run_source(&path).end();
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert!(ended.stderr.contains("its end is missing, or it is no ZIP archive"), "{}", ended.stderr);
}

/// Runs over a slow service, replaces the archive by `how` once a call was made, and returns the end of the run.
fn replaced(how: fn(&Path, &[u8])) -> (Service, Ended, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.zip");
    fs::write(&path, photos(60, "old")).unwrap();
    let service = Service::with(Settings { latency: Duration::from_millis(50), ..Settings::default() });
    let mut run = service.run_source(&path);
    let run = run.args(["--qps", "20", "--concurrency", "2", "--retries", "2"]).spawn();
    while service.calls(Action::AddFaceRecord) < 3 {
        std::thread::sleep(Duration::from_millis(5));
    }
    // Somebody else's photo under each name.
    let names: Vec<String> = (1..=60).map(|n| format!("u{n}.jpg")).collect();
    let other = zip(names.iter().map(|name| (name.as_str(), photo(&format!("another than {name}"), 0))));
    how(&path, &other);
    (service, Ended::from(run.wait_with_output().unwrap()), dir)
}

#[test]
fn archive_replaced_during_a_run_mixes_up_nobody() {
    let hows: [fn(&Path, &[u8]); 2] = [
        |path, bytes| {
            fs::write(path.with_extension("new"), bytes).unwrap();
            fs::rename(path.with_extension("new"), path).unwrap();
        },
        |path, bytes| fs::write(path, bytes).unwrap(),
    ];
    for how in hows {
        let (service, ended, dir) = replaced(how);
        assert!(ended.stderr.contains("photos.zip was replaced or changed while it was read: run again"), "{ended:#?}");
        let summary = ended.summary();
        let (enrolled, pending) = (summary["enrolled"].as_u64().unwrap(), summary["pending"].as_u64().unwrap());
        assert_eq!((enrolled + pending, &summary["rejected"]), (60, &0.into()), "{summary:#}");
        assert!(enrolled >= 3 && pending > 0 && ended.code != Some(0), "{ended:#?}");
        let digest = |of: &str| hex::encode(Sha256::digest(photo(of, 0)));
        for record in service.sandbox.records() {
            assert_eq!(
                record.picture.unwrap().to_string(),
                digest(&format!("{}.jpg old", record.user)),
                "{}",
                record.user
            );
        }
        // The next run reads the new archive.
        service.run_source(&dir.path().join("photos.zip")).end().is(0, &[("enrolled", 60), ("changed", enrolled)]);
    }
}

#[test]
fn archive_behind_a_link_out_of_the_root_is_not_read() {
    let dir = tempfile::tempdir().unwrap();
    let (root, outside) = (dir.path().join("root"), dir.path().join("outside.zip"));
    fs::create_dir(&root).unwrap();
    fs::write(&outside, photos(1, "")).unwrap();
    std::os::unix::fs::symlink(&outside, root.join("photos.zip")).unwrap();
    let manifest = root.join("m.csv");
    fs::write(&manifest, "path\nphotos.zip/u1.jpg\n").unwrap();
    let check = |args: &[&str]| Enroll::new("check").arg(&manifest).args(args).end();
    let refused = check(&[]);
    assert_eq!(refused.code, Some(6));
    assert!(refused.stdout.contains("leads outside the source's root"), "{}", refused.stdout);
    assert_eq!(check(&["--allow-outside-root"]).code, Some(0));
    // A folder may have the name of an archive.
    fs::remove_file(root.join("photos.zip")).unwrap();
    fs::create_dir(root.join("photos.zip")).unwrap();
    fs::write(root.join("photos.zip/u1.jpg"), photo("u1", 0)).unwrap();
    assert_eq!(check(&[]).code, Some(0));
}

#[test]
fn include_exclude_and_id_from_work_as_in_directories() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("photos.zip");
    let names = ["a/x.jpg", "b/x.jpg", "c/y.dat", "old/z.jpg"];
    fs::write(&path, zip(names.map(|name| (name, photo(name, 0))))).unwrap();
    for (args, expected) in [
        (&["--id-from", "parent", "--exclude", "old"][..], &["a", "b", "c"][..]),
        (&["--id-from", "path"], &["a/x", "b/x", "c/y.dat", "old/z"]),
        (&["--include", "*.dat"], &["y"]),
    ] {
        let service = Service::new();
        let checkpoint = dir.path().join(format!("{}.sqlite", expected.len()));
        let ended = service.run_source(&path).arg("--checkpoint").arg(checkpoint).args(args).end();
        ended.is(0, &[("enrolled", expected.len() as u64)]);
        assert_eq!(users(&service), set(expected));
    }
}

#[test]
fn output_does_not_overwrite_an_archive() {
    let (dir, path) = copy("infozip.zip");
    fs::write(dir.path().join("m.csv"), "path,id\nphotos/0001.jpg,1\n").unwrap();
    let refused = Enroll::new("run")
        .arg(&path)
        .args(["--group", GROUP, "--region", "ap-southeast-1", "--metrics-file"])
        .arg(&path)
        .end();
    assert_eq!(refused.code, Some(2), "{refused:#?}");
    let log = Enroll::new("check").arg(dir.path().join("m.csv")).arg("--log-file").arg(&path).end();
    assert_eq!(log.code, Some(2), "{log:#?}");
    assert_eq!(fs::read(&path).unwrap(), fs::read(zips("infozip.zip")).unwrap());
}

/// What `check` finds in a source, by file.
fn findings(source: &Path) -> BTreeSet<(String, String)> {
    let ended = Enroll::new("check").arg(source).args(["--report", "jsonl"]).end();
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let file = |finding: &Value| text(finding, "path").rsplit('/').next().unwrap().to_owned();
    let found = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    found.map(|finding| (file(&finding), text(&finding, "code"))).collect()
}

#[test]
fn odd_photos_are_judged_alike_in_a_directory_and_an_archive() {
    let photos = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archive/photos"));
    let mut files: Vec<PathBuf> = fs::read_dir(photos).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let members = files.iter().map(|file| (file.file_name().unwrap().to_str().unwrap(), fs::read(file).unwrap()));
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("photos.zip"), zip(members)).unwrap();
    let (expected, found) = (findings(photos), findings(&dir.path().join("photos.zip")));
    assert!(expected.len() > 50, "{}", expected.len());
    assert_eq!(found, expected);
}

/// A record of an archive that is built byte by byte.
struct Record<'a> {
    name: String,
    packed: &'a [u8],
    claimed: u32,
    crc: u32,
    /// Number of the member whose data it claims.
    data_of: usize,
}

/// Builds an archive; `data` members have their own header and data.
fn build(data: usize, records: &[Record<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut offsets = Vec::new();
    let fields = |record: &Record<'_>| {
        let mut fields = vec![20, 0, 0, 0, 8, 0, 0, 0, 0, 0];
        fields.extend(record.crc.to_le_bytes());
        fields.extend((record.packed.len() as u32).to_le_bytes());
        fields.extend(record.claimed.to_le_bytes());
        fields.extend((record.name.len() as u16).to_le_bytes());
        fields.extend([0, 0]);
        fields
    };
    for record in &records[..data] {
        offsets.push(bytes.len() as u32);
        bytes.extend(b"PK\x03\x04");
        bytes.extend(fields(record));
        bytes.extend(record.name.as_bytes());
        bytes.extend(record.packed);
    }
    let directory = bytes.len() as u32;
    for record in records {
        bytes.extend(b"PK\x01\x02\x14\0");
        bytes.extend(fields(record));
        bytes.extend([0; 10]);
        bytes.extend(offsets[record.data_of].to_le_bytes());
        bytes.extend(record.name.as_bytes());
    }
    let size = bytes.len() as u32 - directory;
    bytes.extend(b"PK\x05\x06\0\0\0\0");
    bytes.extend((records.len() as u16).to_le_bytes());
    bytes.extend((records.len() as u16).to_le_bytes());
    bytes.extend(size.to_le_bytes());
    bytes.extend(directory.to_le_bytes());
    bytes.extend([0, 0]);
    bytes
}

#[test]
fn archive_beside_a_manifest_is_pointed_to() {
    let dir = tempfile::tempdir().unwrap();
    let (manifest, archive) = (dir.path().join("people.csv"), dir.path().join("Photos.ZIP"));
    fs::write(&manifest, "path,merchant_user_id\nu1.jpg,u1\nu2.jpg,u2\n").unwrap();
    fs::write(&archive, photos(2, "")).unwrap();
    let service = Service::new();
    let hint = format!("give --root {}", archive.display());
    let ended = service.run_source(&manifest).end();
    assert!(ended.code == Some(3) && ended.stderr.contains(&hint), "{ended:#?}");
    let ended = Enroll::new("check").arg(&manifest).end();
    assert!(ended.code == Some(6) && ended.stderr.contains(&hint), "{ended:#?}");
    let ended = service.run_source(&manifest).arg("--root").arg(&archive).end();
    ended.is(0, &[("enrolled", 2)]);
    assert!(!ended.stderr.contains("give --root"), "{ended:#?}");
}

/// Zeros, deflated.
fn zeros(megabytes: usize) -> Vec<u8> {
    let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    (0..megabytes).for_each(|_| encoder.write_all(&[0; 1_000_000]).unwrap());
    encoder.finish().unwrap()
}

#[test]
fn bombs_end_soon_and_within_100_mib() {
    let bomb = zeros(1_000);
    let one = |claimed| build(1, &[Record { name: "bomb.jpg".into(), packed: &bomb, claimed, crc: 0, data_of: 0 }]);
    let small = zeros(60);
    let overlapping: Vec<Record<'_>> = (0..20_000)
        .map(|n| Record { name: format!("{n:05}.jpg"), packed: &small, claimed: 60_000_000, crc: 0, data_of: 0 })
        .collect();
    let mut endless = one(9);
    // The directory claims 65,000 records.
    let end = endless.len() - 22;
    endless[end + 8..end + 12].copy_from_slice(&[0xE8, 0xFD, 0xE8, 0xFD]);
    let nested = zip([("bomb.zip", one(1_000_000_000)), ("42.zip", zeros(10))]);
    for (name, bytes, code, words) in [
        ("honest", one(1_000_000_000), 6, "photo has 1000000000 bytes; at most"),
        ("lying", one(1_000), 6, "DamagedArchive"),
        ("within the limit", one(63_000_000), 6, "DamagedArchive"),
        ("overlapping", build(1, &overlapping), 3, "its members overlap, as in a ZIP bomb"),
        ("endless directory", endless, 3, "its directory is incomplete"),
        ("nested", nested, 0, "2 files were left out"),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("photos.zip");
        fs::write(&path, bytes).unwrap();
        let mut check = Enroll::new("check").arg(&path).spawn();
        let (peak, cpu) = usage_until_end(&mut check);
        let ended = Ended::from(check.wait_with_output().unwrap());
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert_eq!(ended.code, Some(code), "{name}: {ended:#?}");
        assert!(text.contains(words), "{name}: {text}");
        println!("{name}: {cpu:?}, {peak} MiB");
        assert!(cpu < Duration::from_secs(1), "{name}: {cpu:?}");
        // One that ends at once may not have been looked at.
        assert!(peak < 100, "{name}: {peak} MiB");
    }
}
