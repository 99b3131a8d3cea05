//! What can give a key, again and again.

use futures::future::BoxFuture;

use super::{
    error::FetchError,
    external,
    grant::TemporaryCredentials,
    metadata::Metadata,
    sts::{self, Role},
    uri::CredentialsUri,
    wire::Wire,
};
use crate::secret::AccessKey;

/// See the module.
pub(super) enum Source {
    /// It stands there, and never changes.
    Key(AccessKey),
    Oidc {
        role: Role,
        provider_arn: String,
        token_file: String,
    },
    /// A role that the key of another source may assume.
    Role {
        by: Box<Source>,
        role: Role,
    },
    Metadata(Metadata),
    Command(String),
    Uri(CredentialsUri),
}

impl Source {
    /// A key of this moment.
    pub(super) fn fetch<'a>(&'a self, wire: &'a Wire) -> BoxFuture<'a, Result<TemporaryCredentials, FetchError>> {
        Box::pin(async move {
            match self {
                Self::Key(key) => Ok(TemporaryCredentials { key: key.clone(), ends: None, role: None }),
                Self::Oidc { role, provider_arn, token_file } => {
                    sts::assume_with_oidc(role, provider_arn, token_file, wire).await
                }
                Self::Role { by, role } => {
                    let by = by.fetch(wire).await?;
                    sts::assume(role, &by.key, wire).await
                }
                Self::Metadata(metadata) => metadata.fetch(wire).await,
                Self::Command(command) => external::fetch(command).await,
                Self::Uri(uri) => uri.fetch(wire).await,
            }
        })
    }
}
