//! HTTP client of the credential providers: short timeouts, no redirects, no resending, and no proxy for this machine or
//! the metadata service.

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

/// Timeouts for STS and a credentials URI: to connect, and for the next byte (PY-CRED, the official Python package).
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout for the metadata service, which is link-local or absent (also PY-CRED).
const METADATA_TIMEOUT: Duration = Duration::from_secs(1);

/// How a request reaches its host.
#[derive(Debug, Clone, Copy)]
pub(super) enum Route {
    /// Another machine: HTTPS only, through the environment's proxy if there is one.
    Public,
    /// This machine or a link-local address: no proxy.
    Local,
    /// The metadata service: no proxy, short timeouts.
    Metadata,
}

/// HTTP clients, one per route.
pub(super) struct CredentialsHttp {
    public: Client,
    proxy: Option<Proxy>,
    local: Client,
    metadata: Client,
}

impl CredentialsHttp {
    /// `extra_roots` are additional trusted CA certificates, in PEM.
    pub(super) fn new(extra_roots: &[u8]) -> Result<Self, SetupError> {
        let limits = |connect, read| TransportSettings {
            connect,
            read,
            connections: 1,
            extra_roots: extra_roots.to_vec(),
            ..TransportSettings::default()
        };
        let default = limits(CONNECT_TIMEOUT, READ_TIMEOUT);
        let proxy = http::environment_proxy()?;
        Ok(Self {
            public: http::public_builder(&default, proxy.as_ref())?.timeout(CONNECT_TIMEOUT + READ_TIMEOUT).build()?,
            proxy,
            local: http::builder(&default)?.no_proxy().timeout(CONNECT_TIMEOUT + READ_TIMEOUT).build()?,
            metadata: http::builder(&limits(METADATA_TIMEOUT, METADATA_TIMEOUT))?
                .no_proxy()
                .timeout(METADATA_TIMEOUT * 2)
                .build()?,
        })
    }

    /// Sends one request. Errors name the host, but neither query nor headers, because both may contain a token.
    pub(super) async fn send(
        &self,
        route: Route,
        method: Method,
        url: Url,
        headers: &[(&'static str, &str)],
    ) -> Result<RawResponse, FetchError> {
        let (client, proxy) = match route {
            Route::Public => (&self.public, self.proxy.as_ref().filter(|proxy| proxy.is_used_for(&url))),
            Route::Local => (&self.local, None),
            Route::Metadata => (&self.metadata, None),
        };
        let host = url.host_str().unwrap_or_default().to_owned();
        let mut request = client.request(method, url).header("accept", "application/json");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        match request.send().await {
            Ok(response) => Ok(http::read(response).await),
            Err(error) => Err(match http::classify_error(&error, &host, proxy) {
                TransportError::NotSent(failure) | TransportError::MaybeSent(failure) => {
                    FetchError::Unavailable(failure)
                }
                TransportError::Fatal(fatal) => FetchError::Fatal(fatal),
            }),
        }
    }
}

/// Error for an unreadable response.
pub(super) fn unreadable(who: &str, status: u16) -> FetchError {
    let message = format!("unreadable response (HTTP {status}) from {who}");
    FetchError::Unavailable(CallFailure { kind: FailureKind::UnreadableAnswer, message, request_id: None })
}

/// Route to this URL: local for loopback, link-local and the metadata service.
pub(super) fn route_to(url: &Url) -> Route {
    let is_local = match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => {
            address.is_loopback() || address.is_link_local() || address.octets() == [100, 100, 100, 200]
        }
        Some(url::Host::Ipv6(address)) => address.is_loopback() || address.is_unicast_link_local(),
        None => false,
    };
    if is_local { Route::Local } else { Route::Public }
}
