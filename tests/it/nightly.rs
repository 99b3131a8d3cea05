//! Repeated runs of one archive: unchanged rows cost nothing, new rows are added, and a new photo of an enrolled person is
//! counted or replaces the old one.

use std::{collections::BTreeSet, fs, process::Stdio, time::Duration};

use face_enroll::sandbox::{Action, Record, Script};

use crate::support::{Archive, Ended, Enroll, GROUP, Service, codes, export, photo};

/// Records of a user: ids and photos.
fn records(service: &Service, user: &str) -> Vec<Record> {
    service.sandbox.records().into_iter().filter(|record| record.user == user).collect()
}

/// SHA-256 of the photos of a user's records.
fn photos(service: &Service, user: &str) -> Vec<String> {
    records(service, user).iter().map(|record| record.picture.unwrap().to_string()).collect()
}

/// One person who is enrolled with an older photo, and the digest of the new one.
fn one_changed() -> (Archive, Service, String) {
    let (archive, service) = (Archive::of(1, 0), Service::new());
    service.run(&archive).end().is(0, &[("calls", 1)]);
    let digest = change(&archive, "u00001");
    (archive, service, digest)
}

/// Writes another photo under the same name.
fn change(archive: &Archive, user: &str) -> String {
    let another = photo(&format!("{user} a year later"), 0);
    fs::write(archive.path().join(format!("photos/{user}.jpg")), &another).unwrap();
    hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&another))
}

fn replace_with(service: &Service, archive: &Archive, args: &[&str]) -> Ended {
    service.run(archive).args(["--on-change", "replace"]).args(args).end()
}

#[test]
fn unchanged_archive_costs_nothing() {
    let archive = Archive::of(10, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 10), ("calls", 10)]);
    // Unreadable files prove that none is read: size and time are known without reading.
    for user in &archive.users {
        let path = archive.path().join(format!("photos/{user}.jpg"));
        let before = path.metadata().unwrap();
        fs::write(&path, vec![0; before.len() as usize]).unwrap();
        fs::File::options().append(true).open(&path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    }
    let ended = service.run(&archive).end();
    ended.is(0, &[("enrolled", 10), ("calls", 0), ("queries", 0), ("changed", 0)]);
    assert!(ended.stderr.contains("nothing to do: 10 already enrolled, 0 calls"), "{}", ended.stderr);
}

#[test]
fn touched_or_moved_file_is_the_same_photo() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("calls", 3)]);
    let path = |name: &str| archive.path().join("photos").join(name);
    let touched = fs::read(path("u00001.jpg")).unwrap();
    fs::write(path("u00001.jpg"), touched).unwrap();
    fs::rename(path("u00002.jpg"), path("moved.jpg")).unwrap();
    archive
        .write("path,merchant_user_id\nphotos/u00001.jpg,u00001\nphotos/moved.jpg,u00002\nphotos/u00003.jpg,u00003\n");
    for _ in 0..2 {
        service.run(&archive).args(["--on-change", "replace"]).end().is(0, &[("calls", 0), ("changed", 0)]);
    }
    let rows = export(&archive.checkpoint(), &[]);
    assert!(rows.iter().any(|row| row["path"].as_str().unwrap().ends_with("photos/moved.jpg")), "{rows:#?}");
}

#[test]
fn changed_new_and_vanished_rows_are_counted() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("calls", 4)]);
    change(&archive, "u00002");
    let manifest = fs::read_to_string(archive.manifest()).unwrap().replace("photos/u00004.jpg,u00004\n", "");
    fs::write(archive.path().join("photos/new.jpg"), photo("new", 0)).unwrap();
    archive.write(&(manifest + "photos/new.jpg,u00005\n"));
    for calls in [1, 0] {
        let ended = service.run(&archive).end();
        ended.is(0, &[("total", 5), ("enrolled", 5), ("calls", calls), ("changed", 1), ("vanished", 1)]);
        assert!(ended.stderr.contains("1 enrolled with another photo"), "{}", ended.stderr);
    }
    // Restore the old photo.
    fs::write(archive.path().join("photos/u00002.jpg"), photo("u00002", 0)).unwrap();
    service.run(&archive).end().is(0, &[("calls", 0), ("changed", 0)]);
}

