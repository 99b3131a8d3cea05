use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, builder::BoolishValueParser};

use super::{LimitArgs, OutputArgs, PhotoArgs, RateArgs, ServiceArgs, SourceArgs};

/// Flags that `run -h` shows; `run --help` shows all.
const IN_SHORT_HELP: [&str; 12] = [
    "sources",
    "group",
    "region",
    "checkpoint",
    "root",
    "column",
    "qps",
    "canary",
    "max_duration",
    "dry_run",
    "sandbox",
    "json",
];

fn hide_unless_common(arg: Arg) -> Arg {
    let is_common = IN_SHORT_HELP.contains(&arg.get_id().as_str());
    arg.hide_short_help(!is_common)
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(
    mut_args = hide_unless_common,
    after_help = "Use --help for all flags.",
    after_long_help = "Durations (D) are numbers with units, such as 90s, 5m, 2h30m or 1d. Each flag can also be set by \
                       its environment variable or in the settings file; the command line comes first, then the \
                       environment, then the file."
)]
pub struct RunArgs {
    /// Sources.
    #[command(flatten)]
    pub read: SourceArgs,
    /// Checkpoint database [default: SOURCE.enroll.sqlite]
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Read, check and plan, but send and write nothing
    #[arg(short = 'n', long, env = "FACE_ENROLL_DRY_RUN", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Run against a built-in sandbox; needs no account, group or region
    #[arg(long, env = "FACE_ENROLL_SANDBOX", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub sandbox: bool,
    /// Photo flags.
    #[command(flatten)]
    pub photos: PhotoArgs,
    /// Service flags.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Sending flags.
    #[command(flatten)]
    pub sending: RateArgs,
    /// Accept a checkpoint restored from a backup; ask the service before each send
    #[arg(long, env = "FACE_ENROLL_AFTER_RESTORE", help_heading = "Sending", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub after_restore: bool,
    /// Limits.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Output flags.
    #[command(flatten)]
    pub show: OutputArgs,
}
