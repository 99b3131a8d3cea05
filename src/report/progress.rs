//! Shows the progress of a run: a bar on a terminal, log lines elsewhere, JSON on stdout with `--json`. All output to stdout
//! goes through here.

use std::{
    borrow::Cow,
    collections::VecDeque,
    io::{self, Write},
    sync::OnceLock,
    time::Duration,
};

use console::{Term, truncate_str};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{sync::mpsc, time::Instant};

use super::{
    format::{duration, group_digits, one_decimal, plural},
    json::ItemLine,
};
use crate::domain::{
    Bottleneck, Counts, DrainReason, Event, Outcome, RunTotals, printable, printable_json, printable_lines,
};

/// Window of the current rate; over a shorter one it would jump and seem to exceed the quota.
const RATE_WINDOW: Duration = Duration::from_secs(5);
/// Columns if the terminal does not report its width.
const DEFAULT_COLUMNS: usize = 80;
/// Columns of the bar.
const BAR_COLUMNS: usize = 20;
/// How often the bar is redrawn.
const REDRAW_INTERVAL: Duration = Duration::from_millis(500);

/// Share of the quota below which the rate is logged again and again.
const LOW_RATE_SHARE: f64 = 0.25;
/// How often a low rate is logged.
const LOW_RATE_LOG_INTERVAL: Duration = Duration::from_secs(60);

/// State of a run at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The rows on disk.
    pub counts: Counts,
    /// Totals of this run.
    pub totals: RunTotals,
    /// Current rate limit in calls per second.
    pub rate: f64,
    /// What limits the rate.
    pub bottleneck: Bottleneck,
}

/// Settings of the display.
pub struct View {
    /// A bar on stderr.
    pub bar: Option<ProgressBar>,
    /// Interval of the log lines when there is no bar.
    pub every: Duration,
    /// Whether to print a JSON line for each item.
    pub items: bool,
    /// The quota in calls per second.
    pub quota: f64,
}

/// Display of a run.
pub struct Progress {
    view: View,
    /// Calls made so far, at each snapshot of the last [`RATE_WINDOW`].
    calls: VecDeque<(Instant, u64)>,
    /// Rows read so far; `None` when all are read.
    reading: Option<u64>,
    is_throttled: bool,
    /// Time since when the rate is low, or of the last log line about it.
    low_rate_since: Option<Instant>,
    /// Time and text of the last problem.
    last_problem: Option<String>,
}

impl Progress {
    /// A display without any progress yet.
    pub fn new(view: View) -> Self {
        if let Some(bar) = &view.bar {
            let template = format!("{{bar:{BAR_COLUMNS}}} {{percent:>3}}% {{msg}}");
            let style = ProgressStyle::with_template(&template).expect("a valid template");
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            view,
            calls: VecDeque::from([(Instant::now(), 0)]),
            reading: Some(0),
            is_throttled: false,
            low_rate_since: None,
            last_problem: None,
        }
    }

    /// How often to call [`show`](Self::show).
    pub fn period(&self) -> Duration {
        if self.view.bar.is_some() { REDRAW_INTERVAL } else { self.view.every }
    }

    /// Handles an event and all others that are queued.
    pub fn handle_events(&mut self, event: &Event, events: &mut mpsc::Receiver<Event>) {
        self.log_event(event);
        while let Ok(event) = events.try_recv() {
            self.log_event(&event);
        }
    }

