//! What was typed. No logic: see `commands` for what becomes of it.

use std::{
    net::SocketAddr,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    time::Duration,
};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::BoolishValueParser};

use crate::{
    api::{Network, Region},
    domain::{FaceGroupCode, ItemState, MerchantUserId, OnChange},
    manifest::{ColumnName, Delimiter, Encoding, IdFrom, InputFormat, Pattern},
    pace::{InDoubtPolicy, Qps, QuotaUse},
    picture::{Fit, Landscape},
    run::{MaxErrors, Window},
};

/// Enrols an archive of face photos into Alibaba Cloud ID Verification face groups: every photo with a known outcome,
/// nobody twice, at the quota.
#[derive(Debug, Parser)]
#[command(name = "face-enroll", version, max_term_width = 100, args_override_self = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
    /// Log flags.
    #[command(flatten)]
    pub log: LogArgs,
}

/// The subcommands.
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

/// What to do with the settings.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Show each flag of `run` with its value and where that comes from
    Show,
}

/// Flags of every command.
#[derive(Debug, Args)]
pub struct LogArgs {
    /// Log more to stderr (-vv: everything)
    #[arg(short, long, global = true, env = "FACE_ENROLL_VERBOSE", action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Log only what needs attention
    #[arg(short, long, global = true, env = "FACE_ENROLL_QUIET", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub quiet: bool,
    /// Log format
    #[arg(long, global = true, env = "FACE_ENROLL_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Also write the log to FILE
    #[arg(long, global = true, env = "FACE_ENROLL_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Settings file; each key is a long flag [default: $XDG_CONFIG_HOME/face-enroll/config.toml]
    #[arg(long, global = true, env = "FACE_ENROLL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Use [profile.NAME] of the settings file before its other keys
    #[arg(long, global = true, env = "FACE_ENROLL_PROFILE", value_name = "NAME")]
    pub profile: Option<String>,
    /// Colour on stderr
    #[arg(long, global = true, env = "FACE_ENROLL_COLOR", default_value = "auto")]
    pub color: When,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people.
    Text,
    /// An object a line.
    Json,
}

/// Whether to do what only a terminal can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// What `--json` prints beside the summary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Json {
    /// `status` objects and the `summary`.
    Status,
    /// A line for each item too.
    Items,
}

/// Flags of `run`.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Sources.
    #[command(flatten)]
    pub read: SourceArgs,
    /// Checkpoint database [default: SOURCE.enroll.sqlite]
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Read, check and plan, but send and write nothing
    #[arg(short = 'n', long, env = "FACE_ENROLL_DRY_RUN", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Accept a checkpoint restored from a backup; ask the service before each send
    #[arg(long, env = "FACE_ENROLL_AFTER_RESTORE", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub after_restore: bool,
    /// Run against a sandbox inside the process; needs no account, group or region
    #[arg(long, env = "FACE_ENROLL_SANDBOX", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
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
    /// Limits.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// Output flags.
    #[command(flatten)]
    pub show: OutputArgs,
}

