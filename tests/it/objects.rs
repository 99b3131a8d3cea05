//! Photos and manifests in object storage: the real binary against buckets of a sandbox.

use std::{fmt::Write as _, fs};

use face_enroll::sandbox::{Action, Script, Settings};

use crate::support::{Ended, Enroll, Service, codes, export, photo};

const BUCKET: &str = "faces";

/// Keys that need care on their way through URLs, XML and signatures, and the ids that they give.
const PHOTOS: [(&str, &str); 6] = [
    ("photos/2024/u 5+6.jpg", "u 5+6"),
    ("photos/a&b<c>%20.jpg", "a&b<c>%20"),
    ("photos/u1.jpg", "u1"),
    ("photos/u2//u2.JPEG", "u2"),
    ("photos/é~('!*).jpg", "é~('!*)"),
    ("photos/张三.jpg", "张三"),
];

/// A service with a bucket, and a folder for checkpoints.
struct Store {
    service: Service,
    dir: tempfile::TempDir,
}

impl Store {
    fn new() -> Self {
        let buckets = [(BUCKET.to_owned(), None)].into();
        Self { service: Service::with(Settings { buckets, ..Settings::default() }), dir: tempfile::tempdir().unwrap() }
    }

    fn with_photos() -> Self {
        let store = Self::new();
        for (key, id) in PHOTOS {
            store.put(key, photo(id, 30_000));
        }
        store
    }

    fn put(&self, key: &str, bytes: Vec<u8>) {
        assert!(self.service.sandbox.put_object(BUCKET, key, bytes, None));
    }

    fn checkpoint(&self) -> std::path::PathBuf {
        self.dir.path().join("c.sqlite")
    }

    /// A run of this source whose objects are in the bucket.
    fn run(&self, source: &str) -> Enroll {
        let mut enroll = self.service.run_source(source.as_ref());
        enroll.args(["--oss-endpoint", &self.service.sandbox.endpoint()]).arg("--checkpoint").arg(self.checkpoint());
        enroll
    }

    fn end(&self, source: &str) -> Ended {
        self.run(source).end()
    }

    fn calls(&self, action: Action) -> usize {
        self.service.calls(action)
    }

    fn users(&self) -> Vec<String> {
        let mut users: Vec<String> = self.service.sandbox.records().into_iter().map(|record| record.user).collect();
        users.sort();
        users
    }
}

fn ids() -> Vec<String> {
    let mut ids: Vec<String> = PHOTOS.iter().map(|(_, id)| (*id).to_owned()).collect();
    ids.sort();
    ids
}

#[test]
fn prefix_of_a_bucket_is_enrolled_by_key_order() {
    let store = Store::with_photos();
    store.put("photos/.hidden/u9.jpg", photo("u9", 30_000));
    store.put("photos/#recycle/u9.jpg", photo("u9", 30_000));
    store.put("photos/list.csv", b"path\n".to_vec());
    store.put("photos/", Vec::new());
    store.put("elsewhere/u9.jpg", photo("u9", 30_000));
    let summary = store.end("oss://faces/photos/").is(0, &[("total", 6), ("enrolled", 6), ("skipped", 3)]);
    assert_eq!(summary["calls"], 6);
    assert_eq!(store.users(), ids());
    for record in store.service.sandbox.records() {
        use sha2::Digest as _;
        let sent = hex::encode(sha2::Sha256::digest(photo(&record.user, 30_000)));
        assert_eq!(record.picture.unwrap().to_string(), sent, "{}", record.user);
    }
    let rows = export(&store.checkpoint(), &[]);
    let mut keys: Vec<(u64, &str)> =
        rows.iter().map(|row| (row["row"].as_u64().unwrap(), row["url"].as_str().unwrap())).collect();
    keys.sort_unstable();
    let expected: Vec<(u64, String)> =
        PHOTOS.iter().zip(1..).map(|((key, _), row)| (row, format!("oss://faces/{key}"))).collect();
    assert_eq!(keys, expected.iter().map(|(row, key)| (*row, key.as_str())).collect::<Vec<_>>());
}