    fn log_event(&mut self, event: &Event) {
        match event {
            Event::Ingested { rows, done } => {
                self.reading = Some(*rows).filter(|_| !done);
                if *done {
                    tracing::debug!(rows, "all rows are read");
                }
            }
            Event::Item(report) => {
                if self.view.items {
                    print_json(&ItemLine::from(report));
                }
                let (row, code) = (report.row, report.code().map(|code| code.0.as_str()).unwrap_or_default());
                match &report.outcome {
                    Outcome::Enrolled { .. } => tracing::debug!(row, code, "enrolled"),
                    Outcome::Retry { .. } => tracing::debug!(row, code, "to be retried"),
                    Outcome::Rejected { message, .. } => {
                        self.problem(format!("row {row} rejected: {code}, {message}"));
                        tracing::debug!(row, code, message, "rejected");
                    }
                    Outcome::Failed { message, .. } => {
                        self.problem(format!("row {row} failed: {code}, {message}"));
                        tracing::warn!(row, code, message, "failed");
                    }
                    Outcome::InDoubt { message, .. } => tracing::debug!(row, code, message, "in doubt"),
                }
            }
            Event::Throttled { rate, pause } => {
                let rate = one_decimal(*rate);
                match pause {
                    Some(pause) => tracing::debug!(rate, pause = duration(*pause), "throttled"),
                    None => tracing::debug!(rate, "throttled"),
                }
                if !std::mem::replace(&mut self.is_throttled, true) {
                    self.problem(format!("throttled: sending more slowly, {rate}/s"));
                    tracing::warn!(rate, "the service throttles: sending more slowly");
                }
            }
            Event::RateRestored { rate } => {
                self.is_throttled = false;
                tracing::info!(rate = one_decimal(*rate), "throttling is over: sending at the full rate");
            }
            Event::ThrottlingTolerated { share } => {
                let percent = one_decimal(share * 100.0);
                tracing::warn!(percent, "some calls are throttled at any rate: keeping the current rate");
            }
            Event::ServiceUnavailable { pause, fault } => {
                self.problem(format!("service unavailable: {fault}"));
                tracing::warn!(pause = duration(*pause), fault, "service unavailable: retrying after the pause");
            }
            Event::ServiceRecovered => tracing::info!("service is available again"),
            Event::WindowClosed { opens_in } => {
                tracing::info!(opens_in = duration(*opens_in), "outside the hours of --window: waiting")
            }
            Event::WindowOpened => tracing::info!("within the hours of --window: sending"),
            Event::Draining(reason) => match reason {
                DrainReason::Fatal(_)
                | DrainReason::SourceFailed
                | DrainReason::NoPhotoFound { .. }
                | DrainReason::CheckpointCorrupt
                | DrainReason::CheckpointRemoved
                | DrainReason::LockGone => {
                    tracing::error!("stopping: waiting for in-flight requests")
                }
                // Info only: the stop was asked for.
                DrainReason::MaxDuration | DrainReason::MaxImages => {
                    tracing::info!("stopping: waiting for in-flight requests; send a second signal to quit now");
                }
                DrainReason::Signal(_)
                | DrainReason::MaxErrors
                | DrainReason::Unread { .. }
                | DrainReason::ServiceUnavailable(_)
                | DrainReason::QuotaUnavailable { .. }
                | DrainReason::ThrottledTooLong(_) => {
                    tracing::warn!("stopping: waiting for in-flight requests; send a second signal to quit now");
                }
            },
        }
    }

    /// Updates the bar, or logs a line.
    pub fn show(&mut self, snapshot: &Snapshot, now: Instant) {
        self.calls.push_back((now, snapshot.totals.calls));
        while self.calls.len() > 2 && self.calls[1].0 + RATE_WINDOW < now {
            self.calls.pop_front();
        }
        if snapshot.rate >= self.view.quota * 0.98 {
            self.is_throttled = false;
        }
        if self.is_low_rate_due(snapshot.rate, now) {
            let (rate, throttled) = (one_decimal(snapshot.rate), snapshot.totals.throttled);
            tracing::warn!(rate, quota = self.view.quota, throttled, "still sending slowly after throttled calls");
        }
        match &self.view.bar {
            Some(bar) => {
                let counts = &snapshot.counts;
                bar.set_length(counts.total.max(1));
                bar.set_position(counts.total - counts.pending.min(counts.total));
                let columns =
                    Term::stderr().size_checked().map_or(DEFAULT_COLUMNS, |(_, columns)| usize::from(columns));
                bar.set_message(self.message(snapshot, columns));
            }
            None => self.line(snapshot),
        }
    }

    /// Logs a line, also when there is a bar.
    pub fn line(&self, snapshot: &Snapshot) {
        let Counts { total, enrolled, rejected, failed, in_doubt, pending, .. } = snapshot.counts;
        let (throttled, rate) = (snapshot.totals.throttled, one_decimal(self.rate_now()));
        let left = self.left(snapshot);
        let left = left.as_deref();
        let limited_by = snapshot.bottleneck.to_string();
        tracing::info!(
            enrolled, total, pending, rejected, failed, in_doubt, throttled, rate, limited_by, left, "enrolling"
        );
    }

    /// Removes the bar.
    pub fn finish(&self) {
        if let Some(bar) = &self.view.bar {
            bar.finish_and_clear();
        }
    }