/// Sources.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct SourceArgs {
    /// Manifest (.csv, .tsv, .json, .jsonl, .ndjson; also .gz, .zst), directory of photos, or - for stdin
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathBuf>,
    /// Face group of rows that name none
    #[arg(long, env = "FACE_ENROLL_GROUP", value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// Folder that relative paths start from, and that photos must be in [default: the manifest's folder]
    #[arg(long, env = "FACE_ENROLL_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Also take photos outside the root: .., absolute paths, links that lead out
    #[arg(long, env = "FACE_ENROLL_ALLOW_OUTSIDE_ROOT", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub allow_outside_root: bool,
    /// Format of stdin, or of a manifest with another extension: csv, tsv, json, jsonl, csv.gz, ...
    #[arg(long, env = "FACE_ENROLL_INPUT_FORMAT", value_name = "FORMAT")]
    pub input_format: Option<InputFormat>,
    /// What separates the fields of a table, such as ';' or tab [default: , ; tab or |, as the header shows]
    #[arg(long, env = "FACE_ENROLL_DELIMITER", value_name = "C")]
    pub delimiter: Option<Delimiter>,
    /// Encoding of a manifest without a byte-order mark: gbk, gb18030, big5, shift_jis, windows-1252, ... [default: utf-8]
    #[arg(long, env = "FACE_ENROLL_ENCODING", value_name = "NAME")]
    pub encoding: Option<Encoding>,
    /// Take ids that look as if a spreadsheet or a program had damaged them: 6.2E+17, 1001.0, #N/A, NULL, nan
    #[arg(long, env = "FACE_ENROLL_ALLOW_ODD_IDS", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub allow_odd_ids: bool,
    /// Column that holds a field, such as path=photo or merchant_user_id=employee_no (repeatable)
    #[arg(long, env = "FACE_ENROLL_COLUMN", value_name = "OURS=THEIRS", value_delimiter = ',')]
    pub column: Vec<ColumnName>,
    /// Take only files that match GLOB (directories; repeatable) [default: photos by extension or content]
    #[arg(long, env = "FACE_ENROLL_INCLUDE", value_name = "GLOB")]
    pub include: Vec<Pattern>,
    /// Exclude files and folders that match GLOB (directories; repeatable)
    #[arg(long, env = "FACE_ENROLL_EXCLUDE", value_name = "GLOB")]
    pub exclude: Vec<Pattern>,
    /// Id of rows without one: the photo's name, its parent folder's name, or its path [default: name, if the
    /// manifest has only a photo column]
    #[arg(long, env = "FACE_ENROLL_ID_FROM", value_name = "name|parent|path")]
    pub id_from: Option<IdFrom>,
}

/// Photo flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Photos")]
pub struct PhotoArgs {
    /// auto: send compliant photos unchanged and convert others; never: send unchanged or reject; always: re-encode
    /// every photo
    #[arg(long, env = "FACE_ENROLL_FIT", default_value = "auto", value_name = "auto|never|always")]
    pub fit: Fit,
    /// Photos that are not taller than wide: reject, crop to 3:4, or pad to 3:4 with white
    #[arg(long, env = "FACE_ENROLL_LANDSCAPE", default_value = "reject", value_name = "reject|crop|pad")]
    pub landscape: Landscape,
    /// Reject photos that are far too dark, bright or blurred
    #[arg(long, env = "FACE_ENROLL_REJECT_POOR", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub reject_poor: bool,
    /// inline: in the call, up to 1 MB; upload: as a file first; auto: as a file only above 1 MB
    #[arg(long, env = "FACE_ENROLL_SEND", default_value = "auto", value_name = "auto|inline|upload")]
    pub send: Send,
}

/// How photos are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Send {
    /// Inline up to 1 MB, as a file above.
    Auto,
    /// Inline, up to 1 MB.
    Inline,
    /// As a file.
    Upload,
}

/// Service flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub struct ServiceArgs {
    /// Region of the group: ap-southeast-1, ap-southeast-5, cn-hongkong or ap-southeast-3 [env: also
    /// ALIBABA_CLOUD_REGION_ID]
    #[arg(long, env = "FACE_ENROLL_REGION", value_name = "ID")]
    pub region: Option<Region>,
    /// Use the region's public or VPC endpoint
    #[arg(long, env = "FACE_ENROLL_NETWORK", default_value = "public", value_name = "public|vpc")]
    pub network: Network,
    /// Endpoint URL instead of the region's; http:// only to a loopback address
    #[arg(long, env = "FACE_ENROLL_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// Endpoint of AuthorizeFileUpload (photos above 1 MB)
    #[arg(
        long,
        env = "FACE_ENROLL_UPLOAD_ENDPOINT",
        value_name = "URL",
        default_value = "https://openplatform.aliyuncs.com"
    )]
    pub upload_endpoint: String,
    /// Extra trusted CA certificates (PEM), such as those of a TLS-inspecting proxy
    #[arg(long, env = "FACE_ENROLL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// Sending flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sending")]
