//! Watches a run for everyone who wants to know: the person at the terminal, whoever reads stdout, Prometheus, systemd, and
//! the checkpoint itself.

use std::{path::Path, time::Duration};

use sd_notify::NotifyState;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::mpsc,
    time::{Instant, Interval},
};

use super::{metrics::Metrics, signals};
use crate::{
    api::HttpTransport,
    checkpoint::{Checkpoint, SqliteStore},
    domain::Event,
    pace::Qps,
    report::{self, Progress, Snapshot, Status},
    run::Engine,
};

/// How often the figures for Prometheus are renewed: collectors look every 15 s or so.
const METRICS_EVERY: Duration = Duration::from_secs(5);
/// How often what the run has done is noted in the checkpoint, for `status` and the curves of `report`: 3 MB in three days.
const NOTE_EVERY: Duration = Duration::from_secs(5);

/// See the module.
pub(super) struct Watcher<'a> {
    pub(super) progress: Progress,
    pub(super) heard: mpsc::Receiver<Event>,
    pub(super) checkpoint: &'a Path,
    pub(super) quota: Qps,
    pub(super) metrics: &'a Metrics<'a>,
    /// A `status` object on stdout so often.
    pub(super) status: Option<Duration>,
}

impl Watcher<'_> {
    /// For as long as it lasts.
    pub(super) async fn watch(
        &mut self,
        engine: &Engine<HttpTransport, SqliteStore>,
        checkpoint: &Checkpoint<SqliteStore>,
    ) {
        let mut show = interval(self.progress.period());
        let mut status = self.status.map(interval);
        let mut metrics = self.metrics.are_wanted().then(|| interval(METRICS_EVERY));
        // Half of what systemd allows for.
        let mut alive = sd_notify::watchdog_enabled().map(|allowed| interval(allowed / 2));
        let mut note = interval(NOTE_EVERY);
        let mut asked = signal(SignalKind::user_defined1()).ok();
        loop {
            let what = tokio::select! {
                Some(event) = self.heard.recv() => {
                    self.progress.hear(&event, &mut self.heard);
                    continue;
                }
                _ = show.tick() => What::View,
                _ = note.tick() => {
                    // Where it fails, it has failed for everyone, and the run ends with that.
                    let _ = checkpoint.record_totals(engine.totals(), engine.binding()).await;
                    continue;
                }
                Some(()) = tick(&mut status) => What::Status,
                Some(()) = tick(&mut metrics) => What::Metrics,
                Some(()) = tick(&mut alive) => What::Alive,
                Some(()) = signals::next(&mut asked) => What::Line,
            };
            let Ok(counts) = checkpoint.counts().await else { continue };
            let snapshot =
                Snapshot { counts, totals: engine.totals(), rate: engine.rate().get(), binding: engine.binding() };
            match what {
                What::View => self.progress.show(&snapshot, Instant::now()),
                What::Status => report::print_json(&Status::new(None, self.checkpoint, &[], &snapshot.counts)),
                What::Metrics => {
                    if let Err(error) = self.metrics.publish(report::metrics(&snapshot, self.quota.get(), None)).await {
                        tracing::warn!(%error, "the metrics could not be written");
                    }
                }
                // The writer has answered: nothing hangs.
                What::Alive => tell_systemd(NotifyState::Watchdog),
                What::Line => self.progress.line(&snapshot),
            }
        }
    }

    /// What was told last, and no bar any more.
    pub(super) fn finish(&mut self) {
        while let Ok(event) = self.heard.try_recv() {
            self.progress.hear(&event, &mut self.heard);
        }
        self.progress.finish();
    }
}

enum What {
    View,
    Status,
    Metrics,
    Alive,
    Line,
}

/// Where systemd started us as a service of the type notify; else nobody hears it.
pub(super) fn tell_systemd(state: NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

/// First after one period, not at once.
fn interval(period: Duration) -> Interval {
    tokio::time::interval_at(Instant::now() + period, period.max(Duration::from_millis(1)))
}

async fn tick(interval: &mut Option<Interval>) -> Option<()> {
    match interval {
        Some(interval) => {
            interval.tick().await;
            Some(())
        }
        None => std::future::pending().await,
    }
}
