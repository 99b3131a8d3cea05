//! Monitors a run: the progress display, the JSON on stdout, Prometheus, systemd, and the totals in the checkpoint.

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

/// How often the metrics are published; collectors scrape about every 15 s.
const METRICS_INTERVAL: Duration = Duration::from_secs(5);
/// How often the totals are recorded for `status` and the charts of `report`: 3 MB in three days.
const TOTALS_INTERVAL: Duration = Duration::from_secs(5);
/// The first time, so that `status` soon shows a rate.
const FIRST_TOTALS: Duration = Duration::from_secs(1);

pub(super) struct Monitor<'a> {
    pub(super) progress: Progress,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) checkpoint: &'a Path,
    pub(super) quota: Qps,
    pub(super) metrics: &'a Metrics<'a>,
    /// Interval of the `status` objects on stdout.
    pub(super) status: Option<Duration>,
}

impl Monitor<'_> {
    /// Never returns; the caller drops it when the run has ended.
    pub(super) async fn watch(
        &mut self,
        engine: &Engine<HttpTransport, SqliteStore>,
        checkpoint: &Checkpoint<SqliteStore>,
    ) {
        let mut show = interval(self.progress.period());
        let mut status = self.status.map(interval);
        let mut metrics = self.metrics.has_consumer().then(|| interval(METRICS_INTERVAL));
        // Half of the watchdog's timeout, as sd_watchdog_enabled(3) recommends.
        let mut watchdog = sd_notify::watchdog_enabled().map(|timeout| interval(timeout / 2));
        let mut totals = tokio::time::interval_at(Instant::now() + FIRST_TOTALS, TOTALS_INTERVAL);
        let mut user_signal = signal(SignalKind::user_defined1()).ok();
        loop {
            let due = tokio::select! {
                Some(event) = self.events.recv() => {
                    self.progress.handle_events(&event, &mut self.events);
                    continue;
                }
                _ = show.tick() => Tick::Progress,
                _ = totals.tick() => {
                    // A failed writer also fails the engine, which reports it.
                    let _ = checkpoint.record_totals(engine.totals(), engine.binding()).await;
                    continue;
                }
                Some(()) = tick(&mut status) => Tick::Status,
                Some(()) = tick(&mut metrics) => Tick::Metrics,
                Some(()) = tick(&mut watchdog) => Tick::Watchdog,
                Some(()) = signals::next(&mut user_signal) => Tick::Line,
            };
            let Ok(counts) = checkpoint.counts().await else { continue };
            let snapshot =
                Snapshot { counts, totals: engine.totals(), rate: engine.rate().get(), bottleneck: engine.binding() };
            match due {
                Tick::Progress => self.progress.show(&snapshot, Instant::now()),
                Tick::Status => report::print_json(&Status::new(None, self.checkpoint, &[], &snapshot.counts)),
                Tick::Metrics => {
                    self.metrics.publish_or_warn(report::metrics(&snapshot, self.quota.get(), None)).await;
                }
                // The writer has just answered, so the process does not hang.
                Tick::Watchdog => notify_systemd(NotifyState::Watchdog),
                Tick::Line => self.progress.line(&snapshot),
            }
        }
    }

    /// Handles the last events and removes the bar.
    pub(super) fn finish(&mut self) {
        while let Ok(event) = self.events.try_recv() {
            self.progress.handle_events(&event, &mut self.events);
        }
        self.progress.finish();
    }
}

enum Tick {
    Progress,
    Status,
    Metrics,
    Watchdog,
    Line,
}

/// Notifies systemd; does nothing outside a service of `Type=notify`.
pub(super) fn notify_systemd(state: NotifyState<'_>) {
    let _ = sd_notify::notify(&[state]);
}

/// An interval whose first tick comes after one period.
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
