//! The file upload: leave, the file, its address.

use std::time::Duration;

use face_enroll::sandbox::{Action, Groups, Sandbox, Script, Settings};
use serde_json::Value;

use super::client::{Answer, Ask, GROUP, JPEG, exchange};

async fn sandbox(settings: Settings) -> Sandbox {
    Sandbox::start(Settings { groups: Groups::only([GROUP]), ..settings }).await.unwrap()
}

fn leave(sandbox: &Sandbox) -> Ask {
    let mut ask = Ask::new(sandbox, "AuthorizeFileUpload").query("Product", "Cloudauth-intl");
    ask.headers.insert("x-acs-version", "2019-12-19".to_owned());
    ask
}

/// The form that puts a file; each field may be bent, and one of no value is left out.
async fn put(sandbox: &Sandbox, leave: &Value, file: &[u8], bent: &[(&str, &str)]) -> Answer {
    let text = |name: &str| leave[name].as_str().unwrap().to_owned();
    let mut fields = [
        ("OSSAccessKeyId", text("AccessKeyId")),
        ("Signature", text("Signature")),
        ("key", text("ObjectKey")),
        ("policy", text("EncodedPolicy")),
        ("success_action_status", "201".to_owned()),
    ];
    for (name, value) in bent {
        fields.iter_mut().find(|(known, _)| known == name).unwrap().1 = (*value).to_owned();
    }
    let mut body = Vec::new();
    for (name, value) in fields.iter().filter(|(_, value)| !value.is_empty()) {
        body.extend(format!("--B\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").bytes());
    }
    body.extend(b"--B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"f\"\r\nContent-Type: \r\n\r\n");
    body.extend_from_slice(file);
    body.extend(b"\r\n--B--\r\n");
    let head = format!(
        "POST / HTTP/1.1\r\nHost: {}.{}\r\nContent-Type: multipart/form-data; boundary=B\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n",
        text("Bucket"),
        text("Endpoint"),
        body.len()
    );
    exchange(sandbox.address(), &[head.as_bytes(), &body].concat()).await.unwrap()
}

fn add(sandbox: &Sandbox, leave: &Value) -> Ask {
    let text = |name: &str| leave[name].as_str().unwrap().to_owned();
    let url = format!("http://{}.{}/{}", text("Bucket"), text("Endpoint"), text("ObjectKey"));
    Ask::add(sandbox, "u1").form("FacePicture", "").form("FacePictureFile", &url)
}

