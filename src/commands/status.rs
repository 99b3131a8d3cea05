//! `face-enroll status`.

use std::{
    io::{IsTerminal, stdout},
    path::Path,
};

use super::{Failure, place};
use crate::{
    checkpoint::Reader,
    cli::StatusArgs,
    exit::Exit,
    report::{self, Status},
};

/// Begins the terminal's screen anew: what was there is overwritten, not scrolled away.
const FROM_THE_TOP: &str = "\x1b[H\x1b[2J";

/// See the module.
pub(super) fn status(args: &StatusArgs) -> Result<Exit, Failure> {
    let path = place::to_look_into(&args.which)?;
    loop {
        let reader = Reader::open(&path)?;
        let screen = if args.watch.is_some() && stdout().is_terminal() && !args.json { FROM_THE_TOP } else { "" };
        if args.json {
            json(&reader, &path)?;
        } else {
            report::print(&format!("{screen}{}", text(&reader, &path)?.trim_end()));
        }
        match args.watch {
            Some(period) if reader.is_live() => std::thread::sleep(period),
            Some(_) | None => return Ok(Exit::Success),
        }
    }
}

fn json(reader: &Reader, path: &Path) -> Result<(), Failure> {
    let (counts, groups, run) = (reader.counts()?, reader.groups()?, reader.last_run()?);
    let runs = reader.runs(1)?;
    let status = Status::new(run.as_deref(), path, &groups, &counts);
    report::print_json(&match runs.last() {
        Some(last) => status.with_run(last, reader.is_live()),
        None => status,
    });
    Ok(())
}

fn text(reader: &Reader, path: &Path) -> Result<String, Failure> {
    let state = if reader.is_live() { "a run is going on" } else { "no run is going on" };
    let counts = reader.counts()?;
    let mut text = format!("{} ({state})\n  groups    {}\n", path.display(), reader.groups()?.join(", "));
    text += &report::table(&counts);
    if let Some(run) = reader.runs(1)?.last() {
        text += &format!("  last run  {}\n", report::last_run(run, &counts, reader.is_live()));
    }
    Ok(text)
}
