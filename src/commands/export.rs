//! `face-enroll export`.

use std::{
    fs::{File, OpenOptions},
    io::{BufWriter, Write, stdout},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use super::{Failure, place};
use crate::{
    checkpoint::Reader,
    cli::{ExportArgs, ExportFormat},
    exit::Exit,
    report::{ExportError, Exporter},
};

/// See the module.
pub(super) fn export(args: &ExportArgs) -> Result<Exit, Failure> {
    let path = place::to_look_into(&args.which)?;
    let reader = Reader::open(&path)?;
    let to_stdout = args.output == Path::new("-");
    let folder = if to_stdout { PathBuf::from(".") } else { folder_of(&args.output).to_owned() };
    let folder = folder.canonicalize().map_err(|error| Failure::new(Exit::Usage, ExportError::Write(error)))?;
    let exporter = Exporter { reader: &reader, states: &args.status, folder, is_for_spreadsheet: args.for_spreadsheet };
    let written = if to_stdout {
        write(&exporter, args.format, stdout().lock())
    } else {
        into_file(&args.output, |file| write(&exporter, args.format, file))
    };
    match written {
        Ok(()) => Ok(Exit::Success),
        Err(error) if error.is_closed_pipe() => Ok(Exit::Success),
        Err(error) => Err(error.into()),
    }
}

fn write(exporter: &Exporter<'_>, format: ExportFormat, output: impl Write) -> Result<(), ExportError> {
    let output = BufWriter::with_capacity(64 * 1024, output);
    match format {
        ExportFormat::Csv => exporter.csv(output),
        ExportFormat::Jsonl => exporter.jsonl(output),
    }
}

/// The old file or the new one, never half of one. For the owner alone: it names people.
fn into_file(path: &Path, write: impl FnOnce(&mut File) -> Result<(), ExportError>) -> Result<(), ExportError> {
    let mut partial = path.as_os_str().to_owned();
    partial.push(".partial");
    let partial = PathBuf::from(partial);
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&partial)?;
    let written =
        write(&mut file).and_then(|()| Ok(file.sync_all()?)).and_then(|()| Ok(std::fs::rename(&partial, path)?));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}
