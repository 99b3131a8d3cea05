//! Rows that were rejected or failed, and how they are sent after all.

use std::fs;

use crate::support::{Archive, Enroll, Service, codes, export};

#[test]
fn retry_puts_back_what_is_named_and_nothing_else() {
    let archive = Archive::of(6, 0);
    let service = Service::failing(
        r#"[{"user": "u00001", "times": 2, "fault": "reset_before"},
            {"user": "u00002", "times": 1, "fault": "not_passed"},
            {"user": "u00003", "fault": "code", "status": 401, "code": "NoFaceDetected", "message": "no face"}]"#,
    );
    service.run(&archive).args(["--retries", "2"]).end().is(5, &[("enrolled", 3), ("failed", 1), ("rejected", 2)]);
    let retry = |args: &[&str], expected: &str| {
        let ended = Enroll::new("retry").arg(archive.manifest()).args(args).end();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.stdout.starts_with(expected), "{}", ended.stdout);
    };
    retry(&[], "1 pending");
    service.run(&archive).end().is(6, &[("enrolled", 4), ("rejected", 2), ("calls", 1)]);
    retry(&["--status", "failed,rejected", "--code", "Passed=N"], "1 pending");
    service.run(&archive).end().is(6, &[("enrolled", 5), ("rejected", 1), ("calls", 1)]);
    assert_eq!(Enroll::new("retry").arg(archive.manifest()).args(["--status", "enrolled"]).end().code, Some(2));
    service.holds_exactly_but(&archive, &["u00003"]);
}

#[test]
fn local_refusals_cost_no_call() {
    let samples = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/manifest-with-faults.csv");
    let service = Service::new();
    let checkpoint = tempfile::tempdir().unwrap();
    let checkpoint = checkpoint.path().join("c.sqlite");
    let ended =
        service.run_source(samples.as_ref()).args(["--fit", "never"]).arg("--checkpoint").arg(&checkpoint).end();
    let summary = ended.is(6, &[("total", 14), ("enrolled", 2), ("rejected", 12), ("calls", 2)]);
    let rows = export(&checkpoint, &["--status", "rejected"]);
    assert!(rows.iter().all(|row| row["stage"] == "local"), "{rows:#?}");
    let lines: Vec<u64> = rows.iter().filter_map(|row| row["row"].as_u64()).collect();
    assert_eq!(lines.iter().sum::<u64>(), (3..=14).sum::<u64>(), "{lines:?}");
    let expected = [
        "DuplicateUserId", "Empty", "InvalidUserId", "MissingPicture", "NeedsRotation", "NotFound", "NotJpeg",
        "NotPortrait", "OutsideRoot", "Truncated", "UnclosedQuote", "WrongFieldCount",
    ];
    assert_eq!(codes(&rows).into_iter().collect::<Vec<_>>(), expected, "{summary:#}");
    // Two of them can be made to meet the rules: other rules look at them again.
    let ended = service.run_source(samples.as_ref()).arg("--checkpoint").arg(&checkpoint).end();
    ended.is(6, &[("total", 14), ("enrolled", 4), ("rejected", 10), ("calls", 2)]);
}

#[test]
fn mended_photo_is_sent_by_the_next_run() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    let photo = archive.path().join("photos/u00002.jpg");
    let good = fs::read(&photo).unwrap();
    fs::write(&photo, &good[..1_000]).unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 3), ("rejected", 1)]);
    service.run(&archive).end().is(6, &[("calls", 0)]);
    fs::write(&photo, good).unwrap();
    service.run(&archive).end().is(0, &[("enrolled", 4), ("calls", 1)]);
    service.holds_exactly(&archive);
}

#[test]
fn export_of_rejected_rows_can_be_corrected_and_run() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    let lost = archive.path().join("photos/u00002.jpg");
    let elsewhere = archive.path().join("photos/found.jpg");
    fs::rename(&lost, &elsewhere).unwrap();
    archive.write(
        &fs::read_to_string(archive.manifest())
            .unwrap()
            .replace("merchant_user_id", "merchant_user_id,badge")
            .replace("\n", ",b\n")
            .replacen(",b\n", "\n", 1),
    );
    service.run(&archive).end().is(6, &[("enrolled", 3), ("rejected", 1)]);
    let mended = archive.path().join("mended.csv");
    let ended =
        Enroll::new("export").arg(archive.manifest()).args(["--status", "rejected", "--output"]).arg(&mended).end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let text = fs::read_to_string(&mended).unwrap();
    assert!(text.starts_with(
        "row,source,path,url,merchant_user_id,face_group_code,status,stage,code,message,request_id,attempts,\
         face_quality,sha256,enrolled_at,confirmed_by,badge\n3,"
    ));
    assert!(text.contains(",photos/u00002.jpg,,u00002,sgl0001uc,rejected,local,NotFound,"), "{text}");
    fs::write(&mended, text.replace("u00002.jpg", "found.jpg")).unwrap();
    let ended = service.run_source(&mended).arg("--checkpoint").arg(archive.checkpoint()).end();
    ended.is(0, &[("total", 4), ("enrolled", 4), ("calls", 1)]);
    service.holds_exactly(&archive);
}

#[test]
fn manifest_without_a_usable_row_is_no_source() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    archive.write("path,merchant_user_id\n,a\n,b\n");
    service.run(&archive).end().is(3, &[("total", 2), ("rejected", 2), ("calls", 0)]);
    let empty = Archive::of(0, 0);
    service.run(&empty).end().is(0, &[("total", 0)]);
}

#[test]
fn exit_on_new_ignores_earlier_rejections() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    fs::write(archive.path().join("photos/u00002.jpg"), "no photo").unwrap();
    let run = || service.run(&archive).args(["--exit-on", "new"]).end();
    run().is(6, &[("rejected", 1)]);
    let ended = run();
    ended.is(0, &[("rejected", 1), ("enrolled", 2)]);
    assert!(ended.stderr.contains("all of them by earlier runs"), "{}", ended.stderr);
    service.run(&archive).end().is(6, &[("rejected", 1)]);
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&(manifest + "../out.jpg,u9\n"));
    run().is(6, &[("rejected", 2)]);
    run().is(0, &[("rejected", 2)]);
}
