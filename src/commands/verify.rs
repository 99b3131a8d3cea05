//! `face-enroll verify`: reconciles the rows in doubt, or compares the checkpoint with the service.

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
    api::{Client, HttpTransport},
    caller::{Caller, Queries},
    checkpoint::Reader,
    cli::VerifyArgs,
    domain::{DrainReason, FaceGroupCode},
    exit::Exit,
    pace::{Gate, InDoubtPolicy, QuotaUse, RetryRules},
    report,
    run::{ReconcileSettings, Reconciler, Stop},
    verify::{Audit, AuditError, Difference},
};

pub(super) async fn verify(args: &VerifyArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    let target = target::of_checkpoint(&args.service, args.qps, &path).await?;
    let result = if args.all || args.sample.is_some() {
        compare(args, &path, &target).await
    } else {
        reconcile(args, &path, &target).await
    };
    if let Some(sandbox) = target.sandbox {
        sandbox.shutdown().await;
    }
    result
}

fn client(args: &VerifyArgs, target: &Target) -> Result<Client<HttpTransport>, CliError> {
    let transport = target::transport(&args.service, 16, Some(args.settle))?;
    Ok(target.client(transport))
}

/// Queries the service until no row is in doubt.
async fn reconcile(args: &VerifyArgs, path: &Path, target: &Target) -> Result<Exit, CliError> {
    // Whatever can fail before the run is recorded.
    let client = client(args, target)?;
    let stop = Stop::default();
    let _signals = signals::listen(stop.clone())?;
    let run = RecordedRun::start(path, target).await?;
    let gate = Gate::new(args.qps, QuotaUse::Dedicated, None, Instant::now());
    let settings = ReconcileSettings {
        policy: InDoubtPolicy::Reconcile,
        settle: args.settle,
        rules: RetryRules { attempts: args.retries },
    };
    let of = (run.checkpoint.clone(), stop.clone());
    let reconciler = Reconciler::alone((client, gate), of, settings, args.give_up_after);
    let ran = reconciler.reconcile_leftovers().await;
    let queries = reconciler.queries();
    drop(reconciler);
    ran?;
    let counts = run.checkpoint.counts().await?;
    let exit = match stop.reason() {
        Some(DrainReason::Fatal(_)) => Exit::Fatal,
        Some(DrainReason::Signal(number)) => Exit::Signal(*number),
        Some(DrainReason::ServiceUnavailable(_)) => Exit::TimeUp,
        Some(_) | None if counts.in_doubt > 0 => Exit::InDoubt,
        Some(_) | None => Exit::Success,
    };
    let settled = run.state.counts.in_doubt.saturating_sub(counts.in_doubt);
    run.end(exit, "verified").await?;
    if args.json {
        let line = ReconcileLine {
            r#type: "verify",
            checkpoint: path,
            settled,
            in_doubt: counts.in_doubt,
            enrolled: counts.enrolled,
            pending: counts.pending,
            failed: counts.failed,
            queries,
            exit_code: exit.code(),
        };
        report::print_json(&line);
    } else {
        let (settled, left) = (report::group_digits(settled), report::group_digits(counts.in_doubt));
        report::print(&format!("{settled} settled, {left} in doubt, {}", report::plural(queries, "query")));
        report::print(report::table(&counts).trim_end());
    }
    match stop.reason() {
        Some(DrainReason::Fatal(fatal)) => Err(CliError::from(fatal.clone())),
        Some(_) | None => Ok(exit),
    }
}

#[derive(Serialize)]
struct ReconcileLine<'a> {
    r#type: &'static str,
    checkpoint: &'a Path,
    settled: u64,
    in_doubt: u64,
    enrolled: u64,
    pending: u64,
    failed: u64,
    queries: u64,
    exit_code: u8,
}

