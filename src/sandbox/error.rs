//! Why a sandbox can't open.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a sandbox can't open.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It holds no real credentials and speaks no TLS: nobody but this machine may reach it.
    #[error("the sandbox listens on loopback addresses only, and {0} is not one")]
    NotLoopback(SocketAddr),
    /// The address can't be had.
    #[error("can't listen on {listen}")]
    Listen {
        /// Where.
        listen: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file of the records, or of the journal, can't be opened, read or written.
    #[error("can't use {}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Another sandbox writes to the file of the records.
    #[error("{} is in use by another sandbox", .0.display())]
    InUse(PathBuf),
    /// A line that is not the last one can't be read: this was no torn write.
    #[error("line {line} of {} is not a record", path.display())]
    Corrupt {
        /// Which file.
        path: PathBuf,
        /// Which line, the first being 1.
        line: usize,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}
