//! What a run of it would take.

use std::time::Duration;

use super::CheckTotals;

/// Bytes of a call for each byte of its photo: Base64 (4/3), percent-encoded (17/16).
const CALL_PER_BYTE: f64 = 4.0 / 3.0 * 17.0 / 16.0;
/// What a call has beside its photo.
const CALL_OVERHEAD: u64 = 1_000;

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// Calls of AddFaceRecord.
    pub calls: u64,
    /// Bytes of them all.
    pub bytes: u64,
    /// At the quota.
    pub at_quota: Duration,
    /// Bits a second that the quota takes on the line.
    pub bits_per_second: f64,
    /// Photos a second that this machine can fit; none: there is nothing to fit.
    pub fits_per_second: Option<f64>,
}

impl Forecast {
    /// With so many calls a second, on a machine of so many processors.
    pub fn of(survey: &CheckTotals, qps: f64, processors: usize) -> Self {
        let calls = survey.good;
        let bytes = (survey.sent_bytes as f64 * CALL_PER_BYTE) as u64 + calls * CALL_OVERHEAD;
        let fits = survey.fitting.as_secs_f64();
        Self {
            calls,
            bytes,
            at_quota: Duration::from_secs_f64(calls as f64 / qps),
            bits_per_second: if calls > 0 { bytes as f64 / calls as f64 * qps * 8.0 } else { 0.0 },
            fits_per_second: (fits > 0.0).then(|| survey.fitted() as f64 / fits * processors as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photos_of_80_kb_at_the_quota_take_46_mbit_a_second() {
        let survey = CheckTotals {
            rows: 1_000,
            good: 1_000,
            as_they_are: 1_000,
            sent_bytes: 80_000_000,
            ..CheckTotals::default()
        };
        let forecast = Forecast::of(&survey, 50.0, 2);
        assert_eq!((forecast.calls, forecast.at_quota.as_secs()), (1_000, 20));
        assert!((45e6..47e6).contains(&forecast.bits_per_second), "{}", forecast.bits_per_second);
        assert_eq!(forecast.fits_per_second, None);
        let fitted = CheckTotals { as_they_are: 0, fitting: Duration::from_secs(50), ..survey };
        assert_eq!(Forecast::of(&fitted, 50.0, 2).fits_per_second, Some(40.0));
    }
}
