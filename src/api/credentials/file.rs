//! Helpers shared by the two configuration files.

use std::path::Path;

use super::{environment::Environment, provider::Provider, sts::Role};
use crate::domain::decode_text;

/// Text of the file; `None` if it does not exist.
pub(super) fn read(file: &Path) -> Result<Option<String>, String> {
    match std::fs::read(file) {
        Ok(bytes) => decode_text(bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
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
