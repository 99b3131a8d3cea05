//! A key that was given for a time.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::error::FetchError;
use crate::{api::RawResponse, domain::unquoted, secret::AccessKey};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct TemporaryCredentials {
    pub(super) key: AccessKey,
    /// When it ends, by a clock that nobody sets. None: it has no end.
    pub(super) ends: Option<Ttl>,
    /// The role that it speaks for.
    pub(super) role: Option<String>,
}

/// How long a key holds, and from when on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ttl {
    pub(super) from: Instant,
    pub(super) length: Duration,
}

/// As STS, the metadata service and a credentials URI spell it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct GrantResponse {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
}

/// What the metadata service and a credentials URI answer with: none, where it is no success.
pub(super) fn successful(body: &[u8]) -> Option<GrantResponse> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Code")]
        code: String,
        #[serde(flatten)]
        told: GrantResponse,
    }
    let Answer { code, told } = serde_json::from_slice(body).ok()?;
    (code == "Success").then_some(told)
}

impl TemporaryCredentials {
    /// What was told. `from`: when it was asked for.
    pub(super) fn told(
        told: GrantResponse,
        role: Option<String>,
        answer: &RawResponse,
        from: Instant,
    ) -> Result<Self, FetchError> {
        let GrantResponse { access_key_id, access_key_secret, security_token, expiration } = told;
        let key = key(&access_key_id, &access_key_secret, Some(&security_token))
            .ok_or_else(|| FetchError::Unusable("the key that was given lacks a part".to_owned()))?;
        // By the clock of whoever gave it: ours may be wrong.
        let now = answer.server_date().unwrap_or_else(Timestamp::now);
        Ok(Self { key, ends: Some(Ttl { from, length: life(&expiration, now)? }), role })
    }
}

/// From now to the end that was told.
pub(super) fn life(expiration: &str, now: Timestamp) -> Result<Duration, FetchError> {
    let ends = end(expiration)
        .ok_or_else(|| FetchError::Unusable("the key that was given has an end that can't be read".to_owned()))?;
    Duration::try_from(ends.duration_since(now))
        .ok()
        .filter(|life| !life.is_zero())
        .ok_or_else(|| FetchError::Unusable("the key that was given has expired already".to_owned()))
}

/// `9999-12-31T23:59:59Z`, which some write for never, is later than any timestamp there is.
fn end(expiration: &str) -> Option<Timestamp> {
    let never = || expiration.starts_with("9999-12-3").then_some(Timestamp::MAX);
    expiration.parse().ok().or_else(never)
}

/// None: a part of it is missing, or no request can carry it.
pub(super) fn key(id: &str, secret: &str, token: Option<&str>) -> Option<AccessKey> {
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
    fn key_that_never_ends_holds_for_ever() {
        for end in ["9999-12-31T23:59:59Z", "9999-12-30T22:00:00Z", "9999-12-31T23:59:59+08:00"] {
            assert!(life(end, Timestamp::now()).unwrap() > Duration::from_secs(7_000 * 365 * 86_400), "{end}");
        }
    }

    proptest! {
        #[test]
        fn no_date_panics(year in 0_u32..12_000, month in 0_u32..14, day in 0_u32..33, now in any::<i64>(), tail in "Z|\\+14:00|-25:59|") {
            let date = format!("{year:04}-{month:02}-{day:02}T23:59:60{tail}");
            let now = Timestamp::from_second(now.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second())).unwrap();
            let from = Instant::now();
            if let Ok(length) = life(&date, now) {
                let key = AccessKey::new("i".into(), "s".into(), None);
                let grant = TemporaryCredentials { key, ends: Some(Ttl { from, length }), role: None };
                super::super::renewal::RefreshingCredentials::new(&grant, None);
            }
        }

        #[test]
        fn no_date_of_an_answer_panics(date in "(Mon|Fri), [0-3][0-9] (Jan|Dec) [0-9]{4} [0-2][0-9]:[0-5][0-9]:[0-6][0-9] GMT") {
            RawResponse { date: Some(date), ..RawResponse::default() }.server_date();
        }
    }
}
