//! HTTP/1.1 over reqwest. Every default that could resend, redirect or wait forever is turned off (reference,
//! reliability.md 4.7).

use std::{error::Error, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Certificate, Client, ClientBuilder, Method, RequestBuilder, Response, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect, retry, tls,
};

use super::{
    Endpoint, Proxy, RawResponse, SignedRequest, Transport, TransportError,
    proxy::{InvalidProxy, ProxyError, proxy_error},
    transport::MAX_BODY_BYTES,
};
use crate::domain::{FailureKind, FatalError, decode_text};

/// Longest wait accepted from a response (the official SDK's cap for `x-acs-retry-after`).
const MAX_RETRY_AFTER: Duration = Duration::from_secs(120);
/// Headers whose values must never be printed.
const SENSITIVE: [&str; 3] = ["authorization", "x-acs-security-token", "x-oss-security-token"];

/// Timeouts and connection limits.
#[derive(Debug, Clone)]
pub struct TransportSettings {
    /// Timeout for DNS, TCP and TLS together.
    pub connect: Duration,
    /// Timeout for the next byte of a response.
    pub read: Duration,
    /// Timeout for an exchange, extended by the time its body takes at [`min_bytes_per_second`](Self::min_bytes_per_second).
    pub total: Duration,
    /// Upload speed assumed for a slow line, in bytes per second.
    pub min_bytes_per_second: u64,
    /// Upper bound of the timeout for an exchange, whatever its body.
    pub total_cap: Duration,
    /// Idle connections are closed after this, before the server closes them, which would look like a lost request.
    pub idle: Duration,
    /// The kernel aborts a connection whose data is unacknowledged for this long (`TCP_USER_TIMEOUT`, Linux only).
    /// Otherwise it could deliver a request after the caller gave up and queried the record.
    pub unacknowledged: Duration,
    /// Maximum number of idle connections.
    pub connections: usize,
    /// Additional trusted CA certificates, in PEM; may be empty.
    pub extra_roots: Vec<u8>,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            total: Duration::from_secs(20),
            min_bytes_per_second: 50_000,
            total_cap: Duration::from_secs(120),
            idle: Duration::from_secs(20),
            unacknowledged: Duration::from_secs(30),
            connections: 64,
            extra_roots: Vec::new(),
        }
    }
}

/// The [`Transport`] over the network.
pub struct HttpTransport {
    /// For other machines: HTTPS only, through the environment's proxy if there is one.
    public: Client,
    /// For this machine: never through a proxy.
    loopback: Client,
    proxy: Option<Proxy>,
    settings: TransportSettings,
}

/// Why the HTTP client could not be built.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// reqwest failed.
    #[error("cannot set up the HTTP client")]
    Client(#[from] reqwest::Error),
    /// The additional certificates could not be parsed.
    #[error("--ca-file contains no PEM certificate (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// The proxy of the environment is invalid.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
}

impl HttpTransport {
    /// Builds the clients without connecting.
    pub fn new(settings: &TransportSettings) -> Result<Self, SetupError> {
        // Many networks can only be left through the proxy of the environment; this machine is never reached through it.
        let proxy = environment_proxy()?;
        let public = public_builder(settings, proxy.as_ref())?.build()?;
        let loopback = builder(settings)?.no_proxy().build()?;
        Ok(Self { public, loopback, proxy, settings: settings.clone() })
    }

    fn total(&self, body: usize) -> Duration {
        let sending = Duration::from_millis(body as u64 * 1_000 / self.settings.min_bytes_per_second.max(1));
        (self.settings.total + sending).min(self.settings.total_cap)
    }
}

/// Proxy named by this process's environment.
pub(super) fn environment_proxy() -> Result<Option<Proxy>, InvalidProxy> {
    Proxy::from_environment(|name| std::env::var_os(name))
}

/// Client for other machines: HTTPS only, through the proxy if there is one.
pub(super) fn public_builder(settings: &TransportSettings, proxy: Option<&Proxy>) -> Result<ClientBuilder, SetupError> {
    let builder = builder(settings)?.https_only(true);
    Ok(match proxy {
        Some(proxy) => builder.proxy(proxy.to_reqwest()?),
        None => builder.no_proxy(),
    })
}

