//! Endpoints: regions, custom URLs and object stores.

use std::{fmt, net::IpAddr, str::FromStr};

use clap::ValueEnum;
use url::{Host, Url};

use crate::domain::did_you_mean;

/// A region that serves AddFaceRecord (API page). Regions do not share data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Region {
    /// `ap-southeast-1`
    Singapore,
    /// `ap-southeast-5`
    Jakarta,
    /// `cn-hongkong`
    HongKong,
    /// `ap-southeast-3`
    KualaLumpur,
}

impl Region {
    /// All regions.
    pub const ALL: [Self; 4] = [Self::Singapore, Self::Jakarta, Self::HongKong, Self::KualaLumpur];

    /// Region id.
    pub fn id(self) -> &'static str {
        match self {
            Self::Singapore => "ap-southeast-1",
            Self::Jakarta => "ap-southeast-5",
            Self::HongKong => "cn-hongkong",
            Self::KualaLumpur => "ap-southeast-3",
        }
    }
}

impl FromStr for Region {
    type Err = EndpointError;
    fn from_str(id: &str) -> Result<Self, EndpointError> {
        let named = Self::ALL.into_iter().find(|region| region.id() == id);
        named.ok_or_else(|| EndpointError::UnknownRegion { id: id.to_owned() })
    }
}

/// Network of a region's endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Network {
    /// Reachable from the internet.
    Public,
    /// Reachable from VPCs of the region.
    Vpc,
}

/// Why an endpoint is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum EndpointError {
    #[error("unknown region {id}{}: use ap-southeast-1, ap-southeast-5, cn-hongkong or ap-southeast-3", did_you_mean(id, Region::ALL.map(Region::id)))]
    UnknownRegion { id: String },
    #[error("invalid URL {url}: use a form such as https://host or http://127.0.0.1:8470")]
    NotAUrl { url: String },
    #[error("{url} would send faces and keys in cleartext: http:// is for loopback addresses only, use https://")]
    Cleartext { url: String },
    #[error("refusing to upload photos to {host}: not an Alibaba Cloud OSS host")]
    UntrustedHost { host: String },
    #[error("the region of {url} is not known, and requests are signed for a region: give --region")]
    NoObjectRegion { url: String },
    #[error("invalid endpoint {url}: only scheme, host and port are allowed")]
    NotAnOrigin {
        /// Given text without anything before an `@`, which may be a password.
        url: String,
    },
}

/// A scheme, a host and a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    url: Url,
    host_header: String,
    target_id: String,
    is_loopback: bool,
}

impl Endpoint {
    /// Endpoint of a region.
    pub fn for_region(region: Region, network: Network) -> Self {
        let infix = match network {
            Network::Public => "",
            Network::Vpc => "-vpc",
        };
        let url = format!("https://cloudauth-intl{infix}.{}.aliyuncs.com/", region.id());
        let url = Url::parse(&url).expect("the four hosts are URLs");
        Self { target_id: format!("region:{}", region.id()), ..Self::from_url(url) }
    }

    /// Custom endpoint: `https://` to any host, `http://` to loopback only.
    pub fn custom(text: &str) -> Result<Self, EndpointError> {
        let shown = || text.rsplit('@').next().unwrap_or_default().to_owned();
        let url = Url::parse(text).map_err(|_| EndpointError::NotAUrl { url: shown() })?;
        if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointError::NotAUrl { url: shown() });
        }
        let is_bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none();
        if !is_bare || !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointError::NotAnOrigin { url: shown() });
        }
        let endpoint = Self::from_url(url);
        if endpoint.url.scheme() == "http" && !endpoint.is_loopback {
            return Err(EndpointError::Cleartext { url: shown() });
        }
        Ok(endpoint)
    }

    /// Object store named by an upload authorization. It must be Alibaba Cloud's, except for a rehearsal: there the
    /// authorization comes from this machine, and the upload goes to the same address, with the store in `Host`.
    pub(super) fn object_store(bucket: &str, endpoint: &str, authorized_by: &Self) -> Result<Self, EndpointError> {
        let host = format!("{bucket}.{endpoint}");
        if authorized_by.is_loopback {
            return Ok(Self { host_header: host, ..authorized_by.clone() });
        }
        let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.'));
        let is_known = is_name(&host) && endpoint.starts_with("oss-") && endpoint.ends_with(".aliyuncs.com");
        if !is_known {
            return Err(EndpointError::UntrustedHost { host });
        }
        let url = Url::parse(&format!("https://{host}/")).map_err(|_| EndpointError::UntrustedHost { host })?;
        Ok(Self::from_url(url))
    }

    fn from_url(url: Url) -> Self {
        let host = url.host_str().expect("both callers pass a URL with a host").to_owned();
        let host_header = url.port().map_or_else(|| host.clone(), |port| format!("{host}:{port}"));
        let port = url.port_or_known_default().expect("http and https have one");
        Self { target_id: format!("endpoint:{host}:{port}"), is_loopback: is_loopback(&url), url, host_header }
    }

    /// URL with the path `/`.
    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Value of the `Host` header, with the port unless it is the scheme's default.
    pub fn host_header(&self) -> &str {
        &self.host_header
    }

    /// Whether the endpoint is on this machine.
    pub fn is_loopback(&self) -> bool {
        self.is_loopback
    }

    /// Target that a checkpoint is bound to: the region, or the host and port of a custom endpoint. Both networks of a
    /// region have the same one.
    pub fn target_id(&self) -> String {
        self.target_id.clone()
    }
}

