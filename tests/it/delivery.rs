//! The three ways of sending: inline, by a link, as a file that is uploaded first.

use std::fs;

use face_enroll::sandbox::{Action, Script, Settings};

use crate::support::{Archive, Service, export, photo};

/// Photos above 1 MB, which nothing may be done to.
fn large(people: usize) -> Archive {
    Archive::of(people, 1_500_000)
}

#[test]
fn unfitted_photos_above_1_mb_are_uploaded_unchanged() {
    let archive = large(6);
    let service = Service::new();
    let mut enroll = service.run(&archive);
    enroll.args(["--fit", "never"]).end().is(0, &[("enrolled", 6), ("calls", 6)]);
    service.holds_exactly(&archive);
    assert_eq!((service.calls(Action::AuthorizeFileUpload), service.calls(Action::PostObject)), (6, 6));
    let inline = service
        .run(&archive)
        .args(["--fit", "never", "--send", "inline", "--checkpoint"])
        .arg(archive.path().join("inline.sqlite"))
        .end();
    inline.is(6, &[("rejected", 6), ("calls", 0)]);
}

#[test]
fn send_upload_uploads_every_photo() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    let mut enroll = service.run(&archive);
    enroll.args(["--send", "upload"]).end().is(0, &[("enrolled", 3)]);
    service.holds_exactly(&archive);
    assert_eq!(service.calls(Action::PostObject), 3);

    let archive = large(2);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 2)]);
    assert_eq!(service.calls(Action::PostObject), 0);
    assert!(service.sandbox.records().iter().all(|record| record.picture_bytes.unwrap() < 1_000_000));
    let rows = export(&archive.checkpoint(), &[]);
    let original = |user: &str| archive.photos[user].clone();
    assert!(rows.iter().all(|row| row["sha256"] == original(row["merchant_user_id"].as_str().unwrap())), "{rows:#?}");
}

