//! Classifies a response by its `Code`, with one table.
//!
//! The status alone is ambiguous: 403 means throttling or a missing permission, 401 can be a bad photo, and 200 can be a
//! rejection.
//!
//! Only the service can say that a call was not executed. A response comes from the service if its body is JSON (or the
//! gateway's XML) with a `Code` and a `RequestId`, both non-empty strings: the documents show both in every response, and
//! a proxy, a firewall or a sign-in page has no `RequestId`. `Result.Passed` is also proof, because only this API has it.
//! Any other response may have replaced a `Success`, so its call is in doubt whatever the status is. The status can still
//! stop the run or slow it down ([`RunEffect`]).
//!
//! Pure and total: no response makes it panic.

use serde::Deserialize;

use super::RawResponse;
use crate::domain::{
    ApiRejection, CallError, CallFailure, EnrollmentReceipt, ErrorCode, FailureKind, FatalError, RequestId, RunEffect,
    is_unprintable,
};

/// Longest text kept from a response, in characters.
const MAX_TEXT_CHARS: usize = 300;

/// What a response means. The client decides about a wrong clock, because it knows which date it signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Classification {
    /// The service responded.
    Response(Result<EnrollmentReceipt, CallError>),
    /// The service rejected the date and did not execute the call.
    WrongClock(ApiRejection),
    /// Not a response of the service: the call may have been executed. The status may affect the run.
    Foreign(CallFailure, Option<RunEffect>),
}

/// The parts of a response body that are read, for success and failure.
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

/// Class of a `Code`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CodeClass {
    Success,
    Throttled,
    /// The service failed and may have executed the call.
    ServiceFault,
    /// The service could not download the photo from its URL.
    DownloadTimeout,
    NonceUsed,
    WrongClock,
    /// No call will succeed until a person acts.
    Fatal(FatalClass),
    /// This request is rejected, and would be rejected again.
    Refused,
}

/// What a person must fix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FatalClass {
    Credentials,
    Signature,
    Permission,
    Account,
    Endpoint,
}

/// The table (reference, protocol.md section 3 and reliability.md 4.1). The first matching row applies.
const TABLE: &[(CodePattern, CodeClass)] = &[
    (Exact("Success"), CodeClass::Success),
    (Prefix("Throttling"), CodeClass::Throttled),
    (Exact("SuspiciousActivity"), CodeClass::Throttled),
    (Exact("SignatureNonceUsed"), CodeClass::NonceUsed),
    (Prefix("InvalidTimeStamp"), CodeClass::WrongClock),
    (Exact("IllegalTimestamp"), CodeClass::WrongClock),
    (Exact("SignatureDoesNotMatch"), CodeClass::Fatal(FatalClass::Signature)),
    (Exact("IncompleteSignature"), CodeClass::Fatal(FatalClass::Signature)),
    (Prefix("InvalidSignature"), CodeClass::Fatal(FatalClass::Signature)),
    (Prefix("InvalidAccessKeyId"), CodeClass::Fatal(FatalClass::Credentials)),
    (Prefix("InvalidSecurityToken"), CodeClass::Fatal(FatalClass::Credentials)),
    (Exact("MissingSecurityToken"), CodeClass::Fatal(FatalClass::Credentials)),
    (Prefix("Forbidden.AccessKey"), CodeClass::Fatal(FatalClass::Credentials)),
    (Prefix("Forbidden.AccountAccessDenied"), CodeClass::Fatal(FatalClass::Account)),
    // Despite its name: this photo was sent too often.
    (Exact("Forbidden.ExceptionRepeatedInvoke"), CodeClass::Refused),
    (Prefix("Forbidden"), CodeClass::Fatal(FatalClass::Permission)),
    (Prefix("NoPermission"), CodeClass::Fatal(FatalClass::Permission)),
    (Prefix("AccessDenied"), CodeClass::Fatal(FatalClass::Permission)),
    (Prefix("InvalidApi"), CodeClass::Fatal(FatalClass::Endpoint)),
    (Prefix("InvalidAction"), CodeClass::Fatal(FatalClass::Endpoint)),
    (Prefix("InvalidProduct"), CodeClass::Fatal(FatalClass::Endpoint)),
    (Prefix("InvalidProtocol"), CodeClass::Fatal(FatalClass::Endpoint)),
    (Prefix("InvalidVersion"), CodeClass::Fatal(FatalClass::Endpoint)),
    (Exact("NoSuchVersion"), CodeClass::Fatal(FatalClass::Endpoint)),
    (Exact("UnsupportedHTTPMethod"), CodeClass::Fatal(FatalClass::Endpoint)),
    (Exact("DownloadTimeout"), CodeClass::DownloadTimeout),
    (Exact("InternalError"), CodeClass::ServiceFault),
    (Exact("ServiceUnavailable"), CodeClass::ServiceFault),
    (Exact("UnknownError"), CodeClass::ServiceFault),
    (Exact("NoFaceDetected"), CodeClass::Refused),
    (Exact("UnqualifiedPhoto"), CodeClass::Refused),
    (Exact("ToolargeImage"), CodeClass::Refused),
    (Exact("DataDuplication"), CodeClass::Refused),
    (Exact("MissingParameter"), CodeClass::Refused),
    (Prefix("InvalidParameter"), CodeClass::Refused),
];

