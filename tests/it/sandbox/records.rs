//! Records and journal on disk.

use std::{fs, path::Path};

use face_enroll::sandbox::{Sandbox, SandboxError, Settings};
use serde_json::Value;

use super::client::{GROUP, Request};

fn settings(dir: &Path) -> Settings {
    Settings {
        records: Some(dir.join("records.jsonl")),
        journal: Some(dir.join("journal.jsonl")),
        ..Settings::default()
    }
}

fn lines(path: &Path) -> Vec<Value> {
    fs::read_to_string(path).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test]
async fn record_is_in_the_file_before_its_response() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(settings(dir.path())).await.unwrap();
    for (count, user) in ["u1", "张 三"].into_iter().enumerate() {
        Request::add(&sandbox, user).send(&sandbox).await;
        assert_eq!(lines(&dir.path().join("records.jsonl")).len(), count + 1);
    }
    let mut before = sandbox.records();
    sandbox.shutdown().await;

    let sandbox = Sandbox::start(settings(dir.path())).await.unwrap();
    before.iter_mut().for_each(|record| record.created_after = None);
    assert_eq!(sandbox.records(), before);
    assert_eq!(Request::find(&sandbox, "张 三").send(&sandbox).await.total(), 1);
    let delete = Request::new(&sandbox, "DeleteFaceRecord").form("Id", &before[0].id.to_string());
    delete.send(&sandbox).await;
    sandbox.shutdown().await;
    assert_eq!(Sandbox::start(settings(dir.path())).await.unwrap().records(), before[1..]);
}

#[tokio::test]
async fn default_credentials_survive_a_restart() {
    let (first, second) =
        (Sandbox::start(Settings::default()).await.unwrap(), Sandbox::start(Settings::default()).await.unwrap());
    assert_eq!(
        (first.access_key_id(), first.access_key_secret()),
        (second.access_key_id(), second.access_key_secret())
    );
    assert!(!first.access_key_id().starts_with("LTAI"), "must not look like a real key");
}

#[tokio::test]
async fn two_sandboxes_never_share_a_records_file() {
    let dir = tempfile::tempdir().unwrap();
    let _first = Sandbox::start(settings(dir.path())).await.unwrap();
    assert!(matches!(Sandbox::start(settings(dir.path())).await, Err(SandboxError::InUse(_))));
}

#[tokio::test]
async fn journal_has_a_line_per_call() {
    let dir = tempfile::tempdir().unwrap();
    let sandbox = Sandbox::start(settings(dir.path())).await.unwrap();
    Request::add(&sandbox, "u1").send(&sandbox).await;
    let mut rejected = Request::add(&sandbox, "u2");
    rejected.secret = "wrong".into();
    rejected.send(&sandbox).await;
    let lines = lines(&dir.path().join("journal.jsonl"));
    assert_eq!(lines.len(), 2);
    let (good, bad) = (&lines[0], &lines[1]);
    assert_eq!(
        (&good["seq"], &good["action"], &good["user"], &good["group"]),
        (&0.into(), &"AddFaceRecord".into(), &"u1".into(), &GROUP.into())
    );
    assert_eq!((&good["admitted"], &good["ending"]["answered"]["code"]), (&true.into(), &"Success".into()));
    assert_eq!(good["record"], sandbox.records()[0].id);
    assert_eq!(good["picture"], sandbox.records()[0].picture.unwrap().to_string());
    assert!(good["at_us"].is_u64() && good["wall"].is_string() && good["nonce"].is_string());
    assert_eq!(
        (&bad["admitted"], &bad["record"], &bad["ending"]["answered"]["code"]),
        (&false.into(), &Value::Null, &"SignatureDoesNotMatch".into())
    );
}
