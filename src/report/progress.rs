//! Watches a run: a bar on a terminal, lines elsewhere, JSON on stdout if asked for. The one place that prints a run.

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
    figures::{duration, thousands},
    json::ItemLine,
};
use crate::domain::{
    Bottleneck, Counts, DrainReason, Event, Outcome, RunTotals, printable, printable_json, printable_lines,
};

/// The rate of now is that of so long: over less it would jump, and seem to step over the quota.
const RATE_OVER: Duration = Duration::from_secs(5);
/// Where the terminal does not tell its width.
const COLUMNS: usize = 80;
/// Of the bar.
const BAR: usize = 20;
/// How often the bar is drawn anew.
const REDRAW: Duration = Duration::from_millis(500);

/// How a run stands at a moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The rows, as they are on disk.
    pub counts: Counts,
    /// What this run has done.
    pub totals: RunTotals,
    /// Calls a second, as they may go.
    pub rate: f64,
    /// What keeps it from going faster.
    pub binding: Bottleneck,
}

/// How a run is shown.
pub struct View {
    /// A bar on stderr.
    pub bar: Option<ProgressBar>,
    /// A line on stderr so often, where there is no bar.
    pub every: Duration,
    /// A line on stdout for each item.
    pub items: bool,
    /// The quota.
    pub quota: f64,
}

/// See the module.
pub struct Progress {
    view: View,
    /// Calls made, at the snapshots of the last [`RATE_OVER`].
    calls: VecDeque<(Instant, u64)>,
    /// Rows read so far; none: every one is in.
    reading: Option<u64>,
    is_throttled: bool,
    /// When, and what.
    last_problem: Option<String>,
}

impl Progress {
    /// Ready to watch.
    pub fn new(view: View) -> Self {
        if let Some(bar) = &view.bar {
            let template = format!("{{bar:{BAR}}} {{percent:>3}}% {{msg}}");
            let style = ProgressStyle::with_template(&template).expect("a valid template");
            bar.set_style(style.progress_chars("=> "));
        }
        Self {
            view,
            calls: VecDeque::from([(Instant::now(), 0)]),
            reading: Some(0),
            is_throttled: false,
            last_problem: None,
        }
    }

    /// How often it wants a snapshot.
    pub fn period(&self) -> Duration {
        if self.view.bar.is_some() { REDRAW } else { self.view.every }
    }

    /// Takes in everything that is waiting to be told.
    pub fn hear(&mut self, event: &Event, events: &mut mpsc::Receiver<Event>) {
        self.tell(event);
        while let Ok(event) = events.try_recv() {
            self.tell(&event);
        }
    }

