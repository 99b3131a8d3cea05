//! `face-enroll verify`: settles what is in doubt, or compares the checkpoint with the service.

use std::{path::Path, sync::Arc, time::Duration};

use serde::Serialize;
use tokio::{sync::mpsc, time::Instant};

use super::{
    CliError,
    place::{self, Kind},
    signals,
    target::{self, Target},
};
use crate::{
    api::Client,
    checkpoint::{Checkpoint, Lock, Reader, RunStart, SqliteStore},
    cli::VerifyArgs,
    domain::{DrainReason, FaceGroupCode, RunId},
    exit::Exit,
    pace::{Gate, InDoubtPolicy, QuotaUse, RetryRules},
    picture::Rules,
    report,
    run::{Deps, Engine, Limits, Precheck, Settings, Stop},
    verify::{Audit, AuditError, Difference},
};

/// See the module.
pub(super) async fn verify(args: &VerifyArgs) -> Result<Exit, CliError> {
    let path = place::to_look_into(&args.which)?;
    let binding = Reader::open(&path)?.binding()?;
    let kind = if binding.as_deref() == Some(target::SANDBOX_BINDING) { Kind::Sandbox } else { Kind::Service };
    let target = match kind {
        Kind::Service => target::service(&args.service, binding.as_deref()).await?,
        Kind::Sandbox => target::sandbox(&args.service, args.qps, &path).await?,
    };
    let done = if args.all || args.sample.is_some() {
        compare(args, &path, &target).await
    } else {
        settle(args, &path, &target).await
    };
    if let Some(sandbox) = target.sandbox {
        sandbox.shutdown().await;
    }
    done
}

fn client(args: &VerifyArgs, target: &Target) -> Result<Client<crate::api::HttpTransport>, CliError> {
    let transport = target::transport(&args.service, 16, Some(args.settle))?;
    Ok(Client::new(transport, target.endpoint.clone(), target.upload.clone(), target.credentials.clone()))
}

