//! Where a key comes from.

use std::{fmt, path::PathBuf};

/// A kind of credential provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum ProviderKind {
    Environment,
    /// The OIDC variables of the environment.
    Oidc,
    /// A file of Alibaba Cloud's tools.
    Profile {
        path: PathBuf,
        /// Profile or section; `None` if it is unknown.
        name: Option<String>,
    },
    /// The metadata service of an ECS instance.
    Metadata,
    Uri,
    /// A fixed key, as in the sandbox.
    Sandbox,
}

impl fmt::Display for ProviderKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment"),
            Self::Oidc => f.write_str("the OIDC variables of the environment"),
            Self::Profile { path, name: Some(name) } => write!(f, "profile {name} of {}", path.display()),
            Self::Profile { path, name: None } => write!(f, "{}", path.display()),
            Self::Metadata => f.write_str("the metadata service of ECS"),
            Self::Uri => f.write_str("ALIBABA_CLOUD_CREDENTIALS_URI"),
            Self::Sandbox => f.write_str("the sandbox"),
        }
    }
}

/// Where a key comes from, and the role it acts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub(super) kind: ProviderKind,
    /// Role that the key acts as; `None` for a key without a role.
    pub(super) role: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Some(role) => write!(f, "{role}, by {}", self.kind),
            None => write!(f, "{}", self.kind),
        }
    }
}