fn error(answer: &Answer) -> (u16, String) {
    let xml = String::from_utf8(answer.body.clone()).unwrap();
    let between = |tag: &str| xml.split(&format!("<{tag}>")).nth(1).and_then(|rest| rest.split('<').next());
    (answer.status, between("Code").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn uploaded_file_is_enrolled_by_its_address() {
    let sandbox = sandbox(Settings::default()).await;
    let granted = leave(&sandbox).send(&sandbox).await.unwrap().json();
    assert_eq!(granted["Code"], Value::Null, "the open platform gives no code with a success");
    assert_eq!(
        add(&sandbox, &granted).send(&sandbox).await.unwrap().code(),
        "InvalidParameter",
        "nothing is there yet"
    );
    let stored = put(&sandbox, &granted, JPEG, &[]).await;
    assert_eq!(stored.status, 201);
    assert!(String::from_utf8_lossy(&stored.body).contains(granted["ObjectKey"].as_str().unwrap()));
    assert_eq!(put(&sandbox, &granted, JPEG, &[("success_action_status", "")]).await.status, 204);
    assert_eq!(add(&sandbox, &granted).send(&sandbox).await.unwrap().code(), "Success");
    assert_eq!(sandbox.records()[0].picture_bytes, Some(JPEG.len() as u64));
    let actions: Vec<String> = sandbox.journal().into_iter().filter_map(|arrival| arrival.action).collect();
    assert_eq!(actions, ["AuthorizeFileUpload", "AddFaceRecord", "PostObject", "PostObject", "AddFaceRecord"]);
}

#[tokio::test]
async fn unauthorized_or_wrong_upload_is_refused() {
    let sandbox = sandbox(Settings::default()).await;
    let granted = leave(&sandbox).send(&sandbox).await.unwrap().json();
    let other = leave(&sandbox).send(&sandbox).await.unwrap().json();
    let other_policy = other["EncodedPolicy"].as_str().unwrap();
    for (bent, status, code) in [
        (&[("OSSAccessKeyId", "me")][..], 403, "InvalidAccessKeyId"),
        (&[("Signature", "AAAA")], 403, "SignatureDoesNotMatch"),
        (&[("policy", other_policy)], 403, "SignatureDoesNotMatch"),
        (&[("key", "upload/mine.jpg")], 403, "AccessDenied"),
        (&[("key", "")], 400, "InvalidArgument"),
    ] {
        assert_eq!(error(&put(&sandbox, &granted, JPEG, bent).await), (status, code.to_owned()), "{bent:?}");
    }
    assert_eq!(error(&put(&sandbox, &granted, b"", &[]).await).1, "EntityTooSmall");
    assert_eq!(error(&put(&sandbox, &granted, &vec![0; (10 << 20) + 1], &[]).await).1, "EntityTooLarge");
    assert_eq!(put(&sandbox, &granted, b"no JPEG", &[]).await.status, 201, "the store does not look at it");
    assert_eq!(add(&sandbox, &granted).send(&sandbox).await.unwrap().code(), "UnqualifiedPhoto");
    assert_eq!(leave(&sandbox).query("Product", "Ecs").send(&sandbox).await.unwrap().code(), "InvalidParameter");
    let wrong_version = Ask::new(&sandbox, "AuthorizeFileUpload").query("Product", "Cloudauth-intl");
    assert_eq!(wrong_version.send(&sandbox).await.unwrap().code(), "InvalidVersion");
    assert_eq!(Ask::new(&sandbox, "PostObject").send(&sandbox).await.unwrap().code(), "InvalidApi.NotFound");
    assert!(sandbox.records().is_empty());
}

#[tokio::test]
async fn leave_that_has_expired_is_refused() {
    let sandbox = sandbox(Settings { policy_life: Duration::ZERO, ..Settings::default() }).await;
    let granted = leave(&sandbox).send(&sandbox).await.unwrap().json();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let refused = put(&sandbox, &granted, JPEG, &[]).await;
    assert_eq!(error(&refused), (403, "AccessDenied".to_owned()));
    assert!(String::from_utf8_lossy(&refused.body).contains("Policy expired."));
}

#[tokio::test]
async fn faults_speak_the_object_stores_language() {
    let sandbox = sandbox(Settings::default()).await;
    let script = r#"{"action":"PostObject","calls":[1],"fault":"internal_error"}
        {"action":"PostObject","calls":[2],"fault":"code","status":403,"code":"AccessDenied","message":"Policy <expired>"}
        {"action":"AuthorizeFileUpload","calls":[2],"fault":"throttle"}"#;
    sandbox.set_faults(Script::parse(script).unwrap());
    let granted = leave(&sandbox).send(&sandbox).await.unwrap().json();
    assert_eq!(leave(&sandbox).send(&sandbox).await.unwrap().code(), "Throttling.Api");
    assert_eq!(error(&put(&sandbox, &granted, JPEG, &[]).await), (500, "InternalError".to_owned()));
    let denied = put(&sandbox, &granted, JPEG, &[]).await;
    assert!(String::from_utf8_lossy(&denied.body).contains("Policy &lt;expired&gt;"));
    assert_eq!(put(&sandbox, &granted, JPEG, &[]).await.status, 201);
    assert_eq!(sandbox.max_accepted_in_any_second(Action::PostObject), 3);
}
