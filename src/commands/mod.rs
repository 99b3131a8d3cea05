//! One file per subcommand: the only room that wires the others together, and that adds a hint to an error.

mod check;
mod checkpoint_path;
mod config;
mod doctor;
mod duplicate_checkpoint;
mod error;
mod exit_status;
mod export;
mod manual;
mod metrics;
mod monitor;
mod objects;
mod on_finish;
mod outputs;
mod ping;
mod purge;
mod recorded_run;
mod report;
mod retry;
mod run;
mod sandbox;
mod signals;
mod sources;
mod status;
mod target;
mod undo;
mod verify;

use std::io::IsTerminal;

pub use error::CliError;
pub use outputs::check_outputs;

use crate::{
    cli::{Cli, Command, ConfigCommand, When},
    exit::Exit,
};

/// Runs the subcommand.
pub async fn dispatch(cli: Cli) -> Result<Exit, CliError> {
    signals::survive_size_limit()?;
    match cli.command {
        Command::Run(args) if args.dry_run => check::dry_run(&args, cli.log.quiet),
        Command::Check(args) => check::check(&args, cli.log.quiet),
        Command::Run(args) => run::run(*args, cli.log.quiet).await,
        Command::Status(args) => status::status(&args),
        Command::Verify(args) => verify::verify(&args).await,
        Command::Doctor(args) => doctor::doctor(&args).await,
        Command::Retry(args) => retry::retry(&args),
        Command::Undo(args) => undo::undo(&args).await,
        Command::Purge(args) => purge::purge(&args),
        Command::Erase(args) => purge::erase(&args),
        Command::Export(args) => export::export(&args),
        Command::Report(args) => report::report(&args),
        Command::Config(ConfigCommand::Show) => config::show(&cli.log).await,
        Command::Completions(args) => manual::completions(&args),
        Command::Man => manual::man(),
        Command::Sandbox(args) => sandbox::sandbox(args).await,
    }
}

/// Whether to show a progress bar on stderr.
fn shows_bar(progress: When, is_quiet: bool) -> bool {
    match progress {
        When::Auto => std::io::stderr().is_terminal() && !is_quiet,
        When::Always => true,
        When::Never => false,
    }
}
