//! Paths as people write them, and photos where a path belongs.

use std::{collections::BTreeMap, fs, path::Path};

use base64::Engine as _;
use serde_json::Value;

use crate::support::{Archive, Enroll, Service, codes, export, photo};

/// A folder with these photos, and a manifest of these rows: what is written, whose it is.
fn archive(photos: &[&str], rows: &[(&str, &str)]) -> Archive {
    let archive = Archive::of(0, 0);
    for name in photos {
        let file = archive.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, photo(name, 0)).unwrap();
    }
    let mut manifest = csv::Writer::from_writer(Vec::new());
    manifest.write_record(["path", "merchant_user_id"]).unwrap();
    rows.iter().for_each(|(path, user)| manifest.write_record([path, user]).unwrap());
    archive.write(str::from_utf8(&manifest.into_inner().unwrap()).unwrap());
    archive
}

fn messages(checkpoint: &Path) -> BTreeMap<String, String> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = export(checkpoint, &["--status", "rejected"]);
    rows.iter()
        .map(|row| (text(row, "merchant_user_id"), format!("{}: {}", text(row, "code"), text(row, "message"))))
        .collect()
}

#[test]
fn spellings_of_a_path_are_understood_or_told() {
    let photos = ["photos/IMG_1.JPG", "photos/a b.jpg", "names/Mu\u{308}ller.jpg"];
    let archive = archive(
        &photos,
        &[
            ("photos/img_1.jpg", "case"),
            ("photos/a b.jpg ", "behind"),
            (" photos/a b.jpg", "before"),
            (".\\photos/a b.jpg", "mixed"),
            ("photos\\a b.jpg", "windows"),
            ("C:\\Users\\HR\\a b.jpg", "drive"),
            ("C:\\export\\photos\\a b.jpg", "drive-known"),
            ("file:///photos/IMG_1.JPG", "file-url"),
            ("file://localhost/photos/a%20b.jpg", "file-host"),
            ("file://nas/photos/a%20b.jpg", "file-nas"),
            ("names/M\u{fc}ller.jpg", "nfc"),
            ("photos/nobody.jpg", "nobody"),
            ("../x.jpg", "out"),
            ("ftp://h/a.jpg", "ftp"),
        ],
    );
    let absolute = format!("file://{}/photos/a%20b.jpg", archive.path().display());
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&format!("{manifest}{absolute},file-absolute\n https://example.invalid/a.jpg,link\n"));
    let service = Service::new();
    service.run(&archive).end().is(6, &[("total", 16), ("enrolled", 9), ("rejected", 7)]);
    let links: Vec<_> = service.sandbox.records().into_iter().filter(|record| record.picture.is_none()).collect();
    assert_eq!(links.iter().map(|record| record.user.as_str()).collect::<Vec<_>>(), ["link"]);
    let expected = [
        ("case", "NotFound: file not found: photos/img_1.jpg; did you mean photos/IMG_1.JPG?"),
        (
            "drive",
            "NotFound: file not found: C:/Users/HR/a b.jpg; drive letters are not supported: write paths relative to \
             the manifest's folder, or to --root DIR",
        ),
        ("drive-known", "NotFound: file not found: C:/export/photos/a b.jpg; did you mean photos/a b.jpg?"),
        ("file-nas", "InvalidUrl: its path is a file:// link to another machine: give a path on this machine"),
        ("ftp", "InvalidUrl: its path has the unsupported scheme ftp://: give a path, or an oss, http or https link"),
        ("nobody", "NotFound: file not found: photos/nobody.jpg"),
    ];
    let found = messages(&archive.checkpoint());
    for (user, message) in expected {
        assert_eq!(found.get(user).map(String::as_str), Some(message), "{user}");
    }
    assert!(found["out"].starts_with("OutsideRoot: "), "{found:#?}");
    // Nothing is read again, and nobody is sent again; an export names the same files.
    service.run(&archive).end().is(6, &[("enrolled", 9), ("calls", 0), ("changed", 0)]);
    let exported = archive.path().join("exported.csv");
    Enroll::new("export").arg(archive.manifest()).arg("--output").arg(&exported).end();
    let again = service.run_source(&exported).arg("--checkpoint").arg(archive.checkpoint()).end();
    again.is(6, &[("total", 16), ("enrolled", 9), ("calls", 0), ("changed", 0)]);
    // A photo that is found under another spelling is looked at like every other.
    fs::write(archive.path().join("photos/a b.jpg"), photo("another", 0)).unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 9), ("changed", 6), ("calls", 0)]);
    fs::rename(archive.path().join("photos/IMG_1.JPG"), archive.path().join("photos/img_1.jpg")).unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 10), ("calls", 1)]);
}

