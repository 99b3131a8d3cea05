//! `face-enroll run`.

use std::{
    io::IsTerminal,
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget};
use sd_notify::NotifyState;
use tokio::{
    sync::{mpsc, watch},
    time::Instant,
};

use super::{
    CliError,
    ending::{Canary, is_for_someone, of_counts, of_reason, reason},
    finish,
    metrics::Metrics,
    place::{self, Kind},
    reading, sibling, signals,
    target::{self, Target},
    watcher::{Watcher, tell_systemd},
};
use crate::{
    api::{Client, HttpTransport},
    checkpoint::{Checkpoint, Lock, Reader, RunStart, SqliteStore, StoreError},
    cli::{ExitOn, Json, RunArgs, Send, When},
    domain::{Bottleneck, Counts, DrainReason, Event, RunId, RunSummary, RunTotals},
    exit::Exit,
    files::{self, FileId},
    manifest::Source,
    pace::{Gate, Qps, RetryRules},
    picture,
    report::{self, Progress, Snapshot, Status, Summary, View},
    run::{Deps, Engine, Ingest, IngestError, IngestProgress, Limits, Precheck, RunError, Settings, Stop},
    telemetry,
};

/// Events that may wait to be told.
const EVENTS: usize = 1_024;
/// `--settle` where it is not given (reliability.md 4.6, T_settle).
const SETTLE: Duration = Duration::from_secs(30);
/// The same in the sandbox, which dies with the process that might have left something behind.
const SANDBOX_SETTLE: Duration = Duration::from_secs(1);
/// How often the checkpoint's file is looked for.
const GUARD_EVERY: Duration = Duration::from_secs(2);
/// What is still being read so long after the reading was told to end, or open after a second signal, is left to the next
/// run.
const LEAVING: Duration = Duration::from_secs(1);

/// See the module.
pub(super) async fn run(args: RunArgs, is_quiet: bool) -> Result<Exit, CliError> {
    let kind = target::kind(&args);
    let path = place::of_sources(&args.read.sources, args.checkpoint.as_deref(), kind)?;
    // A source that is not there is told before anything is made for it.
    let sources = reading::open(&args.read, target::group(&args))?;
    let service = match kind {
        Kind::Service => Some(target::service(&args.service, None).await?),
        Kind::Sandbox => None,
    };
    make_folder(&path)?;
    let lock = {
        let (path, wait) = (path.clone(), args.limits.wait_lock);
        tokio::task::spawn_blocking(move || Lock::acquire(&path, wait)).await.expect("taking a lock does not panic")?
    };
    let target = match service {
        Some(service) => service,
        None => target::sandbox(&args.service, args.sending.qps, &path).await?,
    };
    let mut store = SqliteStore::open(&path, &target.binding)?;
    let knows_all = match store.is_current(&lock, &path) {
        Err(StoreError::Stale { .. } | StoreError::Copied { .. }) if args.after_restore || args.sending.precheck => {
            false
        }
        known => known?,
    };
    let is_new = store.epoch()? == 0;
    if !knows_all {
        // Before its epoch is taken further: a run that is killed leaves it known for what it is.
        store.note_incomplete()?;
    }
    if let Some(group) = &args.read.group
        && let Ok(others) = Reader::open(&path).and_then(|reader| reader.groups())
        && !others.is_empty()
        && !others.iter().any(|other| other == group.as_str())
    {
        tracing::warn!(
            group = group.as_str(),
            before = others.join(", "),
            "this checkpoint holds no one of this group so far: whoever is in another one is enrolled in this one besides"
        );
    }
    if is_new
        && knows_all
        && kind == Kind::Service
        && let Some(other) = sibling::of(&path, &target.binding, target::group(&args).as_ref())
    {
        tracing::warn!(
            other = %other.display(),
            "this begins a new checkpoint beside one that holds the same group: whoever is in that one is enrolled a second \
             time. If it is the same archive, give --checkpoint with that file; if not, --precheck asks before each send"
        );
    }
    let (checkpoint, writer) = Checkpoint::start(store).map_err(|error| CliError::new(Exit::Internal, error))?;
    let summary = OnceLock::new();
    let run = Run { args: &args, path: &path, lock: &lock, knows_all, is_quiet, summary: &summary };
    let ended = run.go(&target, sources, checkpoint).await;
    if let Some(sandbox) = target.sandbox {
        sandbox.shutdown().await;
    }
    // What is of importance has been committed. After a second signal a reader may still hold the writer up.
    let _ = tokio::time::timeout(LEAVING, tokio::task::spawn_blocking(move || writer.join())).await;
    drop(lock);
    if let (Some(command), Some(summary)) = (&args.show.on_finish, summary.get()) {
        finish::hand_over(command, summary).await;
    }
    ended
}