/// Settings shared by all clients.
pub(super) fn builder(settings: &TransportSettings) -> Result<ClientBuilder, SetupError> {
    // An error means that a provider is already installed; that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = match settings.extra_roots.as_slice() {
        [] => Vec::new(),
        // Decode first: a byte-order mark would hide the first of several certificates.
        pem => match decode_text(pem.to_vec()).ok().and_then(|pem| Certificate::from_pem_bundle(pem.as_bytes()).ok()) {
            Some(roots) if !roots.is_empty() => roots,
            Some(_) | None => return Err(SetupError::NoCertificate),
        },
    };
    let builder = Client::builder();
    // 0 would select the system default, which is minutes.
    #[cfg(target_os = "linux")]
    let builder = builder.tcp_user_timeout(settings.unacknowledged.max(Duration::from_millis(1)));
    Ok(builder
        .tls_certs_merge(roots)
        .user_agent(concat!("face-enroll/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .redirect(redirect::Policy::none())
        .retry(retry::never())
        .referer(false)
        .tls_version_min(tls::Version::TLS_1_2)
        .tcp_nodelay(true)
        .connect_timeout(settings.connect)
        .read_timeout(settings.read)
        .pool_idle_timeout(settings.idle)
        .pool_max_idle_per_host(settings.connections))
}

impl Transport for HttpTransport {
    async fn exchange(&self, request: SignedRequest) -> Result<RawResponse, TransportError> {
        let SignedRequest { method, to, query, headers, body } = request;
        let mut url = to.url().clone();
        url.set_query((!query.is_empty()).then_some(query.as_str()));
        let request = Request { to: &to, method, url, headers };
        let total = self.total(body.len());
        let response = self.send(request, |request| request.body(body).timeout(total)).await?;
        Ok(read(response).await)
    }
}

/// A request without its body.
struct Request<'a> {
    to: &'a Endpoint,
    method: Method,
    url: Url,
    headers: Vec<(&'static str, String)>,
}

impl HttpTransport {
    /// Sends a GET request and leaves the body of the response unread. The body may take any time, as long as bytes come.
    pub(super) async fn get(
        &self,
        to: &Endpoint,
        url: Url,
        headers: Vec<(&'static str, String)>,
    ) -> Result<Response, TransportError> {
        self.send(Request { to, method: Method::GET, url, headers }, |request| request).await
    }

    async fn send(
        &self,
        request: Request<'_>,
        complete: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, TransportError> {
        let Request { to, method, url, headers } = request;
        let mut map = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                TransportError::not_sent(FailureKind::ConnectFailed, format!("invalid value for header {name}"))
            })?;
            value.set_sensitive(SENSITIVE.contains(&name));
            map.insert(HeaderName::from_static(name), value);
        }
        let client = if to.is_loopback() { &self.loopback } else { &self.public };
        let proxy = self.proxy.as_ref().filter(|proxy| !to.is_loopback() && proxy.is_used_for(&url));
        let sent = complete(client.request(method, url).headers(map)).send().await;
        sent.map_err(|error| classify_error(&error, to.host_header(), proxy))
    }
}

