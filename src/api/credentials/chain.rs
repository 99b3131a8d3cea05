//! Where keys are looked for, in the official SDKs' order (reference, protocol.md section 5). The first place that gives
//! one stays for the life of the process; a later renewal that fails does not fall through to the next.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use super::{
    Credentials,
    environment::{self, Environment},
    error::{ChainError, CredentialsError, FetchError},
    file,
    metadata::Metadata,
    origin::{Origin, Place},
    profile,
    renewal::{Fetch, RefreshingCredentials},
    section,
    source::Source,
    sts::{Role, RoleFields},
    uri::CredentialsUri,
    wire::Wire,
};

/// What was found at a place. `Ok(None)`: nothing is set up there.
type Found = Result<Option<Source>, String>;

/// See the module.
pub(super) async fn find(
    variable: impl Fn(&str) -> Option<String>,
    extra_roots: &[u8],
) -> Result<Credentials, CredentialsError> {
    if let Some(key) = environment::key(&variable)? {
        return Ok(Credentials::standing(key, Place::Environment));
    }
    let environment = Environment::read(variable)?;
    let mut wire = None;
    let mut in_vain = Vec::new();
    for look in Look::all(&environment) {
        let (place, found) = look.look(&environment);
        let source = match found {
            Ok(Some(source)) => source,
            Ok(None) => {
                in_vain.push(ChainError { place, why: None });
                continue;
            }
            Err(why) => {
                in_vain.push(ChainError { place, why: Some(FetchError::Unusable(why)) });
                continue;
            }
        };
        if let Source::Key(key) = source {
            tell(&in_vain);
            return Ok(Credentials::standing(key, place));
        }
        let wire = match &wire {
            Some(wire) => Arc::clone(wire),
            None => wire.insert(Arc::new(Wire::new(extra_roots)?)).clone(),
        };
        match source.fetch(&wire).await {
            Ok(first) => {
                tell(&in_vain);
                let origin = Arc::new(Origin { place, role: first.role.clone() });
                return Ok(Credentials {
                    renewal: RefreshingCredentials::new(&first, Some(again(source, wire))),
                    origin,
                });
            }
            Err(why) => in_vain.push(ChainError { place, why: Some(why) }),
        }
    }
    Err(CredentialsError::None(in_vain))
}

/// What was set up, could not be used, and is now stood in for by another place.
fn tell(in_vain: &[ChainError]) {
    for passed_over in in_vain.iter().filter(|passed_over| passed_over.why.is_some()) {
        tracing::warn!(%passed_over, "no access key here; the next place has one");
    }
}

fn again(source: Source, wire: Arc<Wire>) -> Fetch {
    let source = Arc::new(source);
    Box::new(move || {
        let (source, wire) = (source.clone(), wire.clone());
        Box::pin(async move { source.fetch(&wire).await })
    })
}

/// A place to look at.
enum Look {
    Oidc,
    Profile(PathBuf),
    Section(PathBuf),
    Metadata,
    Uri,
}

impl Look {
    fn all(environment: &Environment) -> Vec<Self> {
        let profile = environment.cli.clone().map(Self::Profile);
        let sections = environment.sections.iter().cloned().map(Self::Section);
        [Self::Oidc].into_iter().chain(profile).chain(sections).chain([Self::Metadata, Self::Uri]).collect()
    }

    /// Files are read when it is their turn.
    fn look(&self, environment: &Environment) -> (Place, Found) {
        match self {
            Self::Oidc => (Place::Oidc, oidc(environment)),
            Self::Profile(file) => of_file(file, profile::read(file, environment)),
            Self::Section(file) => of_file(file, section::read(file, environment)),
            Self::Metadata => (Place::Metadata, Ok(Metadata::new(None, environment).map(Source::Metadata))),
            Self::Uri => {
                let uri = environment.uri.as_deref().map(CredentialsUri::parse).transpose();
                (Place::Uri, uri.map(|uri| uri.map(Source::Uri)))
            }
        }
    }
}

fn of_file(file: &Path, read: Result<Option<(String, Source)>, String>) -> (Place, Found) {
    let place = |name| Place::Profile { path: file.to_owned(), name };
    match read {
        Ok(Some((name, source))) => (place(Some(name)), Ok(Some(source))),
        Ok(None) => (place(None), Ok(None)),
        Err(why) => (place(None), Err(why)),
    }
}

/// Only where all three variables are set.
fn oidc(environment: &Environment) -> Found {
    let Environment { role_arn, oidc_provider_arn, oidc_token_file, .. } = environment;
    if role_arn.is_none() || oidc_provider_arn.is_none() || oidc_token_file.is_none() {
        return Ok(None);
    }
    let role = Role::new(RoleFields::default(), environment)?;
    file::oidc(role, (None, None), environment).map(Some)
}
