//! The command line: one file per command, and one per group of flags that commands share.
//!
//! It parses and never acts: `commands` gives each flag its effect, and `settings` adds the flags of the settings file.

mod check;
mod checkpoint;
mod completions;
mod config;
mod doctor;
mod erase;
mod export;
mod limits;
mod log;
mod output;
mod parse;
mod photo;
mod purge;
mod rate;
mod report;
mod retry;
mod run;
mod sandbox;
mod service;
mod source;
mod status;
mod storage;
mod undo;
mod verify;

use std::sync::LazyLock;

use clap::{Parser, Subcommand};

pub use self::{
    check::{CheckArgs, ReportSink},
    checkpoint::CheckpointArgs,
    completions::CompletionsArgs,
    config::ConfigCommand,
    doctor::DoctorArgs,
    erase::EraseArgs,
    export::{ExportArgs, ExportFormat},
    limits::{ExitOn, LimitArgs},
    log::{LogArgs, LogFormat, When},
    output::{Json, OutputArgs},
    photo::{PhotoArgs, Send},
    purge::PurgeArgs,
    rate::{RateArgs, SharedQuotaArgs},
    report::ReportArgs,
    retry::RetryArgs,
    run::RunArgs,
    sandbox::{SandboxArgs, WindowKind},
    service::ServiceArgs,
    source::{ReadingArgs, SourceArgs},
    status::StatusArgs,
    storage::StorageArgs,
    undo::UndoArgs,
    verify::VerifyArgs,
};

/// Puts a flag under clap's own headings, "Arguments" and "Options", which come first.
const NO_HEADING: Option<&'static str> = None;

/// Text at the end of `--help`, where flags and their variables are listed.
const ENVIRONMENT: &str = "Flags can also be set by environment variables, such as FACE_ENROLL_MAX_DURATION for \
                           --max-duration, or in the settings file. The command line comes first, then the environment, \
                           then the file.";

/// What `--version` prints; `-V` prints the number only. The build sets the commit.
static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    let commit = option_env!("FACE_ENROLL_COMMIT").unwrap_or("unknown");
    format!("{}\ncommit  {commit}\nSQLite  {}", env!("CARGO_PKG_VERSION"), rusqlite::version())
});

/// Enrol an archive of face photos into Alibaba Cloud ID Verification face groups: every photo with a known outcome,
/// nobody twice, at the full quota.
#[derive(Debug, Parser)]
#[command(name = "face-enroll", version, long_version = LONG_VERSION.as_str(), max_term_width = 100, args_override_self = true, after_long_help = ENVIRONMENT)]
pub struct Cli {
    /// Subcommand with its flags.
    #[command(subcommand)]
    pub command: Command,
    /// Log and settings flags.
    #[command(flatten)]
    pub log: LogArgs,
}

/// Subcommand with its flags.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol everything that is not enrolled yet; run again to resume
    Run(Box<RunArgs>),
    /// Check all rows and photos, list every fault, and forecast the run; no network
    Check(CheckArgs),
    /// Show what the checkpoint holds
    Status(StatusArgs),
    /// Resolve items in doubt; with --all or --sample, compare the checkpoint with the service
    Verify(VerifyArgs),
    /// Test everything a run needs: credentials, network, clock, permissions, group, checkpoint, disk
    Doctor(DoctorArgs),
    /// Put failed (or rejected) items back to pending, so that the next run sends them again
    Retry(RetryArgs),
    /// Remove from the service what a run put there, by record id; without --yes, only list it
    Undo(UndoArgs),
    /// Remove people enrolled long ago from the checkpoint (not from the service)
    Purge(PurgeArgs),
    /// Remove one person from the checkpoint (not from the service)
    Erase(EraseArgs),
    /// Write items and their outcomes as CSV or JSON Lines
    Export(ExportArgs),
    /// Write a self-contained HTML report: outcomes, reasons, rate, runs
    Report(ReportArgs),
    /// Start a local server of the API, for rehearsal and tests
    Sandbox(SandboxArgs),
    /// Show every setting and where it comes from
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a completion script for a shell
    Completions(CompletionsArgs),
    /// Print the manual page
    Man,
}
