//! Upload of photos that are too large to send inline (reference, protocol.md section 2): AuthorizeFileUpload at the open
//! platform, then PostObject to the object store. AddFaceRecord then takes the address of the file.
//!
//! An upload enrols nobody, so any failure can be retried with a new authorization. An authorization is valid for one
//! file, until the time in its policy.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use super::{
    CallError, Client, Endpoint, RawResponse, SignedRequest, Transport,
    classify::{CodeClass, classify_code, fatal, is_from_service, sanitize, xml_element},
    client::Call,
};
use crate::domain::{ApiRejection, CallFailure, ErrorCode, FailureKind, FatalError, Permit};

/// API version of AuthorizeFileUpload.
const VERSION: &str = "2019-12-19";
/// Product name that the official SDKs send.
const PRODUCT: &str = "Cloudauth-intl";
/// Lifetime assumed for a policy without a readable expiry; short enough for any real policy.
const DEFAULT_POLICY_TTL: Duration = Duration::from_secs(60);

/// Where uploads are authorized.
#[derive(Debug, Clone)]
pub struct UploadTarget {
    /// Endpoint of AuthorizeFileUpload (`--upload-endpoint`).
    pub endpoint: Endpoint,
    /// Region id; `None` with a custom endpoint.
    pub region: Option<&'static str>,
}

/// Authorization to upload one file.
pub struct UploadAuthorization {
    access_key_id: String,
    bucket: String,
    endpoint: String,
    key: String,
    policy: String,
    signature: String,
    /// Remaining lifetime when it was received.
    pub life: Duration,
}

/// Address of an uploaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUrl(pub(super) String);

/// Why an authorization or an upload failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadError {
    /// Too many calls.
    Throttled {
        /// Wait that the service asks for, if any.
        retry_after: Option<Duration>,
    },
    /// Retry with a new authorization.
    CallFailure(CallFailure),
    /// The store will never accept this file.
    Refused(ApiRejection),
    /// No call will succeed until a person acts.
    Fatal(FatalError),
}

#[derive(Debug, Deserialize)]
struct AuthorizeResponse {
    #[serde(rename = "AccessKeyId")]
    access_key_id: String,
    #[serde(rename = "Bucket")]
    bucket: String,
    #[serde(rename = "EncodedPolicy")]
    policy: String,
    #[serde(rename = "Endpoint")]
    endpoint: String,
    #[serde(rename = "ObjectKey")]
    key: String,
    #[serde(rename = "Signature")]
    signature: String,
}

#[derive(Debug, Deserialize)]
struct ErrorResponse {
    #[serde(rename = "Code", alias = "code")]
    code: String,
    #[serde(rename = "Message", alias = "message", default)]
    message: Option<String>,
    #[serde(rename = "RequestId", alias = "requestId", alias = "requestid", default)]
    request_id: Option<String>,
}

impl ErrorResponse {
    /// `None` if the body is not from the service.
    fn parse(body: &[u8]) -> Option<Self> {
        let error: Self = serde_json::from_slice(body).ok()?;
        is_from_service(&error.code, error.request_id.as_deref()).then_some(error)
    }
}

impl<T: Transport> Client<T> {
    /// AuthorizeFileUpload: requests the authorization to upload one file.
    pub async fn authorize_file_upload(&self, _permit: Permit) -> Result<UploadAuthorization, UploadError> {
        let UploadTarget { endpoint, region } = &self.upload;
        let mut query = vec![("Product", PRODUCT)];
        query.extend(region.map(|region| ("RegionId", region)));
        let call = Call { to: endpoint, method: Method::GET, version: VERSION, action: "AuthorizeFileUpload" };
        parse_authorization(self.query_as(call, &query).await, Timestamp::now())
    }

    /// PostObject: uploads the file to the store named by the authorization.
    pub async fn post_object(
        &self,
        _permit: Permit,
        authorization: &UploadAuthorization,
        file: &[u8],
    ) -> Result<ObjectUrl, UploadError> {
        let to = Endpoint::object_store(&authorization.bucket, &authorization.endpoint, &self.upload.endpoint)
            .map_err(|error| UploadError::Fatal(FatalError::Endpoint { message: error.to_string() }))?;
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        let request = SignedRequest {
            method: Method::POST,
            headers: vec![
                ("host", to.host_header().to_owned()),
                ("content-type", format!("multipart/form-data; boundary={boundary}")),
            ],
            to,
            query: String::new(),
            body: form(&boundary, authorization, file),
        };
        parse_upload(self.transport.exchange(request).await)?;
        // http and the public endpoint, as in the official SDKs: the service treats it as a name.
        Ok(ObjectUrl(format!("http://{}.{}/{}", authorization.bucket, authorization.endpoint, authorization.key)))
    }
}

