//! A key from a credentials URI: a local program that gives keys, or one behind TLS.

use reqwest::{Method, Url};
use tokio::time::Instant;

use super::{
    error::FetchError,
    grant::{TemporaryCredentials, successful},
    wire::{self, Peer, Wire, unreadable},
};

/// `http://` goes to this machine, to a link-local address and to the metadata service's alone: whoever listens on the
/// way would have the key. Its path and query may hold a secret, so that only its host is ever shown.
pub(super) struct CredentialsUri(Url);

impl CredentialsUri {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|_| "it is no URL")?;
        match (url.scheme(), wire::peer(&url)) {
            ("https", _) | ("http", Peer::Near) => {}
            ("http", Peer::Outward | Peer::Metadata) => {
                return Err("http:// goes to this machine or a link-local address alone; use https://".to_owned());
            }
            (_, _) => return Err("it is no http:// or https:// URL".to_owned()),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("it names a user, which no request would carry".to_owned());
        }
        Ok(Self(url))
    }

    pub(super) async fn fetch(&self, wire: &Wire) -> Result<TemporaryCredentials, FetchError> {
        let from = Instant::now();
        let answer = wire.ask(wire::peer(&self.0), Method::GET, self.0.clone(), &[]).await?;
        let host = self.0.host_str().unwrap_or_default();
        let body = answer.body.as_deref().filter(|_| answer.status == 200);
        let told = body.and_then(successful).ok_or_else(|| unreadable(host, answer.status))?;
        TemporaryCredentials::told(told, Some(format!("the key of {host}")), &answer, from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cleartext_goes_to_what_is_near_alone() {
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