#[test]
fn unchanged_objects_cost_no_read_and_no_call() {
    let store = Store::with_photos();
    store.end("oss://faces/photos/").is(0, &[("enrolled", 6)]);
    let (reads, lists) = (store.calls(Action::GetObject), store.calls(Action::ListObjects));
    assert_eq!((reads, lists), (6, 1));
    store.end("oss://faces/photos/").is(0, &[("enrolled", 6), ("calls", 0), ("changed", 0)]);
    assert_eq!((store.calls(Action::GetObject), store.calls(Action::ListObjects)), (6, 2));
    // Stored again with the same content: the same ETag.
    store.put("photos/u1.jpg", photo("u1", 30_000));
    store.end("oss://faces/photos/").is(0, &[("calls", 0), ("changed", 0)]);
    store.put("photos/u1.jpg", photo("u1 again", 30_000));
    store.end("oss://faces/photos/").is(0, &[("calls", 0), ("changed", 1)]);
    assert_eq!(store.calls(Action::GetObject), 7, "only the changed one is read");
    let mut replacing = store.run("oss://faces/photos/");
    replacing.args(["--on-change", "replace"]).end().is(0, &[("enrolled", 6), ("calls", 1), ("changed", 0)]);
    assert_eq!(store.users(), ids());
}

#[test]
fn manifest_in_a_bucket_names_objects_beside_it() {
    let store = Store::with_photos();
    let mut manifest = String::from("path,merchant_user_id\n");
    for (key, id) in PHOTOS {
        let path = if id == "u1" { format!("oss://faces/{key}") } else { key.strip_prefix("photos/").unwrap().into() };
        writeln!(manifest, "\"{path}\",\"{id}\"").unwrap();
    }
    manifest += "../secret.jpg,out\nnobody.jpg,nobody\n";
    let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut gz, manifest.as_bytes()).unwrap();
    store.put("photos/people.csv.gz", gz.finish().unwrap());
    store.put("secret.jpg", photo("out", 30_000));
    store.end("oss://faces/photos/people.csv.gz").is(6, &[("enrolled", 6), ("rejected", 2)]);
    assert_eq!(store.users(), ids());
    let rejected = export(&store.checkpoint(), &["--status", "rejected"]);
    assert_eq!(codes(&rejected), ["NotFound", "OutsideRoot"].into());
    // Neither is asked for again, and a photo that is there now is enrolled.
    let reads = store.calls(Action::GetObject);
    store.end("oss://faces/photos/people.csv.gz").is(6, &[("calls", 0), ("changed", 0)]);
    assert_eq!(store.calls(Action::GetObject), reads + 1, "the manifest itself");
    store.put("photos/nobody.jpg", photo("nobody", 30_000));
    store.end("oss://faces/photos/people.csv.gz").is(6, &[("enrolled", 7), ("newly_enrolled", 1)]);
}

#[test]
fn local_manifest_names_objects_below_a_root_or_by_link() {
    let store = Store::with_photos();
    let manifest = store.dir.path().join("people.csv");
    fs::write(&manifest, "path,merchant_user_id\nu1.jpg,u1\n./2024/u 5+6.jpg,u 5+6\noss://other/x.jpg,out\n").unwrap();
    let mut run = store.run(manifest.to_str().unwrap());
    run.args(["--root", "oss://faces/photos"]).end().is(6, &[("enrolled", 2), ("rejected", 1)]);
    fs::write(&manifest, "url,merchant_user_id\noss://faces/photos/张三.jpg,张三\n").unwrap();
    store.end(manifest.to_str().unwrap()).is(0, &[("enrolled", 3), ("newly_enrolled", 1)]);
    // An export names the objects, and is a manifest.
    let exported = store.dir.path().join("out.csv");
    let mut command = Enroll::new("export");
    command.arg("--checkpoint").arg(store.checkpoint()).arg("-o").arg(&exported);
    assert_eq!(command.end().code, Some(0));
    assert!(fs::read_to_string(&exported).unwrap().contains("oss://faces/photos/u1.jpg"));
    let other = store.dir.path().join("other.sqlite");
    let mut again = store.service.run_source(&exported);
    again.args(["--oss-endpoint", &store.service.sandbox.endpoint()]).arg("--checkpoint").arg(other);
    again.end().is(0, &[("enrolled", 3)]);
}

