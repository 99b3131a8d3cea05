//! ACS3-HMAC-SHA256 (reference, protocol.md section 1). Pure: the caller passes date and nonce as headers.

use std::fmt::Write;

use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::{Digest, Sha256};

/// Characters that are not percent-encoded: RFC 3986, unreserved.
pub(super) const UNRESERVED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// The parts of a request that the signature covers.
#[derive(Debug, Clone, Copy)]
pub struct CanonicalRequest<'a> {
    /// HTTP method.
    pub method: &'a str,
    /// Path, always `/`.
    pub path: &'a str,
    /// Query string from [`canonical_query`].
    pub query: &'a str,
    /// Headers with lower-case names.
    pub headers: &'a [(&'a str, &'a str)],
    /// SHA-256 of the body, in hexadecimal.
    pub body_sha256: &'a str,
}

/// Value of the `Authorization` header.
pub fn authorization(request: CanonicalRequest<'_>, key_id: &str, secret: &str) -> String {
    let mut headers = request.headers.to_vec();
    headers.sort_unstable();
    let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
    let mut canonical = format!("{}\n{}\n{}\n", request.method, request.path, request.query);
    for (name, value) in &headers {
        let _ = writeln!(canonical, "{name}:{}", value.trim());
    }
    let _ = write!(canonical, "\n{names}\n{}", request.body_sha256);
    let to_sign = format!("ACS3-HMAC-SHA256\n{}", sha256_hex(canonical.as_bytes()));
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("HMAC takes keys of any length");
    mac.update(to_sign.as_bytes());
    let signature = hex::encode(mac.finalize().into_bytes());
    format!("ACS3-HMAC-SHA256 Credential={key_id},SignedHeaders={names},Signature={signature}")
}

/// Query string for signing and sending: sorted by name, values percent-encoded, a space as `%20`.
pub fn canonical_query(parameters: &[(&str, &str)]) -> String {
    let mut sorted = parameters.to_vec();
    sorted.sort_unstable();
    let pairs = sorted.iter().map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, UNRESERVED)));
    pairs.collect::<Vec<_>>().join("&")
}

pub(super) fn sha256_hex(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    const VECTORS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/");

    fn read(name: &str) -> String {
        std::fs::read_to_string(format!("{VECTORS}{name}")).unwrap()
    }

    /// Converts the query of the Python SDK, which writes `+` for a space, to our form.
    fn query_of(sent: &str) -> String {
        let query = sent.split_once('?').map_or("", |(_, query)| query);
        let pairs: Vec<(String, String)> = form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        canonical_query(&pairs)
    }

    #[test]
    fn minimal_vectors_match_official_signatures() {
        let vectors: Vec<Value> = serde_json::from_str(&read("min_vectors.json")).unwrap();
        for vector in &vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let headers: Vec<(&str, &str)> = vector["headers_signed"]
                .as_object()
                .unwrap()
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str().unwrap()))
                .collect();
            let request = CanonicalRequest {
                method: text("method"),
                path: "/",
                query: &query_of(text("url_path_query_as_sent_by_python_sdk")),
                headers: &headers,
                body_sha256: &sha256_hex(text("body").as_bytes()),
            };
            let signed = authorization(request, text("access_key_id"), text("access_key_secret"));
            assert_eq!(signed, text("authorization"), "{}", text("name"));
        }
        assert_eq!(vectors.len(), 5);
    }

    /// Checks a request head captured from an SDK against our signature over the headers it signed.
    fn check_wire(lines: &[&str], body: &str, key: (&str, &str), name: &str) {
        let (method, target) = lines[0].split_once(' ').unwrap();
        let target = target.split(' ').next().unwrap();
        let headers: Vec<(String, &str)> = lines[1..]
            .iter()
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value))
            .collect();
        let find = |name: &str| headers.iter().find(|(known, _)| known == name).unwrap().1;
        let sent = find("authorization");
        let signed_names = sent.split("SignedHeaders=").nth(1).unwrap().split(',').next().unwrap();
        let signed: Vec<(&str, &str)> = signed_names.split(';').map(|name| (name, find(name))).collect();
        let request = CanonicalRequest {
            method,
            path: "/",
            query: &query_of(target),
            headers: &signed,
            body_sha256: &sha256_hex(body.as_bytes()),
        };
        assert_eq!(authorization(request, key.0, key.1), sent, "{name}");
    }

    #[test]
    fn python_sdk_vectors_have_the_same_signature() {
        let vectors: Vec<Value> = serde_json::from_str(&read("py_vectors.json")).unwrap();
        for vector in &vectors {
            let text = |name: &str| vector[name].as_str().unwrap();
            let lines: Vec<&str> = text("wire_head").split("\r\n").collect();
            check_wire(&lines, text("body"), (text("access_key_id"), text("access_key_secret")), text("name"));
        }
        assert_eq!(vectors.len(), 5);
    }

    #[test]
    fn typescript_sdk_vectors_have_the_same_signature() {
        let text = read("ts_vectors.txt");
        let vectors: Vec<&str> = text.split("##### ").skip(1).collect();
        for vector in &vectors {
            let (head, rest) = vector.split_once("--body--\n").unwrap();
            let body = rest.split("\n--canon--").next().unwrap();
            let (name, head) = head.split_once('\n').unwrap();
            let lines: Vec<&str> = head.lines().collect();
            check_wire(&lines, body, ("LTAI5tTESTVECTORKEY0001", "TestVectorSecret/0123456789+abc"), name);
        }
        assert_eq!(vectors.len(), 5);
    }

    #[test]
    fn documented_example_has_documented_signature() {
        // help.aliyun.com, "request structure and signature V3": RunInstances.
        let hash = sha256_hex(b"");
        let headers = [
            ("host", "ecs.cn-shanghai.aliyuncs.com"),
            ("x-acs-action", "RunInstances"),
            ("x-acs-content-sha256", &hash),
            ("x-acs-date", "2023-10-26T10:22:32Z"),
            ("x-acs-signature-nonce", "3156853299f313e23d1673dc12e1703d"),
            ("x-acs-version", "2014-05-26"),
        ];
        let query = canonical_query(&[
            ("RegionId", "cn-shanghai"),
            ("ImageId", "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd"),
        ]);
        let request =
            CanonicalRequest { method: "POST", path: "/", query: &query, headers: &headers, body_sha256: &hash };
        let signed = authorization(request, "YourAccessKeyId", "YourAccessKeySecret");
        assert!(signed.ends_with("06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"), "{signed}");
    }

    #[test]
    fn query_is_sorted_and_encoded_by_rfc_3986() {
        assert_eq!(canonical_query(&[("B", "张 a+b/c=~*"), ("A", "")]), "A=&B=%E5%BC%A0%20a%2Bb%2Fc%3D~%2A");
    }
}
