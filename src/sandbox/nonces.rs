//! Used nonces. A signed request is valid for one call.

use std::{collections::HashSet, time::Duration};

use super::response::ApiError;

/// A date is accepted within 15 minutes either way, so a copy of a request stays valid for at most 30 minutes.
const GENERATION: Duration = Duration::from_mins(30);

/// Used nonces in two generations. The older one is dropped once every request in it would fail the date check.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    current: HashSet<String>,
    previous: HashSet<String>,
    since: Duration,
}

impl Nonces {
    /// Marks a nonce as used; fails if it was used before.
    pub(super) fn consume(&mut self, nonce: &str, at: Duration) -> Result<(), ApiError> {
        if at.saturating_sub(self.since) >= GENERATION {
            self.previous = std::mem::take(&mut self.current);
            self.since = at;
        }
        if self.previous.contains(nonce) || !self.current.insert(nonce.to_owned()) {
            return Err(ApiError::new(400, "SignatureNonceUsed", "Specified signature nonce was used already."));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonce_is_accepted_once() {
        let mut nonces = Nonces::default();
        assert!(nonces.consume("a", Duration::ZERO).is_ok());
        assert_eq!(nonces.consume("a", Duration::from_mins(29)).unwrap_err().code, "SignatureNonceUsed");
        assert!(nonces.consume("b", Duration::from_mins(31)).is_ok());
        assert!(nonces.consume("a", Duration::from_mins(32)).is_err());
        assert!(nonces.consume("c", Duration::from_mins(62)).is_ok());
        assert!(nonces.consume("a", Duration::from_mins(63)).is_ok());
    }
}