    fn tell(&mut self, event: &Event) {
        match event {
            Event::Ingested { rows, done } => {
                self.reading = Some(*rows).filter(|_| !done);
                if *done {
                    tracing::debug!(rows, "every row is in");
                }
            }
            Event::Item(report) => {
                if self.view.items {
                    print_json(&ItemLine::from(report));
                }
                let (row, code) = (report.row, report.code().map(|code| code.0.as_str()).unwrap_or_default());
                match &report.outcome {
                    Outcome::Enrolled { .. } | Outcome::Requeue { .. } => {
                        tracing::debug!(row, code, "enrolled or again")
                    }
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
                let rate = tenths(*rate);
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
                tracing::info!(rate = tenths(*rate), "back at full pace");
            }
            Event::ThrottlingTolerated { share } => {
                let percent = tenths(share * 100.0);
                tracing::warn!(percent, "the service throttles this share of the calls at any rate: the rate stays");
            }
            Event::ServiceUnavailable { pause, fault } => {
                self.problem(format!("the service does not answer: {fault}"));
                tracing::warn!(pause = duration(*pause), fault, "the service does not answer: waiting");
            }
            Event::ServiceRecovered => tracing::info!("the service answers again"),
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
                    tracing::error!("stopping; what is in flight is heard out")
                }
                // As it was asked for: nobody needs to be woken.
                DrainReason::MaxDuration | DrainReason::MaxImages => {
                    tracing::info!("stopping; what is in flight is heard out (a second signal leaves at once)");
                }
                DrainReason::Signal(_)
                | DrainReason::MaxErrors
                | DrainReason::Unread { .. }
                | DrainReason::ServiceUnavailable(_)
                | DrainReason::ThrottledTooLong(_) => {
                    tracing::warn!("stopping; what is in flight is heard out (a second signal leaves at once)");
                }
            },
        }
    }

    /// Shows how the run stands.
    pub fn show(&mut self, snapshot: &Snapshot, now: Instant) {
        self.calls.push_back((now, snapshot.totals.calls));
        while self.calls.len() > 2 && self.calls[1].0 + RATE_OVER < now {
            self.calls.pop_front();
        }
        if snapshot.rate >= self.view.quota * 0.98 {
            self.is_throttled = false;
        }
        match &self.view.bar {
            Some(bar) => {
                let counts = &snapshot.counts;
                bar.set_length(counts.total.max(1));
                bar.set_position(counts.total - counts.pending.min(counts.total));
                let columns = Term::stderr().size_checked().map_or(COLUMNS, |(_, columns)| usize::from(columns));
                bar.set_message(self.words(snapshot, columns));
            }
            None => self.line(snapshot),
        }
    }

    /// One line of how it stands, whatever the view.
    pub fn line(&self, snapshot: &Snapshot) {
        let Counts { total, enrolled, rejected, failed, in_doubt, pending, .. } = snapshot.counts;
        let (throttled, rate) = (snapshot.totals.throttled, tenths(self.rate_now()));
        let left = self.left(snapshot);
        let left = left.as_deref();
        let limited_by = snapshot.binding.to_string();
        tracing::info!(
            enrolled,
            total,
            pending,
            rejected,
            failed,
            in_doubt,
            throttled,
            rate,
            limited_by,
            left,
            "enrolling"
        );
    }

    /// The bar is done with.
    pub fn finish(&self) {
        if let Some(bar) = &self.view.bar {
            bar.finish_and_clear();
        }
    }

    /// Three lines, none of them wider than the terminal.
    fn words(&self, snapshot: &Snapshot, columns: usize) -> String {
        let (counts, totals) = (&snapshot.counts, &snapshot.totals);
        let mut rows = vec![format!("{} of {} enrolled", thousands(counts.enrolled), thousands(counts.total))];
        rows.extend(self.reading.map(|read| format!("reading: {} rows so far", thousands(read))));
        let several = [(counts.rejected, "rejected"), (counts.failed, "failed"), (counts.in_doubt, "in doubt")];
        rows.extend(several.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", thousands(*n))));
        let mut pace = vec![format!("{:.1}/s of {}", self.rate_now(), self.view.quota)];
        pace.push(format!("{:.1}/s on average", totals.rate));
        pace.extend((totals.throttled > 0).then(|| format!("{} throttled", thousands(totals.throttled))));
        pace.extend(self.left(snapshot).map(|left| format!("{left} left")));
        pace.push(format!("limited by {}", snapshot.binding));
        let beside_the_bar = columns.saturating_sub(BAR + "  100% ".len());
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

    /// Calls a second, lately.
    fn rate_now(&self) -> f64 {
        let (Some((then, before)), Some((now, calls))) = (self.calls.front(), self.calls.back()) else { return 0.0 };
        if now > then { (calls - before) as f64 / (*now - *then).as_secs_f64() } else { 0.0 }
    }

    /// Time to the end, at the pace of now.
    fn left(&self, snapshot: &Snapshot) -> Option<String> {
        let pace = self.rate_now().min(snapshot.rate);
        (pace > 0.0 && snapshot.counts.pending > 0)
            .then(|| duration(Duration::from_secs_f64(snapshot.counts.pending as f64 / pace)))
    }
}

fn tenths(rate: f64) -> f64 {
    (rate * 10.0).round() / 10.0
}

/// The first failure to write to stdout that is more than a reader who has left.
static FAILURE: OnceLock<io::Error> = OnceLock::new();

/// Lines on stdout. False: whoever read them is gone; that ends no run, and is no fault.
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

/// An object on a line of stdout.
pub fn print_json(object: &impl serde::Serialize) {
    print(&json_line(object));
}

/// Why what was printed has not all arrived, if it has not, and its reader has not left.
pub fn stdout_failure() -> Option<&'static io::Error> {
    FAILURE.get()
}

/// An object as JSON that steers no terminal.
pub fn json_line(object: &impl serde::Serialize) -> String {
    let json = serde_json::to_string(object).expect("our own objects are JSON");
    match printable_json(&json) {
        Cow::Borrowed(_) => json,
        Cow::Owned(escaped) => escaped,
    }
}
