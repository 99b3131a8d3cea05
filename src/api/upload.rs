//! The file upload, for photos that are too large to go inline (reference, protocol.md section 2): leave to upload from
//! the open platform, then the file itself to the object store. Its address then goes with AddFaceRecord.
//!
//! Nothing of it enrols anyone, so whatever goes wrong is simply tried again, with a new leave. A leave is good for one
//! file; the policy in it says until when.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::{BufMut, Bytes, BytesMut};
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

use super::{
    Client, Endpoint, NoAnswer, RawResponse, SignedRequest, Transport,
    classify::{CodeKind, code_kind, fatal, is_from_service, shown},
    client::Call,
};
use crate::domain::{ApiRejection, CallFailure, ErrorCode, FailureKind, FatalError, Permit};

/// Of AuthorizeFileUpload.
const VERSION: &str = "2019-12-19";
/// As the official SDKs call it there.
const PRODUCT: &str = "Cloudauth-intl";
/// What is taken for the life of a policy that does not say it: short enough for any that there may be.
const SHORT_LIFE: Duration = Duration::from_secs(60);

/// Where leave to upload is asked for.
#[derive(Debug, Clone)]
pub struct UploadTarget {
    /// `--upload-endpoint`
    pub endpoint: Endpoint,
    /// The region's id; none with a custom endpoint.
    pub region: Option<&'static str>,
}

/// UploadAuthorization to upload one file.
pub struct UploadAuthorization {
    access_key_id: String,
    bucket: String,
    endpoint: String,
    key: String,
    policy: String,
    signature: String,
    /// How long it holds.
    pub life: Duration,
}

/// The address of an uploaded file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectUrl(pub(super) String);

/// Why there is no leave, or no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadError {
    /// Too many calls.
    Throttled {
        /// How long to wait, if the service says so.
        retry_after: Option<Duration>,
    },
    /// To be tried again, from the beginning.
    CallFailure(CallFailure),
    /// This file will never be taken.
    Refused(ApiRejection),
    /// Nothing will go better until a person acts.
    Fatal(FatalError),
}

#[derive(Debug, Deserialize)]
struct Granted {
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
struct Refused {
    #[serde(rename = "Code", alias = "code")]
    code: String,
    #[serde(rename = "Message", alias = "message", default)]
    message: Option<String>,
    #[serde(rename = "RequestId", alias = "requestId", alias = "requestid", default)]
    request_id: Option<String>,
}

impl Refused {
    /// None: it is not the service that refuses.
    fn read(body: &[u8]) -> Option<Self> {
        let refused: Self = serde_json::from_slice(body).ok()?;
        is_from_service(&refused.code, refused.request_id.as_deref()).then_some(refused)
    }
}

impl<T: Transport> Client<T> {
    /// AuthorizeFileUpload: leave to upload one file.
    pub async fn authorize_file_upload(&self, _permit: Permit) -> Result<UploadAuthorization, UploadError> {
        let UploadTarget { endpoint, region } = &self.upload;
        let mut query = vec![("Product", PRODUCT)];
        query.extend(region.map(|region| ("RegionId", region)));
        let call = Call { to: endpoint, method: Method::GET, version: VERSION, action: "AuthorizeFileUpload" };
        leave(self.ask_as(call, &query).await, Timestamp::now())
    }

    /// PostObject: the file, to where the leave says.
    pub async fn post_object(
        &self,
        _permit: Permit,
        leave: &UploadAuthorization,
        file: &[u8],
    ) -> Result<ObjectUrl, UploadError> {
        let to = Endpoint::object_store(&leave.bucket, &leave.endpoint, &self.upload.endpoint)
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
            body: form(&boundary, leave, file),
        };
        stored(self.transport.exchange(request).await.map_err(NoAnswer::from))?;
        // Plain http and the plain endpoint, as the official SDKs write it: it is a name here, and read by the service.
        Ok(ObjectUrl(format!("http://{}.{}/{}", leave.bucket, leave.endpoint, leave.key)))
    }
}

/// What an answer to AuthorizeFileUpload says. It has no `Code` where it succeeds.
fn leave(answer: Result<RawResponse, NoAnswer>, now: Timestamp) -> Result<UploadAuthorization, UploadError> {
    let answer = answer.map_err(unsent)?;
    let body = answer.body.as_deref().unwrap_or_default();
    if (200..300).contains(&answer.status)
        && let Ok(granted) = serde_json::from_slice::<Granted>(body)
    {
        let Granted { access_key_id, bucket, policy, endpoint, key, signature } = granted;
        let life = life(&policy, now).unwrap_or(SHORT_LIFE);
        return Ok(UploadAuthorization { access_key_id, bucket, endpoint, key, policy, signature, life });
    }
    let Some(Refused { code, message, .. }) = Refused::read(body) else {
        return Err(match answer.status {
            429 | 302 => UploadError::Throttled { retry_after: answer.retry_after },
            status => unreadable(&format!("HTTP {status} that is not the service's, to AuthorizeFileUpload")),
        });
    };
    let (code, message) = (ErrorCode(shown(&code)), message.map(|text| shown(&text)).unwrap_or_default());
    Err(match code_kind(&code.0, answer.status) {
        CodeKind::Throttled => UploadError::Throttled { retry_after: answer.retry_after },
        kind @ (CodeKind::Credentials
        | CodeKind::Signature
        | CodeKind::Permission
        | CodeKind::Account
        | CodeKind::Endpoint) => UploadError::Fatal(fatal(kind, code, format!("{message} (AuthorizeFileUpload)"))),
        CodeKind::Success
        | CodeKind::ServiceFault
        | CodeKind::DownloadTimeout
        | CodeKind::NonceUsed
        | CodeKind::WrongClock
        | CodeKind::Refused => unreadable(&format!("AuthorizeFileUpload: {code}: {message}")),
    })
}

