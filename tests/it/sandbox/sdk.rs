//! The official Python SDK against the sandbox, without the client of this crate.

use std::path::Path;

use face_enroll::sandbox::{Groups, Sandbox, Settings};
use sha2::Digest as _;
use tokio::process::Command;

use super::client::GROUP;
use crate::support::python_with_sdk;

#[tokio::test]
async fn official_sdk_enrols_and_queries_through_the_sandbox() {
    let Some(python) = python_with_sdk() else { return };
    let sandbox = Sandbox::start(Settings { groups: Groups::only([GROUP]), ..Settings::default() }).await.unwrap();
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests");
    let output = Command::new(python)
        .arg(tests.join("sdk/sandbox_with_official_sdk.py"))
        .args([&sandbox.endpoint(), &sandbox.access_key_id(), &sandbox.access_key_secret(), GROUP])
        .arg(tests.join("photos/portrait.jpg"))
        .output()
        .await
        .unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{stdout}\n{stderr}");
    assert!(stdout.trim_end().ends_with(" passed, 0 failed"), "{stdout}");
    assert!(sandbox.records().is_empty(), "the script deletes what it created");
    let photo = face_enroll::domain::Digest(
        sha2::Sha256::digest(std::fs::read(tests.join("photos/portrait.jpg")).unwrap()).into(),
    );
    let arrivals = sandbox.journal();
    for value in ["Y", "N"] {
        let user = format!("quality-{value}");
        let sent = arrivals.iter().find(|call| call.user.as_deref() == Some(&user)).unwrap();
        assert_eq!(sent.quality_check.as_deref(), Some(value));
    }
    let by_file = arrivals.iter().find(|call| call.user.as_deref() == Some("by-file")).unwrap();
    assert_eq!(by_file.picture, Some(photo), "the file is the photo, byte for byte");
}
