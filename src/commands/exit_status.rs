//! Exit code of a run, and the reason for it in a sentence.

use super::{CliError, error::hint};
use crate::{
    domain::{Counts, DrainReason, RunTotals},
    exit::Exit,
    report,
};

/// Everything that decides the exit code of a run.
pub(super) struct RunEnd<'a> {
    pub(super) failure: Option<&'a CliError>,
    pub(super) drained: Option<&'a DrainReason>,
    pub(super) totals: &'a RunTotals,
    /// The rows before the run.
    pub(super) before: &'a Counts,
    /// The rows after the run.
    pub(super) counts: &'a Counts,
    /// Whether `--canary` was given.
    pub(super) is_canary: bool,
    /// Whether `--exit-on new` was given: rows that an earlier run rejected do not count.
    pub(super) only_new_rejections: bool,
}

impl RunEnd<'_> {
    /// Whether this run rejected an item, or read a new row that cannot be parsed.
    pub(super) fn has_new_rejections(&self) -> bool {
        self.totals.newly_rejected > 0 || self.counts.rejected > self.before.rejected
    }

    /// The exit code and the reason.
    pub(super) fn decide(&self) -> (Exit, String) {
        let canary = match self.drained {
            None | Some(DrainReason::MaxImages) if self.is_canary && self.totals.sent > 0 => {
                Some(Canary { totals: self.totals, before: self.before })
            }
            _ => None,
        };
        let run_exit = match &canary {
            Some(canary) => Some(canary.exit(self.counts)),
            None => self.drained.map(exit_for_reason),
        };
        let ignores_rejected = self.only_new_rejections && !self.has_new_rejections();
        let row_exits = exit_for_counts(self.counts)
            .filter(|exit| canary.is_none() && (*exit != Exit::Rejected || !ignores_rejected));
        let exit = Exit::most_severe(self.failure.map(CliError::exit).into_iter().chain(run_exit).chain(row_exits));
        let reason = match &canary {
            Some(canary) if self.failure.is_none() => canary.verdict(),
            Some(_) | None => reason(exit, self.drained, self.failure, self.counts),
        };
        (exit, reason)
    }
}

fn exit_for_reason(reason: &DrainReason) -> Exit {
    match reason {
        DrainReason::Signal(number) => Exit::Signal(*number),
        DrainReason::MaxDuration
        | DrainReason::ServiceUnavailable(_)
        | DrainReason::QuotaUnavailable { .. }
        | DrainReason::ThrottledTooLong(_)
        | DrainReason::Unread { .. } => Exit::TimeUp,
        DrainReason::MaxImages | DrainReason::MaxErrors => Exit::Limit,
        DrainReason::Fatal(_) => Exit::Fatal,
        DrainReason::SourceFailed | DrainReason::NoPhotoFound { .. } => Exit::Source,
        DrainReason::CheckpointCorrupt | DrainReason::CheckpointRemoved | DrainReason::LockGone => Exit::Checkpoint,
    }
}

fn exit_for_counts(counts: &Counts) -> impl Iterator<Item = Exit> {
    let all = [
        (counts.to_remove, Exit::TimeUp),
        (counts.in_doubt, Exit::InDoubt),
        (counts.failed, Exit::Failed),
        (counts.rejected.saturating_sub(counts.vanished_rejected), Exit::Rejected),
    ];
    all.into_iter().filter(|(n, _)| *n > 0).map(|(_, exit)| exit)
}

/// Whether someone must act: false after success, and after a stop that was asked for.
pub(super) fn needs_attention(exit: Exit, drained: Option<&DrainReason>) -> bool {
    let was_requested = match drained {
        Some(DrainReason::Signal(_) | DrainReason::MaxDuration | DrainReason::MaxImages) => true,
        Some(
            DrainReason::MaxErrors
            | DrainReason::ServiceUnavailable(_)
            | DrainReason::QuotaUnavailable { .. }
            | DrainReason::ThrottledTooLong(_)
            | DrainReason::Unread { .. }
            | DrainReason::Fatal(_)
            | DrainReason::SourceFailed
            | DrainReason::NoPhotoFound { .. }
            | DrainReason::CheckpointCorrupt
            | DrainReason::CheckpointRemoved
            | DrainReason::LockGone,
        )
        | None => false,
    };
    match exit {
        Exit::Success => false,
        Exit::Signal(_) | Exit::Limit | Exit::TimeUp => !was_requested,
        Exit::Internal
        | Exit::Usage
        | Exit::Source
        | Exit::Failed
        | Exit::Rejected
        | Exit::Fatal
        | Exit::Locked
        | Exit::InDoubt
        | Exit::Checkpoint => true,
    }
}

