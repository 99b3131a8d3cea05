use std::path::PathBuf;

use clap::{ArgAction, Args, builder::BoolishValueParser};

use super::{PhotoArgs, SourceArgs, StorageArgs, When};
use crate::pace::Qps;

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The tenant's AddFaceRecord quota for the forecast, in calls per second
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Read only headers: faster, but no quality check and only approximate sizes
    #[arg(long, env = "FACE_ENROLL_HEADERS_ONLY", value_parser = BoolishValueParser::new(), action = ArgAction::SetTrue)]
    pub headers_only: bool,
    /// Where to write findings: csv, jsonl or - (stdout), or a FILE.csv or FILE.jsonl
    #[arg(long, env = "FACE_ENROLL_REPORT", default_value = "-", value_name = "csv|jsonl|-|FILE")]
    pub report: ReportSink,
    /// Print one JSON object to stdout, last
    #[arg(long)]
    pub json: bool,
    /// Show a progress line
    #[arg(long, env = "FACE_ENROLL_PROGRESS", default_value = "auto", value_name = "WHEN")]
    pub progress: When,
    /// Sources.
    #[command(flatten)]
    pub read: SourceArgs,
    /// Photo flags.
    #[command(flatten)]
    pub photos: PhotoArgs,
    /// Object storage flags.
    #[command(flatten)]
    pub storage: StorageArgs,
}

/// Destination of the findings of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportSink {
    /// Text on stdout.
    Text,
    /// CSV on stdout.
    Csv,
    /// JSON Lines on stdout.
    JsonLines,
    /// CSV or JSON Lines in a file, by its extension.
    File(PathBuf),
}

impl std::str::FromStr for ReportSink {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "-" => Ok(Self::Text),
            "csv" => Ok(Self::Csv),
            "jsonl" => Ok(Self::JsonLines),
            file if file.ends_with(".csv") || file.ends_with(".jsonl") => Ok(Self::File(file.into())),
            _ => Err("expected csv, jsonl, -, or a file name that ends in .csv or .jsonl"),
        }
    }
}
