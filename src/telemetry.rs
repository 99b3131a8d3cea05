//! The log, on stderr and in `--log-file`.
//!
//! Other crates never log below `warn`, whatever `-v` asks for: at finer levels they print headers.

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

/// Progress bar that log lines must not tear.
static BAR: OnceLock<ProgressBar> = OnceLock::new();

/// Makes log lines scroll above the bar from now on.
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
        // Even with -q, the file records when a run started and how it ended.
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
    // Only tests start twice; the first subscriber stays.
    let _ = tracing_subscriber::registry().with(layers).try_init();
    Ok(())
}

/// Prints text that is not a log line, such as the summary.
pub fn eprint_plain(text: &str) {
    print(printable_lines(text).as_bytes());
}

/// Prints the error that ends the program.
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

/// Timestamps in UTC and whole seconds, as in the contract.
struct Utc;

impl FormatTime for Utc {
    fn format_time(&self, writer: &mut fmt::format::Writer<'_>) -> std::fmt::Result {
        write!(writer, "{}", jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ"))
    }
}

/// Prints above the progress bar, and ignores errors: a lost terminal never ends a run.
fn print(text: &[u8]) {
    let print = || drop(io::stderr().write_all(text));
    match BAR.get() {
        Some(bar) => bar.suspend(print),
        None => print(),
    }
}

/// Escapes everything in a log line that could control a terminal or start another line. Colors in it are our own:
/// `tracing` has already escaped all other escape characters.
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

/// Writer of `--log-file`. A write that fails, such as on a full disk, never ends a run; it is reported once.
struct LogFile {
    file: Mutex<File>,
    path: PathBuf,
    is_json: bool,
    was_warned: AtomicBool,
    /// Whether the last line was written only in part.
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
            eprint_plain(&format!("warning: can't write the log file {path} ({error}): it lacks lines\n"));
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
    fn log_line_cannot_control_terminal_or_start_lines() {
        let clean =
            |line: &str, is_json, has_color| String::from_utf8(clean(line.as_bytes(), is_json, has_color)).unwrap();
        let line = "\u{1b}[32mINFO\u{1b}[0m a\nb\u{202e}c\n";
        assert_eq!(clean(line, false, false), "\\u{1b}[32mINFO\\u{1b}[0m a\\u{a}b\\u{202e}c\n");
        assert_eq!(clean(line, false, true), "\u{1b}[32mINFO\u{1b}[0m a\\u{a}b\\u{202e}c\n");
        assert_eq!(clean("{\"a\":\"\u{202e}\"}\n", true, false), "{\"a\":\"\\u202e\"}\n");
    }
}
