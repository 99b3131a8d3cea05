//! `face-enroll run`, in three steps: `prepare` opens everything, `drive` sends, `finish` decides the exit code and reports.

mod finish;
mod prepare;

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use indicatif::{ProgressBar, ProgressDrawTarget};
use sd_notify::NotifyState;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::Instant,
};

use self::prepare::{Prepared, prepare};
use super::{
    CliError,
    metrics::Metrics,
    monitor::{Monitor, notify_systemd},
    on_finish,
    ping::Pings,
    shows_bar, signals, sources,
    target::{self, Target},
};
use crate::{
    api::{Client, HttpTransport},
    checkpoint::{Checkpoint, CheckpointState, Lock, Reader, RunStart, SqliteStore, StoreError},
    cli::{Json, RateArgs, RunArgs, Send},
    domain::{Counts, DrainReason, Event, FatalError, RunId, RunTotals},
    exit::Exit,
    files::FileId,
    manifest::Source,
    pace::{Gate, Qps, RetryRules},
    picture::{FacePolicy, QualityPolicy},
    quota::{QuotaError, SharedQuota},
    report::{self, Progress, Snapshot, View},
    run::{
        Deps, Engine, Gates, Ingest, IngestError, IngestProgress, Limits, Precheck, RunError, SendMode, Settings, Stop,
    },
    storage::Objects,
    telemetry,
};

/// Capacity of the channel of events.
const EVENT_CAPACITY: usize = 1_024;
/// Default of `--settle` (reliability.md 4.6, T_settle).
const SETTLE: Duration = Duration::from_secs(30);
/// The same for the sandbox, which dies with this process and so has no late executions.
const SANDBOX_SETTLE: Duration = Duration::from_secs(1);
/// How often the checkpoint's files are checked to be in place.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(2);
/// How long to wait for a reader that was asked to stop, and for the writer at the end; the next run reads the rest.
const SHUTDOWN_GRACE: Duration = Duration::from_secs(1);

pub(super) async fn run(args: RunArgs, is_quiet: bool) -> Result<Exit, CliError> {
    let pings = Pings::start(&args)?;
    let summary = OnceLock::new();
    let ended = run_to_end(&args, is_quiet, &summary).await;
    let hook = async {
        if let (Some(command), Some(summary)) = (&args.show.on_finish, summary.get()) {
            on_finish::run_hook(command, summary).await;
        }
    };
    let ping = async {
        if let Some(pings) = pings {
            pings.finish(&ended, summary.get()).await;
        }
    };
    tokio::join!(ping, hook);
    ended
}

/// Runs until everything is recorded and the lock is released. Sets `summary` unless it ends before the run is recorded, or
/// by a second signal.
async fn run_to_end(args: &RunArgs, is_quiet: bool, summary: &OnceLock<String>) -> Result<Exit, CliError> {
    let Prepared { path, lock, is_complete, sources, objects, target, checkpoint, writer } = prepare(args).await?;
    let run = Run { args, path: &path, lock: &lock, objects: &objects, is_complete, is_quiet, summary };
    let ended = run.execute(&target, sources, checkpoint).await;
    if let Some(sandbox) = target.sandbox {
        sandbox.shutdown().await;
    }
    // Everything that matters is committed. After a second signal a reader may still block the writer.
    let _ = tokio::time::timeout(SHUTDOWN_GRACE, tokio::task::spawn_blocking(move || writer.join())).await;
    drop(lock);
    ended
}

struct Run<'a> {
    args: &'a RunArgs,
    path: &'a Path,
    lock: &'a Lock,
    objects: &'a Objects,
    /// False if the service may have records that the checkpoint does not know.
    is_complete: bool,
    is_quiet: bool,
    /// The summary as JSON, once it is known.
    summary: &'a OnceLock<String>,
}

/// A run that is recorded in the checkpoint and has not sent anything yet.
struct Started {
    client: Client<HttpTransport>,
    settings: Settings,
    sources: Vec<Source>,
    /// The checkpoint as the run found it.
    state: CheckpointState,
    quota: Option<SharedQuota>,
    stop: Stop,
    run_id: RunId,
}

/// What [`Run::drive`] leaves for [`Run::finish`].
struct RunResult {
    ran: Result<(), RunError>,
    /// `None` if the reader did not stop in time.
    ingested: Option<Result<IngestProgress, IngestError>>,
    /// Result of a failed integrity check.
    damage: Option<StoreError>,
    totals: RunTotals,
    learned_rate: Option<Qps>,
    stop: Stop,
    run_id: RunId,
    /// The rows as the run found them.
    before: Counts,
}

