//! Access keys that cannot appear in a log, error or report.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// An access key, with a token if it is temporary.
#[derive(Clone)]
pub struct AccessKey {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
}

impl AccessKey {
    /// Does not check the values.
    pub fn new(id: String, secret: SecretString, token: Option<SecretString>) -> Self {
        Self { id, secret, token }
    }

    /// The id, which is not secret: every request carries it.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id for display: `LTAI****9abc`.
    pub fn masked_id(&self) -> String {
        let part = |at: usize, len: usize| self.id.chars().skip(at).take(len).collect::<String>();
        let length = self.id.chars().count();
        if length < 12 { "****".to_owned() } else { format!("{}****{}", part(0, 4), part(length - 4, 4)) }
    }

    /// Whether id, secret and token are equal.
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.secret() == other.secret() && self.token() == other.token()
    }

    /// The secret, for the signer only.
    pub(crate) fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The token, for the header only.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_ref().map(ExposeSecret::expose_secret)
    }
}

impl fmt::Debug for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("AccessKey").field(&self.masked_id()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_masks_access_key() {
        let key =
            AccessKey::new("LTAI5tTESTVECTORKEY0001".into(), "planted-secret".into(), Some("planted-token".into()));
        assert_eq!(format!("{key:?}"), "AccessKey(\"LTAI****0001\")");
        assert_eq!(AccessKey::new("short".into(), "s".into(), None).masked_id(), "****");
    }
}
