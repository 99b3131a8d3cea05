//! `face-enroll report`.

use std::{
    io::{Write, stdout},
    path::Path,
};

use super::{CliError, checkpoint_path, error::exit_after_writing};
use crate::{
    checkpoint::Reader,
    cli::ReportArgs,
    exit::Exit,
    files::{self, Audience},
    report::{ExportError, HtmlReport, Ids},
};

pub(super) fn report(args: &ReportArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    let ids = if args.show_ids { Ids::Shown } else { Ids::Masked };
    let page = HtmlReport::read(&Reader::open(&path)?, &path, ids)?.render(jiff::Timestamp::now().as_millisecond());
    let written = if args.output == Path::new("-") {
        stdout().lock().write_all(page.as_bytes())
    } else {
        files::replace(&args.output, Audience::Owner, |file| file.write_all(page.as_bytes()))
    };
    exit_after_writing(written.map_err(ExportError::Write))
}
