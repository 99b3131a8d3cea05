//! The environment's proxy for calls to other machines: `HTTPS_PROXY`, else `ALL_PROXY`, except for hosts in `NO_PROXY`.
//!
//! An invalid value is an error and never ignored, because calls would then bypass the proxy.

use std::{error::Error, ffi::OsString, fmt};

use hyper_util::client::proxy::matcher::Matcher;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::{NoProxy, Url};

use super::http::SetupError;
use crate::domain::unquoted;

/// Checked in this order, as curl does; the first non-empty one is used.
const VARIABLES: [&str; 4] = ["HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
const EXCEPTIONS: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// A proxy and the hosts that bypass it.
pub struct Proxy {
    url: Url,
    except: String,
    matcher: Matcher,
    name: String,
}

/// An invalid proxy address. The error omits the address, because it may contain a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "invalid proxy in {variable}: {why}; use http://HOST:PORT, https://, socks5:// or socks5h://, with USER:PASSWORD@ before HOST if the proxy requires them"
)]
pub struct InvalidProxy {
    variable: &'static str,
    why: String,
}

impl Proxy {
    /// Reads the proxy from the environment; `None` if there is none.
    pub fn from_environment(variable: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, InvalidProxy> {
        let text = |name: &'static str| match variable(name).filter(|value| !value.is_empty()) {
            None => Ok(None),
            Some(value) => match value.into_string() {
                Ok(text) => Ok(Some(unquoted(&text).to_owned()).filter(|text| !text.is_empty())),
                Err(_) => Err(InvalidProxy { variable: name, why: "the value is not UTF-8".to_owned() }),
            },
        };
        let first = |names: &[&'static str]| -> Result<Option<(&'static str, String)>, InvalidProxy> {
            for name in names {
                if let Some(text) = text(name)? {
                    return Ok(Some((name, text)));
                }
            }
            Ok(None)
        };
        let Some((variable, address)) = first(&VARIABLES)? else { return Ok(None) };
        let url = parse(&address).map_err(|why| InvalidProxy { variable, why })?;
        let except = first(&EXCEPTIONS)?.map(|(_, text)| text).unwrap_or_default();
        let matcher = Matcher::builder().https(url.as_str()).no(except.as_str()).build();
        let port = url.port_or_known_default().unwrap_or(SOCKS_PORT);
        let name = format!("the proxy {}:{port}", url.host_str().unwrap_or_default());
        Ok(Some(Self { url, except, matcher, name }))
    }

    /// Whether a call to this URL goes through the proxy.
    pub(super) fn is_used_for(&self, url: &Url) -> bool {
        url.as_str().parse().is_ok_and(|uri| self.matcher.intercept(&uri).is_some())
    }

    /// The proxy for reqwest.
    pub(super) fn to_reqwest(&self) -> Result<reqwest::Proxy, SetupError> {
        Ok(reqwest::Proxy::https(self.url.clone())?.no_proxy(NoProxy::from_string(&self.except)))
    }
}

/// `the proxy HOST:PORT`, without user and password.
impl fmt::Display for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Proxy").field(&self.name).finish()
    }
}

const SOCKS_PORT: u16 = 1080;

/// Parses `[scheme://][user[:password]@]host[:port]`. The last `@` ends the password: a host has none, so a password may
/// contain any character, plain or percent-encoded.
fn parse(address: &str) -> Result<Url, String> {
    let (scheme, rest) = match address.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None => ("http".to_owned(), address),
    };
    let is_socks = match scheme.as_str() {
        "http" | "https" => false,
        "socks5" | "socks5h" | "socks4" | "socks4a" => true,
        _ if !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) => {
            return Err(format!("unsupported proxy scheme {scheme}://"));
        }
        _ => return Err("the scheme is invalid".to_owned()),
    };
    let (user, host) = match rest.rsplit_once('@') {
        Some((user, host)) => (Some(user), host),
        None => (None, rest),
    };
    let host = host.strip_suffix('/').unwrap_or(host);
    // Otherwise a malformed password could turn into the address of another proxy.
    if host.is_empty() || host.contains(['/', '?', '#', '\\', ' ']) {
        return Err("the host is missing, or text follows the port".to_owned());
    }
    let encoded = |text: &str| {
        let plain = percent_decode_str(text).decode_utf8_lossy().into_owned();
        utf8_percent_encode(&plain, NON_ALPHANUMERIC).to_string()
    };
    let user = match user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
        Some((user, password)) => format!("{}:{}@", encoded(user), encoded(password)),
        None => String::new(),
    };
    let mut url =
        Url::parse(&format!("{scheme}://{user}{host}")).map_err(|_| "the host or port is invalid".to_owned())?;
    if is_socks && url.port().is_none() {
        url.set_port(Some(SOCKS_PORT)).map_err(|()| "the host is invalid".to_owned())?;
    }
    let is_name = |host: &str| host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[:]".contains(&byte));
    if !url.host_str().is_some_and(|host| !host.is_empty() && is_name(host)) || url.port() == Some(0) {
        return Err("the host or port is invalid".to_owned());
    }
    Ok(url)
}

