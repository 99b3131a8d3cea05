//! One attempt to enroll an item: what is about to be sent, and what the answer means for a retry.

use std::time::Duration;

use super::{Digest, ErrorCode, FaceGroupCode, ItemId, MerchantUserId, RequestId};

/// An AddFaceRecord call about to be made. It is on disk before the first byte leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Intent {
    /// The item.
    pub item: ItemId,
    /// Face group of the item.
    pub group: FaceGroupCode,
    /// Id of the person.
    pub user: MerchantUserId,
    /// Number of this attempt, starting at 1.
    pub attempt: u32,
    /// SHA-256 of the bytes sent; `None` for a link.
    pub digest: Option<Digest>,
}

/// The old records that a new photo's record replaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Supersedes {
    /// Not queried yet.
    Unknown,
    /// Record ids at the service.
    Records(Vec<i64>),
}

/// A record older than our intent by more than this is not ours (contract.md). Clocks differ, and the gateway tolerates
/// 15 minutes; it refuses a larger skew, which is then corrected and the intent made again.
pub const MAX_CLOCK_SKEW: Duration = Duration::from_secs(15 * 60);

/// A DeleteFaceRecord call about to be made. For a replacement, the record id was read before the new photo was sent, so it
/// can't belong to the new photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteIntent {
    /// The item whose record is deleted.
    pub item: ItemId,
    /// Record id at the service, which never reuses one.
    pub record: i64,
}

/// The answer to one AddFaceRecord call.
#[derive(Debug)]
pub struct Answer {
    /// Meaning for the item.
    pub result: Result<EnrollmentReceipt, CallError>,
    /// Meaning for the run if the answer did not come from the service. The item is then in doubt.
    pub run_effect: Option<RunEffect>,
    /// `x-acs-retry-after`: no AddFaceRecord is sent for this long, whatever the result.
    pub retry_after: Option<Duration>,
    /// Time from the first byte sent to the result.
    pub latency: Duration,
}

/// Why a call did not succeed. Each variant allows exactly one way to retry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallError {
    /// Not executed because of too many calls. Repeat it later.
    Throttled {
        /// Wait that the service asks for, if any.
        retry_after: Option<Duration>,
    },
    /// Certainly not executed: it never left, or was refused unread. May be repeated.
    NotExecuted(CallFailure),
    /// May have been executed. A call that adds a record is never repeated before the service has confirmed that the record
    /// is absent.
    MaybeExecuted(CallFailure),
    /// The service read the request and rejected it. Never repeat it unchanged.
    Rejected(ApiRejection),
    /// No call can succeed until a person acts, so the run stops. Not executed: the service said so, or nothing was sent.
    Fatal(FatalError),
}

/// Effect on the run of an answer that did not come from the service. It proves nothing about the item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEffect {
    /// Drain the run: no call can succeed until a person acts.
    Stop(FatalError),
    /// Send more slowly, as after a throttled call.
    SlowDown,
}

/// Details of a successful AddFaceRecord call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrollmentReceipt {
    /// Request id given by the service.
    pub request_id: Option<RequestId>,
    /// `faceQuality` of `ExtFaceInfo`.
    pub quality: Option<String>,
}

/// A rejection by the service, with its `Code`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiRejection {
    /// `Code`, or `Passed=N`.
    pub code: ErrorCode,
    /// `Message`.
    pub message: String,
    /// Request id given by the service.
    pub request_id: Option<RequestId>,
}

impl From<ApiRejection> for CallFailure {
    fn from(ApiRejection { code, message, request_id }: ApiRejection) -> Self {
        Self { message: format!("{code}: {message}"), kind: FailureKind::Service(code), request_id }
    }
}

/// A call that failed without an answer about the photo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFailure {
    /// Kind of failure.
    pub kind: FailureKind,
    /// Text for people, without secrets or image bytes.
    pub message: String,
    /// Request id, if the service answered.
    pub request_id: Option<RequestId>,
}

impl CallFailure {
    /// Failure of a call that was throttled each time for too long.
    pub fn only_throttled() -> Self {
        let message = "every call was throttled".to_owned();
        Self { kind: FailureKind::Service("Throttling".into()), message, request_id: None }
    }
}

/// Kind of a call failure. The variant's name becomes the item's `code`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailureKind {
    /// No connection: DNS, TCP, TLS.
    ConnectFailed,
    /// The proxy is unreachable or does not lead to the service.
    ProxyFailed,
    /// The server's certificate is not trusted.
    CertificateRefused,
    /// The clock was wrong and is now corrected.
    ClockCorrected,
    /// The access key had expired and has been refreshed.
    KeyRenewed,
    /// The service has already seen this nonce, so a copy of the request was delivered.
    NonceUsed,
    /// The service could not download the linked photo (`DownloadTimeout`).
    DownloadTimeout,
    /// No answer before the timeout.
    Timeout,
    /// The connection broke after bytes were sent.
    ConnectionLost,
    /// The answer is not the service's or is unreadable: HTML, truncated JSON, `Success` without `Passed`.
    UnreadableAnswer,
    /// The service reports its own failure with this code.
    Service(ErrorCode),
    /// The photo upload failed.
    UploadFailed,
    /// The process ended after the intent and before the outcome.
    Interrupted,
}

impl FailureKind {
    /// Value of the `code` column.
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

/// Why the run can't go on until a person acts.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum FatalError {
    /// The key is unknown, disabled or expired.
    #[error("the credentials were refused ({code}): {message}")]
    Credentials {
        code: ErrorCode,
        /// The service's message, without the parts of the request that it quotes.
        message: String,
    },
    #[error("the signature was refused ({code}): the access key secret does not belong to the access key id")]
    Signature { code: ErrorCode },
    /// The RAM user lacks a permission.
    #[error("permission denied ({code}): {message}")]
    Permission { code: ErrorCode, message: String },
    /// The account is not activated, or has overdue payments.
    #[error("the account is not served ({code}): {message}")]
    Account { code: ErrorCode, message: String },
    /// Object storage refuses the request, whatever the object.
    #[error("object storage can't be used ({code}): {message}")]
    ObjectStorage { code: ErrorCode, message: String },
    /// The endpoint does not serve this API, or redirects.
    #[error("this endpoint does not serve the API: {message}")]
    Endpoint { message: String },
    /// Something between us and the service answers in its place.
    #[error(
        "the answer is not the service's (HTTP {status}): a proxy, a firewall or a sign-in page answers in its place"
    )]
    Intercepted { status: u16 },
    #[error("the server's certificate was refused: {message}")]
    Certificate { message: String },
    /// The proxy refuses the connection, or never led to the service.
    #[error("{message}")]
    Proxy { message: String },
    /// The database of the shared quota can't be used.
    #[error("{message}")]
    Quota { message: String },
    /// The clock is wrong and correcting it did not help.
    #[error("the service refuses our clock ({code}): {message}")]
    Clock { code: ErrorCode, message: String },
    #[error("there is no face group {group} in this region")]
    UnknownGroup { group: FaceGroupCode },
    /// Many photos in a row were rejected with the same code, so the cause is not in the photos.
    #[error("the last {count} photos were all refused with {code}: {message}")]
    SameRefusal { code: ErrorCode, count: u32, message: String },
}