fn reason(exit: Exit, drained: Option<&DrainReason>, failure: Option<&CliError>, counts: &Counts) -> String {
    let rows = |n: u64, what: &str| format!("{} {what}", report::plural_is(n, "row"));
    match exit {
        Exit::Success if counts.rejected > 0 && counts.rejected == counts.vanished_rejected => {
            format!("Finished; {}", rows(counts.rejected, "rejected, but no longer in the manifest"))
        }
        Exit::Success if counts.rejected > 0 => {
            format!("Finished; {}", rows(counts.rejected, "rejected, all of them by earlier runs"))
        }
        Exit::Success if counts.skipped > 0 => format!("Every row is enrolled; {}", report::skipped(counts.skipped)),
        Exit::Success => "Every row is enrolled".into(),
        Exit::Internal | Exit::Usage | Exit::Source | Exit::Locked | Exit::Checkpoint => {
            failure.map_or_else(|| drain_sentence(drained, counts), |failure| failure.to_string().replace("\n ", ";"))
        }
        Exit::Fatal | Exit::Limit | Exit::TimeUp | Exit::Signal(_) => drain_sentence(drained, counts),
        Exit::InDoubt => rows(counts.in_doubt, "still in doubt"),
        Exit::Failed => {
            let have = if counts.failed == 1 { "has" } else { "have" };
            format!("Finished; {} {have} failed: a retry may help", report::plural(counts.failed, "row"))
        }
        Exit::Rejected => format!("Finished; {}", rows(counts.rejected, "rejected: running again does not help")),
    }
}

fn drain_sentence(drained: Option<&DrainReason>, counts: &Counts) -> String {
    match drained {
        Some(DrainReason::Signal(number)) => format!("stopped by signal {number}; run again to continue"),
        Some(DrainReason::MaxDuration) => "stopped by --max-duration; run again to continue".into(),
        Some(DrainReason::MaxImages) => "stopped by --max-images; run again to continue".into(),
        Some(DrainReason::MaxErrors) => "stopped by --max-errors".into(),
        Some(DrainReason::ServiceUnavailable(outage)) => {
            format!("the service did not answer for {}; run again to continue", report::duration(*outage))
        }
        Some(DrainReason::QuotaUnavailable { away, error }) => format!(
            "--quota-at could not be used for {}: {error}; run again to continue",
            report::duration(*away)
        ),
        Some(DrainReason::Fatal(fatal)) => format!("stopped: {fatal}; {}", hint(fatal)),
        Some(DrainReason::ThrottledTooLong(lasted)) => format!(
            "nearly every call of an action was throttled for {}: its quota is used by others or lower than assumed; run again later",
            report::duration(*lasted)
        ),
        Some(DrainReason::Unread { photos, error }) => format!(
            "{} still pending, because this machine could not read them ({error}); fix the machine, then run again",
            report::plural_is(*photos, "photo")
        ),
        Some(DrainReason::CheckpointRemoved) => {
            "the checkpoint was removed or replaced while the run used it; the next run checks the service before every send".into()
        }
        Some(DrainReason::NoPhotoFound { looked_for }) => format!(
            "none of the {} photos checked exists: mount the directory or share that holds them, or give it with --root DIR, then run again",
            report::group_digits(*looked_for)
        ),
        Some(DrainReason::LockGone) => {
            "the checkpoint's lock file was removed or replaced while the run used it, so another run could have started; leave the lock file in place and run again".into()
        }
        Some(DrainReason::SourceFailed | DrainReason::CheckpointCorrupt) => "stopped".into(),
        None => format!(
            "the old records of {} are still at the service; run again to remove them",
            report::plural(counts.to_remove, "replaced photo")
        ),
    }
}

/// Result of `--canary`: only what this run sent counts.
struct Canary<'a> {
    totals: &'a RunTotals,
    before: &'a Counts,
}

impl Canary<'_> {
    fn exit(&self, counts: &Counts) -> Exit {
        match () {
            () if self.totals.sent_enrolled == self.totals.sent => Exit::Success,
            () if counts.in_doubt > self.before.in_doubt => Exit::InDoubt,
            () if counts.failed > self.before.failed => Exit::Failed,
            () => Exit::Rejected,
        }
    }

    fn verdict(&self) -> String {
        let [enrolled, sent] = [self.totals.sent_enrolled, self.totals.sent].map(report::group_digits);
        if enrolled == sent {
            format!("canary: all {sent} photos sent are enrolled; run without --canary for the rest")
        } else {
            format!(
                "canary: {enrolled} of {sent} photos sent are enrolled; find out why the others are not before you send the rest"
            )
        }
    }
}
