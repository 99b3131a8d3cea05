//! Settings of a sandbox.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use jiff::SignedDuration;

use super::Script;

/// Settings of a sandbox. The default accepts every group, has no quota, latency or faults, keeps records in memory, and
/// listens on a free port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Loopback address to listen on; port 0 picks a free port.
    pub listen: SocketAddr,
    /// Face groups that exist.
    pub groups: Groups,
    /// Quota of each action in calls per second; `None` means no limit.
    pub qps: Option<NonZeroU32>,
    /// How the quota counts a second.
    pub window: Window,
    /// `x-acs-retry-after` of calls rejected by the quota.
    pub retry_after: Option<Duration>,
    /// Mean latency of a call; the actual latency is uniform between 0.5 and 1.5 times this. It starts after the quota has
    /// counted the call and ends before the record is created. Calls rejected by gateway or quota have no latency.
    pub latency: Duration,
    /// Maximum extra delay before AddFaceRecord creates its record and responds, even if the client has disconnected.
    pub late: Duration,
    /// Accepted credentials.
    pub credentials: Credentials,
    /// File of the records (JSON Lines, one line per record created or deleted). Existing records are loaded at start.
    pub records: Option<PathBuf>,
    /// File to which every call is appended (JSON Lines) once its end is known.
    pub journal: Option<PathBuf>,
    /// Faults to inject.
    pub faults: Script,
    /// Random seed for latency, `late` and faults with a `chance`.
    pub seed: u64,
    /// Lifetime of an upload authorization.
    pub policy_ttl: Duration,
    /// Buckets of the object store by name, with the folder of their objects; without one, a bucket begins empty.
    pub buckets: BTreeMap<String, Option<PathBuf>>,
    /// How far the sandbox's clock is ahead of the local clock, to test clients with a wrong clock.
    pub clock_offset: SignedDuration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            groups: Groups::Any,
            qps: None,
            window: Window::Sliding,
            retry_after: None,
            latency: Duration::ZERO,
            late: Duration::ZERO,
            credentials: Credentials::default(),
            records: None,
            journal: None,
            faults: Script::default(),
            seed: 0,
            policy_ttl: Duration::from_secs(60 * 60),
            buckets: BTreeMap::new(),
            clock_offset: SignedDuration::ZERO,
        }
    }
}

/// Face groups that exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// Every code is an existing group.
    Any,
    /// Only these codes.
    Only(BTreeSet<String>),
}

impl Groups {
    /// A set of exactly these groups.
    pub fn only<T: Into<String>>(codes: impl IntoIterator<Item = T>) -> Self {
        Self::Only(codes.into_iter().map(Into::into).collect())
    }

    /// Whether a group with this code exists.
    pub fn contains(&self, code: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(codes) => codes.contains(code),
        }
    }
}

/// How the quota counts a second. No document says which one the service uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Whole seconds since the start; admits up to twice the quota around a boundary.
    Fixed,
    /// The last second before each call.
    Sliding,
}

/// Accepted credentials. The default is the same in every process, so that a restarted sandbox accepts the same key.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Access key id.
    pub access_key_id: String,
    /// Access key secret.
    pub access_key_secret: String,
    /// Required value of `x-acs-security-token`; if `None`, a call must not carry that header.
    pub security_token: Option<String>,
}

impl Default for Credentials {
    fn default() -> Self {
        Self {
            access_key_id: "SANDBOX-KEY-OPENS-NOTHING".to_owned(),
            access_key_secret: "sandbox-secret-opens-nothing".to_owned(),
            security_token: None,
        }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A test may use real credentials.
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
