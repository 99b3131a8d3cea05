//! A run's figures for Prometheus: in a file, and at an address.

use std::{
    convert::Infallible,
    io::{self, Write},
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use http_body_util::Full;
use hyper::{Response, body::Bytes, header::CONTENT_TYPE, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::task::AbortOnDropHandle;

use super::CliError;
use crate::{
    exit::Exit,
    files::{self, Audience},
};

/// Prometheus' own name for its text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Where no connection can be taken.
const BETWEEN_TRIES: Duration = Duration::from_millis(200);
/// Connections at once, and how long each may last: whoever scrapes is never in the way of the photos' files.
const MAX_CONNECTIONS: usize = 16;
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// See the module. Whoever scrapes is told what was published last.
pub(super) struct Metrics<'a> {
    file: Option<&'a Path>,
    published: Arc<Mutex<String>>,
    server: Option<AbortOnDropHandle<()>>,
}

impl<'a> Metrics<'a> {
    /// Fails where the file can't be written, or the address can't be had.
    pub(super) async fn start(file: Option<&'a Path>, address: Option<SocketAddr>) -> Result<Self, CliError> {
        let usage = |what: String, error: io::Error| CliError::new(Exit::Usage, format!("{what}: {error}"));
        if let Some(path) = file {
            files::replace(path, Audience::Everyone, |_empty| Ok(()))
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
        Ok(Self { file, published, server })
    }

    /// Is there anybody to publish for?
    pub(super) fn are_wanted(&self) -> bool {
        self.file.is_some() || self.server.is_some()
    }

    /// From now on these are the figures.
    pub(super) async fn publish(&self, text: String) -> io::Result<()> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&text);
        let Some(path) = self.file.map(Path::to_owned) else { return Ok(()) };
        // A slow disk is not to hold up the sending.
        let write = move || files::replace(&path, Audience::Everyone, |file| file.write_all(text.as_bytes()));
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
    }
}

async fn serve(listener: TcpListener, published: Arc<Mutex<String>>) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Out of descriptors, for one: the next scrape may have better luck.
            tokio::time::sleep(BETWEEN_TRIES).await;
            continue;
        };
        let published = Arc::clone(&published);
        let answer = service_fn(move |_request| {
            let text = published.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let answer = Response::builder().header(CONTENT_TYPE, TEXT_FORMAT).body(Full::new(Bytes::from(text)));
            async move { Ok::<_, Infallible>(answer.expect("a header of ours is a header")) }
        });
        // One answer each: who connects and says nothing is not kept.
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).keep_alive(false);
        tokio::spawn(async move {
            let _place = place;
            let served = server.serve_connection(TokioIo::new(stream), answer);
            drop(tokio::time::timeout(CONNECTION_TIMEOUT, served).await);
        });
    }
}
