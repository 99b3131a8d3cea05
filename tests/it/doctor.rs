//! `doctor`: what is wrong is named, with what to do, and nothing is made or written.

use std::time::Duration;

use face_enroll::sandbox::{Action, Settings};
use serde_json::Value;

use crate::support::{Archive, Ended, Enroll, GROUP, Service};

fn doctor(service: &Service, args: &[&str]) -> Enroll {
    let mut enroll = Enroll::new("doctor");
    enroll
        .args(["--endpoint", &service.sandbox.endpoint(), "--upload-endpoint", &service.sandbox.endpoint(), "--json"])
        .args(args)
        .env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id())
        .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret());
    enroll
}

/// (check, verdict) of each, in their order.
fn verdicts(ended: &Ended) -> Vec<(String, String)> {
    let lines: Vec<Value> = ended.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (last, checks) = lines.split_last().unwrap();
    assert_eq!(last["type"], "doctor", "{last}");
    assert_eq!(last["exit_code"].as_i64(), ended.code.map(i64::from), "{last}");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    checks.iter().map(|check| (text(&check["check"]), text(&check["verdict"]))).collect()
}

fn verdict(ended: &Ended, check: &str) -> String {
    let found = verdicts(ended).into_iter().find(|(name, _)| name == check);
    found.unwrap_or_else(|| panic!("no {check} in {ended:#?}")).1
}

#[test]
fn doctor_passes_and_changes_nothing() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 2)]);
    let before = std::fs::read(archive.checkpoint()).unwrap();
    let ended = doctor(&service, &["--group", GROUP]).arg(archive.manifest()).end();
    let checks = ["credentials", "endpoint", "network", "clock", "signature", "group", "records", "upload"];
    let mut expected: Vec<(String, String)> = checks.map(|check| (check.to_owned(), "ok".to_owned())).into();
    expected.push(("enrolling".into(), "skipped".into()));
    expected
        .extend(["source", "checkpoint", "quota", "disk", "faces"].map(|check| (check.to_owned(), "ok".to_owned())));
    assert_eq!(verdicts(&ended), expected, "{ended:#?}");
    assert_eq!(ended.code, Some(0));
    assert!(ended.stdout.contains("2 in the group"), "{}", ended.stdout);
    assert_eq!(std::fs::read(archive.checkpoint()).unwrap(), before);
    assert_eq!((service.calls(Action::AddFaceRecord), service.records().len()), (2, 2));
}

#[test]
fn what_is_wrong_is_named_with_its_remedy() {
    let service = Service::new();
    let ended = doctor(&service, &[]).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "").end();
    assert_eq!((ended.code, verdict(&ended, "credentials").as_str()), (Some(7), "fail"), "{ended:#?}");
    let ended = doctor(&service, &[]).env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "wrong").end();
    assert_eq!((ended.code, verdict(&ended, "signature").as_str()), (Some(7), "fail"), "{ended:#?}");
    assert!(ended.stdout.contains("\"remedy\":\"check ALIBABA_CLOUD_ACCESS_KEY_SECRET"), "{}", ended.stdout);
    let ended = doctor(&service, &["--group", "nobody"]).end();
    assert_eq!((ended.code, verdict(&ended, "group").as_str()), (Some(7), "fail"), "{ended:#?}");
    let ended = doctor(&service, &["--endpoint", "http://127.0.0.1:9"]).end();
    assert_eq!((ended.code, verdict(&ended, "network").as_str()), (Some(7), "fail"), "{ended:#?}");
    let ended = Enroll::new("doctor").end();
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stdout.contains("FAIL  endpoint"), "{}", ended.stdout);
    assert!(ended.stdout.contains("--region ap-southeast-1"), "{}", ended.stdout);
}