/// Asks about everything that is in doubt, until nothing is.
async fn settle(args: &VerifyArgs, path: &Path, target: &Target) -> Result<Exit, CliError> {
    let lock = Lock::acquire(path, Duration::ZERO)?;
    let store = SqliteStore::open(path, &target.binding)?;
    store.is_current(&lock, path)?;
    let (checkpoint, writer) = Checkpoint::start(store).map_err(|error| CliError::new(Exit::Internal, error))?;
    let access_key = target.credentials.masked_id();
    let found = checkpoint
        .start_run(RunStart {
            id: RunId::new(jiff::Timestamp::now(), fastrand::u16(..)),
            access_key,
            rules: None,
            quota: None,
        })
        .await?;
    lock.remember(found.epoch);
    let stop = Stop::default();
    let _signals = signals::listen(stop.clone())?;
    let now = Instant::now();
    let gate = || Gate::new(args.qps, QuotaUse::Dedicated, None, now);
    // Nobody watches: the checkpoint tells it all afterwards.
    let (events, _) = mpsc::channel(1);
    let engine = Arc::new(Engine::new(
        Deps {
            client: client(args, target)?,
            checkpoint: checkpoint.clone(),
            add_gate: gate(),
            query_gate: gate(),
            delete_gate: gate(),
            authorize_gate: gate(),
            upload_gate: gate(),
            events,
            stop: stop.clone(),
        },
        settings(args),
    ));
    let ran = engine.reconcile_leftovers().await;
    let queries = engine.totals().queries;
    drop(engine);
    ran?;
    let counts = checkpoint.counts().await?;
    let exit = match stop.reason() {
        Some(DrainReason::Fatal(_)) => Exit::Fatal,
        Some(DrainReason::Signal(number)) => Exit::Signal(*number),
        Some(DrainReason::ServiceUnavailable(_)) => Exit::TimeUp,
        Some(_) | None if counts.in_doubt > 0 => Exit::InDoubt,
        Some(_) | None => Exit::Success,
    };
    lock.remember(checkpoint.end_run(exit.code(), "verified".to_owned()).await?);
    drop(checkpoint);
    let _ = tokio::task::spawn_blocking(move || writer.join()).await;
    let settled = found.counts.in_doubt.saturating_sub(counts.in_doubt);
    if args.json {
        let line = Settled {
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
        let (settled, left) = (report::thousands(settled), report::thousands(counts.in_doubt));
        report::print(&format!("{settled} settled, {left} in doubt, {queries} queries"));
        report::print(report::table(&counts).trim_end());
    }
    match stop.reason() {
        Some(DrainReason::Fatal(fatal)) => Err(CliError::from(fatal.clone())),
        Some(_) | None => Ok(exit),
    }
}

fn settings(args: &VerifyArgs) -> Settings {
    Settings {
        quota: args.qps,
        concurrency: std::num::NonZeroUsize::MIN,
        rules: RetryRules { attempts: args.retries },
        in_doubt: InDoubtPolicy::Reconcile,
        settle: args.settle,
        limits: Limits::default(),
        give_up_after: args.give_up_after,
        keep_going: false,
        photo: Rules::default(),
        precheck: Precheck::Off,
        always_upload: false,
        allow_outside_root: false,
        window: None,
    }
}

#[derive(Serialize)]
struct Settled<'a> {
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

/// What the service has against what is known here.
async fn compare(args: &VerifyArgs, path: &Path, target: &Target) -> Result<Exit, CliError> {
    let reader = Reader::open(path)?;
    if reader.is_live() {
        tracing::warn!("a run is going on: what it is enrolling just now may be told as a difference");
    }
    let mut groups = reader.groups()?;
    if let Some(group) = &args.group {
        groups = vec![group.to_string()];
    }
    let gate = Gate::new(args.qps, QuotaUse::Dedicated, None, Instant::now());
    let mut audit = Audit {
        client: client(args, target)?,
        gate,
        reader,
        give_up_after: args.give_up_after,
        compared: Default::default(),
        was_answered: false,
    };
    for code in groups {
        let Ok(group) = FaceGroupCode::parse_recorded(code.as_str()) else { continue };
        let mut tell = |user: &str, difference: Difference| tell(args, &code, user, &difference);
        match args.sample {
            Some(size) => audit.sample(&group, size.get(), &mut tell).await?,
            None => audit.whole(&group, &mut tell).await?,
        }
    }
    let compared = audit.compared;
    let exit = if compared.has_differences() { Exit::InDoubt } else { Exit::Success };
    let only_there = args.sample.is_none().then_some(compared.only_there);
    if args.json {
        report::print_json(&Comparison {
            r#type: "verify",
            checkpoint: path,
            in_both: compared.in_both,
            only_here: compared.only_here,
            only_there,
            several: compared.several,
            queries: compared.queries,
            exit_code: exit.code(),
        });
    } else {
        let rows = [
            ("in both", Some(compared.in_both)),
            ("only here", Some(compared.only_here)),
            ("only there", only_there),
            ("several", Some(compared.several)),
            ("queries", Some(compared.queries)),
        ];
        for (name, n) in rows {
            let n = n.map_or_else(|| "not looked for".to_owned(), report::thousands);
            report::print(&format!("  {name:<10} {n}"));
        }
    }
    Ok(exit)
}

fn tell(args: &VerifyArgs, group: &str, user: &str, difference: &Difference) {
    let (kind, state, records) = match difference {
        Difference::OnlyHere => ("only_here", Some("enrolled"), 0),
        Difference::OnlyThere(state) => ("only_there", state.map(|state| state.name()), 1),
        Difference::Several(records) => ("several", Some("enrolled"), *records),
    };
    if args.json {
        let line = CheckpointState {
            r#type: "difference",
            kind,
            face_group_code: group,
            merchant_user_id: user,
            status: state,
            records,
        };
        report::print_json(&line);
    } else {
        let here = state.map_or_else(|| "not known here".to_owned(), |state| format!("{state} here"));
        // Ids may hold anything that is not a control character; quotes show where they end.
        report::print(&format!("{kind:<10}  {group}  {user:?}  {here}, {records} there"));
    }
}

#[derive(Serialize)]
struct CheckpointState<'a> {
    r#type: &'static str,
    kind: &'static str,
    face_group_code: &'a str,
    merchant_user_id: &'a str,
    status: Option<&'static str>,
    records: usize,
}

#[derive(Serialize)]
struct Comparison<'a> {
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
            AuditError::Unanswered(_) => Self::new(Exit::TimeUp, error).with_hint("nothing was changed; run it again"),
            AuditError::InvalidId(_) => Self::new(Exit::Checkpoint, error),
        }
    }
}
