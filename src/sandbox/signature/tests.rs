//! Signatures of the official SDKs are accepted; any single flipped bit is rejected.

use hyper::header::{HeaderName, HeaderValue};
use serde_json::Value;

use super::*;

const MINIMAL: &str = include_str!("../../../tests/vectors/min_vectors.json");
const PYTHON: &str = include_str!("../../../tests/vectors/py_vectors.json");
const TYPESCRIPT: &str = include_str!("../../../tests/vectors/ts_vectors.txt");
/// Secret of the TypeScript vectors, whose file does not contain it.
const SECRET: &str = "TestVectorSecret/0123456789+abc";

/// One request signed by an official SDK.
#[derive(Debug, Clone)]
struct Vector {
    name: String,
    method: String,
    query: String,
    headers: HeaderMap,
    body: Vec<u8>,
    secret: String,
}

impl Vector {
    fn check(&self) -> Result<(), ApiError> {
        let request =
            Request { method: &self.method, path: "/", query: &self.query, headers: &self.headers, body: &self.body };
        Authorization::parse(&self.headers)?.verify(&request, &self.secret)
    }

    /// A copy with one bit of a header flipped; `None` if the result is not a valid header value.
    fn with_header_bit(&self, name: &HeaderName, bit: usize) -> Option<Self> {
        let flipped = flip(self.headers[name].as_bytes(), bit);
        let mut other = self.clone();
        other.headers.insert(name.clone(), HeaderValue::from_bytes(&flipped).ok()?);
        Some(other)
    }

    fn signed_headers(&self) -> Vec<HeaderName> {
        let authorization = self.headers["authorization"].to_str().unwrap();
        let signed = authorization.split_once("SignedHeaders=").unwrap().1.split(',').next().unwrap();
        signed.split(';').map(|name| HeaderName::try_from(name).unwrap()).collect()
    }
}

fn vector(name: &str, target: &str, head: impl Iterator<Item = (String, String)>, body: &str, secret: &str) -> Vector {
    let (method, path) = target.split_once(' ').unwrap();
    let query = path.split_once('?').map_or("", |(_, query)| query).to_owned();
    let headers = head
        .map(|(name, value)| (HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap()))
        .collect();
    Vector {
        name: name.to_owned(),
        method: method.to_owned(),
        query,
        headers,
        body: body.as_bytes().to_vec(),
        secret: secret.to_owned(),
    }
}

fn header_line(line: &str) -> (String, String) {
    let (name, value) = line.split_once(':').unwrap();
    (name.to_owned(), value.trim().to_owned())
}

fn vectors() -> Vec<Vector> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let array = |json: &str| serde_json::from_str::<Vec<Value>>(json).unwrap();
    let mut all = Vec::new();
    for v in array(MINIMAL) {
        let signed = v["headers_signed"].as_object().unwrap().iter().map(|(name, value)| (name.clone(), text(value)));
        let head = signed.chain([("authorization".to_owned(), text(&v["authorization"]))]);
        let target = format!("{} {}", text(&v["method"]), text(&v["url_path_query_as_sent_by_python_sdk"]));
        all.push(vector(&text(&v["name"]), &target, head, &text(&v["body"]), &text(&v["access_key_secret"])));
    }
    for v in array(PYTHON) {
        let head = text(&v["wire_head"]);
        let mut lines = head.split("\r\n");
        let target = lines.next().unwrap().strip_suffix(" HTTP/1.1").unwrap();
        all.push(vector(
            &text(&v["name"]),
            target,
            lines.map(header_line),
            &text(&v["body"]),
            &text(&v["access_key_secret"]),
        ));
    }
    for block in TYPESCRIPT.split("##### ").filter(|block| !block.is_empty()) {
        let (head, rest) = block.split_once("\n--body--\n").unwrap();
        let body = rest.split_once("\n--canon--").unwrap().0;
        let mut lines = head.lines();
        let (name, target) = (lines.next().unwrap(), lines.next().unwrap());
        all.push(vector(name, target, lines.map(header_line), body, SECRET));
    }
    assert_eq!(all.len(), 15);
    all
}

