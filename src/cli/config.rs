use clap::Subcommand;

/// Subcommands of `config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show each flag of `run` with its value and where that comes from
    Show,
}
