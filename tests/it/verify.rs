//! `verify`: what is in doubt is settled without a send, and the checkpoint is held against the service.

use face_enroll::sandbox::{Action, Script};
use serde_json::Value;

use crate::support::{Archive, Ended, Enroll, GROUP, Service, export};

fn verify(service: &Service, archive: &Archive, args: &[&str]) -> Ended {
    let mut enroll = Enroll::new("verify");
    enroll
        .arg(archive.manifest())
        .args(["--endpoint", &service.sandbox.endpoint(), "--query-qps", "1000", "--settle", "60ms", "--json"])
        .args(args)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret());
    enroll.end()
}

fn lines(ended: &Ended) -> Vec<Value> {
    ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// (kind, id, status here, records there) of each difference.
fn differences(ended: &Ended) -> Vec<(String, String, Option<String>, u64)> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    lines(ended)
        .iter()
        .filter(|line| line["type"] == "difference")
        .map(|line| {
            let (kind, user) = (text(&line["kind"]).unwrap(), text(&line["merchant_user_id"]).unwrap());
            (kind, user, text(&line["status"]), line["records"].as_u64().unwrap())
        })
        .collect()
}

#[test]
fn verify_settles_doubts_and_sends_nothing() {
    let archive = Archive::of(6, 0);
    // Two whose record is made, two whose record is not.
    let service =
        Service::failing(r#"[{"calls": [2, 3], "fault": "reset_after"}, {"calls": [4, 5], "fault": "reset_before"}]"#);
    service.run(&archive).args(["--in-doubt", "hold", "--concurrency", "1"]).end().is(12, &[("in_doubt", 4)]);
    let calls = service.calls(Action::AddFaceRecord);
    let ended = verify(&service, &archive, &[]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let line = lines(&ended).pop().unwrap();
    assert_eq!((line["settled"].as_u64(), line["in_doubt"].as_u64()), (Some(4), Some(0)), "{line}");
    assert_eq!((line["enrolled"].as_u64(), line["pending"].as_u64()), (Some(4), Some(2)), "{line}");
    assert_eq!(service.calls(Action::AddFaceRecord), calls, "something was sent");
    service.run(&archive).end().is(0, &[("calls", 2), ("enrolled", 6)]);
    service.holds_exactly(&archive);
}

#[test]
fn unsettled_doubt_exits_12() {
    let archive = Archive::of(2, 0);
    let service = Service::failing(r#"{"calls": [2], "fault": "reset_after"}"#);
    service.run(&archive).args(["--in-doubt", "hold", "--concurrency", "1"]).end().is(12, &[("in_doubt", 1)]);
    service.sandbox.set_faults(Script::parse(r#"{"action": "QueryFaceRecord", "fault": "reset_before"}"#).unwrap());
    let ended = verify(&service, &archive, &["--give-up-after", "1s"]);
    assert_eq!(ended.code, Some(10), "{ended:#?}");
    assert_eq!(lines(&ended).pop().unwrap()["in_doubt"], 1);
    service.sandbox.set_faults(Script::parse(r#"{"action": "QueryFaceRecord", "fault": "permission"}"#).unwrap());
    assert_eq!(verify(&service, &archive, &[]).code, Some(7));
}

#[test]
fn verify_all_names_every_difference() {
    let archive = Archive::of(230, 0);
    let service = Service::new();
    // One row is not sent, for it has no photo.
    std::fs::remove_file(archive.path().join("photos/u00230.jpg")).unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 229), ("rejected", 1)]);
    let ended = verify(&service, &archive, &["--all"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let line = lines(&ended).pop().unwrap();
    assert_eq!((line["in_both"].as_u64(), line["queries"].as_u64()), (Some(229), Some(5)), "{line}");

    // Someone else's tool: one record is gone, one is there twice, a rejected one and a stranger are there.
    let gone = service.sandbox.records().into_iter().find(|record| record.user == "u00007").unwrap();
    assert!(service.sandbox.delete_record(gone.id).unwrap());
    for user in ["u00100", "u00230", "stranger"] {
        service.sandbox.insert_record(GROUP, user, "2026-11-23T00:00:00Z".parse().unwrap()).unwrap();
    }
    let before = std::fs::read(archive.checkpoint()).unwrap();
    let (adds, deletes) = (service.calls(Action::AddFaceRecord), service.calls(Action::DeleteFaceRecord));
    let ended = verify(&service, &archive, &["--all"]);
    assert_eq!(ended.code, Some(12), "{ended:#?}");
    let mut found = differences(&ended);
    found.sort();
    let expected = [
        ("only_here", "u00007", Some("enrolled"), 0),
        ("only_there", "stranger", None, 1),
        ("only_there", "u00230", Some("rejected"), 1),
        ("several", "u00100", Some("enrolled"), 2),
    ];
    let expected: Vec<_> = expected
        .map(|(kind, user, status, records)| (kind.to_owned(), user.to_owned(), status.map(str::to_owned), records))
        .into();
    assert_eq!(found, expected);
    let line = lines(&ended).pop().unwrap();
    let n = |name: &str| line[name].as_u64().unwrap();
    assert_eq!([n("in_both"), n("only_here"), n("only_there"), n("several")], [227, 1, 2, 1], "{line}");
    assert_eq!(std::fs::read(archive.checkpoint()).unwrap(), before, "the checkpoint was changed");
    let after = (service.calls(Action::AddFaceRecord), service.calls(Action::DeleteFaceRecord));
    assert_eq!((adds, deletes), after, "something was changed at the service");
    assert_eq!(export(&archive.checkpoint(), &["--status", "enrolled"]).len(), 229);

    // A sample of everyone finds what concerns those who are enrolled here.
    let ended = verify(&service, &archive, &["--sample", "1000"]);
    assert_eq!((ended.code, differences(&ended).len()), (Some(12), 2), "{ended:#?}");
    let ended = verify(&service, &archive, &["--all", "--group", GROUP]);
    assert_eq!(ended.code, Some(12), "{ended:#?}");
}

#[test]
fn verify_counts_more_than_a_page_of_records() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 3)]);
    for _another in 0..12 {
        service.sandbox.insert_record(GROUP, "u00002", "2026-11-23T00:00:00Z".parse().unwrap()).unwrap();
    }
    let ended = verify(&service, &archive, &["--all"]);
    let found = differences(&ended);
    assert_eq!(found, [("several".to_owned(), "u00002".to_owned(), Some("enrolled".to_owned()), 13)], "{ended:#?}");
}

#[test]
fn comparison_goes_on_through_throttles_and_faults() {
    let archive = Archive::of(120, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 120)]);
    let faults = r#"[{"action": "QueryFaceRecord", "calls": [1, 3], "fault": "throttle"},
        {"action": "QueryFaceRecord", "calls": [2, 5], "fault": "html"}]"#;
    service.sandbox.set_faults(Script::parse(faults).unwrap());
    let ended = verify(&service, &archive, &["--all"]);
    assert_eq!((ended.code, differences(&ended).len()), (Some(0), 0), "{ended:#?}");
    assert_eq!(lines(&ended).pop().unwrap()["in_both"], 120);
}

#[test]
fn verify_works_against_embedded_sandbox() {
    let archive = Archive::of(5, 0);
    assert_eq!(Enroll::new("run").arg(archive.manifest()).arg("--sandbox").end().code, Some(0));
    let ended = Enroll::new("verify").arg(archive.manifest()).arg("--all").end();
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("in both    5"), "{}", ended.stdout);
}

#[test]
fn group_without_rows_is_refused() {
    let (archive, service) = (Archive::of(1, 0), Service::new());
    service.run(&archive).end().is(0, &[("enrolled", 1)]);
    assert_eq!(verify(&service, &archive, &["--all", "--group", GROUP]).code, Some(0));
    let calls = service.calls(Action::QueryFaceRecord);
    let ended = verify(&service, &archive, &["--all", "--group", "other"]);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("no rows of group other") && ended.stderr.contains(GROUP), "{ended:#?}");
    assert_eq!(service.calls(Action::QueryFaceRecord), calls);
}
