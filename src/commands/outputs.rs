//! Refuses an output that is also an input, before anything is opened for writing.
//!
//! Compares files, not names: a link or another spelling may lead to the same file.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    CliError,
    checkpoint_path::{self, Kind},
    target,
};
use crate::{
    api::Credentials,
    checkpoint::{Reader, companions},
    cli::{CheckpointArgs, Cli, Command, ReportSink},
    domain::EXPORT_COLUMNS,
    exit::Exit,
    files::{self, FileId},
    picture,
    report::TITLE,
    settings,
    storage::is_archive,
};

/// Bytes that identify a photo.
const HEAD_BYTES: u64 = 64;

/// Bytes of a first line to read.
const MAX_HEADER_BYTES: u64 = 64 * 1024;

/// A file and its role.
struct Role {
    role: String,
    path: PathBuf,
}

/// The files that a command reads and writes.
#[derive(Default)]
struct Files {
    inputs: Vec<Role>,
    outputs: Vec<Role>,
    replaceable: Option<Replaceable>,
}

/// An output that replaces only a file of its own kind, unless `--force` is given.
struct Replaceable {
    path: PathBuf,
    what: &'static str,
    is_ours: fn(&Path) -> bool,
}

/// Fails (exit 2) if an output is a source, the checkpoint or a companion file, a photo, or another output.
pub fn check_outputs(cli: &Cli) -> Result<(), CliError> {
    let mut files = Files::default();
    files.outputs_of(cli);
    if files.outputs.is_empty() {
        return Ok(());
    }
    files.inputs_of(cli);
    let refuse = |message: String| Err(CliError::new(Exit::Usage, message).with_hint("give another file"));
    for (at, output) in files.outputs.iter().enumerate() {
        let path = output.path.display();
        if let Some(input) = files.inputs.iter().find(|input| is_same(&output.path, &input.path)) {
            return refuse(format!("{} {path} would overwrite {}", output.role, input.role));
        }
        if let Some(other) = files.outputs[..at].iter().find(|other| is_same(&output.path, &other.path)) {
            return refuse(format!("{} and {} are the same file: {path}", other.role, output.role));
        }
        if is_photo(&output.path) {
            return refuse(format!("{} {path} would overwrite a photo or an archive", output.role));
        }
    }
    if let Some(Replaceable { path, what, is_ours }) = files.replaceable
        && has_content(&path)
        && !is_ours(&path)
    {
        let (flag, hint) = match cli.command {
            Command::Check(_) => ("--report", "give another file, or remove this one"),
            Command::Run(_) => ("--metrics-file", "give another file, or remove this one"),
            _ => ("--output", "give another file, or --force to overwrite this one"),
        };
        let message = format!("{flag} {} would overwrite a file that is not {what}", path.display());
        return Err(CliError::new(Exit::Usage, message).with_hint(hint));
    }
    Ok(())
}

impl Files {
    fn outputs_of(&mut self, cli: &Cli) {
        self.output("--log-file", cli.log.log_file.as_deref());
        match &cli.command {
            Command::Run(args) => {
                self.output("--metrics-file", args.show.metrics_file.as_deref());
                let new = |path: &PathBuf| Replaceable {
                    path: path.clone(),
                    what: "a metrics file of face-enroll",
                    is_ours: is_metrics_file,
                };
                self.replaceable = args.show.metrics_file.as_ref().map(new);
                // An empty source would pass for a new checkpoint.
                let checkpoint = args.checkpoint.as_deref();
                let is_source = |path: &&Path| args.read.sources.iter().any(|source| is_same(path, source));
                self.output("--checkpoint", checkpoint.filter(is_source));
            }
            Command::Check(args) => match &args.report {
                ReportSink::File(path) => {
                    self.output("--report", Some(path));
                    self.replaceable =
                        Some(Replaceable { path: path.clone(), what: "a report of check", is_ours: is_check_report });
                }
                ReportSink::Text | ReportSink::Csv | ReportSink::JsonLines => {}
            },
            Command::Export(args) => {
                self.output("--output", Some(&args.output));
                let new = || Replaceable { path: args.output.clone(), what: "an export", is_ours: is_export };
                self.replaceable = (!args.force).then(new);
            }
            Command::Report(args) => {
                self.output("--output", Some(&args.output));
                let new = || Replaceable { path: args.output.clone(), what: "a report", is_ours: is_report };
                self.replaceable = (!args.force).then(new);
            }
            Command::Sandbox(args) => {
                self.output("--records", args.records.as_deref());
                self.output("--journal", args.journal.as_deref());
            }
            Command::Status(_)
            | Command::Verify(_)
            | Command::Doctor(_)
            | Command::Retry(_)
            | Command::Undo(_)
            | Command::Purge(_)
            | Command::Erase(_)
            | Command::Config(_)
            | Command::Completions(_)
            | Command::Man => {}
        }
    }

