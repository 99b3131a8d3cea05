//! Errors of starting a sandbox.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a sandbox cannot start.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The address is not loopback. The sandbox has no TLS and a public key, so only this machine may reach it.
    #[error("cannot listen on {0}: the sandbox accepts loopback addresses only")]
    NotLoopback(SocketAddr),
    /// Binding the address failed.
    #[error("cannot listen on {listen}")]
    Listen {
        /// Address to listen on.
        listen: SocketAddr,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Opening, reading or writing the records file or the journal failed.
    #[error("cannot open or use {}", path.display())]
    File {
        /// Path of the file.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// Another sandbox has locked the records file.
    #[error("{} is in use by another sandbox", .0.display())]
    InUse(PathBuf),
    /// A complete line is not a record, so this was not a torn write.
    #[error("line {line} of {} is not a record", path.display())]
    Corrupt {
        /// Path of the file.
        path: PathBuf,
        /// Line number, starting at 1.
        line: usize,
        /// Cause.
        #[source]
        source: serde_json::Error,
    },
}
