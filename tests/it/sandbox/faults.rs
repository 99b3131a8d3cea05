//! What the client gets for each fault, and whether the record is created.

use std::{io::ErrorKind, time::Duration};

use face_enroll::sandbox::{CallEnd, Sandbox, Script, Settings};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    client::{GROUP, Request},
    with_faults,
};

/// Time after which no response is expected, also on a busy machine.
const NO_RESPONSE_AFTER: Duration = Duration::from_millis(300);

/// Polls until the sandbox has this many records, because it has no notification for that.
async fn wait_for_records(sandbox: &Sandbox, count: usize) {
    let enough = async {
        while sandbox.records().len() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), enough).await.expect("the record was not created");
}

#[tokio::test]
async fn fault_responses_have_expected_code_and_records() {
    let table = [
        (r#"{"fault":"throttle"}"#, 403, "Throttling.Api", 0),
        (r#"{"fault":"internal_error"}"#, 500, "InternalError", 0),
        (r#"{"fault":"internal_error","executed":true}"#, 500, "InternalError", 1),
        (r#"{"fault":"unavailable"}"#, 503, "ServiceUnavailable", 0),
        (r#"{"fault":"unavailable","executed":true}"#, 503, "ServiceUnavailable", 1),
        (r#"{"fault":"permission"}"#, 403, "Forbidden.RAMUserAccessDenied", 0),
        (r#"{"fault":"code","status":200,"code":"NoFaceDetected","message":"no face"}"#, 200, "NoFaceDetected", 0),
        (r#"{"fault":"code","status":429,"code":"Throttling.User","message":"m"}"#, 429, "Throttling.User", 0),
        (r#"{"fault":"slow","delay_ms":1}"#, 200, "Success", 1),
        (r#"{"fault":"late","delay_ms":1}"#, 200, "Success", 1),
    ];
    for (script, status, code, records) in table {
        let sandbox = with_faults(script).await;
        let response = Request::add(&sandbox, "u1").send(&sandbox).await;
        assert_eq!((response.status, response.code()), (status, code.to_owned()), "{script}");
        assert_eq!(sandbox.records().len(), records, "{script}");
        assert_eq!(sandbox.journal()[0].ending, CallEnd::Answered { status, code: code.to_owned() }, "{script}");
        assert_eq!(sandbox.journal()[0].record, sandbox.records().first().map(|record| record.id), "{script}");
    }
}

#[tokio::test]
async fn html_fault_may_create_the_record() {
    for (script, records) in [(r#"{"fault":"html"}"#, 0), (r#"{"fault":"html","executed":true}"#, 1)] {
        let sandbox = with_faults(script).await;
        let response = Request::add(&sandbox, "u1").send(&sandbox).await;
        assert_eq!((response.status, response.headers["content-type"].as_str()), (502, "text/html"));
        assert!(response.body.starts_with(b"<html>"));
        assert_eq!(sandbox.records().len(), records);
    }
}

#[tokio::test]
async fn throttle_fault_sends_retry_after_in_milliseconds() {
    let sandbox = with_faults(r#"{"fault":"throttle","retry_after_ms":1500,"calls":[1]} {"fault":"throttle"}"#).await;
    let first = Request::add(&sandbox, "u1").send(&sandbox).await;
    assert_eq!(first.headers["x-acs-retry-after"], "1500");
    let second = Request::add(&sandbox, "u1").send(&sandbox).await;
    assert!(!second.headers.contains_key("x-acs-retry-after"));
}

#[tokio::test]
async fn any_code_may_carry_retry_after() {
    let fault = r#"{"fault":"code","status":503,"code":"ServiceUnavailable","message":"m","retry_after_ms":20}"#;
    let sandbox = with_faults(fault).await;
    let response = Request::add(&sandbox, "u1").send(&sandbox).await;
    assert_eq!((response.status, response.headers["x-acs-retry-after"].as_str()), (503, "20"));
}

#[tokio::test]
async fn reset_fault_resets_the_connection() {
    for (script, records) in [(r#"{"fault":"reset_before"}"#, 0), (r#"{"fault":"reset_after"}"#, 1)] {
        let sandbox = with_faults(script).await;
        let error = Request::add(&sandbox, "u1").try_send(&sandbox).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{script}");
        assert_eq!(sandbox.records().len(), records, "{script}");
        assert_eq!(sandbox.journal()[0].ending, CallEnd::Reset);
    }
}

#[tokio::test]
async fn truncated_response_ends_early() {
    let sandbox = with_faults(r#"{"fault":"truncated"}"#).await;
    let error = Request::add(&sandbox, "u1").try_send(&sandbox).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!((sandbox.records().len(), &sandbox.journal()[0].ending), (1, &CallEnd::Cut));
}

#[tokio::test]
async fn unreadable_response_is_not_json() {
    let sandbox = with_faults(r#"{"fault":"unreadable"}"#).await;
    let response = Request::add(&sandbox, "u1").send(&sandbox).await;
    assert_eq!(response.status, 200);
    assert!(serde_json::from_slice::<serde_json::Value>(&response.body).is_err());
    assert_eq!(sandbox.records().len(), 1);
}

#[tokio::test]
async fn stalled_call_gets_no_response() {
    for (script, records) in [(r#"{"fault":"stall"}"#, 0), (r#"{"fault":"stall","executed":true}"#, 1)] {
        let sandbox = with_faults(script).await;
        assert!(timeout(NO_RESPONSE_AFTER, Request::add(&sandbox, "u1").try_send(&sandbox)).await.is_err());
        assert_eq!((sandbox.records().len(), &sandbox.journal()[0].ending), (records, &CallEnd::Stalled), "{script}");
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn not_passed_photo_creates_no_record() {
    let sandbox = with_faults(r#"{"fault":"not_passed"}"#).await;
    let response = Request::add(&sandbox, "u1").send(&sandbox).await;
    assert_eq!((response.status, response.code()), (200, "Success".to_owned()));
    assert_eq!(response.json()["Result"]["Passed"], "N");
    assert_eq!(response.json()["Result"]["ExtFaceInfo"], r#"{"faceQuality":"LOW"}"#);
    assert!(sandbox.records().is_empty());
    assert_eq!(sandbox.journal()[0].ending, CallEnd::Answered { status: 200, code: "Passed=N".to_owned() });
}

#[tokio::test]
async fn lagging_query_hides_new_records() {
    let sandbox = with_faults(r#"{"fault":"query_lag","for_ms":3600000,"times":2}"#).await;
    sandbox.insert_record(GROUP, "old", jiff::Timestamp::UNIX_EPOCH).unwrap();
    Request::add(&sandbox, "new").send(&sandbox).await;
    assert_eq!(Request::find(&sandbox, "new").send(&sandbox).await.total(), 0);
    assert_eq!(Request::find(&sandbox, "old").send(&sandbox).await.total(), 1);
    assert_eq!(Request::find(&sandbox, "new").send(&sandbox).await.total(), 1, "the lag is over");
}

#[tokio::test]
async fn faults_apply_to_queries() {
    let sandbox = with_faults(r#"{"action":"QueryFaceRecord","calls":[1],"fault":"unavailable"}"#).await;
    assert_eq!(Request::find(&sandbox, "u1").send(&sandbox).await.code(), "ServiceUnavailable");
    assert_eq!(Request::find(&sandbox, "u1").send(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn script_can_be_replaced_at_run_time() {
    let sandbox = with_faults(r#"{"fault":"internal_error"}"#).await;
    assert_eq!(Request::add(&sandbox, "u1").send(&sandbox).await.code(), "InternalError");
    sandbox.set_faults(Script::parse(r#"{"fault":"unavailable","calls":[1]}"#).unwrap());
    assert_eq!(Request::add(&sandbox, "u1").send(&sandbox).await.code(), "ServiceUnavailable");
    assert_eq!(Request::add(&sandbox, "u1").send(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn record_is_created_after_client_disconnects() {
    let table = [
        Settings { latency: Duration::from_millis(50), ..Settings::default() },
        Settings { late: Duration::from_millis(100), ..Settings::default() },
        Settings { faults: Script::parse(r#"{"fault":"late","delay_ms":50}"#).unwrap(), ..Settings::default() },
    ];
    for settings in table {
        let sandbox = Sandbox::start(settings).await.unwrap();
        let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
        stream.write_all(&Request::add(&sandbox, "u1").bytes()).await.unwrap();
        drop(stream);
        wait_for_records(&sandbox, 1).await;
    }
}

#[tokio::test]
async fn incomplete_request_is_not_executed() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let bytes = Request::add(&sandbox, "u1").bytes();
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    stream.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
    drop(stream);
    // When a later call on another connection is answered, the incomplete one has been handled or never will be.
    Request::add(&sandbox, "u2").send(&sandbox).await;
    assert_eq!((sandbox.records().len(), sandbox.journal().len()), (1, 1));
}

#[tokio::test]
async fn shutdown_executes_delayed_calls_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let records = Some(dir.path().join("records.jsonl"));
    let settings = Settings { records, latency: Duration::from_secs(3600), ..Settings::default() };
    let sandbox = Sandbox::start(settings.clone()).await.unwrap();
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    stream.write_all(&Request::add(&sandbox, "u1").bytes()).await.unwrap();
    while sandbox.journal().iter().filter(|call| call.admitted).count() == 0 {
        tokio::task::yield_now().await;
    }
    sandbox.shutdown().await;
    assert_eq!(Sandbox::start(settings).await.unwrap().records().len(), 1);
}

#[test]
fn sample_script_parses() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/sandbox-faults.jsonl");
    assert_eq!(face_enroll::sandbox::Script::read(path.as_ref()).unwrap().0.len(), 6);
}
