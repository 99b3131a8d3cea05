//! Estimates the calls, traffic and time of a run.

use std::{num::NonZeroU64, time::Duration};

use super::CheckTotals;

/// Call bytes per photo byte: Base64 (4/3), then percent-encoding (17/16).
const CALL_BYTES_PER_PHOTO_BYTE: f64 = 4.0 / 3.0 * 17.0 / 16.0;
/// Bytes of a call without its photo.
const CALL_OVERHEAD_BYTES: u64 = 1_000;

/// Estimate for a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forecast {
    /// AddFaceRecord calls.
    pub calls: u64,
    /// Bytes of all calls.
    pub bytes: u64,
    /// Duration at the quota.
    pub at_quota: Duration,
    /// Duration at `--bwlimit`, if there is one.
    pub at_bwlimit: Option<Duration>,
    /// Upload bandwidth at the quota, in bits a second.
    pub bits_per_second: f64,
    /// Photos a second that this machine can fit; `None` if no photo needs fitting.
    pub fits_per_second: Option<f64>,
}

impl Forecast {
    /// Estimates a run at `qps` calls and `bwlimit` bytes a second on `processors` processors.
    pub fn new(totals: &CheckTotals, qps: f64, bwlimit: Option<NonZeroU64>, processors: usize) -> Self {
        let calls = totals.good;
        let bytes = (totals.sent_bytes as f64 * CALL_BYTES_PER_PHOTO_BYTE) as u64 + calls * CALL_OVERHEAD_BYTES;
        let fits = totals.fitting.as_secs_f64();
        Self {
            calls,
            bytes,
            at_quota: Duration::from_secs_f64(calls as f64 / qps),
            at_bwlimit: bwlimit.map(|rate| Duration::from_secs_f64(bytes as f64 / rate.get() as f64)),
            bits_per_second: if calls > 0 { bytes as f64 / calls as f64 * qps * 8.0 } else { 0.0 },
            fits_per_second: (fits > 0.0).then(|| totals.fitted() as f64 / fits * processors as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn photos_of_80_kb_take_46_mbit_a_second() {
        let totals = CheckTotals {
            rows: 1_000,
            good: 1_000,
            unchanged: 1_000,
            sent_bytes: 80_000_000,
            ..CheckTotals::default()
        };
        let forecast = Forecast::new(&totals, 50.0, None, 2);
        assert_eq!((forecast.calls, forecast.at_quota.as_secs()), (1_000, 20));
        assert!((45e6..47e6).contains(&forecast.bits_per_second), "{}", forecast.bits_per_second);
        assert_eq!(forecast.fits_per_second, None);
        let limited = Forecast::new(&totals, 50.0, NonZeroU64::new(1 << 20), 2);
        assert_eq!((limited.at_quota.as_secs(), limited.at_bwlimit.map(|at| at.as_secs())), (20, Some(109)));
        let fitted = CheckTotals { unchanged: 0, fitting: Duration::from_secs(50), ..totals };
        assert_eq!(Forecast::new(&fitted, 50.0, None, 2).fits_per_second, Some(40.0));
    }
}
