//! Value parsers that several commands share.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use jiff::{Span, SpanRelativeTo, Timestamp, Zoned, civil::DateTime};

use crate::domain::{ItemState, MerchantUserId, ObjectRef};

/// A clock plus this much is still a valid date.
const MAX_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

pub(super) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let parsed = text.parse::<Span>().and_then(|span| span.to_duration(SpanRelativeTo::days_are_24_hours()));
    match parsed.and_then(Duration::try_from) {
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

/// A moment: how long ago, a local date or time, or a time with its offset.
pub(super) fn moment(text: &str) -> Result<Timestamp, String> {
    moment_before(text, &Zoned::now())
}

fn moment_before(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    if let Ok(ago) = duration(text) {
        return now.timestamp().checked_sub(ago).map_err(|error| error.to_string());
    }
    let local = || text.parse::<DateTime>().and_then(|local| local.to_zoned(now.time_zone().clone()));
    text.parse().or_else(|_| local().map(|local| local.timestamp())).map_err(|_| {
        "expected how long ago (30m, 12h, 3d), or a time such as \"2026-11-23 08:30\" (local) or 2026-11-23T08:30:00Z"
            .to_owned()
    })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duration_has_units_up_to_days() {
        for (text, ms) in [
            ("0", 0),
            ("0s", 0),
            ("60ms", 60),
            ("90s", 90_000),
            ("5m", 300_000),
            ("5min", 300_000),
            ("2h30m", 9_000_000),
            ("2h 30m", 9_000_000),
            ("1d", 86_400_000),
            ("2days", 172_800_000),
            ("1w", 604_800_000),
            ("100000h", 360_000_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "5", "-5m", "5m ago", "1 month", "5x", "200000d"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn moment_is_an_age_or_a_local_or_absolute_time() {
        let now: Zoned = "2026-11-23T12:00:00+08:00[+08:00]".parse().unwrap();
        for (text, utc) in [
            ("30m", "2026-11-23T03:30:00Z"),
            ("12h", "2026-11-22T16:00:00Z"),
            ("3d", "2026-11-20T04:00:00Z"),
            ("2026-11-23", "2026-11-22T16:00:00Z"),
            ("2026-11-23 08:30", "2026-11-23T00:30:00Z"),
            ("2026-11-23T08:30:15", "2026-11-23T00:30:15Z"),
            ("2026-11-23T08:30:00Z", "2026-11-23T08:30:00Z"),
            ("2026-11-23T08:30:00+01:00", "2026-11-23T07:30:00Z"),
        ] {
            assert_eq!(moment_before(text, &now), Ok(utc.parse().unwrap()), "{text}");
        }
        for bad in ["", "yesterday", "30", "2026-11", "08:30", "2026-02-30"] {
            assert!(moment_before(bad, &now).is_err(), "{bad}");
        }
    }
}