/// How a proxy failed. The greater of two is more specific.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ProxyError {
    /// The proxy is unreachable or cannot reach the host.
    Failed,
    /// The proxy requires a valid user and password.
    Credentials,
}

/// Detects a proxy failure by its text, because hyper-util and reqwest have no public type for it. A test with real
/// proxies checks these texts.
pub(super) fn proxy_error(error: &(dyn Error + 'static)) -> Option<ProxyError> {
    let words = error.to_string();
    let is_refusal = ["proxy authorization required", "credentials not accepted", "user/pass authentication"];
    if !words.starts_with("tunnel error") && !words.starts_with("SOCKS error") && !words.contains("socks proxy") {
        None
    } else if is_refusal.iter().any(|rejection| words.contains(rejection)) {
        Some(ProxyError::Credentials)
    } else {
        Some(ProxyError::Failed)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn proxy(values: &[(&str, &str)]) -> Result<Option<Proxy>, InvalidProxy> {
        Proxy::from_environment(|name| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn scheme_user_and_port_are_optional() {
        for (address, name) in [
            ("http://proxy.example:3128", "the proxy proxy.example:3128"),
            ("http://proxy.example:3128/", "the proxy proxy.example:3128"),
            ("proxy.example:3128\r", "the proxy proxy.example:3128"),
            ("\"http://proxy.example\"", "the proxy proxy.example:80"),
            ("HTTPS://u@proxy.example", "the proxy proxy.example:443"),
            ("socks5h://u:p@[::1]", "the proxy [::1]:1080"),
            ("http://user:pa#s@s/w?rd%@10.0.0.1:8080", "the proxy 10.0.0.1:8080"),
        ] {
            assert_eq!(proxy(&[("HTTPS_PROXY", address)]).unwrap().unwrap().to_string(), name, "{address}");
        }
    }

    #[test]
    fn first_non_empty_variable_is_used() {
        let name = |values: &[(&str, &str)]| proxy(values).unwrap().map(|proxy| proxy.to_string());
        let all = [("HTTPS_PROXY", ""), ("https_proxy", "a:1"), ("ALL_PROXY", "b:2"), ("HTTP_PROXY", "c:3")];
        assert_eq!(name(&all).as_deref(), Some("the proxy a:1"));
        assert_eq!(name(&all[2..]).as_deref(), Some("the proxy b:2"));
        assert_eq!(name(&all[3..]), None);
    }

    #[test]
    fn invalid_address_error_hides_the_password() {
        for address in [
            "http://",
            "http://user:planted@",
            "http://proxy:99999",
            "http://proxy:0",
            "http://proxy:planted",
            "http://user:12#planted",
            "http://proxy:3128/planted",
            "quic://planted@proxy:1",
            "'planted",
            "://planted@proxy",
        ] {
            let error = proxy(&[("ALL_PROXY", address)]).unwrap_err().to_string();
            assert!(
                error.starts_with("invalid proxy in ALL_PROXY") && !error.contains("planted"),
                "{address}: {error}"
            );
        }
        assert!(proxy(&[("https_proxy", "quic://h")]).unwrap_err().to_string().contains("scheme quic://"));
    }

    #[test]
    fn no_proxy_hosts_bypass_the_proxy() {
        let proxy = proxy(&[("HTTPS_PROXY", "p:1"), ("no_proxy", "aliyuncs.com, 10.0.0.0/8")]).unwrap().unwrap();
        let used = |url: &str| proxy.is_used_for(&Url::parse(url).unwrap());
        assert!(used("https://other.example/") && used("https://notaliyuncs.com/"));
        assert!(!used("https://sts.aliyuncs.com/") && !used("https://10.1.2.3/"));
    }

    proptest! {
        #[test]
        fn password_keeps_all_characters(user in "[^:%\\p{C}]{1,8}", password in "[^%\\p{C}]{0,20}") {
            let url = parse(&format!("http://{user}:{password}@proxy.example:3128")).unwrap();
            let plain = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(plain(url.username()), user);
            prop_assert_eq!(plain(url.password().unwrap_or_default()), password);
            prop_assert_eq!((url.host_str(), url.port()), (Some("proxy.example"), Some(3128)));
        }
    }
}
