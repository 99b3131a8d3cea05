//! Environment variables for credentials, with the official SDKs' names (reference, protocol.md section 5).

use std::path::PathBuf;

use reqwest::Url;

use super::error::CredentialsError;
use crate::{api::Endpoint, domain::unquoted, secret::AccessKey};

pub(super) const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
pub(super) const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
pub(super) const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
/// Endpoint overrides for tests; loopback only.
const STS_OVERRIDE: &str = "FACE_ENROLL_STS_ENDPOINT";
const METADATA_OVERRIDE: &str = "FACE_ENROLL_METADATA_ENDPOINT";
/// Metadata service of every ECS instance; it speaks only http.
const METADATA: &str = "http://100.100.100.200/";

/// Configuration of the providers. [`key`] reads a key in the environment itself.
pub(super) struct Environment {
    /// `ALIBABA_CLOUD_PROFILE`.
    pub(super) profile: Option<String>,
    /// Path of the CLI's file. `None` if it is disabled.
    pub(super) cli_config: Option<PathBuf>,
    /// Possible paths of the SDKs' file.
    pub(super) credentials_files: Vec<PathBuf>,
    pub(super) role_arn: Option<String>,
    pub(super) oidc_provider_arn: Option<String>,
    pub(super) oidc_token_file: Option<String>,
    pub(super) role_session: Option<String>,
    pub(super) sts_region: Option<String>,
    pub(super) sts_in_vpc: bool,
    pub(super) sts_override: Option<Url>,
    /// Address of the metadata service. `None` if it is disabled.
    pub(super) metadata: Option<Url>,
    pub(super) metadata_role: Option<String>,
    /// Whether it may be queried without a token (v1).
    pub(super) allow_metadata_v1: bool,
    pub(super) uri: Option<String>,
}

impl Environment {
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        // Values copied from a file may carry quotes or a line end.
        let set = |name: &str| {
            let value = variable(name)?;
            Some(unquoted(&value).to_owned()).filter(|value| !value.is_empty())
        };
        let is_on = |name: &str| set(name).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let endpoint_override = |name: &'static str| match set(name).map(|url| Endpoint::custom(&url)) {
            None => Ok(None),
            Some(Ok(here)) if here.is_loopback() => Ok(Some(here.url().clone())),
            Some(Ok(_) | Err(_)) => Err(CredentialsError::NotLoopback(name)),
        };
        let home = set("HOME").map(PathBuf::from);
        let in_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let cli = set("ALIBABA_CLOUD_CONFIG_FILE").map(PathBuf::from).or_else(|| in_home(".aliyun/config.json"));
        // The Python package's name first, then that of Go and Node.
        let credentials_files = match set("ALIBABA_CLOUD_CREDENTIALS_FILE") {
            Some(file) => vec![PathBuf::from(file)],
            None => {
                [".alibabacloud/credentials.ini", ".alibabacloud/credentials"].into_iter().filter_map(in_home).collect()
            }
        };
        let metadata = endpoint_override(METADATA_OVERRIDE)?
            .unwrap_or_else(|| Url::parse(METADATA).expect("the address is a URL"));
        Ok(Self {
            profile: set("ALIBABA_CLOUD_PROFILE"),
            cli_config: cli.filter(|_| !is_on("ALIBABA_CLOUD_CLI_PROFILE_DISABLED")),
            credentials_files,
            role_arn: set("ALIBABA_CLOUD_ROLE_ARN"),
            oidc_provider_arn: set("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"),
            oidc_token_file: set("ALIBABA_CLOUD_OIDC_TOKEN_FILE"),
            role_session: set("ALIBABA_CLOUD_ROLE_SESSION_NAME"),
            sts_region: set("ALIBABA_CLOUD_STS_REGION"),
            sts_in_vpc: is_on("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"),
            sts_override: endpoint_override(STS_OVERRIDE)?,
            metadata: Some(metadata).filter(|_| !is_on("ALIBABA_CLOUD_ECS_METADATA_DISABLED")),
            metadata_role: set("ALIBABA_CLOUD_ECS_METADATA"),
            allow_metadata_v1: !is_on("ALIBABA_CLOUD_IMDSV1_DISABLED"),
            uri: set("ALIBABA_CLOUD_CREDENTIALS_URI"),
        })
    }
}

/// Access key in the environment itself, if any.
pub(super) fn key(variable: impl Fn(&str) -> Option<String>) -> Result<Option<AccessKey>, CredentialsError> {
    let set = |name| variable(name).map(|value| unquoted(&value).to_owned()).filter(|value| !value.is_empty());
    let read = |name: &'static str| match set(name) {
        Some(value) if value.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(value)),
        Some(_) => Err(CredentialsError::Malformed(name)),
        None => Ok(None),
    };
    match (read(ID)?, read(SECRET)?) {
        (Some(id), Some(secret)) => Ok(Some(AccessKey::new(id, secret.into(), read(TOKEN)?.map(Into::into)))),
        (None, None) => Ok(None),
        (None, Some(_)) => Err(CredentialsError::IncompleteKey(ID)),
        (Some(_), None) => Err(CredentialsError::IncompleteKey(SECRET)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Option<AccessKey>, CredentialsError> {
        key(|name| values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned()))
    }

    #[test]
    fn key_is_read_from_environment() {
        let plain = read(&[(ID, "LTAI5tTESTVECTORKEY0001"), (SECRET, "s")]).unwrap().unwrap();
        assert_eq!((plain.masked_id().as_str(), plain.token()), ("LTAI****0001", None));
        let temporary = read(&[(ID, "STS.x"), (SECRET, "s"), (TOKEN, "t")]).unwrap().unwrap();
        assert_eq!(temporary.token(), Some("t"));
    }

    #[test]
    fn quotes_and_line_ends_are_stripped() {
        let key = read(&[(ID, " LTAI5tTESTVECTORKEY0001\r\n"), (SECRET, "\"s\""), (TOKEN, "'t' ")]).unwrap().unwrap();
        assert_eq!((key.id(), key.secret(), key.token()), ("LTAI5tTESTVECTORKEY0001", "s", Some("t")));
    }

    #[test]
    fn errors_name_the_missing_or_invalid_variable() {
        assert!(read(&[]).unwrap().is_none());
        assert!(matches!(read(&[(ID, "a"), (SECRET, "")]), Err(CredentialsError::IncompleteKey(SECRET))));
        assert!(matches!(read(&[(SECRET, "a")]), Err(CredentialsError::IncompleteKey(ID))));
        assert!(matches!(read(&[(ID, "a"), (SECRET, "b\nc")]), Err(CredentialsError::Malformed(SECRET))));
    }

    #[test]
    fn endpoint_override_must_be_loopback() {
        for (url, is_fine) in [
            ("http://127.0.0.1:1", true),
            ("http://100.100.100.200", false),
            ("https://sts.example", false),
            ("http://127.0.0.1.example", false),
            ("nonsense", false),
        ] {
            for endpoint_override in [STS_OVERRIDE, METADATA_OVERRIDE] {
                let read = Environment::read(|name| (name == endpoint_override).then(|| url.to_owned()));
                assert_eq!(read.is_ok(), is_fine, "{endpoint_override} {url}");
            }
        }
    }
}
