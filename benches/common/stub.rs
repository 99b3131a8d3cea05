//! A minimal service: reads each request and responds that the face is enrolled.

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

const RESPONSE: &str = r#"{"RequestId":"7F1C9F4C-9C5D-5E4B-8B77-0A6D3F1E2B11","Code":"Success","Message":"success","Result":{"Passed":"Y","ExtFaceInfo":"{\"faceQuality\":\"HIGH\"}"}}"#;

/// A stub server on its own threads in this process, so that its usage is not attributed to a client.
pub struct Stub {
    /// Address for HTTP.
    pub plain: SocketAddr,
    /// Address for TLS.
    pub tls: SocketAddr,
    answered: Arc<AtomicUsize>,
    _runtime: Runtime,
}

impl Stub {
    /// Starts the stub and writes the certificate of its CA to `ca_file`.
    pub fn start(ca_file: &Path) -> Self {
        let runtime = Runtime::new().expect("a runtime can be started");
        let answered = Arc::<AtomicUsize>::default();
        let listen = || runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("loopback can be listened on");
        let address = |listener: &TcpListener| listener.local_addr().expect("listener has an address");
        let (plain, tls) = (listen(), listen());
        let addresses = (address(&plain), address(&tls));
        let count = answered.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = plain.accept().await {
                let _ = stream.set_nodelay(true);
                tokio::spawn(serve(stream, count.clone()));
            }
        });
        let (acceptor, count) = (acceptor(ca_file), answered.clone());
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

    /// Number of calls answered since the last call of this method.
    pub fn take_answered(&self) -> usize {
        self.answered.swap(0, Relaxed)
    }

    /// Whether any call was answered since [`Self::take_answered`].
    pub fn was_called(&self) -> bool {
        self.answered.load(Relaxed) > 0
    }
}

async fn serve(stream: impl AsyncRead + AsyncWrite + Unpin, answered: Arc<AtomicUsize>) {
    let service = service_fn(|request: Request<Incoming>| async {
        let mut body = request.into_body();
        while let Some(Ok(_)) = body.frame().await {}
        answered.fetch_add(1, Relaxed);
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(RESPONSE.as_bytes()))))
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

fn acceptor(ca_file: &Path) -> TlsAcceptor {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA");
    std::fs::write(ca_file, issuer.pem()).expect("folder is writable");
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate");
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("valid DER key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.expect("ring supports the safe defaults").with_no_client_auth();
    let config = config.with_single_cert(vec![certificate.der().clone()], key).expect("key matches the certificate");
    TlsAcceptor::from(Arc::new(config))
}
