//! Requests to `--ping-url`, a URL of a monitor such as healthchecks.io. Whoever knows the URL can report a success, so
//! nothing here shows more of it than its host.

use std::fmt;

use reqwest::{Client, Method, header::CONTENT_TYPE};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::{
    CallError, Proxy, TransportSettings,
    endpoint::is_loopback,
    http::{SetupError, builder, classify_error, environment_proxy, public_builder},
};

/// URL of `--ping-url`: https to any host, http to this machine only.
#[derive(Clone)]
pub struct PingUrl(Url);

/// Why `--ping-url` is rejected. Does not repeat the URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPingUrl {
    /// Not a URL with a host.
    #[error("--ping-url is not a URL such as https://hc-ping.com/UUID")]
    NotAUrl,
    /// Unencrypted HTTP to another machine.
    #[error("--ping-url would send its token in cleartext: http:// is for loopback addresses only, use https://")]
    Cleartext,
}

impl PingUrl {
    /// Parses the URL.
    pub fn parse(text: &SecretString) -> Result<Self, InvalidPingUrl> {
        let url = Url::parse(text.expose_secret()).map_err(|_| InvalidPingUrl::NotAUrl)?;
        match url.scheme() {
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => Err(InvalidPingUrl::Cleartext),
            _ => Err(InvalidPingUrl::NotAUrl),
        }
    }

    fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }

    /// The URL with one more segment in its path, before its query.
    fn with_segment(&self, segment: &str) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().push(segment);
        }
        url
    }
}

impl fmt::Display for PingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}/****", self.0.scheme(), self.host())
    }
}

impl fmt::Debug for PingUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PingUrl({self})")
    }
}

/// What a ping reports, by the convention of healthchecks.io.
#[derive(Debug, Clone, Copy)]
pub enum Ping<'a> {
    /// The run has started: GET `/start`.
    Start,
    /// The run has succeeded: POST this JSON.
    Success(&'a str),
    /// The run has failed: POST this JSON to `/fail`.
    Failure(&'a str),
}

/// Why a ping failed.
#[derive(Debug, thiserror::Error)]
pub enum PingError {
    /// No answer. Names host and cause, never the URL.
    #[error("{0}")]
    NoAnswer(String),
    /// The monitor did not answer with success. A redirect is not followed: it could lead elsewhere.
    #[error("{host} answered with HTTP status {status}")]
    Refused {
        /// Host of the URL.
        host: String,
        /// HTTP status.
        status: u16,
    },
}

/// Sends pings through the same proxy as every other request.
pub struct Pinger {
    url: PingUrl,
    client: Client,
    proxy: Option<Proxy>,
}

impl Pinger {
    /// Builds the client without connecting. `extra_roots` are the certificates of `--ca-file`.
    pub fn new(url: PingUrl, extra_roots: Vec<u8>) -> Result<Self, SetupError> {
        let settings = TransportSettings { connections: 1, extra_roots, ..TransportSettings::default() };
        let proxy = environment_proxy()?.filter(|proxy| !is_loopback(&url.0) && proxy.is_used_for(&url.0));
        let client = if is_loopback(&url.0) {
            builder(&settings)?.no_proxy().build()?
        } else {
            public_builder(&settings, proxy.as_ref())?.build()?
        };
        Ok(Self { url, client, proxy })
    }

    /// Sends a ping once.
    pub async fn send(&self, ping: Ping<'_>) -> Result<(), PingError> {
        let (method, url, body) = match ping {
            Ping::Start => (Method::GET, self.url.with_segment("start"), None),
            Ping::Success(summary) => (Method::POST, self.url.0.clone(), Some(summary)),
            Ping::Failure(summary) => (Method::POST, self.url.with_segment("fail"), Some(summary)),
        };
        let mut request = self.client.request(method, url);
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        }
        let host = self.url.host();
        let response = request.send().await.map_err(|error| {
            PingError::NoAnswer(match classify_error(&error, host, self.proxy.as_ref()) {
                CallError::NotSent(failure) | CallError::MaybeSent(failure) => failure.message,
                CallError::Fatal(fatal) => fatal.to_string(),
            })
        })?;
        if response.status().is_success() {
            Ok(())
        } else {
            Err(PingError::Refused { host: host.to_owned(), status: response.status().as_u16() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PingUrl, InvalidPingUrl> {
        PingUrl::parse(&SecretString::from(text))
    }

    #[test]
    fn only_https_or_loopback_is_accepted() {
        for good in
            ["https://hc-ping.com/planted", "http://127.0.0.1:8000/ping/planted", "http://[::1]/x", "http://localhost"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert_eq!(parse("http://hc-ping.com/planted").unwrap_err(), InvalidPingUrl::Cleartext);
        assert_eq!(parse("http://127.0.0.1.example/planted").unwrap_err(), InvalidPingUrl::Cleartext);
        for bad in
            ["", "hc-ping.com/planted", "ftp://hc-ping.com/planted", "file:///etc/planted", "https://", "mailto:a@b"]
        {
            assert_eq!(parse(bad).unwrap_err(), InvalidPingUrl::NotAUrl, "{bad}");
        }
    }

    #[test]
    fn only_host_of_url_is_shown() {
        let url = parse("https://user:planted@hc.example:8443/planted?key=planted#planted").unwrap();
        assert_eq!(url.to_string(), "https://hc.example/****");
        assert_eq!(format!("{url:?}"), "PingUrl(https://hc.example/****)");
    }

    #[test]
    fn segment_comes_after_path_and_before_query() {
        let start = |text: &str| parse(text).unwrap().with_segment("start").to_string();
        assert_eq!(start("https://hc-ping.com/uuid"), "https://hc-ping.com/uuid/start");
        assert_eq!(start("https://hc-ping.com/key/slug/?create=1"), "https://hc-ping.com/key/slug/start?create=1");
        assert_eq!(start("https://hc-ping.com"), "https://hc-ping.com/start");
    }
}