#[test]
fn vanished_rejected_row_does_not_raise_the_exit_code() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    for user in ["u00002", "u00003"] {
        fs::write(archive.path().join(format!("photos/{user}.jpg")), "no photo").unwrap();
    }
    service.run(&archive).end().is(6, &[("enrolled", 2), ("rejected", 2)]);
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    let without = |user: &str, manifest: &str| manifest.replace(&format!("photos/{user}.jpg,{user}\n"), "");
    let manifest = without("u00002", &manifest);
    archive.write(&manifest);
    service.run(&archive).end().is(6, &[("rejected", 2), ("vanished", 1)]);
    archive.write(&without("u00003", &manifest));
    for _ in 0..2 {
        let summary = service.run(&archive).end().is(0, &[("total", 4), ("rejected", 2), ("vanished", 2)]);
        let reason = summary["exit_reason"].as_str().unwrap();
        assert_eq!(reason, "Finished; 2 rows are rejected, but no longer in the manifest");
    }
    // Named again, it counts again.
    archive.write(&manifest);
    service.run(&archive).end().is(6, &[("rejected", 2), ("vanished", 1)]);
}

#[test]
fn repeated_row_is_a_warning_in_check_and_run() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    let again = "photos/../photos/u00001.jpg,u00001\nphotos/u00002.jpg,u00002\n";
    archive.write(&(manifest.clone() + again));
    let check = Enroll::new("check").arg(archive.manifest()).args(["--group", GROUP]).end();
    assert_eq!(check.code, Some(0), "{check:#?}");
    for line in ["row 4: warning: RepeatedRow: row 2 has", "row 5: warning: RepeatedRow: row 3 has", "2 rows: 2 would"]
    {
        assert!(check.stdout.contains(line), "{line}: {check:#?}");
    }
    for calls in [2, 0] {
        let ended = service.run(&archive).end();
        ended.is(0, &[("total", 2), ("enrolled", 2), ("rejected", 0), ("calls", calls)]);
        assert!(ended.stderr.contains("rows that repeat an earlier one"), "{}", ended.stderr);
        assert!(ended.stderr.contains("rows=2"), "{}", ended.stderr);
    }
    // Another photo or another group is no repetition.
    let other = "photos/u00002.jpg,u00001\n";
    archive.write(&(manifest + other));
    let check = Enroll::new("check").arg(archive.manifest()).args(["--group", GROUP]).end();
    assert!(check.code == Some(6) && check.stdout.contains("row 4: DuplicateUserId"), "{check:#?}");
    service.run(&archive).end().is(6, &[("total", 3), ("enrolled", 2), ("rejected", 1), ("calls", 0)]);
}

#[test]
fn row_reopened_by_hand_and_rejected_again_is_new() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    fs::write(archive.path().join("photos/u00002.jpg"), "no photo").unwrap();
    service.run(&archive).end().is(6, &[("rejected", 1)]);
    let run = || service.run(&archive).args(["--exit-on", "new"]).end();
    run().is(0, &[("rejected", 1)]);
    let retry = Enroll::new("retry").arg(archive.manifest()).args(["--status", "rejected"]).end();
    assert_eq!(retry.code, Some(0), "{retry:#?}");
    run().is(6, &[("rejected", 1), ("calls", 0)]);
    run().is(0, &[("rejected", 1)]);
}

#[test]
fn new_url_signature_is_not_a_new_photo() {
    let archive = Archive::of(0, 0);
    let service = Service::new();
    let link = |link: &str| archive.write(&format!("url,merchant_user_id\n{link},u1\n"));
    link("https://bucket.example/a.jpg?Signature=1");
    service.run(&archive).end().is(0, &[("calls", 1)]);
    link("https://bucket.example/a.jpg?Signature=2");
    service.run(&archive).end().is(0, &[("calls", 0), ("changed", 0)]);
    link("https://bucket.example/b.jpg?Signature=3");
    service.run(&archive).end().is(0, &[("calls", 0), ("changed", 1)]);
    let ended = service.run(&archive).args(["--on-change", "replace"]).end();
    assert!(!ended.stderr.contains("Signature"), "{}", ended.stderr);
}

