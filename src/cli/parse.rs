//! Value parsers that several commands share.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use jiff::Timestamp;

use crate::domain::{ItemState, MerchantUserId, ObjectRef};

/// A clock plus this much is still a valid date.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= MAX_DURATION => Ok(duration),
        Ok(_) => Err("at most 100 years".to_owned()),
        Err(_) => Err("expected a duration such as 90s, 5m, 2h30m or 1d".to_owned()),
    }
}

pub(super) fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    port.or_else(|_| text.parse())
        .map_err(|_| "expected a port, or an address and a port such as 127.0.0.1:9187".to_owned())
}

/// A bucket and the folder of its objects.
pub(super) fn bucket(text: &str) -> Result<(String, PathBuf), String> {
    let (name, folder) = text.split_once('=').ok_or("expected NAME=DIR")?;
    let place: ObjectRef = format!("oss://{name}/").parse().map_err(|error| format!("{name} {error}"))?;
    match PathBuf::from(folder) {
        folder if folder.is_dir() && place.bucket == name => Ok((place.bucket, folder)),
        folder => Err(format!("{} is not a directory", folder.display())),
    }
}

pub(super) fn timestamp(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|_| "expected a time such as 2026-11-23T12:00:00Z".to_owned())
}

/// Any id that a checkpoint may hold, also one that a manifest could not give today.
pub(super) fn recorded_id(text: &str) -> Result<MerchantUserId, String> {
    MerchantUserId::parse_recorded(text).map_err(|error| error.to_string())
}

pub(super) fn retryable_state(text: &str) -> Result<ItemState, String> {
    match state(text) {
        Ok(state @ (ItemState::Failed | ItemState::Rejected)) => Ok(state),
        Ok(_) | Err(_) => Err("expected failed or rejected".to_owned()),
    }
}

pub(super) fn state(text: &str) -> Result<ItemState, String> {
    let named = ItemState::ALL.into_iter().find(|state| state.name() == text);
    named.ok_or_else(|| "expected one of pending, in_doubt, enrolled, rejected, failed".to_owned())
}