/// Whether the host is this machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        // Any other name can resolve to any address (RFC 6761, 6.3).
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        None => false,
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.url.scheme(), self.host_header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_go_only_to_oss_or_loopback() {
        let cloud = Endpoint::custom("https://openplatform.aliyuncs.com").unwrap();
        let store = Endpoint::object_store("b-1", "oss-ap-southeast-1.aliyuncs.com", &cloud).unwrap();
        assert_eq!(store.url().as_str(), "https://b-1.oss-ap-southeast-1.aliyuncs.com/");
        for (bucket, endpoint) in [
            ("b", "evil.example"),
            ("b", "oss-x.aliyuncs.com.evil.example"),
            ("evil.example/b", "oss-x.aliyuncs.com"),
            ("b", "oss-x.aliyuncs.com/"),
            ("b@evil", "oss-x.aliyuncs.com"),
            ("b", "aliyuncs.com"),
            ("b", "oss-x:80.aliyuncs.com"),
        ] {
            assert!(Endpoint::object_store(bucket, endpoint, &cloud).is_err(), "{bucket} {endpoint}");
        }
        let here = Endpoint::custom("http://127.0.0.1:8470").unwrap();
        let store = Endpoint::object_store("b", "oss.invalid", &here).unwrap();
        assert_eq!((store.url().as_str(), store.host_header()), ("http://127.0.0.1:8470/", "b.oss.invalid"));
    }

    #[test]
    fn both_networks_of_a_region_share_one_target() {
        let hosts = Region::ALL.map(|region| Endpoint::for_region(region, Network::Public).to_string());
        assert_eq!(
            hosts,
            [
                "https://cloudauth-intl.ap-southeast-1.aliyuncs.com",
                "https://cloudauth-intl.ap-southeast-5.aliyuncs.com",
                "https://cloudauth-intl.cn-hongkong.aliyuncs.com",
                "https://cloudauth-intl.ap-southeast-3.aliyuncs.com",
            ]
        );
        for region in Region::ALL {
            let vpc = Endpoint::for_region(region, Network::Vpc);
            assert_eq!(vpc.host_header(), format!("cloudauth-intl-vpc.{}.aliyuncs.com", region.id()));
            assert_eq!(vpc.target_id(), Endpoint::for_region(region, Network::Public).target_id());
            assert_eq!(region.id().parse(), Ok(region));
        }
        assert!("cn-shanghai".parse::<Region>().is_err());
    }

    #[test]
    fn cleartext_goes_to_loopback_only() {
        for fine in
            ["http://127.0.0.1:8470", "http://127.9.9.9", "http://[::1]:1", "http://localhost:80", "https://a.example"]
        {
            assert!(Endpoint::custom(fine).is_ok(), "{fine}");
        }
        for clear in ["http://a.example", "http://10.0.0.1", "http://localhost.example", "http://127.0.0.1.example"] {
            assert!(matches!(Endpoint::custom(clear), Err(EndpointError::Cleartext { .. })), "{clear}");
        }
    }

    #[test]
    fn endpoint_rejects_path_query_and_user() {
        for much in ["https://h/p", "https://h/?q", "https://h/#f", "https://u:p@h/", "https://u@h"] {
            let Err(refused @ EndpointError::NotAnOrigin { .. }) = Endpoint::custom(much) else { panic!("{much}") };
            assert!(!refused.to_string().contains("u:p"), "{refused}");
        }
        for none in ["", "h", "ftp://h", "file:///x", "mailto:a@b"] {
            assert!(matches!(Endpoint::custom(none), Err(EndpointError::NotAUrl { .. })), "{none}");
        }
    }

    #[test]
    fn host_header_and_target_name_the_port() {
        let endpoint = Endpoint::custom("http://127.0.0.1:8470").unwrap();
        assert_eq!(
            (endpoint.host_header(), endpoint.target_id().as_str()),
            ("127.0.0.1:8470", "endpoint:127.0.0.1:8470")
        );
        let endpoint = Endpoint::custom("https://Proxy.Example").unwrap();
        assert_eq!(
            (endpoint.host_header(), endpoint.target_id().as_str()),
            ("proxy.example", "endpoint:proxy.example:443")
        );
    }
}
