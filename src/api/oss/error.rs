//! What an answer of object storage means.

use crate::{
    api::{
        RawResponse, TransportError,
        classify::{sanitize, xml_element},
    },
    domain::{CallFailure, ErrorCode, FailureKind, FatalError},
};

/// Why a request to object storage failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ObjectError {
    #[error("no such object")]
    NotFound,
    /// This key may not read the object.
    #[error("access denied: {message}")]
    Denied { message: String },
    /// The object is archived and not restored.
    #[error("the object is in an archive storage class and not restored")]
    NotRestored,
    /// The object has another content than before.
    #[error("the object has changed meanwhile: run again")]
    Changed,
    /// The time or the key was rejected, and both are right now.
    #[error("the request must be signed again")]
    SignAgain,
    /// No request will succeed until a person acts.
    #[error(transparent)]
    Fatal(FatalError),
    #[error("{}", .0.message)]
    Failed(CallFailure),
}

impl From<TransportError> for ObjectError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::NotSent(failure) | TransportError::MaybeSent(failure) => Self::Failed(failure),
            TransportError::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}

impl ObjectError {
    /// A failure that a retry may cure.
    pub(super) fn failed(message: String) -> Self {
        Self::Failed(CallFailure { kind: FailureKind::UnreadableAnswer, message, request_id: None })
    }

    /// Classifies an answer that is not a success.
    pub(super) fn classify(response: &RawResponse) -> Self {
        let body = response.body.as_deref().map(String::from_utf8_lossy).unwrap_or_default();
        // A page of a proxy has no request id.
        let xml = Some(&*body).filter(|body| xml_element(body, "RequestId").is_some()).unwrap_or_default();
        let (code, text) =
            (xml_element(xml, "Code").unwrap_or_default(), xml_element(xml, "Message").unwrap_or_default());
        let (code, message) = (ErrorCode(sanitize(code)), sanitize(text));
        let status = response.status;
        match code.0.as_str() {
            "" => Self::failed(format!("unreadable answer of object storage (HTTP {status})")),
            "NoSuchKey" => Self::NotFound,
            "AccessDenied" => match xml_element(xml, "Endpoint") {
                Some(endpoint) => Self::Fatal(FatalError::ObjectStorage {
                    message: format!("the bucket is elsewhere: give --oss-endpoint https://{}", sanitize(endpoint)),
                    code,
                }),
                None => Self::Denied { message },
            },
            "InvalidObjectState" => Self::NotRestored,
            "PreconditionFailed" => Self::Changed,
            "InvalidAccessKeyId" | "InvalidSecurityToken" | "SecurityTokenExpired" | "SecurityTokenNotSupported" => {
                Self::Fatal(FatalError::Credentials { code, message })
            }
            "SignatureDoesNotMatch" => Self::Fatal(FatalError::Signature { code }),
            "RequestTimeTooSkewed" => Self::Fatal(FatalError::Clock { code, message }),
            "UserDisable" => Self::Fatal(FatalError::Account { code, message }),
            "SlowDown" | "TooManyRequests" => Self::failed(format!("object storage throttles ({code}): {message}")),
            _ if status >= 500 || status == 429 || status == 408 => {
                Self::failed(format!("object storage failed (HTTP {status} {code}): {message}"))
            }
            _ => Self::Fatal(FatalError::ObjectStorage { code, message }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(status: u16, code: &str, extra: &str) -> ObjectError {
        let xml = format!("<Error><Code>{code}</Code><Message>m</Message><RequestId>R</RequestId>{extra}</Error>");
        ObjectError::classify(&RawResponse { status, body: Some(xml.into()), ..RawResponse::default() })
    }

    #[test]
    fn answers_are_classified_by_code() {
        assert_eq!(classified(404, "NoSuchKey", ""), ObjectError::NotFound);
        assert_eq!(classified(403, "AccessDenied", ""), ObjectError::Denied { message: "m".into() });
        assert_eq!(classified(403, "InvalidObjectState", ""), ObjectError::NotRestored);
        assert_eq!(classified(412, "PreconditionFailed", ""), ObjectError::Changed);
        let elsewhere = classified(403, "AccessDenied", "<Endpoint>oss-cn-beijing.aliyuncs.com</Endpoint>");
        assert!(elsewhere.to_string().contains("--oss-endpoint https://oss-cn-beijing.aliyuncs.com"), "{elsewhere}");
        for (status, code) in [(404, "NoSuchBucket"), (400, "InvalidArgument"), (403, "InvalidAccessKeyId")] {
            assert!(matches!(classified(status, code, ""), ObjectError::Fatal(_)), "{code}");
        }
        for (status, code) in [(503, "SlowDown"), (500, "InternalError"), (503, "ServiceUnavailable")] {
            assert!(matches!(classified(status, code, ""), ObjectError::Failed(_)), "{code}");
        }
        for (status, page) in [(404, "<html>no</html>"), (200, ""), (403, "<Code>NoSuchKey</Code>"), (302, "")] {
            let response = RawResponse { status, body: Some(page.into()), ..RawResponse::default() };
            assert!(matches!(ObjectError::classify(&response), ObjectError::Failed(_)), "{page}");
        }
    }
}
