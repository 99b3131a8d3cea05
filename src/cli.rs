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
    /// What to say meanwhile.
    #[command(flatten)]
    pub talk: TalkArgs,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Enrol everything that is not enrolled yet; running again is resuming
    Run(Box<RunArgs>),
    /// Read and check everything, send nothing; lists every fault at once, with a forecast
    Check(CheckArgs),
    /// Show what the checkpoint holds
    Status(StatusArgs),
    /// Settle what is in doubt, sending nothing; with --all or --sample: compare with what the service has
    Verify(VerifyArgs),
    /// Look at everything that a run needs: credentials, network, clock, permissions, group, checkpoint, disk
    Doctor(DoctorArgs),
    /// Put failed (or, by choice, rejected) items back to pending; the next run sends them again
    Retry(RetryArgs),
    /// Remove people who were enrolled long ago from the checkpoint; the service is not touched
    Purge(PurgeArgs),
    /// Remove one person from the checkpoint; the service is not touched
    Erase(EraseArgs),
    /// Write items with their outcomes, as CSV or JSON Lines
    Export(ExportArgs),
    /// Write one page (HTML) with the result: outcomes, reasons, pace, runs
    Report(ReportArgs),
    /// Serve the API locally, for rehearsal and tests
    Sandbox(SandboxArgs),
    /// Show every setting, and whether it was typed, is in the environment, in the file, or the default
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
pub struct TalkArgs {
    /// Say more on stderr (twice: everything)
    #[arg(short, long, global = true, env = "FACE_ENROLL_VERBOSE", action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// Say only what someone must act on
    #[arg(short, long, global = true, env = "FACE_ENROLL_QUIET", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub quiet: bool,
    /// Form of what is said on stderr
    #[arg(long, global = true, env = "FACE_ENROLL_LOG_FORMAT", default_value = "text")]
    pub log_format: LogFormat,
    /// Say it to this file too
    #[arg(long, global = true, env = "FACE_ENROLL_LOG_FILE", value_name = "FILE")]
    pub log_file: Option<PathBuf>,
    /// Settings: each key is a long flag [default: $XDG_CONFIG_HOME/face-enroll/config.toml, if it is there]
    #[arg(long, global = true, env = "FACE_ENROLL_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The settings' [profile.NAME], before the rest of them
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
    /// What is read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// Where it all is kept [default: SOURCE.enroll.sqlite]
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// Read, check and plan; send nothing, write nothing
    #[arg(short = 'n', long, env = "FACE_ENROLL_DRY_RUN", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub dry_run: bool,
    /// Go on with a checkpoint that is older than the last run on it: ask before every send
    #[arg(long, env = "FACE_ENROLL_AFTER_RESTORE", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub after_restore: bool,
    /// Run against a sandbox inside the process: no account, no group, no region needed
    #[arg(long, env = "FACE_ENROLL_SANDBOX", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub sandbox: bool,
    /// What becomes of the photos.
    #[command(flatten)]
    pub photos: PhotoArgs,
    /// Where it is sent.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// How it is sent.
    #[command(flatten)]
    pub sending: SendingArgs,
    /// When to stop.
    #[command(flatten)]
    pub limits: LimitArgs,
    /// What to show.
    #[command(flatten)]
    pub show: ShowArgs,
}

