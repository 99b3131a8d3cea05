//! Publishes the metrics of a run for Prometheus: in a file and over HTTP.

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

/// Content type of the Prometheus text format.
const TEXT_FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Pause after a failed `accept`.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(200);
/// Concurrent connections, limited so that scrapers never use up the file descriptors that photos need.
const MAX_CONNECTIONS: usize = 16;
/// Longest time for one connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the metrics go. A scrape gets the text that was published last.
pub(super) struct Metrics<'a> {
    file: Option<&'a Path>,
    published: Arc<Mutex<String>>,
    server: Option<AbortOnDropHandle<()>>,
}

impl<'a> Metrics<'a> {
    /// Fails if the file can't be written or the address can't be bound.
    pub(super) async fn start(file: Option<&'a Path>, address: Option<SocketAddr>) -> Result<Self, CliError> {
        let usage = |what: String, error: io::Error| CliError::new(Exit::Usage, format!("{what}: {error}"));
        if let Some(path) = file {
            files::replace(path, Audience::Everyone, |_empty| Ok(()))
                .map_err(|error| usage(format!("--metrics-file {} can't be written", path.display()), error))?;
        }
        let published = Arc::<Mutex<String>>::default();
        let server = match address {
            Some(address) => {
                let bind = |error| usage(format!("cannot listen on --metrics-addr {address}"), error);
                let listener = TcpListener::bind(address).await.map_err(bind)?;
                tracing::info!(address = %listener.local_addr().map_err(bind)?, "serving metrics at /metrics");
                Some(AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&published)))))
            }
            None => None,
        };
        Ok(Self { file, published, server })
    }

    /// Whether a file or an address was given.
    pub(super) fn has_consumer(&self) -> bool {
        self.file.is_some() || self.server.is_some()
    }

    /// Publishes the text; a failure only warns, as it must not end a run.
    pub(super) async fn publish_or_warn(&self, text: String) {
        if let Err(error) = self.publish(text).await {
            tracing::warn!(%error, "cannot write the metrics");
        }
    }

    async fn publish(&self, text: String) -> io::Result<()> {
        self.published.lock().unwrap_or_else(PoisonError::into_inner).clone_from(&text);
        let Some(path) = self.file.map(Path::to_owned) else { return Ok(()) };
        // Write on another thread, so that a slow disk does not delay sending.
        let write = move || files::replace(&path, Audience::Everyone, |file| file.write_all(text.as_bytes()));
        tokio::task::spawn_blocking(write).await.unwrap_or_else(|stopped| Err(io::Error::other(stopped)))
    }
}

async fn serve(listener: TcpListener, published: Arc<Mutex<String>>) {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let slot = Arc::clone(&slots).acquire_owned().await.expect("the semaphore is never closed");
        let Ok((stream, _)) = listener.accept().await else {
            // Usually out of file descriptors, which passes.
            tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            continue;
        };
        let published = Arc::clone(&published);
        let respond = service_fn(move |_request| {
            let text = published.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let response = Response::builder().header(CONTENT_TYPE, TEXT_FORMAT).body(Full::new(Bytes::from(text)));
            async move { Ok::<_, Infallible>(response.expect("the header is valid")) }
        });
        // One response per connection, and none stays open idle.
        let mut server = http1::Builder::new();
        server.timer(TokioTimer::new()).keep_alive(false);
        tokio::spawn(async move {
            let _slot = slot;
            let served = server.serve_connection(TokioIo::new(stream), respond);
            drop(tokio::time::timeout(CONNECTION_TIMEOUT, served).await);
        });
    }
}