#[test]
fn new_photo_replaces_old_record() {
    let archive = Archive::of(5, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("calls", 5)]);
    let old = records(&service, "u00003");
    let digest = change(&archive, "u00003");
    let ended = service.run(&archive).args(["--on-change", "replace"]).end();
    ended.is(0, &[("enrolled", 5), ("calls", 1), ("changed", 0)]);
    let new = records(&service, "u00003");
    assert_eq!(new.len(), 1, "{new:?}");
    assert_ne!(new[0].id, old[0].id);
    assert_eq!(new[0].picture.unwrap().to_string(), digest);
    // In this order, and by record id: never the call that deletes a user from every group.
    let actions: Vec<String> = service.sandbox.journal().iter().filter_map(|arrival| arrival.action.clone()).collect();
    let expected = ["QueryFaceRecord", "AddFaceRecord", "QueryFaceRecord", "DeleteFaceRecord", "QueryFaceRecord"];
    assert_eq!(actions[5..], expected);
    service.run(&archive).args(["--on-change", "replace"]).end().is(0, &[("calls", 0), ("queries", 0)]);
}

#[test]
fn new_photo_replaces_more_than_a_page_of_records() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("calls", 2)]);
    for _another in 0..12 {
        service.sandbox.insert_record(GROUP, "u00001", jiff::Timestamp::now()).unwrap();
    }
    let digest = change(&archive, "u00001");
    service.run(&archive).args(["--on-change", "replace"]).end().is(0, &[("enrolled", 2), ("calls", 1)]);
    assert_eq!(photos(&service, "u00001"), [digest]);
}

#[test]
fn rejected_replacement_keeps_old_record() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("calls", 2)]);
    let old = records(&service, "u00001");
    change(&archive, "u00001");
    service.sandbox.set_faults(Script::parse(r#"{"user":"u00001","fault":"not_passed"}"#).unwrap());
    service.run(&archive).args(["--on-change", "replace"]).end().is(6, &[("rejected", 1), ("changed", 1)]);
    service.run(&archive).args(["--on-change", "replace"]).end().is(6, &[("calls", 0)]);
    assert_eq!(records(&service, "u00001"), old);
    // A better photo in the next run.
    service.sandbox.set_faults(Script::default());
    fs::write(archive.path().join("photos/u00001.jpg"), photo("u00001, well lit", 0)).unwrap();
    service.run(&archive).args(["--on-change", "replace"]).end().is(0, &[("enrolled", 2), ("changed", 0)]);
    let new = records(&service, "u00001");
    assert!(new.len() == 1 && new[0].id != old[0].id, "{new:?}");
}

#[test]
fn locally_refused_replacement_leaves_person_enrolled() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("calls", 3)]);
    let before = export(&archive.checkpoint(), &[]);
    let path = archive.path().join("photos/u00001.jpg");
    let old = fs::read(&path).unwrap();
    fs::write(&path, &old[..old.len() / 2]).unwrap();
    let replace = || replace_with(&service, &archive, &[]);
    let ended = replace();
    ended.is(0, &[("enrolled", 3), ("rejected", 0), ("newly_enrolled", 0), ("changed", 1)]);
    assert!(ended.stderr.contains("the new photo of an enrolled person is refused"), "{ended:#?}");
    let row = &export(&archive.checkpoint(), &[])[0];
    assert_eq!((row["status"].as_str(), row["code"].as_str()), (Some("enrolled"), Some("NewPhotoRefused")));
    assert!(row["message"].as_str().unwrap().contains("(Truncated)"), "{row}");
    assert_eq!((&row["enrolled_at"], &row["sha256"]), (&before[0]["enrolled_at"], &before[0]["sha256"]));
    let report = Enroll::new("report").arg(archive.manifest()).end();
    assert!(report.stdout.contains("NewPhotoRefused"), "{report:#?}");
    replace().is(0, &[("enrolled", 3), ("queries", 0)]);
    // Under other rules it may pass.
    replace_with(&service, &archive, &["--fit", "always"]).is(0, &[("queries", 1), ("changed", 1)]);
    // The old photo is back, or a good one is there.
    fs::write(&path, old).unwrap();
    replace().is(0, &[("calls", 0), ("changed", 0)]);
    assert!(export(&archive.checkpoint(), &[])[0]["code"].is_null());
    change(&archive, "u00001");
    replace().is(0, &[("calls", 1), ("changed", 0)]);
    assert_eq!((service.records().len(), records(&service, "u00001").len()), (3, 1));
}

