use std::path::PathBuf;

use clap::{ArgAction, Args, ValueEnum, builder::BoolishValueParser};

use super::NO_HEADING;

/// Flags of every command.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log and settings")]
pub struct LogArgs {
    /// Log more to stderr: -v each attempt, -vv everything
    #[arg(short, long, global = true, env = "FACE_ENROLL_VERBOSE", hide_env = true, display_order = 900, help_heading = NO_HEADING, action = ArgAction::Count)]
    pub verbose: u8,
    /// Log only what needs attention
    #[arg(short, long, global = true, env = "FACE_ENROLL_QUIET", hide_env = true, display_order = 901, help_heading = NO_HEADING, value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub quiet: bool,
    /// Log format
    #[arg(
        long,
        global = true,
        env = "FACE_ENROLL_LOG_FORMAT",
        default_value = "text",
        value_name = "FORMAT",
        hide_short_help = true
    )]
    pub log_format: LogFormat,
    /// Also write the log to FILE (appended)
    #[arg(long, global = true, env = "FACE_ENROLL_LOG_FILE", value_name = "FILE", hide_short_help = true)]
    pub log_file: Option<PathBuf>,
    /// Settings file; each key is a long flag [default: $XDG_CONFIG_HOME/face-enroll/config.toml]
    #[arg(long, global = true, env = "FACE_ENROLL_CONFIG", value_name = "FILE", hide_short_help = true)]
    pub config: Option<PathBuf>,
    /// Use [profile.NAME] of the settings file before its other keys
    #[arg(long, global = true, env = "FACE_ENROLL_PROFILE", value_name = "NAME", hide_short_help = true)]
    pub profile: Option<String>,
    /// Color on stderr
    #[arg(
        long,
        global = true,
        env = "FACE_ENROLL_COLOR",
        default_value = "auto",
        value_name = "WHEN",
        hide_short_help = true
    )]
    pub color: When,
}

/// Format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Text lines
    Text,
    /// One JSON object per line
    Json,
}

/// When to use what only a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// Only on a terminal
    Auto,
    /// Even where stderr is not a terminal
    Always,
    /// Not even on a terminal
    Never,
}
