//! Bare loops that read, encode, sign, send and receive, without checkpoint, rate limit or retry.
//!
//! Body and signature come from the same code as in `face-enroll run`, so that the difference is the cost of the rest.

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
    api::{CanonicalRequest, FormFields, Payload, authorization},
    domain::{FaceGroupCode, MerchantUserId},
};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use sha2::{Digest as _, Sha256};
use tokio::{net::TcpStream, task::JoinSet};

use crate::{
    IN_FLIGHT,
    cli::{GROUP, KEY, SECRET},
};

/// Photos to send, and their destination.
pub struct Task {
    pub to: SocketAddr,
    /// CA certificate to trust; `None` for plain HTTP.
    pub ca_file: Option<PathBuf>,
    pub folder: PathBuf,
    pub photos: usize,
    /// Whether each photo is hashed too.
    pub hashes: bool,
    next: AtomicUsize,
}

impl Task {
    pub fn new(to: SocketAddr, ca_file: Option<PathBuf>, folder: PathBuf, photos: usize) -> Self {
        Self { to, ca_file, folder, photos, hashes: false, next: AtomicUsize::new(0) }
    }

    /// Headers and body of the next photo.
    fn next(&self) -> Option<(Vec<(&'static str, String)>, Bytes)> {
        let n = self.next.fetch_add(1, Relaxed);
        (n < self.photos).then(|| {
            let photo = std::fs::read(self.folder.join(crate::photos::name(n))).expect("file was written");
            if self.hashes {
                std::hint::black_box(Sha256::digest(&photo));
            }
            request(&photo, n, &self.to.to_string())
        })
    }
}

fn request(photo: &[u8], n: usize, host: &str) -> (Vec<(&'static str, String)>, Bytes) {
    let group = FaceGroupCode::parse(GROUP).expect("valid group code");
    let user = MerchantUserId::parse(format!("{n:06}")).expect("valid user id");
    let payload = Payload::with_picture(FormFields { group: &group, user: &user, quality_check: None }, photo);
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

/// Sends with reqwest over HTTP or TLS.
pub async fn reqwest(task: Task) {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut client = reqwest::Client::builder().http1_only().no_proxy().tcp_nodelay(true);
    let mut scheme = "http";
    if let Some(ca_file) = &task.ca_file {
        let pem = std::fs::read(ca_file).expect("the stub wrote it");
        client = client.tls_certs_merge([reqwest::Certificate::from_pem(&pem).expect("valid certificate")]);
        scheme = "https";
    }
    let (client, url, task) = (client.build().expect("a client"), format!("{scheme}://{}/", task.to), Arc::new(task));
    let mut loops = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let (client, url, task) = (client.clone(), url.clone(), task.clone());
        loops.spawn(async move {
            while let Some((headers, body)) = task.next() {
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

/// Sends with hyper over HTTP, one connection per loop.
pub async fn hyper(task: Task) {
    let task = Arc::new(task);
    let mut loops = JoinSet::new();
    for _ in 0..IN_FLIGHT {
        let task = task.clone();
        loops.spawn(async move {
            let stream = TcpStream::connect(task.to).await.expect("the stub listens");
            stream.set_nodelay(true).expect("TCP connection");
            let connected = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
            let (mut sender, connection) = connected.expect("the stub speaks HTTP");
            tokio::spawn(connection);
            while let Some((headers, body)) = task.next() {
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