#[test]
fn faults_during_replacement_leave_one_new_record() {
    for faults in [
        r#"{"calls":[1],"fault":"reset_after"}"#,
        r#"{"calls":[1],"fault":"reset_before"}"#,
        r#"{"calls":[1],"fault":"html","executed":true}"#,
        r#"{"calls":[1,2],"fault":"throttle"}"#,
        r#"{"action":"QueryFaceRecord","calls":[1,2],"fault":"unavailable"}"#,
        r#"{"action":"QueryFaceRecord","calls":[2],"fault":"query_lag","for_ms":60000}"#,
        r#"{"action":"DeleteFaceRecord","calls":[1],"fault":"reset_after"}"#,
        r#"{"action":"DeleteFaceRecord","calls":[1],"fault":"reset_before"}"#,
        r#"{"action":"DeleteFaceRecord","calls":[1,2],"fault":"internal_error"}"#,
        r#"{"action":"DeleteFaceRecord","calls":[1],"fault":"throttle"}"#,
        r#"{"action":"DeleteFaceRecord","calls":[1],"fault":"html","executed":true,"status":403}"#,
        r#"{"action":"DeleteFaceRecord","calls":[1],"fault":"html","status":200}"#,
        r#"{"action":"DeleteFaceRecord","calls":[1],"fault":"html","executed":true,"status":429}"#,
        r#"{"calls":[1],"fault":"html","executed":true,"status":413}"#,
    ] {
        let (archive, service, digest) = one_changed();
        service.sandbox.set_faults(Script::parse(faults).unwrap());
        service.run(&archive).args(["--on-change", "replace"]).end().is(0, &[("enrolled", 1), ("changed", 0)]);
        assert_eq!(photos(&service, "u00001"), [digest], "{faults}");
    }
}

