//! Errors of the credential providers.

use std::fmt;

use super::{
    environment::{ID, SECRET, TOKEN},
    origin::ProviderKind,
};
use crate::{
    api::{TransportError, http::SetupError},
    domain::{CallFailure, ErrorCode, FailureKind, FatalError},
};

/// Why a provider returned no key. Contains no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    /// The provider did not respond or is throttling; a retry may succeed.
    #[error("{}", .0.message)]
    Unavailable(CallFailure),
    /// The provider rejected the request.
    #[error("rejected ({code}): {message}")]
    Rejected { code: ErrorCode, message: String },
    /// The configuration or the returned key is unusable.
    #[error("{0}")]
    Unusable(String),
    /// The provider is unreachable until a person acts.
    #[error("{0}")]
    Fatal(FatalError),
}

impl From<FetchError> for TransportError {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Unavailable(failure) => Self::NotSent(failure),
            FetchError::Rejected { code, message } => Self::Fatal(FatalError::Credentials { code, message }),
            FetchError::Unusable(message) => {
                Self::Fatal(FatalError::Credentials { code: ErrorCode("NoCredentials".to_owned()), message })
            }
            FetchError::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}

/// A provider that returned no key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainError {
    pub(super) kind: ProviderKind,
    /// `None` if the provider is not configured.
    pub(super) error: Option<FetchError>,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.error {
            Some(error) => write!(f, "{}: {error}", self.kind),
            None => write!(f, "{}: not configured", self.kind),
        }
    }
}

/// Why there are no credentials.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No provider returned a key.
    #[error(
        "no credentials: set {ID} and {SECRET} (and {TOKEN} with a temporary key), or create a profile with `aliyun configure`; tried{}",
        .0.iter().map(|failed| format!("\n    {failed}")).collect::<String>()
    )]
    None(Vec<ChainError>),
    /// A key without its id or without its secret.
    #[error("incomplete credentials: {0} is not set")]
    IncompleteKey(&'static str),
    /// A value that no HTTP header can carry.
    #[error("{0} contains an invalid character; set it to the key alone")]
    Malformed(&'static str),
    /// An endpoint override for tests that is not on this machine.
    #[error("{0} is for tests and must be a loopback URL such as http://127.0.0.1:8470")]
    NotLoopback(&'static str),
    /// The HTTP client could not be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl CredentialsError {
    /// Whether a retry may succeed: a configured provider is unavailable. A missing metadata service does not count,
    /// because most machines have none. Neither does an untrusted certificate or a failing proxy.
    pub fn is_transient(&self) -> bool {
        let is_transient = |failed: &ChainError| match &failed.error {
            Some(FetchError::Unavailable(failure)) => {
                failed.kind != ProviderKind::Metadata
                    && !matches!(failure.kind, FailureKind::CertificateRefused | FailureKind::ProxyFailed)
            }
            Some(FetchError::Rejected { .. } | FetchError::Unusable(_) | FetchError::Fatal(_)) | None => false,
        };
        match self {
            Self::None(failures) => failures.iter().any(is_transient),
            Self::IncompleteKey(_) | Self::Malformed(_) | Self::NotLoopback(_) | Self::Setup(_) => false,
        }
    }
}
