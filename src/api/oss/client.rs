//! Requests to object storage. Each is signed and sent once.

use std::{
    sync::atomic::{AtomicI64, Ordering::Relaxed},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use jiff::{SignedDuration, Timestamp};
use reqwest::Response;

use super::{
    ObjectError, ObjectPage, ObjectRequest, ObjectStore, SigningScope, encode_query, presigned_query, signed_headers,
};
use crate::{
    api::{Credentials, HttpTransport, RawResponse, http::read},
    domain::{FatalError, ObjectRef, PhotoUrl},
};

/// Keys of a page, the most that OSS gives.
const PAGE_KEYS: &str = "1000";
/// Largest page that is read, in bytes: 1,000 encoded keys of 1,023 bytes, and as much again.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// A clock that is further off than this is not corrected, as for the API.
const MAX_CLOCK_CORRECTION: Duration = Duration::from_secs(24 * 60 * 60);
/// Lifetime of a pre-signed link.
const LINK_TTL: Duration = Duration::from_secs(15 * 60);
/// Least lifetime of a link: the service may fetch the photo late. A link dies with the token of its key.
const MIN_LINK_TTL: Duration = Duration::from_secs(5 * 60);

/// Client of object storage.
pub struct ObjectClient {
    transport: HttpTransport,
    store: ObjectStore,
    credentials: Credentials,
    /// Correction added to our clock, in milliseconds, from the last rejected time.
    clock_correction_ms: AtomicI64,
}

/// Where a listing begins.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ListRequest {
    /// Only keys with this prefix.
    pub prefix: String,
    /// Only keys behind this one; may be empty.
    pub start_after: String,
    /// Token of the page before.
    pub token: Option<String>,
    /// Most keys; `None` for 1,000.
    pub max_keys: Option<u16>,
}

/// An object whose body is not read yet.
#[derive(Debug)]
pub struct ObjectBody {
    /// Size that the answer announces.
    pub size: Option<u64>,
    /// ETag, in quotes.
    pub etag: String,
    response: Response,
}

impl ObjectBody {
    /// The next bytes; `None` at the end.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ObjectError> {
        // reqwest fails if the body ends before its announced length.
        self.response.chunk().await.map_err(|_| ObjectError::failed("the object's bytes broke off".to_owned()))
    }
}

impl ObjectClient {
    /// A client that signs with `credentials` and sends to `store`.
    pub fn new(transport: HttpTransport, store: ObjectStore, credentials: Credentials) -> Self {
        Self { transport, store, credentials, clock_correction_ms: AtomicI64::new(0) }
    }

