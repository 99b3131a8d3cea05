//! Real TLS with a certificate authority of our own, and a proxy: what is trusted, what is refused, and in which words.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use face_enroll::sandbox::Action;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

use crate::support::{Archive, Ended, Service};

/// An authority, and a server behind a certificate of its making, which passes everything on.
pub struct Tls {
    pub authority: PathBuf,
    pub address: SocketAddr,
    connections: Arc<AtomicUsize>,
    _dir: tempfile::TempDir,
    _runtime: Runtime,
}

impl Tls {
    fn before(service: &Service, name: &str, not_after: i32) -> Self {
        Self::before_address(service.sandbox.address(), name, not_after)
    }

    pub fn before_address(behind: SocketAddr, name: &str, not_after: i32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = dir.path().join("authority.pem");
        std::fs::write(&file, authority.pem()).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(not_after, 1, 1);
        let certificate = params.signed_by(&key, &authority).unwrap();
        let chain = vec![CertificateDer::from(certificate.der().to_vec())];
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config.with_no_client_auth().with_single_cert(chain, key).unwrap()));

        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::<AtomicUsize>::default();
        let counted = connections.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::Relaxed);
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await.ok()?;
                    let mut behind = TcpStream::connect(behind).await.ok()?;
                    copy_bidirectional(&mut stream, &mut behind).await.ok()
                });
            }
        });
        Self { authority: file, address, connections, _dir: dir, _runtime: runtime }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

pub const VALID: i32 = 2_100;
const EXPIRED: i32 = 2_020;

fn run(service: &Service, archive: &Archive, endpoint: &str, args: &[&str]) -> Ended {
    service.run(archive).args(["--endpoint", endpoint]).args(args).end()
}

#[test]
fn certificate_of_a_given_authority_is_trusted_and_everyone_else_s_is_not() {
    let archive = Archive::of(20, 0);
    let service = Service::new();
    let tls = Tls::before(&service, "127.0.0.1", VALID);
    let endpoint = format!("https://{}", tls.address);
    let ended = run(&service, &archive, &endpoint, &[]);
    let summary = ended.is(7, &[("pending", 20), ("in_doubt", 0)]);
    assert!(summary["exit_reason"].as_str().unwrap().contains("certificate"), "{summary:#}");
    assert!(ended.stderr.contains("UnknownIssuer"), "{}", ended.stderr);
    assert_eq!((tls.connections(), service.calls(Action::AddFaceRecord)), (3, 0));
    run(&service, &archive, &endpoint, &["--ca-file", tls.authority.to_str().unwrap()]).is(0, &[("enrolled", 20)]);
    service.holds_exactly(&archive);
}

#[test]
fn expired_certificate_and_one_for_another_name_stop_the_run_by_name() {
    for (name, not_after, word) in [("127.0.0.1", EXPIRED, "xpired"), ("elsewhere.test", VALID, "not valid for name")] {
        let archive = Archive::of(5, 0);
        let service = Service::new();
        let tls = Tls::before(&service, name, not_after);
        let authority = tls.authority.to_str().unwrap();
        let ended = run(&service, &archive, &format!("https://{}", tls.address), &["--ca-file", authority]);
        ended.is(7, &[("pending", 5), ("in_doubt", 0)]);
        assert!(ended.stderr.contains(word), "{}", ended.stderr);
        assert_eq!((tls.connections(), service.calls(Action::AddFaceRecord)), (3, 0));
    }
}

#[test]
fn file_without_a_certificate_is_a_mistake_of_usage() {
    let archive = Archive::of(1, 0);
    let service = Service::new();
    for file in [archive.manifest(), archive.path().join("none.pem")] {
        let ended = run(&service, &archive, &service.sandbox.endpoint(), &["--ca-file", file.to_str().unwrap()]);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains("--ca-file"), "{}", ended.stderr);
    }
}

/// A proxy for CONNECT that leads everything to one address, or refuses.
struct Proxy {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    _runtime: Runtime,
}

impl Proxy {
    fn to(leads_to: Option<SocketAddr>) -> Self {
        let runtime = Runtime::new().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let hear = asked.clone();
        runtime.spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let hear = hear.clone();
                tokio::spawn(async move {
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await.ok()?);
                    }
                    let line = String::from_utf8_lossy(&head).lines().next().unwrap_or_default().to_owned();
                    hear.lock().unwrap().push(line);
                    let Some(leads_to) = leads_to else {
                        let refusal = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
                        return stream.write_all(refusal.as_bytes()).await.ok();
                    };
                    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n").await.ok()?;
                    let mut target = TcpStream::connect(leads_to).await.ok()?;
                    copy_bidirectional(&mut stream, &mut target).await.ok().map(drop)
                });
            }
        });
        Self { address, asked, _runtime: runtime }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

#[test]
fn proxy_of_the_environment_is_used_for_other_machines_and_never_for_this_one() {
    let archive = Archive::of(8, 0);
    let service = Service::new();
    // A name that no resolver knows: only through the proxy can it be reached.
    let tls = Tls::before(&service, "cloudauth.test", VALID);
    let proxy = Proxy::to(Some(tls.address));
    let mut run = service.run(&archive);
    run.args(["--endpoint", "https://cloudauth.test", "--ca-file", tls.authority.to_str().unwrap()]);
    run.env("HTTPS_PROXY", format!("http://{}", proxy.address)).end().is(0, &[("enrolled", 8)]);
    service.holds_exactly(&archive);
    assert!(!proxy.asked().is_empty());
    assert!(proxy.asked().iter().all(|line| line == "CONNECT cloudauth.test:443 HTTP/1.1"), "{:?}", proxy.asked());

    let archive = Archive::of(3, 0);
    let unused = Proxy::to(None);
    let mut run = service.run(&archive);
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "http_proxy", "ALL_PROXY"] {
        run.env(name, format!("http://{}", unused.address));
    }
    run.end().is(0, &[("enrolled", 3)]);
    assert_eq!(unused.asked(), [""; 0]);
}

#[test]
fn proxy_that_wants_a_password_costs_nobody_anything() {
    let archive = Archive::of(4, 0);
    let service = Service::new();
    let proxy = Proxy::to(None);
    let mut run = service.run(&archive);
    run.args(["--endpoint", "https://cloudauth.test", "--give-up-after", "1s"]);
    let ended = run.env("HTTPS_PROXY", format!("http://{}", proxy.address)).end();
    ended.is(10, &[("pending", 4), ("in_doubt", 0), ("failed", 0)]);
    assert!(ended.stderr.contains("proxy"), "{}", ended.stderr);
}