#[test]
fn failing_store_is_retried_and_blames_no_photo() {
    let store = Store::with_photos();
    let script = r#"{"action":"ListObjects","calls":[1,2],"fault":"unavailable"}
        {"action":"GetObject","calls":[1],"fault":"internal_error"}
        {"action":"GetObject","calls":[2],"fault":"reset_before"}
        {"action":"GetObject","calls":[3],"fault":"html"}
        {"action":"GetObject","calls":[4],"fault":"truncated"}
        {"action":"GetObject","calls":[5],"fault":"code","status":503,"code":"SlowDown","message":"m"}"#;
    store.service.sandbox.set_faults(Script::parse(script).unwrap());
    store.end("oss://faces/photos/").is(0, &[("enrolled", 6), ("rejected", 0)]);
    assert_eq!(store.users(), ids());
}

#[test]
fn manifest_that_breaks_off_goes_on_where_it_was() {
    let store = Store::new();
    let rows: String = (0..3_000).map(|n| format!("https://h/{n:04}.jpg,u{n:04}\n")).collect();
    store.put("people.csv", format!("url,merchant_user_id\n{rows}").into_bytes());
    let set = |fault: &str| {
        let script = format!(r#"{{"action":"GetObject","calls":[1,2],"fault":"{fault}"}}"#);
        store.service.sandbox.set_faults(Script::parse(&script).unwrap());
    };
    let check = |words: &str| {
        let mut check = Enroll::new("check");
        check.args(["oss://faces/people.csv", "--group", "g", "--oss-endpoint", &store.service.sandbox.endpoint()]);
        check
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", store.service.sandbox.access_key_id())
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", store.service.sandbox.access_key_secret());
        let ended = check.end();
        assert!(format!("{}{}", ended.stdout, ended.stderr).contains(words), "{ended:#?}");
    };
    // Half of what is left comes each time; then the store fails and comes back.
    set("truncated");
    check("3,000 rows: 3,000 would be sent");
    assert_eq!(store.calls(Action::GetObject), 3);
    set("internal_error");
    check("3,000 rows");
}

#[test]
fn manifest_that_changes_while_it_is_read_ends_the_reading() {
    let store = Store::new();
    let manifest = |id: &str| {
        let rows: String = (0..200_000).map(|n| format!("https://h/{n:06}.jpg,{id}{n:06}\n")).collect();
        format!("url,merchant_user_id\n{rows}").into_bytes()
    };
    store.put("people.csv", manifest("a"));
    let script = r#"{"action":"GetObject","calls":[1],"fault":"truncated"}"#;
    store.service.sandbox.set_faults(Script::parse(script).unwrap());
    let mut run = store.run("oss://faces/people.csv");
    let run = run.arg("--dry-run").spawn();
    crate::support::wait_until("the first read", || store.calls(Action::GetObject) > 0);
    store.put("people.csv", manifest("b"));
    let ended = Ended::from(run.wait_with_output().unwrap());
    assert_eq!(ended.code, Some(3), "{ended:#?}");
    assert!(ended.stderr.contains("the object has changed meanwhile"), "{}", ended.stderr);
}

#[test]
fn refused_store_stops_run_and_one_refused_object_does_not() {
    let store = Store::new();
    for n in 0..24 {
        store.put(&format!("photos/u{n:02}.jpg"), photo(&format!("u{n:02}"), 20_000));
    }
    let denied = r#"{"action":"ACTION","from":FROM,"fault":"code","status":403,"code":"AccessDenied","message":"m"}"#;
    let set = |action: &str, from: &str| {
        let script = denied.replace("ACTION", action).replace("FROM", from);
        store.service.sandbox.set_faults(Script::parse(&script).unwrap());
    };
    set("ListObjects", "1");
    let ended = store.end("oss://faces/photos/");
    assert_eq!(ended.code, Some(7), "{ended:#?}");
    assert!(ended.stderr.contains("oss:ListObjects"), "{ended:#?}");
    set("GetObject", "1");
    let ended = store.end("oss://faces/photos/");
    ended.is(7, &[("pending", 24), ("rejected", 0)]);
    assert!(ended.stderr.contains("oss:GetObject"), "{ended:#?}");
    // Eight are read side by side: the last one is refused after others were allowed.
    set("GetObject", "24");
    let summary = store.end("oss://faces/photos/").is(6, &[("enrolled", 23), ("rejected", 1)]);
    assert_eq!(summary["by_code"]["PermissionDenied"], 1);
}

#[test]
fn missing_bucket_or_wrong_secret_stops_run() {
    let store = Store::with_photos();
    let ended = store.end("oss://other-bucket/photos/");
    assert_eq!(ended.code, Some(7), "{ended:#?}");
    assert!(ended.stderr.contains("NoSuchBucket"), "{ended:#?}");
    let mut wrong = store.run("oss://faces/photos/");
    let ended = wrong.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "wrong").end();
    assert_eq!(ended.code, Some(7), "{ended:#?}");
    assert!(ended.stderr.contains("SignatureDoesNotMatch"), "{ended:#?}");
    assert_eq!(store.end("oss://faces/nobody.csv").code, Some(3));
    for bad in ["oss://faces/photos", "oss://F/photos/", "oss://faces/a/../b/"] {
        let code = store.end(bad).code;
        assert!(matches!(code, Some(2 | 3)), "{bad}: {code:?}");
    }
}

