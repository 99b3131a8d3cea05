//! Clocks of the sandbox: a monotonic one for quota and journal, and a wall clock that may be wrong on purpose.

use std::time::{Duration, Instant, SystemTime};

use jiff::{SignedDuration, Timestamp};

use super::response::ApiError;

/// Largest difference between `x-acs-date` and the service's clock (help page 48054: 15 minutes).
const DATE_TOLERANCE: SignedDuration = SignedDuration::from_mins(15);

/// The only date format that the gateway accepts, as in `2026-11-23T04:05:06Z`.
const DATE_SHAPE: &[u8] = b"dddd-dd-ddTdd:dd:ddZ";

/// Last time that `httpdate` can format: 9998-12-31T23:59:59Z.
const LAST_HTTP_DATE: Timestamp = Timestamp::constant(253_370_764_799, 0);

#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    started: Instant,
    offset: SignedDuration,
}

impl Clock {
    pub(super) fn start(offset: SignedDuration) -> Self {
        Self { started: Instant::now(), offset }
    }

    /// Time since the sandbox started.
    pub(super) fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// Wall-clock time of the sandbox.
    pub(super) fn now(&self) -> Timestamp {
        let now = Timestamp::now();
        now.checked_add(self.offset).unwrap_or(now).min(LAST_HTTP_DATE)
    }

    /// Value of the `Date` header of a response.
    pub(super) fn http_date(&self) -> String {
        httpdate::fmt_http_date(SystemTime::from(self.now()))
    }

    /// Checks the format of a request date and its distance from now.
    pub(super) fn check_date(&self, date: &str) -> Result<(), ApiError> {
        check_date(date, self.now())
    }
}

fn check_date(date: &str, now: Timestamp) -> Result<(), ApiError> {
    let has_shape = date.len() == DATE_SHAPE.len()
        && date.bytes().zip(DATE_SHAPE).all(|(b, &shape)| if shape == b'd' { b.is_ascii_digit() } else { b == shape });
    let parsed = if has_shape { date.parse::<Timestamp>().ok() } else { None };
    let Some(parsed) = parsed else {
        return Err(ApiError::new(
            400,
            "InvalidTimeStamp.Format",
            "Specified time stamp or date value is not well formatted.",
        ));
    };
    if now.duration_since(parsed).abs() > DATE_TOLERANCE {
        return Err(ApiError::new(400, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn far_future_clock_still_formats_a_date() {
        for years in [7_972, 7_973, 9_000, i64::from(u32::MAX)] {
            let clock = Clock::start(SignedDuration::from_secs(years * 365 * 86_400));
            assert!(clock.http_date().ends_with(" GMT"), "{years}");
        }
    }

    #[test]
    fn date_is_accepted_within_15_minutes() {
        let now: Timestamp = "2026-11-23T04:05:06Z".parse().unwrap();
        let code = |date: &str| check_date(date, now).err().map(|error| error.code);
        for date in ["2026-11-23T04:05:06Z", "2026-11-23T04:20:06Z", "2026-11-23T03:50:06Z"] {
            assert_eq!(code(date), None, "{date}");
        }
        for date in ["2026-11-23T04:20:07Z", "2026-11-23T03:50:05Z", "2025-11-23T04:05:06Z"] {
            assert_eq!(code(date).as_deref(), Some("InvalidTimeStamp.Expired"), "{date}");
        }
        for date in ["", "2026-11-23T04:05:06.000Z", "2026-11-23 04:05:06Z", "20261123T040506Z", "2026-13-23T04:05:06Z"]
        {
            assert_eq!(code(date).as_deref(), Some("InvalidTimeStamp.Format"), "{date}");
        }
    }
}
