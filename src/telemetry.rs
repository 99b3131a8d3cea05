//! What the program says on stderr, and in `--log-file`: our own words only.
//!
//! Other crates are capped at `warn`, whatever is asked for: at finer levels they print headers.

use std::{
    io::{self, IsTerminal, Write},
    sync::{Mutex, OnceLock},
};

use indicatif::ProgressBar;
use tracing::Level;
use tracing_subscriber::{
    Layer, Registry,
    filter::{LevelFilter, Targets},
    fmt::{self, MakeWriter, time::FormatTime},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::{
    cli::{LogFormat, TalkArgs, When},
    files,
};

/// The bar that a log line must not tear apart.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// From now on, log lines scroll above this bar.
pub fn scroll_above(bar: &ProgressBar) {
    let _ = BAR.set(bar.clone());
}

/// Starts logging. Fails if the log file can't be opened.
pub fn start(talk: &TalkArgs) -> io::Result<()> {
    let level = match (talk.quiet, talk.verbose) {
        (true, _) => Level::WARN,
        (false, 0) => Level::INFO,
        (false, 1) => Level::DEBUG,
        (false, _) => Level::TRACE,
    };
    let filter = |level| Targets::new().with_default(LevelFilter::WARN).with_target("face_enroll", level);
    let has_color = match talk.color {
        When::Always => true,
        When::Never => false,
        When::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let mut layers = vec![layer(talk.log_format, has_color, Stderr).with_filter(filter(level)).boxed()];
    if let Some(path) = &talk.log_file {
        let file = files::open_log(path)?;
        // Whoever keeps a log wants to find in it when a run began and how it ended, also where nobody is to be woken.
        let level = level.max(Level::INFO);
        layers.push(layer(talk.log_format, false, Mutex::new(file)).with_filter(filter(level)).boxed());
    }
    // A second start is a test's: the first one stands.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    Ok(())
}

/// Says something to a person that is no log line: the summary block.
pub fn plain(text: &str) {
    let _ = Stderr.write(text.as_bytes());
}

/// The last word of a program that failed.
pub fn error(failure: &dyn std::fmt::Display) {
    plain(&format!("error: {failure}\n"));
}

fn layer<W>(format: LogFormat, has_color: bool, writer: W) -> Box<dyn Layer<Registry> + Send + Sync>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let layer = fmt::layer().with_writer(writer).with_ansi(has_color).with_timer(Utc).with_target(false);
    match format {
        LogFormat::Text => layer.boxed(),
        LogFormat::Json => layer.json().flatten_event(true).boxed(),
    }
}

/// Whole seconds in UTC, as the contract has times.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

#[derive(Clone, Copy)]
struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let print = || io::stderr().write_all(line).map(|()| line.len());
        // A lost terminal never ends a run.
        match BAR.get() {
            Some(bar) => bar.suspend(print).or(Ok(line.len())),
            None => print().or(Ok(line.len())),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;
    fn make_writer(&self) -> Self {
        *self
    }
}
