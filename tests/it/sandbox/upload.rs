//! File upload: authorize, upload, enrol by URL.

use std::time::Duration;

use face_enroll::sandbox::{Action, Groups, Sandbox, Script, Settings};
use serde_json::Value;

use super::client::{GROUP, JPEG, Request, Response, exchange};

async fn sandbox(settings: Settings) -> Sandbox {
    Sandbox::start(Settings { groups: Groups::only([GROUP]), ..settings }).await.unwrap()
}

fn authorize(sandbox: &Sandbox) -> Request {
    let mut request = Request::new(sandbox, "AuthorizeFileUpload").query("Product", "Cloudauth-intl");
    request.headers.insert("x-acs-version", "2019-12-19".to_owned());
    request
}

/// Uploads a file by form. `overrides` replaces fields; an empty value omits the field.
async fn put(sandbox: &Sandbox, grant: &Value, file: &[u8], overrides: &[(&str, &str)]) -> Response {
    let text = |name: &str| grant[name].as_str().unwrap().to_owned();
    let mut fields = [
        ("OSSAccessKeyId", text("AccessKeyId")),
        ("Signature", text("Signature")),
        ("key", text("ObjectKey")),
        ("policy", text("EncodedPolicy")),
        ("success_action_status", "201".to_owned()),
    ];
    for (name, value) in overrides {
        fields.iter_mut().find(|(other, _)| other == name).unwrap().1 = (*value).to_owned();
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

fn add(sandbox: &Sandbox, grant: &Value) -> Request {
    let text = |name: &str| grant[name].as_str().unwrap().to_owned();
    let url = format!("http://{}.{}/{}", text("Bucket"), text("Endpoint"), text("ObjectKey"));
    Request::add(sandbox, "u1").form("FacePicture", "").form("FacePictureFile", &url)
}

fn error(response: &Response) -> (u16, String) {
    let xml = String::from_utf8(response.body.clone()).unwrap();
    let between = |tag: &str| xml.split(&format!("<{tag}>")).nth(1).and_then(|rest| rest.split('<').next());
    (response.status, between("Code").unwrap_or_default().to_owned())
}

#[tokio::test]
async fn uploaded_file_is_enrolled_by_url() {
    let sandbox = sandbox(Settings::default()).await;
    let grant = authorize(&sandbox).send(&sandbox).await.json();
    assert_eq!(grant["Code"], Value::Null, "the open platform returns no Code on success");
    assert_eq!(add(&sandbox, &grant).send(&sandbox).await.code(), "InvalidParameter", "nothing was uploaded yet");
    let stored = put(&sandbox, &grant, JPEG, &[]).await;
    assert_eq!(stored.status, 201);
    assert!(String::from_utf8_lossy(&stored.body).contains(grant["ObjectKey"].as_str().unwrap()));
    assert_eq!(put(&sandbox, &grant, JPEG, &[("success_action_status", "")]).await.status, 204);
    assert_eq!(add(&sandbox, &grant).send(&sandbox).await.code(), "Success");
    assert_eq!(sandbox.records()[0].picture_bytes, Some(JPEG.len() as u64));
    let actions: Vec<String> = sandbox.journal().into_iter().filter_map(|call| call.action).collect();
    assert_eq!(actions, ["AuthorizeFileUpload", "AddFaceRecord", "PostObject", "PostObject", "AddFaceRecord"]);
}

#[tokio::test]
async fn invalid_upload_is_rejected() {
    let sandbox = sandbox(Settings::default()).await;
    let grant = authorize(&sandbox).send(&sandbox).await.json();
    let other = authorize(&sandbox).send(&sandbox).await.json();
    let other_policy = other["EncodedPolicy"].as_str().unwrap();
    for (overrides, status, code) in [
        (&[("OSSAccessKeyId", "me")][..], 403, "InvalidAccessKeyId"),
        (&[("Signature", "AAAA")], 403, "SignatureDoesNotMatch"),
        (&[("policy", other_policy)], 403, "SignatureDoesNotMatch"),
        (&[("key", "upload/mine.jpg")], 403, "AccessDenied"),
        (&[("key", "")], 400, "InvalidArgument"),
    ] {
        assert_eq!(error(&put(&sandbox, &grant, JPEG, overrides).await), (status, code.to_owned()), "{overrides:?}");
    }
    assert_eq!(error(&put(&sandbox, &grant, b"", &[]).await).1, "EntityTooSmall");
    assert_eq!(error(&put(&sandbox, &grant, &vec![0; (10 << 20) + 1], &[]).await).1, "EntityTooLarge");
    assert_eq!(put(&sandbox, &grant, b"no JPEG", &[]).await.status, 201, "the store does not check the format");
    assert_eq!(add(&sandbox, &grant).send(&sandbox).await.code(), "UnqualifiedPhoto");
    assert_eq!(authorize(&sandbox).query("Product", "Ecs").send(&sandbox).await.code(), "InvalidParameter");
    let wrong_version = Request::new(&sandbox, "AuthorizeFileUpload").query("Product", "Cloudauth-intl");
    assert_eq!(wrong_version.send(&sandbox).await.code(), "InvalidVersion");
    assert_eq!(Request::new(&sandbox, "PostObject").send(&sandbox).await.code(), "InvalidApi.NotFound");
    assert!(sandbox.records().is_empty());
}

#[tokio::test]
async fn expired_upload_grant_is_rejected() {
    let sandbox = sandbox(Settings { policy_ttl: Duration::ZERO, ..Settings::default() }).await;
    let grant = authorize(&sandbox).send(&sandbox).await.json();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let rejected = put(&sandbox, &grant, JPEG, &[]).await;
    assert_eq!(error(&rejected), (403, "AccessDenied".to_owned()));
    assert!(String::from_utf8_lossy(&rejected.body).contains("Policy expired."));
}

#[tokio::test]
async fn upload_faults_use_the_object_store_format() {
    let sandbox = sandbox(Settings::default()).await;
    let script = r#"{"action":"PostObject","calls":[1],"fault":"internal_error"}
        {"action":"PostObject","calls":[2],"fault":"code","status":403,"code":"AccessDenied","message":"Policy <expired>"}
        {"action":"AuthorizeFileUpload","calls":[2],"fault":"throttle"}"#;
    sandbox.set_faults(Script::parse(script).unwrap());
    let grant = authorize(&sandbox).send(&sandbox).await.json();
    assert_eq!(authorize(&sandbox).send(&sandbox).await.code(), "Throttling.Api");
    assert_eq!(error(&put(&sandbox, &grant, JPEG, &[]).await), (500, "InternalError".to_owned()));
    let denied = put(&sandbox, &grant, JPEG, &[]).await;
    assert!(String::from_utf8_lossy(&denied.body).contains("Policy &lt;expired&gt;"));
    assert_eq!(put(&sandbox, &grant, JPEG, &[]).await.status, 201);
    assert_eq!(sandbox.max_accepted_in_any_second(Action::PostObject), 3);
}
