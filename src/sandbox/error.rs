//! Errors of starting a sandbox.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a sandbox cannot start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SandboxError {
    /// The address is not loopback. The sandbox has no TLS and a public key, so only this machine may reach it.
    #[error("cannot listen on {0}: the sandbox accepts loopback addresses only")]
    NotLoopback(SocketAddr),
    #[error("cannot listen on {listen}")]
    Listen { listen: SocketAddr, source: io::Error },
    #[error("cannot open or use {}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error("{} is in use by another sandbox", .0.display())]
    InUse(PathBuf),
    /// A complete line is not a record, so this was not a torn write.
    #[error("line {line} of {} is not a record", path.display())]
    Corrupt { path: PathBuf, line: usize, source: serde_json::Error },
}
