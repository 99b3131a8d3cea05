//! Where a key was found.

use std::{fmt, path::PathBuf};

/// A place where keys are looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Place {
    Environment,
    /// The variables of an OIDC role.
    Oidc,
    /// A file of Alibaba Cloud's own tools.
    Profile {
        path: PathBuf,
        /// Of the profile or the section. None: the file does not say which.
        name: Option<String>,
    },
    /// The metadata service of an ECS instance.
    Metadata,
    Uri,
    /// It was given.
    Given,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment"),
            Self::Oidc => f.write_str("the OIDC variables of the environment"),
            Self::Profile { path, name: Some(name) } => write!(f, "profile {name} of {}", path.display()),
            Self::Profile { path, name: None } => write!(f, "{}", path.display()),
            Self::Metadata => f.write_str("the metadata service of ECS"),
            Self::Uri => f.write_str("ALIBABA_CLOUD_CREDENTIALS_URI"),
            Self::Given => f.write_str("the sandbox"),
        }
    }
}

/// Where a key was found, and whose it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    pub(super) place: Place,
    /// The role that it speaks for; none: the key stands there itself.
    pub(super) role: Option<String>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.role {
            Some(role) => write!(f, "{role}, by {}", self.place),
            None => write!(f, "{}", self.place),
        }
    }
}
