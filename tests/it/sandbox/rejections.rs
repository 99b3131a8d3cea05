//! Every rejection of the sandbox, with its documented status and code.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use face_enroll::sandbox::{Credentials, Groups, Sandbox, SandboxError, Settings};
use jiff::{SignedDuration, Timestamp};

use super::client::{GROUP, JPEG, Request, Response, exchange};

async fn open() -> Sandbox {
    Sandbox::start(Settings { groups: Groups::only([GROUP]), ..Settings::default() }).await.unwrap()
}

fn date(offset: SignedDuration) -> String {
    Timestamp::now().checked_add(offset).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Base64 of a JPEG of this size in bytes.
fn picture(bytes: usize) -> String {
    let mut picture = vec![0; bytes];
    picture[..JPEG.len()].copy_from_slice(JPEG);
    STANDARD.encode(picture)
}

#[tokio::test]
async fn gateway_rejects_invalid_requests() {
    let sandbox = open().await;
    let add = || Request::add(&sandbox, "u1");
    let table = [
        ("unknown key", Request { key: "nobody".into(), ..add() }, 404, "InvalidAccessKeyId.NotFound"),
        ("wrong secret", Request { secret: "wrong".into(), ..add() }, 400, "SignatureDoesNotMatch"),
        (
            "unexpected token",
            add().header("x-acs-security-token", "t"),
            400,
            "InvalidSecurityToken.MismatchWithAccessKey",
        ),
        (
            "20 minutes early",
            add().header("x-acs-date", &date(SignedDuration::from_mins(20))),
            400,
            "InvalidTimeStamp.Expired",
        ),
        (
            "20 minutes late",
            add().header("x-acs-date", &date(SignedDuration::from_mins(-20))),
            400,
            "InvalidTimeStamp.Expired",
        ),
        (
            "another date format",
            add().header("x-acs-date", "Mon, 23 Nov 2026 04:05:06 GMT"),
            400,
            "InvalidTimeStamp.Format",
        ),
        ("unknown action", add().header("x-acs-action", "AddFace"), 404, "InvalidApi.NotFound"),
        ("unsupported action", add().header("x-acs-action", "ModifyFaceRecord"), 404, "InvalidApi.NotFound"),
        ("another path", Request { path: "/v1", ..add() }, 404, "InvalidApi.NotFound"),
        ("another version", add().header("x-acs-version", "2019-12-19"), 400, "InvalidVersion"),
        ("another method", Request { method: "PUT", ..add() }, 400, "UnsupportedHTTPMethod"),
        ("a GET", Request { method: "GET", ..add() }, 400, "UnsupportedHTTPMethod"),
    ];
    for (what, request, status, code) in table {
        let response = request.send(&sandbox).await;
        assert_eq!((response.status, response.code()), (status, code.to_owned()), "{what}");
    }
    assert!(sandbox.records().is_empty());
    assert!(sandbox.journal().iter().all(|call| !call.admitted));
}

#[tokio::test]
async fn request_without_authorization_is_incomplete() {
    let sandbox = open().await;
    let whole = String::from_utf8(Request::add(&sandbox, "u1").bytes()).unwrap();
    let bare: Vec<&str> = whole.split("\r\n").filter(|line| !line.starts_with("authorization")).collect();
    let response = exchange(sandbox.address(), bare.join("\r\n").as_bytes()).await.unwrap();
    assert_eq!((response.status, response.code()), (400, "IncompleteSignature".to_owned()));
}

#[tokio::test]
async fn nonce_is_valid_for_one_call() {
    let sandbox = open().await;
    let request = Request::add(&sandbox, "u1").bytes();
    assert_eq!(exchange(sandbox.address(), &request).await.unwrap().status, 200);
    let copy = exchange(sandbox.address(), &request).await.unwrap();
    assert_eq!((copy.status, copy.code()), (400, "SignatureNonceUsed".to_owned()));
    assert_eq!(sandbox.records().len(), 1);
}

#[tokio::test]
async fn invalid_signature_does_not_consume_the_nonce() {
    let sandbox = open().await;
    let good = Request::add(&sandbox, "u1");
    let bad = Request { secret: "wrong".into(), ..good.clone() };
    assert_eq!(bad.send(&sandbox).await.code(), "SignatureDoesNotMatch");
    assert_eq!(good.send(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn configured_token_is_required() {
    let token = |token: &str| Credentials { security_token: Some(token.to_owned()), ..Credentials::default() };
    let sandbox = Sandbox::start(Settings { credentials: token("t+/1=="), ..Settings::default() }).await.unwrap();
    let with = |token: &str| Request::add(&sandbox, "u1").header("x-acs-security-token", token);
    assert_eq!(Request::add(&sandbox, "u1").send(&sandbox).await.code(), "MissingSecurityToken");
    assert_eq!(with("t").send(&sandbox).await.code(), "InvalidSecurityToken.MismatchWithAccessKey");
    assert_eq!(with("t+/1==").send(&sandbox).await.code(), "Success");
    sandbox.set_credentials(token("t2"));
    assert_eq!(with("t+/1==").send(&sandbox).await.code(), "InvalidSecurityToken.MismatchWithAccessKey");
    assert_eq!(with("t2").send(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn skewed_client_gets_the_server_time() {
    let settings = Settings { clock_offset: SignedDuration::from_hours(2), ..Settings::default() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let response = Request::add(&sandbox, "u1").send(&sandbox).await;
    assert_eq!(response.code(), "InvalidTimeStamp.Expired");
    let server_time = Timestamp::try_from(httpdate::parse_http_date(&response.headers["date"]).unwrap()).unwrap();
    let ahead = server_time.duration_since(Timestamp::now());
    assert!((ahead - SignedDuration::from_hours(2)).abs() < SignedDuration::from_secs(5), "{ahead}");
    let corrected = server_time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    assert_eq!(Request::add(&sandbox, "u1").header("x-acs-date", &corrected).send(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn add_face_record_rejects_documented_errors() {
    let sandbox = open().await;
    let add = || Request::add(&sandbox, "u1");
    let without = |name: &str| add().form(name, "");
    let table = [
        ("no product", without("ProductCode"), 400, "MissingParameter", "ProductCode"),
        ("another product", add().form("ProductCode", "FACE_IDU"), 400, "InvalidParameter", "ProductCode"),
        ("no group", without("FaceGroupCode"), 400, "MissingParameter", "FaceGroupCode"),
        ("unknown group", add().form("FaceGroupCode", "nowhere"), 400, "InvalidParameter", "FaceGroupCode"),
        ("no id", without("MerchantUserId"), 400, "MissingParameter", "MerchantUserId"),
        ("long id", add().form("MerchantUserId", &"张".repeat(33)), 400, "InvalidParameter", "MerchantUserId"),
        ("no picture", without("FacePicture"), 400, "MissingParameter", "FacePicture"),
        (
            "two pictures",
            add().form("FacePictureUrl", "http://a.example/b.jpg"),
            401,
            "DataDuplication",
            "FacePictureUrl",
        ),
        ("no Base64", add().form("FacePicture", "/9j/!"), 400, "InvalidParameter", "FacePicture"),
        (
            "a data URL",
            add().form("FacePicture", "data:image/jpeg;base64,/9j/"),
            400,
            "InvalidParameter",
            "FacePicture",
        ),
        ("broken lines", add().form("FacePicture", "/9j/\n2Q=="), 400, "InvalidParameter", "FacePicture"),
        ("a PNG", add().form("FacePicture", "iVBORw0KGgo="), 401, "UnqualifiedPhoto", "JPEG"),
        ("over 1 MB inline", add().form("FacePicture", &picture((1 << 20) + 1)), 401, "ToolargeImage", "large"),
        ("over 10 MB", add().form("FacePicture", &picture((10 << 20) + 1)), 401, "ToolargeImage", "large"),
        (
            "no web address",
            without("FacePicture").form("FacePictureUrl", "ftp://a.example/b"),
            400,
            "InvalidParameter",
            "FacePictureUrl",
        ),
        (
            "no address",
            without("FacePicture").form("FacePictureUrl", "b.jpg"),
            400,
            "InvalidParameter",
            "FacePictureUrl",
        ),
        (
            "no upload",
            without("FacePicture").form("FacePictureFile", "http://b.oss.example/k"),
            400,
            "InvalidParameter",
            "FacePictureFile",
        ),
        (
            "all in the query",
            Request { query: add().form, form: Vec::new(), ..add() },
            400,
            "MissingParameter",
            "ProductCode",
        ),
    ];
    for (what, request, status, code, word) in table {
        let response = request.send(&sandbox).await;
        assert_eq!((response.status, response.code()), (status, code.to_owned()), "{what}");
        assert!(response.json()["Message"].as_str().unwrap().contains(word), "{what}: {}", response.json());
    }
    assert!(sandbox.records().is_empty());
    assert_eq!(add().form("FacePicture", &picture(1 << 20)).send(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn duplicate_parameter_is_rejected() {
    let sandbox = open().await;
    let mut request = Request::add(&sandbox, "u1");
    request.form.push(("MerchantUserId".into(), "u2".into()));
    assert_eq!(request.send(&sandbox).await.code(), "InvalidParameter");
}

#[tokio::test]
async fn queries_and_deletes_reject_invalid_parameters() {
    let sandbox = open().await;
    let page = || Request::page(&sandbox, 1, 10);
    let in_the_body = Request { form: page().query, query: Vec::new(), ..page() };
    let table = [
        (page().query("CurrentPage", ""), "MissingParameter"),
        (page().query("PageSize", ""), "MissingParameter"),
        (page().query("FaceGroupCode", ""), "MissingParameter"),
        (page().query("FaceGroupCode", "nowhere"), "InvalidParameter"),
        (page().query("CurrentPage", "0"), "InvalidParameter"),
        (page().query("CurrentPage", "x"), "InvalidParameter"),
        (page().query("PageSize", "0"), "InvalidParameter"),
        (page().query("PageSize", "101"), "InvalidParameter"),
        (in_the_body, "MissingParameter"),
        (Request::new(&sandbox, "DeleteFaceRecord"), "MissingParameter"),
        (Request::new(&sandbox, "DeleteFaceRecord").form("Id", "x"), "InvalidParameter"),
        (Request::new(&sandbox, "DeleteFaceRecordV2"), "MissingParameter"),
    ];
    for (request, code) in table {
        let response = request.send(&sandbox).await;
        assert_eq!((response.status, response.code()), (400, code.to_owned()), "{request:?}");
    }
}

#[tokio::test]
async fn every_response_has_request_id_and_date() {
    let sandbox = open().await;
    let is_upper_uuid = |id: &str| uuid::Uuid::parse_str(id).is_ok() && id.len() == 36 && id == id.to_uppercase();
    let bad = Request::add(&sandbox, "u1").form("FaceGroupCode", "nowhere").send(&sandbox).await;
    for response in [&Request::add(&sandbox, "u1").send(&sandbox).await, &bad] {
        assert!(is_upper_uuid(response.json()["RequestId"].as_str().unwrap()));
        assert!(response.headers["content-type"].starts_with("application/json"));
        assert!(
            httpdate::parse_http_date(&response.headers["date"]).unwrap().elapsed().unwrap_or_default()
                < Duration::from_secs(5)
        );
    }
    let names = |response: &Response| response.json().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&bad), ["RequestId", "HostId", "Code", "Message", "Recommend"]);
    assert_eq!(bad.json()["HostId"], sandbox.address().to_string());
}

#[tokio::test]
async fn sandbox_never_listens_beyond_loopback() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let listen: SocketAddr = listen.parse().unwrap();
        let rejected = Sandbox::start(Settings { listen, ..Settings::default() }).await;
        assert!(matches!(rejected, Err(SandboxError::NotLoopback(address)) if address == listen));
    }
}
