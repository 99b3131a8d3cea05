//! Access to the socket under an HTTP connection: reset it, or close it in the middle of a response.

use std::{
    io::{self, Write},
    sync::Mutex,
    time::Duration,
};

use socket2::{SockRef, Socket};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::service::lock;

/// A second handle to a connection's socket. Cancelling `closing` drops the connection itself.
#[derive(Debug)]
pub(super) struct SocketHandle {
    socket: Mutex<Socket>,
    pub(super) closing: CancellationToken,
}

impl SocketHandle {
    pub(super) fn new(stream: &TcpStream) -> io::Result<Self> {
        Ok(Self { socket: Mutex::new(SockRef::from(stream).try_clone()?), closing: CancellationToken::new() })
    }

    /// Resets the connection: the last handle to close sends RST instead of FIN.
    pub(super) fn reset(&self) {
        if let Err(error) = lock(&self.socket).set_linger(Some(Duration::ZERO)) {
            tracing::warn!(%error, "sandbox cannot reset a connection");
        }
        self.closing.cancel();
    }

    /// Sends these bytes and closes. They fit the socket buffer: they are few, and nothing else is queued.
    pub(super) fn send_and_close(&self, bytes: &[u8]) {
        if let Err(error) = lock(&self.socket).write_all(bytes) {
            tracing::debug!(%error, "client disconnected before its truncated response");
        }
        self.closing.cancel();
    }
}
