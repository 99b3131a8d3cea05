//! The network itself: HTTP/1.1 by reqwest, with every default that could resend, redirect or wait for ever turned off
//! (reference, reliability.md 4.7).

use std::{error::Error, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Certificate, Client, ClientBuilder, Response,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect, retry, tls,
};

use super::{
    Proxy, RawResponse, SignedRequest, Transport, TransportError,
    proxy::{InvalidProxy, ProxyError, proxy_error},
    transport::BODY_CAP,
};
use crate::domain::{FailureKind, FatalError, decode_text};

/// `x-acs-retry-after` is honoured up to this (the official SDK's cap).
const RETRY_AFTER_CAP: Duration = Duration::from_secs(120);
/// Headers that no one may print.
const SENSITIVE: [&str; 2] = ["authorization", "x-acs-security-token"];

/// Time limits, and how many connections are kept.
#[derive(Debug, Clone)]
pub struct TransportSettings {
    /// For DNS, TCP and TLS together.
    pub connect: Duration,
    /// For the next byte of an answer.
    pub read: Duration,
    /// For an exchange, and for what its body takes at [`least_speed`](Self::least_speed) besides.
    pub total: Duration,
    /// Bytes a second that even a poor line carries.
    pub least_speed: u64,
    /// For an exchange, whatever its body.
    pub total_cap: Duration,
    /// Idle connections are closed after this: before the server does, which would look like a lost request.
    pub idle: Duration,
    /// A connection is broken off by the kernel when what was sent is not acknowledged for so long (`TCP_USER_TIMEOUT`,
    /// Linux only): it must not deliver a request after its caller has given up and asked what became of it.
    pub unacknowledged: Duration,
    /// Idle connections kept.
    pub connections: usize,
    /// Certificates to trust besides this machine's, in PEM; empty: none.
    pub extra_roots: Vec<u8>,
}

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            read: Duration::from_secs(10),
            total: Duration::from_secs(20),
            least_speed: 50_000,
            total_cap: Duration::from_secs(120),
            idle: Duration::from_secs(20),
            unacknowledged: Duration::from_secs(30),
            connections: 64,
            extra_roots: Vec::new(),
        }
    }
}

/// See the module.
pub struct HttpTransport {
    /// To other machines: encrypted, by the environment's proxy if there is one.
    outward: Client,
    /// To this machine: never by a proxy.
    loopback: Client,
    proxy: Option<Proxy>,
    settings: TransportSettings,
}

/// The client could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// For a reason of its own.
    #[error("the HTTP client can't be set up")]
    Client(#[from] reqwest::Error),
    /// What is to be trusted can't be read.
    #[error("--ca-file holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)")]
    NoCertificate,
    /// The environment names a proxy that can't be read.
    #[error(transparent)]
    Proxy(#[from] InvalidProxy),
}

impl HttpTransport {
    /// Connects to nothing yet.
    pub fn new(settings: &TransportSettings) -> Result<Self, SetupError> {
        // A proxy from the environment is the way out of many networks, and never the way to this machine.
        let proxy = environment_proxy()?;
        let outward = outward(settings, proxy.as_ref())?.build()?;
        let loopback = builder(settings)?.no_proxy().build()?;
        Ok(Self { outward, loopback, proxy, settings: settings.clone() })
    }

    fn total(&self, body: usize) -> Duration {
        let sending = Duration::from_millis(body as u64 * 1_000 / self.settings.least_speed.max(1));
        (self.settings.total + sending).min(self.settings.total_cap)
    }
}

/// The proxy of this process's environment.
pub(super) fn environment_proxy() -> Result<Option<Proxy>, InvalidProxy> {
    Proxy::from_environment(|name| std::env::var_os(name))
}

/// A client for other machines: encrypted, by the proxy if there is one.
pub(super) fn outward(settings: &TransportSettings, proxy: Option<&Proxy>) -> Result<ClientBuilder, SetupError> {
    let builder = builder(settings)?.https_only(true);
    Ok(match proxy {
        Some(proxy) => builder.proxy(proxy.for_client()?),
        None => builder.no_proxy(),
    })
}

/// What every client here has in common.
pub(super) fn builder(settings: &TransportSettings) -> Result<ClientBuilder, SetupError> {
    // Another crate of the process may have chosen one already; then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = match settings.extra_roots.as_slice() {
        [] => Vec::new(),
        // A byte-order mark would hide the first certificate of several.
        pem => match decode_text(pem.to_vec()).ok().and_then(|pem| Certificate::from_pem_bundle(pem.as_bytes()).ok()) {
            Some(roots) if !roots.is_empty() => roots,
            Some(_) | None => return Err(SetupError::NoCertificate),
        },
    };
    let builder = Client::builder();
    // 0 would mean the system's own: minutes.
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
        let mut map = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                TransportError::not_sent(FailureKind::ConnectFailed, format!("the header {name} can't be sent"))
            })?;
            value.set_sensitive(SENSITIVE.contains(&name));
            map.insert(HeaderName::from_static(name), value);
        }
        let total = self.total(body.len());
        let client = if to.is_loopback() { &self.loopback } else { &self.outward };
        let proxy = self.proxy.as_ref().filter(|proxy| !to.is_loopback() && proxy.is_used_for(&url));
        let sent = client.request(method, url).headers(map).body(body).timeout(total).send().await;
        let response = sent.map_err(|error| failed(&error, to.host_header(), proxy))?;
        Ok(read(response).await)
    }
}

