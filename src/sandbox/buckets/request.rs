//! Requests to a bucket: ListObjectsV2, GetObject, HeadObject and PutObject.

use std::fmt::Write;

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use hyper::Method;
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{
    Buckets, StoredObject,
    signature::{Request, decode_query},
};
use crate::sandbox::{
    Action, Credentials,
    actions::{ActionResult, Body, JPEG_MAGIC},
    gateway::Call,
    response::ApiError,
};

/// Keys of a page by default, and at most.
const PAGE_KEYS: (usize, usize) = (100, 1_000);

/// An authenticated request to a bucket.
#[derive(Debug)]
pub(in crate::sandbox) struct ObjectCall {
    operation: Operation,
    bucket: String,
    key: String,
    query: Vec<(String, String)>,
    body: Bytes,
    class: Option<String>,
    /// First byte that is asked for.
    from: Option<u64>,
    if_match: Option<String>,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    List,
    Get,
    Head,
    Put,
}

impl ObjectCall {
    /// Whether a call is for a bucket rather than for the API.
    pub(in crate::sandbox) fn is_for_bucket(call: &Call, buckets: &Buckets) -> bool {
        let is_signed = call.header("authorization").is_some_and(|value| value.starts_with("OSS"));
        let is_presigned = call.query().contains("x-oss-signature");
        let is_path = call.uri.path() != "/" || bucket_in_host(call, buckets).is_some();
        call.header("x-acs-action").is_none() && (is_signed || is_presigned || is_path)
    }

    /// Parses a request and checks its signature.
    pub(in crate::sandbox) fn authenticate(
        call: &Call,
        buckets: &Buckets,
        (credentials, now): (&Credentials, Timestamp),
    ) -> Result<Self, ApiError> {
        let unreadable = || ApiError::new(400, "InvalidArgument", "The encoding of the URL is invalid.");
        let path = call.uri.path().strip_prefix('/').unwrap_or_default();
        let path = percent_decode_str(path).decode_utf8().map_err(|_| unreadable())?.into_owned();
        let (bucket, key) = match bucket_in_host(call, buckets) {
            Some(bucket) => (bucket, path),
            None => path
                .split_once('/')
                .map_or_else(|| (path.clone(), String::new()), |(bucket, key)| (bucket.to_owned(), key.to_owned())),
        };
        let query = decode_query(call.query()).ok_or_else(unreadable)?;
        let request =
            Request { method: call.method.as_str(), bucket: &bucket, key: &key, query: &query, headers: &call.headers };
        request.verify(credentials, now)?;
        if !buckets.contains(&bucket) {
            return Err(ApiError::new(404, "NoSuchBucket", "The specified bucket does not exist."));
        }
        let operation = Operation::of(&call.method, &key)?;
        let (class, if_match) = (call.header("x-oss-storage-class"), call.header("if-match"));
        // Another range is ignored, as OSS does.
        let range = call.header("range");
        let from = range.and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        Ok(Self { operation, bucket, key, query, body: call.body.clone(), class, from, if_match })
    }

    /// Action for the journal and the fault script.
    pub(in crate::sandbox) fn action(&self) -> Action {
        match self.operation {
            Operation::List => Action::ListObjects,
            Operation::Get | Operation::Head => Action::GetObject,
            Operation::Put => Action::PutObject,
        }
    }

    pub(in crate::sandbox) fn execute(self, buckets: &mut Buckets, now: Timestamp) -> Result<ActionResult, ApiError> {
        match self.operation {
            Operation::List => self.list(buckets),
            Operation::Put => {
                let object = StoredObject::new(self.body, self.class, now);
                let headers = vec![("etag", object.etag.clone())];
                buckets.put(&self.bucket, &self.key, object).ok_or_else(no_such_key)?;
                Ok(ActionResult::new(Body::Object { headers, bytes: Bytes::new(), kind: "application/xml" }))
            }
            Operation::Get => self.get(buckets, true),
            Operation::Head => self.get(buckets, false),
        }
    }

    fn get(self, buckets: &mut Buckets, with_body: bool) -> Result<ActionResult, ApiError> {
        let (object, bytes) = buckets.get(&self.bucket, &self.key).ok_or_else(no_such_key)?;
        if object.is_archived() && with_body {
            let message = "The operation is not valid for the object's state";
            return Err(ApiError::new(403, "InvalidObjectState", message));
        }
        if self.if_match.is_some_and(|etag| etag != object.etag) {
            let message = "At least one of the pre-conditions you specified did not hold.";
            return Err(ApiError::new(412, "PreconditionFailed", message));
        }
        let from = self.from.filter(|from| with_body && *from < object.size);
        let mut headers = vec![
            ("etag", object.etag.clone()),
            ("last-modified", httpdate::fmt_http_date(object.modified.into())),
            ("x-oss-object-type", "Normal".to_owned()),
            ("x-oss-storage-class", object.class.clone()),
            ("content-length", (object.size - from.unwrap_or(0)).to_string()),
        ];
        let range = |from| format!("bytes {from}-{}/{}", object.size - 1, object.size);
        headers.extend(from.map(|from| ("content-range", range(from))));
        let bytes = bytes.slice(usize::try_from(from.unwrap_or(0)).unwrap_or_default()..);
        let kind = if bytes.starts_with(&JPEG_MAGIC) { "image/jpeg" } else { "application/octet-stream" };
        let bytes = if with_body { bytes } else { Bytes::new() };
        Ok(ActionResult::new(Body::Object { headers, bytes, kind }))
    }