impl Run<'_> {
    async fn execute(
        &self,
        target: &Target,
        sources: Vec<Source>,
        checkpoint: Checkpoint<SqliteStore>,
    ) -> Result<Exit, CliError> {
        let mut settings = self.settings();
        // Find every error in the arguments before the run is recorded.
        let client = self.client(target)?;
        let sending = &self.args.sending;
        let quota = target::shared_quota(&sending.shared, &self.args.service, target)?;
        let show = &self.args.show;
        let metrics = Metrics::start(show.metrics_file.as_deref(), show.metrics_addr).await?;
        let run_id = RunId::new(jiff::Timestamp::now(), fastrand::u16(..));
        let state = checkpoint
            .start_run(RunStart {
                id: run_id.clone(),
                access_key: target.credentials.masked_id(),
                rules: Some(format!(
                    "{:?}, outside the root: {}",
                    settings.photo, self.args.read.reading.allow_outside_root
                )),
                quota: Some(self.args.sending.qps.get()),
            })
            .await?;
        self.lock.remember(state.epoch);
        if !self.is_complete {
            tracing::warn!(
                "the checkpoint may be incomplete (restored or copied): checking the service before every send"
            );
        } else if state.was_purged {
            // Info only: someone asked for it.
            tracing::info!(
                "records were purged from the checkpoint, or it was restored: checking the service before every send"
            );
        }
        if !self.is_complete || state.was_purged {
            settings.precheck = Precheck::EverySend;
        }
        let stop = Stop::default();
        let _signals = signals::listen(stop.clone())?;
        self.log_start(&run_id, target, &state);
        let started = Started { client, settings, sources, state, quota, stop, run_id };
        let result = self.drive(started, &checkpoint, &metrics).await?;
        self.finish(result, &checkpoint, &metrics).await
    }

    fn log_start(&self, run_id: &RunId, target: &Target, state: &CheckpointState) {
        tracing::info!(
            run = %run_id,
            checkpoint = %self.path.display(),
            endpoint = target.binding,
            access_key = target.credentials.masked_id(),
            credentials = %target.credentials.origin(),
            quota = self.args.sending.qps.get(),
            rows = state.counts.total,
            enrolled = state.counts.enrolled,
            in_doubt = state.counts.in_doubt,
            "{}", if state.is_resumed { "run resumed" } else { "run started" },
        );
    }

    /// Reads the sources and sends, side by side, until both have ended or were stopped.
    async fn drive(
        &self,
        started: Started,
        checkpoint: &Checkpoint<SqliteStore>,
        metrics: &Metrics<'_>,
    ) -> Result<RunResult, CliError> {
        let Started { client, settings, sources, state, mut quota, stop, run_id } = started;
        let now = Instant::now();
        let sending = &self.args.sending;
        let learned = state.learned_rate.and_then(|rate| Qps::new(rate).ok());
        let (events, event_receiver) = mpsc::channel(EVENT_CAPACITY);
        let (ingest_progress, progress) = watch::channel(IngestProgress::default());
        let ingest = Ingest {
            sources,
            checkpoint: checkpoint.clone(),
            rules: settings.photo,
            on_change: sending.on_change,
            storage: Arc::clone(&settings.storage),
            progress: ingest_progress,
            events: events.clone(),
            stop: stop.clone(),
        };
        let gates = self.gates(quota.as_mut(), learned, now);
        let engine = Arc::new(Engine::new(
            Deps { client, checkpoint: checkpoint.clone(), gates, events, stop: stop.clone() },
            settings,
        ));
        let reader = spawn_ingest(ingest, stop.clone());
        checkpoint.record_totals(engine.totals(), engine.bottleneck()).await?;
        let start = Snapshot {
            counts: state.counts.clone(),
            totals: engine.totals(),
            rate: engine.rate().get(),
            bottleneck: engine.bottleneck(),
        };
        metrics.publish_or_warn(self.metrics(&start, None)).await;
        notify_systemd(NotifyState::Ready);
        let mut monitor = self.monitor(event_receiver, metrics);
        let integrity_check = state.was_killed.then(|| self.spawn_integrity_check(stop.clone()));
        let work = async {
            let ran = engine.run(progress).await;
            if ran.is_err() {
                // Nothing is sent any more, so nothing is gained by waiting for a silent source.
                stop.end_reading();
            }
            // A run that has reached its limit of photos still reads every row.
            let deadline = self.args.limits.max_duration.map(|limit| now + limit);
            let ingested = tokio::select! {
                ingested = reader => Some(ingested.expect("reading does not panic")),
                () = reading_deadline(&stop, deadline) => None,
            };
            (ran, ingested)
        };
        let (ran, ingested) = tokio::select! {
            done = work => done,
            () = monitor.watch(&engine, checkpoint) => unreachable!("the monitor never ends"),
            () = self.watch_checkpoint_files(&stop) => unreachable!("the file check never ends"),
            () = self.serve_quota(quota.as_ref(), &stop) => unreachable!("the quota is served until the run ends"),
        };
        monitor.finish();
        notify_systemd(NotifyState::Stopping);
        let damage = match integrity_check {
            Some(check) if check.is_finished() => check.await.ok().and_then(Result::err),
            // Do not wait for it: it is repeated after the next kill.
            Some(_) | None => None,
        };
        let (totals, learned_rate) = (engine.totals(), engine.learned_rate());
        Ok(RunResult { ran, ingested, damage, totals, learned_rate, stop, run_id, before: state.counts })
    }

    fn gates(&self, shared: Option<&mut SharedQuota>, learned: Option<Qps>, now: Instant) -> Gates {
        let &RateArgs { qps, query_qps, quota, .. } = &self.args.sending;
        // The object store has no quota that others could use up.
        let post = Gate::new(qps, quota, None, now);
        match shared {
            Some(shared) => Gates {
                add: shared.gate("AddFaceRecord", qps, quota),
                query: shared.gate("QueryFaceRecord", query_qps, quota),
                delete: shared.gate("DeleteFaceRecord", query_qps, quota),
                authorize: shared.gate("AuthorizeFileUpload", qps, quota),
                post,
            },
            None => Gates {
                add: Gate::new(qps, quota, learned, now),
                query: Gate::new(query_qps, quota, None, now),
                delete: Gate::new(query_qps, quota, None, now),
                // The upload quotas are undocumented; every uploaded photo is enrolled, so the enrolling rate is enough.
                authorize: Gate::new(qps, quota, None, now),
                post,
            },
        }
    }

    /// Hands out the slots of a shared quota. Stops the run when there are none to be had.
    async fn serve_quota(&self, quota: Option<&SharedQuota>, stop: &Stop) {
        if let Some(quota) = quota {
            let error = quota.serve(self.args.limits.give_up_after).await;
            stop.drain(match error {
                QuotaError::Away { away, error } => DrainReason::QuotaUnavailable { away, error: error.to_string() },
                error => DrainReason::Fatal(FatalError::Quota { message: error.to_string() }),
            });
        }
        std::future::pending().await
    }

    /// Checks every page of the checkpoint after a kill, while the first calls are already made.
    fn spawn_integrity_check(&self, stop: Stop) -> JoinHandle<Result<(), StoreError>> {
        let path = self.path.to_owned();
        tokio::task::spawn_blocking(move || {
            let checked = Reader::open(&path).and_then(|reader| reader.integrity_check());
            if checked.is_err() {
                stop.drain(DrainReason::CheckpointCorrupt);
            }
            checked
        })
    }

    /// Stops the run when one of its files is removed or replaced: later writes would be lost with the checkpoint, and
    /// without the lock file another run could start.
    async fn watch_checkpoint_files(&self, stop: &Stop) {
        let ours = FileId::at(self.path);
        loop {
            tokio::time::sleep(FILE_CHECK_INTERVAL).await;
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
        Ok(target.client(transport))
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
            photo: sources::rules(&self.args.photos, (QualityPolicy::Allow, FacePolicy::Ignore)),
            precheck: if sending.precheck { Precheck::FirstSends } else { Precheck::Off },
            send: match self.args.photos.send {
                Send::Auto | Send::Inline => SendMode::Auto,
                Send::Upload => SendMode::Upload,
                Send::Link => SendMode::Link,
            },
            quality_check: sending.face_quality_check,
            bandwidth: sending.bwlimit.clone(),
            storage: Arc::new(sources::storage(&self.args.read, self.objects)),
            window: limits.window,
        }
    }

    fn monitor<'m>(&'m self, events: mpsc::Receiver<Event>, metrics: &'m Metrics<'m>) -> Monitor<'m> {
        let bar = self.bar();
        if let Some(bar) = &bar {
            telemetry::suspend_bar_for(bar);
        }
        let show = &self.args.show;
        let items = show.json == Some(Json::Items);
        let view = View { bar, every: show.stats, items, quota: self.args.sending.qps.get() };
        Monitor {
            progress: Progress::new(view),
            events,
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
        shows_bar(self.args.show.progress, self.is_quiet)
            .then(|| ProgressBar::with_draw_target(Some(1), ProgressDrawTarget::stderr_with_hz(2)))
    }
}

fn spawn_ingest(ingest: Ingest<SqliteStore>, stop: Stop) -> JoinHandle<Result<IngestProgress, IngestError>> {
    tokio::task::spawn_blocking(move || {
        // A bug in a parser must end the run: without progress, the engine would wait for ever.
        let ingested = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| ingest.run()))
            .unwrap_or(Err(IngestError::Panicked));
        if ingested.is_err() {
            stop.drain(DrainReason::SourceFailed);
        }
        ingested
    })
}

/// Returns [`SHUTDOWN_GRACE`] after reading was asked to stop, or `deadline` has passed: a reader that hangs on a dead disk
/// is abandoned.
async fn reading_deadline(stop: &Stop, deadline: Option<Instant>) {
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
    tokio::time::sleep(SHUTDOWN_GRACE).await;
}
