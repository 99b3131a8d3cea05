//! A run's figures for Prometheus: in a file, and at an address.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use http_body_util::Full;
use hyper::{Response, body::Bytes, header::CONTENT_TYPE, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use super::{Failure, file};
use crate::exit::Exit;

/// Prometheus' own name for its text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// See the module. Whoever scrapes is told what was published last.
pub(super) struct Metrics<'a> {
    file: Option<&'a Path>,
    published: Arc<Mutex<String>>,
    _server: Option<AbortOnDropHandle<()>>,
}

impl<'a> Metrics<'a> {
    /// Fails where the file can't be written, or the address can't be had.
    pub(super) async fn start(file: Option<&'a Path>, address: Option<SocketAddr>) -> Result<Self, Failure> {
        let usage = |what: String, error: io::Error| Failure::new(Exit::Usage, format!("{what}: {error}"));
        if let Some(path) = file {
            file::replace(path, file::PUBLIC, |_empty| Ok(()))
                .map_err(|error| usage(format!("--metrics-file {} can't be written", path.display()), error))?;
        }
        let published = Arc::<Mutex<String>>::default();
        let server = match address {
            Some(address) => {
                let had = |error| usage(format!("--metrics-addr {address} can't be had"), error);
                let listener = TcpListener::bind(address).await.map_err(had)?;
                tracing::info!(address = %listener.local_addr().map_err(had)?, "figures for Prometheus at /metrics");
                Some(AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&published)))))
            }
            None => None,
        };
        Ok(Self { file, published, _server: server })
    }

    /// Is there anybody to publish for?
    pub(super) fn are_wanted(&self) -> bool {
        self.file.is_some() || self._server.is_some()
    }

    /// From now on these are the figures.
    pub(super) fn publish(&self, text: String) -> io::Result<()> {
        if let Some(path) = self.file {
            file::replace(path, file::PUBLIC, |file| file.write_all(text.as_bytes()))?;
        }
        *self.published.lock().unwrap_or_else(PoisonError::into_inner) = text;
        Ok(())
    }
}

async fn serve(listener: TcpListener, published: Arc<Mutex<String>>) {
    loop {
        // Out of descriptors, for one: the next scrape may have better luck.
        let Ok((stream, _)) = listener.accept().await else { continue };
        let published = Arc::clone(&published);
        let answer = service_fn(move |_request| {
            let text = published.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let answer = Response::builder().header(CONTENT_TYPE, TEXT_FORMAT).body(Full::new(Bytes::from(text)));
            async move { Ok::<_, Infallible>(answer.expect("a header of ours is a header")) }
        });
        tokio::spawn(async move { drop(http1::Builder::new().serve_connection(TokioIo::new(stream), answer).await) });
    }
}
