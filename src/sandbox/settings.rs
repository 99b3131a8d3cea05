//! What a sandbox is to be like.

use std::{
    collections::BTreeSet,
    fmt,
    net::{Ipv4Addr, SocketAddr},
    num::NonZeroU32,
    path::PathBuf,
    time::Duration,
};

use jiff::SignedDuration;

use super::Script;

/// What a sandbox is to be like. The default knows every group, has no quota, no latency and no faults, keeps its
/// records in memory, and takes a free port.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where to listen: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Which face groups there are.
    pub groups: Groups,
    /// Calls a second that each action allows; none: no limit.
    pub qps: Option<NonZeroU32>,
    /// How the quota counts.
    pub window: Window,
    /// `x-acs-retry-after` on calls that the quota refuses.
    pub retry_after: Option<Duration>,
    /// Mean time that a call takes; the actual time is uniform in 0.5 to 1.5 of it. It begins after the quota has counted
    /// the call and ends before the record is made. What the gateway or the quota refuses is answered at once.
    pub latency: Duration,
    /// AddFaceRecord makes its record up to this much later still, and answers then; it does so when the client is long gone.
    pub late: Duration,
    /// Who may call.
    pub credentials: Credentials,
    /// Keeps the records in this file (JSON Lines, one line for each record made or deleted), and begins with those in it.
    pub records: Option<PathBuf>,
    /// Appends every arrival to this file (JSON Lines) once it is known what becomes of it.
    pub journal: Option<PathBuf>,
    /// What goes wrong.
    pub faults: Script,
    /// Of latency, `late`, and faults by chance.
    pub seed: u64,
    /// How long leave to upload a file holds.
    pub policy_life: Duration,
    /// How far the sandbox's clock is ahead of this machine's: to meet a client whose clock is wrong.
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
            policy_life: Duration::from_secs(60 * 60),
            clock_offset: SignedDuration::ZERO,
        }
    }
}

/// Which face groups there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Groups {
    /// Every code names a group.
    Any,
    /// These, and no others.
    Only(BTreeSet<String>),
}

impl Groups {
    /// These, and no others.
    pub fn only<T: Into<String>>(codes: impl IntoIterator<Item = T>) -> Self {
        Self::Only(codes.into_iter().map(Into::into).collect())
    }

    /// Is there a group of this code?
    pub fn contains(&self, code: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Only(codes) => codes.contains(code),
        }
    }
}

/// How the quota counts its second. No document says which one the service uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// Whole seconds since the start: lets up to twice the quota through around a boundary.
    Fixed,
    /// Any second that ends now.
    Sliding,
}

/// Who may call. The default is the same in every process, so that a restarted sandbox takes what it took before.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The access key id.
    pub access_key_id: String,
    /// Its secret.
    pub access_key_secret: String,
    /// With one, every call must carry it as `x-acs-security-token`; with none, no call may carry any.
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
        // A test may have put real ones here.
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
