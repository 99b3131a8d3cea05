//! Used nonces. A signed request is valid for one call.

use std::{collections::HashSet, time::Duration};

use sha2::{Digest as _, Sha256};

use super::response::ApiError;

/// A date is accepted within 15 minutes either way, so a copy of a request stays valid for at most 30 minutes.
const GENERATION: Duration = Duration::from_mins(30);

/// Used nonces in two generations. The older one is dropped once every request in it would fail the date check.
#[derive(Debug, Default)]
pub(super) struct Nonces {
    current: HashSet<[u8; 16]>,
    previous: HashSet<[u8; 16]>,
    since: Duration,
}

impl Nonces {
    /// Marks a nonce as used; fails if it was used before.
    pub(super) fn consume(&mut self, nonce: &str, at: Duration) -> Result<(), ApiError> {
        if at.saturating_sub(self.since) >= GENERATION {
            self.previous = std::mem::take(&mut self.current);
            self.since = at;
        }
        let mut short = [0; 16];
        // Half a hash keeps the set small at thousands of calls per second and is long enough to never collide.
        short.copy_from_slice(&Sha256::digest(nonce.as_bytes())[..16]);
        if self.previous.contains(&short) || !self.current.insert(short) {
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
