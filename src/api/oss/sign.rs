//! OSS4-HMAC-SHA256, by header and by query, as the official SDK `alibabacloud-oss-v2` signs. Pure: the caller passes the
//! time.
//!
//! The payload is never signed (`UNSIGNED-PAYLOAD`), and neither is the host, so that one signature fits every endpoint of a
//! bucket.

use std::{fmt::Write, time::Duration};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, utf8_percent_encode};
use sha2::Sha256;

use crate::{
    api::sign::{UNRESERVED, sha256_hex},
    secret::AccessKey,
};

const ALGORITHM: &str = "OSS4-HMAC-SHA256";
const PAYLOAD: &str = "UNSIGNED-PAYLOAD";
/// Characters of a key that are not encoded in a path.
const PATH: &AsciiSet = &UNRESERVED.remove(b'/');

/// A request to a bucket.
#[derive(Debug, Clone, Copy)]
pub struct ObjectRequest<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Name of the bucket.
    pub bucket: &'a str,
    /// Key of the object; empty for the bucket itself.
    pub key: &'a str,
    /// Parameters, not encoded.
    pub query: &'a [(&'a str, &'a str)],
}

/// What a signature is valid for.
#[derive(Debug, Clone, Copy)]
pub struct SigningScope<'a> {
    /// Region of the bucket, such as `cn-hongkong`.
    pub region: &'a str,
    /// Time of signing.
    pub at: Timestamp,
}

impl SigningScope<'_> {
    fn time(&self) -> String {
        self.at.strftime("%Y%m%dT%H%M%SZ").to_string()
    }

    fn date(&self) -> String {
        self.at.strftime("%Y%m%d").to_string()
    }

    fn credential_scope(&self) -> String {
        format!("{}/{}/oss/aliyun_v4_request", self.date(), self.region)
    }

    fn signature(&self, canonical: &str, key: &AccessKey) -> String {
        let text =
            format!("{ALGORITHM}\n{}\n{}\n{}", self.time(), self.credential_scope(), sha256_hex(canonical.as_bytes()));
        let secret = format!("aliyun_v4{}", key.secret());
        let date = self.date();
        let parts = [&date, self.region, "oss", "aliyun_v4_request", &text];
        hex::encode(parts.iter().fold(secret.into_bytes(), |key, part| hmac(&key, part.as_bytes())))
    }
}

fn hmac(key: &[u8], message: &[u8]) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac.finalize().into_bytes().to_vec()
}

/// Path of a key, percent-encoded, without a leading slash.
pub fn encode_key(key: &str) -> String {
    utf8_percent_encode(key, PATH).to_string()
}

/// Query string: sorted by name, percent-encoded; a parameter without a value is only a name.
pub fn encode_query(parameters: &[(&str, &str)]) -> String {
    let encode = |text: &str| utf8_percent_encode(text, UNRESERVED).to_string();
    let mut pairs: Vec<(String, String)> =
        parameters.iter().map(|(name, value)| (encode(name), encode(value))).collect();
    pairs.sort_unstable();
    let join = |(name, value): (String, String)| if value.is_empty() { name } else { format!("{name}={value}") };
    pairs.into_iter().map(join).collect::<Vec<_>>().join("&")
}

