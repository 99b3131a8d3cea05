//! How a run ended: its exit code, and why, in a sentence.

use super::{CliError, failure::advice};
use crate::{
    domain::{Counts, DrainReason, RunTotals},
    exit::Exit,
    report,
};

/// What the reason to drain makes of the exit code.
pub(super) fn of_reason(reason: &DrainReason) -> Exit {
    match reason {
        DrainReason::Signal(number) => Exit::Signal(*number),
        DrainReason::MaxDuration
        | DrainReason::ServiceUnavailable(_)
        | DrainReason::ThrottledTooLong(_)
        | DrainReason::Unread { .. } => Exit::TimeUp,
        DrainReason::MaxImages | DrainReason::MaxErrors => Exit::Limit,
        DrainReason::Fatal(_) => Exit::Fatal,
        DrainReason::SourceFailed | DrainReason::NoPhotoFound { .. } => Exit::Source,
        DrainReason::CheckpointCorrupt | DrainReason::CheckpointRemoved | DrainReason::LockGone => Exit::Checkpoint,
    }
}

/// What the rows make of it.
pub(super) fn of_counts(counts: &Counts) -> impl Iterator<Item = Exit> {
    let all = [
        (counts.to_remove, Exit::TimeUp),
        (counts.in_doubt, Exit::InDoubt),
        (counts.failed, Exit::Failed),
        (counts.rejected, Exit::Rejected),
    ];
    all.into_iter().filter(|(n, _)| *n > 0).map(|(_, exit)| exit)
}

/// Is there something that someone must act on? Not where it ended well, or as it was told to.
pub(super) fn is_for_someone(exit: Exit, drained: Option<&DrainReason>) -> bool {
    let as_told = match drained {
        Some(DrainReason::Signal(_) | DrainReason::MaxDuration | DrainReason::MaxImages) => true,
        Some(
            DrainReason::MaxErrors
            | DrainReason::ServiceUnavailable(_)
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
        Exit::Signal(_) | Exit::Limit | Exit::TimeUp => !as_told,
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

/// Why it ended so, in a sentence.
pub(super) fn reason(exit: Exit, drained: Option<&DrainReason>, failure: Option<&CliError>, counts: &Counts) -> String {
    let of_drain = || {
        match drained {
        Some(DrainReason::Signal(number)) => format!("stopped by signal {number}; run again to go on"),
        Some(DrainReason::MaxDuration) => "stopped by --max-duration; run again to go on".into(),
        Some(DrainReason::MaxImages) => "stopped by --max-images; run again to go on".into(),
        Some(DrainReason::MaxErrors) => "stopped by --max-errors".into(),
        Some(DrainReason::ServiceUnavailable(away)) => {
            format!("the service did not answer for {}; run again to go on", report::duration(*away))
        }
        Some(DrainReason::Fatal(fatal)) => format!("stopped: {fatal}; {}", advice(fatal)),
        Some(DrainReason::ThrottledTooLong(lasted)) => format!(
            "nearly every call was throttled for {}, at one every two seconds: others use the quota, or it is lower than that; run again later",
            report::duration(*lasted)
        ),
        Some(DrainReason::Unread { photos, error }) => format!(
            "{} could not be read by this machine ({error}) and stay pending; see to the machine, then run again",
            report::plural(*photos, "photo")
        ),
        Some(DrainReason::CheckpointRemoved) => {
            "the checkpoint was removed or replaced while the run used it; the next run asks about everyone before sending".into()
        }
        Some(DrainReason::NoPhotoFound { looked_for }) => format!(
            "none of the {} photos looked for is there: mount the folder or share that holds them, or give it with --root DIR, then run again",
            report::thousands(*looked_for)
        ),
        Some(DrainReason::LockGone) => {
            "the checkpoint's lock file was removed or replaced while the run used it, so that another run could begin; leave it where it is, and run again".into()
        }
        Some(DrainReason::SourceFailed | DrainReason::CheckpointCorrupt) => "stopped".into(),
        None => format!(
            "{} replaced photos still have their old records at the service; run again to remove them",
            report::thousands(counts.to_remove)
        ),
    }
    };
    let rows = |n: u64, what: &str| {
        format!("{} {what}", if n == 1 { "1 row is".to_owned() } else { format!("{} rows are", report::thousands(n)) })
    };
    match exit {
        Exit::Success if counts.rejected > 0 => {
            format!("Finished; {}", rows(counts.rejected, "rejected, all of them by earlier runs"))
        }
        Exit::Success if counts.skipped > 0 => format!("Every row is enrolled; {}", report::skipped(counts.skipped)),
        Exit::Success => "Every row is enrolled".into(),
        Exit::Internal | Exit::Usage | Exit::Source | Exit::Locked | Exit::Checkpoint => {
            failure.map_or_else(of_drain, |failure| failure.to_string().replace("\n ", ";"))
        }
        Exit::Fatal | Exit::Limit | Exit::TimeUp | Exit::Signal(_) => of_drain(),
        Exit::InDoubt => rows(counts.in_doubt, "still in doubt"),
        Exit::Failed => {
            let have = if counts.failed == 1 { "row has" } else { "rows have" };
            format!("Finished; {} {have} failed: a retry may help", report::thousands(counts.failed))
        }
        Exit::Rejected => format!("Finished; {}", rows(counts.rejected, "rejected: running again does not help")),
    }
}

/// What `--canary` has shown: of what it sent, whatever else is in the checkpoint.
pub(super) struct Canary<'a> {
    pub(super) totals: &'a RunTotals,
    pub(super) before: &'a Counts,
}

impl Canary<'_> {
    pub(super) fn exit(&self, counts: &Counts) -> Exit {
        match () {
            () if self.totals.sent_enrolled == self.totals.sent => Exit::Success,
            () if counts.in_doubt > self.before.in_doubt => Exit::InDoubt,
            () if counts.failed > self.before.failed => Exit::Failed,
            () => Exit::Rejected,
        }
    }

    pub(super) fn verdict(&self) -> String {
        let [enrolled, sent] = [self.totals.sent_enrolled, self.totals.sent].map(report::thousands);
        if enrolled == sent {
            format!("canary: all {sent} that were sent are enrolled; run without --canary for the rest")
        } else {
            format!(
                "canary: {enrolled} of {sent} that were sent are enrolled; see why the others are not before the rest goes"
            )
        }
    }
}
