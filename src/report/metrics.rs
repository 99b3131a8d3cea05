//! Metrics of a run in the Prometheus text format (prometheus.io, "Exposition formats", version 0.0.4).

use std::fmt::Write;

use super::Snapshot;

/// Renders the metrics. `exit_code` is set when the run has ended.
pub fn metrics(snapshot: &Snapshot, quota: f64, exit_code: Option<u8>) -> String {
    let (counts, totals) = (&snapshot.counts, &snapshot.totals);
    let mut text = String::new();
    let mut family = |name: &str, kind: &str, help: &str, samples: &[(&str, f64)]| {
        let _ = writeln!(text, "# HELP face_enroll_{name} {help}\n# TYPE face_enroll_{name} {kind}");
        for (labels, value) in samples {
            let _ = writeln!(text, "face_enroll_{name}{labels} {value}");
        }
    };
    let states = [
        ("{state=\"enrolled\"}", counts.enrolled as f64),
        ("{state=\"rejected\"}", counts.rejected as f64),
        ("{state=\"failed\"}", counts.failed as f64),
        ("{state=\"in_doubt\"}", counts.in_doubt as f64),
        ("{state=\"pending\"}", counts.pending as f64),
    ];
    family("rows", "gauge", "Rows in the checkpoint by state.", &states);
    family("changed_rows", "gauge", "Enrolled rows whose photo has changed since.", &[("", counts.changed as f64)]);
    family("vanished_rows", "gauge", "Rows that are no longer in any manifest.", &[("", counts.vanished as f64)]);
    family("calls_total", "counter", "AddFaceRecord calls of this run.", &[("", totals.calls as f64)]);
    family("throttled_total", "counter", "AddFaceRecord calls that were throttled.", &[("", totals.throttled as f64)]);
    let quantile = |share: f64| totals.latencies.quantile(share).map_or(f64::NAN, |ms| ms as f64 / 1_000.0);
    let latencies = [("{quantile=\"0.5\"}", quantile(0.5)), ("{quantile=\"0.99\"}", quantile(0.99))];
    family("answer_seconds", "gauge", "Response time of AddFaceRecord by quantile.", &latencies);
    family("queries_total", "counter", "Query calls of this run.", &[("", totals.queries as f64)]);
    family("newly_enrolled_total", "counter", "Rows enrolled by this run.", &[("", totals.newly_enrolled as f64)]);
    family("allowed_calls_per_second", "gauge", "Current rate limit in calls per second.", &[("", snapshot.rate)]);
    family("quota_calls_per_second", "gauge", "Configured quota (--qps) in calls per second.", &[("", quota)]);
    family("elapsed_seconds", "gauge", "Time since the start of this run.", &[("", totals.elapsed_s)]);
    let is_running = f64::from(u8::from(exit_code.is_none()));
    family("running", "gauge", "1 while the run is in progress.", &[("", is_running)]);
    if let Some(code) = exit_code {
        family("exit_code", "gauge", "Exit code of the last run (README, exit codes).", &[("", f64::from(code))]);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Bottleneck, Counts, RunTotals};

    #[test]
    fn metrics_are_in_the_text_format() {
        let snapshot = Snapshot {
            counts: Counts { total: 3, enrolled: 2, pending: 1, ..Counts::default() },
            totals: RunTotals { calls: 2, newly_enrolled: 2, elapsed_s: 1.5, ..RunTotals::default() },
            rate: 49.5,
            bottleneck: Bottleneck::Quota,
        };
        insta::assert_snapshot!(metrics(&snapshot, 50.0, Some(8)).lines().filter(|l| !l.starts_with('#')).collect::<Vec<_>>().join("\n"), @r#"
        face_enroll_rows{state="enrolled"} 2
        face_enroll_rows{state="rejected"} 0
        face_enroll_rows{state="failed"} 0
        face_enroll_rows{state="in_doubt"} 0
        face_enroll_rows{state="pending"} 1
        face_enroll_changed_rows 0
        face_enroll_vanished_rows 0
        face_enroll_calls_total 2
        face_enroll_throttled_total 0
        face_enroll_answer_seconds{quantile="0.5"} NaN
        face_enroll_answer_seconds{quantile="0.99"} NaN
        face_enroll_queries_total 0
        face_enroll_newly_enrolled_total 2
        face_enroll_allowed_calls_per_second 49.5
        face_enroll_quota_calls_per_second 50
        face_enroll_elapsed_seconds 1.5
        face_enroll_running 0
        face_enroll_exit_code 8
        "#);
        let running = metrics(&snapshot, 50.0, None);
        assert!(running.contains("face_enroll_running 1\n") && !running.contains("exit_code"), "{running}");
    }
}