#[test]
fn prefix_without_any_key_is_refused() {
    let store = Store::with_photos();
    for place in ["oss://faces/photo/", "oss://faces/photos/2023/"] {
        let ended = store.end(place);
        assert_eq!(ended.code, Some(3), "{ended:#?}");
        assert!(
            ended.stderr.contains(&format!("can't read {place}: no key of the bucket begins with it")),
            "{ended:#?}"
        );
    }
    // A folder that a console made, and a bucket, may be empty.
    store.put("new/", Vec::new());
    store.end("oss://faces/new/").is(0, &[("total", 0)]);
    let empty = Store::new();
    empty.end("oss://faces/").is(0, &[("total", 0)]);
}

#[test]
fn bucket_without_endpoint_says_what_to_give() {
    let store = Store::with_photos();
    let ended = store.service.run_source("oss://faces/photos/".as_ref()).env("HOME", store.dir.path()).end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    for words in ["no endpoint is given", "--region", "--oss-endpoint URL", "--sandbox-bucket NAME=DIR"] {
        assert!(ended.stderr.contains(words), "{words}: {ended:#?}");
    }
    let mut sandbox = Enroll::new("run");
    let ended = sandbox.args(["oss://faces/photos/", "--sandbox"]).env("HOME", store.dir.path()).end();
    assert!(ended.code == Some(2) && ended.stderr.contains("--sandbox-bucket NAME=DIR with --sandbox"), "{ended:#?}");
}

#[test]
fn workbook_in_a_bucket_is_read() {
    let store = Store::new();
    let staff = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/manifests/staff.xlsx");
    store.put("p/staff.xlsx", fs::read(staff).unwrap());
    for name in 'a'..='h' {
        store.put(&format!("p/{name}.jpg"), photo(&name.to_string(), 20_000));
    }
    let mut run = store.run("oss://faces/p/staff.xlsx");
    run.args(["--column=path=照片", "--column=merchant_user_id=工号"]).end().is(0, &[("enrolled", 7)]);
    store.put("p/large.xlsx", vec![0; (64 << 20) + 1]);
    let ended = store.end("oss://faces/p/large.xlsx");
    assert!(ended.code == Some(3) && ended.stderr.contains("more than 64 MiB: download it"), "{ended:#?}");
}

#[test]
fn archived_and_oversized_objects_are_refused_with_advice() {
    let store = Store::new();
    store.put("p/u1.jpg", photo("u1", 30_000));
    assert!(store.service.sandbox.put_object(BUCKET, "p/u2.jpg", photo("u2", 30_000), Some("ColdArchive")));
    store.put("p/u3.jpg", vec![0; 65 << 20]);
    store.put("p/u4.jpg", Vec::new());
    let ended = store.end("oss://faces/p/");
    let summary = ended.is(6, &[("enrolled", 1), ("rejected", 3)]);
    for code in ["NotRestored", "TooLarge", "Empty"] {
        assert_eq!(summary["by_code"][code], 1, "{code}");
    }
    let reads = store.calls(Action::GetObject);
    store.end("oss://faces/p/").is(6, &[("calls", 0), ("rejected", 3)]);
    assert!(
        store.calls(Action::GetObject) <= reads + 1,
        "only the archived one, whose stamp is not known, is tried again"
    );
}

