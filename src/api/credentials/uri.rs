//! Credentials from a URI: a local server, or a remote one over TLS.

use reqwest::{Method, Url};
use tokio::time::Instant;

use super::{
    error::FetchError,
    http::{CredentialsHttp, Route, route_to, unreadable},
    temporary::{TemporaryCredentials, parse_success},
};

/// A credentials URI. `http://` is allowed only for loopback, link-local and the metadata service, because the key could
/// be read on the way. Path and query may hold a secret, so only the host is shown.
pub(super) struct CredentialsUri(Url);

impl CredentialsUri {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| "invalid URL")?;
        match (url.scheme(), route_to(&url)) {
            ("https", _) | ("http", Route::Local) => {}
            ("http", Route::Public | Route::Metadata) => {
                return Err("http:// is allowed only for loopback and link-local addresses; use https://".to_owned());
            }
            (_, _) => return Err("the URL must be http:// or https://".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("the URL must not contain a user or password".to_owned());
        }
        Ok(Self(url))
    }

    pub(super) async fn fetch(&self, http: &CredentialsHttp) -> Result<TemporaryCredentials, FetchError> {
        let from = Instant::now();
        let response = http.send(route_to(&self.0), Method::GET, self.0.clone(), &[]).await?;
        let host = self.0.host_str().unwrap_or_default();
        let body = response.body.as_deref().filter(|_| response.status == 200);
        let granted = body.and_then(parse_success).ok_or_else(|| unreadable(host, response.status))?;
        TemporaryCredentials::from_response(granted, Some(format!("the key of {host}")), &response, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_is_for_local_addresses_only() {
        for fine in [
            "https://keys.example/a?b",
            "http://127.0.0.1:1/a",
            "http://localhost/a",
            "http://[::1]/",
            "http://169.254.170.2/v2",
            "http://100.100.100.200/latest",
        ] {
            assert!(CredentialsUri::parse(fine).is_ok(), "{fine}");
        }
        for bad in ["http://keys.example/", "http://10.0.0.1/", "ftp://127.0.0.1/", "nonsense", "https://u:p@h/"] {
            assert!(CredentialsUri::parse(bad).is_err(), "{bad}");
        }
    }
}