/// What is read.
#[derive(Debug, Args)]
#[command(next_help_heading = "Reading")]
pub struct ReadArgs {
    /// A manifest (.csv, .tsv, .jsonl, .ndjson, .json; also .gz, .zst), a directory of photos, or - for standard input
    #[arg(required = true, value_name = "SOURCE")]
    pub sources: Vec<PathBuf>,
    /// Face group of rows that name none
    #[arg(long, env = "FACE_ENROLL_GROUP", value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// What relative paths are relative to [default: the manifest's folder]
    #[arg(long, env = "FACE_ENROLL_ROOT", value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Take photos also from elsewhere than beneath the root: .., absolute paths, links that lead out
    #[arg(long, env = "FACE_ENROLL_ALLOW_OUTSIDE_ROOT", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub allow_outside_root: bool,
    /// What standard input, or a manifest of another name, is: csv, tsv, jsonl, json, csv.gz, ...
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
    /// What the manifest calls a field: path=photo, merchant_user_id=employee_no (repeatable)
    #[arg(long, env = "FACE_ENROLL_COLUMN", value_name = "OURS=THEIRS", value_delimiter = ',')]
    pub column: Vec<ColumnName>,
    /// Of a directory, only files like this (repeatable) [default: *.jpg, *.png, ... by their names' endings]
    #[arg(long, env = "FACE_ENROLL_INCLUDE", value_name = "GLOB")]
    pub include: Vec<Pattern>,
    /// Of a directory, no files or folders like this (repeatable)
    #[arg(long, env = "FACE_ENROLL_EXCLUDE", value_name = "GLOB")]
    pub exclude: Vec<Pattern>,
    /// Which part of a photo's path is the id of a row that names none: its name, its folder's, or the whole path
    /// [default: name, where the manifest has nothing but photos]
    #[arg(long, env = "FACE_ENROLL_ID_FROM", value_name = "name|parent|path")]
    pub id_from: Option<IdFrom>,
}

/// What becomes of the photos.
#[derive(Debug, Args)]
#[command(next_help_heading = "Photos")]
pub struct PhotoArgs {
    /// auto: a photo that meets the rules goes byte for byte, one that can be made to is; never: byte for byte or not at
    /// all; always: each is encoded anew
    #[arg(long, env = "FACE_ENROLL_FIT", default_value = "auto", value_name = "auto|never|always")]
    pub fit: Fit,
    /// What becomes of a photo that is not higher than it is wide: rejected, its middle taken, or padded with white
    #[arg(long, env = "FACE_ENROLL_LANDSCAPE", default_value = "reject", value_name = "reject|crop|pad")]
    pub landscape: Landscape,
    /// Reject photos that are far too dark, too bright or too blurred
    #[arg(long, env = "FACE_ENROLL_REJECT_POOR", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub reject_poor: bool,
    /// inline: in the call, up to 1 MB; upload: each as a file first; auto: as a file only what is larger
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

/// Where it is sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Service")]
pub struct ServiceArgs {
    /// Region that holds the group: ap-southeast-1, ap-southeast-5, cn-hongkong, ap-southeast-3 [env: also ALIBABA_CLOUD_REGION_ID]
    #[arg(long, env = "FACE_ENROLL_REGION", value_name = "ID")]
    pub region: Option<Region>,
    /// The region's public or VPC endpoint
    #[arg(long, env = "FACE_ENROLL_NETWORK", default_value = "public", value_name = "public|vpc")]
    pub network: Network,
    /// Another endpoint; http:// only to a loopback address
    #[arg(long, env = "FACE_ENROLL_ENDPOINT", value_name = "URL")]
    pub endpoint: Option<String>,
    /// Endpoint of AuthorizeFileUpload, for photos above 1 MB
    #[arg(
        long,
        env = "FACE_ENROLL_UPLOAD_ENDPOINT",
        value_name = "URL",
        default_value = "https://openplatform.aliyuncs.com"
    )]
    pub upload_endpoint: String,
    /// Certificates (PEM) to trust besides this machine's: those of a proxy that looks into TLS
    #[arg(long, env = "FACE_ENROLL_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
}