/// How long a policy holds yet, by what it says itself.
fn life(policy: &str, now: Timestamp) -> Option<Duration> {
    let policy: serde_json::Value = serde_json::from_slice(&STANDARD.decode(policy).ok()?).ok()?;
    let expires: Timestamp = policy["expiration"].as_str()?.parse().ok()?;
    // One that has run out already tells of a wrong clock: the object store's own word counts then.
    Duration::try_from(expires.duration_since(now)).ok().filter(|life| !life.is_zero())
}

/// What the object store says.
fn stored(answer: Result<RawResponse, NoAnswer>) -> Result<(), UploadError> {
    let answer = answer.map_err(unsent)?;
    let xml = answer.body.as_deref().map(String::from_utf8_lossy);
    if (200..300).contains(&answer.status) {
        // A page from a proxy must not pass for a stored file: the photo would be refused for it later.
        return match xml {
            Some(xml) if xml.is_empty() || xml.contains("<PostResponse") => Ok(()),
            Some(_) | None => Err(unreadable(&format!("HTTP {} that is not the object store's", answer.status))),
        };
    }
    let xml = xml.filter(|xml| element(xml, "RequestId").is_some()).unwrap_or_default();
    let (code, message) = (element(&xml, "Code").unwrap_or_default(), element(&xml, "Message").unwrap_or_default());
    let (code, message) = (ErrorCode(shown(code)), shown(message));
    Err(match (code.0.as_str(), answer.status) {
        ("SlowDown" | "TooManyRequests", _) | (_, 429) => UploadError::Throttled { retry_after: answer.retry_after },
        ("EntityTooLarge" | "EntityTooSmall", _) => {
            UploadError::Refused(ApiRejection { code, message, request_id: None })
        }
        // A policy that has expired, a key that was changed meanwhile: a new leave has a new one.
        (_, status) => unreadable(&format!("the object store refused the file (HTTP {status} {code}): {message}")),
    })
}

fn element<'a>(xml: &'a str, name: &str) -> Option<&'a str> {
    xml.split_once(&format!("<{name}>"))?.1.split_once("</").map(|(text, _)| text)
}

fn unsent(error: NoAnswer) -> UploadError {
    match error {
        NoAnswer::NotSent(fault) | NoAnswer::MaybeSent(fault) => UploadError::CallFailure(fault),
        NoAnswer::Fatal(fatal) => UploadError::Fatal(fatal),
    }
}

fn unreadable(message: &str) -> UploadError {
    UploadError::CallFailure(CallFailure {
        kind: FailureKind::UploadFailed,
        message: message.to_owned(),
        request_id: None,
    })
}

/// Fields in the order of their names, the file last: the order matters to the object store.
fn form(boundary: &str, leave: &UploadAuthorization, file: &[u8]) -> Bytes {
    let fields = [
        ("OSSAccessKeyId", leave.access_key_id.as_str()),
        ("Signature", &leave.signature),
        ("key", &leave.key),
        ("policy", &leave.policy),
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

    fn answer(status: u16, body: &str) -> Result<RawResponse, NoAnswer> {
        Ok(RawResponse { status, body: Some(body.to_owned().into()), ..RawResponse::default() })
    }

    #[test]
    fn leave_holds_for_as_long_as_its_policy_says() {
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
            let leave = leave(answer(200, &granted(&policy)), now).ok().unwrap();
            assert_eq!((leave.life.as_secs(), leave.bucket.as_str()), (seconds, "b"), "{policy}");
        }
    }

    #[test]
    fn refused_leave_is_told_by_its_code() {
        let refused = |status, body: &str| leave(answer(status, body), Timestamp::now()).err().unwrap();
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
    fn object_stores_errors_are_told_by_their_code() {
        let xml = |code: &str| {
            format!(
                "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>m</Message><RequestId>R</RequestId></Error>"
            )
        };
        assert_eq!(stored(answer(201, "<PostResponse/>")), Ok(()));
        assert_eq!(stored(answer(204, "")), Ok(()));
        assert!(matches!(stored(answer(400, &xml("EntityTooLarge"))), Err(UploadError::Refused(_))));
        assert!(matches!(stored(answer(503, &xml("SlowDown"))), Err(UploadError::Throttled { .. })));
        for (status, body) in [
            (200, "<html>sign in</html>".to_owned()),
            (201, r#"{"code":"ok"}"#.to_owned()),
            (413, "<html><Code>EntityTooLarge</Code></html>".to_owned()),
        ] {
            assert!(matches!(stored(answer(status, &body)), Err(UploadError::CallFailure(_))), "{status} {body}");
        }
        let broken_off = Ok(RawResponse { status: 201, ..RawResponse::default() });
        assert!(matches!(stored(broken_off), Err(UploadError::CallFailure(_))));
        for (status, body) in
            [(403, xml("AccessDenied")), (500, xml("InternalError")), (302, String::new()), (502, "<html>".into())]
        {
            assert!(matches!(stored(answer(status, &body)), Err(UploadError::CallFailure(_))), "{status} {body}");
        }
    }
}