/// Which kind of failure, in words that name the host, the proxy on the way and the cause, and neither URL nor header.
pub(super) fn failed(error: &reqwest::Error, host: &str, proxy: Option<&Proxy>) -> TransportError {
    let mut words = Vec::new();
    let (mut is_certificate, mut is_tls, mut of_proxy) = (false, false, None);
    let mut cause = error.source();
    while let Some(source) = cause {
        is_certificate |= is_bad_certificate(source);
        is_tls |= tls_error(source).is_some();
        of_proxy = of_proxy.max(proxy_error(source));
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
    let by = proxy.map(|proxy| format!(" by {proxy}")).unwrap_or_default();
    let why = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
    let message = format!("{what} {host}{by}{why}");
    match (error.is_connect(), proxy, of_proxy) {
        (true, Some(proxy), Some(ProxyError::Credentials)) => TransportError::Fatal(FatalError::Proxy {
            message: format!("{proxy} refuses the connection to {host}: it wants a user and a password, or others"),
        }),
        (true, _, _) if is_certificate => TransportError::not_sent(FailureKind::CertificateRefused, message),
        // Through the proxy and past it, there is nothing but TLS to fail.
        (true, Some(_), of_proxy) if of_proxy.is_some() || !is_tls => {
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

/// rustls hides in an io::Error, and that in another one; neither gives what it holds as its source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return Some(tls);
    }
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref)?;
    tls_error(held)
}

/// What came back.
pub(super) async fn read(response: Response) -> RawResponse {
    RawResponse {
        status: response.status().as_u16(),
        date: text(response.headers(), "date"),
        retry_after: retry_after(response.headers()),
        body: read_body(response).await,
    }
}

/// The body, if all of it came and it is not more than an answer can be.
async fn read_body(mut response: Response) -> Option<Bytes> {
    let mut body = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) if body.len() + chunk.len() <= BODY_CAP => body.extend_from_slice(&chunk),
            Ok(None) => return Some(body.freeze()),
            Ok(Some(_)) | Err(_) => return None,
        }
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// `x-acs-retry-after` in milliseconds; else the older `x-ratelimit-user…` with `TimeLeft:` in milliseconds; else the
/// standard's `Retry-After` in seconds.
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
    acs().or_else(limits).or_else(standard).map(|wait| wait.min(RETRY_AFTER_CAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waits(headers: &[(&'static str, &'static str)]) -> Option<Duration> {
        let headers =
            headers.iter().map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        retry_after(&headers.collect())
    }

    #[test]
    fn retry_after_headers_use_their_own_units() {
        assert_eq!(waits(&[("x-acs-retry-after", "1500"), ("retry-after", "9")]), Some(Duration::from_millis(1_500)));
        assert_eq!(waits(&[("retry-after", "9")]), Some(Duration::from_secs(9)));
        let limits = "Limit:1,Remain:0,TimeLeft:2000,Reset:1234";
        assert_eq!(waits(&[("x-ratelimit-user-api", limits)]), Some(Duration::from_secs(2)));
    }

    #[test]
    fn useless_waits_are_absent_and_long_ones_are_cut() {
        for useless in ["0", "-5", "soon", ""] {
            assert_eq!(waits(&[("x-acs-retry-after", useless)]), None, "{useless}");
        }
        assert_eq!(waits(&[("x-acs-retry-after", "86400000")]), Some(Duration::from_secs(120)));
    }

    #[test]
    fn larger_body_has_more_time_up_to_a_cap() {
        let transport = HttpTransport::new(&TransportSettings::default()).unwrap();
        let seconds = [0, 50_000, 1_500_000, 50_000_000].map(|body| transport.total(body).as_secs());
        assert_eq!(seconds, [20, 21, 50, 120]);
    }
}