pub struct RateArgs {
    /// The tenant's AddFaceRecord quota, in calls per second; never exceeded
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// dedicated: this run may use the whole quota; shared: back off quickly for other traffic
    #[arg(long, env = "FACE_ENROLL_QUOTA", default_value = "dedicated", value_name = "dedicated|shared")]
    pub quota: QuotaUse,
    /// Queries per second, for items in doubt
    #[arg(long, env = "FACE_ENROLL_QUERY_QPS", default_value = "10", value_name = "N")]
    pub query_qps: Qps,
    /// Maximum number of requests in flight
    #[arg(long, env = "FACE_ENROLL_CONCURRENCY", default_value = "64", value_name = "N")]
    pub concurrency: NonZeroUsize,
    /// Attempts per item before it is failed; throttled attempts do not count
    #[arg(long, env = "FACE_ENROLL_RETRIES", default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: u32,
    /// When a request may have been executed: reconcile asks the service and resends only what is absent; retry
    /// resends; hold leaves it in doubt
    #[arg(long, env = "FACE_ENROLL_IN_DOUBT", default_value = "reconcile", value_name = "reconcile|retry|hold")]
    pub in_doubt: InDoubtPolicy,
    /// Ask the service before each first send, and adopt records that exist
    #[arg(long, env = "FACE_ENROLL_PRECHECK", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub precheck: bool,
    /// When the photo of an enrolled id has changed: keep only counts it; replace enrols the new photo, then deletes
    /// the old record
    #[arg(long, env = "FACE_ENROLL_ON_CHANGE", default_value = "keep", value_name = "keep|replace")]
    pub on_change: OnChange,
    /// Wait this long before asking about a request in doubt; two such answers confirm absence [default: 30s; 1s with
    /// --sandbox]
    #[arg(long, env = "FACE_ENROLL_SETTLE", value_name = "D", value_parser = duration)]
    pub settle: Option<Duration>,
}

/// Limits.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Drain and stop after D
    #[arg(long, env = "FACE_ENROLL_MAX_DURATION", value_name = "D", value_parser = duration)]
    pub max_duration: Option<Duration>,
    /// Drain and stop after N photos
    #[arg(long, env = "FACE_ENROLL_MAX_IMAGES", value_name = "N")]
    pub max_images: Option<NonZeroU64>,
    /// Enrol N photos, report, and stop; exit 0 if all N are enrolled
    #[arg(long, env = "FACE_ENROLL_CANARY", value_name = "N")]
    pub canary: Option<NonZeroU64>,
    /// Send only during these hours (local time); wait outside them
    #[arg(long, env = "FACE_ENROLL_WINDOW", value_name = "HH:MM-HH:MM")]
    pub window: Option<Window>,
    /// Drain and stop after N rejected or failed rows
    #[arg(long, env = "FACE_ENROLL_MAX_ERRORS", value_name = "N|N%")]
    pub max_errors: Option<MaxErrors>,
    /// Stop after D without an answer from the service
    #[arg(long, env = "FACE_ENROLL_GIVE_UP_AFTER", value_name = "D", default_value = "30m", value_parser = duration)]
    pub give_up_after: Duration,
    /// Do not stop when the same refusal repeats
    #[arg(long, env = "FACE_ENROLL_KEEP_GOING", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub keep_going: bool,
    /// all: any rejected row raises the exit code; new: only rows rejected by this run
    #[arg(long, env = "FACE_ENROLL_EXIT_ON", value_name = "all|new", default_value = "all")]
    pub exit_on: ExitOn,
    /// Wait up to D for another run on the same checkpoint
    #[arg(long, env = "FACE_ENROLL_WAIT_LOCK", value_name = "D", default_value = "0s", value_parser = duration)]
    pub wait_lock: Duration,
}

/// Which rejected rows raise the exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExitOn {
    /// Any.
    All,
    /// Those of this run.
    New,
}