    /// Whether to log that throttling keeps the rate far below the quota: once a minute.
    fn is_low_rate_due(&mut self, rate: f64, now: Instant) -> bool {
        if rate >= self.view.quota * LOW_RATE_SHARE {
            self.low_rate_since = None;
            return false;
        }
        let is_due = now.saturating_duration_since(*self.low_rate_since.get_or_insert(now)) >= LOW_RATE_LOG_INTERVAL;
        if is_due {
            self.low_rate_since = Some(now);
        }
        is_due
    }

    /// Three lines that fit the width of the terminal.
    fn message(&self, snapshot: &Snapshot, columns: usize) -> String {
        let (counts, totals) = (&snapshot.counts, &snapshot.totals);
        let mut rows = vec![format!("{} of {} enrolled", group_digits(counts.enrolled), group_digits(counts.total))];
        rows.extend(self.reading.map(|read| format!("reading: {} so far", plural(read, "row"))));
        let several = [(counts.rejected, "rejected"), (counts.failed, "failed"), (counts.in_doubt, "in doubt")];
        rows.extend(several.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", group_digits(*n))));
        let mut pace = vec![format!("{:.1}/s of {}", self.rate_now(), self.view.quota)];
        pace.push(format!("{:.1}/s on average", totals.rate));
        pace.extend((totals.throttled > 0).then(|| format!("{} throttled", group_digits(totals.throttled))));
        pace.extend(self.left(snapshot).map(|left| format!("{left} left")));
        pace.push(format!("limited by {}", snapshot.bottleneck));
        let beside_the_bar = columns.saturating_sub(BAR_COLUMNS + "  100% ".len());
        let lines = [
            (rows.join(" · "), beside_the_bar),
            (pace.join(" · "), columns.saturating_sub(1)),
            (self.last_problem.clone().unwrap_or_default(), columns.saturating_sub(1)),
        ];
        let shown = lines.iter().filter(|(line, _)| !line.is_empty());
        let cut: Vec<_> = shown.map(|(line, width)| truncate_str(line, *width, "…")).collect();
        cut.join("\n")
    }

    fn problem(&mut self, what: String) {
        let what = printable(&what);
        self.last_problem = Some(format!("{} {what}", jiff::Timestamp::now().strftime("%H:%M:%SZ")));
    }

    /// Calls per second over the last [`RATE_WINDOW`].
    fn rate_now(&self) -> f64 {
        let (Some((then, before)), Some((now, calls))) = (self.calls.front(), self.calls.back()) else { return 0.0 };
        if now > then { (calls - before) as f64 / (*now - *then).as_secs_f64() } else { 0.0 }
    }

    /// Time left at the current rate.
    fn left(&self, snapshot: &Snapshot) -> Option<String> {
        let pace = self.rate_now().min(snapshot.rate);
        (pace > 0.0 && snapshot.counts.pending > 0)
            .then(|| duration(Duration::from_secs_f64(snapshot.counts.pending as f64 / pace)))
    }
}

/// The first failed write to stdout, other than a closed pipe.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Prints lines to stdout. False if that failed; a closed pipe is not an error and ends no run.
pub fn print(lines: &str) -> bool {
    let mut out = io::stdout().lock();
    let written = writeln!(out, "{}", printable_lines(lines)).and_then(|()| out.flush());
    match written {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::BrokenPipe {
                let _ = FAILURE.set(error);
            }
            false
        }
    }
}

/// Prints an object as one line of JSON.
pub fn print_json(object: &impl serde::Serialize) {
    print(&json_line(object));
}

/// Why stdout could not be written; `None` after a closed pipe.
pub fn stdout_failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

/// Serialises an object as JSON, with terminal control characters escaped.
pub fn json_line(object: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(object).expect("our own objects are JSON");
    match printable_json(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(escaped) => escaped,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn low_rate_is_logged_once_a_minute() {
        let mut progress = Progress::new(View { bar: None, every: Duration::from_secs(1), items: false, quota: 50.0 });
        let start = Instant::now();
        let mut logged = |seconds: std::ops::Range<u64>, rate: f64| {
            seconds.filter(|second| progress.is_low_rate_due(rate, start + Duration::from_secs(*second))).count()
        };
        assert_eq!(logged(0..200, 12.0), 3);
        assert_eq!(logged(200..300, 13.0), 0);
        assert_eq!(logged(300..360, 1.0), 0, "a minute has not passed yet");
    }
}
