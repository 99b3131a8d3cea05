//! The socket beneath a connection, for what no HTTP library does: to reset it, to break off in mid-answer.

use std::{
    io::{self, Write},
    sync::Mutex,
    time::Duration,
};

use socket2::{SockRef, Socket};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::service::lock;

/// A second handle on a connection's socket. The connection itself is dropped when `broken` is cancelled.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Mutex<Socket>,
    pub(super) broken: CancellationToken,
}

impl Wire {
    pub(super) fn of(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { socket: Mutex::new(SockRef::from(stream).try_clone()?), broken: CancellationToken::new() })
    }

    /// The last handle to close sends RST in place of FIN.
    pub(super) fn reset(&self) {
        if let Err(error) = lock(&self.socket).set_linger(Some(Duration::ZERO)) {
            tracing::warn!(%error, "the sandbox can't reset a connection");
        }
        self.broken.cancel();
    }

    /// Sends these bytes and closes. They are few and the socket has nothing else to send, so they fit its buffer.
    pub(super) fn cut(&self, bytes: &[u8]) {
        if let Err(error) = lock(&self.socket).write_all(bytes) {
            tracing::debug!(%error, "the client left before its answer broke off");
        }
        self.broken.cancel();
    }
}
