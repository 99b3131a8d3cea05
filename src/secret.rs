//! Credentials that no log, error or report can show.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

/// An access key, with its token if it is a temporary one.
#[derive(Clone)]
pub struct AccessKey {
    id: String,
    secret: SecretString,
    token: Option<SecretString>,
}

impl AccessKey {
    /// Takes them as they are.
    pub fn new(id: String, secret: SecretString, token: Option<SecretString>) -> Self {
        Self { id, secret, token }
    }

    /// The id, which travels in the open with every request.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The id as it may be shown: `LTAI****9abc`.
    pub fn masked_id(&self) -> String {
        let part = |at: usize, len: usize| self.id.chars().skip(at).take(len).collect::<String>();
        let length = self.id.chars().count();
        if length < 12 { "****".to_owned() } else { format!("{}****{}", part(0, 4), part(length - 4, 4)) }
    }

    /// Is it this very key, of this very time?
    pub(crate) fn is_same(&self, other: &Self) -> bool {
        self.id == other.id && self.secret() == other.secret() && self.token() == other.token()
    }

    /// The secret: for the signer alone.
    pub(crate) fn secret(&self) -> &str {
        self.secret.expose_secret()
    }

    /// The token: for the header alone.
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
    fn access_key_is_masked() {
        let key =
            AccessKey::new("LTAI5tTESTVECTORKEY0001".into(), "planted-secret".into(), Some("planted-token".into()));
        assert_eq!(format!("{key:?}"), "AccessKey(\"LTAI****0001\")");
        assert_eq!(AccessKey::new("short".into(), "s".into(), None).masked_id(), "****");
    }
}
