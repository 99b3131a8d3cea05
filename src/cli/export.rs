use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::{CheckpointArgs, parse::state};
use crate::domain::ItemState;

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Checkpoint flags.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Only rows in these states: pending, in_doubt, enrolled, rejected, failed [default: all]
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', value_parser = state)]
    pub status: Vec<ItemState>,
    /// Format [default: by the output's extension, else csv]
    #[arg(long)]
    pub format: Option<ExportFormat>,
    /// Put an apostrophe before cells that a spreadsheet would run as formulas (the file is then not a manifest)
    #[arg(long)]
    pub for_spreadsheet: bool,
    /// Overwrite the output file even if it is not an export
    #[arg(long)]
    pub force: bool,
    /// Output file; - is stdout
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}

/// Format of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// CSV with a header line
    Csv,
    /// One JSON object per line
    Jsonl,
}
