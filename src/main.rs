//! The binary: parses the command line, starts logging, dispatches, and exits with the code.

#![forbid(unsafe_code)]

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use face_enroll::{
    cli::{Cli, Command},
    commands,
    exit::Exit,
    report,
    run::MAX_PREPARING,
    settings, telemetry,
};

/// Threads that prepare photos, plus four that must never wait for them: ingest, the checkpoint's integrity check, and
/// two DNS lookups.
const BLOCKING_THREADS: usize = MAX_PREPARING + 4;
/// Wait this long at exit for threads that hang on a dead disk.
const SHUTDOWN_TIMEOUT: std::time::Duration = std::time::Duration::from_millis(500);

/// Open files that a run needs: about 30 for itself, and some connections. The async runtime panics at a few.
const MIN_OPEN_FILES: u64 = 64;

/// Disables core dumps: memory holds keys and faces.
fn disable_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Ignored: if the limit cannot be set, nothing is worse than before.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Raises the soft limit of open files if it is too low for a run. Returns the limit that then applies, if it still is.
fn lacks_open_files() -> Option<u64> {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let enough = |limit: Option<u64>| limit.is_none_or(|files| files >= MIN_OPEN_FILES);
    if enough(limit.current) {
        return None;
    }
    let raised = Rlimit { current: Some(MIN_OPEN_FILES), maximum: limit.maximum };
    if enough(limit.maximum) && setrlimit(Resource::Nofile, raised).is_ok() { None } else { limit.current }
}

fn main() -> ExitCode {
    disable_core_dumps();
    let cli = match settings::arguments(&Cli::command(), std::env::args_os().collect(), |name| std::env::var_os(name)) {
        Ok(arguments) => Cli::parse_from(arguments),
        Err(error) => {
            telemetry::eprint_plain(&format!("error: {error}\n"));
            return Exit::Usage.into();
        }
    };
    if let Some(files) = lacks_open_files() {
        telemetry::eprint_plain(&format!(
            "error: only {files} files may be open (ulimit -n), and a run needs {MIN_OPEN_FILES}\n"
        ));
        return Exit::Usage.into();
    }
    if let Err(failure) = commands::check_outputs(&cli) {
        telemetry::error(&failure);
        return failure.exit().into();
    }
    if let Err(error) = telemetry::start(&cli.log) {
        telemetry::eprint_plain(&format!("error: --log-file can't be written: {error}\n"));
        return Exit::Usage.into();
    }
    // One thread does all the waiting. Long work has its own threads, and waking another worker costs more than the little
    // there is to do.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::eprint_plain(&format!("error: can't start the async runtime: {error}\n"));
            return Exit::Internal.into();
        }
    };
    // A run keeps its result in the checkpoint, so a lost stdout does not change its exit code.
    let prints_result = !matches!(cli.command, Command::Run(_));
    let ended = runtime.block_on(commands::dispatch(cli));
    runtime.shutdown_timeout(SHUTDOWN_TIMEOUT);
    match ended {
        Ok(exit) => match report::stdout_failure() {
            None => exit.into(),
            Some(error) => {
                telemetry::error(&format!("stdout can't be written: {error}"));
                if prints_result && exit == Exit::Success { Exit::Internal.into() } else { exit.into() }
            }
        },
        Err(failure) => {
            telemetry::error(&failure);
            failure.exit().into()
        }
    }
}
