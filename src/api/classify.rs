//! What an answer means: one table, by `Code`.
//!
//! The status alone says nothing here: 403 carries both a throttle and a missing permission, 401 a bad photo, 200 a
//! refusal.
//!
//! Only the service can say that a call was not executed. An answer is the service's if its body is JSON (or the
//! gateway's XML) with a `Code` and a `RequestId`, both texts and not empty: the documents show both in every answer,
//! and a proxy, a firewall or a sign-in page has no `RequestId`. `Result.Passed` proves the same, because only this API
//! has it. Any other answer may stand in the place of one that says `Success`, so its call is in doubt whatever the
//! status is. That status still tells the run to stop or to slow down ([`RunEffect`]).
//!
//! Pure and total: no answer makes it panic.

use serde::Deserialize;

use super::RawResponse;
use crate::domain::{
    ApiRejection, CallFailure, EnrollmentReceipt, ErrorCode, FailureKind, FatalError, RequestId, RunEffect, Verdict,
    is_unprintable,
};

/// Longest text of the service that is kept, in characters.
const TEXT_CAP: usize = 300;

/// An answer's meaning. What concerns the clock is decided by the client, which knows what it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Meaning {
    /// A verdict.
    Verdict(Verdict),
    /// The service refused the date: not executed.
    WrongClock(ApiRejection),
    /// Not the service's answer: the call may have been executed. The status may concern the run.
    Foreign(CallFailure, Option<RunEffect>),
}

/// The body of an answer, success or not, as far as it is read.
#[derive(Debug, Deserialize)]
struct Body {
    #[serde(rename = "Code", alias = "code")]
    code: String,
    #[serde(rename = "Message", alias = "message", default)]
    message: Option<String>,
    #[serde(rename = "RequestId", alias = "requestId", alias = "requestid", default)]
    request_id: Option<String>,
    #[serde(rename = "Result", alias = "result", default)]
    result: Option<AddResult>,
}

#[derive(Debug, Deserialize)]
struct AddResult {
    #[serde(rename = "Passed", alias = "passed", default)]
    passed: Option<String>,
    #[serde(rename = "ExtFaceInfo", alias = "extFaceInfo", default)]
    ext_face_info: Option<String>,
}

/// What `Code` says about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeKind {
    Success,
    Throttled,
    /// The service failed; it may have executed the call before it did.
    ServiceFault,
    /// The service could not fetch the photo from its link.
    DownloadTimeout,
    NonceUsed,
    WrongClock,
    Credentials,
    Signature,
    Permission,
    Account,
    Endpoint,
    /// This request is refused, and would be again.
    Refused,
}

/// The table (reference, protocol.md section 3 and reliability.md 4.1). The first row that fits stands.
const TABLE: &[(Match, CodeKind)] = &[
    (Is("Success"), CodeKind::Success),
    (Begins("Throttling"), CodeKind::Throttled),
    (Is("SuspiciousActivity"), CodeKind::Throttled),
    (Is("SignatureNonceUsed"), CodeKind::NonceUsed),
    (Begins("InvalidTimeStamp"), CodeKind::WrongClock),
    (Is("IllegalTimestamp"), CodeKind::WrongClock),
    (Is("SignatureDoesNotMatch"), CodeKind::Signature),
    (Is("IncompleteSignature"), CodeKind::Signature),
    (Begins("InvalidSignature"), CodeKind::Signature),
    (Begins("InvalidAccessKeyId"), CodeKind::Credentials),
    (Begins("InvalidSecurityToken"), CodeKind::Credentials),
    (Is("MissingSecurityToken"), CodeKind::Credentials),
    (Begins("Forbidden.AccessKey"), CodeKind::Credentials),
    (Begins("Forbidden.AccountAccessDenied"), CodeKind::Account),
    // Not about permission: this photo was sent too often.
    (Is("Forbidden.ExceptionRepeatedInvoke"), CodeKind::Refused),
    (Begins("Forbidden"), CodeKind::Permission),
    (Begins("NoPermission"), CodeKind::Permission),
    (Begins("AccessDenied"), CodeKind::Permission),
    (Begins("InvalidApi"), CodeKind::Endpoint),
    (Begins("InvalidAction"), CodeKind::Endpoint),
    (Begins("InvalidProduct"), CodeKind::Endpoint),
    (Begins("InvalidProtocol"), CodeKind::Endpoint),
    (Begins("InvalidVersion"), CodeKind::Endpoint),
    (Is("NoSuchVersion"), CodeKind::Endpoint),
    (Is("UnsupportedHTTPMethod"), CodeKind::Endpoint),
    (Is("DownloadTimeout"), CodeKind::DownloadTimeout),
    (Is("InternalError"), CodeKind::ServiceFault),
    (Is("ServiceUnavailable"), CodeKind::ServiceFault),
    (Is("UnknownError"), CodeKind::ServiceFault),
    (Is("NoFaceDetected"), CodeKind::Refused),
    (Is("UnqualifiedPhoto"), CodeKind::Refused),
    (Is("ToolargeImage"), CodeKind::Refused),
    (Is("DataDuplication"), CodeKind::Refused),
    (Is("MissingParameter"), CodeKind::Refused),
    (Begins("InvalidParameter"), CodeKind::Refused),
];

