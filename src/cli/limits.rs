use std::{num::NonZeroU64, time::Duration};

use clap::{ArgAction, Args, ValueEnum, builder::BoolishValueParser};

use super::parse::duration;
use crate::run::{MaxErrors, Window};

/// Limits of a run.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Enrol N photos, report, and stop; exit 0 if all N are enrolled
    #[arg(long, env = "FACE_ENROLL_CANARY", value_name = "N")]
    pub canary: Option<NonZeroU64>,
    /// Drain and stop after D, such as 90s, 5m, 2h30m or 1d
    #[arg(long, env = "FACE_ENROLL_MAX_DURATION", value_name = "D", value_parser = duration)]
    pub max_duration: Option<Duration>,
    /// Drain and stop after N photos
    #[arg(long, env = "FACE_ENROLL_MAX_IMAGES", value_name = "N")]
    pub max_images: Option<NonZeroU64>,
    /// Send only during these hours (local time); wait outside them
    #[arg(long, env = "FACE_ENROLL_WINDOW", value_name = "HH:MM-HH:MM")]
    pub window: Option<Window>,
    /// Drain and stop after N (or N%) rejected or failed rows
    #[arg(long, env = "FACE_ENROLL_MAX_ERRORS", value_name = "N|N%")]
    pub max_errors: Option<MaxErrors>,
    /// Stop after D without an answer from the service
    #[arg(long, env = "FACE_ENROLL_GIVE_UP_AFTER", value_name = "D", default_value = "30m", value_parser = duration)]
    pub give_up_after: Duration,
    /// Do not stop when the same refusal repeats
    #[arg(long, env = "FACE_ENROLL_KEEP_GOING", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub keep_going: bool,
    /// Which rejected rows raise the exit code
    #[arg(long, env = "FACE_ENROLL_EXIT_ON", default_value = "all", value_name = "all|new")]
    pub exit_on: ExitOn,
    /// Wait up to D for another run on the same checkpoint
    #[arg(long, env = "FACE_ENROLL_WAIT_LOCK", value_name = "D", default_value = "0s", value_parser = duration)]
    pub wait_lock: Duration,
}

/// Which rejected rows raise the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExitOn {
    /// Rows rejected by any run
    All,
    /// Only rows rejected by this run
    New,
}
