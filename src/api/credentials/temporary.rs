//! Access keys that expire.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::error::FetchError;
use crate::{api::RawResponse, domain::unquoted, secret::AccessKey};

/// A key with its expiry and role.
#[derive(Debug, Clone)]
pub(super) struct TemporaryCredentials {
    pub(super) key: AccessKey,
    /// Lifetime on the monotonic clock. `None` if the key does not expire.
    pub(super) ttl: Option<Ttl>,
    /// Role that the key acts as.
    pub(super) role: Option<String>,
}

/// Lifetime of a key and its start.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ttl {
    pub(super) from: Instant,
    pub(super) length: Duration,
}

/// A key as STS, the metadata service and a credentials URI return it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GrantResponse {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
}

/// Parses the response of the metadata service or a credentials URI; `None` unless it is a success.
pub(super) fn parse_success(body: &[u8]) -> Option<GrantResponse> {
    #[derive(Deserialize)]
    struct Response {
        #[serde(rename = "Code")]
        code: String,
        #[serde(flatten)]
        grant: GrantResponse,
    }
    let Response { code, grant } = serde_json::from_slice(body).ok()?;
    (code == "Success").then_some(grant)
}

impl TemporaryCredentials {
    /// Credentials from a response to a request made at `from`.
    pub(super) fn from_response(
        grant: GrantResponse,
        role: Option<String>,
        response: &RawResponse,
        from: Instant,
    ) -> Result<Self, FetchError> {
        let GrantResponse { access_key_id, access_key_secret, security_token, expiration } = grant;
        let key = access_key(&access_key_id, &access_key_secret, Some(&security_token))
            .ok_or_else(|| FetchError::Unusable("the returned key is incomplete".to_owned()))?;
        // Use the issuer's clock, because ours may be wrong.
        let now = response.server_date().unwrap_or_else(Timestamp::now);
        Ok(Self { key, ttl: Some(Ttl { from, length: parse_ttl(&expiration, now)? }), role })
    }
}

/// Time from `now` to the expiration.
pub(super) fn parse_ttl(expiration: &str, now: Timestamp) -> Result<Duration, FetchError> {
    let expires_at = parse_expiration(expiration)
        .ok_or_else(|| FetchError::Unusable("the returned key has an invalid expiration".to_owned()))?;
    Duration::try_from(expires_at.duration_since(now))
        .ok()
        .filter(|ttl| !ttl.is_zero())
        .ok_or_else(|| FetchError::Unusable("the returned key has already expired".to_owned()))
}

/// Some write `9999-12-31T23:59:59Z` for never, which is later than the largest timestamp.
fn parse_expiration(expiration: &str) -> Option<Timestamp> {
    let never = || expiration.starts_with("9999-12-3").then_some(Timestamp::MAX);
    expiration.parse().ok().or_else(never)
}

/// Builds a key; `None` if a part is missing or contains characters that no header can carry.
pub(super) fn access_key(id: &str, secret: &str, token: Option<&str>) -> Option<AccessKey> {
    let is_usable = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    let (id, secret, token) = (unquoted(id), unquoted(secret), token.map(unquoted));
    let parts = [Some(id), Some(secret), token];
    parts
        .into_iter()
        .flatten()
        .all(is_usable)
        .then(|| AccessKey::new(id.to_owned(), secret.into(), token.map(Into::into)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn year_9999_never_expires() {
        for end in ["9999-12-31T23:59:59Z", "9999-12-30T22:00:00Z", "9999-12-31T23:59:59+08:00"] {
            assert!(parse_ttl(end, Timestamp::now()).unwrap() > Duration::from_secs(7_000 * 365 * 86_400), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_expiration_panics(year in 0_u32..12_000, month in 0_u32..14, day in 0_u32..33, now in any::<i64>(), tail in "Z|\\+14:00|-25:59|") {
            let date = format!("{year:04}-{month:02}-{day:02}T23:59:60{tail}");
            let now = Timestamp::from_second(now.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second())).unwrap();
            let from = Instant::now();
            if let Ok(length) = parse_ttl(&date, now) {
                let key = AccessKey::new("i".into(), "s".into(), None);
                let grant = TemporaryCredentials { key, ttl: Some(Ttl { from, length }), role: None };
                super::super::refresh::RefreshingCredentials::new(&grant, None);
            }
        }

        #[test]
        fn no_date_header_panics(date in "(Mon|Fri), [0-3][0-9] (Jan|Dec) [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT") {
            RawResponse { date: Some(date), ..RawResponse::default() }.server_date();
        }
    }
}