enum Match {
    Is(&'static str),
    Begins(&'static str),
}
use Match::{Begins, Is};

impl Match {
    fn fits(&self, code: &str) -> bool {
        match self {
            Is(name) => code == *name,
            // A word of its own: `Throttling` begins `Throttling.User`, and `Forbidden` no `Forbiddenness`.
            Begins(name) => {
                code.strip_prefix(name).is_some_and(|rest| rest.is_empty() || !rest.starts_with(char::is_lowercase))
            }
        }
    }
}

/// What a `Code` means; for one that nobody knows, the status decides.
pub(super) fn code_kind(code: &str, status: u16) -> CodeKind {
    match TABLE.iter().find(|(pattern, _)| pattern.fits(code)) {
        Some((_, kind)) => *kind,
        None if status == 429 => CodeKind::Throttled,
        None if status >= 500 || status == 408 => CodeKind::ServiceFault,
        None => CodeKind::Refused,
    }
}

/// Is this a `Code` of success, in whichever spelling? The documents have several (reference, protocol.md section 3).
pub(super) fn is_success(code: &str) -> bool {
    ["success", "200", "ok"].contains(&code.to_ascii_lowercase().as_str())
}

/// What an answer to AddFaceRecord means.
pub fn classify(answer: &RawResponse) -> Meaning {
    let Some(body) = answer.body.as_deref() else {
        return foreign(answer.status, "its body broke off or has no end");
    };
    match read(body).filter(Body::is_from_service) {
        Some(body) => by_code(answer.status, body),
        None => foreign(answer.status, "its body is not the service's"),
    }
}

impl Body {
    /// See the module.
    fn is_from_service(&self) -> bool {
        let has_passed = self.result.as_ref().is_some_and(|result| result.passed.is_some());
        is_from_service(&self.code, self.request_id.as_deref()) || (has_passed && !self.code.is_empty())
    }
}

/// Do these fields of a body show that the service wrote it?
pub(super) fn is_from_service(code: &str, request_id: Option<&str>) -> bool {
    !code.is_empty() && request_id.is_some_and(|id| !id.is_empty())
}

fn by_code(status: u16, body: Body) -> Meaning {
    let Body { code, message, request_id, result } = body;
    let (code, request_id) = (ErrorCode(shown(&code)), request_id.map(|id| RequestId(shown(&id))));
    let message = message.map(|text| shown(&text)).unwrap_or_default();
    if code.0 != "Success" && is_success(&code.0) {
        // Documented for the queries alone. It is no refusal, and says too little to be a success.
        let why = format!("its Code is {code}");
        return Meaning::Verdict(Verdict::MaybeSent(unreadable(status, &why, request_id)));
    }
    let refusal = |code: ErrorCode| ApiRejection { code, message: message.clone(), request_id: request_id.clone() };
    let fault = |kind| CallFailure { kind, message: format!("{code}: {message}"), request_id: request_id.clone() };
    Meaning::Verdict(match code_kind(&code.0, status) {
        CodeKind::Success if (200..300).contains(&status) => {
            return Meaning::Verdict(succeeded(result, request_id, message));
        }
        // Success and a failing status contradict each other.
        CodeKind::Success => Verdict::MaybeSent(unreadable(status, "it says Success", request_id)),
        CodeKind::Throttled => Verdict::Throttled(refusal(code.clone())),
        CodeKind::ServiceFault => Verdict::MaybeSent(fault(FailureKind::Service(code.clone()))),
        CodeKind::DownloadTimeout => Verdict::NotSent(fault(FailureKind::DownloadTimeout)),
        CodeKind::NonceUsed => Verdict::MaybeSent(fault(FailureKind::NonceUsed)),
        CodeKind::WrongClock => return Meaning::WrongClock(refusal(code.clone())),
        CodeKind::Refused => Verdict::Refused(refusal(code.clone())),
        kind @ (CodeKind::Credentials
        | CodeKind::Signature
        | CodeKind::Permission
        | CodeKind::Account
        | CodeKind::Endpoint) => Verdict::Fatal(fatal(kind, code.clone(), message)),
    })
}

/// What stops a run, by the kind of its code.
pub(super) fn fatal(kind: CodeKind, code: ErrorCode, message: String) -> FatalError {
    match kind {
        CodeKind::Credentials => FatalError::Credentials { code, message },
        // Its message quotes what was signed.
        CodeKind::Signature => FatalError::Signature { code },
        CodeKind::Account => FatalError::Account { code, message },
        CodeKind::WrongClock => FatalError::Clock { code, message },
        CodeKind::Endpoint => FatalError::Endpoint { message: format!("{code}: {message}") },
        CodeKind::Permission
        | CodeKind::Success
        | CodeKind::Throttled
        | CodeKind::ServiceFault
        | CodeKind::DownloadTimeout
        | CodeKind::NonceUsed
        | CodeKind::Refused => FatalError::Permission { code, message },
    }
}

/// Enrolled is: 2xx, Success, and `Passed` of exactly `Y`.
fn succeeded(result: Option<AddResult>, request_id: Option<RequestId>, message: String) -> Verdict {
    #[derive(Deserialize)]
    struct ExtFaceInfo {
        #[serde(rename = "faceQuality")]
        face_quality: Option<String>,
    }
    let (passed, info) = result.map_or((None, None), |result| (result.passed, result.ext_face_info));
    match passed.as_deref() {
        Some("Y") => {
            let info = info.and_then(|text| serde_json::from_str::<ExtFaceInfo>(&text).ok());
            let quality = info.and_then(|info| info.face_quality).map(|text| shown(&text));
            Verdict::Enrolled(EnrollmentReceipt { request_id, quality })
        }
        Some("N") => {
            let detail = info.map(|info| format!(" ({})", shown(&info))).unwrap_or_default();
            Verdict::Refused(ApiRejection {
                code: ErrorCode::NOT_PASSED.into(),
                message: format!("the service did not accept the photo{detail}"),
                request_id,
            })
        }
        Some(_) | None => {
            Verdict::MaybeSent(unreadable(200, &format!("Success without Passed: {message}"), request_id))
        }
    }
}

/// An answer that the service has not written, or not to its end.
fn foreign(status: u16, why: &str) -> Meaning {
    let effect = match status {
        429 => Some(RunEffect::SlowDown),
        // The gateway answers so under load (documented for STS). It is never followed.
        302 => Some(RunEffect::SlowDown),
        300..=399 | 401 | 403 | 407 => Some(RunEffect::Stop(FatalError::Intercepted { status })),
        _ => None,
    };
    Meaning::Foreign(unreadable(status, why, None), effect)
}

fn unreadable(status: u16, why: &str, request_id: Option<RequestId>) -> CallFailure {
    CallFailure {
        kind: FailureKind::UnreadableAnswer,
        message: format!("HTTP {status} that can't be understood: {why}"),
        request_id,
    }
}

fn read(body: &[u8]) -> Option<Body> {
    // As text first: what the parser passes over may be anything, and what is no UTF-8 is no JSON (found by fuzzing).
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str(text).ok().or_else(|| read_xml(text))
}

/// `<Error><Code>…</Code>…</Error>`, which the gateway sends in some failures.
fn read_xml(text: &str) -> Option<Body> {
    if !text.trim_start().starts_with("<?xml") && !text.trim_start().starts_with("<Error") {
        return None;
    }
    let element = |name: &str| {
        let rest = text.split_once(&format!("<{name}>"))?.1;
        Some(rest.split_once(&format!("</{name}>"))?.0.trim().to_owned())
    };
    Some(Body { code: element("Code")?, message: element("Message"), request_id: element("RequestId"), result: None })
}

/// A text of the service as it may be shown: nothing in it steers a terminal, and it is not too long.
pub(super) fn shown(text: &str) -> String {
    text.chars()
        .take(TEXT_CAP)
        .flat_map(|c| if is_unprintable(c) { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn answer(status: u16, body: impl AsRef<[u8]>) -> RawResponse {
        RawResponse { status, body: Some(body.as_ref().to_vec().into()), ..RawResponse::default() }
    }

    fn meaning(status: u16, body: &str) -> String {
        match classify(&answer(status, body)) {
            Meaning::WrongClock(_) => "wrong clock".into(),
            Meaning::Foreign(_, None) => "foreign".into(),
            Meaning::Foreign(_, Some(RunEffect::SlowDown)) => "foreign, slow down".into(),
            Meaning::Foreign(_, Some(RunEffect::Stop(_))) => "foreign, stop".into(),
            Meaning::Verdict(verdict) => match verdict {
                Verdict::Enrolled(_) => "enrolled".into(),
                Verdict::Refused(refusal) => format!("refused {}", refusal.code),
                Verdict::Throttled(_) => "throttled".into(),
                Verdict::NotSent(fault) => format!("not sent {:?}", fault.kind),
                Verdict::MaybeSent(fault) => format!("maybe sent {}", fault.kind.code()),
                Verdict::Fatal(fatal) => format!("fatal {}", format!("{fatal:?}").split([' ', '{']).next().unwrap()),
            },
        }
    }

    fn code(status: u16, code: &str) -> String {
        meaning(status, &format!(r#"{{"RequestId":"R","HostId":"h","Code":"{code}","Message":"m","Recommend":"r"}}"#))
    }

    const CODES: &[(u16, &str, &str)] = &[
        (400, "Throttling", "throttled"),
        (400, "Throttling.User", "throttled"),
        (403, "Throttling.Api", "throttled"),
        (503, "Throttling.System", "throttled"),
        (403, "Throttling.Api.Concurrency", "throttled"),
        (429, "SuspiciousActivity", "throttled"),
        (400, "SignatureNonceUsed", "maybe sent NonceUsed"),
        (400, "InvalidTimeStamp.Expired", "wrong clock"),
        (400, "InvalidTimeStamp.Format", "wrong clock"),
        (400, "IllegalTimestamp", "wrong clock"),
        (403, "SignatureDoesNotMatch", "fatal Signature"),
        (400, "IncompleteSignature", "fatal Signature"),
        (400, "InvalidSignatureMethod", "fatal Signature"),
        (404, "InvalidAccessKeyId.NotFound", "fatal Credentials"),
        (400, "InvalidAccessKeyId.Inactive", "fatal Credentials"),
        (403, "Forbidden.AccessKeyDisabled", "fatal Credentials"),
        (400, "InvalidSecurityToken.Expired", "fatal Credentials"),
        (400, "InvalidSecurityToken.Malformed", "fatal Credentials"),
        (400, "InvalidSecurityToken.MismatchWithAccessKey", "fatal Credentials"),
        (400, "MissingSecurityToken", "fatal Credentials"),
        (403, "Forbidden.RAMUserAccessDenied", "fatal Permission"),
        (403, "Forbidden.RAM", "fatal Permission"),
        (403, "Forbidden", "fatal Permission"),
        (403, "NoPermission", "fatal Permission"),
        (403, "AccessDenied", "fatal Permission"),
        (403, "Forbidden.AccountAccessDenied", "fatal Account"),
        (401, "Forbidden.ExceptionRepeatedInvoke", "refused Forbidden.ExceptionRepeatedInvoke"),
        (404, "InvalidApi.NotFound", "fatal Endpoint"),
        (404, "InvalidAction.NotFound", "fatal Endpoint"),
        (404, "InvalidProduct.NotFound", "fatal Endpoint"),
        (400, "InvalidProtocol.NeedSsl", "fatal Endpoint"),
        (405, "UnsupportedHTTPMethod", "fatal Endpoint"),
        (400, "NoSuchVersion", "fatal Endpoint"),
        (400, "InvalidVersion", "fatal Endpoint"),
        (401, "NoFaceDetected", "refused NoFaceDetected"),
        (200, "NoFaceDetected", "refused NoFaceDetected"),
        (401, "UnqualifiedPhoto", "refused UnqualifiedPhoto"),
        (401, "ToolargeImage", "refused ToolargeImage"),
        (401, "DataDuplication", "refused DataDuplication"),
        (401, "DownloadTimeout", "not sent DownloadTimeout"),
        (400, "MissingParameter", "refused MissingParameter"),
        (400, "InvalidParameter", "refused InvalidParameter"),
        (400, "InvalidParameter.FaceGroupCode", "refused InvalidParameter.FaceGroupCode"),
        (500, "InternalError", "maybe sent InternalError"),
        (503, "ServiceUnavailable", "maybe sent ServiceUnavailable"),
        (500, "UnknownError", "maybe sent UnknownError"),
        (400, "SomethingNew", "refused SomethingNew"),
        (200, "SomethingNew", "refused SomethingNew"),
        (502, "SomethingNew", "maybe sent SomethingNew"),
        (429, "SomethingNew", "throttled"),
        (408, "SomethingNew", "maybe sent SomethingNew"),
    ];

    #[test]
    fn every_documented_code_has_its_meaning() {
        for (status, name, expected) in CODES {
            assert_eq!(code(*status, name), *expected, "{status} {name}");
        }
    }

    #[test]
    fn every_row_of_the_table_is_tried() {
        let tried = |row: &Match| {
            CODES.iter().any(|(_, code, _)| TABLE.iter().position(|(p, _)| p.fits(code)) == position(row))
        };
        fn position(row: &Match) -> Option<usize> {
            TABLE.iter().position(|(pattern, _)| std::ptr::eq(pattern, row))
        }
        for (row, _) in TABLE {
            let (Is(name) | Begins(name)) = row;
            // Success has a test of its own.
            assert!(*name == "Success" || tried(row), "{name} is not tried, or hidden behind another row");
        }
    }

    #[test]
    fn enrolled_is_success_with_passed_y_and_nothing_else() {
        let success =
            |result: &str| meaning(200, &format!(r#"{{"RequestId":"R","Code":"Success","Message":"m"{result}}}"#));
        assert_eq!(success(r#","Result":{"Passed":"Y","ExtFaceInfo":"{\"faceQuality\":\"HIGH\"}"}"#), "enrolled");
        assert_eq!(success(r#","Result":{"Passed":"Y"}"#), "enrolled");
        assert_eq!(success(r#","Result":{"Passed":"Y","ExtFaceInfo":"no JSON"}"#), "enrolled");
        assert_eq!(success(r#","Result":{"Passed":"N"}"#), "refused Passed=N");
        for unclear in
            ["", r#","Result":{}"#, r#","Result":null"#, r#","Result":{"Passed":"y"}"#, r#","Result":{"Passed":true}"#]
        {
            let expected = if unclear.contains("true") { "foreign" } else { "maybe sent UnreadableAnswer" };
            assert_eq!(success(unclear), expected, "{unclear}");
        }
        assert_eq!(meaning(200, r#"{"Code":"Success","Result":{"Passed":"Y"}}"#), "enrolled", "nobody else has Passed");
        assert_eq!(meaning(500, r#"{"Code":"Success","Result":{"Passed":"Y"}}"#), "maybe sent UnreadableAnswer");
        for other_spelling in ["success", "SUCCESS", "200", "OK"] {
            let body = format!(r#"{{"RequestId":"R","Code":"{other_spelling}","Result":{{"Passed":"Y"}}}}"#);
            assert_eq!(meaning(200, &body), "maybe sent UnreadableAnswer", "{other_spelling}");
        }
    }

    #[test]
    fn receipt_carries_the_quality_and_the_request_id() {
        let body =
            r#"{"RequestId":"R-1","Code":"Success","Result":{"Passed":"Y","ExtFaceInfo":"{\"faceQuality\":\"LOW\"}"}}"#;
        let receipt = EnrollmentReceipt { request_id: Some(RequestId("R-1".into())), quality: Some("LOW".into()) };
        assert_eq!(classify(&answer(200, body)), Meaning::Verdict(Verdict::Enrolled(receipt)));
    }

    #[test]
    fn other_spellings_of_an_error_are_read_too() {
        assert_eq!(meaning(400, r#"{"code":"Throttling.User","message":"m","requestId":"r"}"#), "throttled");
        let xml =
            "<?xml version='1.0'?><Error><RequestId>R</RequestId><Code>NoPermission</Code><Message>m</Message></Error>";
        assert_eq!(meaning(403, xml), "fatal Permission");
    }

    /// What something on the way may write in the place of the service's answer.
    const FOREIGN: [&str; 12] = [
        "",
        "<html><body>Sign in</body></html>",
        "<?xml version=\"1.0\"?><html><Code>Throttling</Code></html>",
        "<Error><Code>AccessDenied</Code><Message>m</Message></Error>",
        "Forbidden",
        r#"{"code":403,"message":"Forbidden","requestId":"R"}"#,
        r#"{"code":"Forbidden","message":"m"}"#,
        r#"{"Code":"Throttling.User","Message":"m"}"#,
        r#"{"Code":"NoFaceDetected","Message":"m","RequestId":""}"#,
        r#"{"Code":"","Message":"m","RequestId":"R"}"#,
        r#"{"error":{"Code":"Throttling","RequestId":"R"}}"#,
        "\u{1f}\u{8b}\u{8}garbage of a compression that was not asked for",
    ];

    #[test]
    fn foreign_answer_proves_nothing_and_its_status_concerns_the_run() {
        for (status, expected) in [
            (101, "foreign"),
            (200, "foreign"),
            (204, "foreign"),
            (301, "foreign, stop"),
            (302, "foreign, slow down"),
            (307, "foreign, stop"),
            (308, "foreign, stop"),
            (400, "foreign"),
            (401, "foreign, stop"),
            (403, "foreign, stop"),
            (404, "foreign"),
            (407, "foreign, stop"),
            (408, "foreign"),
            (413, "foreign"),
            (429, "foreign, slow down"),
            (500, "foreign"),
            (502, "foreign"),
            (503, "foreign"),
            (599, "foreign"),
        ] {
            for body in FOREIGN {
                assert_eq!(meaning(status, body), expected, "{status} {body}");
            }
            let broken_off = classify(&RawResponse { status, ..RawResponse::default() });
            assert!(matches!(broken_off, Meaning::Foreign(..)), "{status}");
        }
    }

    #[test]
    fn what_can_t_be_understood_may_have_been_executed() {
        let nested = "[".repeat(10_000);
        for garbage in
            ["", "{", r#"{"Code":"Succ"#, "null", "[]", r#"{"Code":200}"#, r#"{"Message":"m"}"#, "\u{0}\u{0}", &nested]
        {
            assert_eq!(meaning(200, garbage), "foreign", "{garbage:.20}");
        }
        let twice = r#"{"RequestId":"R","Code":"Success","Code":"Throttling","Result":{"Passed":"Y"}}"#;
        assert_eq!(meaning(200, twice), "foreign");
        let utf16: Vec<u8> =
            r#"{"RequestId":"R","Code":"Throttling"}"#.encode_utf16().flat_map(u16::to_le_bytes).collect();
        let not_utf8 = br#"{"RequestId":"R","Code":"Throttling","Message":"?"}"#
            .map(|byte| if byte == b'?' { 0xFF } else { byte });
        let passed_over = b"{\"x\":\"\xff\",\"Code\":\"Success\",\"Result\":{\"Passed\":\"Y\"}}";
        for body in [&utf16[..], &not_utf8, passed_over] {
            assert!(matches!(classify(&answer(200, body)), Meaning::Foreign(..)), "{body:?}");
        }
    }

    #[test]
    fn texts_of_the_service_are_cut_and_made_harmless() {
        let body =
            format!(r#"{{"RequestId":"R","Code":"NoFaceDetected","Message":"a\u001b[31m\n{}"}}"#, "x".repeat(1_000));
        let Meaning::Verdict(Verdict::Refused(refusal)) = classify(&answer(401, body)) else { panic!() };
        assert!(refusal.message.starts_with(r"a\u{1b}[31m\n"), "{}", refusal.message);
        assert!(refusal.message.len() < 400);
    }

    #[test]
    fn quoted_signature_is_not_repeated() {
        let body =
            r#"{"RequestId":"R","Code":"SignatureDoesNotMatch","Message":"server string to sign is:POST planted"}"#;
        let Meaning::Verdict(Verdict::Fatal(fatal)) = classify(&answer(403, body)) else { panic!() };
        assert!(!format!("{fatal:?} {fatal}").contains("planted"));
    }

    proptest! {
        #[test]
        fn no_answer_makes_it_panic(status in 100_u16..1000, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let meaning = classify(&answer(status, body));
            prop_assert!(!matches!(meaning, Meaning::Verdict(Verdict::Enrolled(_))));
        }

        #[test]
        fn without_code_and_request_id_no_call_is_taken_for_unexecuted(
            status in 100_u16..1000,
            code in proptest::option::of(proptest::sample::select(CODES).prop_map(|(_, code, _)| code)),
            request_id in proptest::option::of("[A-Z0-9-]{0,8}"),
            message in proptest::option::of("[ -~]{0,20}"),
            is_lower_case in any::<bool>(),
        ) {
            let is_service = code.is_some() && request_id.as_ref().is_some_and(|id| !id.is_empty());
            let fields = [("Code", code.map(str::to_owned)), ("RequestId", request_id), ("Message", message)];
            let fields = fields.into_iter().filter_map(|(name, value)| {
                let name = if is_lower_case { name[..1].to_ascii_lowercase() + &name[1..] } else { name.to_owned() };
                Some((name, serde_json::Value::from(value?)))
            });
            let body = serde_json::Value::Object(fields.collect()).to_string();
            let is_foreign = matches!(classify(&answer(status, &body)), Meaning::Foreign(..));
            prop_assert_eq!(is_foreign, !is_service, "{}", body);
        }

        #[test]
        fn damaged_success_is_success_or_unknown_or_refused(at in 0_usize..90, byte in any::<u8>()) {
            let mut body = br#"{"RequestId":"R-1","Code":"Success","Message":"success","Result":{"Passed":"Y"}}"#.to_vec();
            let at = at % body.len();
            body[at] = byte;
            let Meaning::Verdict(verdict) = classify(&answer(200, &body)) else { return Ok(()) };
            prop_assert!(!matches!(verdict, Verdict::NotSent(_) | Verdict::Throttled(_)), "{verdict:?}");
        }
    }
}