/// Compares the records of the service with the checkpoint; changes neither.
async fn compare(args: &VerifyArgs, path: &Path, target: &Target) -> Result<Exit, CliError> {
    let reader = Reader::open(path)?;
    if reader.is_live() {
        tracing::warn!("a run is in progress: rows that it is enrolling may be reported as differences");
    }
    let mut groups = reader.groups()?;
    if let Some(group) = &args.group {
        // Without rows there is nothing to compare; most likely the code is mistyped.
        if !groups.iter().any(|known| known == group.as_str()) {
            return Err(CliError::new(Exit::Usage, format!("the checkpoint has no rows of group {group}"))
                .with_hint(format!("its groups: {}", groups.join(", "))));
        }
        groups = vec![group.to_string()];
    }
    let gate = Gate::new(args.qps, QuotaUse::Dedicated, None, Instant::now());
    let mut audit = Audit {
        queries: Queries::new(Caller::new(client(args, target)?), gate, args.give_up_after),
        reader,
        compared: Default::default(),
    };
    for code in groups {
        let Ok(group) = FaceGroupCode::parse_recorded(code.as_str()) else { continue };
        let mut on_difference = |user: &str, difference: Difference| print_difference(args, &code, user, &difference);
        match args.sample {
            Some(size) => audit.sample(&group, size.get(), &mut on_difference).await?,
            None => audit.whole(&group, &mut on_difference).await?,
        }
    }
    let (compared, queries) = (audit.compared, audit.queries.count());
    let exit = if compared.has_differences() { Exit::InDoubt } else { Exit::Success };
    let only_there = args.sample.is_none().then_some(compared.only_there);
    if args.json {
        report::print_json(&ComparisonLine {
            r#type: "verify",
            checkpoint: path,
            in_both: compared.in_both,
            only_here: compared.only_here,
            only_there,
            several: compared.several,
            queries,
            exit_code: exit.code(),
        });
    } else {
        let rows = [
            ("in both", Some(compared.in_both)),
            ("only here", Some(compared.only_here)),
            ("only there", only_there),
            ("several", Some(compared.several)),
            ("queries", Some(queries)),
        ];
        for (name, n) in rows {
            let n = n.map_or_else(|| "not checked".to_owned(), report::group_digits);
            report::print(&format!("  {name:<10} {n}"));
        }
    }
    Ok(exit)
}

fn print_difference(args: &VerifyArgs, group: &str, user: &str, difference: &Difference) {
    let (kind, state, records) = match difference {
        Difference::OnlyHere => ("only_here", Some("enrolled"), 0),
        Difference::OnlyThere(state) => ("only_there", state.map(|state| state.name()), 1),
        Difference::Several(records) => ("several", Some("enrolled"), *records),
    };
    if args.json {
        let line = DifferenceLine {
            r#type: "difference",
            kind,
            face_group_code: group,
            merchant_user_id: user,
            status: state,
            records,
        };
        report::print_json(&line);
    } else {
        let here = state.map_or_else(|| "unknown here".to_owned(), |state| format!("{state} here"));
        // Quote the id: it may contain spaces.
        report::print(&format!("{kind:<10}  {group}  {user:?}  {here}, {records} there"));
    }
}

#[derive(Serialize)]
struct DifferenceLine<'a> {
    r#type: &'static str,
    kind: &'static str,
    face_group_code: &'a str,
    merchant_user_id: &'a str,
    status: Option<&'static str>,
    records: usize,
}

#[derive(Serialize)]
struct ComparisonLine<'a> {
    r#type: &'static str,
    checkpoint: &'a Path,
    in_both: u64,
    only_here: u64,
    only_there: Option<u64>,
    several: u64,
    queries: u64,
    exit_code: u8,
}

impl From<AuditError> for CliError {
    fn from(error: AuditError) -> Self {
        match error {
            AuditError::Store(error) => error.into(),
            AuditError::Fatal(fatal) => fatal.into(),
            AuditError::Unanswered(_) => {
                Self::new(Exit::TimeUp, error).with_hint("nothing was changed; run verify again")
            }
            AuditError::InvalidId(_) => Self::new(Exit::Checkpoint, error),
        }
    }
}