#[test]
fn photo_in_place_of_a_path_reaches_no_output() {
    let archive = archive(&["a.jpg"], &[]);
    let bytes = photo("embedded", 0);
    let base64 = base64::engine::general_purpose::STANDARD.encode(&bytes[..600]);
    let hexadecimal = hex::encode(&bytes[..600]);
    let long = format!("{}.jpg", "p".repeat(5_000));
    let uri = format!("data:image/jpeg;base64,{base64}");
    let lines = [
        serde_json::json!({"path": "a.jpg", "id": "good", "thumbnail": base64, "dept": "x"}),
        serde_json::json!({"path": base64, "id": "base64"}),
        serde_json::json!({"path": uri, "id": "uri"}),
        serde_json::json!({"url": base64, "id": "in-url"}),
        serde_json::json!({"url": uri, "id": "uri-in-url"}),
        serde_json::json!({"path": hexadecimal, "id": "hex"}),
        serde_json::json!({"path": {"type": "jpg", "data": base64}, "id": "object"}),
        serde_json::json!({"path": base64, "url": "https://h/a.jpg", "id": "both"}),
        serde_json::json!({"path": "a.jpg", "id": base64}),
        serde_json::json!({"path": long, "id": "long"}),
    ];
    let jsonl = archive.path().join("people.jsonl");
    fs::write(&jsonl, lines.map(|line| line.to_string()).join("\n")).unwrap();
    // Unquoted, its comma makes two fields of it; without a header, it is the header.
    let csv = archive.path().join("people.csv");
    fs::write(&csv, format!("path,merchant_user_id\na.jpg,table\n{uri},u1\n\"{base64}\",u2\n")).unwrap();
    let bare = archive.path().join("bare.csv");
    fs::write(&bare, format!("u1,{base64}\n")).unwrap();

    let service = Service::new();
    let checkpoint = archive.path().join("c.sqlite");
    let log = archive.path().join("log.txt");
    let run = |source: &Path| {
        let mut run = service.run_source(source);
        run.arg("--checkpoint").arg(&checkpoint).arg("--log-file").arg(&log).args(["-vv", "--json=items"]);
        run.end()
    };
    let mut said = Vec::new();
    let ended = run(&jsonl);
    ended.is(6, &[("total", 10), ("enrolled", 1), ("rejected", 9)]);
    said.push(format!("{ended:?}"));
    let ended = run(&csv);
    ended.is(6, &[("total", 13), ("enrolled", 2), ("rejected", 11)]);
    said.push(format!("{ended:?}"));
    let ended = run(&bare);
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    said.push(format!("{ended:?}"));

    let rows = export(&checkpoint, &["--status", "rejected"]);
    assert_eq!(
        codes(&rows),
        ["EmbeddedPhoto", "InvalidUserId", "PathTooLong", "TwoPictures", "WrongFieldCount"].into()
    );
    let by_user = messages(&checkpoint);
    for user in ["base64", "uri", "in-url", "uri-in-url", "hex", "object", "u2"] {
        assert!(by_user[user].contains("is the photo itself (Base64 or hexadecimal)"), "{user}: {by_user:#?}");
    }
    assert!(export(&checkpoint, &["--status", "enrolled"]).iter().any(|row| row["dept"] == "x"), "it is kept");
    for command in [
        &["export", "--checkpoint"][..],
        &["export", "--format", "jsonl", "--checkpoint"],
        &["report", "--checkpoint"],
        &["status", "--json", "--checkpoint"],
    ] {
        said.push(format!("{:?}", Enroll::new(command[0]).args(&command[1..]).arg(&checkpoint).end()));
    }
    for source in [&jsonl, &csv, &bare] {
        for report in ["text", "jsonl", "csv"] {
            said.push(format!("{:?}", Enroll::new("check").arg(source).args(["-vv", "--report", report]).end()));
        }
    }
    let mut files = vec![log, archive.path().join("report.html")];
    files.extend(["", "-wal"].map(|ending| archive.path().join(format!("c.sqlite{ending}"))));
    said.extend(
        files.iter().filter_map(|file| fs::read(file).ok()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    );
    for canary in [&base64[40..80], &hexadecimal[40..80], &long[..200]] {
        assert!(said.iter().all(|said| !said.contains(canary)), "{canary}");
    }
}

#[test]
fn folder_swapped_for_a_link_admits_nobody_from_outside() {
    use std::sync::atomic::{AtomicBool, Ordering};
    let archive = Archive::of(400, 0);
    let outside = tempfile::tempdir().unwrap();
    for user in &archive.users {
        fs::write(outside.path().join(format!("{user}.jpg")), photo(&format!("{user} from outside"), 0)).unwrap();
    }
    let (photos, inside) = (archive.path().join("photos"), archive.path().join("inside"));
    fs::rename(&photos, &inside).unwrap();
    std::os::unix::fs::symlink(&inside, &photos).unwrap();
    let service = Service::new();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let next = archive.path().join("next");
            while !is_over.load(Ordering::Relaxed) {
                for to in [outside.path(), &inside] {
                    std::os::unix::fs::symlink(to, &next).unwrap();
                    fs::rename(&next, &photos).unwrap();
                }
            }
        });
        let ended = service.run(&archive).end();
        is_over.store(true, Ordering::Relaxed);
        assert!(matches!(ended.code, Some(0 | 6)), "{ended:#?}");
        assert!(
            codes(&export(&archive.checkpoint(), &["--status", "rejected"])).iter().all(|code| *code == "OutsideRoot")
        );
    });
    for record in service.sandbox.records() {
        let picture = record.picture.map(|digest| digest.to_string());
        assert_eq!(picture.as_ref(), archive.photos.get(&record.user), "{} is from outside", record.user);
    }
    // Where it is meant, it may lead there.
    let _ = fs::remove_file(&photos);
    std::os::unix::fs::symlink(outside.path(), &photos).unwrap();
    let other = Service::new();
    let mut run = other.run(&archive);
    run.arg("--allow-outside-root").arg("--checkpoint").arg(archive.path().join("other.sqlite"));
    run.end().is(0, &[("enrolled", 400)]);
}

#[test]
fn manifest_is_found_through_a_parent_folder() {
    let archive = archive(&["a.jpg"], &[("a.jpg", "u1")]);
    let elsewhere = archive.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let mut check = Enroll::new("check");
    check.command().current_dir(&elsewhere);
    let ended = check.args(["../manifest.csv", "--group", "g"]).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
}
