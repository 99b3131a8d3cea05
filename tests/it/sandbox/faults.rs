//! Each fault: what the client meets, and whether the record is there all the same.

use std::{io::ErrorKind, time::Duration};

use face_enroll::sandbox::{CallEnd, Sandbox, Script, Settings};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::{
    client::{Ask, GROUP},
    with_faults,
};

/// Long enough to be sure on a busy machine that nothing is coming.
const NOTHING_COMES: Duration = Duration::from_millis(300);

/// Waits until there are so many records; the sandbox tells nobody when it makes one.
async fn until_records(sandbox: &Sandbox, count: usize) {
    let all_there = async {
        while sandbox.records().len() < count {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(10), all_there).await.expect("the record was not made");
}

#[tokio::test]
async fn faults_with_an_answer() {
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
        let answer = Ask::add(&sandbox, "u1").answer(&sandbox).await;
        assert_eq!((answer.status, answer.code()), (status, code.to_owned()), "{script}");
        assert_eq!(sandbox.records().len(), records, "{script}");
        assert_eq!(sandbox.journal()[0].ending, CallEnd::Answered { status, code: code.to_owned() }, "{script}");
        assert_eq!(sandbox.journal()[0].record, sandbox.records().first().map(|record| record.id), "{script}");
    }
}

