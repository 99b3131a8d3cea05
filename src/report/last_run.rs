//! Describes the last run for `status`, while it is in progress or afterwards.

use std::time::Duration;

use super::format::{duration, group_digits, plural, utc};
use crate::{checkpoint::RunSummaryRow, domain::Counts};

/// Describes a run in one or two lines.
pub fn last_run(run: &RunSummaryRow, counts: &Counts) -> String {
    let (totals, is_live) = (run.totals, run.is_live);
    let calls = format!("{}, {} throttled", plural(totals.calls, "call"), group_digits(totals.throttled));
    let since = utc(run.started_ms);
    match (&run.exit_reason, run.exit_code) {
        (Some(reason), Some(code)) if run.ended_ms.is_some() && !is_live => {
            let lasted = duration(Duration::from_millis((run.last_ms() - run.started_ms).unsigned_abs()));
            format!("{since}, for {lasted}: {calls}\n            {reason} (exit {code})")
        }
        (_, _) if is_live && run.paces.len() < 2 => format!("since {since}: it has just started"),
        (_, _) if is_live => {
            let rate = run.recent_rate();
            let mut parts = vec![format!("{:.1}/s of {}", rate, run.quota.unwrap_or_default())];
            let seconds = counts.pending as f64 / rate;
            let left = Duration::try_from_secs_f64(seconds).ok().filter(|_| counts.pending > 0);
            parts.extend(left.map(|left| format!("{} left", duration(left))));
            parts.extend(run.limited_by.as_ref().map(|what| format!("limited by {what}")));
            format!("since {since}: {calls}\n            {}", parts.join(" · "))
        }
        (_, _) => format!(
            "since {since}, last update {}: {calls}\n            ended without recording a result (killed?); run again: in-flight items are checked first",
            utc(run.last_ms())
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{checkpoint::RateSample, domain::Latencies};

    fn run() -> RunSummaryRow {
        let at = |at_ms: i64, calls| RateSample {
            at_ms: 1_790_000_000_000 + at_ms,
            calls,
            throttled: 3,
            newly_enrolled: calls,
        };
        RunSummaryRow {
            run_id: "r".into(),
            started_ms: 1_790_000_000_000,
            ended_ms: None,
            exit_code: None,
            exit_reason: None,
            quota: Some(50.0),
            limited_by: Some("the quota".into()),
            is_live: false,
            totals: at(660_000, 12_940),
            latencies: Latencies::default(),
            paces: vec![at(0, 0), at(600_000, 10_000), at(660_000, 12_940)],
        }
    }

    #[test]
    fn last_run_is_live_ended_or_killed() {
        let counts = Counts { pending: 490_000, ..Counts::default() };
        insta::assert_snapshot!(last_run(&RunSummaryRow { is_live: true, ..run() }, &counts), @"
        since 2026-09-21T14:13:20Z: 12,940 calls, 3 throttled
                    49.0/s of 50 · 2h 46m left · limited by the quota
        ");
        insta::assert_snapshot!(last_run(&run(), &counts), @"
        since 2026-09-21T14:13:20Z, last update 2026-09-21T14:24:20Z: 12,940 calls, 3 throttled
                    ended without recording a result (killed?); run again: in-flight items are checked first
        ");
        let (exit_code, exit_reason) = (Some(10), Some("stopped by --max-duration; run again to continue".into()));
        let ended = RunSummaryRow { ended_ms: Some(1_790_000_700_000), exit_code, exit_reason, ..run() };
        insta::assert_snapshot!(last_run(&ended, &counts), @"
        2026-09-21T14:13:20Z, for 11m 40s: 12,940 calls, 3 throttled
                    stopped by --max-duration; run again to continue (exit 10)
        ");
    }
}
