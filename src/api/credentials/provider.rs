//! The credential providers.

use futures_util::future::BoxFuture;

use super::{
    error::FetchError,
    http::CredentialsHttp,
    instance_metadata::InstanceMetadata,
    process,
    sts::{self, Role},
    temporary::TemporaryCredentials,
    uri::CredentialsUri,
};
use crate::secret::AccessKey;

/// Provides a key each time it is asked.
pub(super) enum Provider {
    /// A key that never changes.
    Static(AccessKey),
    Oidc {
        role: Role,
        provider_arn: String,
        token_file: String,
    },
    /// A role assumed with the key of another provider.
    Role {
        by: Box<Provider>,
        role: Role,
    },
    Metadata(InstanceMetadata),
    Command(String),
    Uri(CredentialsUri),
}

impl Provider {
    /// Fetches a current key.
    pub(super) fn fetch<'a>(
        &'a self,
        http: &'a CredentialsHttp,
    ) -> BoxFuture<'a, Result<TemporaryCredentials, FetchError>> {
        Box::pin(async move {
            match self {
                Self::Static(key) => Ok(TemporaryCredentials { key: key.clone(), ttl: None, role: None }),
                Self::Oidc { role, provider_arn, token_file } => {
                    sts::assume_with_oidc(role, provider_arn, token_file, http).await
                }
                Self::Role { by, role } => {
                    let by = by.fetch(http).await?;
                    sts::assume(role, &by.key, http).await
                }
                Self::Metadata(metadata) => metadata.fetch(http).await,
                Self::Command(command) => process::fetch(command).await,
                Self::Uri(uri) => uri.fetch(http).await,
            }
        })
    }
}
