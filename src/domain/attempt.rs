//! One attempt: what is about to be sent, and what the answer means for a retry.

use std::time::Duration;

use super::{Digest, ErrorCode, FaceGroupCode, ItemId, MerchantUserId, RequestId};

/// What is about to be sent; on disk before the first byte leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// Which item.
    pub item: ItemId,
    /// Its group.
    pub group: FaceGroupCode,
    /// Its id.
    pub user: MerchantUserId,
    /// Which attempt of this item, the first being 1.
    pub attempt: u32,
    /// SHA-256 of the bytes that go; none for a link.
    pub digest: Option<Digest>,
}

/// The records whose place a new photo's record is to take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supersedes {
    /// Not asked for yet.
    Unknown,
    /// Their numbers at the service.
    Records(Vec<i64>),
}

/// What is on disk before a record is removed: its number was read before the new photo was sent, so it can't be the
/// new photo's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteIntent {
    /// Whose.
    pub item: ItemId,
    /// The record's number at the service. Never given twice.
    pub record: i64,
}

/// The answer to one request.
#[derive(Debug)]
pub struct Answer {
    /// What it means for the item.
    pub verdict: Verdict,
    /// What it means for the run, if it is not the service's answer. The item is in doubt then.
    pub run_effect: Option<RunEffect>,
    /// `x-acs-retry-after`: how long every caller is to wait, whatever the verdict.
    pub retry_after: Option<Duration>,
    /// From the first byte sent to the verdict.
    pub latency: Duration,
}

/// What an answer means. Each has one meaning for a retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx, `Code: Success`, `Passed: Y`.
    Enrolled(EnrollmentReceipt),
    /// The service read the request and refused this photo: never to be sent again as it is.
    Refused(ApiRejection),
    /// Not executed: too many calls. Free to be sent again, later.
    Throttled(ApiRejection),
    /// Known not to have been executed (never left, or refused before it was looked at). May be sent again.
    NotSent(CallFailure),
    /// May have been executed. Never to be sent again before the service has said that the record is absent.
    MaybeSent(CallFailure),
    /// Nothing will go better until a person acts: stop the run. Not executed: the service's own answer says so, or
    /// nothing was sent.
    Fatal(FatalError),
}

/// What the status of an answer that is not the service's means for the run. For its item it proves nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEffect {
    /// Drain: nothing will go better until a person acts.
    Stop(FatalError),
    /// Send more slowly, as after a throttle.
    SlowDown,
}

/// The service has enrolled the face.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentReceipt {
    /// The service's name of the request.
    pub request_id: Option<RequestId>,
    /// `faceQuality` of `ExtFaceInfo`.
    pub quality: Option<String>,
}

/// The service has refused, by a `Code`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRejection {
    /// `Code`, or `Passed=N`.
    pub code: ErrorCode,
    /// `Message`.
    pub message: String,
    /// The service's name of the request.
    pub request_id: Option<RequestId>,
}

/// What went wrong with an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// Its kind.
    pub kind: FailureKind,
    /// For a person: no secret and no image byte in it.
    pub message: String,
    /// The service's name of the request, if it answered.
    pub request_id: Option<RequestId>,
}

/// The kinds of faults. The name of each is the `code` of an item that it leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: DNS, TCP, TLS.
    ConnectFailed,
    /// The proxy can't be reached, or does not lead to the service.
    ProxyFailed,
    /// The server's certificate is not to be trusted.
    CertificateRefused,
    /// The clock was wrong and has been corrected.
    ClockCorrected,
    /// The access key had ended, and there is another one now.
    KeyRenewed,
    /// The service has seen this nonce before, so a copy of the request is on its way.
    NonceUsed,
    /// The service failed to read a link (`DownloadTimeout`).
    DownloadTimeout,
    /// No answer in time.
    Timeout,
    /// The connection broke after bytes had left.
    ConnectionLost,
    /// An answer that is not the service's, or can't be read: HTML, truncated JSON, `Success` without `Passed`.
    UnreadableAnswer,
    /// The service says that it failed, by this code.
    Service(ErrorCode),
    /// The photo could not be uploaded.
    UploadFailed,
    /// The process ended between intent and outcome.
    Interrupted,
}

impl FailureKind {
    /// The `code` column.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Service(code) => code.clone(),
            Self::ConnectFailed
            | Self::ProxyFailed
            | Self::CertificateRefused
            | Self::ClockCorrected
            | Self::KeyRenewed
            | Self::NonceUsed
            | Self::DownloadTimeout
            | Self::Timeout
            | Self::ConnectionLost
            | Self::UnreadableAnswer
            | Self::UploadFailed
            | Self::Interrupted => ErrorCode(format!("{self:?}")),
        }
    }
}

/// Why the run can't go on. Each says what a person has to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FatalError {
    /// The key is unknown, disabled or expired.
    #[error("the credentials were refused ({code}): {message}")]
    Credentials {
        /// The service's code.
        code: ErrorCode,
        /// The service's words, without what it quotes of the request.
        message: String,
    },
    /// The signature was refused: the secret does not belong to the key.
    #[error("the signature was refused ({code}): the access key secret does not belong to the access key id")]
    Signature {
        /// The service's code.
        code: ErrorCode,
    },
    /// The RAM user lacks the permission.
    #[error("permission denied ({code}): {message}")]
    Permission {
        /// The service's code.
        code: ErrorCode,
        /// The service's words.
        message: String,
    },
    /// The account is not activated, or has overdue payments.
    #[error("the account is not served ({code}): {message}")]
    Account {
        /// The service's code.
        code: ErrorCode,
        /// The service's words.
        message: String,
    },
    /// The endpoint does not know this API, or sends elsewhere.
    #[error("this endpoint does not serve the API: {message}")]
    Endpoint {
        /// What it answered.
        message: String,
    },
    /// Something on the way answers in the service's place.
    #[error(
        "the answer is not the service's (HTTP {status}): a proxy, a firewall or a sign-in page answers in its place"
    )]
    Intercepted {
        /// The HTTP status.
        status: u16,
    },
    /// The server's certificate can't be trusted.
    #[error("the server's certificate was refused: {message}")]
    Certificate {
        /// Why.
        message: String,
    },
    /// The proxy refuses us, or has never led to the service.
    #[error("{message}")]
    Proxy {
        /// Which, and why.
        message: String,
    },
    /// The clock is wrong, and correcting it did not help.
    #[error("the service refuses our clock ({code}): {message}")]
    Clock {
        /// The service's code.
        code: ErrorCode,
        /// The service's words.
        message: String,
    },
    /// The service has no such group.
    #[error("there is no face group {group} in this region")]
    UnknownGroup {
        /// Which.
        group: FaceGroupCode,
    },
    /// The same refusal again and again: the cause is not in the photos.
    #[error("the last {count} photos were all refused with {code}: {message}")]
    SameRefusal {
        /// Which.
        code: ErrorCode,
        /// How often in a row.
        count: u32,
        /// The service's words.
        message: String,
    },
}
