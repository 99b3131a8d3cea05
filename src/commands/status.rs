//! `face-enroll status`.

use std::{
    io::{IsTerminal, Write, stdout},
    path::Path,
    time::Duration,
};

use super::{CliError, place};
use crate::{
    checkpoint::Reader,
    cli::StatusArgs,
    domain::printable,
    exit::Exit,
    report::{self, Status},
};

/// Begins the terminal's screen anew: what was there is overwritten, not scrolled away.
const FROM_THE_TOP: &str = "\x1b[H\x1b[2J";

/// Looking more often would only be in the run's way.
const LEAST: Duration = Duration::from_millis(100);

/// See the module.
pub(super) fn status(args: &StatusArgs) -> Result<Exit, CliError> {
    let path = place::to_look_into(&args.which)?;
    loop {
        let reader = Reader::open(&path)?;
        if args.watch.is_some() && stdout().is_terminal() && !args.json {
            let _ = stdout().write_all(FROM_THE_TOP.as_bytes());
        }
        let shown = if args.json { json(&reader, &path)? } else { text(&reader, &path)? };
        // Whoever watched may have seen enough.
        let is_heard = report::print(shown.trim_end());
        match args.watch {
            Some(period) if reader.is_live() && is_heard => std::thread::sleep(period.max(LEAST)),
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
    let state = if reader.is_live() { "a run is going on" } else { "no run is going on" };
    let counts = reader.counts()?;
    let path = path.to_string_lossy();
    let mut text = format!("{} ({state})\n  groups    {}\n", printable(&path), reader.groups()?.join(", "));
    text += &report::table(&counts);
    if let Some(run) = reader.runs(1)?.last() {
        text += &format!("  last run  {}\n", report::last_run(run, &counts));
    }
    Ok(text)
}
