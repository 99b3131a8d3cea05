//! `face-enroll status`.

use super::{Failure, place};
use crate::{
    checkpoint::Reader,
    cli::StatusArgs,
    exit::Exit,
    report::{self, Status},
};

/// See the module.
pub(super) fn status(args: &StatusArgs) -> Result<Exit, Failure> {
    let path = place::to_look_into(&args.which)?;
    let reader = Reader::open(&path)?;
    let (counts, groups, run) = (reader.counts()?, reader.groups()?, reader.last_run()?);
    if args.json {
        report::print_json(&Status::new(run.as_deref(), &path, &groups, &counts));
    } else {
        let state = if reader.is_live() { "a run is going on" } else { "no run is going on" };
        report::print(&format!("{} ({state})", path.display()));
        report::print(&format!("  groups    {}", groups.join(", ")));
        report::print(report::table(&counts).trim_end());
    }
    Ok(Exit::Success)
}