#[test]
fn check_and_dry_run_read_objects_and_send_nothing() {
    let store = Store::with_photos();
    store.put("photos/bad.jpg", b"no photo".to_vec());
    let endpoint = store.service.sandbox.endpoint();
    let mut check = Enroll::new("check");
    check.args(["oss://faces/photos/", "--oss-endpoint", &endpoint, "--json"]);
    check
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", store.service.sandbox.access_key_id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", store.service.sandbox.access_key_secret());
    let ended = check.end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    assert!(ended.stdout.contains("oss://faces/photos/bad.jpg"), "{ended:#?}");
    let ended = store.run("oss://faces/photos/").arg("--dry-run").end();
    assert_eq!(ended.code, Some(6), "{ended:#?}");
    let ended = check.env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "wrong").end();
    assert_eq!(ended.code, Some(7), "{ended:#?}");
    assert_eq!(store.calls(Action::AddFaceRecord), 0);
    assert!(!store.checkpoint().exists());
}

#[test]
fn built_in_sandbox_serves_a_folder_as_a_bucket() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("photos")).unwrap();
    for user in ["u1", "u2"] {
        fs::write(dir.path().join(format!("photos/{user}.jpg")), photo(user, 30_000)).unwrap();
    }
    let mut run = Enroll::new("run");
    run.args(["oss://faces/photos/", "--sandbox", "--json", "--progress", "never", "--sandbox-bucket"]);
    run.arg(format!("faces={}", dir.path().display())).arg("--checkpoint").arg(dir.path().join("c.sqlite"));
    run.end().is(0, &[("enrolled", 2)]);
    run.end().is(0, &[("enrolled", 2), ("calls", 0)]);
}

#[test]
fn checkpoint_of_a_bucket_is_in_the_state_directory() {
    let store = Store::with_photos();
    let state = tempfile::tempdir().unwrap();
    let mut run = store.service.run_source("oss://faces/photos/".as_ref());
    run.args(["--oss-endpoint", &store.service.sandbox.endpoint()]).env("XDG_STATE_HOME", state.path());
    let ended = run.end();
    ended.is(0, &[("enrolled", 6)]);
    let says_so = |ended: &Ended| ended.stderr.contains("the checkpoint of a bucket is in the user's state directory");
    assert!(says_so(&ended) && !ended.stderr.contains("WARN"), "{ended:#?}");
    assert!(!says_so(&run.end()), "once is enough");
    let mut status = Enroll::new("status");
    status.args(["oss://faces/photos/", "--json"]).env("XDG_STATE_HOME", state.path());
    let ended = status.end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("\"enrolled\":6"), "{ended:#?}");
}

/// Every byte that the run left behind.
fn traces(dir: &std::path::Path) -> Vec<u8> {
    let files =
        walkdir::WalkDir::new(dir).into_iter().filter_map(Result::ok).filter(|entry| entry.file_type().is_file());
    files.flat_map(|entry| fs::read(entry.path()).unwrap()).collect()
}

