//! The command line: parses, starts logging, dispatches, and ends with the code.

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

/// Threads that prepare photos, and others that must never wait for them: those of the reading, of the look at the
/// checkpoint's pages, and of two look-ups of names.
const BLOCKING_THREADS: usize = MAX_PREPARING + 4;
/// What a thread that hangs on a dead disk is waited for at the end.
const LAST_WAIT: std::time::Duration = std::time::Duration::from_millis(500);

/// Keys and faces are in this memory: no core file is to hold them.
fn keep_memory_private() {
    use rustix::process::{Resource, Rlimit, setrlimit};
    // Where the limit is not ours to set, it is not worse than before.
    let _ = setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) });
    #[cfg(target_os = "linux")]
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
}

fn main() -> ExitCode {
    keep_memory_private();
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
        telemetry::eprint_plain(&format!("error: the log file can't be written: {error}\n"));
        return Exit::Usage.into();
    }
    // One thread does all the waiting: what works for long has threads of its own, and waking another one costs more than
    // what there is to do.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(BLOCKING_THREADS).build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            telemetry::eprint_plain(&format!("error: the runtime can't be started: {error}\n"));
            return Exit::Internal.into();
        }
    };
    // What a run did is in its checkpoint, and its code tells of that.
    let prints_a_result = !matches!(cli.command, Command::Run(_));
    let ended = runtime.block_on(commands::dispatch(cli));
    runtime.shutdown_timeout(LAST_WAIT);
    match ended {
        Ok(exit) => match report::stdout_failure() {
            None => exit.into(),
            Some(error) => {
                telemetry::error(&format!("stdout can't be written: {error}"));
                if prints_a_result && exit == Exit::Success { Exit::Internal.into() } else { exit.into() }
            }
        },
        Err(failure) => {
            telemetry::error(&failure);
            failure.exit().into()
        }
    }
}
