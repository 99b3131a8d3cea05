//! One file per subcommand; the only place where things are wired together, and where errors get their advice.

mod check;
mod config;
mod doctor;
mod ending;
mod export;
mod failure;
mod finish;
mod forget;
mod manual;
mod metrics;
mod outputs;
mod place;
mod reading;
mod report;
mod retry;
mod run;
mod sandbox;
mod sibling;
mod signals;
mod status;
mod target;
mod verify;
mod watcher;

pub use failure::CliError;
pub use outputs::check_outputs;

use crate::{
    cli::{Cli, Command, ConfigCommand},
    exit::Exit,
};

/// Does what was typed.
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
        Command::Purge(args) => forget::purge(&args),
        Command::Erase(args) => forget::erase(&args),
        Command::Export(args) => export::export(&args),
        Command::Report(args) => report::report(&args),
        Command::Config(ConfigCommand::Show) => config::show(&cli.log).await,
        Command::Completions(args) => manual::completions(&args),
        Command::Man => manual::man(),
        Command::Sandbox(args) => sandbox::sandbox(args).await,
    }
}
