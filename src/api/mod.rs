//! The API client: signs, sends once, classifies the answer.
//!
//! cloudauth-intl 2022-08-09 in the RPC style, signed with ACS3-HMAC-SHA256 (reference, protocol.md). A request is
//! signed when its turn has come, never before: date and nonce belong to the attempt.
//!
//! No retry, no pacing, no database. What is sent consumes a [`Permit`](crate::domain::Permit) of the gate and, where
//! it can change something, the proof that its intent is on disk.

mod body;
mod buffer;
mod classify;
mod client;
mod companion;
mod credentials;
mod endpoint;
mod http;
mod no_answer;
mod proxy;
mod sign;
mod transport;
mod upload;

pub use body::Payload;
pub use classify::{Meaning, classify};
pub use client::Client;
pub use companion::{FaceRecord, GroupLookup, Lookup, LookupPage, LookupPages, RecordPage, Removed};
pub use credentials::{Credentials, CredentialsError, Origin};
pub use endpoint::{Endpoint, EndpointError, Network, Region};
pub use http::{HttpTransport, TransportSettings};
pub use proxy::{InvalidProxy, Proxy};
pub use sign::{CanonicalRequest, authorization, canonical_query};
pub use transport::{RawResponse, SignedRequest, Transport, TransportError};
pub use upload::{ObjectUrl, UploadAuthorization, UploadError, UploadTarget};

use self::no_answer::NoAnswer;
pub use crate::secret::AccessKey;