/// How it is sent.
#[derive(Debug, Args)]
#[command(next_help_heading = "Sending")]
pub struct SendingArgs {
    /// The tenant's quota for AddFaceRecord, in calls a second
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Whose the quota is: ours alone, or production's too, to which the run then yields quickly
    #[arg(long, env = "FACE_ENROLL_QUOTA", default_value = "dedicated", value_name = "dedicated|shared")]
    pub quota: QuotaUse,
    /// Queries a second, for what is in doubt
    #[arg(long, env = "FACE_ENROLL_QUERY_QPS", default_value = "10", value_name = "N")]
    pub query_qps: Qps,
    /// Requests in flight
    #[arg(long, env = "FACE_ENROLL_CONCURRENCY", default_value = "64", value_name = "N")]
    pub concurrency: NonZeroUsize,
    /// Attempts per item; throttled ones don't count
    #[arg(long, env = "FACE_ENROLL_RETRIES", default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: u32,
    /// What to do with a request that may have been executed
    #[arg(long, env = "FACE_ENROLL_IN_DOUBT", default_value = "reconcile", value_name = "reconcile|retry|hold")]
    pub in_doubt: InDoubtPolicy,
    /// Ask before every first send, and adopt what is there already (after a lost checkpoint, or another tool)
    #[arg(long, env = "FACE_ENROLL_PRECHECK", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub precheck: bool,
    /// What to do with an enrolled id whose photo is another one now: count it, or send the new one and remove the old record
    #[arg(long, env = "FACE_ENROLL_ON_CHANGE", default_value = "keep", value_name = "keep|replace")]
    pub on_change: OnChange,
    /// How long to wait before asking what became of a request [default: 30s; 1s with --sandbox]
    #[arg(long, env = "FACE_ENROLL_SETTLE", value_name = "D", value_parser = duration)]
    pub settle: Option<Duration>,
}

/// When to stop.
#[derive(Debug, Args)]
#[command(next_help_heading = "Limits")]
pub struct LimitArgs {
    /// Stop after this time
    #[arg(long, env = "FACE_ENROLL_MAX_DURATION", value_name = "D", value_parser = duration)]
    pub max_duration: Option<Duration>,
    /// Stop after so many photos sent
    #[arg(long, env = "FACE_ENROLL_MAX_IMAGES", value_name = "N")]
    pub max_images: Option<NonZeroU64>,
    /// Send so many photos, say what became of them, and stop: 0 if all of them are enrolled
    #[arg(long, env = "FACE_ENROLL_CANARY", value_name = "N")]
    pub canary: Option<NonZeroU64>,
    /// Send only in these hours, by this machine's clock; the run waits for them
    #[arg(long, env = "FACE_ENROLL_WINDOW", value_name = "HH:MM-HH:MM")]
    pub window: Option<Window>,
    /// Stop after so many rows rejected or failed
    #[arg(long, env = "FACE_ENROLL_MAX_ERRORS", value_name = "N|N%")]
    pub max_errors: Option<MaxErrors>,
    /// Stop when the service has not answered for so long
    #[arg(long, env = "FACE_ENROLL_GIVE_UP_AFTER", value_name = "D", default_value = "30m", value_parser = duration)]
    pub give_up_after: Duration,
    /// Go on although the same refusal comes again and again
    #[arg(long, env = "FACE_ENROLL_KEEP_GOING", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub keep_going: bool,
    /// all: any rejected row raises the exit code; new: only one that this run has rejected
    #[arg(long, env = "FACE_ENROLL_EXIT_ON", value_name = "all|new", default_value = "all")]
    pub exit_on: ExitOn,
    /// Wait so long for another run on the same checkpoint
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

/// What to show.
#[derive(Debug, Args)]
#[command(next_help_heading = "Output")]
pub struct ShowArgs {
    /// JSON Lines on stdout, the summary last; `--json=items`: a line for each item too
    #[arg(long, env = "FACE_ENROLL_JSON", num_args = 0..=1, require_equals = true, default_missing_value = "status", value_name = "items")]
    pub json: Option<Json>,
    /// The progress bar
    #[arg(long, env = "FACE_ENROLL_PROGRESS", default_value = "auto")]
    pub progress: When,
    /// How often to say how it stands, where there is no bar
    #[arg(long, env = "FACE_ENROLL_STATS", default_value = "1m", value_name = "D", value_parser = duration)]
    pub stats: Duration,
    /// Keep the run's figures in this file, for Prometheus: replaced whole, every 5 s and at the end
    #[arg(long, env = "FACE_ENROLL_METRICS_FILE", value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
    /// Serve them to Prometheus at this address; a port alone is one of this machine only
    #[arg(long, env = "FACE_ENROLL_METRICS_ADDR", value_name = "[ADDR:]PORT", value_parser = metrics_address)]
    pub metrics_addr: Option<SocketAddr>,
    /// Hand the summary (JSON) to this shell command when the run has ended
    #[arg(long, env = "FACE_ENROLL_ON_FINISH", value_name = "COMMAND")]
    pub on_finish: Option<String>,
}

/// Flags of `check`.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// What is read.
    #[command(flatten)]
    pub read: ReadArgs,
    /// What becomes of the photos.
    #[command(flatten)]
    pub photos: PhotoArgs,
    /// The tenant's quota, for the forecast
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// From the headers alone: faster, but says nothing of quality, and of sizes only about
    #[arg(long, env = "FACE_ENROLL_HEADERS_ONLY", value_parser = BoolishValueParser::new(), action = clap::ArgAction::SetTrue)]
    pub headers_only: bool,
    /// Where the findings go: csv, jsonl, - (all on stdout), or a file of such a name
    #[arg(long, env = "FACE_ENROLL_REPORT", default_value = "-", value_name = "csv|jsonl|-|FILE")]
    pub report: ReportTo,
    /// One JSON object on stdout, last
    #[arg(long)]
    pub json: bool,
    /// The progress line
    #[arg(long, env = "FACE_ENROLL_PROGRESS", default_value = "auto")]
    pub progress: When,
}