#[test]
fn endless_throttling_of_uploads_ends_run() {
    let archive = Archive::of(3, 0);
    let service = Service::failing(r#"{"action": "AuthorizeFileUpload", "fault": "throttle"}"#);
    let ended = service.run(&archive).args(["--send", "upload", "--give-up-after", "100ms"]).end();
    ended.is(10, &[("calls", 0), ("pending", 3)]);
    service.sandbox.set_faults(Script::default());
    service.run(&archive).args(["--send", "upload"]).end().is(0, &[("enrolled", 3)]);
}

#[test]
fn face_quality_check_is_sent_only_if_given() {
    let archive = Archive::of(2, 0);
    let mut manifest = fs::read_to_string(archive.manifest()).unwrap().replace("path,", "path,url,");
    manifest = manifest.replace(".jpg,", ".jpg,,") + ",https://photos.example/3.jpg,u00003\n";
    archive.write(&manifest);
    for (flags, expected) in [
        (&[][..], None),
        (&["--face-quality-check", "Y"], Some("Y")),
        (&["--face-quality-check=N", "--send=upload"], Some("N")),
    ] {
        let service = Service::new();
        let checkpoint = tempfile::tempdir().unwrap();
        let mut run = service.run(&archive);
        run.args(flags).arg("--checkpoint").arg(checkpoint.path().join("c.sqlite")).end().is(0, &[("enrolled", 3)]);
        let calls = service.sandbox.journal();
        let sent: Vec<_> = calls.iter().filter(|call| call.user.is_some()).map(|call| &call.quality_check).collect();
        assert!(sent.len() == 3 && sent.iter().all(|sent| sent.as_deref() == expected), "{flags:?}: {sent:?}");
    }
    let refused = Service::new().run(&archive).args(["--face-quality-check", "yes"]).end();
    assert_eq!(refused.code, Some(2), "{refused:#?}");
}

#[test]
fn upload_faults_leave_no_wrong_record() {
    for faults in [
        r#"{"action":"AuthorizeFileUpload","calls":[1,2],"fault":"throttle","retry_after_ms":50}"#,
        r#"{"action":"AuthorizeFileUpload","calls":[1],"fault":"internal_error"}"#,
        r#"{"action":"AuthorizeFileUpload","calls":[1],"fault":"html"}"#,
        r#"{"action":"AuthorizeFileUpload","calls":[2],"fault":"reset_before"}"#,
        r#"{"action":"AuthorizeFileUpload","calls":[1],"fault":"truncated"}"#,
        r#"{"action":"PostObject","calls":[1],"fault":"internal_error"}"#,
        r#"{"action":"PostObject","calls":[1],"fault":"reset_before"}"#,
        r#"{"action":"PostObject","calls":[1],"fault":"reset_after"}"#,
        r#"{"action":"PostObject","calls":[2],"fault":"truncated"}"#,
        r#"{"action":"PostObject","calls":[1],"fault":"html","status":200}"#,
        r#"{"action":"PostObject","calls":[1],"fault":"html","status":413}"#,
        r#"{"action":"AuthorizeFileUpload","calls":[1],"fault":"html","status":403}"#,
        r#"{"action":"PostObject","calls":[1],"fault":"code","status":403,"code":"AccessDenied","message":"Invalid according to Policy: Policy expired."}"#,
        r#"{"action":"PostObject","calls":[1],"fault":"code","status":503,"code":"SlowDown","message":"slow down"}"#,
        r#"{"calls":[1],"fault":"throttle"}"#,
        r#"{"calls":[1],"fault":"reset_after"}"#,
    ] {
        let archive = large(3);
        let service = Service::with(Settings { faults: Script::parse(faults).unwrap(), ..Settings::default() });
        let mut enroll = service.run(&archive);
        let ended = enroll.args(["--fit", "never"]).end();
        assert_eq!(ended.code, Some(0), "{faults}: {ended:#?}");
        service.holds_exactly(&archive);
    }
}

#[test]
fn throttled_call_names_the_uploaded_file_again() {
    let archive = large(1);
    let faults = Script::parse(r#"{"calls":[1,2,3],"fault":"throttle"}"#).unwrap();
    let service = Service::with(Settings { faults, ..Settings::default() });
    let mut enroll = service.run(&archive);
    enroll.args(["--fit", "never"]).end().is(0, &[("calls", 4), ("throttled", 3)]);
    assert_eq!(service.calls(Action::PostObject), 1);
}

#[test]
fn failing_upload_fails_the_item_and_forbidden_upload_stops() {
    let archive = large(2);
    let service = Service::new();
    let always = r#"{"action":"PostObject","fault":"code","status":403,"code":"AccessDenied","message":"no"}"#;
    service.sandbox.set_faults(Script::parse(always).unwrap());
    let mut enroll = service.run(&archive);
    enroll.args(["--fit", "never", "--retries", "2"]).end().is(5, &[("failed", 2), ("calls", 0)]);
    let rows = export(&archive.checkpoint(), &[]);
    assert!(
        rows.iter()
            .all(|row| row["code"] == "UploadFailed" && row["message"].as_str().unwrap().contains("AccessDenied"))
    );

    let denied = r#"{"action":"AuthorizeFileUpload","fault":"permission"}"#;
    service.sandbox.set_faults(Script::parse(denied).unwrap());
    let other = archive.path().join("other.sqlite");
    let mut enroll = service.run(&archive);
    let ended = enroll.args(["--fit", "never", "--checkpoint"]).arg(&other).end();
    ended.is(7, &[("pending", 2), ("calls", 0)]);
    assert!(ended.stderr.contains("AuthorizeFileUpload"), "{}", ended.stderr);
    assert!(service.sandbox.records().is_empty());
}

#[test]
fn links_are_passed_through_and_their_signatures_shown_nowhere() {
    let archive = Archive::of(0, 0);
    fs::write(archive.path().join("a.jpg"), photo("a", 0)).unwrap();
    archive.write(
        "url,path,merchant_user_id\nhttps://b.example/p.jpg?Expires=1&Signature=CANARY%2Bx,,u1\n,a.jpg,u2\nftp://b.example/x?CANARY,,u3\n",
    );
    let service = Service::new();
    let ended = service.run(&archive).args(["-vv", "--json=items"]).env("RUST_LOG", "trace").end();
    ended.is(6, &[("enrolled", 2), ("rejected", 1)]);
    assert!(!ended.stdout.contains("CANARY") && !ended.stderr.contains("CANARY"), "{ended:#?}");
}
