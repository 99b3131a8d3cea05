//! Address of object storage.

use url::Url;

use super::sign::encode_key;
use crate::api::{Endpoint, EndpointError, Network, Region};

/// Region in the signature for a local server, which accepts any.
const LOOPBACK_REGION: &str = "loopback";

/// Object storage of a region.
#[derive(Debug, Clone)]
pub struct ObjectStore {
    endpoint: Endpoint,
    /// Endpoint that others reach, for links.
    public: Endpoint,
    region: String,
}

impl ObjectStore {
    /// Object storage of a region.
    pub fn for_region(region: Region, network: Network) -> Self {
        let of = |infix| {
            let url = format!("https://oss-{}{infix}.aliyuncs.com", region.id());
            Endpoint::custom(&url).expect("the hosts of the regions are URLs")
        };
        let endpoint = of(match network {
            Network::Public => "",
            Network::Vpc => "-internal",
        });
        Self { endpoint, public: of(""), region: region.id().to_owned() }
    }

    /// Custom endpoint without the bucket: `https://oss-cn-hangzhou.aliyuncs.com`, or `http://` to loopback. The region is
    /// taken from the host if that is Alibaba Cloud's.
    pub fn custom(text: &str, region: Option<Region>) -> Result<Self, EndpointError> {
        let endpoint = Endpoint::custom(text)?;
        let host = endpoint.url().host_str().unwrap_or_default();
        let in_host = host.strip_prefix("oss-").and_then(|rest| rest.strip_suffix(".aliyuncs.com"));
        let in_host = in_host.map(|id| id.strip_suffix("-internal").unwrap_or(id).to_owned());
        let given = || region.map(|region| region.id().to_owned());
        let region = in_host.or_else(given).or_else(|| endpoint.is_loopback().then(|| LOOPBACK_REGION.to_owned()));
        let region = region.ok_or_else(|| EndpointError::NoObjectRegion { url: endpoint.to_string() })?;
        let public = text.replace("-internal.aliyuncs.com", ".aliyuncs.com");
        Ok(Self { public: Endpoint::custom(&public)?, endpoint, region })
    }

    /// Region that signs requests.
    pub fn region(&self) -> &str {
        &self.region
    }

    /// Endpoint without a bucket.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// URL of an object, or of the bucket for an empty key. The bucket is part of the host, but on this machine, where
    /// names of hosts lead nowhere, it is part of the path.
    pub fn url(&self, bucket: &str, key: &str, query: &str) -> Url {
        url(&self.endpoint, bucket, key, query)
    }

    /// The same at the public endpoint, for a link that another host follows.
    pub fn public_url(&self, bucket: &str, key: &str, query: &str) -> Url {
        url(&self.public, bucket, key, query)
    }
}

fn url(endpoint: &Endpoint, bucket: &str, key: &str, query: &str) -> Url {
    let (scheme, host) = (endpoint.url().scheme(), endpoint.host_header());
    let key = encode_key(key);
    let mut url = match endpoint.is_loopback() {
        true => format!("{scheme}://{host}/{bucket}/{key}"),
        false => format!("{scheme}://{bucket}.{host}/{key}"),
    };
    if !query.is_empty() {
        url = format!("{url}?{query}");
    }
    Url::parse(&url).expect("a bucket's name, an encoded key and a query make a URL")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bucket_is_part_of_the_host_except_on_loopback() {
        let store = ObjectStore::for_region(Region::HongKong, Network::Vpc);
        let url = store.url("faces", "a b/张.jpg", "x=1");
        assert_eq!(url.as_str(), "https://faces.oss-cn-hongkong-internal.aliyuncs.com/a%20b/%E5%BC%A0.jpg?x=1");
        assert_eq!(store.public_url("faces", "a", "").as_str(), "https://faces.oss-cn-hongkong.aliyuncs.com/a");
        let here = ObjectStore::custom("http://127.0.0.1:8470", None).unwrap();
        assert_eq!(here.url("faces", "a//b", "").as_str(), "http://127.0.0.1:8470/faces/a//b");
        assert_eq!(here.url("faces", "", "").as_str(), "http://127.0.0.1:8470/faces/");
    }

    #[test]
    fn region_comes_from_host_or_flag() {
        let region = |url: &str, region| ObjectStore::custom(url, region).map(|store| store.region().to_owned());
        assert_eq!(region("https://oss-cn-hangzhou.aliyuncs.com", None).as_deref(), Ok("cn-hangzhou"));
        let internal = "https://oss-cn-beijing-internal.aliyuncs.com";
        assert_eq!(region(internal, Some(Region::Jakarta)).as_deref(), Ok("cn-beijing"));
        assert_eq!(region("https://oss.example", Some(Region::Jakarta)).as_deref(), Ok("ap-southeast-5"));
        assert!(matches!(region("https://oss.example", None), Err(EndpointError::NoObjectRegion { .. })));
        assert!(matches!(region("http://oss.example", None), Err(EndpointError::Cleartext { .. })));
    }
}