enum CodePattern {
    Exact(&'static str),
    Prefix(&'static str),
}
use CodePattern::{Exact, Prefix};

impl CodePattern {
    fn matches(&self, code: &str) -> bool {
        match self {
            Exact(name) => code == *name,
            // Match whole words only: `Forbidden` matches `Forbidden.RAM`, but not `Forbiddenness`.
            Prefix(name) => {
                code.strip_prefix(name).is_some_and(|rest| rest.is_empty() || !rest.starts_with(char::is_lowercase))
            }
        }
    }
}

/// Class of a `Code`. The status decides for unknown codes.
pub(super) fn classify_code(code: &str, status: u16) -> CodeClass {
    match TABLE.iter().find(|(pattern, _)| pattern.matches(code)) {
        Some((_, class)) => *class,
        None if status == 429 => CodeClass::Throttled,
        None if status >= 500 || status == 408 => CodeClass::ServiceFault,
        None => CodeClass::Refused,
    }
}

/// Whether a `Code` means success, in any of the documented spellings (reference, protocol.md section 3).
pub(super) fn is_success(code: &str) -> bool {
    ["success", "200", "ok"].contains(&code.to_ascii_lowercase().as_str())
}

/// Classifies a response of the gateway. Only AddFaceRecord has a receipt: of a successful other call, the caller reads the body.
pub fn classify(response: &RawResponse) -> Classification {
    let Some(body) = response.body.as_deref() else {
        return foreign(response.status, "the body was cut off or is too large");
    };
    match parse_body(body).filter(Body::is_from_service) {
        Some(body) => classify_body(response, body),
        None => foreign(response.status, "the body is not from the service"),
    }
}

impl Body {
    /// Whether the service wrote this body; see the module documentation.
    fn is_from_service(&self) -> bool {
        let has_passed = self.result.as_ref().is_some_and(|result| result.passed.is_some());
        is_from_service(&self.code, self.request_id.as_deref()) || (has_passed && !self.code.is_empty())
    }
}

/// Whether these fields prove that the service wrote the body.
pub(super) fn is_from_service(code: &str, request_id: Option<&str>) -> bool {
    !code.is_empty() && request_id.is_some_and(|id| !id.is_empty())
}

fn classify_body(response: &RawResponse, body: Body) -> Classification {
    let RawResponse { status, retry_after, .. } = *response;
    let Body { code, message, request_id, result } = body;
    let (code, request_id) = (ErrorCode(sanitize(&code)), request_id.map(|id| RequestId(sanitize(&id))));
    let message = message.map(|text| sanitize(&text)).unwrap_or_default();
    if code.0 != "Success" && is_success(&code.0) {
        // Documented for queries only, so it is neither a rejection nor clear enough for a success.
        let why = format!("its Code is {code}, not Success");
        return Classification::Response(Err(CallError::MaybeExecuted(unreadable(status, &why, request_id))));
    }
    let rejection = |code: ErrorCode| ApiRejection { code, message: message.clone(), request_id: request_id.clone() };
    let failure = |kind| CallFailure { kind, message: format!("{code}: {message}"), request_id: request_id.clone() };
    Classification::Response(match classify_code(&code.0, status) {
        CodeClass::Success if (200..300).contains(&status) => {
            return Classification::Response(classify_success(result, request_id, message));
        }
        // Success and a failing status contradict each other.
        CodeClass::Success => Err(CallError::MaybeExecuted(unreadable(status, "its Code is Success", request_id))),
        CodeClass::Throttled => Err(CallError::Throttled { retry_after }),
        CodeClass::ServiceFault => Err(CallError::MaybeExecuted(failure(FailureKind::Service(code.clone())))),
        CodeClass::DownloadTimeout => Err(CallError::NotExecuted(failure(FailureKind::DownloadTimeout))),
        CodeClass::NonceUsed => Err(CallError::MaybeExecuted(failure(FailureKind::NonceUsed))),
        CodeClass::WrongClock => return Classification::WrongClock(rejection(code.clone())),
        CodeClass::Refused => Err(CallError::Rejected(rejection(code.clone()))),
        CodeClass::Fatal(class) => Err(CallError::Fatal(fatal(class, code.clone(), message))),
    })
}

/// The error that stops the run for this class.
pub(super) fn fatal(class: FatalClass, code: ErrorCode, message: String) -> FatalError {
    match class {
        FatalClass::Credentials => FatalError::Credentials { code, message },
        // Drop the message, because it quotes the signed string.
        FatalClass::Signature => FatalError::Signature { code },
        FatalClass::Permission => FatalError::Permission { code, message },
        FatalClass::Account => FatalError::Account { code, message },
        FatalClass::Endpoint => FatalError::Endpoint { message: format!("{code}: {message}") },
    }
}

/// Enrolled only with `Passed` of exactly `Y`; the caller has checked the 2xx status and `Success`.
fn classify_success(
    result: Option<AddResult>,
    request_id: Option<RequestId>,
    message: String,
) -> Result<EnrollmentReceipt, CallError> {
    #[derive(Deserialize)]
    struct ExtFaceInfo {
        #[serde(rename = "faceQuality")]
        face_quality: Option<String>,
    }
    let (passed, info) = result.map_or((None, None), |result| (result.passed, result.ext_face_info));
    match passed.as_deref() {
        Some("Y") => {
            let info = info.and_then(|text| serde_json::from_str::<ExtFaceInfo>(&text).ok());
            let quality = info.and_then(|info| info.face_quality).map(|text| sanitize(&text));
            Ok(EnrollmentReceipt { request_id, quality })
        }
        Some("N") => {
            let detail = info.map(|info| format!(" ({})", sanitize(&info))).unwrap_or_default();
            Err(CallError::Rejected(ApiRejection {
                code: ErrorCode::NOT_PASSED.into(),
                message: format!("the service rejected the photo{detail}"),
                request_id,
            }))
        }
        Some(_) | None => {
            Err(CallError::MaybeExecuted(unreadable(200, &format!("Success without Passed: {message}"), request_id)))
        }
    }
}

/// A response that the service did not write, or not completely.
fn foreign(status: u16, why: &str) -> Classification {
    let effect = match status {
        429 => Some(RunEffect::SlowDown),
        // The gateway responds with this under load (documented for STS). The redirect is never followed.
        302 => Some(RunEffect::SlowDown),
        300..=399 | 401 | 403 | 407 => Some(RunEffect::Stop(FatalError::Intercepted { status })),
        _ => None,
    };
    Classification::Foreign(unreadable(status, why, None), effect)
}

fn unreadable(status: u16, why: &str, request_id: Option<RequestId>) -> CallFailure {
    CallFailure {
        kind: FailureKind::UnreadableAnswer,
        message: format!("unreadable response (HTTP {status}): {why}"),
        request_id,
    }
}

fn parse_body(body: &[u8]) -> Option<Body> {
    // Check UTF-8 first: the JSON parser does not check values that it skips (found by fuzzing).
    let text = std::str::from_utf8(body).ok()?;
    serde_json::from_str(text).ok().or_else(|| parse_xml(text))
}

/// Parses `<Error><Code>…</Code>…</Error>`, which the gateway sends for some failures.
fn parse_xml(text: &str) -> Option<Body> {
    if !text.trim_start().starts_with("<?xml") && !text.trim_start().starts_with("<Error") {
        return None;
    }
    let element = |name: &str| xml_element(text, name).map(str::to_owned);
    Some(Body { code: element("Code")?, message: element("Message"), request_id: element("RequestId"), result: None })
}

/// Text of the first element with this name.
pub(super) fn xml_element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    let rest = xml.split_once(&format!("<{name}>"))?.1;
    Some(rest.split_once(&format!("</{name}>"))?.0.trim())
}

/// Makes a text from a response safe to print: no control characters, limited length.
pub(super) fn sanitize(text: &str) -> String {
    text.chars()
        .take(MAX_TEXT_CHARS)
        .flat_map(|c| if is_unprintable(c) { c.escape_default().collect() } else { vec![c] })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(status: u16, body: impl AsRef<[u8]>) -> RawResponse {
        RawResponse { status, body: Some(body.as_ref().to_vec().into()), ..RawResponse::default() }
    }

    fn meaning(status: u16, body: &str) -> String {
        match classify(&response(status, body)) {
            Classification::WrongClock(_) => "wrong clock".into(),
            Classification::Foreign(_, None) => "foreign".into(),
            Classification::Foreign(_, Some(RunEffect::SlowDown)) => "foreign, slow down".into(),
            Classification::Foreign(_, Some(RunEffect::Stop(_))) => "foreign, stop".into(),
            Classification::Response(verdict) => match verdict {
                Ok(_) => "enrolled".into(),
                Err(CallError::Rejected(rejection)) => format!("refused {}", rejection.code),
                Err(CallError::Throttled { .. }) => "throttled".into(),
                Err(CallError::NotExecuted(failure)) => format!("not sent {:?}", failure.kind),
                Err(CallError::MaybeExecuted(failure)) => format!("maybe sent {}", failure.kind.code()),
                Err(CallError::Fatal(fatal)) => {
                    format!("fatal {}", format!("{fatal:?}").split([' ', '{']).next().unwrap())
                }
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
    fn documented_codes_are_classified() {
        for (status, name, expected) in CODES {
            assert_eq!(code(*status, name), *expected, "{status} {name}");
        }
    }

    #[test]
    fn every_table_row_is_tested() {
        let tried = |row: &CodePattern| {
            CODES.iter().any(|(_, code, _)| TABLE.iter().position(|(p, _)| p.matches(code)) == position(row))
        };
        fn position(row: &CodePattern) -> Option<usize> {
            TABLE.iter().position(|(pattern, _)| std::ptr::eq(pattern, row))
        }
        for (row, _) in TABLE {
            let (Exact(name) | Prefix(name)) = row;
            // Success has its own test.
            assert!(*name == "Success" || tried(row), "{name} is untested or shadowed by an earlier row");
        }
    }

    #[test]
    fn only_success_with_passed_y_is_enrolled() {
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
        assert_eq!(
            meaning(200, r#"{"Code":"Success","Result":{"Passed":"Y"}}"#),
            "enrolled",
            "only this API has Passed"
        );
        assert_eq!(meaning(500, r#"{"Code":"Success","Result":{"Passed":"Y"}}"#), "maybe sent UnreadableAnswer");
        for other_spelling in ["success", "SUCCESS", "200", "OK"] {
            let body = format!(r#"{{"RequestId":"R","Code":"{other_spelling}","Result":{{"Passed":"Y"}}}}"#);
            assert_eq!(meaning(200, &body), "maybe sent UnreadableAnswer", "{other_spelling}");
        }
    }

    #[test]
    fn receipt_has_quality_and_request_id() {
        let body =
            r#"{"RequestId":"R-1","Code":"Success","Result":{"Passed":"Y","ExtFaceInfo":"{\"faceQuality\":\"LOW\"}"}}"#;
        let receipt = EnrollmentReceipt { request_id: Some(RequestId("R-1".into())), quality: Some("LOW".into()) };
        assert_eq!(classify(&response(200, body)), Classification::Response(Ok(receipt)));
    }

    #[test]
    fn lower_case_and_xml_errors_are_parsed() {
        assert_eq!(meaning(400, r#"{"code":"Throttling.User","message":"m","requestId":"r"}"#), "throttled");
        let xml =
            "<?xml version='1.0'?><Error><RequestId>R</RequestId><Code>NoPermission</Code><Message>m</Message></Error>";
        assert_eq!(meaning(403, xml), "fatal Permission");
    }

    /// Bodies that an intermediary may send instead of the service.
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
    fn foreign_response_affects_the_run_by_status_only() {
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
            assert!(matches!(broken_off, Classification::Foreign(..)), "{status}");
        }
    }

    #[test]
    fn unreadable_response_is_in_doubt() {
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
            assert!(matches!(classify(&response(200, body)), Classification::Foreign(..)), "{body:?}");
        }
    }

    #[test]
    fn response_texts_are_truncated_and_escaped() {
        let body =
            format!(r#"{{"RequestId":"R","Code":"NoFaceDetected","Message":"a\u001b[31m\n{}"}}"#, "x".repeat(1_000));
        let Classification::Response(Err(CallError::Rejected(rejection))) = classify(&response(401, body)) else {
            panic!()
        };
        assert!(rejection.message.starts_with(r"a\u{1b}[31m\n"), "{}", rejection.message);
        assert!(rejection.message.len() < 400);
    }

    #[test]
    fn signature_error_does_not_quote_the_signed_string() {
        let body =
            r#"{"RequestId":"R","Code":"SignatureDoesNotMatch","Message":"server string to sign is:POST planted"}"#;
        let Classification::Response(Err(CallError::Fatal(fatal))) = classify(&response(403, body)) else { panic!() };
        assert!(!format!("{fatal:?} {fatal}").contains("planted"));
    }

    proptest! {
        #[test]
        fn no_response_panics(status in 100_u16..1000, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let meaning = classify(&response(status, body));
            prop_assert!(!matches!(meaning, Classification::Response(Ok(_))));
        }

        #[test]
        fn response_without_code_or_request_id_is_in_doubt(
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
            let is_foreign = matches!(classify(&response(status, &body)), Classification::Foreign(..));
            prop_assert_eq!(is_foreign, !is_service, "{}", body);
        }

        #[test]
        fn damaged_success_is_never_retryable(at in 0_usize..90, byte in any::<u8>()) {
            let mut body = br#"{"RequestId":"R-1","Code":"Success","Message":"success","Result":{"Passed":"Y"}}"#.to_vec();
            let at = at % body.len();
            body[at] = byte;
            let Classification::Response(verdict) = classify(&response(200, &body)) else { return Ok(()) };
            prop_assert!(!matches!(verdict, Err(CallError::NotExecuted(_) | CallError::Throttled { .. })), "{verdict:?}");
        }
    }
}