#[test]
fn link_lets_service_fetch_photos_and_leaves_no_trace() {
    let store = Store::with_photos();
    let script = r#"{"calls":[1],"fault":"throttle"} {"calls":[2],"fault":"reset_after"}"#;
    store.service.sandbox.set_faults(Script::parse(script).unwrap());
    let run = |extra: &[&str]| {
        let mut run = store.run("oss://faces/photos/");
        run.args(["--send", "link", "--json=items", "-vv", "--log-file"]).arg(store.dir.path().join("run.log"));
        run.args(extra).end()
    };
    let ended = run(&[]);
    ended.is(0, &[("enrolled", 6)]);
    assert_eq!(store.calls(Action::GetObject), 0, "no photo passes the client");
    assert_eq!(store.users(), ids());
    for record in store.service.sandbox.records() {
        use sha2::Digest as _;
        let sent = hex::encode(sha2::Sha256::digest(photo(&record.user, 30_000)));
        assert_eq!(record.picture.unwrap().to_string(), sent, "{}", record.user);
    }
    // The photo is known by its ETag.
    run(&[]).is(0, &[("calls", 0), ("changed", 0)]);
    store.put("photos/u1.jpg", photo("u1 again", 30_000));
    run(&[]).is(0, &[("calls", 0), ("changed", 1)]);
    run(&["--on-change", "replace"]).is(0, &[("calls", 1), ("changed", 0), ("enrolled", 6)]);
    let report = store.dir.path().join("report.html");
    let mut command = Enroll::new("report");
    command.arg("--checkpoint").arg(store.checkpoint()).args(["--show-ids", "-o"]).arg(&report);
    assert_eq!(command.end().code, Some(0));
    let exported = format!("{:?}", export(&store.checkpoint(), &[]));
    let all = [&traces(store.dir.path())[..], ended.stdout.as_bytes(), ended.stderr.as_bytes(), exported.as_bytes()];
    let all = String::from_utf8_lossy(&all.concat()).to_lowercase();
    assert!(all.contains("oss://faces/photos/u1.jpg"), "the search finds what is there");
    for secret in ["x-oss-signature", "x-oss-credential", "x-oss-expires", "/faces/photos/u1.jpg?"] {
        assert!(!all.contains(secret), "{secret}");
    }
}

#[test]
fn links_that_service_cannot_fetch_stop_run() {
    let store = Store::new();
    for n in 0..60 {
        store.put(&format!("p/u{n:02}.jpg"), photo(&format!("u{n:02}"), 20_000));
    }
    let fault = r#"{"fault":"code","status":401,"code":"DownloadTimeout","message":"cannot fetch"}"#;
    store.service.sandbox.set_faults(Script::parse(fault).unwrap());
    let mut run = store.run("oss://faces/p/");
    let ended = run.args(["--send", "link"]).end();
    let summary = ended.is(7, &[("enrolled", 0), ("rejected", 0), ("in_doubt", 0), ("total", 60)]);
    assert!(ended.stderr.contains("DownloadTimeout"), "{ended:#?}");
    assert!(summary["calls"].as_u64().unwrap() < 60, "{summary:#}");
}

#[test]
fn doctor_asks_for_both_permissions_of_a_bucket() {
    let store = Store::with_photos();
    let doctor = |source: &str| {
        let mut doctor = Enroll::new("doctor");
        doctor.args([source, "--json", "--group", crate::support::GROUP]);
        doctor.args(["--endpoint", &store.service.sandbox.endpoint()]);
        doctor.args(["--upload-endpoint", &store.service.sandbox.endpoint()]);
        doctor.args(["--oss-endpoint", &store.service.sandbox.endpoint()]);
        doctor
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", store.service.sandbox.access_key_id())
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", store.service.sandbox.access_key_secret())
            .env("XDG_STATE_HOME", store.dir.path());
        let ended = doctor.end();
        let verdict = |check: &str| {
            let lines = ended.stdout.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
            let line = lines.into_iter().find(|line| line["check"] == check);
            line.map(|line| line["verdict"].as_str().unwrap().to_owned()).unwrap_or_default()
        };
        (verdict("listing"), verdict("object"), ended.code)
    };
    let is = |listing: &str, object: &str| (listing.to_owned(), object.to_owned());
    let of = |found: (String, String, Option<i32>)| (found.0, found.1);
    assert_eq!(of(doctor("oss://faces/photos/")), is("ok", "ok"));
    assert_eq!(of(doctor("oss://faces/nothing/")), is("ok", "warn"));
    for (action, expected) in [("ListObjects", is("fail", "skipped")), ("GetObject", is("ok", "fail"))] {
        let script =
            format!(r#"{{"action":"{action}","fault":"code","status":403,"code":"AccessDenied","message":"m"}}"#);
        store.service.sandbox.set_faults(Script::parse(&script).unwrap());
        let found = doctor("oss://faces/photos/");
        assert_eq!(found.2, Some(7), "{action}");
        assert_eq!(of(found), expected, "{action}");
    }
}
