//! What the two kinds of files have in common.

use std::path::Path;

use super::{environment::Environment, source::Source, sts::Role};
use crate::domain::decode_text;

/// None: there is no such file.
pub(super) fn read(file: &Path) -> Result<Option<String>, String> {
    match std::fs::read(file) {
        Ok(bytes) => decode_text(bytes).map(Some).map_err(|error| error.to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error.to_string()),
    }
}

/// The provider's ARN and the token's file; what is left open, the environment says.
pub(super) fn oidc(
    role: Role,
    (provider_arn, token_file): (Option<String>, Option<String>),
    environment: &Environment,
) -> Result<Source, String> {
    let or =
        |text: Option<String>, other: &Option<String>| text.filter(|text| !text.is_empty()).or_else(|| other.clone());
    let provider_arn = or(provider_arn, &environment.oidc_provider_arn).ok_or("it names no OIDC provider")?;
    let token_file = or(token_file, &environment.oidc_token_file).ok_or("it names no file of an OIDC token")?;
    Ok(Source::Oidc { role, provider_arn, token_file })
}