/// Where the findings of a check go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReportTo {
    /// To stdout, for people.
    Text,
    /// To stdout.
    Csv,
    /// To stdout.
    JsonLines,
    /// To a file, as its ending says.
    File(PathBuf),
}

impl std::str::FromStr for ReportTo {
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
    /// The source whose checkpoint it is
    #[arg(value_name = "SOURCE", required_unless_present = "checkpoint")]
    pub source: Option<PathBuf>,
    /// The checkpoint itself
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The source's sandbox checkpoint
    #[arg(long, conflicts_with = "checkpoint")]
    pub sandbox: bool,
}

/// Flags of `status`.
#[derive(Debug, Args)]
pub struct StatusArgs {
    /// Which.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
    /// Show it anew so often [default: 2s], until no run is going on
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "2s", value_name = "D", value_parser = duration)]
    pub watch: Option<Duration>,
}

/// Flags of `verify`.
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Which.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Page through the groups and compare them with the checkpoint: in both, only here, only there, several. Writes nothing
    #[arg(long)]
    pub all: bool,
    /// Ask about so many people of each group who are enrolled here, drawn by lot. Writes nothing
    #[arg(long, value_name = "N", conflicts_with = "all")]
    pub sample: Option<NonZeroUsize>,
    /// Compare this group only
    #[arg(long, value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// Where it is asked.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// Queries a second
    #[arg(long = "query-qps", env = "FACE_ENROLL_QUERY_QPS", default_value = "10", value_name = "N")]
    pub qps: Qps,
    /// How long to wait before asking what became of a request; absent must be heard twice, so far apart
    #[arg(long, env = "FACE_ENROLL_SETTLE", value_name = "D", default_value = "30s", value_parser = duration)]
    pub settle: Duration,
    /// Attempts per item, beyond which what is absent has failed
    #[arg(long, env = "FACE_ENROLL_RETRIES", default_value = "8", value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub retries: u32,
    /// Stop when the service has not answered for so long
    #[arg(long, env = "FACE_ENROLL_GIVE_UP_AFTER", value_name = "D", default_value = "5m", value_parser = duration)]
    pub give_up_after: Duration,
    /// JSON Lines on stdout: a line for each difference, the verdict last
    #[arg(long)]
    pub json: bool,
}

