//! `face-enroll undo`: lists the records that a run made, or removes them from the service.

use std::path::Path;

use serde::Serialize;
use tokio::time::Instant;

use super::{
    CliError, checkpoint_path,
    recorded_run::RecordedRun,
    signals,
    target::{self, Target},
};
use crate::{
    api::HttpTransport,
    caller::{Caller, Queries},
    checkpoint::{Reader, StoreError, UndoCandidate, UndoScope},
    cli::UndoArgs,
    domain::{DrainReason, ItemState},
    exit::Exit,
    pace::{Gate, QuotaUse},
    report,
    run::Stop,
    undo::{Inspector, Undo, UndoError, UndoReport, Verdict},
};

/// Runs named in the hint about an unknown run.
const RUNS_IN_HINT: usize = 5;

pub(super) async fn undo(args: &UndoArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    let scope = scope(args, &Reader::open(&path)?)?;
    let target = target::of_checkpoint(&args.service, args.qps, &path).await?;
    let result =
        if args.yes { remove(args, &path, (&target, scope)).await } else { list(args, &path, (&target, scope)).await };
    if let Some(sandbox) = target.sandbox {
        sandbox.shutdown().await;
    }
    result
}

fn scope(args: &UndoArgs, reader: &Reader) -> Result<UndoScope, CliError> {
    if let Some(since) = args.what.since {
        return Ok(UndoScope::Since { ms: since.as_millisecond() });
    }
    let run = args.what.run.as_deref().expect("clap asks for one of the two");
    let found = reader.undo_scopes(run, RUNS_IN_HINT)?;
    if let [(_, scope)] = found.as_slice() {
        return Ok(*scope);
    }
    if !found.is_empty() {
        let found: Vec<String> = found.into_iter().map(|(id, _)| id).collect();
        return Err(CliError::new(Exit::Usage, format!("the checkpoint has several runs {run:?}"))
            .with_hint(format!("give more of one of {}", found.join(", "))));
    }
    let known: Vec<String> = reader.runs(RUNS_IN_HINT)?.into_iter().map(|run| run.run_id).collect();
    Err(CliError::new(Exit::Usage, format!("the checkpoint has no run {run:?}"))
        .with_hint(format!("its last runs: {}", known.join(", "))))
}

fn inspector(
    args: &UndoArgs,
    path: &Path,
    (target, scope): (&Target, UndoScope),
    stop: &Stop,
) -> Result<Inspector<HttpTransport>, CliError> {
    let transport = target::transport(&args.service, 16, Some(args.settle))?;
    let caller = Caller { client: target.client(transport), stop: stop.token() };
    let gate = Gate::new(args.qps, QuotaUse::Dedicated, None, Instant::now());
    let queries = Queries::new(caller, gate, args.give_up_after);
    Ok(Inspector { queries, reader: Reader::open(path)?, scope })
}

/// Lists what would be removed; changes nothing.
async fn list(args: &UndoArgs, path: &Path, of: (&Target, UndoScope)) -> Result<Exit, CliError> {
    let stop = Stop::default();
    let _signals = signals::listen(stop.clone())?;
    let inspector = inspector(args, path, of, &stop)?;
    if let Some(found) = inspector.reader.binding()?.filter(|found| *found != of.0.binding) {
        return Err(StoreError::TargetMismatch { found, wanted: of.0.binding.clone() }.into());
    }
    if inspector.reader.is_live() {
        tracing::warn!("a run is in progress: rows that it is enrolling are listed as in doubt");
    }
    let (total, in_doubt) = inspector.reader.count_undo_candidates(of.1)?;
    let mut found = UndoReport::default();
    let listed = inspector
        .list(&mut |item, verdict| {
            found.add(verdict);
            print_verdict(args, item, verdict);
        })
        .await;
    let ended = Ended { total, in_doubt, found, queries: inspector.queries.count() };
    ended.finish(args, path, (listed, &stop))
}

/// Removes the records.
async fn remove(args: &UndoArgs, path: &Path, of: (&Target, UndoScope)) -> Result<Exit, CliError> {
    let run = RecordedRun::start(path, of.0).await?;
    let stop = Stop::default();
    let _signals = signals::listen(stop.clone())?;
    let inspector = inspector(args, path, of, &stop)?;
    let (total, _) = inspector.reader.count_undo_candidates(of.1)?;
    let gate = Gate::new(args.qps, QuotaUse::Dedicated, None, Instant::now());
    let undo = Undo { inspector, gate, checkpoint: run.checkpoint.clone(), settle: args.settle };
    let mut found = UndoReport::default();
    let removed = undo
        .remove(&mut |item, verdict| {
            found.add(verdict);
            print_verdict(args, item, verdict);
        })
        .await;
    let (_, in_doubt) = undo.inspector.reader.count_undo_candidates(of.1)?;
    let ended = Ended { total, in_doubt, found, queries: undo.inspector.queries.count() };
    drop(undo);
    let exit = ended.exit(removed.as_ref().err(), &stop);
    let recorded = run.end(exit, "undone").await;
    // An error that ended the undo is the first.
    let exit = ended.finish(args, path, (removed, &stop))?;
    recorded.map(|()| exit)
}