/// Output flags.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct OutputArgs {
    /// Print JSON Lines to stdout, the summary last; --json=items adds a line per item
    #[arg(long, env = "FACE_ENROLL_JSON", num_args = 0..=1, require_equals = true, default_missing_value = "status", value_name = "items")]
    pub json: Option<Json>,
    /// Show a progress bar
    #[arg(long, env = "FACE_ENROLL_PROGRESS", default_value = "auto")]
    pub progress: When,
    /// Interval of status lines when there is no progress bar
    #[arg(long, env = "FACE_ENROLL_STATS", default_value = "1m", value_name = "D", value_parser = duration)]
    pub stats: Duration,
    /// Write Prometheus metrics to FILE every 5 s and at the end (replaced atomically)
    #[arg(long, env = "FACE_ENROLL_METRICS_FILE", value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Serve Prometheus metrics at ADDR:PORT; a port alone binds to loopback
    #[arg(long, env = "FACE_ENROLL_METRICS_ADDR", value_name = "[ADDR:]PORT", value_parser = metrics_address)]
    pub metrics_addr: Option<SocketAddr>,
    /// Run COMMAND in a shell at the end, with the summary (JSON) on its stdin
    #[arg(long, env = "FACE_ENROLL_ON_FINISH", value_name = "COMMAND")]
    pub on_finish: Option<String>,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Sources.
    #[command(flatten)]
    pub read: SourceArgs,
    /// Photo flags.
    #[command(flatten)]
    pub photos: PhotoArgs,
    /// The tenant's quota, for the forecast
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Read only headers: faster, but no quality check and only approximate sizes
    #[arg(long, env = "FACE_ENROLL_HEADERS_ONLY", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub headers_only: bool,
    /// Where to write findings: csv, jsonl or - (stdout), or a FILE.csv or FILE.jsonl
    #[arg(long, env = "FACE_ENROLL_REPORT", default_value = "-", value_name = "csv|jsonl|-|FILE")]
    pub report: ReportSink,
    /// Print one JSON object to stdout, last
    #[arg(long)]
    pub json: bool,
    /// Show a progress line
    #[arg(long, env = "FACE_ENROLL_PROGRESS", default_value = "auto")]
    pub progress: When,
}

/// Where the findings of a check go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportSink {
    /// To stdout, for people.
    Text,
    /// To stdout.
    Csv,
    /// To stdout.
    JsonLines,
    /// To a file, as its ending says.
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
            _ => Err("one of csv, jsonl, -, or a file whose name ends in .csv or .jsonl"),
        }
    }
}

/// Flags of `completions`.
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// Which shell
    pub shell: clap_complete::Shell,
}

/// Which checkpoint.
#[derive(Debug, Args)]
pub struct CheckpointArgs {
    /// Source whose checkpoint to use
    #[arg(value_name = "SOURCE", required_unless_present = "checkpoint")]
    pub source: Option<PathBuf>,
    /// Checkpoint database
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The source's sandbox checkpoint
    #[arg(long, conflicts_with = "checkpoint")]
    pub sandbox: bool,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// The checkpoint.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Print one JSON object to stdout
    #[arg(long)]
    pub json: bool,
    /// Refresh every D [default: 2s] until the run ends
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_name = "D", value_parser = duration)]
    pub watch: Option<Duration>,
}

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The checkpoint.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Compare all records of the groups with the checkpoint; change nothing
    #[arg(long)]
    pub all: bool,
    /// Compare a random sample of N enrolled people of each group; change nothing
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub sample: Option<NonZeroUsize>,
    /// Compare only this group
    #[arg(long, value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// Service flags.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Queries per second
    #[arg(long = "query-qps", env = "FACE_ENROLL_QUERY_QPS", default_value = "10", value_name = "N")]
    pub qps: Qps,
    /// Wait this long before asking about a request in doubt; two such answers confirm absence
    #[arg(long, env = "FACE_ENROLL_SETTLE", value_name = "D", default_value = "30s", value_parser = duration)]
    pub settle: Duration,
    /// Attempts per item before an absent one is failed
    #[arg(long, env = "FACE_ENROLL_RETRIES", default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: u32,
    /// Stop after D without an answer from the service
    #[arg(long, env = "FACE_ENROLL_GIVE_UP_AFTER", value_name = "D", default_value = "5m", value_parser = duration)]
    pub give_up_after: Duration,
    /// Print JSON Lines to stdout: one line per difference, then the verdict
    #[arg(long)]
    pub json: bool,
}

