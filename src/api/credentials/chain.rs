//! Tries the credential providers in the official SDKs' order (reference, protocol.md section 5). The first that returns a
//! key is used for the life of the process; a later refresh that fails does not fall through to the next provider.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Credentials, cli_config, credentials_ini,
    environment::{self, Environment},
    error::{ChainError, CredentialsError, FetchError},
    file,
    http::CredentialsHttp,
    instance_metadata::InstanceMetadata,
    origin::{Origin, ProviderKind},
    provider::Provider,
    refresh::{Fetch, RefreshingCredentials},
    sts::{Role, RoleFields},
    uri::CredentialsUri,
};

/// A provider from a probe; `Ok(None)` if none is configured there.
type Resolved = Result<Option<Provider>, String>;

/// Returns the credentials of the first provider that has a key.
pub(super) async fn resolve(
    variable: impl Fn(&str) -> Option<String>,
    extra_roots: &[u8],
) -> Result<Credentials, CredentialsError> {
    if let Some(key) = environment::key(&variable)? {
        return Ok(Credentials::permanent(key, ProviderKind::Environment));
    }
    let environment = Environment::read(variable)?;
    let mut http = None;
    let mut failures = Vec::new();
    for probe in Probe::all(&environment) {
        let (kind, resolved) = probe.provider(&environment);
        let provider = match resolved {
            Ok(Some(provider)) => provider,
            Ok(None) => {
                failures.push(ChainError { kind, error: None });
                continue;
            }
            Err(error) => {
                failures.push(ChainError { kind, error: Some(FetchError::Unusable(error)) });
                continue;
            }
        };
        if let Provider::Static(key) = provider {
            warn_skipped(&failures);
            return Ok(Credentials::permanent(key, kind));
        }
        let http = match &http {
            Some(http) => Arc::clone(http),
            None => http.insert(Arc::new(CredentialsHttp::new(extra_roots)?)).clone(),
        };
        match provider.fetch(&http).await {
            Ok(first) => {
                warn_skipped(&failures);
                let origin = Arc::new(Origin { kind, role: first.role.clone() });
                return Ok(Credentials {
                    refreshing: RefreshingCredentials::new(&first, Some(refetch(provider, http))),
                    origin,
                });
            }
            Err(error) => failures.push(ChainError { kind, error: Some(error) }),
        }
    }
    Err(CredentialsError::None(failures))
}

/// Logs the configured providers that failed before another one succeeded.
fn warn_skipped(failures: &[ChainError]) {
    for failure in failures.iter().filter(|failure| failure.error.is_some()) {
        tracing::warn!(%failure, "skipped a credential provider without a usable key");
    }
}

fn refetch(provider: Provider, http: Arc<CredentialsHttp>) -> Fetch {
    let provider = Arc::new(provider);
    Box::new(move || {
        let (provider, http) = (provider.clone(), http.clone());
        Box::pin(async move { provider.fetch(&http).await })
    })
}

/// Where a provider may be configured.
enum Probe {
    Oidc,
    Profile(PathBuf),
    Section(PathBuf),
    Metadata,
    Uri,
}

impl Probe {
    fn all(environment: &Environment) -> Vec<Self> {
        let profile = environment.cli_config.clone().map(Self::Profile);
        let sections = environment.credentials_files.iter().cloned().map(Self::Section);
        [Self::Oidc].into_iter().chain(profile).chain(sections).chain([Self::Metadata, Self::Uri]).collect()
    }

    /// Reads the configuration. Files are read only now, in order.
    fn provider(&self, environment: &Environment) -> (ProviderKind, Resolved) {
        match self {
            Self::Oidc => (ProviderKind::Oidc, oidc(environment)),
            Self::Profile(file) => from_file(file, cli_config::read(file, environment)),
            Self::Section(file) => from_file(file, credentials_ini::read(file, environment)),
            Self::Metadata => {
                (ProviderKind::Metadata, Ok(InstanceMetadata::new(None, environment).map(Provider::Metadata)))
            }
            Self::Uri => {
                let uri = environment.uri.as_deref().map(CredentialsUri::parse).transpose();
                (ProviderKind::Uri, uri.map(|uri| uri.map(Provider::Uri)))
            }
        }
    }
}

fn from_file(file: &Path, read: Result<Option<(String, Provider)>, String>) -> (ProviderKind, Resolved) {
    let kind = |name| ProviderKind::Profile { path: file.to_owned(), name };
    match read {
        Ok(Some((name, provider))) => (kind(Some(name)), Ok(Some(provider))),
        Ok(None) => (kind(None), Ok(None)),
        Err(error) => (kind(None), Err(error)),
    }
}

/// Requires all three variables.
fn oidc(environment: &Environment) -> Resolved {
    let Environment { role_arn, oidc_provider_arn, oidc_token_file, .. } = environment;
    if role_arn.is_none() || oidc_provider_arn.is_none() || oidc_token_file.is_none() {
        return Ok(None);
    }
    let role = Role::new(RoleFields::default(), environment)?;
    file::oidc(role, (None, None), environment).map(Some)
}