/// Flags of `retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Which.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Items in these states: failed, rejected
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', default_value = "failed", value_parser = retried)]
    pub status: Vec<ItemState>,
    /// Only items with this code
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
}

/// Flags of `doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// The source whose checkpoint is looked at
    #[arg(value_name = "SOURCE")]
    pub source: Option<PathBuf>,
    /// The checkpoint itself
    #[arg(long, env = "FACE_ENROLL_CHECKPOINT", value_name = "FILE")]
    pub checkpoint: Option<PathBuf>,
    /// The face group that is to be there
    #[arg(long, env = "FACE_ENROLL_GROUP", value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
    /// The tenant's quota for AddFaceRecord, as a run would be given it
    #[arg(long, env = "FACE_ENROLL_QPS", default_value = "50", value_name = "N")]
    pub qps: Qps,
    /// Where it is asked.
    #[command(flatten)]
    pub service: ServiceArgs,
    /// JSON Lines on stdout: a line for each check, the verdict last
    #[arg(long)]
    pub json: bool,
}

/// Flags of `purge`.
#[derive(Debug, Args)]
pub struct PurgeArgs {
    /// Which.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Those who were enrolled longer ago than this
    #[arg(long, value_name = "D", value_parser = duration)]
    pub older_than: Duration,
}

/// Flags of `erase`.
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Which.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// The person's id
    #[arg(long, value_name = "ID", value_parser = user)]
    pub user: MerchantUserId,
    /// In this group only
    #[arg(long, value_name = "CODE")]
    pub group: Option<FaceGroupCode>,
}

/// Flags of `export`.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Which.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Only rows in these states: pending, in_doubt, enrolled, rejected, failed
    #[arg(long, value_name = "STATE,...", value_delimiter = ',', value_parser = state)]
    pub status: Vec<ItemState>,
    /// The form [default: as the output's name says, else csv]
    #[arg(long)]
    pub format: Option<ExportFormat>,
    /// For a spreadsheet: an apostrophe before each cell that it would take for a formula (such a file is no manifest)
    #[arg(long)]
    pub for_spreadsheet: bool,
    /// Where to; `-` is stdout
    #[arg(short, long, default_value = "-", value_name = "FILE")]
    pub output: PathBuf,
}

/// Flags of `report`.
#[derive(Debug, Args)]
pub struct ReportArgs {
    /// Which.
    #[command(flatten)]
    pub which: CheckpointArgs,
    /// Name people by their whole ids, not by u*****07
    #[arg(long)]
    pub show_ids: bool,
    /// Where to; `-` is stdout
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
    /// Loopback address; port 0 picks one
    #[arg(long, default_value = "127.0.0.1:8470", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// A face group that exists (repeatable) [default: every group exists]
    #[arg(long, value_name = "CODE")]
    pub group: Vec<FaceGroupCode>,
    /// Calls a second and action; 0 is no limit
    #[arg(long, default_value_t = 50, value_name = "N")]
    pub qps: u32,
    /// How a second is counted
    #[arg(long, default_value = "sliding", value_name = "fixed|sliding")]
    pub window: WindowKind,
    /// Mean time to answer
    #[arg(long, default_value = "40ms", value_name = "D", value_parser = duration)]
    pub latency: Duration,
    /// Time, at most, that passes before a record is made, also when its client is gone
    #[arg(long, default_value = "0s", value_name = "D", value_parser = duration)]
    pub late: Duration,
    /// A script of faults
    #[arg(long, value_name = "FILE")]
    pub faults: Option<PathBuf>,
    /// Of what is left to chance
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub seed: u64,
    /// Keep the records in this file
    #[arg(long, value_name = "FILE")]
    pub records: Option<PathBuf>,
    /// Write every arrival to this file, as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub journal: Option<PathBuf>,
    /// The endpoint and its key as one JSON object on stdout
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