/// Classifies a failure. The message names host, proxy and cause, but never the URL or a header.
pub(super) fn classify_error(error: &reqwest::Error, host: &str, proxy: Option<&Proxy>) -> TransportError {
    let mut words = Vec::new();
    let (mut is_certificate, mut is_tls, mut proxy_failure) = (false, false, None);
    let mut cause = error.source();
    while let Some(source) = cause {
        is_certificate |= is_bad_certificate(source);
        is_tls |= tls_error(source).is_some();
        proxy_failure = proxy_failure.max(proxy_error(source));
        words.push(source.to_string());
        cause = source.source();
    }
    words.dedup();
    let what = match (error.is_connect(), error.is_timeout()) {
        (true, true) => "no connection in time to",
        (true, false) => "no connection to",
        (false, true) => "no answer in time from",
        (false, false) => "connection lost to",
    };
    let by = proxy.map(|proxy| format!(" via {proxy}")).unwrap_or_default();
    let why = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
    let message = format!("{what} {host}{by}{why}");
    match (error.is_connect(), proxy, proxy_failure) {
        (true, Some(proxy), Some(ProxyError::Credentials)) => TransportError::Fatal(FatalError::Proxy {
            message: format!("{proxy} rejected the connection to {host}: it requires a valid user and password"),
        }),
        (true, _, _) if is_certificate => TransportError::not_sent(FailureKind::CertificateRefused, message),
        // Once the proxy has connected, only TLS can fail; any other error is the proxy's.
        (true, Some(_), proxy_failure) if proxy_failure.is_some() || !is_tls => {
            TransportError::not_sent(FailureKind::ProxyFailed, message)
        }
        (true, _, _) => TransportError::not_sent(FailureKind::ConnectFailed, message),
        (false, _, _) if error.is_timeout() => TransportError::maybe_sent(FailureKind::Timeout, message),
        (false, _, _) => TransportError::maybe_sent(FailureKind::ConnectionLost, message),
    }
}

fn is_bad_certificate(error: &(dyn Error + 'static)) -> bool {
    matches!(tls_error(error), Some(rustls::Error::InvalidCertificate(_)))
}

/// Finds a rustls error. It is nested in `io::Error`s, which do not return it from `source()`.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)?;
    tls_error(held)
}

/// Reads a response and its body.
pub(super) async fn read(response: Response) -> RawResponse {
    RawResponse {
        status: response.status().as_u16(),
        date: text(response.headers(), "date"),
        retry_after: retry_after(response.headers()),
        body: read_body(response).await,
    }
}

/// The body, unless it broke off or exceeds [`MAX_BODY_BYTES`].
async fn read_body(mut response: Response) -> Option<Bytes> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_BODY_BYTES => body.extend_from_slice(&chunk),
            Ok(None) => return Some(body.freeze()),
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// `x-acs-retry-after` in milliseconds, else the older `x-ratelimit-user…` with `TimeLeft:` in milliseconds, else the
/// standard `Retry-After` in seconds.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<u64>().ok().filter(|&n| n > 0);
    let acs = || text(headers, "x-acs-retry-after").and_then(|ms| number(&ms)).map(Duration::from_millis);
    let left = |name: &str| {
        let fields = text(headers, name)?;
        let left = fields.split(',').find_map(|field| field.trim().strip_prefix("TimeLeft:").map(str::to_owned))?;
        number(&left).map(Duration::from_millis)
    };
    let limits = || left("x-ratelimit-user-api").max(left("x-ratelimit-user"));
    let standard = || text(headers, "retry-after").and_then(|s| number(&s)).map(Duration::from_secs);
    acs().or_else(limits).or_else(standard).map(|wait| wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait_from(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let headers =
            headers.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        retry_after(&headers.collect())
    }

    #[test]
    fn retry_after_headers_use_their_own_units() {
        assert_eq!(
            wait_from(&[("x-acs-retry-after", "1500"), ("retry-after", "9")]),
            Some(Duration::from_millis(1_500))
        );
        assert_eq!(wait_from(&[("retry-after", "9")]), Some(Duration::from_secs(9)));
        let limits = "Limit:1,Remain:0,TimeLeft:2000,Reset:1234";
        assert_eq!(wait_from(&[("x-ratelimit-user-api", limits)]), Some(Duration::from_secs(2)));
    }

    #[test]
    fn invalid_waits_are_ignored_and_long_ones_capped() {
        for invalid in ["0", "-5", "soon", ""] {
            assert_eq!(wait_from(&[("x-acs-retry-after", invalid)]), None, "{invalid}");
        }
        assert_eq!(wait_from(&[("x-acs-retry-after", "86400000")]), Some(Duration::from_secs(120)));
    }

    #[test]
    fn timeout_grows_with_the_body_up_to_a_cap() {
        let transport = HttpTransport::new(&TransportSettings::default()).unwrap();
        let seconds = [0, 50_000, 1_500_000, 50_000_000].map(|body| transport.total(body).as_secs());
        assert_eq!(seconds, [20, 21, 50, 120]);
    }
}
