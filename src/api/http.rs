//! The network itself: HTTP/1.1 by reqwest, with every default that could resend, redirect or wait for ever turned off
//! (reference, reliability.md 4.7).

use std::{error::Error, time::Duration};

use bytes::{Bytes, BytesMut};
use reqwest::{
    Certificate, Client, ClientBuilder, Response,
    header::{HeaderMap, HeaderName, HeaderValue},
    redirect, retry, tls,
};

use super::{RawAnswer, SignedRequest, Transport, TransportError, transport::BODY_CAP};
use crate::domain::FaultKind;

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
}

impl HttpTransport {
    /// Connects to nothing yet.
    pub fn new(settings: &TransportSettings) -> Result<Self, SetupError> {
        // A proxy from the environment is the way out of many networks, and never the way to this machine.
        let outward = builder(settings)?.https_only(true).build()?;
        let loopback = builder(settings)?.no_proxy().build()?;
        Ok(Self { outward, loopback, settings: settings.clone() })
    }

    fn total(&self, body: usize) -> Duration {
        let sending = Duration::from_millis(body as u64 * 1_000 / self.settings.least_speed.max(1));
        (self.settings.total + sending).min(self.settings.total_cap)
    }
}

/// What every client here has in common.
pub(super) fn builder(settings: &TransportSettings) -> Result<ClientBuilder, SetupError> {
    // Another crate of the process may have chosen one already; then that one is used.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let roots = match settings.extra_roots.as_slice() {
        [] => Vec::new(),
        pem => match Certificate::from_pem_bundle(pem) {
            Ok(roots) if !roots.is_empty() => roots,
            Ok(_) | Err(_) => return Err(SetupError::NoCertificate),
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
    async fn exchange(&self, request: SignedRequest) -> Result<RawAnswer, TransportError> {
        let SignedRequest { method, to, query, headers, body } = request;
        let mut url = to.url().clone();
        url.set_query((!query.is_empty()).then_some(query.as_str()));
        let mut map = HeaderMap::with_capacity(headers.len());
        for (name, value) in headers {
            let mut value = HeaderValue::try_from(value).map_err(|_| {
                TransportError::not_sent(FaultKind::ConnectFailed, format!("the header {name} can't be sent"))
            })?;
            value.set_sensitive(SENSITIVE.contains(&name));
            map.insert(HeaderName::from_static(name), value);
        }
        let total = self.total(body.len());
        let client = if to.is_loopback() { &self.loopback } else { &self.outward };
        let sent = client.request(method, url).headers(map).body(body).timeout(total).send().await;
        let response = sent.map_err(|error| failed(&error, to.host_header()))?;
        Ok(read(response).await)
    }
}

/// Which kind of failure, in words that name the host and the cause, and neither URL nor header.
pub(super) fn failed(error: &reqwest::Error, host: &str) -> TransportError {
    let mut words = Vec::new();
    let mut is_certificate = false;
    let mut cause = error.source();
    while let Some(source) = cause {
        is_certificate |= is_bad_certificate(source);
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
    let why = if words.is_empty() { String::new() } else { format!(": {}", words.join(": ")) };
    let message = format!("{what} {host}{why}");
    match (error.is_connect(), is_certificate) {
        (true, true) => TransportError::not_sent(FaultKind::CertificateRefused, message),
        (true, false) => TransportError::not_sent(FaultKind::ConnectFailed, message),
        (false, _) if error.is_timeout() => TransportError::maybe_sent(FaultKind::Timeout, message),
        (false, _) => TransportError::maybe_sent(FaultKind::ConnectionLost, message),
    }
}

/// rustls hides in an io::Error, and that in another one; neither gives what it holds as its source.
fn is_bad_certificate(error: &(dyn Error + 'static)) -> bool {
    if let Some(tls) = error.downcast_ref::<rustls::Error>() {
        return matches!(tls, rustls::Error::InvalidCertificate(_));
    }
    let held = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    held.is_some_and(|held| is_bad_certificate(held))
}

/// What came back.
pub(super) async fn read(response: Response) -> RawAnswer {
    RawAnswer {
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
    fn alibaba_clouds_header_is_in_milliseconds_and_the_standards_in_seconds() {
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
