//! The objects of `--json` (contract.md, "summary and status"). Fields are added, never renamed.

use std::path::Path;

use serde::Serialize;

use super::format::utc;
use crate::{
    checkpoint::RunSummaryRow,
    domain::{Counts, ItemUpdate, Outcome, RunSummary},
};

/// `{"type": "status", …}`
#[derive(Debug, Serialize)]
pub struct Status<'a> {
    r#type: &'static str,
    run_id: Option<&'a str>,
    checkpoint: &'a Path,
    groups: &'a [String],
    total: u64,
    skipped: u64,
    enrolled: u64,
    rejected: u64,
    failed: u64,
    in_doubt: u64,
    pending: u64,
    changed: u64,
    vanished: u64,
    by_code: &'a std::collections::BTreeMap<String, u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_run: Option<LastRun<'a>>,
}

/// The last run as it recorded itself; only in `status`.
#[derive(Debug, Serialize)]
struct LastRun<'a> {
    run_id: &'a str,
    is_live: bool,
    started_at: String,
    ended_at: Option<String>,
    calls: u64,
    throttled: u64,
    newly_enrolled: u64,
    quota: Option<f64>,
    rate: f64,
    limited_by: Option<&'a str>,
    exit_code: Option<u8>,
    exit_reason: Option<&'a str>,
}

impl<'a> Status<'a> {
    /// The rows of a checkpoint by state.
    pub fn new(run_id: Option<&'a str>, checkpoint: &'a Path, groups: &'a [String], counts: &'a Counts) -> Self {
        Self {
            r#type: "status",
            run_id,
            checkpoint,
            groups,
            total: counts.total,
            skipped: counts.skipped,
            enrolled: counts.enrolled,
            rejected: counts.rejected,
            failed: counts.failed,
            in_doubt: counts.in_doubt,
            pending: counts.pending,
            changed: counts.changed,
            vanished: counts.vanished,
            by_code: &counts.by_code,
            last_run: None,
        }
    }

    /// Adds the last run.
    pub fn with_run(self, run: &'a RunSummaryRow) -> Self {
        let (totals, is_live) = (run.totals, run.is_live);
        let last_run = LastRun {
            run_id: &run.run_id,
            is_live,
            started_at: utc(run.started_ms),
            ended_at: run.ended_ms.filter(|_| !is_live).map(utc),
            calls: totals.calls,
            throttled: totals.throttled,
            newly_enrolled: totals.newly_enrolled,
            quota: run.quota,
            rate: if is_live { run.recent_rate() } else { 0.0 },
            limited_by: run.limited_by.as_deref().filter(|_| is_live),
            exit_code: run.exit_code.filter(|_| !is_live),
            exit_reason: run.exit_reason.as_deref().filter(|_| !is_live),
        };
        Self { last_run: Some(last_run), ..self }
    }
}

/// `{"type": "summary", …}`
#[derive(Debug, Serialize)]
pub struct Summary<'a> {
    #[serde(flatten)]
    status: Status<'a>,
    newly_enrolled: u64,
    calls: u64,
    throttled: u64,
    queries: u64,
    latency_p50_ms: Option<u64>,
    latency_p99_ms: Option<u64>,
    elapsed_s: f64,
    rate: f64,
    exit_code: u8,
    exit_reason: &'a str,
}

impl<'a> Summary<'a> {
    /// The summary of a run that has ended.
    pub fn new(status: Status<'a>, run: &'a RunSummary) -> Self {
        let millis = |seconds: f64| (seconds * 1_000.0).round() / 1_000.0;
        Self {
            status: Status { r#type: "summary", ..status },
            newly_enrolled: run.totals.newly_enrolled,
            calls: run.totals.calls,
            throttled: run.totals.throttled,
            queries: run.totals.queries,
            latency_p50_ms: run.totals.latencies.quantile(0.5),
            latency_p99_ms: run.totals.latencies.quantile(0.99),
            elapsed_s: millis(run.totals.elapsed_s),
            rate: millis(run.totals.rate),
            exit_code: run.exit_code,
            exit_reason: &run.exit_reason,
        }
    }
}

/// `{"type": "item", …}`: one change of state. Has no id; the row number finds it in the manifest and in an export.
#[derive(Debug, Serialize)]
pub(super) struct ItemLine<'a> {
    r#type: &'static str,
    row: u64,
    status: &'static str,
    stage: Option<&'static str>,
    code: Option<&'a str>,
    message: Option<&'a str>,
    request_id: Option<&'a str>,
    attempts: u32,
    face_quality: Option<&'a str>,
    confirmed_by: Option<&'static str>,
    latency_ms: Option<u64>,
}

impl<'a> From<&'a ItemUpdate> for ItemLine<'a> {
    fn from(report: &'a ItemUpdate) -> Self {
        let mut line = Self {
            r#type: "item",
            row: report.row,
            status: report.outcome.state().name(),
            stage: None,
            code: report.code().map(|code| code.0.as_str()),
            message: None,
            request_id: None,
            attempts: report.attempts,
            face_quality: None,
            confirmed_by: None,
            latency_ms: report.latency.map(|latency| latency.as_millis() as u64),
        };
        match &report.outcome {
            Outcome::Enrolled { confirmed_by, quality, message, request_id, .. } => {
                line.confirmed_by = Some(confirmed_by.name());
                line.face_quality = quality.as_deref();
                line.message = message.as_deref();
                line.request_id = request_id.as_ref().map(|id| id.0.as_str());
            }
            Outcome::Rejected { stage, message, request_id, .. } => {
                line.stage = Some(stage.name());
                line.message = Some(message);
                line.request_id = request_id.as_ref().map(|id| id.0.as_str());
            }
            Outcome::Failed { message, request_id, .. } | Outcome::InDoubt { message, request_id, .. } => {
                line.message = Some(message);
                line.request_id = request_id.as_ref().map(|id| id.0.as_str());
            }
            Outcome::Retry { counts: _ } => {}
        }
        line
    }
}
