//! The API client: signs a request, sends it once and classifies the response.
//!
//! cloudauth-intl 2022-08-09 in the RPC style, signed with ACS3-HMAC-SHA256 (reference, protocol.md). A request is
//! signed right before it is sent, because its date and nonce belong to that attempt.
//!
//! The client never retries, never paces and knows no database. Each call consumes a [`Permit`](crate::domain::Permit)
//! of the gate; a call that changes records also consumes the proof that its intent is on disk.

mod body;
mod buffer;
mod classify;
mod client;
mod credentials;
mod endpoint;
mod http;
pub mod oss;
mod ping;
mod proxy;
mod queries;
mod sign;
mod transport;
mod upload;

pub use body::{FaceQualityCheck, FormFields, Payload};
pub use classify::{Classification, classify};
pub use client::Client;
pub use credentials::{Credentials, CredentialsError, Origin};
pub use endpoint::{Endpoint, EndpointError, Network, Region};
pub use http::{HttpTransport, TransportSettings};
pub use ping::{InvalidPingUrl, Ping, PingError, PingUrl, Pinger};
pub use proxy::{InvalidProxy, Proxy};
pub use queries::{FaceRecord, LookupPage, LookupPages, RecordPage};
pub use sign::{CanonicalRequest, authorization, canonical_query};
pub use transport::{RawResponse, SignedRequest, Transport, TransportError};
pub use upload::{ObjectUrl, UploadAuthorization, UploadTarget};

pub use crate::secret::AccessKey;
