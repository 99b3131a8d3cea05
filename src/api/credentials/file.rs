//! Helpers shared by the two configuration files.

use std::path::Path;

use super::{
    environment::Environment, instance_metadata::InstanceMetadata, provider::Provider, sts::Role, temporary::access_key,
};
use crate::domain::decode_text;

/// Text of the file; `None` if it does not exist.
pub(super) fn read(file: &Path) -> Result<Option<String>, String> {
    match std::fs::read(file) {
        Ok(bytes) => decode_text(bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// Provider of a static key.
pub(super) fn static_key(id: Option<&str>, secret: Option<&str>, token: Option<&str>) -> Result<Provider, String> {
    access_key(id.unwrap_or_default(), secret.unwrap_or_default(), token)
        .map(Provider::Static)
        .ok_or_else(|| "the access key is incomplete".to_owned())
}

/// Provider of the instance's RAM role.
pub(super) fn instance_metadata(role: Option<String>, environment: &Environment) -> Result<Provider, String> {
    InstanceMetadata::new(role, environment)
        .map(Provider::Metadata)
        .ok_or_else(|| "ALIBABA_CLOUD_ECS_METADATA_DISABLED is set".to_owned())
}

/// OIDC provider from a file's fields, with the environment as fallback.
pub(super) fn oidc(
    role: Role,
    (provider_arn, token_file): (Option<String>, Option<String>),
    environment: &Environment,
) -> Result<Provider, String> {
    let or_environment =
        |text: Option<String>, other: &Option<String>| text.filter(|text| !text.is_empty()).or_else(|| other.clone());
    let provider_arn = or_environment(provider_arn, &environment.oidc_provider_arn).ok_or("no OIDC provider is set")?;
    let token_file = or_environment(token_file, &environment.oidc_token_file).ok_or("no OIDC token file is set")?;
    Ok(Provider::Oidc { role, provider_arn, token_file })
}