/// Parses a response to AuthorizeFileUpload. It has no `Code` on success.
fn parse_authorization(
    response: Result<RawResponse, CallError>,
    now: Timestamp,
) -> Result<UploadAuthorization, UploadError> {
    let response = response?;
    let body = response.body.as_deref().unwrap_or_default();
    if (200..300).contains(&response.status)
        && let Ok(granted) = serde_json::from_slice::<AuthorizeResponse>(body)
    {
        let AuthorizeResponse { access_key_id, bucket, policy, endpoint, key, signature } = granted;
        let life = policy_ttl(&policy, now).unwrap_or(DEFAULT_POLICY_TTL);
        return Ok(UploadAuthorization { access_key_id, bucket, endpoint, key, policy, signature, life });
    }
    let Some(ErrorResponse { code, message, .. }) = ErrorResponse::parse(body) else {
        return Err(match response.status {
            429 | 302 => UploadError::Throttled { retry_after: response.retry_after },
            status => unreadable(&format!("unreadable response (HTTP {status}) to AuthorizeFileUpload")),
        });
    };
    let (code, message) = (ErrorCode(sanitize(&code)), message.map(|text| sanitize(&text)).unwrap_or_default());
    Err(match classify_code(&code.0, response.status) {
        CodeClass::Throttled => UploadError::Throttled { retry_after: response.retry_after },
        CodeClass::Fatal(class) => UploadError::Fatal(fatal(class, code, format!("{message} (AuthorizeFileUpload)"))),
        CodeClass::Success
        | CodeClass::ServiceFault
        | CodeClass::DownloadTimeout
        | CodeClass::NonceUsed
        | CodeClass::WrongClock
        | CodeClass::Refused => unreadable(&format!("AuthorizeFileUpload: {code}: {message}")),
    })
}

/// Remaining lifetime of a policy.
fn policy_ttl(policy: &str, now: Timestamp) -> Option<Duration> {
    let policy: serde_json::Value = serde_json::from_slice(&STANDARD.decode(policy).ok()?).ok()?;
    let expires_at: Timestamp = policy["expiration"].as_str()?.parse().ok()?;
    // An expired policy means that our clock is wrong; let the object store decide.
    Duration::try_from(expires_at.duration_since(now)).ok().filter(|ttl| !ttl.is_zero())
}

/// Parses a response of the object store.
fn parse_upload(response: Result<RawResponse, CallError>) -> Result<(), UploadError> {
    let response = response?;
    let xml = response.body.as_deref().map(String::from_utf8_lossy);
    if (200..300).contains(&response.status) {
        // A page from a proxy must not count as a stored file, or the photo would be rejected later.
        return match xml {
            Some(xml) if xml.is_empty() || xml.contains("<PostResponse") => Ok(()),
            Some(_) | None => {
                Err(unreadable(&format!("response (HTTP {}) is not from the object store", response.status)))
            }
        };
    }
    let xml = xml.filter(|xml| xml_element(xml, "RequestId").is_some()).unwrap_or_default();
    let (code, message) =
        (xml_element(&xml, "Code").unwrap_or_default(), xml_element(&xml, "Message").unwrap_or_default());
    let (code, message) = (ErrorCode(sanitize(code)), sanitize(message));
    Err(match (code.0.as_str(), response.status) {
        ("SlowDown" | "TooManyRequests", _) | (_, 429) => UploadError::Throttled { retry_after: response.retry_after },
        ("EntityTooLarge" | "EntityTooSmall", _) => {
            UploadError::Refused(ApiRejection { code, message, request_id: None })
        }
        // For example an expired policy or a revoked key: a new authorization has new ones.
        (_, status) => unreadable(&format!("object store rejected the file (HTTP {status} {code}): {message}")),
    })
}

/// Text of the first element of this name.
pub(super) fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    xml.split_once(&format!("<{name}>"))?.1.split_once("</").map(|(text, _)| text)
}

impl From<CallError> for UploadError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NotSent(failure) | CallError::MaybeSent(failure) => Self::CallFailure(failure),
            CallError::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}

fn unreadable(message: &str) -> UploadError {
    UploadError::CallFailure(CallFailure {
        kind: FailureKind::UploadFailed,
        message: message.to_owned(),
        request_id: None,
    })
}

