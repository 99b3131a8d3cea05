//! Verification of OSS4-HMAC-SHA256, by header and by query, from what arrived. It shares no code with the client's signer.

use std::borrow::Cow;

use hmac::{Hmac, KeyInit, Mac};
use hyper::HeaderMap;
use jiff::{SignedDuration, Timestamp, civil, tz::TimeZone};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, percent_encode};
use sha2::{Digest as _, Sha256};
use url::Url;

use super::super::{Credentials, response::ApiError, signature::header};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
/// Largest difference between the signing time and the store's clock.
const TIME_TOLERANCE: SignedDuration = SignedDuration::from_mins(15);
/// Longest life of a pre-signed URL, in seconds: 7 days.
const MAX_EXPIRES: i64 = 604_800;
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/');

/// A request to a bucket, decoded.
#[derive(Debug)]
pub(super) struct Request<'a> {
    pub(super) method: &'a str,
    pub(super) bucket: &'a str,
    pub(super) key: &'a str,
    pub(super) query: &'a [(String, String)],
    pub(super) headers: &'a HeaderMap,
}

/// The parts of a signature, from the header or from the query.
struct Signature {
    credential: String,
    time: String,
    additional: String,
    signature: String,
    payload: String,
    token: Option<String>,
}

impl Request<'_> {
    fn parameter(&self, name: &str) -> Option<&str> {
        self.query.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// Checks key, token, time and signature.
    pub(super) fn verify(&self, credentials: &Credentials, now: Timestamp) -> Result<(), ApiError> {
        let signature = match (header(self.headers, "authorization"), self.parameter("x-oss-signature-version")) {
            (Some(authorization), _) => self.by_header(&authorization, now)?,
            (None, Some(_)) => self.by_query(now)?,
            (None, None) => {
                return Err(denied("You have no right to access this object because of bucket acl."));
            }
        };
        let [key, date, region, product, "aliyun_v4_request"] = signature.credential.split('/').collect::<Vec<_>>()[..]
        else {
            return Err(invalid("The credential of the signature is invalid."));
        };
        if product != "oss" || !signature.time.starts_with(date) {
            return Err(invalid("The scope of the signature is invalid."));
        }
        if key != credentials.access_key_id {
            let message = "The OSS Access Key Id you provided does not exist in our records.";
            return Err(ApiError::new(403, "InvalidAccessKeyId", message));
        }
        if signature.token != credentials.security_token {
            return Err(ApiError::new(403, "InvalidSecurityToken", "The security token you provided is invalid."));
        }
        let canonical = self.canonical(&signature)?;
        let scope = format!("{date}/{region}/{product}/aliyun_v4_request");
        let text =
            format!("{ALGORITHM}\n{}\n{scope}\n{}", signature.time, hex::encode(Sha256::digest(canonical.as_bytes())));
        let seed = format!("aliyun_v4{}", credentials.access_key_secret).into_bytes();
        let key = [date, region, product, "aliyun_v4_request"]
            .iter()
            .fold(seed, |key, part| mac(&key, part.as_bytes()).finalize().into_bytes().to_vec());
        let is_valid = hex::decode(&signature.signature)
            .is_ok_and(|given| mac(&key, text.as_bytes()).verify_slice(&given).is_ok());
        if is_valid {
            return Ok(());
        }
        let message = "The request signature we calculated does not match the signature you provided. Check your key and \
                       signing method.";
        Err(ApiError::new(403, "SignatureDoesNotMatch", message))
    }

    fn by_header(&self, authorization: &str, now: Timestamp) -> Result<Signature, ApiError> {
        let parts = authorization.strip_prefix(ALGORITHM).filter(|rest| rest.starts_with(' '));
        let parts = parts.ok_or_else(|| invalid("Only signature version 4 is supported."))?;
        let part = |name: &str| {
            let mut parts = parts.split(',').filter_map(|part| part.trim().split_once('='));
            parts.find(|(known, _)| *known == name).map(|(_, value)| value.to_owned())
        };
        let required = |name: &str| part(name).ok_or_else(|| invalid(&format!("The authorization lacks {name}.")));
        let time = header(self.headers, "x-oss-date").unwrap_or_default().into_owned();
        let signed_at = parse_time(&time).ok_or_else(|| denied("x-oss-date is missing or not well formatted."))?;
        if now.duration_since(signed_at).abs() > TIME_TOLERANCE {
            let message = "The difference between the request time and the current time is too large.";
            return Err(ApiError::new(403, "RequestTimeTooSkewed", message));
        }
        let payload = header(self.headers, "x-oss-content-sha256")
            .ok_or_else(|| invalid("x-oss-content-sha256 is missing."))?
            .into_owned();
        Ok(Signature {
            credential: required("Credential")?,
            time,
            additional: part("AdditionalHeaders").unwrap_or_default(),
            signature: required("Signature")?,
            payload,
            token: header(self.headers, "x-oss-security-token").map(Cow::into_owned),
        })
    }

    fn by_query(&self, now: Timestamp) -> Result<Signature, ApiError> {
        let required = |name: &str| {
            let missing = || denied("Query-string authentication requires the Signature, Expires and Credential.");
            self.parameter(name).map(str::to_owned).ok_or_else(missing)
        };
        if required("x-oss-signature-version")? != ALGORITHM {
            return Err(invalid("Only signature version 4 is supported."));
        }
        let time = required("x-oss-date")?;
        let signed_at = parse_time(&time).ok_or_else(|| denied("x-oss-date is not well formatted."))?;
        let expires = required("x-oss-expires")?.parse().ok().filter(|seconds| (1..=MAX_EXPIRES).contains(seconds));
        let expires = expires.ok_or_else(|| denied("x-oss-expires must be between 1 and 604800 seconds."))?;
        let age = now.duration_since(signed_at);
        if age > SignedDuration::from_secs(expires) {
            return Err(denied("Request has expired."));
        }
        if age < -TIME_TOLERANCE {
            return Err(denied("The request is not valid yet."));
        }
        Ok(Signature {
            credential: required("x-oss-credential")?,
            time,
            additional: self.parameter("x-oss-additional-headers").unwrap_or_default().to_owned(),
            signature: required("x-oss-signature")?,
            payload: "UNSIGNED-PAYLOAD".to_owned(),
            token: self.parameter("x-oss-security-token").map(str::to_owned),
        })
    }

    fn canonical(&self, signature: &Signature) -> Result<String, ApiError> {
        let escape = |text: &str| percent_encode(text.as_bytes(), ESCAPED).to_string();
        let mut query: Vec<(String, String)> = self
            .query
            .iter()
            .filter(|(name, _)| name != "x-oss-signature")
            .map(|(name, value)| (escape(name), escape(value)))
            .collect();
        query.sort();
        let query: Vec<String> = query
            .into_iter()
            .map(|(name, value)| if value.is_empty() { name } else { format!("{name}={value}") })
            .collect();
        let additional: Vec<&str> = signature.additional.split(';').filter(|name| !name.is_empty()).collect();
        let mut names: Vec<&str> = self.headers.keys().map(hyper::header::HeaderName::as_str).collect();
        names.retain(|name| {
            name.starts_with("x-oss-") || matches!(*name, "content-type" | "content-md5") || additional.contains(name)
        });
        names.sort_unstable();
        let mut headers = String::new();
        for name in names {
            let value = header(self.headers, name).unwrap_or_default();
            headers.extend([name, ":", &value, "\n"]);
        }
        if let Some(missing) = additional.iter().find(|name| !self.headers.contains_key(**name)) {
            return Err(invalid(&format!("{missing} is signed and missing.")));
        }
        let path = format!("/{}/{}", self.bucket, percent_encode(self.key.as_bytes(), ESCAPED_IN_PATH));
        Ok([self.method, &path, &query.join("&"), &headers, &signature.additional, &signature.payload].join("\n"))
    }
}

