//! Why there is no key.

use std::fmt;

use super::{
    environment::{ID, SECRET, TOKEN},
    origin::Place,
};
use crate::{
    api::{NoAnswer, http::SetupError},
    domain::{CallFailure, ErrorCode, FailureKind, FatalError},
};

/// Why a source gave no key. Without any secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum FetchError {
    /// Whoever gives keys did not answer, or asks for patience: it may go better soon.
    #[error("{}", .0.message)]
    Unavailable(CallFailure),
    /// Whoever gives keys has refused.
    #[error("refused ({code}): {message}")]
    Refused { code: ErrorCode, message: String },
    /// What is set up can't be used.
    #[error("{0}")]
    Unusable(String),
    /// There is no way to whoever gives keys before a person acts.
    #[error("{0}")]
    Fatal(FatalError),
}

impl From<FetchError> for NoAnswer {
    fn from(error: FetchError) -> Self {
        match error {
            FetchError::Unavailable(fault) => Self::NotSent(fault),
            FetchError::Refused { code, message } => Self::Fatal(FatalError::Credentials { code, message }),
            FetchError::Unusable(message) => {
                Self::Fatal(FatalError::Credentials { code: ErrorCode("NoCredentials".to_owned()), message })
            }
            FetchError::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}

/// A place that was looked at in vain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainError {
    pub(super) place: Place,
    /// None: nothing is set up there.
    pub(super) why: Option<FetchError>,
}

impl fmt::Display for ChainError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Some(why) => write!(f, "{}: {why}", self.place),
            None => write!(f, "{}: nothing there", self.place),
        }
    }
}

/// Why there are none.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No place has given any.
    #[error(
        "no credentials: set {ID} and {SECRET} (and {TOKEN} with a temporary key), or make a profile with `aliyun configure`; looked at{}",
        .0.iter().map(|place| format!("\n    {place}")).collect::<String>()
    )]
    None(Vec<ChainError>),
    /// One half of a key.
    #[error("half of the credentials is missing: {0} is not set")]
    Half(&'static str),
    /// A value that no header can carry.
    #[error("{0} has a character that no request can carry: is something else in it besides the key?")]
    Malformed(&'static str),
    /// A stand-in for tests that is not on this machine.
    #[error("{0} is for tests: only an address of this machine goes, such as http://127.0.0.1:8470")]
    NotHere(&'static str),
    /// The network can't be set up.
    #[error(transparent)]
    Setup(#[from] SetupError),
}

impl CredentialsError {
    /// Was a role set up, and nobody there to give its key? Then it may go better soon. That there is no metadata service
    /// is no absence: most machines have none. Nor is a certificate that is not to be trusted, nor a proxy that leads
    /// nowhere at the start.
    pub fn is_transient(&self) -> bool {
        let is_away = |found: &ChainError| match &found.why {
            Some(FetchError::Unavailable(fault)) => {
                found.place != Place::Metadata
                    && !matches!(fault.kind, FailureKind::CertificateRefused | FailureKind::ProxyFailed)
            }
            Some(FetchError::Refused { .. } | FetchError::Unusable(_) | FetchError::Fatal(_)) | None => false,
        };
        match self {
            Self::None(places) => places.iter().any(is_away),
            Self::Half(_) | Self::Malformed(_) | Self::NotHere(_) | Self::Setup(_) => false,
        }
    }
}