fn canonical(request: &ObjectRequest<'_>, query: &str, headers: &[(&'static str, String)]) -> String {
    let ObjectRequest { method, bucket, key, query: _ } = request;
    let mut canonical = format!("{method}\n/{}/{}\n{query}\n", encode_key(bucket), encode_key(key));
    for (name, value) in headers {
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    // No additional headers are signed.
    let _ = write!(canonical, "\n\n{PAYLOAD}");
    canonical
}

/// Headers of a signed request, `authorization` among them.
pub fn signed_headers(
    request: &ObjectRequest<'_>,
    scope: SigningScope<'_>,
    key: &AccessKey,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![("x-oss-content-sha256", PAYLOAD.to_owned()), ("x-oss-date", scope.time())];
    headers.extend(key.token().map(|token| ("x-oss-security-token", token.to_owned())));
    let signature = scope.signature(&canonical(request, &encode_query(request.query), &headers), key);
    let credential = format!("{}/{}", key.id(), scope.credential_scope());
    headers.push(("authorization", format!("{ALGORITHM} Credential={credential},Signature={signature}")));
    headers
}

/// Query string of a pre-signed link, which is a secret while it is valid.
pub fn presigned_query(
    request: &ObjectRequest<'_>,
    scope: SigningScope<'_>,
    key: &AccessKey,
    valid_for: Duration,
) -> String {
    let (time, expires) = (scope.time(), valid_for.as_secs().to_string());
    let credential = format!("{}/{}", key.id(), scope.credential_scope());
    let mut parameters = request.query.to_vec();
    parameters.extend([
        ("x-oss-signature-version", ALGORITHM),
        ("x-oss-date", time.as_str()),
        ("x-oss-expires", expires.as_str()),
        ("x-oss-credential", credential.as_str()),
    ]);
    parameters.extend(key.token().map(|token| ("x-oss-security-token", token)));
    let query = encode_query(&parameters);
    let signature = scope.signature(&canonical(request, &query, &[]), key);
    format!("{query}&x-oss-signature={signature}")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const VECTORS: &str = include_str!("../../../tests/vectors/oss_vectors.jsonl");

    #[test]
    fn vectors_match_official_signatures() {
        let vectors: Vec<Value> = VECTORS.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        for vector in &vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let token = vector["token"].as_str().map(|token| token.to_owned().into());
            let key = AccessKey::new(text("key_id").to_owned(), text("secret").to_owned().into(), token);
            let query: Vec<(&str, &str)> =
                vector["query"].as_object().unwrap().iter().map(|(n, v)| (n.as_str(), v.as_str().unwrap())).collect();
            let request = ObjectRequest {
                method: text("method"),
                bucket: text("bucket"),
                key: vector["key"].as_str().unwrap_or_default(),
                query: &query,
            };
            let scope = SigningScope { region: text("region"), at: text("at").parse().unwrap() };
            let (signed, expected) = match vector["expires"].as_u64() {
                None => {
                    let headers = signed_headers(&request, scope, &key);
                    let find = |name| headers.iter().find(|(known, _)| *known == name).unwrap().1.clone();
                    (find("authorization"), text("authorization").to_owned())
                }
                Some(expires) => {
                    let query = presigned_query(&request, scope, &key, Duration::from_secs(expires));
                    // The SDK sends its parameters in another order; the signature covers the sorted ones.
                    let mut ours: Vec<&str> = query.split('&').collect();
                    let mut theirs: Vec<&str> = text("url").split_once('?').unwrap().1.split('&').collect();
                    ours.sort_unstable();
                    theirs.sort_unstable();
                    (ours.join("&"), theirs.join("&"))
                }
            };
            assert_eq!(signed, expected, "{vector}");
        }
        assert_eq!(vectors.len(), 12);
    }

    proptest! {
        #[test]
        fn encoded_key_decodes_to_the_key(key in "[ -~\u{80}-\u{2FFF}张🙂]{1,40}|[a-z/+% ]{1,20}|//+") {
            let encoded = encode_key(&key);
            prop_assert!(encoded.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.~/%".contains(&b)), "{}", encoded);
            prop_assert_eq!(encoded.matches('/').count(), key.matches('/').count());
            let decoded = percent_encoding::percent_decode_str(&encoded).decode_utf8().unwrap().into_owned();
            prop_assert_eq!(decoded, key);
        }

        #[test]
        fn query_order_does_not_matter(mut pairs in prop::collection::vec(("[a-z-]{1,8}", "[ -~张]{0,8}"), 0..6)) {
            let encode = |pairs: &[(String, String)]| {
                encode_query(&pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect::<Vec<_>>())
            };
            let encoded = encode(&pairs);
            pairs.reverse();
            prop_assert_eq!(encode(&pairs), encoded);
        }
    }
}
