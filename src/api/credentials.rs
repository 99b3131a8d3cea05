//! As whom requests are signed.

use crate::secret::AccessKey;

const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";

/// Where the access key of the moment comes from. One source for now; the refreshing ones of the SDKs' chain go here.
#[derive(Debug, Clone)]
pub struct Credentials {
    key: AccessKey,
}

/// Why there are none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    /// Neither half of a key.
    #[error("no credentials: set {ID} and {SECRET}, and {TOKEN} with a temporary key")]
    None,
    /// One half of a key.
    #[error("half of the credentials is missing: {0} is not set")]
    Half(&'static str),
    /// A value that no header can carry.
    #[error("{0} has a character that no request can carry: was it copied with its line end?")]
    Malformed(&'static str),
}

impl Credentials {
    /// From the environment, by the names of the official SDKs.
    pub fn from_environment(variable: impl Fn(&str) -> Option<String>) -> Result<Self, CredentialsError> {
        let read = |name: &'static str| match variable(name).filter(|value| !value.is_empty()) {
            Some(value) if value.chars().all(|c| c.is_ascii_graphic()) => Ok(Some(value)),
            Some(_) => Err(CredentialsError::Malformed(name)),
            None => Ok(None),
        };
        match (read(ID)?, read(SECRET)?) {
            (Some(id), Some(secret)) => {
                Ok(Self::fixed(AccessKey::new(id, secret.into(), read(TOKEN)?.map(Into::into))))
            }
            (None, None) => Err(CredentialsError::None),
            (None, Some(_)) => Err(CredentialsError::Half(ID)),
            (Some(_), None) => Err(CredentialsError::Half(SECRET)),
        }
    }

    /// This key, for good.
    pub fn fixed(key: AccessKey) -> Self {
        Self { key }
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
