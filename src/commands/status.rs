//! `face-enroll status`.

use std::{
    io::{IsTerminal, Write, stdout},
    path::Path,
    time::Duration,
};

use super::{CliError, checkpoint_path};
use crate::{
    checkpoint::Reader,
    cli::StatusArgs,
    domain::printable,
    exit::Exit,
    report::{self, Status},
};

/// Clears the screen of the terminal.
const CLEAR_SCREEN: &str = "\x1b[H\x1b[2J";

/// Shortest period of `--watch`; reading more often would slow down the run.
const MIN_PERIOD: Duration = Duration::from_millis(100);

pub(super) fn status(args: &StatusArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    loop {
        let reader = Reader::open(&path)?;
        if args.watch.is_some() && stdout().is_terminal() && !args.json {
            let _ = stdout().write_all(CLEAR_SCREEN.as_bytes());
        }
        let shown = if args.json { json(&reader, &path)? } else { text(&reader, &path)? };
        // Stop when the reader of stdout has left.
        let is_open = report::print(shown.trim_end());
        match args.watch {
            Some(period) if reader.is_live() && is_open => std::thread::sleep(period.max(MIN_PERIOD)),
            Some(_) | None => return Ok(Exit::Success),
        }
    }
}

fn json(reader: &Reader, path: &Path) -> Result<String, CliError> {
    let (counts, groups, run) = (reader.counts()?, reader.groups()?, reader.last_run()?);
    let runs = reader.runs(1)?;
    let status = Status::new(run.as_deref(), path, &groups, &counts);
    let status = match runs.last() {
        Some(last) => status.with_run(last),
        None => status,
    };
    Ok(report::json_line(&status))
}

fn text(reader: &Reader, path: &Path) -> Result<String, CliError> {
    let state = if reader.is_live() { "a run is in progress" } else { "no run in progress" };
    let counts = reader.counts()?;
    let path = path.to_string_lossy();
    let mut text = format!("{} ({state})\n  groups    {}\n", printable(&path), reader.groups()?.join(", "));
    text += &report::table(&counts);
    if let Some(run) = reader.runs(1)?.last() {
        text += &format!("  last run  {}\n  run id    {}\n", report::last_run(run, &counts), run.run_id);
    }
    Ok(text)
}