    fn parameter(&self, name: &str) -> &str {
        self.query.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    fn list(self, buckets: &mut Buckets) -> Result<ActionResult, ApiError> {
        let invalid = |name: &str| ApiError::new(400, "InvalidArgument", format!("The argument {name} is invalid."));
        if self.parameter("list-type") != "2" {
            return Err(ApiError::new(501, "NotImplemented", "The sandbox lists with list-type=2 only."));
        }
        let max = match self.parameter("max-keys") {
            "" => PAGE_KEYS.0,
            text => text.parse().ok().filter(|n| (1..=PAGE_KEYS.1).contains(n)).ok_or_else(|| invalid("max-keys"))?,
        };
        let is_encoded = match self.parameter("encoding-type") {
            "" => false,
            "url" => true,
            _ => return Err(invalid("encoding-type")),
        };
        let (prefix, delimiter, token) =
            (self.parameter("prefix"), self.parameter("delimiter"), self.parameter("continuation-token"));
        let after = match token {
            "" => self.parameter("start-after").to_owned(),
            token => STANDARD
                .decode(token)
                .ok()
                .and_then(|key| String::from_utf8(key).ok())
                .ok_or_else(|| invalid("continuation-token"))?,
        };
        let text = |text: &str| {
            if is_encoded { utf8_percent_encode(text, NON_ALPHANUMERIC).to_string() } else { escape(text) }
        };
        let (mut entries, mut groups, mut last, mut is_truncated) = (String::new(), Vec::new(), String::new(), false);
        let mut count = 0;
        // Begin at the prefix where that is further on; a key equal to it belongs to the answer.
        let objects = buckets.list(&self.bucket, &after, token.is_empty()).ok_or_else(no_such_key)?;
        for (key, object) in objects {
            if key < prefix {
                continue;
            }
            let Some(rest) = key.strip_prefix(prefix) else { break };
            let group = Some(delimiter).filter(|text| !text.is_empty()).and_then(|delimiter| {
                let end = rest.find(delimiter)? + delimiter.len();
                Some(format!("{prefix}{}", &rest[..end]))
            });
            // The rest of a group was counted with its first key, on this page or on the one before.
            if group.as_ref().is_some_and(|group| groups.last() == Some(group) || after.starts_with(group)) {
                last = key.to_owned();
                continue;
            }
            if count == max {
                is_truncated = true;
                break;
            }
            count += 1;
            last = key.to_owned();
            match group {
                Some(group) => groups.push(group),
                None => {
                    let _ = write!(
                        entries,
                        "<Contents><Key>{}</Key><LastModified>{}</LastModified><ETag>{}</ETag><Type>Normal</Type>\
                         <Size>{}</Size><StorageClass>{}</StorageClass></Contents>",
                        text(key),
                        object.modified.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                        escape(&object.etag),
                        object.size,
                        escape(&object.class),
                    );
                }
            }
        }
        for group in &groups {
            let _ = write!(entries, "<CommonPrefixes><Prefix>{}</Prefix></CommonPrefixes>", text(group));
        }
        let next = if is_truncated {
            format!("<NextContinuationToken>{}</NextContinuationToken>", STANDARD.encode(last))
        } else {
            String::new()
        };
        let encoding = if is_encoded { "<EncodingType>url</EncodingType>" } else { "" };
        let xml = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ListBucketResult><Name>{}</Name><Prefix>{}</Prefix>\
             <MaxKeys>{max}</MaxKeys><Delimiter>{}</Delimiter>{encoding}<IsTruncated>{is_truncated}</IsTruncated>{next}\
             {entries}<KeyCount>{count}</KeyCount></ListBucketResult>",
            self.bucket,
            text(prefix),
            text(delimiter),
        );
        Ok(ActionResult::new(Body::Xml(200, xml)))
    }
}

/// Bucket whose name is the first label of the host.
fn bucket_in_host(call: &Call, buckets: &Buckets) -> Option<String> {
    let host = call.header("host")?;
    host.split_once('.').map(|(name, _)| name).filter(|name| buckets.contains(name)).map(str::to_owned)
}

impl Operation {
    fn of(method: &Method, key: &str) -> Result<Self, ApiError> {
        match (method, key) {
            (&Method::GET, "") => Ok(Self::List),
            (&Method::GET, _) => Ok(Self::Get),
            (&Method::HEAD, key) if !key.is_empty() => Ok(Self::Head),
            (&Method::PUT, key) if !key.is_empty() => Ok(Self::Put),
            _ => {
                let message = "The specified method is not allowed against this resource.";
                Err(ApiError::new(405, "MethodNotAllowed", message))
            }
        }
    }
}

fn no_such_key() -> ApiError {
    ApiError::new(404, "NoSuchKey", "The specified key does not exist.")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