/// Balance of an undo.
struct Ended {
    total: u64,
    in_doubt: u64,
    found: UndoReport,
    queries: u64,
}

impl Ended {
    fn exit(&self, error: Option<&UndoError>, stop: &Stop) -> Exit {
        let stopped = error.map_or(Exit::Success, |error| match error {
            UndoError::Store(_) => Exit::Checkpoint,
            UndoError::Fatal(_) => Exit::Fatal,
            UndoError::Unanswered(_) => Exit::TimeUp,
            UndoError::Stopped => match stop.reason() {
                Some(DrainReason::Signal(number)) => Exit::Signal(*number),
                Some(_) | None => Exit::TimeUp,
            },
        });
        let in_doubt = if self.in_doubt > 0 { Exit::InDoubt } else { Exit::Success };
        let refused = if self.found.refused > 0 { Exit::Rejected } else { Exit::Success };
        Exit::most_severe([stopped, in_doubt, refused])
    }

    /// Prints the balance, and returns the error that ended the undo, if there is one.
    fn finish(
        self,
        args: &UndoArgs,
        path: &Path,
        (result, stop): (Result<(), UndoError>, &Stop),
    ) -> Result<Exit, CliError> {
        let exit = self.exit(result.as_ref().err(), stop);
        let Self { total, in_doubt, found, queries } = self;
        // A live run may have enrolled more since they were counted.
        let left = total.saturating_sub(found.removed + found.gone + found.refused);
        if args.json {
            report::print_json(&BalanceLine {
                r#type: "undo",
                checkpoint: path,
                dry_run: !args.yes,
                total,
                to_remove: found.removable,
                removed: found.removed,
                gone: found.gone,
                refused: found.refused,
                left,
                in_doubt,
                queries,
                exit_code: exit.code(),
            });
        } else {
            let (first, n) = if args.yes { ("removed", found.removed) } else { ("to remove", found.removable) };
            let left = if args.yes { left } else { left.saturating_sub(found.removable) };
            for (name, n) in
                [(first, n), ("gone", found.gone), ("refused", found.refused), ("left", left), ("in doubt", in_doubt)]
            {
                report::print(&format!("  {name:<10} {}", report::group_digits(n)));
            }
            if !args.yes && found.removable > 0 {
                report::print("Nothing was changed; --yes removes these records from the service.");
            }
            if args.yes && found.removed + found.gone > 0 {
                report::print("Their rows are pending: a later run enrols them again.");
            }
        }
        match result {
            Ok(()) | Err(UndoError::Stopped) => Ok(exit),
            Err(error) => Err(error.into()),
        }
    }
}

fn print_verdict(args: &UndoArgs, item: &UndoCandidate, verdict: &Verdict) {
    let (action, record) = match verdict {
        Verdict::Removable(record) => ("to_remove", Some(record.id)),
        Verdict::Removed(record) => ("removed", Some(*record)),
        Verdict::Gone => ("gone", None),
        Verdict::Refused(_) => ("refused", None),
        Verdict::InDoubt => ("in_doubt", None),
    };
    let reason = match verdict {
        Verdict::Refused(refusal) => Some((refusal.code(), refusal.to_string())),
        Verdict::InDoubt if item.state == ItemState::Enrolled => {
            Some(("Undoing", "the service still shows the record: undo again later".to_owned()))
        }
        Verdict::InDoubt => {
            Some(("InDoubt", "not known whether it is enrolled: run verify, then undo again".to_owned()))
        }
        Verdict::Removable(_) | Verdict::Removed(_) | Verdict::Gone => None,
    };
    let (group, user) = (item.group.as_str(), item.user.as_str());
    if args.json {
        let (code, message) = reason.unzip();
        report::print_json(&RecordLine {
            r#type: "record",
            action,
            row: item.row,
            face_group_code: group,
            merchant_user_id: user,
            record_id: record,
            code,
            message,
        });
    } else {
        let record = record.map(|id| format!("  record {id}")).unwrap_or_default();
        let reason = reason.map(|(code, message)| format!("  {code}: {message}")).unwrap_or_default();
        // Quote the id: it may contain spaces.
        report::print(&format!("{action:<10}  row {}  {group}  {user:?}{record}{reason}", item.row));
    }
}

#[derive(Serialize)]
struct RecordLine<'a> {
    r#type: &'static str,
    action: &'static str,
    row: u64,
    face_group_code: &'a str,
    merchant_user_id: &'a str,
    record_id: Option<i64>,
    code: Option<&'static str>,
    message: Option<String>,
}

#[derive(Serialize)]
struct BalanceLine<'a> {
    r#type: &'static str,
    checkpoint: &'a Path,
    dry_run: bool,
    total: u64,
    to_remove: u64,
    removed: u64,
    gone: u64,
    refused: u64,
    left: u64,
    in_doubt: u64,
    queries: u64,
    exit_code: u8,
}

impl From<UndoError> for CliError {
    fn from(error: UndoError) -> Self {
        match error {
            UndoError::Store(error) => error.into(),
            UndoError::Fatal(fatal) => fatal.into(),
            UndoError::Unanswered(_) | UndoError::Stopped => {
                Self::new(Exit::TimeUp, error).with_hint("run undo again: it goes on where it stopped")
            }
        }
    }
}
