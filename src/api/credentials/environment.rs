//! What the environment says about keys, by the names of the official SDKs (reference, protocol.md section 5).

use std::path::PathBuf;

use reqwest::Url;

use super::error::CredentialsError;
use crate::{api::Endpoint, domain::unquoted, secret::AccessKey};

pub(super) const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
pub(super) const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
pub(super) const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
/// Stand-ins for tests, on this machine alone.
const STS_STAND_IN: &str = "FACE_ENROLL_STS_ENDPOINT";
const METADATA_STAND_IN: &str = "FACE_ENROLL_METADATA_ENDPOINT";
/// The metadata service of every ECS instance, which speaks http alone.
const METADATA: &str = "http://100.100.100.200/";

/// See the module. Of a key that stands in the environment itself, [`key`] knows.
pub(super) struct Environment {
    /// `ALIBABA_CLOUD_PROFILE`.
    pub(super) profile: Option<String>,
    /// The CLI's file. None: it is not to be read.
    pub(super) cli: Option<PathBuf>,
    /// The SDKs' file, by any of its names.
    pub(super) sections: Vec<PathBuf>,
    pub(super) role_arn: Option<String>,
    pub(super) oidc_provider_arn: Option<String>,
    pub(super) oidc_token_file: Option<String>,
    pub(super) role_session: Option<String>,
    pub(super) sts_region: Option<String>,
    pub(super) sts_in_vpc: bool,
    pub(super) sts_stand_in: Option<Url>,
    /// None: it is not to be asked.
    pub(super) metadata: Option<Url>,
    pub(super) metadata_role: Option<String>,
    /// May it be asked without a token?
    pub(super) metadata_v1: bool,
    pub(super) uri: Option<String>,
}

impl Environment {
    pub(super) fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        // A line end or quotes around a value come from the file that it was read from.
        let set = |name: &str| {
            let value = variable(name)?;
            Some(unquoted(&value).to_owned()).filter(|value| !value.is_empty())
        };
        let is_on = |name: &str| set(name).is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let stand_in = |name: &'static str| match set(name).map(|url| Endpoint::custom(&url)) {
            None => Ok(None),
            Some(Ok(here)) if here.is_loopback() => Ok(Some(here.url().clone())),
            Some(Ok(_) | Err(_)) => Err(CredentialsError::NotHere(name)),
        };
        let home = set("HOME").map(PathBuf::from);
        let beneath_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let cli = set("ALIBABA_CLOUD_CONFIG_FILE").map(PathBuf::from).or_else(|| beneath_home(".aliyun/config.json"));
        // Python's name first, then that of Go and Node.
        let sections = match set("ALIBABA_CLOUD_CREDENTIALS_FILE") {
            Some(file) => vec![PathBuf::from(file)],
            None => [".alibabacloud/credentials.ini", ".alibabacloud/credentials"]
                .into_iter()
                .filter_map(beneath_home)
                .collect(),
        };
        let metadata =
            stand_in(METADATA_STAND_IN)?.unwrap_or_else(|| Url::parse(METADATA).expect("the address is a URL"));
        Ok(Self {
            profile: set("ALIBABA_CLOUD_PROFILE"),
            cli: cli.filter(|_| !is_on("ALIBABA_CLOUD_CLI_PROFILE_DISABLED")),
            sections,
            role_arn: set("ALIBABA_CLOUD_ROLE_ARN"),
            oidc_provider_arn: set("ALIBABA_CLOUD_OIDC_PROVIDER_ARN"),
            oidc_token_file: set("ALIBABA_CLOUD_OIDC_TOKEN_FILE"),
            role_session: set("ALIBABA_CLOUD_ROLE_SESSION_NAME"),
            sts_region: set("ALIBABA_CLOUD_STS_REGION"),
            sts_in_vpc: is_on("ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED"),
            sts_stand_in: stand_in(STS_STAND_IN)?,
            metadata: Some(metadata).filter(|_| !is_on("ALIBABA_CLOUD_ECS_METADATA_DISABLED")),
            metadata_role: set("ALIBABA_CLOUD_ECS_METADATA"),
            metadata_v1: !is_on("ALIBABA_CLOUD_IMDSV1_DISABLED"),
            uri: set("ALIBABA_CLOUD_CREDENTIALS_URI"),
        })
    }
}

/// The key that stands in the environment itself, if one does.
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
        (None, Some(_)) => Err(CredentialsError::Half(ID)),
        (Some(_), None) => Err(CredentialsError::Half(SECRET)),
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
    fn line_ends_and_quotes_around_a_key_are_no_part_of_it() {
        let key = read(&[(ID, " LTAI5tTESTVECTORKEY0001\r\n"), (SECRET, "\"s\""), (TOKEN, "'t' ")]).unwrap().unwrap();
        assert_eq!((key.id(), key.secret(), key.token()), ("LTAI5tTESTVECTORKEY0001", "s", Some("t")));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert!(read(&[]).unwrap().is_none());
        assert!(matches!(read(&[(ID, "a"), (SECRET, "")]), Err(CredentialsError::Half(SECRET))));
        assert!(matches!(read(&[(SECRET, "a")]), Err(CredentialsError::Half(ID))));
        assert!(matches!(read(&[(ID, "a"), (SECRET, "b\nc")]), Err(CredentialsError::Malformed(SECRET))));
    }

    #[test]
    fn stand_in_is_on_this_machine_or_is_none() {
        for (url, is_fine) in [
            ("http://127.0.0.1:1", true),
            ("http://100.100.100.200", false),
            ("https://sts.example", false),
            ("http://127.0.0.1.example", false),
            ("nonsense", false),
        ] {
            for stand_in in [STS_STAND_IN, METADATA_STAND_IN] {
                let read = Environment::read(|name| (name == stand_in).then(|| url.to_owned()));
                assert_eq!(read.is_ok(), is_fine, "{stand_in} {url}");
            }
        }
    }
}
