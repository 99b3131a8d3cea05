//! As whom requests are signed.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use super::profile;
use crate::secret::AccessKey;

const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// Where an access key was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// In the environment.
    Environment,
    /// In a file of Alibaba Cloud's own tools.
    Profile {
        /// Which.
        path: PathBuf,
        /// Of the profile or the section.
        name: String,
    },
    /// It was given.
    Given,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("the environment"),
            Self::Profile { path, name } => write!(f, "profile {name} of {}", path.display()),
            Self::Given => f.write_str("the sandbox"),
        }
    }
}

/// The access key, and where it was found. The refreshing sources of the SDKs' chain are still to come.
#[derive(Debug, Clone)]
pub struct Credentials {
    key: AccessKey,
    origin: Origin,
}

/// Why there are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Neither half of a key.
    #[error(
        "no credentials: set {ID} and {SECRET} (and {TOKEN} with a temporary key), or make a profile with `aliyun configure`"
    )]
    None,
    /// One half of a key.
    #[error("half of the credentials is missing: {0} is not set")]
    Half(&'static str),
    /// A value that no header can carry.
    #[error("{0} has a character that no request can carry: was it copied with its line end?")]
    Malformed(&'static str),
    /// A file of which no key can be taken.
    #[error("{}: {detail}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        detail: String,
    },
}

impl Credentials {
    /// In the order of the official SDKs (protocol.md section 5): the environment, the CLI's profile, the SDKs' file. What
    /// can't be used is passed over, and told of where nothing else is found. No network is asked.
    pub fn find(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        match Self::from_environment(&variable) {
            Err(CredentialsError::None) => {}
            found => return found,
        }
        let home = set("HOME").map(PathBuf::from);
        let beneath_home = |path: &str| home.as_ref().map(|home| home.join(path));
        let profile = set("ALIBABA_CLOUD_PROFILE");
        let profile = profile.as_deref();
        let is_off = set("ALIBABA_CLOUD_CLI_PROFILE_DISABLED").is_some_and(|text| text.eq_ignore_ascii_case("true"));
        let cli = set("ALIBABA_CLOUD_CONFIG_FILE").map(PathBuf::from).or_else(|| beneath_home(".aliyun/config.json"));
        // Python's name first, then that of Go and Node.
        let ini = match set("ALIBABA_CLOUD_CREDENTIALS_FILE") {
            Some(file) => vec![PathBuf::from(file)],
            None => [".alibabacloud/credentials.ini", ".alibabacloud/credentials"]
                .into_iter()
                .filter_map(beneath_home)
                .collect(),
        };
        type Read = fn(&Path, Option<&str>) -> Result<Option<Credentials>, CredentialsError>;
        let files = cli.filter(|_| !is_off).into_iter().map(|file| (file, profile::of_cli as Read));
        let files = files.chain(ini.into_iter().map(|file| (file, profile::of_ini as Read)));
        let mut unusable = None;
        for (file, read) in files {
            match read(&file, profile) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                Err(error) => drop(unusable.get_or_insert(error)),
            }
        }
        Err(unusable.unwrap_or(CredentialsError::None))
    }

    pub(super) fn from(key: AccessKey, origin: Origin) -> Self {
        Self { key, origin }
    }

    /// Where the key was found.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// From the environment, by the names of the official SDKs.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        let read = |name: &'static str| match variable(name).filter(|value| !value.is_empty()) {
            Some(value) if value.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(value)),
            Some(_) => Err(CredentialsError::Malformed(name)),
            None => Ok(None),
        };
        match (read(ID)?, read(SECRET)?) {
            (Some(id), Some(secret)) => {
                let key = AccessKey::new(id, secret.into(), read(TOKEN)?.map(Into::into));
                Ok(Self::from(key, Origin::Environment))
            }
            (None, None) => Err(CredentialsError::None),
            (None, Some(_)) => Err(CredentialsError::Half(ID)),
            (Some(_), None) => Err(CredentialsError::Half(SECRET)),
        }
    }

    /// This key, for good.
    pub fn fixed(key: AccessKey) -> Self {
        Self::from(key, Origin::Given)
    }

    /// The key of the moment.
    pub(super) async fn current(&self) -> AccessKey {
        self.key.clone()
    }

    /// The key's id as it may be shown.
    pub fn masked_id(&self) -> String {
        self.key.masked_id()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(values: &[(&str, &str)]) -> Result<Credentials, CredentialsError> {
        Credentials::from_environment(|name| {
            values.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn key_comes_from_the_environment_with_or_without_a_token() {
        let plain = read(&[(ID, "LTAI5tTESTVECTORKEY0001"), (SECRET, "s")]).unwrap();
        assert_eq!((plain.masked_id().as_str(), plain.key.token()), ("LTAI****0001", None));
        let temporary = read(&[(ID, "STS.x"), (SECRET, "s"), (TOKEN, "t")]).unwrap();
        assert_eq!(temporary.key.token(), Some("t"));
    }

    #[test]
    fn what_is_missing_is_named() {
        assert_eq!(read(&[]).unwrap_err(), CredentialsError::None);
        assert_eq!(read(&[(ID, "a"), (SECRET, "")]).unwrap_err(), CredentialsError::Half(SECRET));
        assert_eq!(read(&[(SECRET, "a")]).unwrap_err(), CredentialsError::Half(ID));
        assert_eq!(read(&[(ID, "a"), (SECRET, "b\n")]).unwrap_err(), CredentialsError::Malformed(SECRET));
    }
}
