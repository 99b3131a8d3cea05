//! `face-enroll export`.

use std::{
    io::{BufWriter, Write, stdout},
    path::{Path, PathBuf},
};

use super::{CliError, checkpoint_path, error::exit_after_writing};
use crate::{
    checkpoint::Reader,
    cli::{ExportArgs, ExportFormat},
    exit::Exit,
    files::{self, Audience},
    report::{ExportError, Exporter},
};

pub(super) fn export(args: &ExportArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    let reader = Reader::open(&path)?;
    let to_stdout = args.output == Path::new("-");
    let is_named_jsonl = args.output.extension().is_some_and(|ending| ending == "jsonl" || ending == "ndjson");
    let format = args.format.unwrap_or(if is_named_jsonl { ExportFormat::Jsonl } else { ExportFormat::Csv });
    let folder = if to_stdout { PathBuf::from(".") } else { files::folder_of(&args.output).to_owned() };
    let folder = folder.canonicalize().map_err(|error| CliError::new(Exit::Usage, ExportError::Write(error)))?;
    let exporter = Exporter { reader: &reader, states: &args.status, folder, is_for_spreadsheet: args.for_spreadsheet };
    let written = if to_stdout {
        write(&exporter, format, stdout().lock())
    } else {
        files::replace(&args.output, Audience::Owner, |file| write(&exporter, format, file))
    };
    exit_after_writing(written)
}

fn write(exporter: &Exporter<'_>, format: ExportFormat, output: impl Write) -> Result<(), ExportError> {
    let output = BufWriter::with_capacity(64 * 1024, output);
    match format {
        ExportFormat::Csv => exporter.csv(output),
        ExportFormat::Jsonl => exporter.jsonl(output),
    }
}