    /// ListObjectsV2: one page.
    pub async fn list(&self, bucket: &str, request: &ListRequest) -> Result<ObjectPage, ObjectError> {
        let max_keys = request.max_keys.map_or_else(|| PAGE_KEYS.to_owned(), |keys| keys.to_string());
        let mut query = vec![("list-type", "2"), ("encoding-type", "url"), ("max-keys", max_keys.as_str())];
        let optional = [("prefix", request.prefix.as_str()), ("start-after", request.start_after.as_str())];
        query.extend(optional.into_iter().filter(|(_, value)| !value.is_empty()));
        query.extend(request.token.as_deref().map(|token| ("continuation-token", token)));
        let mut response = self.send(&ObjectRequest { method: "GET", bucket, key: "", query: &query }, &[]).await?;
        let mut body = BytesMut::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_PAGE_BYTES => body.extend_from_slice(&chunk),
                Ok(None) => return ObjectPage::parse(&body),
                Ok(Some(_)) => return Err(ObjectError::failed("the listing's page is too large".to_owned())),
                Err(_) => return Err(ObjectError::failed("the listing's page broke off".to_owned())),
            }
        }
    }

    /// GetObject: the answer's head. The body is read by [`ObjectBody::chunk`].
    pub async fn get(&self, object: &ObjectRef) -> Result<ObjectBody, ObjectError> {
        self.get_with(object, &[]).await
    }

    /// GetObject from a byte on, if the object still has this ETag.
    pub async fn get_rest(&self, object: &ObjectRef, from: u64, etag: &str) -> Result<ObjectBody, ObjectError> {
        let headers = [("range", format!("bytes={from}-")), ("if-match", etag.to_owned())];
        let rest = self.get_with(object, &headers).await?;
        // A whole object, or another one, must not be taken for the rest.
        let range = rest.response.headers().get("content-range").and_then(|value| value.to_str().ok());
        let is_rest = range.is_some_and(|range| range.starts_with(&format!("bytes {from}-"))) && rest.etag == etag;
        if is_rest { Ok(rest) } else { Err(ObjectError::failed("the answer is not the rest of the object".to_owned())) }
    }

    async fn get_with(
        &self,
        object: &ObjectRef,
        headers: &[(&'static str, String)],
    ) -> Result<ObjectBody, ObjectError> {
        let ObjectRef { bucket, key } = object;
        let response = self.send(&ObjectRequest { method: "GET", bucket, key, query: &[] }, headers).await?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        // A proxy's page has none, and must not be taken for the photo.
        let etag = header("etag").filter(|_| header("x-oss-request-id").is_some());
        let etag = etag.ok_or_else(|| ObjectError::failed("the answer is not object storage's".to_owned()))?;
        let size = header("content-length").and_then(|size| size.parse().ok());
        Ok(ObjectBody { size, etag: etag.to_owned(), response })
    }

    /// A link that lets its holder read the object for 15 minutes, or as long as a temporary key lives: at least 5.
    pub async fn presign(&self, object: &ObjectRef) -> Result<PhotoUrl, ObjectError> {
        let (key, left) = self.credentials.lasting(MIN_LINK_TTL).await?;
        let ttl = link_ttl(left).ok_or_else(|| {
            ObjectError::failed("the temporary key expires too soon for a link, and there is no other yet".to_owned())
        })?;
        let ObjectRef { bucket, key: name } = object;
        let request = ObjectRequest { method: "GET", bucket, key: name, query: &[] };
        let scope = SigningScope { region: self.store.region(), at: self.now() };
        let query = presigned_query(&request, scope, &key, ttl);
        Ok(PhotoUrl(self.store.public_url(bucket, name, &query).into()))
    }

    /// Sends a request. After a rejected time or key it is signed again, once.
    async fn send(
        &self,
        request: &ObjectRequest<'_>,
        unsigned: &[(&'static str, String)],
    ) -> Result<Response, ObjectError> {
        match self.send_once(request, unsigned).await {
            Err(ObjectError::SignAgain) => self.send_once(request, unsigned).await,
            sent => sent,
        }
    }

    async fn send_once(
        &self,
        request: &ObjectRequest<'_>,
        unsigned: &[(&'static str, String)],
    ) -> Result<Response, ObjectError> {
        let key = self.credentials.current().await?;
        let signed_at = self.now();
        let scope = SigningScope { region: self.store.region(), at: signed_at };
        let mut headers = signed_headers(request, scope, &key);
        headers.extend_from_slice(unsigned);
        let url = self.store.url(request.bucket, request.key, &encode_query(request.query));
        let response = self.transport.get(self.store.endpoint(), url, headers).await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let response = read(response).await;
        match ObjectError::classify(&response) {
            ObjectError::Fatal(fatal @ FatalError::Credentials { .. }) => {
                if self.credentials.replace_rejected(&key).await? {
                    Err(ObjectError::SignAgain)
                } else {
                    Err(ObjectError::Fatal(fatal))
                }
            }
            ObjectError::Fatal(FatalError::Clock { .. }) if self.correct_clock(&response, signed_at) => {
                Err(ObjectError::SignAgain)
            }
            error => Err(error),
        }
    }

    fn now(&self) -> Timestamp {
        let ahead = SignedDuration::from_millis(self.clock_correction_ms.load(Relaxed));
        Timestamp::now().checked_add(ahead).unwrap_or_else(|_| Timestamp::now())
    }

    /// Adopts the time of the answer's `Date`. Returns whether that may help.
    fn correct_clock(&self, response: &RawResponse, signed_at: Timestamp) -> bool {
        let Some(service) = response.server_date() else { return false };
        let ahead = service.duration_since(Timestamp::now());
        let is_plausible = ahead.unsigned_abs() <= MAX_CLOCK_CORRECTION;
        let was_wrong = service.duration_since(signed_at).unsigned_abs() > Duration::from_secs(60);
        if is_plausible && was_wrong {
            self.clock_correction_ms.store(ahead.as_millis() as i64, Relaxed);
        }
        is_plausible && was_wrong
    }
}

/// Lifetime of a link by that of its key; `None` if it would be too short.
fn link_ttl(left: Option<Duration>) -> Option<Duration> {
    let Some(left) = left else { return Some(LINK_TTL) };
    (left >= MIN_LINK_TTL).then_some(left.min(LINK_TTL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_does_not_outlive_its_key() {
        let ttl = |minutes: u64| link_ttl(Some(Duration::from_secs(60 * minutes))).map(|ttl| ttl.as_secs() / 60);
        assert_eq!([60, 15, 7, 5, 4, 0].map(ttl), [Some(15), Some(15), Some(7), Some(5), None, None]);
        assert_eq!(link_ttl(None), Some(LINK_TTL));
    }
}
