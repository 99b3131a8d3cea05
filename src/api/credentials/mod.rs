//! As whom requests are signed.
//!
//! ```text
//! chain        where keys are looked for, in the official SDKs' order; the first that gives one stays
//! environment  what the environment says
//! profile      the CLI's file          section   the SDKs' file          file   what they have in common
//! source       what can give a key: a key that stands there, or
//! sts          a RAM role, assumed with another key or with an OIDC token
//! metadata     the RAM role of an ECS instance
//! external     a program               uri       a credentials URI
//! grant        a key that was given for a time
//! renewal      one caller renews it before it ends, the others go on
//! wire         the network of all of them
//! ```
//!
//! No secret is in any error or `Debug` here: what may quote one is not passed on.

mod chain;
mod environment;
mod error;
mod external;
mod file;
mod grant;
mod metadata;
mod origin;
mod profile;
mod renewal;
mod section;
mod source;
mod sts;
mod uri;
mod wire;

use std::{fmt, path::PathBuf, sync::Arc};

pub use error::CredentialsError;
pub use origin::Origin;
pub(super) use renewal::renewed;

use self::{environment::Environment, grant::TemporaryCredentials, origin::Place, renewal::RefreshingCredentials};
use super::NoAnswer;
use crate::secret::AccessKey;

/// The access key, and where it was found. Cheap to clone.
#[derive(Clone)]
pub struct Credentials {
    renewal: Arc<RefreshingCredentials>,
    origin: Arc<Origin>,
}

impl Credentials {
    /// In the order of the official SDKs. What fails is passed over, and told of where nothing else is found. The network
    /// is asked only where something that is set up needs it, and for the metadata service of ECS; it trusts
    /// `extra_roots` (PEM; empty: none) besides this machine's certificates.
    pub async fn find(variable: impl Fn(&str) -> Option<String>, extra_roots: &[u8]) -> Result<Self, CredentialsError> {
        chain::find(variable, extra_roots).await
    }

    /// The files in which keys are looked for, whether they are there or not.
    pub fn files(variable: impl Fn(&str) -> Option<String>) -> Vec<PathBuf> {
        let Ok(environment) = Environment::read(variable) else { return Vec::new() };
        let token = environment.oidc_token_file.map(PathBuf::from);
        environment.cli.into_iter().chain(environment.sections).chain(token).collect()
    }

    /// This key, for good.
    pub fn fixed(key: AccessKey) -> Self {
        Self::standing(key, Place::Given)
    }

    fn standing(key: AccessKey, place: Place) -> Self {
        let grant = TemporaryCredentials { key, ends: None, role: None };
        Self { renewal: RefreshingCredentials::new(&grant, None), origin: Arc::new(Origin { place, role: None }) }
    }

    /// Where the key was found.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// The key's id as it may be shown.
    pub fn masked_id(&self) -> String {
        self.renewal.masked_id()
    }

    /// The key of the moment: at once, unless it has ended.
    pub(super) async fn current(&self) -> Result<AccessKey, NoAnswer> {
        self.renewal.current().await
    }

    /// The service has refused this key: is there another one now?
    pub(super) async fn refused(&self, key: &AccessKey) -> Result<bool, NoAnswer> {
        self.renewal.refused(key).await
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("key", &self.masked_id()).field("origin", &self.origin).finish()
    }
}