/// Flags of `retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// The checkpoint.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Only items in these states: failed, rejected
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', default_value = "failed", value_parser = retried)]
    pub status: Vec<ItemState>,
    /// Only items with this code
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Source whose checkpoint to test
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
    /// Checkpoint database
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Face group that must exist
    #[arg(long, env = "FACE_ENROLL_GROUP", value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// The tenant's AddFaceRecord quota, in calls per second
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Service flags.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Print JSON Lines to stdout: one line per check, then the verdict
    #[arg(long)]
    pub json: bool,
}

/// Flags of `purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// The checkpoint.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Remove people enrolled longer ago than D
    #[arg(long, value_name = "D", value_parser = duration)]
    pub older_than: Duration,
}

/// Flags of `erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// The checkpoint.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// merchant_user_id of the person
    #[arg(long, value_name = "ID", value_parser = user)]
    pub user: MerchantUserId,
    /// Only in this group
    #[arg(long, value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// The checkpoint.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Only rows in these states: pending, in_doubt, enrolled, rejected, failed
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', value_parser = state)]
    pub status: Vec<ItemState>,
    /// Format [default: by the output's extension, else csv]
    #[arg(long)]
    pub format: Option<ExportFormat>,
    /// Put an apostrophe before cells that a spreadsheet would run as formulas (the file is then not a manifest)
    #[arg(long)]
    pub for_spreadsheet: bool,
    /// Output file; - is stdout
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// The checkpoint.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Show full ids instead of u*****07
    #[arg(long)]
    pub show_ids: bool,
    /// Output file; - is stdout
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}

/// Forms of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// With a header line.
    Csv,
    /// An object a line.
    Jsonl,
}

/// Flags of `sandbox`.
#[derive(Debug, Args)]
pub struct SandboxArgs {
    /// Loopback address to listen on; port 0 picks a free port
    #[arg(long, default_value = "127.0.0.1:8470", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Face group that exists (repeatable) [default: all groups exist]
    #[arg(long, value_name = "CODE")]
    pub group: Vec<FaceGroupCode>,
    /// Calls per second and action; 0 means no limit
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub qps: u32,
    /// How the quota's second is counted
    #[arg(long, default_value = "sliding", value_name = "fixed|sliding")]
    pub window: WindowKind,
    /// Mean response time
    #[arg(long, default_value = "40ms", value_name = "D", value_parser = duration)]
    pub latency: Duration,
    /// Longest delay before a record is made, even if the client has disconnected
    #[arg(long, default_value = "0s", value_name = "D", value_parser = duration)]
    pub late: Duration,
    /// Fault script (JSON Lines)
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Seed for random faults
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Keep the records in FILE
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Write every call to FILE as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// Print the endpoint and its key to stdout as one JSON object
    #[arg(long)]
    pub json: bool,
}

/// How a second is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum WindowKind {
    /// From one full second to the next.
    Fixed,
    /// Any second.
    Sliding,
}

/// What is added to a clock must leave it a date.
const LONGEST_DURATION: Duration = Duration::from_secs(100 * 365 * 86_400);

fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    match humantime::parse_duration(text) {
        Ok(duration) if duration <= LONGEST_DURATION => Ok(duration),
        Ok(_) => Err("at most 100 years".to_owned()),
        Err(_) => Err("a duration such as 90s, 5m, 2h30m or 1d".to_owned()),
    }
}

fn metrics_address(text: &str) -> Result<SocketAddr, String> {
    let port = text.parse().map(|port: u16| SocketAddr::from(([127, 0, 0, 1], port)));
    port.or_else(|_| text.parse()).map_err(|_| "a port, or an address and a port such as 127.0.0.1:9187".to_owned())
}

fn user(text: &str) -> Result<MerchantUserId, String> {
    MerchantUserId::parse_recorded(text).map_err(|error| error.to_string())
}

fn retried(text: &str) -> Result<ItemState, String> {
    match state(text) {
        Ok(state @ (ItemState::Failed | ItemState::Rejected)) => Ok(state),
        Ok(_) | Err(_) => Err("one of failed, rejected".to_owned()),
    }
}

fn state(text: &str) -> Result<ItemState, String> {
    let named = ItemState::ALL.into_iter().find(|state| state.name() == text);
    named.ok_or_else(|| "one of pending, in_doubt, enrolled, rejected, failed".to_owned())
}
