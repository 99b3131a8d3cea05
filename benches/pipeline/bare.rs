//! Bare loops: read, encode, sign, send, hear. No checkpoint, no pace, no retry. The body and the signature are made by
//! the same code as ours, so that the difference is what everything else costs.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use face_enroll::{
    api::{CanonicalRequest, Payload, authorization},
    domain::{FaceGroupCode, MerchantUserId},
};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    IN_FLIGHT,
    ours::{GROUP, KEY, SECRET},
};

/// What is to be sent, and where to.
pub struct Task {
    pub to: SocketAddr,
    /// Of an authority to trust; none: without TLS.
    pub authority: Option<PathBuf>,
    pub folder: PathBuf,
    pub photos: usize,
    /// Is each photo hashed too?
    pub hashes: bool,
    next: AtomicUsize,
}

impl Task {
    pub fn new(to: SocketAddr, authority: Option<PathBuf>, folder: PathBuf, photos: usize) -> Self {
        Self { to, authority, folder, photos, hashes: false, next: AtomicUsize::new(0) }
    }

    /// The next photo's headers and body.
    fn next(&self) -> Option<(Vec<(&'static str, String)>, Bytes)> {
        let n = self.next.fetch_add(1, Relaxed);
        (n < self.photos).then(|| {
            let photo = std::fs::read(self.folder.join(crate::photos::name(n))).expect("it was written");
            if self.hashes {
                std::hint::black_box(Sha256::digest(&photo));
            }
            request(&photo, n, &self.to.to_string())
        })
    }
}

fn request(photo: &[u8], n: usize, host: &str) -> (Vec<(&'static str, String)>, Bytes) {
    let group = FaceGroupCode::parse(GROUP).expect("it is a code");
    let user = MerchantUserId::parse(format!("{n:06}")).expect("it is an id");
    let payload = Payload::with_picture(&group, &user, photo);
    let now = jiff::Timestamp::now();
    let mut headers = vec![
        ("host", host.to_owned()),
        ("content-type", "application/x-www-form-urlencoded".to_owned()),
        ("x-acs-action", "AddFaceRecord".to_owned()),
        ("x-acs-version", "2022-08-09".to_owned()),
        ("x-acs-date", now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()),
        ("x-acs-signature-nonce", uuid::Uuid::new_v4().simple().to_string()),
        ("x-acs-content-sha256", payload.sha256().to_owned()),
    ];
    let signed: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let signable =
        CanonicalRequest { method: "POST", path: "/", query: "", headers: &signed, body_sha256: payload.sha256() };
    let authorization = authorization(signable, KEY, SECRET);
    headers.push(("authorization", authorization));
    (headers, payload.body().clone())
}

/// With reqwest, over HTTP or TLS.
pub async fn reqwest(work: Task) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder().http1_only().no_proxy().tcp_nodelay(true);
    let mut scheme = "http";
    if let Some(authority) = &work.authority {
        let pem = std::fs::read(authority).expect("the stub wrote it");
        client = client.tls_certs_merge([reqwest::Certificate::from_pem(&pem).expect("it is one")]);
        scheme = "https";
    }
    let (client, url, work) = (client.build().expect("a client"), format!("{scheme}://{}/", work.to), Arc::new(work));
    let mut loops = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, url, work) = (client.clone(), url.clone(), work.clone());
        loops.spawn(async move {
            while let Some((headers, body)) = work.next() {
                let mut request = client.post(&url).body(body);
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                let answer = request.send().await.expect("the stub answers").bytes().await.expect("to the end");
                assert!(answer.starts_with(b"{\"RequestId\""));
            }
        });
    }
    loops.join_all().await;
}

/// With hyper, a connection for each loop, over HTTP.
pub async fn hyper(work: Task) {
    let work = Arc::new(work);
    let mut loops = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let work = work.clone();
        loops.spawn(async move {
            let stream = TcpStream::connect(work.to).await.expect("the stub listens");
            stream.set_nodelay(true).expect("it is a TCP connection");
            let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = connected.expect("the stub speaks HTTP");
            tokio::spawn(connection);
            while let Some((headers, body)) = work.next() {
                let mut request = hyper::Request::post("/");
                for (name, value) in headers {
                    request = request.header(name, value);
                }
                let request = request.body(Full::new(body)).expect("a request");
                sender.ready().await.expect("the stub keeps the connection");
                let answer = sender.send_request(request).await.expect("the stub answers");
                let answer = answer.into_body().collect().await.expect("to the end").to_bytes();
                assert!(answer.starts_with(b"{\"RequestId\""));
            }
        });
    }
    loops.join_all().await;
}