/// Multipart form: fields sorted by name, with the file last. The object store requires the file to be last.
fn form(boundary: &str, authorization: &UploadAuthorization, file: &[u8]) -> Bytes {
    let fields = [
        ("OSSAccessKeyId", authorization.access_key_id.as_str()),
        ("Signature", &authorization.signature),
        ("key", &authorization.key),
        ("policy", &authorization.policy),
        ("success_action_status", "201"),
    ];
    let mut form = BytesMut::with_capacity(file.len() + 2_048);
    for (name, value) in fields {
        form.put(
            format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n").as_bytes(),
        );
    }
    let head =
        "Content-Disposition: form-data; name=\"file\"; filename=\"photo.jpg\"\r\nContent-Type: image/jpeg\r\n\r\n";
    form.put(format!("--{boundary}\r\n{head}").as_bytes());
    form.put(file);
    form.put(format!("\r\n--{boundary}--\r\n").as_bytes());
    form.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, body: &str) -> Result<RawResponse, CallError> {
        Ok(RawResponse { status, body: Some(body.to_owned().into()), ..RawResponse::default() })
    }

    #[test]
    fn authorization_lifetime_comes_from_its_policy() {
        let now: Timestamp = "2026-11-23T12:00:00Z".parse().unwrap();
        let policy = |text: &str| STANDARD.encode(text);
        let granted = |policy: &str| {
            format!(
                r#"{{"AccessKeyId":"k","Bucket":"b","EncodedPolicy":"{policy}","Endpoint":"oss-x.aliyuncs.com",
                "ObjectKey":"o","RequestId":"r","Signature":"s","UseAccelerate":"false"}}"#
            )
        };
        for (policy, seconds) in [
            (policy(r#"{"expiration":"2026-11-23T12:30:00Z","conditions":[]}"#), 1_800),
            (policy("no JSON"), 60),
            ("no Base64!".to_owned(), 60),
            (policy(r#"{"expiration":"2026-11-23T11:59:00Z"}"#), 60),
        ] {
            let authorization = parse_authorization(response(200, &granted(&policy)), now).ok().unwrap();
            assert_eq!((authorization.life.as_secs(), authorization.bucket.as_str()), (seconds, "b"), "{policy}");
        }
    }

    #[test]
    fn authorization_errors_are_classified_by_code() {
        let refused = |status, body: &str| parse_authorization(response(status, body), Timestamp::now()).err().unwrap();
        assert!(matches!(refused(403, r#"{"RequestId":"R","Code":"Throttling.Api"}"#), UploadError::Throttled { .. }));
        let denied = refused(403, r#"{"RequestId":"R","Code":"NoPermission","Message":"no"}"#);
        let UploadError::Fatal(FatalError::Permission { message, .. }) = denied else { panic!("{denied:?}") };
        assert!(message.contains("AuthorizeFileUpload"));
        for (status, body) in [
            (500, ""),
            (200, "{}"),
            (503, r#"{"RequestId":"R","Code":"ServiceUnavailable"}"#),
            (404, "<html>"),
            (403, r#"{"code":"NoPermission"}"#),
        ] {
            assert!(matches!(refused(status, body), UploadError::CallFailure(_)), "{status} {body}");
        }
    }

    #[test]
    fn object_store_errors_are_classified_by_code() {
        let xml = |code: &str| {
            format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message><RequestId>R</RequestId></Error>"
            )
        };
        assert_eq!(parse_upload(response(201, "<PostResponse/>")), Ok(()));
        assert_eq!(parse_upload(response(204, "")), Ok(()));
        assert!(matches!(parse_upload(response(400, &xml("EntityTooLarge"))), Err(UploadError::Refused(_))));
        assert!(matches!(parse_upload(response(503, &xml("SlowDown"))), Err(UploadError::Throttled { .. })));
        for (status, body) in [
            (200, "<html>sign in</html>".to_owned()),
            (201, r#"{"code":"ok"}"#.to_owned()),
            (413, "<html><Code>EntityTooLarge</Code></html>".to_owned()),
        ] {
            assert!(
                matches!(parse_upload(response(status, &body)), Err(UploadError::CallFailure(_))),
                "{status} {body}"
            );
        }
        let broken_off = Ok(RawResponse { status: 201, ..RawResponse::default() });
        assert!(matches!(parse_upload(broken_off), Err(UploadError::CallFailure(_))));
        for (status, body) in
            [(403, xml("AccessDenied")), (500, xml("InternalError")), (302, String::new()), (502, "<html>".into())]
        {
            assert!(
                matches!(parse_upload(response(status, &body)), Err(UploadError::CallFailure(_))),
                "{status} {body}"
            );
        }
    }
}