struct Run<'a> {
    args: &'a RunArgs,
    path: &'a Path,
    lock: &'a Lock,
    /// False: what is not enrolled in the checkpoint may be at the service all the same.
    knows_all: bool,
    is_quiet: bool,
    /// The last word, as JSON, once it has been said.
    summary: &'a OnceLock<String>,
}

impl Run<'_> {
    async fn go(
        &self,
        target: &Target,
        sources: Vec<Source>,
        checkpoint: Checkpoint<SqliteStore>,
    ) -> Result<Exit, CliError> {
        let key = target.credentials.masked_id();
        let run_id = RunId::new(jiff::Timestamp::now(), fastrand::u16(..));
        let mut settings = self.settings();
        let rules = format!("{:?}, outside the root: {}", settings.photo, settings.allow_outside_root);
        let new = RunStart {
            id: run_id.clone(),
            access_key: key.clone(),
            rules: Some(rules),
            quota: Some(self.args.sending.qps.get()),
        };
        // Whatever can still be wrong with what was typed is found before the run begins.
        let client = self.client(target)?;
        let show = &self.args.show;
        let metrics = Metrics::start(show.metrics_file.as_deref(), show.metrics_addr).await?;
        let found = checkpoint.start_run(new).await?;
        self.lock.remember(found.epoch);
        if !self.knows_all {
            tracing::warn!("this checkpoint does not know all that it once knew: asking before every send");
        } else if found.was_purged {
            // As someone wanted it.
            tracing::info!("people were removed from this checkpoint, or it was restored: asking before every send");
        }
        if !self.knows_all || found.was_purged {
            settings.precheck = Precheck::EverySend;
        }
        let stop = Stop::default();
        let _signals = signals::listen(stop.clone())?;
        tracing::info!(
            run = %run_id,
            checkpoint = %self.path.display(),
            to = target.binding,
            key,
            from = %target.credentials.origin(),
            quota = self.args.sending.qps.get(),
            rows = found.counts.total,
            enrolled = found.counts.enrolled,
            in_doubt = found.counts.in_doubt,
            "{}", if found.is_resumed { "resuming" } else { "beginning" },
        );

        let now = Instant::now();
        let learned = found.learned_rate.and_then(|rate| Qps::new(rate).ok());
        let sending = &self.args.sending;
        let gate = |quota, learned| Gate::new(quota, sending.quota, learned, now);
        let (events, heard) = mpsc::channel(EVENTS);
        let (ingest_progress, progress) = watch::channel(IngestProgress::default());
        let engine = Arc::new(Engine::new(
            Deps {
                client,
                checkpoint: checkpoint.clone(),
                add_gate: gate(sending.qps, learned),
                query_gate: gate(sending.query_qps, None),
                delete_gate: gate(sending.query_qps, None),
                // Their quotas are not documented; what is uploaded is to be enrolled, at the pace of the enrolling.
                authorize_gate: gate(sending.qps, None),
                upload_gate: gate(sending.qps, None),
                events: events.clone(),
                stop: stop.clone(),
            },
            settings.clone(),
        ));
        let ingest = Ingest {
            sources,
            checkpoint: checkpoint.clone(),
            rules: settings.photo,
            on_change: sending.on_change,
            allow_outside_root: settings.allow_outside_root,
            progress: ingest_progress,
            events,
            stop: stop.clone(),
        };
        let reading = {
            let stop = stop.clone();
            tokio::task::spawn_blocking(move || {
                let read = ingest.run();
                if read.is_err() {
                    stop.drain(DrainReason::SourceFailed);
                }
                read
            })
        };
        checkpoint.record_totals(engine.totals(), engine.binding()).await?;
        let start = Snapshot {
            counts: found.counts.clone(),
            totals: engine.totals(),
            rate: engine.rate().get(),
            binding: engine.binding(),
        };
        if let Err(error) = metrics.publish(self.metrics(&start, None)).await {
            tracing::warn!(%error, "the metrics could not be written");
        }
        tell_systemd(NotifyState::Ready);
        let mut watcher = self.watcher(heard, &metrics);
        let pages = found.was_killed.then(|| self.integrity_check(stop.clone()));
        let working = async {
            let ran = engine.run(progress).await;
            // A run that has sent as much as it may still takes in every row.
            let deadline = self.args.limits.max_duration.map(|limit| now + limit);
            let read = tokio::select! {
                read = reading => Some(read.expect("reading does not panic")),
                () = leave_reading(&stop, deadline) => None,
            };
            (ran, read)
        };
        let (ran, read) = tokio::select! {
            done = working => done,
            () = watcher.watch(&engine, &checkpoint) => unreachable!("it watches for as long as it is let"),
            () = self.guard_files(&stop) => unreachable!("it looks for as long as it is let"),
        };
        watcher.finish();
        tell_systemd(NotifyState::Stopping);
        let (totals, learned) = (engine.totals(), engine.learned_rate());
        drop(engine);
        let damage = match pages {
            // It is of no use to wait for it; it is done again after the next kill.
            Some(pages) if pages.is_finished() => pages.await.ok().and_then(Result::err),
            Some(_) | None => None,
        };
        self.end(
            Ended { ran, read, damage, totals, learned, stop, run_id, before: found.counts },
            &checkpoint,
            &metrics,
        )
        .await
    }

    /// After a kill: beside the first calls, not before them.
    fn integrity_check(&self, stop: Stop) -> tokio::task::JoinHandle<Result<(), StoreError>> {
        let path = self.path.to_owned();
        tokio::task::spawn_blocking(move || {
            let checked = Reader::open(&path).and_then(|reader| reader.integrity_check());
            if checked.is_err() {
                stop.drain(DrainReason::CheckpointCorrupt);
            }
            checked
        })
    }

    /// Ends the run when a file of it is removed or replaced: what is written from then on is lost with the checkpoint,
    /// and without its lock file another run may begin on it.
    async fn guard_files(&self, stop: &Stop) {
        let ours = FileId::at(self.path);
        loop {
            tokio::time::sleep(GUARD_EVERY).await;
            if FileId::at(self.path) != ours {
                stop.drain(DrainReason::CheckpointRemoved);
            } else if !self.lock.is_in_place() {
                stop.drain(DrainReason::LockGone);
            }
        }
    }

    fn client(&self, target: &Target) -> Result<Client<HttpTransport>, CliError> {
        let connections = self.args.sending.concurrency.get();
        let transport = target::transport(&self.args.service, connections, Some(self.settle()))?;
        Ok(Client::new(transport, target.endpoint.clone(), target.upload.clone(), target.credentials.clone()))
    }

    fn settle(&self) -> Duration {
        self.args.sending.settle.unwrap_or(if self.args.sandbox { SANDBOX_SETTLE } else { SETTLE })
    }

    fn settings(&self) -> Settings {
        let RunArgs { sending, limits, .. } = self.args;
        Settings {
            quota: sending.qps,
            concurrency: sending.concurrency,
            rules: RetryRules { attempts: sending.retries },
            in_doubt: sending.in_doubt,
            settle: self.settle(),
            limits: Limits {
                duration: limits.max_duration,
                images: limits.canary.or(limits.max_images),
                errors: limits.max_errors,
            },
            give_up_after: limits.give_up_after,
            keep_going: limits.keep_going,
            photo: reading::rules(&self.args.photos, picture::QualityPolicy::Allow),
            precheck: if sending.precheck { Precheck::FirstSends } else { Precheck::Off },
            always_upload: self.args.photos.send == Send::Upload,
            allow_outside_root: self.args.read.allow_outside_root,
            window: limits.window,
        }
    }

    fn watcher<'w>(&'w self, heard: mpsc::Receiver<Event>, metrics: &'w Metrics<'w>) -> Watcher<'w> {
        let bar = self.bar();
        if let Some(bar) = &bar {
            telemetry::suspend_bar_for(bar);
        }
        let show = &self.args.show;
        let items = show.json == Some(Json::Items);
        let view = View { bar, every: show.stats, items, quota: self.args.sending.qps.get() };
        Watcher {
            progress: Progress::new(view),
            heard,
            checkpoint: self.path,
            quota: self.args.sending.qps,
            metrics,
            status: show.json.map(|_| show.stats),
        }
    }

    fn metrics(&self, snapshot: &Snapshot, exit_code: Option<u8>) -> String {
        report::metrics(snapshot, self.args.sending.qps.get(), exit_code)
    }

    fn bar(&self) -> Option<ProgressBar> {
        let wanted = match self.args.show.progress {
            When::Auto => std::io::stderr().is_terminal() && !self.is_quiet,
            When::Always => true,
            When::Never => false,
        };
        wanted.then(|| ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(2)))
    }

    /// The last words: what the checkpoint holds, and the code.
    async fn end(
        &self,
        ended: Ended,
        checkpoint: &Checkpoint<SqliteStore>,
        metrics: &Metrics<'_>,
    ) -> Result<Exit, CliError> {
        let Ended { ran, read, damage, totals, learned, stop, run_id, before } = ended;
        let nothing_parses = || {
            CliError::new(Exit::Source, "no row of the source could be read as a photo to enrol")
                .with_hint("see what is wrong with each: face-enroll export --status rejected --checkpoint FILE")
        };
        let has_no_rows = matches!(&read, Some(Ok(progress)) if progress.is_done && progress.rows == 0);
        let failure = match (ran, read) {
            // The writer stops with the first error; whoever comes after it hears only that it has stopped.
            (Err(RunError::Store(StoreError::Stopped)), Some(Err(cause))) => Some(CliError::from(cause)),
            (Err(error), _) => Some(CliError::from(error)),
            (Ok(()), Some(Err(error))) => Some(CliError::from(error)),
            (Ok(()), Some(Ok(IngestProgress { rows: 1.., parsed: 0, is_done: true, .. }))) => Some(nothing_parses()),
            (Ok(()), Some(Ok(_)) | None) => None,
        };
        let failure = failure.or(damage.map(CliError::from));
        if has_no_rows {
            tracing::warn!("there is no row in the source: nothing is enrolled by it");
        }
        // Items that were on their way are in doubt from here on, so the counts come after it.
        let counted = async {
            checkpoint.save_rate(learned.map(Qps::get)).await?;
            checkpoint.record_totals(totals.clone(), Bottleneck::Rows).await?;
            checkpoint.end_run(Exit::Internal.code(), String::new()).await?;
            checkpoint.counts().await
        };
        let (counts, failure) = match counted.await {
            Ok(counts) => (counts, failure),
            // What can still be read of it is what is on disk.
            Err(error) => {
                let on_disk = Reader::open(self.path).and_then(|reader| reader.counts());
                (on_disk.unwrap_or_else(|_| before.clone()), failure.or_else(|| Some(error.into())))
            }
        };
        // What was rejected before is known: neither another item, nor more rows that are none.
        let has_new = totals.newly_rejected > 0 || counts.rejected > before.rejected;
        let is_known = self.args.limits.exit_on == ExitOn::New && !has_new;
        let canary = match (self.args.limits.canary, stop.reason()) {
            (Some(_), None | Some(DrainReason::MaxImages)) if totals.sent > 0 => {
                Some(Canary { totals: &totals, before: &before })
            }
            (_, _) => None,
        };
        let of_the_run = match &canary {
            Some(canary) => Some(canary.exit(&counts)),
            None => stop.reason().map(of_reason),
        };
        let of_the_rows = of_counts(&counts).filter(|exit| canary.is_none() && (*exit != Exit::Rejected || !is_known));
        let exit =
            Exit::most_severe(failure.as_ref().map(CliError::exit).into_iter().chain(of_the_run).chain(of_the_rows));
        let exit_reason = match &canary {
            Some(canary) if failure.is_none() => canary.verdict(),
            Some(_) | None => reason(exit, stop.reason(), failure.as_ref(), &counts),
        };
        let summary = RunSummary { totals, exit_code: exit.code(), exit_reason };
        let ended = checkpoint.end_run(summary.exit_code, summary.exit_reason.clone()).await;
        let failure = match ended {
            Ok(epoch) => {
                self.lock.remember(epoch);
                failure
            }
            Err(error) => failure.or_else(|| Some(error.into())),
        };
        let last =
            Snapshot { counts: counts.clone(), totals: summary.totals.clone(), rate: 0.0, binding: Bottleneck::Rows };
        if let Err(error) = metrics.publish(self.metrics(&last, Some(summary.exit_code))).await {
            tracing::warn!(%error, "the metrics could not be written");
        }
        let groups = Reader::open(self.path).and_then(|reader| reader.groups()).unwrap_or_default();
        let object = Summary::new(Status::new(Some(&run_id.0), self.path, &groups, &counts), &summary);
        if self.args.show.json.is_some() {
            report::print_json(&object);
        }
        // Whoever told it twice to leave does not wait for a command.
        if !stop.is_forced() {
            let _ = self.summary.set(serde_json::to_string(&object).expect("our own objects are JSON"));
        }
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
        if !self.is_quiet {
            telemetry::eprint_plain(&report::lines(&counts, &summary, self.path));
        } else if failure.is_none() && (has_new || is_for_someone(exit, stop.reason())) {
            telemetry::eprint_plain(&report::verdict(&counts, &summary, self.path));
        }
        failure.map_or(Ok(exit), Err)
    }
}

struct Ended {
    ran: Result<(), RunError>,
    read: Option<Result<IngestProgress, IngestError>>,
    /// Of the checkpoint's pages.
    damage: Option<StoreError>,
    totals: RunTotals,
    learned: Option<Qps>,
    stop: Stop,
    run_id: RunId,
    /// The rows as the run found them.
    before: Counts,
}

fn make_folder(checkpoint: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = files::folder_of(checkpoint);
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        CliError::new(Exit::Checkpoint, error)
            .with_hint("the checkpoint's folder can't be made: give another --checkpoint")
    })?;
    tracing::info!(folder = %folder.display(), "the checkpoint's folder was not there: it is made");
    Ok(())
}

/// Returns a moment after the reading was told to end, or has to: what hangs on a dead disk is left behind.
async fn leave_reading(stop: &Stop, deadline: Option<Instant>) {
    let at_deadline = async {
        match deadline {
            Some(deadline) => tokio::time::sleep_until(deadline).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = stop.reading_ended() => {}
        () = at_deadline => stop.end_reading(),
    }
    tokio::time::sleep(LEAVING).await;
}
