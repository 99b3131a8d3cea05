//! No output may be an input: what a command writes is compared with what it reads, before anything is opened for writing.
//!
//! Files are compared, not names: links and other spellings of a name lead to the same file.

use std::{
    ffi::OsString,
    fs::File,
    io::{BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use super::{
    CliError,
    place::{self, Kind},
    target,
};
use crate::{
    api::Credentials,
    checkpoint::{Reader, companions},
    cli::{CheckpointArgs, Cli, Command, ReportSink},
    domain::EXPORT_COLUMNS,
    exit::Exit,
    files::{self, FileId},
    picture, settings,
};

/// Bytes that tell a photo.
const HEAD: u64 = 64;

/// Bytes of a first line that are looked at.
const MAX_HEADER: u64 = 64 * 1024;

/// A file by the role that it has.
struct Role {
    role: String,
    path: PathBuf,
}

/// What a command reads and writes.
#[derive(Default)]
struct Files {
    inputs: Vec<Role>,
    outputs: Vec<Role>,
}

/// Refuses (exit 2) an output that is a source, the checkpoint, a file that belongs to it, a photo, or another output.
pub fn check_outputs(cli: &Cli) -> Result<(), CliError> {
    let mut files = Files::default();
    files.outputs_of(cli);
    if files.outputs.is_empty() {
        return Ok(());
    }
    files.inputs_of(cli);
    let refused = |words: String| Err(CliError::new(Exit::Usage, words).with_hint("give another file"));
    for (at, output) in files.outputs.iter().enumerate() {
        let path = output.path.display();
        if let Some(input) = files.inputs.iter().find(|input| is_same(&output.path, &input.path)) {
            return refused(format!("{} {path} would overwrite {}", output.role, input.role));
        }
        if let Some(other) = files.outputs[..at].iter().find(|other| is_same(&output.path, &other.path)) {
            return refused(format!("{} and {} are the same file: {path}", other.role, output.role));
        }
        if is_photo(&output.path) {
            return refused(format!("{} {path} would overwrite a photo", output.role));
        }
    }
    Ok(())
}

impl Files {
    fn outputs_of(&mut self, cli: &Cli) {
        self.output("--log-file", cli.log.log_file.as_deref());
        match &cli.command {
            Command::Run(args) => {
                self.output("--metrics-file", args.show.metrics_file.as_deref());
                // A source of no bytes would be taken for a checkpoint that is being made.
                let checkpoint = args.checkpoint.as_deref();
                let is_source = |path: &&Path| args.read.sources.iter().any(|source| is_same(path, source));
                self.output("--checkpoint", checkpoint.filter(is_source));
            }
            Command::Check(args) => match &args.report {
                ReportSink::File(path) => self.output("--report", Some(path)),
                ReportSink::Text | ReportSink::Csv | ReportSink::JsonLines => {}
            },
            Command::Export(args) => self.output("--output", Some(&args.output)),
            Command::Report(args) => self.output("--output", Some(&args.output)),
            Command::Sandbox(args) => {
                self.output("--records", args.records.as_deref());
                self.output("--journal", args.journal.as_deref());
            }
            Command::Status(_)
            | Command::Verify(_)
            | Command::Doctor(_)
            | Command::Retry(_)
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
                if let Ok((checkpoint, _)) = place::locate(&args.read.sources, args.checkpoint.as_deref(), kind) {
                    self.checkpoint(&checkpoint);
                }
            }
            Command::Check(args) => {
                self.sources(&args.read.sources);
                for kind in [Kind::Service, Kind::Sandbox] {
                    if let Ok((checkpoint, _)) = place::locate(&args.read.sources, None, kind) {
                        self.checkpoint(&checkpoint);
                    }
                }
            }
            Command::Status(args) => self.looked_into(&args.which),
            Command::Verify(args) => {
                self.looked_into(&args.which);
                self.given("--ca-file", args.service.ca_file.as_deref());
            }
            Command::Doctor(args) => {
                self.given("--ca-file", args.service.ca_file.as_deref());
                let (source, checkpoint) = (args.source.clone(), args.checkpoint.clone());
                if source.is_some() || checkpoint.is_some() {
                    self.looked_into(&CheckpointArgs { source, checkpoint, sandbox: false });
                }
            }
            Command::Retry(args) => self.looked_into(&args.which),
            Command::Purge(args) => self.looked_into(&args.which),
            Command::Erase(args) => self.looked_into(&args.which),
            Command::Export(args) => {
                self.looked_into(&args.which);
                // An export that was mended and run is a source too; the next export may have its name.
                let sources = args.which.source.as_slice();
                self.inputs.retain(|input| sources.contains(&input.path) || !is_export(&input.path));
            }
            Command::Report(args) => self.looked_into(&args.which),
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

    fn looked_into(&mut self, which: &CheckpointArgs) {
        self.sources(which.source.as_slice());
        if let Ok(checkpoint) = place::to_look_into(which) {
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
        (Err(_), Err(_)) => resolved(output).is_some_and(|output| Some(output) == resolved(input)),
        (Ok(_), Err(_)) | (Err(_), Ok(_)) => false,
    }
}

/// The name of a file that is not there yet, with its folder's links followed.
fn resolved(path: &Path) -> Option<PathBuf> {
    Some(files::folder_of(path).canonicalize().ok()?.join(path.file_name()?))
}

/// Does the file begin as an export of ours does, by the names in its first line?
fn is_export(path: &Path) -> bool {
    let mut head = String::new();
    let read = File::open(path).and_then(|file| BufReader::new(file.take(MAX_HEADER)).read_line(&mut head));
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let names: Vec<&str> = head.split(|c| !is_name(c)).collect();
    read.is_ok() && EXPORT_COLUMNS.iter().all(|mark| names.contains(mark))
}

/// Photos are sources too; which ones they are, the manifest says, but what they are, their first bytes.
fn is_photo(path: &Path) -> bool {
    use picture::Kind;
    if !path.metadata().is_ok_and(|found| found.is_file()) {
        return false;
    }
    let mut head = Vec::new();
    let read = File::open(path).and_then(|file| file.take(HEAD).read_to_end(&mut head));
    read.is_ok()
        && match Kind::detect(&head) {
            Kind::Jpeg | Kind::Png | Kind::Gif | Kind::WebP | Kind::Heic | Kind::Avif | Kind::Tiff | Kind::JpegXl => {
                true
            }
            // Two letters prove nothing.
            Kind::Bmp | Kind::Pdf | Kind::Html | Kind::Zip | Kind::Unknown => false,
        }
}