fn flip(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

#[test]
fn official_vectors_are_accepted() {
    for vector in vectors() {
        assert_eq!(vector.check(), Ok(()), "{}", vector.name);
    }
}

#[test]
fn flipped_header_bit_is_rejected() {
    for vector in vectors() {
        for name in vector.signed_headers().into_iter().chain([HeaderName::from_static("authorization")]) {
            for bit in 0..vector.headers[&name].len() * 8 {
                let Some(other) = vector.with_header_bit(&name, bit) else { continue };
                // The key id is not signed; an unknown one is rejected earlier, when the secret is looked up.
                let key =
                    |vector: &Vector| Authorization::parse(&vector.headers).map(|parts| parts.key.to_owned()).ok();
                let is_unknown_key = key(&other).is_some_and(|other| Some(other) != key(&vector));
                assert!(is_unknown_key || other.check().is_err(), "{}: bit {bit} of {name}", vector.name);
            }
        }
    }
}

#[test]
fn flipped_body_or_secret_bit_is_rejected() {
    for vector in vectors() {
        for bit in 0..vector.body.len() * 8 {
            let other = Vector { body: flip(&vector.body, bit), ..vector.clone() };
            assert!(other.check().is_err(), "{}: bit {bit} of the body", vector.name);
        }
        for bit in 0..vector.secret.len() * 8 {
            let Ok(secret) = String::from_utf8(flip(vector.secret.as_bytes(), bit)) else { continue };
            assert!(Vector { secret, ..vector.clone() }.check().is_err(), "{}: bit {bit} of the secret", vector.name);
        }
    }
}

#[test]
fn flipped_query_bit_is_rejected() {
    for vector in vectors() {
        for bit in 0..vector.query.len() * 8 {
            let Ok(query) = String::from_utf8(flip(vector.query.as_bytes(), bit)) else { continue };
            let other = Vector { query, ..vector.clone() };
            let decoded = |query: &str| {
                form::split(query)
                    .map(|(name, value)| Some((form::decode(name)?.into_owned(), form::decode(value)?.into_owned())))
                    .collect::<Option<Vec<_>>>()
            };
            // `%e5` and `%E5` are the same byte.
            let is_equivalent = decoded(&other.query) == decoded(&vector.query);
            assert_eq!(other.check().is_ok(), is_equivalent, "{}: bit {bit} of the query", vector.name);
        }
    }
}

#[test]
fn unsigned_required_header_is_rejected() {
    let vector = &vectors()[0];
    for name in ["x-acs-added", "x-acs-security-token"] {
        let mut other = vector.clone();
        other.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
        assert_eq!(other.check().unwrap_err().code, "IncompleteSignature", "{name}");
    }
    let mut unsigned = vector.clone();
    unsigned.headers.insert("accept", HeaderValue::from_static("text/html"));
    assert_eq!(unsigned.check(), Ok(()), "an unsigned header may change in transit");
}

#[test]
fn incomplete_authorization_is_rejected() {
    let vector = &vectors()[0];
    let table = [
        ("", "IncompleteSignature"),
        ("ACS3-HMAC-SHA256", "IncompleteSignature"),
        ("ACS3-HMAC-SM3 Credential=a,SignedHeaders=host,Signature=00", "InvalidSignatureMethod"),
        ("ACS3-HMAC-SHA256 Credential=,SignedHeaders=host,Signature=00", "IncompleteSignature"),
        ("ACS3-HMAC-SHA256 Credential=a,Signature=00", "IncompleteSignature"),
        ("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=x-acs-date;host,Signature=00", "IncompleteSignature"),
        ("ACS3-HMAC-SHA256 Credential=a,SignedHeaders=host,Signature=00", "IncompleteSignature"),
    ];
    for (authorization, code) in table {
        let mut other = vector.clone();
        other.headers.insert("authorization", HeaderValue::from_static(authorization));
        assert_eq!(other.check().unwrap_err().code, code, "{authorization}");
    }
}
