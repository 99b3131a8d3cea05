//! The seam to the network: one exchange, once.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use reqwest::Method;

use super::Endpoint;
use crate::domain::{CallFailure, FailureKind, FatalError};

/// An answer's body beyond this is not read: ours are under 2 KiB.
pub(super) const BODY_CAP: usize = 64 * 1024;

/// A request, signed for this moment. Not `Clone`: its nonce is good for one exchange.
pub struct SignedRequest {
    /// POST, but for the leave to upload.
    pub method: Method,
    /// Where to.
    pub to: Endpoint,
    /// `name=value&…`, as it was signed; empty for none.
    pub query: String,
    /// Names in lower case; what is secret among them is known by its name.
    pub headers: Vec<(&'static str, String)>,
    /// Empty for none.
    pub body: Bytes,
}

/// What came back.
#[derive(Debug, Clone, Default)]
pub struct RawResponse {
    /// The HTTP status.
    pub status: u16,
    /// `Date`.
    pub date: Option<String>,
    /// How long to wait, by whichever header says so.
    pub retry_after: Option<Duration>,
    /// The body, up to 64 KiB. None: there is more of it, or it broke off.
    pub body: Option<Bytes>,
}

impl RawResponse {
    /// `Date`: what time it is where it came from.
    pub(super) fn server_date(&self) -> Option<Timestamp> {
        let date = httpdate::parse_http_date(self.date.as_deref()?).ok()?;
        Timestamp::try_from(date).ok()
    }
}

/// Why nothing came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportError {
    /// No byte of the request has left.
    NotSent(CallFailure),
    /// The request may have arrived.
    MaybeSent(CallFailure),
    /// No byte of the request has left, and none will before a person acts.
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

/// Sends a request and hears its answer. Never twice, and never to anyone else than it says.
pub trait Transport: Send + Sync + 'static {
    /// One exchange.
    fn exchange(&self, request: SignedRequest) -> impl Future<Output = Result<RawResponse, TransportError>> + Send;
}