#[test]
fn source_is_read_as_a_run_would() {
    let service = Service::new();
    let archive = Archive::of(1, 0);
    let manifest = "portrait;employee\nphotos/u00001.jpg;u00001\n";
    archive.write(manifest);
    let tested = |args: &[&str]| {
        let ended = doctor(&service, args).arg(archive.manifest()).end();
        (ended.code, verdict(&ended, "source"))
    };
    let columns = ["--column", "path=portrait", "--column", "merchant_user_id=employee"];
    assert_eq!(tested(&columns), (Some(0), "ok".to_owned()));
    assert_eq!(tested(&["--column", "path=portrait"]), (Some(2), "fail".to_owned()));
    assert_eq!(tested(&[&columns[..], &["--delimiter", ","]].concat()), (Some(3), "fail".to_owned()));
    archive.write("path,merchant_user_id\n");
    assert_eq!(tested(&[]), (Some(0), "warn".to_owned()));
    archive.write("path,merchant_user_id\n,u1\n../x.jpg,u2\n");
    assert_eq!(tested(&[]), (Some(3), "fail".to_owned()));
    std::fs::remove_file(archive.manifest()).unwrap();
    assert_eq!(tested(&[]), (Some(3), "fail".to_owned()));
    assert_eq!(service.calls(Action::AddFaceRecord), 0);
}

#[test]
fn credentials_follow_official_order() {
    let service = Service::new();
    let home = tempfile::tempdir().unwrap();
    let (id, secret) = (service.sandbox.access_key_id(), service.sandbox.access_key_secret());
    let found = |profile: &str| {
        let mut enroll = doctor(&service, &[]);
        enroll.command().env_remove("ALIBABA_CLOUD_ACCESS_KEY_ID").env_remove("ALIBABA_CLOUD_ACCESS_KEY_SECRET");
        enroll.env("HOME", home.path()).env("ALIBABA_CLOUD_PROFILE", profile).end()
    };
    let ended = found("");
    assert_eq!((ended.code, verdict(&ended, "credentials").as_str()), (Some(7), "fail"), "{ended:#?}");

    std::fs::create_dir(home.path().join(".alibabacloud")).unwrap();
    let ini = format!("[bank]\ntype = access_key\naccess_key_id = {id}\naccess_key_secret = {secret}\n");
    std::fs::write(home.path().join(".alibabacloud/credentials"), ini).unwrap();
    let ended = found("bank");
    assert_eq!((ended.code, verdict(&ended, "signature").as_str()), (Some(0), "ok"), "{ended:#?}");
    assert!(ended.stdout.contains("profile bank of"), "{}", ended.stdout);

    // The CLI's comes before the SDKs'.
    std::fs::create_dir(home.path().join(".aliyun")).unwrap();
    let config = format!(
        r#"{{"current": "bank", "profiles": [{{"name": "bank", "mode": "AK", "access_key_id": "{id}", "access_key_secret": "{secret}"}}]}}"#
    );
    std::fs::write(home.path().join(".aliyun/config.json"), config).unwrap();
    let ended = found("");
    assert_eq!((ended.code, verdict(&ended, "signature").as_str()), (Some(0), "ok"), "{ended:#?}");
    assert!(ended.stdout.contains(".aliyun/config.json"), "{}", ended.stdout);
    assert!(!ended.stdout.contains(&secret) && !ended.stderr.contains(&secret));

    let ended = doctor(&service, &[]).env("HOME", home.path()).end();
    assert!(ended.stdout.contains("from the environment"), "{}", ended.stdout);
}

#[test]
fn doctor_reports_wrong_clock_and_continues() {
    let clock_offset = jiff::SignedDuration::from_hours(2);
    let service = Service::with(Settings { clock_offset, ..Settings::default() });
    let ended = doctor(&service, &["--group", GROUP]).end();
    assert_eq!((verdict(&ended, "clock").as_str(), verdict(&ended, "group").as_str()), ("warn", "ok"), "{ended:#?}");
    assert_eq!(ended.code, Some(0));
}

#[test]
fn damaged_checkpoint_and_learned_rate_are_told() {
    let archive = Archive::of(60, 0);
    let service = Service::with_quota(5, Duration::from_millis(5));
    service.run(&archive).args(["--qps", "50", "--max-images", "25"]).end();
    let ended = doctor(&service, &[]).arg(archive.manifest()).end();
    assert_eq!(verdict(&ended, "quota"), "warn", "{ended:#?}");
    std::fs::write(archive.checkpoint(), [0x55; 8192]).unwrap();
    let ended = doctor(&service, &[]).arg(archive.manifest()).end();
    assert_eq!((ended.code, verdict(&ended, "checkpoint").as_str()), (Some(13), "fail"), "{ended:#?}");
}