/// Checks a pre-signed link of one of `buckets` and returns the bucket and the key; `None` for another link.
pub(in crate::sandbox) fn read_link(
    link: &str,
    is_bucket: impl Fn(&str) -> bool,
    (credentials, now): (&Credentials, Timestamp),
) -> Option<Result<(String, String), ApiError>> {
    let url = Url::parse(link).ok()?;
    let path = percent_decode_str(url.path().strip_prefix('/')?).decode_utf8().ok()?.into_owned();
    let in_host = url.domain().and_then(|host| host.split('.').next()).filter(|name| is_bucket(name));
    let (bucket, key) = match in_host {
        Some(bucket) => (bucket.to_owned(), path),
        None => {
            let (bucket, key) = path.split_once('/').filter(|(bucket, _)| is_bucket(bucket))?;
            (bucket.to_owned(), key.to_owned())
        }
    };
    let query = decode_query(url.query().unwrap_or_default())?;
    let headers = HeaderMap::new();
    let request = Request { method: "GET", bucket: &bucket, key: &key, query: &query, headers: &headers };
    Some(request.verify(credentials, now).map(|()| (bucket, key)))
}

/// Decoded pairs of a query string, in which `+` is a plus; `None` if it is not UTF-8.
pub(super) fn decode_query(raw: &str) -> Option<Vec<(String, String)>> {
    let decode = |text: &str| Some(percent_decode_str(text).decode_utf8().ok()?.into_owned());
    let pairs = raw.split('&').filter(|pair| !pair.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| Some((decode(n)?, decode(v)?))).collect()
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let time = civil::DateTime::strptime("%Y%m%dT%H%M%SZ", text).ok()?;
    Some(time.to_zoned(TimeZone::UTC).ok()?.timestamp())
}

fn mac(key: &[u8], message: &[u8]) -> Hmac<Sha256> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes a key of any length");
    mac.update(message);
    mac
}

fn denied(message: &str) -> ApiError {
    ApiError::new(403, "AccessDenied", message.to_owned())
}

fn invalid(message: &str) -> ApiError {
    ApiError::new(400, "InvalidArgument", message.to_owned())
}