    fn inputs_of(&mut self, cli: &Cli) {
        let variable = |name: &str| -> Option<OsString> { std::env::var_os(name) };
        let usual = settings::file(&[], variable);
        for file in cli.log.config.iter().cloned().chain(usual) {
            self.input("the settings file", file);
        }
        for file in Credentials::files(|name| std::env::var(name).ok()) {
            self.input("a file of credentials", file);
        }
        match &cli.command {
            Command::Run(args) => {
                self.sources(&args.read.sources);
                self.given("--ca-file", args.service.ca_file.as_deref());
                let kind = target::kind(args);
                if let Ok((checkpoint, _)) =
                    checkpoint_path::locate(&args.read.sources, args.checkpoint.as_deref(), kind)
                {
                    self.checkpoint(&checkpoint);
                }
            }
            Command::Check(args) => {
                self.sources(&args.read.sources);
                for kind in [Kind::Service, Kind::Sandbox] {
                    if let Ok((checkpoint, _)) = checkpoint_path::locate(&args.read.sources, None, kind) {
                        self.checkpoint(&checkpoint);
                    }
                }
            }
            Command::Status(args) => self.checkpoint_of(&args.which),
            Command::Verify(args) => {
                self.checkpoint_of(&args.which);
                self.given("--ca-file", args.service.ca_file.as_deref());
            }
            Command::Doctor(args) => {
                self.given("--ca-file", args.service.ca_file.as_deref());
                let (source, checkpoint) = (args.source.clone(), args.checkpoint.clone());
                if source.is_some() || checkpoint.is_some() {
                    self.checkpoint_of(&CheckpointArgs { source, checkpoint, sandbox: false });
                }
            }
            Command::Retry(args) => self.checkpoint_of(&args.which),
            Command::Undo(args) => {
                self.checkpoint_of(&args.which);
                self.given("--ca-file", args.service.ca_file.as_deref());
            }
            Command::Purge(args) => self.checkpoint_of(&args.which),
            Command::Erase(args) => self.checkpoint_of(&args.which),
            Command::Export(args) => {
                self.checkpoint_of(&args.which);
                // A corrected export becomes a source when it is run; the next export may overwrite it.
                let sources = args.which.source.as_slice();
                self.inputs.retain(|input| sources.contains(&input.path) || !is_export(&input.path));
            }
            Command::Report(args) => self.checkpoint_of(&args.which),
            Command::Sandbox(args) => self.given("--faults", args.faults.as_deref()),
            Command::Config(_) | Command::Completions(_) | Command::Man => {}
        }
    }

    fn output(&mut self, flag: &str, path: Option<&Path>) {
        // `-` is stdout.
        let path = path.filter(|path| *path != Path::new("-"));
        self.outputs.extend(path.map(|path| Role { role: flag.to_owned(), path: path.to_owned() }));
    }

    fn input(&mut self, role: &str, path: PathBuf) {
        self.inputs.push(Role { role: format!("{role} {}", path.display()), path });
    }

    fn given(&mut self, flag: &str, path: Option<&Path>) {
        if let Some(path) = path {
            self.input(flag, path.to_owned());
        }
    }

    fn sources(&mut self, sources: &[PathBuf]) {
        for source in sources {
            let path = if source == Path::new("-") { Path::new("/dev/stdin") } else { source };
            self.input("the source", path.to_owned());
        }
    }

    fn checkpoint_of(&mut self, which: &CheckpointArgs) {
        self.sources(which.source.as_slice());
        if let Ok(checkpoint) = checkpoint_path::existing(which) {
            self.checkpoint(&checkpoint);
        }
    }

    fn checkpoint(&mut self, checkpoint: &Path) {
        self.input("the checkpoint", checkpoint.to_owned());
        for companion in companions(checkpoint).into_iter().chain([target::sandbox_records(checkpoint)]) {
            self.input("a file of the checkpoint,", companion);
        }
        for manifest in Reader::open(checkpoint).and_then(|reader| reader.manifests()).unwrap_or_default() {
            self.input("the source", manifest);
        }
    }
}

fn is_same(output: &Path, input: &Path) -> bool {
    match (output.metadata(), input.metadata()) {
        (Ok(output), Ok(input)) => output.is_file() && FileId::of(&output) == FileId::of(&input),
        (Err(_), Err(_)) => resolve(output).is_some_and(|output| Some(output) == resolve(input)),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// Path of a file that does not exist yet, with the links of its directory resolved.
fn resolve(path: &Path) -> Option<PathBuf> {
    Some(files::folder_of(path).canonicalize().ok()?.join(path.file_name()?))
}

/// Whether the path is a file with contents that replacing it would lose. A link is replaced, and its target kept.
fn has_content(path: &Path) -> bool {
    path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() > 0)
}

/// Whether the file is a report of ours.
fn is_report(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES * 16).read_to_end(&mut head));
    read.is_ok() && String::from_utf8_lossy(&head).contains(&format!("<title>{TITLE}"))
}

/// Whether the first line of the file is the header, or the first finding, of a report of `check`.
fn is_check_report(path: &Path) -> bool {
    first_line(path)
        .is_some_and(|head| ["row", "gravity", "code", "message"].iter().all(|column| head.contains(column)))
}

fn first_line(path: &Path) -> Option<String> {
    let mut line = String::new();
    BufReader::new(File::open(path).ok()?.take(MAX_HEADER_BYTES)).read_line(&mut line).ok()?;
    Some(line)
}

/// Whether the first line of the file is that of our metrics.
fn is_metrics_file(path: &Path) -> bool {
    first_line(path).is_some_and(|line| line.starts_with("# HELP face_enroll_"))
}

/// Whether the first line of the file has the columns of an export.
fn is_export(path: &Path) -> bool {
    let Some(head) = first_line(path) else { return false };
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<&str> = head.split(|c| !is_name(c)).collect();
    EXPORT_COLUMNS.iter().all(|column| names.contains(column))
}

/// Whether the first bytes are those of a photo, or of an archive of photos. The manifest, which names the photos, is not read yet.
fn is_photo(path: &Path) -> bool {
    use picture::Kind;
    if !path.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return false;
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD_BYTES).read_to_end(&mut head));
    read.is_ok()
        && match Kind::detect(&head) {
            Kind::Jpeg | Kind::Png | Kind::Gif | Kind::WebP | Kind::Heic | Kind::Avif | Kind::Tiff | Kind::JpegXl => {
                true
            }
            // A signature of two letters proves nothing.
            Kind::Bmp | Kind::Pdf | Kind::Html | Kind::Unknown => false,
            // It may hold the photos.
            Kind::Zip => is_archive(path),
        }
}
