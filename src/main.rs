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

/// Files that the async runtime opens: epoll with its copies and waker, and a pair of sockets for signals.
const RUNTIME_FILES: usize = 6;

/// Disables core dumps: memory holds keys and faces.
fn disable_core_dumps() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Ignored: if the limit cannot be set, nothing is worse than before.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

/// Fails if too few files may be opened for the async runtime, which panics if it cannot open its own.
fn probe_open_files() -> std::io::Result<()> {
    let opened: Result<Vec<_>, _> = (0..RUNTIME_FILES).map(|_| std::fs::File::open("/dev/null")).collect();
    opened.map(drop)
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
    let mut builder = tokio::runtime::Builder::new_current_thread();
    let runtime = probe_open_files().and_then(|()| builder.enable_all().max_blocking_threads(BLOCKING_THREADS).build());
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::eprint_plain(&format!("error: can't start the async runtime: {error} (see ulimit -n)\n"));
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
