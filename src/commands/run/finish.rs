//! Last step of a run: record how it ended, then report it. The counts are read after the writer has put the items that
//! were in flight in doubt, so the checkpoint is updated first and read second.

use std::path::Path;

use super::{Run, RunResult};
use crate::{
    checkpoint::{Checkpoint, Reader, SqliteStore, StoreError},
    cli::ExitOn,
    commands::{
        CliError,
        exit_status::{RunEnd, needs_attention},
        metrics::Metrics,
        sources,
    },
    domain::{Bottleneck, Counts, DrainReason, RunSummary},
    exit::Exit,
    pace::Qps,
    report::{self, Snapshot, Status, Summary},
    run::{IngestError, IngestProgress, RunError},
    telemetry,
};

impl Run<'_> {
    pub(super) async fn finish(
        &self,
        result: RunResult,
        checkpoint: &Checkpoint<SqliteStore>,
        metrics: &Metrics<'_>,
    ) -> Result<Exit, CliError> {
        let RunResult { ran, ingested, damage, totals, learned_rate, stop, run_id, before } = result;
        if matches!(&ingested, Some(Ok(progress)) if progress.is_done && progress.rows == 0) {
            tracing::warn!("the source has no rows: nothing to enrol");
        }
        let failure = first_failure(ran, ingested, self.path).or(damage.map(CliError::from));
        // `end_run` puts in-flight items in doubt, so the counts come after it; it is called again with the exit code.
        let saved = async {
            checkpoint.save_rate(learned_rate.map(Qps::get)).await?;
            checkpoint.record_totals(totals.clone(), Bottleneck::Rows).await?;
            checkpoint.end_run(Exit::Internal.code(), String::new()).await?;
            checkpoint.counts().await
        };
        let (counts, failure) = match saved.await {
            Ok(counts) => (counts, failure),
            // The writer has failed: read what is on disk.
            Err(error) => (self.counts_on_disk(&before), failure.or_else(|| Some(error.into()))),
        };
        let limits = &self.args.limits;
        let end = RunEnd {
            failure: failure.as_ref(),
            drained: stop.reason(),
            totals: &totals,
            before: &before,
            counts: &counts,
            is_canary: limits.canary.is_some(),
            only_new_rejections: limits.exit_on == ExitOn::New,
        };
        let has_new_rejections = end.has_new_rejections();
        let (exit, exit_reason) = end.decide();
        let summary = RunSummary { totals, exit_code: exit.code(), exit_reason };
        let failure = match checkpoint.end_run(summary.exit_code, summary.exit_reason.clone()).await {
            Ok(epoch) => {
                self.lock.remember(epoch);
                failure
            }
            Err(error) => failure.or_else(|| Some(error.into())),
        };
        let last = Snapshot {
            counts: counts.clone(),
            totals: summary.totals.clone(),
            rate: 0.0,
            bottleneck: Bottleneck::Rows,
        };
        metrics.publish_or_warn(self.metrics(&last, Some(summary.exit_code))).await;
        let groups = Reader::open(self.path).and_then(|reader| reader.groups()).unwrap_or_default();
        let object = Summary::new(Status::new(Some(&run_id.0), self.path, &groups, &counts), &summary);
        if self.args.show.json.is_some() {
            report::print_json(&object);
        }
        // A second signal means "quit now": skip --on-finish.
        if !stop.is_forced() {
            let _ = self.summary.set(serde_json::to_string(&object).expect("our own objects are JSON"));
        }
        if matches!(stop.reason(), Some(DrainReason::NoPhotoFound { .. })) || counts.by_code.contains_key("NotFound") {
            sources::point_to_archive(&self.args.read);
        }
        log_end(&summary, &counts);
        if !self.is_quiet {
            telemetry::eprint_plain(&report::run_summary(&run_id, &counts, &summary, self.path));
        } else if failure.is_none() && (has_new_rejections || needs_attention(exit, stop.reason())) {
            telemetry::eprint_plain(&report::quiet_summary(&counts, &summary, self.path));
        }
        failure.map_or(Ok(exit), Err)
    }

    fn counts_on_disk(&self, before: &Counts) -> Counts {
        Reader::open(self.path).and_then(|reader| reader.counts()).unwrap_or_else(|_| before.clone())
    }
}

fn first_failure(
    ran: Result<(), RunError>,
    ingested: Option<Result<IngestProgress, IngestError>>,
    checkpoint: &Path,
) -> Option<CliError> {
    match (ran, ingested) {
        // The writer stops at the first error; a later caller only learns that it has stopped.
        (Err(RunError::Store(StoreError::Stopped)), Some(Err(cause))) => Some(cause.into()),
        (Err(error), _) => Some(error.into()),
        (Ok(()), Some(Err(error))) => Some(error.into()),
        (Ok(()), Some(Ok(IngestProgress { rows: 1.., parsed: 0, is_done: true, .. }))) => Some(
            CliError::new(Exit::Source, "no row of the source could be read as a photo to enrol").with_hint(format!(
                "list what is wrong: face-enroll export --status rejected --checkpoint {}",
                checkpoint.display()
            )),
        ),
        (Ok(()), Some(Ok(_)) | None) => None,
    }
}

fn log_end(summary: &RunSummary, counts: &Counts) {
    tracing::info!(
        exit = summary.exit_code,
        newly_enrolled = summary.totals.newly_enrolled,
        enrolled = counts.enrolled,
        rejected = counts.rejected,
        failed = counts.failed,
        in_doubt = counts.in_doubt,
        pending = counts.pending,
        calls = summary.totals.calls,
        "{}",
        summary.exit_reason,
    );
}
