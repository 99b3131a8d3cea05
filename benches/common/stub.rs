//! The least that a service can do: hears a request to its end, and answers that the face is enrolled.

use std::{
    convert::Infallible,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, pki_types::PrivateKeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;

const ANSWER: &str = r#"{"RequestId":"7F1C9F4C-9C5D-5E4B-8B77-0A6D3F1E2B11","Code":"Success","Message":"success","Result":{"Passed":"Y","ExtFaceInfo":"{\"faceQuality\":\"HIGH\"}"}}"#;

/// See the module. On threads of its own, in this process: what it takes is nobody's.
pub struct Stub {
    /// Over HTTP.
    pub plain: SocketAddr,
    /// Over TLS.
    pub tls: SocketAddr,
    answered: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Stub {
    /// Writes the certificate of its authority into the file.
    pub fn start(authority: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime can be started");
        let answered = Arc::<AtomicUsize>::default();
        let listen = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback can be listened on");
        let address = |listener: &TcpListener| listener.local_addr().expect("it listens");
        let (plain, tls) = (listen(), listen());
        let addresses = (address(&plain), address(&tls));
        let count = answered.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, count.clone()));
            }
        });
        let (acceptor, count) = (acceptor(authority), answered.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = tls.accept().await {
                let _ = stream.set_nodelay(true);
                let (acceptor, count) = (acceptor.clone(), count.clone());
                tokio::spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        serve(stream, count).await;
                    }
                });
            }
        });
        Self { plain: addresses.0, tls: addresses.1, answered, _runtime: runtime }
    }

    /// Calls answered since the last question.
    pub fn take_answered(&self) -> usize {
        self.answered.swap(0, Relaxed)
    }

    /// Has anyone called since?
    pub fn was_called(&self) -> bool {
        self.answered.load(Relaxed) > 0
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answered: Arc<AtomicUsize>) {
    let answer = service_fn(|request: Request<Incoming>| async {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        answered.fetch_add(1, Relaxed);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(ANSWER.as_bytes()))))
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await;
}

fn acceptor(authority: &Path) -> TlsAcceptor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    std::fs::write(authority, issuer.pem()).expect("the folder can be written");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("it was made as one");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring has them").with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}
