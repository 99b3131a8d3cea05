//! The network of whoever gives keys: short time limits, no redirect, nothing sent twice, and no proxy on the way to this
//! machine or to the metadata service.

use std::time::Duration;

use reqwest::{Client, Method, Url};

use super::error::FetchError;
use crate::{
    api::{
        Proxy, RawResponse, TransportError, TransportSettings,
        http::{self, SetupError},
    },
    domain::{CallFailure, FailureKind},
};

/// For STS and a credentials URI: to connect, and for the next byte (PY-CRED, the official Python package).
const CONNECT: Duration = Duration::from_secs(5);
const READ: Duration = Duration::from_secs(10);
/// For the metadata service, which is next door or not there at all (the same).
const METADATA: Duration = Duration::from_secs(1);

/// Whom it is spoken to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Peer {
    /// Someone elsewhere: encrypted, by the environment's proxy if there is one.
    Outward,
    /// This machine, or an address that is never routed: no proxy.
    Near,
    /// The metadata service: no proxy, and little patience.
    Metadata,
}

/// See the module.
pub(super) struct Wire {
    outward: Client,
    proxy: Option<Proxy>,
    near: Client,
    metadata: Client,
}

impl Wire {
    /// `extra_roots`: certificates to trust besides this machine's, in PEM.
    pub(super) fn new(extra_roots: &[u8]) -> Result<Self, SetupError> {
        let limits = |connect, read| TransportSettings {
            connect,
            read,
            connections: 1,
            extra_roots: extra_roots.to_vec(),
            ..TransportSettings::default()
        };
        let patient = limits(CONNECT, READ);
        let proxy = http::environment_proxy()?;
        Ok(Self {
            outward: http::outward(&patient, proxy.as_ref())?.timeout(CONNECT + READ).build()?,
            proxy,
            near: http::builder(&patient)?.no_proxy().timeout(CONNECT + READ).build()?,
            metadata: http::builder(&limits(METADATA, METADATA))?.no_proxy().timeout(METADATA * 2).build()?,
        })
    }

    /// One exchange. What fails names the host, and neither the query nor a header: a token may be in both.
    pub(super) async fn ask(
        &self,
        peer: Peer,
        method: Method,
        url: Url,
        headers: &[(&'static str, &str)],
    ) -> Result<RawResponse, FetchError> {
        let (client, proxy) = match peer {
            Peer::Outward => (&self.outward, self.proxy.as_ref().filter(|proxy| proxy.is_used_for(&url))),
            Peer::Near => (&self.near, None),
            Peer::Metadata => (&self.metadata, None),
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut request = client.request(method, url).header("accept", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match request.send().await {
            Ok(response) => Ok(http::read(response).await),
            Err(error) => Err(match http::failed(&error, &host, proxy) {
                TransportError::NotSent(fault) | TransportError::MaybeSent(fault) => FetchError::Unavailable(fault),
                TransportError::Fatal(fatal) => FetchError::Fatal(fatal),
            }),
        }
    }
}

/// An answer that is none.
pub(super) fn unreadable(who: &str, status: u16) -> FetchError {
    let message = format!("HTTP {status} that can't be understood, from {who}");
    FetchError::Unavailable(CallFailure { kind: FailureKind::UnreadableAnswer, message, request_id: None })
}

/// Is this no address of another network's?
pub(super) fn peer(url: &Url) -> Peer {
    let is_near = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => {
            address.is_loopback() || address.is_link_local() || address.octets() == [100, 100, 100, 200]
        }
        Some(url::Host::Ipv6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        None => false,
    };
    if is_near { Peer::Near } else { Peer::Outward }
}
