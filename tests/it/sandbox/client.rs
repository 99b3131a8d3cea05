//! A client on a bare socket with its own signer: a third reading of the protocol, next to the client's and the sandbox's.

use std::{collections::BTreeMap, io, net::SocketAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use face_enroll::sandbox::Sandbox;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::{Digest, Sha256};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

/// Shortest bytes that start like a JPEG.
pub(super) const JPEG: &[u8] = &[0xFF, 0xD8, 0xFF, 0xD9];
pub(super) const GROUP: &str = "sgl0001uc";

/// An unsigned request. Tests may change any part of it.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) method: &'static str,
    pub(super) path: &'static str,
    pub(super) query: Vec<(String, String)>,
    pub(super) form: Vec<(String, String)>,
    /// Signed headers, in order of their names.
    pub(super) headers: BTreeMap<&'static str, String>,
    pub(super) key: String,
    pub(super) secret: String,
}

impl Request {
    pub(super) fn new(sandbox: &Sandbox, action: &str) -> Self {
        let date = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let headers = [
            ("host", sandbox.address().to_string()),
            ("x-acs-action", action.to_owned()),
            ("x-acs-version", "2022-08-09".to_owned()),
            ("x-acs-date", date),
            ("x-acs-signature-nonce", uuid::Uuid::new_v4().to_string()),
        ];
        Self {
            method: "POST",
            path: "/",
            query: Vec::new(),
            form: Vec::new(),
            headers: headers.into(),
            key: sandbox.access_key_id(),
            secret: sandbox.access_key_secret(),
        }
    }

    pub(super) fn add(sandbox: &Sandbox, user: &str) -> Self {
        Self::new(sandbox, "AddFaceRecord")
            .form("ProductCode", "FACE_ENROLL")
            .form("FaceGroupCode", GROUP)
            .form("MerchantUserId", user)
            .form("FacePicture", &STANDARD.encode(JPEG))
    }

    pub(super) fn find(sandbox: &Sandbox, user: &str) -> Self {
        Self::page(sandbox, 1, 10).query("MerchantUserId", user)
    }

    pub(super) fn page(sandbox: &Sandbox, number: u32, size: u32) -> Self {
        Self::new(sandbox, "QueryFaceRecord")
            .query("FaceGroupCode", GROUP)
            .query("CurrentPage", &number.to_string())
            .query("PageSize", &size.to_string())
    }

    /// Sets a field of the body; an empty value removes it.
    pub(super) fn form(mut self, name: &str, value: &str) -> Self {
        set(&mut self.form, name, value);
        self
    }

    /// Sets a field of the query string; an empty value removes it.
    pub(super) fn query(mut self, name: &str, value: &str) -> Self {
        set(&mut self.query, name, value);
        self
    }

    /// Sets a signed header.
    pub(super) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.insert(name, value.to_owned());
        self
    }

    /// Signed bytes to send.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let body = encode(&self.form);
        let query = encode(&self.query);
        let hash = hex::encode(Sha256::digest(body.as_bytes()));
        let mut headers = self.headers.clone();
        headers.insert("x-acs-content-sha256", hash.clone());
        if !body.is_empty() {
            headers.insert("content-type", "application/x-www-form-urlencoded".to_owned());
        }
        let lines: String = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect();
        let signed = headers.keys().copied().collect::<Vec<_>>().join(";");
        let canonical = format!("{}\n{}\n{query}\n{lines}\n{signed}\n{hash}", self.method, self.path);
        let text = format!("ACS3-HMAC-SHA256\n{}", hex::encode(Sha256::digest(canonical.as_bytes())));
        let mut mac = Hmac::<Sha256>::new_from_slice(self.secret.as_bytes()).unwrap();
        mac.update(text.as_bytes());
        let signature = hex::encode(mac.finalize().into_bytes());
        let separator = if query.is_empty() { "" } else { "?" };
        let mut head = format!("{} {}{separator}{query} HTTP/1.1\r\n", self.method, self.path);
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        head += &format!(
            "authorization: ACS3-HMAC-SHA256 Credential={},SignedHeaders={signed},Signature={signature}\r\n",
            self.key
        );
        head += &format!("content-length: {}\r\n\r\n", body.len());
        [head.into_bytes(), body.into_bytes()].concat()
    }

    pub(super) async fn try_send(&self, sandbox: &Sandbox) -> io::Result<Response> {
        exchange(sandbox.address(), &self.bytes()).await
    }

    /// Sends the request and expects a response.
    pub(super) async fn send(&self, sandbox: &Sandbox) -> Response {
        self.try_send(sandbox).await.unwrap()
    }
}

fn set(pairs: &mut Vec<(String, String)>, name: &str, value: &str) {
    pairs.retain(|(other, _)| other != name);
    if !value.is_empty() {
        pairs.push((name.to_owned(), value.to_owned()));
        pairs.sort();
    }
}

/// RFC 3986 encoding, which is valid in a query and in a form.
fn encode(pairs: &[(String, String)]) -> String {
    let escape = |text: &str| {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
        text.bytes().map(|b| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect::<String>()
    };
    pairs.iter().map(|(name, value)| format!("{name}={}", escape(value))).collect::<Vec<_>>().join("&")
}

/// A response.
#[derive(Debug)]
pub(super) struct Response {
    pub(super) status: u16,
    pub(super) headers: BTreeMap<String, String>,
    pub(super) body: Vec<u8>,
}

impl Response {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// `Code` of the response; a successful AuthorizeFileUpload has none.
    pub(super) fn code(&self) -> String {
        match self.json()["Code"].as_str() {
            Some(code) => code.to_owned(),
            None => {
                assert_eq!(self.status, 200, "{}", self.json());
                "Success".to_owned()
            }
        }
    }

    /// `TotalCount` of a query.
    pub(super) fn total(&self) -> u64 {
        self.json()["TotalCount"].as_u64().unwrap()
    }
}

/// Sends one request on its own connection. An incomplete response is an error.
pub(super) async fn exchange(address: SocketAddr, request: &[u8]) -> io::Result<Response> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break at;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    };
    let head = String::from_utf8(bytes[..head_end].to_vec()).unwrap();
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let mut body = bytes.split_off(head_end + 4);
    let already = body.len();
    body.resize(headers.get("content-length").map_or("0", String::as_str).parse().unwrap(), 0);
    stream.read_exact(&mut body[already..]).await?;
    Ok(Response { status, headers, body })
}
