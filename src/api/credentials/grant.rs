//! A key that was given for a time.

use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::Instant;

use super::error::FetchError;
use crate::{api::RawAnswer, secret::AccessKey};

/// See the module.
#[derive(Debug, Clone)]
pub(super) struct Grant {
    pub(super) key: AccessKey,
    /// When it ends, by a clock that nobody sets. None: it has no end.
    pub(super) ends: Option<Life>,
    /// The role that it speaks for.
    pub(super) role: Option<String>,
}

/// How long a key holds, and from when on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Life {
    pub(super) from: Instant,
    pub(super) length: Duration,
}

/// As STS, the metadata service and a credentials URI spell it.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Told {
    access_key_id: String,
    access_key_secret: String,
    security_token: String,
    expiration: String,
}

/// What the metadata service and a credentials URI answer with: none, where it is no success.
pub(super) fn successful(body: &[u8]) -> Option<Told> {
    #[derive(Deserialize)]
    struct Answer {
        #[serde(rename = "Code")]
        code: String,
        #[serde(flatten)]
        told: Told,
    }
    let Answer { code, told } = serde_json::from_slice(body).ok()?;
    (code == "Success").then_some(told)
}

impl Grant {
    /// What was told. `from`: when it was asked for.
    pub(super) fn told(
        told: Told,
        role: Option<String>,
        answer: &RawAnswer,
        from: Instant,
    ) -> Result<Self, FetchError> {
        let Told { access_key_id, access_key_secret, security_token, expiration } = told;
        let key = key(&access_key_id, &access_key_secret, Some(&security_token))
            .ok_or_else(|| FetchError::Unusable("the key that was given lacks a part".to_owned()))?;
        // By the clock of whoever gave it: ours may be wrong.
        let now = answer.told_time().unwrap_or_else(Timestamp::now);
        Ok(Self { key, ends: Some(Life { from, length: life(&expiration, now)? }), role })
    }
}

/// From now to the end that was told.
pub(super) fn life(expiration: &str, now: Timestamp) -> Result<Duration, FetchError> {
    let ends: Timestamp = expiration
        .parse()
        .map_err(|_| FetchError::Unusable("the key that was given has an end that can't be read".to_owned()))?;
    Duration::try_from(ends.duration_since(now))
        .ok()
        .filter(|life| !life.is_zero())
        .ok_or_else(|| FetchError::Unusable("the key that was given has expired already".to_owned()))
}

/// None: a part of it is missing, or no request can carry it.
pub(super) fn key(id: &str, secret: &str, token: Option<&str>) -> Option<AccessKey> {
    let is_usable = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_graphic());
    let parts = [Some(id), Some(secret), token];
    parts
        .into_iter()
        .flatten()
        .all(is_usable)
        .then(|| AccessKey::new(id.to_owned(), secret.into(), token.map(Into::into)))
}
