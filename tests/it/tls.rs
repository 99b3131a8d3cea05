//! Real TLS with a certificate authority of our own: what is trusted, what is refused, and in which words.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
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
    io::copy_bidirectional,
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
    pub fn before(service: &Service, name: &str, not_after: i32) -> Self {
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
fn only_given_certificate_authority_is_trusted() {
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
fn expired_or_mismatched_certificate_stops_run() {
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
