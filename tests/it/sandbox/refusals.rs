//! It must be able to say no: every refusal, with the status and the code that the documents give it.

use std::{net::SocketAddr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use face_enroll::sandbox::{Credentials, Groups, Sandbox, SandboxError, Settings};
use jiff::{SignedDuration, Timestamp};

use super::client::{Answer, Ask, GROUP, JPEG, exchange};

async fn open() -> Sandbox {
    Sandbox::start(Settings { groups: Groups::only([GROUP]), ..Settings::default() }).await.unwrap()
}

fn date(offset: SignedDuration) -> String {
    Timestamp::now().checked_add(offset).unwrap().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A Base64 JPEG of so many bytes.
fn picture(bytes: usize) -> String {
    let mut picture = vec![0; bytes];
    picture[..JPEG.len()].copy_from_slice(JPEG);
    STANDARD.encode(picture)
}

#[tokio::test]
async fn gateway_refuses_bad_signature_and_date() {
    let sandbox = open().await;
    let add = || Ask::add(&sandbox, "u1");
    let table = [
        ("unknown key", Ask { key: "nobody".into(), ..add() }, 404, "InvalidAccessKeyId.NotFound"),
        ("wrong secret", Ask { secret: "wrong".into(), ..add() }, 400, "SignatureDoesNotMatch"),
        (
            "a token where there is none",
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
        ("an action that is not played", add().header("x-acs-action", "ModifyFaceRecord"), 404, "InvalidApi.NotFound"),
        ("another path", Ask { path: "/v1", ..add() }, 404, "InvalidApi.NotFound"),
        ("another version", add().header("x-acs-version", "2019-12-19"), 400, "InvalidVersion"),
        ("another method", Ask { method: "PUT", ..add() }, 400, "UnsupportedHTTPMethod"),
        ("a GET", Ask { method: "GET", ..add() }, 400, "UnsupportedHTTPMethod"),
    ];
    for (what, ask, status, code) in table {
        let answer = ask.answer(&sandbox).await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{what}");
    }
    assert!(sandbox.records().is_empty());
    assert!(sandbox.journal().iter().all(|arrival| !arrival.admitted));
}

#[tokio::test]
async fn request_without_authorization_is_refused_as_incomplete() {
    let sandbox = open().await;
    let whole = String::from_utf8(Ask::add(&sandbox, "u1").bytes()).unwrap();
    let bare: Vec<&str> = whole.split("\r\n").filter(|line| !line.starts_with("authorization")).collect();
    let answer = exchange(sandbox.address(), bare.join("\r\n").as_bytes()).await.unwrap();
    assert_eq!((answer.status, answer.code()), (400, "IncompleteSignature".to_owned()));
}

#[tokio::test]
async fn request_is_good_for_one_call() {
    let sandbox = open().await;
    let request = Ask::add(&sandbox, "u1").bytes();
    assert_eq!(exchange(sandbox.address(), &request).await.unwrap().status, 200);
    let copy = exchange(sandbox.address(), &request).await.unwrap();
    assert_eq!((copy.status, copy.code()), (400, "SignatureNonceUsed".to_owned()));
    assert_eq!(sandbox.records().len(), 1);
}

#[tokio::test]
async fn refused_signature_does_not_spend_the_nonce() {
    let sandbox = open().await;
    let good = Ask::add(&sandbox, "u1");
    let bad = Ask { secret: "wrong".into(), ..good.clone() };
    assert_eq!(bad.answer(&sandbox).await.code(), "SignatureDoesNotMatch");
    assert_eq!(good.answer(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn configured_token_is_required() {
    let token = |token: &str| Credentials { security_token: Some(token.to_owned()), ..Credentials::default() };
    let sandbox = Sandbox::start(Settings { credentials: token("t+/1=="), ..Settings::default() }).await.unwrap();
    let with = |token: &str| Ask::add(&sandbox, "u1").header("x-acs-security-token", token);
    assert_eq!(Ask::add(&sandbox, "u1").answer(&sandbox).await.code(), "MissingSecurityToken");
    assert_eq!(with("t").answer(&sandbox).await.code(), "InvalidSecurityToken.MismatchWithAccessKey");
    assert_eq!(with("t+/1==").answer(&sandbox).await.code(), "Success");
    sandbox.set_credentials(token("t2"));
    assert_eq!(with("t+/1==").answer(&sandbox).await.code(), "InvalidSecurityToken.MismatchWithAccessKey");
    assert_eq!(with("t2").answer(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn skewed_client_gets_the_server_time() {
    let settings = Settings { clock_offset: SignedDuration::from_hours(2), ..Settings::default() };
    let sandbox = Sandbox::start(settings).await.unwrap();
    let answer = Ask::add(&sandbox, "u1").answer(&sandbox).await;
    assert_eq!(answer.code(), "InvalidTimeStamp.Expired");
    let told = Timestamp::try_from(httpdate::parse_http_date(&answer.headers["date"]).unwrap()).unwrap();
    let ahead = told.duration_since(Timestamp::now());
    assert!((ahead - SignedDuration::from_hours(2)).abs() < SignedDuration::from_secs(5), "{ahead}");
    let corrected = told.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    assert_eq!(Ask::add(&sandbox, "u1").header("x-acs-date", &corrected).answer(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn add_face_record_refuses_what_its_page_refuses() {
    let sandbox = open().await;
    let add = || Ask::add(&sandbox, "u1");
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
            Ask { query: add().form, form: Vec::new(), ..add() },
            400,
            "MissingParameter",
            "ProductCode",
        ),
    ];
    for (what, ask, status, code, word) in table {
        let answer = ask.answer(&sandbox).await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{what}");
        assert!(answer.json()["Message"].as_str().unwrap().contains(word), "{what}: {}", answer.json());
    }
    assert!(sandbox.records().is_empty());
    assert_eq!(add().form("FacePicture", &picture(1 << 20)).answer(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn parameter_that_is_given_twice_is_refused() {
    let sandbox = open().await;
    let mut ask = Ask::add(&sandbox, "u1");
    ask.form.push(("MerchantUserId".into(), "u2".into()));
    assert_eq!(ask.answer(&sandbox).await.code(), "InvalidParameter");
}

#[tokio::test]
async fn queries_and_deletions_refuse_what_they_can_not_mean() {
    let sandbox = open().await;
    let page = || Ask::page(&sandbox, 1, 10);
    let in_the_body = Ask { form: page().query, query: Vec::new(), ..page() };
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
        (Ask::new(&sandbox, "DeleteFaceRecord"), "MissingParameter"),
        (Ask::new(&sandbox, "DeleteFaceRecord").form("Id", "x"), "InvalidParameter"),
        (Ask::new(&sandbox, "DeleteFaceRecordV2"), "MissingParameter"),
    ];
    for (ask, code) in table {
        let answer = ask.answer(&sandbox).await;
        assert_eq!((answer.status, answer.code()), (400, code.to_owned()), "{ask:?}");
    }
}

#[tokio::test]
async fn every_answer_names_its_request_and_its_time() {
    let sandbox = open().await;
    let is_upper_uuid = |id: &str| uuid::Uuid::parse_str(id).is_ok() && id.len() == 36 && id == id.to_uppercase();
    let bad = Ask::add(&sandbox, "u1").form("FaceGroupCode", "nowhere").answer(&sandbox).await;
    for answer in [&Ask::add(&sandbox, "u1").answer(&sandbox).await, &bad] {
        assert!(is_upper_uuid(answer.json()["RequestId"].as_str().unwrap()));
        assert!(answer.headers["content-type"].starts_with("application/json"));
        assert!(
            httpdate::parse_http_date(&answer.headers["date"]).unwrap().elapsed().unwrap_or_default()
                < Duration::from_secs(5)
        );
    }
    let names = |answer: &Answer| answer.json().as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&bad), ["RequestId", "HostId", "Code", "Message", "Recommend"]);
    assert_eq!(bad.json()["HostId"], sandbox.address().to_string());
}

#[tokio::test]
async fn sandbox_never_listens_beyond_loopback() {
    for listen in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let listen: SocketAddr = listen.parse().unwrap();
        let refused = Sandbox::start(Settings { listen, ..Settings::default() }).await;
        assert!(matches!(refused, Err(SandboxError::NotLoopback(address)) if address == listen));
    }
}