#[tokio::test]
async fn html_page_comes_with_or_without_the_record() {
    for (script, records) in [(r#"{"fault":"html"}"#, 0), (r#"{"fault":"html","executed":true}"#, 1)] {
        let sandbox = with_faults(script).await;
        let answer = Ask::add(&sandbox, "u1").answer(&sandbox).await;
        assert_eq!((answer.status, answer.headers["content-type"].as_str()), (502, "text/html"));
        assert!(answer.body.starts_with(b"<html>"));
        assert_eq!(sandbox.records().len(), records);
    }
}

#[tokio::test]
async fn throttle_says_how_long_to_wait_in_milliseconds() {
    let sandbox = with_faults(r#"{"fault":"throttle","retry_after_ms":1500,"calls":[1]} {"fault":"throttle"}"#).await;
    let first = Ask::add(&sandbox, "u1").answer(&sandbox).await;
    assert_eq!(first.headers["x-acs-retry-after"], "1500");
    let second = Ask::add(&sandbox, "u1").answer(&sandbox).await;
    assert!(!second.headers.contains_key("x-acs-retry-after"));
}

#[tokio::test]
async fn any_code_may_tell_to_wait() {
    let fault = r#"{"fault":"code","status":503,"code":"ServiceUnavailable","message":"m","retry_after_ms":20}"#;
    let sandbox = with_faults(fault).await;
    let answer = Ask::add(&sandbox, "u1").answer(&sandbox).await;
    assert_eq!((answer.status, answer.headers["x-acs-retry-after"].as_str()), (503, "20"));
}

#[tokio::test]
async fn reset_is_a_reset_and_not_an_end() {
    for (script, records) in [(r#"{"fault":"reset_before"}"#, 0), (r#"{"fault":"reset_after"}"#, 1)] {
        let sandbox = with_faults(script).await;
        let error = Ask::add(&sandbox, "u1").send(&sandbox).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset, "{script}");
        assert_eq!(sandbox.records().len(), records, "{script}");
        assert_eq!(sandbox.journal()[0].ending, CallEnd::Reset);
    }
}

#[tokio::test]
async fn truncated_answer_ends_before_its_length() {
    let sandbox = with_faults(r#"{"fault":"truncated"}"#).await;
    let error = Ask::add(&sandbox, "u1").send(&sandbox).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    assert_eq!((sandbox.records().len(), &sandbox.journal()[0].ending), (1, &CallEnd::Cut));
}

#[tokio::test]
async fn unreadable_answer_is_a_whole_one_and_no_json() {
    let sandbox = with_faults(r#"{"fault":"unreadable"}"#).await;
    let answer = Ask::add(&sandbox, "u1").answer(&sandbox).await;
    assert_eq!(answer.status, 200);
    assert!(serde_json::from_slice::<serde_json::Value>(&answer.body).is_err());
    assert_eq!(sandbox.records().len(), 1);
}

#[tokio::test]
async fn stalled_call_is_never_answered() {
    for (script, records) in [(r#"{"fault":"stall"}"#, 0), (r#"{"fault":"stall","executed":true}"#, 1)] {
        let sandbox = with_faults(script).await;
        assert!(timeout(NOTHING_COMES, Ask::add(&sandbox, "u1").send(&sandbox)).await.is_err());
        assert_eq!((sandbox.records().len(), &sandbox.journal()[0].ending), (records, &CallEnd::Stalled), "{script}");
        sandbox.shutdown().await;
    }
}

#[tokio::test]
async fn not_passed_photo_leaves_no_record() {
    let sandbox = with_faults(r#"{"fault":"not_passed"}"#).await;
    let answer = Ask::add(&sandbox, "u1").answer(&sandbox).await;
    assert_eq!((answer.status, answer.code()), (200, "Success".to_owned()));
    assert_eq!(answer.json()["Result"]["Passed"], "N");
    assert_eq!(answer.json()["Result"]["ExtFaceInfo"], r#"{"faceQuality":"LOW"}"#);
    assert!(sandbox.records().is_empty());
    assert_eq!(sandbox.journal()[0].ending, CallEnd::Answered { status: 200, code: "Passed=N".to_owned() });
}

#[tokio::test]
async fn lagging_query_does_not_see_what_is_young() {
    let sandbox = with_faults(r#"{"fault":"query_lag","for_ms":3600000,"times":2}"#).await;
    sandbox.insert_record(GROUP, "old", jiff::Timestamp::UNIX_EPOCH).unwrap();
    Ask::add(&sandbox, "new").answer(&sandbox).await;
    assert_eq!(Ask::find(&sandbox, "new").answer(&sandbox).await.total(), 0);
    assert_eq!(Ask::find(&sandbox, "old").answer(&sandbox).await.total(), 1);
    assert_eq!(Ask::find(&sandbox, "new").answer(&sandbox).await.total(), 1, "the lag is over");
}

#[tokio::test]
async fn queries_fail_too() {
    let sandbox = with_faults(r#"{"action":"QueryFaceRecord","calls":[1],"fault":"unavailable"}"#).await;
    assert_eq!(Ask::find(&sandbox, "u1").answer(&sandbox).await.code(), "ServiceUnavailable");
    assert_eq!(Ask::find(&sandbox, "u1").answer(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn script_can_be_replaced_while_it_runs() {
    let sandbox = with_faults(r#"{"fault":"internal_error"}"#).await;
    assert_eq!(Ask::add(&sandbox, "u1").answer(&sandbox).await.code(), "InternalError");
    sandbox.set_faults(Script::parse(r#"{"fault":"unavailable","calls":[1]}"#).unwrap());
    assert_eq!(Ask::add(&sandbox, "u1").answer(&sandbox).await.code(), "ServiceUnavailable");
    assert_eq!(Ask::add(&sandbox, "u1").answer(&sandbox).await.code(), "Success");
}

#[tokio::test]
async fn record_is_made_when_its_client_has_long_left() {
    let table = [
        Settings { latency: Duration::from_millis(50), ..Settings::default() },
        Settings { late: Duration::from_millis(100), ..Settings::default() },
        Settings { faults: Script::parse(r#"{"fault":"late","delay_ms":50}"#).unwrap(), ..Settings::default() },
    ];
    for settings in table {
        let sandbox = Sandbox::start(settings).await.unwrap();
        let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
        stream.write_all(&Ask::add(&sandbox, "u1").bytes()).await.unwrap();
        drop(stream);
        until_records(&sandbox, 1).await;
    }
}

#[tokio::test]
async fn request_that_did_not_arrive_whole_is_not_executed() {
    let sandbox = Sandbox::start(Settings::default()).await.unwrap();
    let bytes = Ask::add(&sandbox, "u1").bytes();
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    stream.write_all(&bytes[..bytes.len() - 1]).await.unwrap();
    drop(stream);
    // A later call on another connection is answered: the broken one has been dealt with, or never will be.
    Ask::add(&sandbox, "u2").answer(&sandbox).await;
    assert_eq!((sandbox.records().len(), sandbox.journal().len()), (1, 1));
}

#[tokio::test]
async fn shutdown_executes_at_once_what_still_waits() {
    let dir = tempfile::tempdir().unwrap();
    let records = Some(dir.path().join("records.jsonl"));
    let settings = Settings { records, latency: Duration::from_secs(3600), ..Settings::default() };
    let sandbox = Sandbox::start(settings.clone()).await.unwrap();
    let mut stream = TcpStream::connect(sandbox.address()).await.unwrap();
    stream.write_all(&Ask::add(&sandbox, "u1").bytes()).await.unwrap();
    while sandbox.journal().iter().filter(|arrival| arrival.admitted).count() == 0 {
        tokio::task::yield_now().await;
    }
    sandbox.shutdown().await;
    assert_eq!(Sandbox::start(settings).await.unwrap().records().len(), 1);
}

#[test]
fn sample_script_is_a_script() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/sandbox-faults.jsonl");
    assert_eq!(face_enroll::sandbox::Script::read(path.as_ref()).unwrap().0.len(), 6);
}
