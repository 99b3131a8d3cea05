//! Access keys that sign the requests.
//!
//! ```text
//! chain              tries the providers in the official SDKs' order and keeps the first that has a key
//! environment        variables
//! cli_config         the CLI's file
//! credentials_ini    the SDKs' file
//! file               shared by both files
//! provider           what provides a key: a static key, or one of
//!   sts                a RAM role, assumed with another key or an OIDC token
//!   instance_metadata  the RAM role of an ECS instance
//!   process            a program
//!   uri                a credentials URI
//! temporary          a key that expires
//! refresh            one caller refreshes it before it expires, the others keep using it
//! http               HTTP client of the providers
//! ```
//!
//! No error and no `Debug` output contains a secret; texts that may quote one are dropped.

mod chain;
mod cli_config;
mod credentials_ini;
mod environment;
mod error;
mod file;
mod http;
mod instance_metadata;
mod origin;
mod process;
mod provider;
mod refresh;
mod sts;
mod temporary;
mod uri;

use std::{fmt, path::PathBuf, sync::Arc, time::Duration};

pub use error::CredentialsError;
pub use origin::Origin;
pub(super) use refresh::key_renewed;

use self::{
    environment::Environment, origin::ProviderKind, refresh::RefreshingCredentials, temporary::TemporaryCredentials,
};
use super::TransportError;
use crate::secret::AccessKey;

/// The access key and its origin. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    refreshing: Arc<RefreshingCredentials>,
    origin: Arc<Origin>,
}

impl Credentials {
    /// Tries the providers in the official SDKs' order. A provider that fails is skipped, and reported if no other has a
    /// key. The network is used only by configured providers and for the ECS metadata service; it also trusts
    /// `extra_roots` (PEM, may be empty).
    pub async fn resolve(
        variable: impl Fn(&str) -> Option<String>,
        extra_roots: &[u8],
    ) -> Result<Self, CredentialsError> {
        chain::resolve(variable, extra_roots).await
    }

    /// Files that may hold credentials, whether they exist or not.
    pub fn files(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
        let Ok(environment) = Environment::read(variable) else { return Vec::new() };
        let token = environment.oidc_token_file.map(PathBuf::from);
        environment.cli_config.into_iter().chain(environment.credentials_files).chain(token).collect()
    }

    /// Credentials that always use this key.
    pub fn from_static(key: AccessKey) -> Self {
        Self::permanent(key, ProviderKind::Sandbox)
    }

    fn permanent(key: AccessKey, kind: ProviderKind) -> Self {
        let credentials = TemporaryCredentials { key, ttl: None, role: None };
        Self {
            refreshing: RefreshingCredentials::new(&credentials, None),
            origin: Arc::new(Origin { kind, role: None }),
        }
    }

    /// Origin of the key.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Key id, masked for display.
    pub fn masked_id(&self) -> String {
        self.refreshing.masked_id()
    }

    /// Current key. Returns at once unless the key has expired.
    pub(super) async fn current(&self) -> Result<AccessKey, TransportError> {
        self.refreshing.current().await
    }

    /// Current key and how long it lives, `None` if for ever: at least as long as `needed` if a new one can be had.
    pub(super) async fn lasting(&self, needed: Duration) -> Result<(AccessKey, Option<Duration>), TransportError> {
        self.refreshing.lasting(needed).await
    }

    /// Replaces a key that the service rejected. Returns whether there is another key now.
    pub(super) async fn replace_rejected(&self, key: &AccessKey) -> Result<bool, TransportError> {
        self.refreshing.replace_rejected(key).await
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key", &self.masked_id()).field("origin", &self.origin).finish()
    }
}
