//! What the program says on stderr, and in `--log-file`: our own words only.
//!
//! Other crates are capped at `warn`, whatever is asked for: at finer levels they print headers.

use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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
    cli::{LogArgs, LogFormat, When},
    domain::{is_unprintable, printable_json, printable_lines, printable_message},
    files,
};

/// The bar that a log line must not tear apart.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// From now on, log lines scroll above this bar.
pub fn suspend_bar_for(bar: &ProgressBar) {
    let _ = BAR.set(bar.clone());
}

/// Starts logging. Fails if the log file can't be opened.
pub fn start(log: &LogArgs) -> io::Result<()> {
    let level = match (log.quiet, log.verbose) {
        (true, _) => Level::WARN,
        (false, 0) => Level::INFO,
        (false, 1) => Level::DEBUG,
        (false, _) => Level::TRACE,
    };
    let filter = |level| Targets::new().with_default(LevelFilter::WARN).with_target("face_enroll", level);
    let has_color = match log.color {
        When::Always => true,
        When::Never => false,
        When::Auto => io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty()),
    };
    let stderr = Stderr { is_json: log.log_format == LogFormat::Json, has_color };
    let mut layers = vec![layer(log.log_format, has_color, stderr).with_filter(filter(level)).boxed()];
    if let Some(path) = &log.log_file {
        let file = files::open_log(path)?;
        // Whoever keeps a log wants to find in it when a run began and how it ended, also where nobody is to be woken.
        let level = level.max(Level::INFO);
        let log_file = LogFile {
            file: Mutex::new(file),
            path: path.clone(),
            is_json: log.log_format == LogFormat::Json,
            was_warned: AtomicBool::new(false),
            is_torn: AtomicBool::new(false),
        };
        layers.push(layer(log.log_format, false, Arc::new(log_file)).with_filter(filter(level)).boxed());
    }
    // A second start is a test's: the first one stands.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    Ok(())
}

/// Says something to a person that is no log line: the summary block.
pub fn eprint_plain(text: &str) {
    print(printable_lines(text).as_bytes());
}

/// The last word of a program that failed.
pub fn error(failure: &dyn std::fmt::Display) {
    eprint_plain(&format!("{}\n", printable_message(&format!("error: {failure}"))));
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

/// A lost terminal never ends a run.
fn print(text: &[u8]) {
    let print = || drop(io::stderr().write_all(text));
    match BAR.get() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// A line of the log in which nothing from outside steers a terminal, or begins a line of its own. Where lines are colored,
/// the colors are ours: `tracing` has escaped every other escape character by then.
fn clean(line: &[u8], is_json: bool, has_color: bool) -> Vec<u8> {
    let line = String::from_utf8_lossy(line);
    let line = line.strip_suffix('\n').unwrap_or(&line);
    let mut clean = if is_json {
        printable_json(line).into_owned()
    } else {
        let is_ours = |c: char| !is_unprintable(c) || (has_color && c == '\u{1b}');
        line.chars().fold(String::with_capacity(line.len() + 1), |mut clean, c| {
            if is_ours(c) {
                clean.push(c)
            } else {
                clean.extend(c.escape_unicode())
            }
            clean
        })
    };
    clean.push('\n');
    clean.into_bytes()
}

#[derive(Clone, Copy)]
struct Stderr {
    is_json: bool,
    has_color: bool,
}

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        print(&clean(line, self.is_json, self.has_color));
        Ok(line.len())
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

/// `--log-file`. A log that can't be written any more, on a full disk for one, never ends a run: it is told once.
struct LogFile {
    file: Mutex<File>,
    path: PathBuf,
    is_json: bool,
    was_warned: AtomicBool,
    /// Did the last line not arrive whole?
    is_torn: AtomicBool,
}

impl Write for &LogFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = clean(line, self.is_json, false);
        if self.is_torn.load(Ordering::Relaxed) {
            text.insert(0, b'\n');
        }
        let written = file.write_all(&text);
        self.is_torn.store(written.is_err(), Ordering::Relaxed);
        if let Err(error) = written
            && !self.was_warned.swap(true, Ordering::Relaxed)
        {
            let path = self.path.display();
            eprint_plain(&format!(
                "warning: the log file {path} can't be written ({error}): lines are missing in it\n"
            ));
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_line_stays_one_line_and_steers_nothing() {
        let clean =
            |line: &str, is_json, has_color| String::from_utf8(clean(line.as_bytes(), is_json, has_color)).unwrap();
        let line = "\u{1b}[32mINFO\u{1b}[0m a\nb\u{202e}c\n";
        assert_eq!(clean(line, false, false), "\\u{1b}[32mINFO\\u{1b}[0m a\\u{a}b\\u{202e}c\n");
        assert_eq!(clean(line, false, true), "\u{1b}[32mINFO\u{1b}[0m a\\u{a}b\\u{202e}c\n");
        assert_eq!(clean("{\"a\":\"\u{202e}\"}\n", true, false), "{\"a\":\"\\u202e\"}\n");
    }
}