#[test]
fn endless_throttling_of_deletions_ends_run() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("calls", 2)]);
    change(&archive, "u00001");
    service.sandbox.set_faults(Script::parse(r#"{"action":"DeleteFaceRecord","fault":"throttle"}"#).unwrap());
    let ended = replace_with(&service, &archive, &["--give-up-after", "100ms"]);
    ended.is(10, &[("enrolled", 2), ("calls", 1)]);
    assert_eq!(records(&service, "u00001").len(), 2);
    service.sandbox.set_faults(Script::default());
    service.run(&archive).end().is(0, &[("calls", 0)]);
    assert_eq!(records(&service, "u00001").len(), 1);
}

#[test]
fn old_record_is_deleted_only_after_new_one_is_visible() {
    let (archive, service, _) = one_changed();
    let lag = r#"{"action":"QueryFaceRecord","from":2,"fault":"query_lag","for_ms":60000}"#;
    service.sandbox.set_faults(Script::parse(lag).unwrap());
    let ended = service.run(&archive).args(["--on-change", "replace"]).end();
    ended.is(10, &[("enrolled", 1), ("changed", 0)]);
    assert!(ended.stderr.contains("run again to remove them"), "{}", ended.stderr);
    assert_eq!((records(&service, "u00001").len(), service.calls(Action::DeleteFaceRecord)), (2, 0));
    service.sandbox.set_faults(Script::default());
    service.run(&archive).end().is(0, &[("calls", 0)]);
    assert_eq!(records(&service, "u00001").len(), 1);
}

#[test]
fn restored_checkpoint_queries_superseded_records_again() {
    let (archive, service, _) = one_changed();
    service.sandbox.set_faults(Script::parse(r#"{"fault":"throttle","action":"AddFaceRecord"}"#).unwrap());
    service.run(&archive).args(["--on-change", "replace", "--max-duration", "2s"]).end().is(10, &[("pending", 1)]);
    let backup = fs::read(archive.checkpoint()).unwrap();
    service.sandbox.set_faults(Script::default());
    service.run(&archive).args(["--on-change", "replace"]).end().is(0, &[("enrolled", 1)]);
    fs::write(archive.checkpoint(), backup).unwrap();
    // The backup names the first record, which the service no longer has.
    service.run(&archive).args(["--on-change", "replace", "--after-restore"]).end().is(0, &[("enrolled", 1)]);
    assert_eq!(records(&service, "u00001").len(), 1);
}

#[test]
fn second_change_during_left_over_deletion_is_sent() {
    for slow_query in [1, 2] {
        let (archive, service, _) = one_changed();
        let lag = r#"{"action":"QueryFaceRecord","from":2,"fault":"query_lag","for_ms":60000}"#;
        service.sandbox.set_faults(Script::parse(lag).unwrap());
        service.run(&archive).args(["--on-change", "replace"]).end().is(10, &[("enrolled", 1)]);
        assert_eq!(records(&service, "u00001").len(), 2);
        // The second change is read while the query before the deletion, or after it, is under way.
        let slow = format!(r#"{{"action":"QueryFaceRecord","calls":[{slow_query}],"fault":"slow","delay_ms":1500}}"#);
        service.sandbox.set_faults(Script::parse(&slow).unwrap());
        let newest = photo("u00001 two years later", 0);
        fs::write(archive.path().join("photos/u00001.jpg"), &newest).unwrap();
        service.run(&archive).args(["--on-change", "replace"]).end().is(0, &[("enrolled", 1), ("changed", 0)]);
        let newest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&newest));
        assert_eq!(photos(&service, "u00001"), [newest], "{slow_query}");
    }
}

#[test]
fn kill_during_replacement_leaves_everyone_one_record() {
    let archive = Archive::of(12, 0);
    let service = Service::with_quota(200, Duration::from_millis(5));
    service.run(&archive).args(["--qps", "200"]).end().is(0, &[("calls", 12)]);
    let digests: BTreeSet<String> = archive.users.iter().map(|user| change(&archive, user)).collect();
    let mut random = fastrand::Rng::with_seed(7);
    for point in [
        "intent.after_commit:4",
        "send.after:3",
        "outcome.after_commit:5",
        "removal.intended:2",
        "removal.before:2",
        "removal.after:2",
        "",
    ] {
        let mut enroll = service.run(&archive);
        enroll.args(["--qps", "200", "--on-change", "replace"]);
        if point.is_empty() {
            let mut child = enroll.command().stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            std::thread::sleep(Duration::from_millis(random.u64(30..200)));
            child.kill().unwrap();
            child.wait().unwrap();
        } else {
            assert_eq!(enroll.env("FACE_ENROLL_CRASH", point).end().code, None, "it lives on behind {point}");
        }
        for user in &archive.users {
            assert!(!records(&service, user).is_empty(), "{user} has no record behind {point}");
        }
    }
    let ended = service.run(&archive).args(["--qps", "200", "--on-change", "replace"]).end();
    ended.is(0, &[("enrolled", 12), ("changed", 0)]);
    let photos: Vec<String> =
        service.sandbox.records().iter().map(|record| record.picture.unwrap().to_string()).collect();
    assert_eq!(photos.len(), 12, "someone has two records");
    assert_eq!(photos.into_iter().collect::<BTreeSet<_>>(), digests);
    assert!(service.records().keys().all(|user| archive.users.contains(user)));
}

#[test]
fn vanished_row_is_not_sent_by_later_runs() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    service.run(&archive).args(["--max-images", "1"]).end().is(8, &[("enrolled", 1)]);
    // Photos are prepared concurrently, so the order of sending is not known.
    let sent = service.records();
    let gone = archive.users.iter().find(|user| !sent.contains_key(*user)).unwrap();
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&manifest.replace(&format!("photos/{gone}.jpg,{gone}\n"), ""));
    service.run(&archive).args(["--max-images", "1"]).end().is(8, &[("enrolled", 2), ("vanished", 1)]);
    for _ in 0..2 {
        service.run(&archive).end().is(0, &[("enrolled", 3), ("pending", 1), ("vanished", 1)]);
    }
    assert!(!service.records().contains_key(gone));
}

