//! The interface to the network: one request, one response, no retry.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;

use super::Endpoint;
use crate::domain::{CallError, CallFailure, FailureKind, FatalError};

/// Largest response body that is read, in bytes; real ones are under 2 KiB.
pub(super) const MAX_BODY_BYTES: usize = 64 * 1024;

/// A request with a fresh signature. Not `Clone`, because its nonce is valid for one exchange.
pub struct SignedRequest {
    /// GET for AuthorizeFileUpload, POST for everything else.
    pub method: Method,
    /// Destination.
    pub to: Endpoint,
    /// Query string as it was signed, `name=value&…`; may be empty.
    pub query: String,
    /// Headers with lower-case names; the transport knows the secret ones by name.
    pub headers: Vec<(&'static str, String)>,
    /// Body; may be empty.
    pub body: Bytes,
}

/// An HTTP response.
#[derive(Debug, Clone, Default)]
pub struct RawResponse {
    /// HTTP status.
    pub status: u16,
    /// `Date` header.
    pub date: Option<String>,
    /// Wait that the response asks for, from any of the headers that can.
    pub retry_after: Option<Duration>,
    /// Body of up to 64 KiB. `None` if it was larger or broke off.
    pub body: Option<Bytes>,
}

impl RawResponse {
    /// Time of the server's clock, from the `Date` header.
    pub(super) fn server_date(&self) -> Option<Timestamp> {
        let date = httpdate::parse_http_date(self.date.as_deref()?).ok()?;
        Timestamp::try_from(date).ok()
    }
}

/// Why a call has no response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportError {
    /// No byte of the request was sent.
    NotSent(CallFailure),
    /// The request may have arrived.
    MaybeSent(CallFailure),
    /// No byte of the request was sent, and a person must act first: there is no key, or the proxy rejects us.
    Fatal(FatalError),
}

impl TransportError {
    pub(super) fn not_sent(kind: FailureKind, message: String) -> Self {
        Self::NotSent(CallFailure { kind, message, request_id: None })
    }

    pub(super) fn maybe_sent(kind: FailureKind, message: String) -> Self {
        Self::MaybeSent(CallFailure { kind, message, request_id: None })
    }
}

impl From<TransportError> for CallError {
    fn from(error: TransportError) -> Self {
        match error {
            TransportError::NotSent(failure) => Self::NotExecuted(failure),
            TransportError::MaybeSent(failure) => Self::MaybeExecuted(failure),
            TransportError::Fatal(fatal) => Self::Fatal(fatal),
        }
    }
}

/// Sends requests. An implementation never resends and never follows a redirect.
pub trait Transport: Send + Sync + 'static {
    /// Sends the request once and reads the response.
    fn exchange(&self, request: SignedRequest) -> impl Future<Output = Result<RawResponse, TransportError>> + Send;
}
