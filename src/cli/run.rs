use std::path::PathBuf;

use clap::{Arg, ArgAction, Args, builder::BoolishValueParser};

use super::{
    ENVIRONMENT, LimitArgs, NO_HEADING, OutputArgs, PhotoArgs, RateArgs, ServiceArgs, SourceArgs, parse::bucket,
};

/// Flags that `run -h` shows, in this order; `run --help` shows all, these first.
const COMMON: [&str; 12] = [
    "sources", "group", "region", "checkpoint", "root", "column", "qps", "canary", "max_duration", "dry_run",
    "sandbox", "json",
];

fn arrange_help(arg: Arg) -> Arg {
    match COMMON.iter().position(|id| arg.get_id() == id) {
        // Without the names of variables, most flags fit on one line; the end of --help gives their pattern.
        Some(order) => arg.help_heading(NO_HEADING).display_order(order).hide_env(true),
        None => arg.hide_short_help(true),
    }
}

/// Flags of `run`.
#[derive(Debug, Args)]
#[command(
    mut_args = arrange_help,
    after_help = "Use --help for all flags.",
    after_long_help = ENVIRONMENT
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
    /// With --sandbox, serve the files of DIR as the objects of a bucket (repeatable)
    #[arg(long, env = "FACE_ENROLL_SANDBOX_BUCKET", help_heading = "Service", value_name = "NAME=DIR", requires = "sandbox", value_parser = bucket)]
    pub sandbox_bucket: Vec<(String, PathBuf)>,
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