#[test]
fn kill_while_rereading_manifest_loses_nothing() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    service.run(&archive).args(["--max-images", "3"]).end().is(8, &[("enrolled", 3)]);
    let user = service.records().into_keys().next().unwrap();
    change(&archive, &user);
    for point in ["ingest.before_commit:1", "commit.before:3", "commit.after:3"] {
        assert_eq!(
            service.run(&archive).env("FACE_ENROLL_CRASH", point).end().code,
            None,
            "it lives on behind {point}"
        );
    }
    let ended = service.run(&archive).args(["--settle", "200ms"]).end();
    ended.is(0, &[("total", 4), ("enrolled", 4), ("changed", 1)]);
    assert!(service.records().values().all(|records| *records == 1), "{:?}", service.records());
}

/// The photo of a call that was not executed is not that of the record.
#[test]
fn photo_that_was_only_intended_is_sent_after_a_refused_one() {
    let (archive, service, digest) = one_changed();
    let path = archive.path().join("photos/u00001.jpg");
    let new = fs::read(&path).unwrap();
    service.sandbox.set_faults(Script::parse(r#"{"fault":"throttle","action":"AddFaceRecord"}"#).unwrap());
    let stopped = replace_with(&service, &archive, &["--max-duration", "2s"]);
    stopped.is(10, &[("pending", 1)]);
    service.sandbox.set_faults(Script::default());
    // It is read half copied, then whole.
    fs::write(&path, &new[..new.len() / 2]).unwrap();
    replace_with(&service, &archive, &[]).is(0, &[("enrolled", 1), ("calls", 0)]);
    assert_eq!(codes(&export(&archive.checkpoint(), &[])), ["NewPhotoRefused"].into());
    fs::write(&path, &new).unwrap();
    replace_with(&service, &archive, &[]).is(0, &[("enrolled", 1), ("calls", 1)]);
    assert_eq!(photos(&service, "u00001"), [digest]);
}

#[test]
fn old_records_are_not_forgotten_when_a_later_photo_is_refused() {
    let (archive, service, _) = one_changed();
    service.sandbox.set_faults(Script::parse(r#"{"action":"DeleteFaceRecord","fault":"throttle"}"#).unwrap());
    replace_with(&service, &archive, &["--give-up-after", "100ms"]).is(10, &[("enrolled", 1)]);
    assert_eq!(records(&service, "u00001").len(), 2);
    // The photo is read half copied while the old record can't be deleted.
    let path = archive.path().join("photos/u00001.jpg");
    let newest = photo("u00001 two years later", 0);
    fs::write(&path, &newest[..newest.len() / 2]).unwrap();
    // With one record, the person would count as enrolled; here nobody would remember the other.
    replace_with(&service, &archive, &["--max-duration", "3s"]).is(6, &[("rejected", 1)]);
    service.sandbox.set_faults(Script::default());
    fs::write(&path, &newest).unwrap();
    replace_with(&service, &archive, &[]).is(0, &[("enrolled", 1)]);
    let newest = hex::encode(<sha2::Sha256 as sha2::Digest>::digest(&newest));
    assert_eq!(photos(&service, "u00001"), [newest]);
}
