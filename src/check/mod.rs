//! Checks everything that a run would send, with the same reading, rules and fitting, and sends nothing. It uses no
//! network and no checkpoint.
//!
//! One thread reads the rows, one thread per processor checks them, and results are reported in row order. Memory is
//! bounded: a fixed number of rows in flight per processor, even where one of them hangs, and one photo per processor.

mod duplicates;
mod forecast;
mod in_order;
mod photo;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    time::Duration,
};

use duplicates::{Duplicates, IdMatch};
pub use forecast::Forecast;
use in_order::{Threads, work_in_order};
pub use photo::{CheckedRow, RowResult};
use serde::Serialize;

use crate::{
    domain::{ErrorCode, Item, Member, PhotoSource, RawFields, RowError, RowErrorKind},
    manifest::{Source, SourceError},
    picture::{FaceBox, FacePolicy, FaceProblem, Rules, Warning},
    storage::Storage,
};

/// Placeholder group for rows without one. No call is made, so its value does not matter.
pub const NO_GROUP: &str = "-";
/// Most rows per processor that are read and not yet reported.
const ROWS_IN_FLIGHT_PER_PROCESSOR: usize = 64;

/// Settings of a check.
#[derive(Debug)]
pub struct Settings {
    /// Rules for photos.
    pub rules: Rules,
    /// Whether to check headers only and decode nothing.
    pub headers_only: bool,
    /// Reader of photos.
    pub storage: Storage,
    /// Number of photos checked in parallel.
    pub processors: usize,
}

/// Problem of a row.
#[derive(Debug, Clone, PartialEq)]
pub struct Finding {
    /// Number of the row in its source.
    pub row: u64,
    /// Name of the source.
    pub source: String,
    /// Path relative to the source if that is a directory, whose rows have no visible numbers.
    pub file: Option<String>,
    /// Fields as written, as far as they could be read.
    pub fields: Box<RawFields>,
    /// Severity of the problem.
    pub severity: Severity,
    /// Code of the problem.
    pub code: ErrorCode,
    /// Message for the user.
    pub message: String,
    /// Where the largest face is, for findings about it.
    pub face: Option<FaceBox>,
}

/// Severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The row would be rejected.
    Error,
    /// The photo would be sent nevertheless.
    Warning,
    /// This machine failed to read the photo, which may be fine.
    Unread,
}

/// Totals of a check.
#[derive(Debug, Clone, Default)]
pub struct CheckTotals {
    /// All rows.
    pub rows: u64,
    /// Skipped files of directories.
    pub skipped: u64,
    /// Rows that were parsed into items.
    pub parsed: u64,
    /// Items that would be sent.
    pub good: u64,
    /// Items whose photo would be sent unchanged.
    pub unchanged: u64,
    /// Items whose photo is a link.
    pub links: u64,
    /// Items whose photo this machine failed to read.
    pub unread: u64,
    /// Photo bytes read.
    pub read_bytes: u64,
    /// Photo bytes that would be sent.
    pub sent_bytes: u64,
    /// Total time spent fitting photos.
    pub fitting: Duration,
    /// Rejections by code.
    pub faults: BTreeMap<String, u64>,
    /// Warnings by code.
    pub warnings: BTreeMap<String, u64>,
    /// Photos by problem of their face, rejected or not; `None` if no face was looked for.
    pub faces: Option<FaceCounts>,
}

/// Photos by problem of their face.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct FaceCounts {
    /// No face.
    pub none: u64,
    /// A face that is barely recognisable.
    pub unclear: u64,
    /// Several faces of similar size.
    pub several: u64,
    /// A small face.
    pub small: u64,
    /// A photo that lies on its side or its head.
    pub turned: u64,
    /// A face that is cut off.
    pub cut: u64,
}

impl FaceCounts {
    /// Calls that `--faces reject` saves.
    pub fn calls_saved(&self) -> u64 {
        self.none + self.several
    }

    /// Counts findings by code, whether they are warnings or rejections.
    fn new(totals: &CheckTotals) -> Self {
        let mut counts = Self::default();
        for problem in FaceProblem::ALL {
            let count = match problem {
                FaceProblem::Missing => &mut counts.none,
                FaceProblem::Unclear => &mut counts.unclear,
                FaceProblem::Several => &mut counts.several,
                FaceProblem::Small => &mut counts.small,
                FaceProblem::Turned(_) => &mut counts.turned,
                FaceProblem::Cut => &mut counts.cut,
            };
            let codes = [&totals.faults, &totals.warnings];
            *count += codes.iter().filter_map(|codes| codes.get(problem.name())).sum::<u64>();
        }
        counts
    }
}

impl CheckTotals {
    /// Rows that would be rejected.
    pub fn rejected(&self) -> u64 {
        self.rows - self.good - self.unread
    }

    /// Photos that would be fitted.
    pub fn fitted(&self) -> u64 {
        self.good - self.unchanged - self.links
    }

    fn add(&mut self, checked: &CheckedRow) {
        if let RowResult::Repeated { .. } = checked.result {
            // It is no row of its own, as in a run.
            *self.warnings.entry(REPEATED_ROW.to_owned()).or_default() += 1;
            return;
        }
        self.rows += 1;
        self.read_bytes += checked.read_bytes;
        match &checked.result {
            RowResult::Rejected { code, .. } => *self.faults.entry(code.0.clone()).or_default() += 1,
            RowResult::Unread { .. } | RowResult::Stopped(_) => self.unread += 1,
            RowResult::Repeated { .. } => {}
            RowResult::Link => {
                self.good += 1;
                self.links += 1;
            }
            RowResult::Photo { sent_bytes, fitting, warnings, face: _ } => {
                self.good += 1;
                self.sent_bytes += sent_bytes;
                match fitting {
                    Some(time) => self.fitting += *time,
                    None => self.unchanged += 1,
                }
                for warning in warnings {
                    *self.warnings.entry(warning.name().to_owned()).or_default() += 1;
                }
            }
        }
    }
}

/// Code of the warning for ids that people would confuse.
const SIMILAR_ID: &str = "SimilarUserId";

/// Code of the warning for a row with the id, group and photo of an earlier one.
const REPEATED_ROW: &str = "RepeatedRow";

/// A row to check.
enum Task {
    /// An item, and the earlier row with a similar id.
    Item(Item, Option<u64>),
    /// A row that could not be parsed, or a duplicate.
    Invalid(RowError),
    /// A row that repeats an earlier one, which is not checked again.
    Repeated(Item, u64),
}

/// Checks every row. `on_row` gets the findings of each row in row order and the totals so far; it may stop the check.
pub fn check(
    sources: Vec<(Source, PathBuf)>,
    settings: Settings,
    on_row: &mut dyn FnMut(&[Finding], &CheckTotals) -> ControlFlow<()>,
) -> Result<CheckTotals, SourceError> {
    let source_name =
        |source: &Source| SourceName { name: source.name().to_owned(), is_directory: source.is_directory() };
    let names: Vec<SourceName> = sources.iter().map(|(source, _)| source_name(source)).collect();
    let roots: Vec<PathBuf> = sources.iter().map(|(_, root)| root.clone()).collect();
    let threads = Threads { count: settings.processors, window: settings.processors * ROWS_IN_FLIGHT_PER_PROCESSOR };
    let looks_for_faces = settings.rules.faces != FacePolicy::Ignore && !settings.headers_only;
    let check_row = move |(source, task): (usize, Task)| {
        let checked = photo::check_row(&task, &roots[source], &settings);
        (source, task, checked)
    };
    let mut totals = CheckTotals::default();
    let mut stopped = None;
    let read = work_in_order(threads, |send| read_rows(sources, send), check_row, &mut |(source, task, checked)| {
        if let RowResult::Stopped(fatal) = &checked.result {
            let place = names[source].name.clone();
            stopped = Some(SourceError::ObjectStorage { place, fatal: fatal.clone() });
            return ControlFlow::Break(());
        }
        totals.parsed += u64::from(matches!(task, Task::Item(..)));
        totals.add(&checked);
        if let Task::Item(_, Some(_)) = task {
            *totals.warnings.entry(SIMILAR_ID.to_owned()).or_default() += 1;
        }
        on_row(&findings(task, checked, &names[source]), &totals)
    });
    if let Some(stopped) = stopped {
        return Err(stopped);
    }
    totals.skipped = read.transpose()?.unwrap_or_default();
    totals.faces = looks_for_faces.then(|| FaceCounts::new(&totals));
    Ok(totals)
}

/// Sends the rows in order, with the number of their source, and marks duplicate ids. Returns the number of skipped files.
fn read_rows(sources: Vec<(Source, PathBuf)>, send: &mut dyn FnMut((usize, Task)) -> bool) -> Result<u64, SourceError> {
    let mut duplicates = Duplicates::default();
    let mut skipped = 0;
    for (at, (mut source, _)) in sources.into_iter().enumerate() {
        for row in &mut source {
            let task = match row? {
                Ok(item) => match duplicates.compare(&item) {
                    IdMatch::New => Task::Item(item, None),
                    IdMatch::Similar(first) => Task::Item(item, Some(first)),
                    IdMatch::Duplicate(first) => Task::Invalid(duplicate(item, first)),
                    IdMatch::Repeated(first) => Task::Repeated(item, first),
                },
                Err(error) => Task::Invalid(error),
            };
            if !send((at, task)) {
                return Ok(skipped);
            }
        }
        skipped += source.skipped().unwrap_or_default();
    }
    Ok(skipped)
}

/// Name of a source, for findings.
struct SourceName {
    name: String,
    is_directory: bool,
}

fn duplicate(item: Item, first: u64) -> RowError {
    let message =
        format!("row {first} has the same id in the same group: give this one another id, or remove one of the two");
    RowError { row: item.row, defect: RowErrorKind::DuplicateUserId, message, fields: fields(item) }
}

fn fields(item: Item) -> Box<RawFields> {
    let (path, url) = match item.picture {
        PhotoSource::Path(path) | PhotoSource::Member(Member { path, .. }) => {
            (Some(path.to_string_lossy().into_owned()), None)
        }
        PhotoSource::Object(object, _) => (None, Some(object.to_string())),
        // `Display` masks the link: it may be signed, and this text is shown.
        PhotoSource::Url(url) => (None, Some(url.to_string())),
    };
    let group = Some(item.group.to_string()).filter(|group| group != NO_GROUP);
    let user = Some(item.user.to_string());
    Box::new(RawFields { path, url, user, group, extra: item.extra, origin: None })
}

fn findings(task: Task, checked: CheckedRow, source: &SourceName) -> Vec<Finding> {
    let (row, fields, similar) = match task {
        Task::Item(item, similar) => (item.row, fields(item), similar),
        Task::Repeated(item, _) => (item.row, fields(item), None),
        Task::Invalid(mut error) => {
            error.fields.group.take_if(|group| group == NO_GROUP);
            (error.row, error.fields, None)
        }
    };
    let relative = |path: &String| {
        let path = Path::new(path);
        path.strip_prefix(&source.name).unwrap_or(path).to_string_lossy().into_owned()
    };
    let file = fields.path.as_ref().or(fields.url.as_ref()).filter(|_| source.is_directory).map(relative);
    let finding = |severity, code, message| Finding {
        row,
        source: source.name.clone(),
        file: file.clone(),
        fields: fields.clone(),
        severity,
        code,
        message,
        face: None,
    };
    let similar = similar.map(|first| {
        let message = format!("row {first} has an id that differs from this one only in case or Unicode normalisation");
        finding(Severity::Warning, ErrorCode::from(SIMILAR_ID), message)
    });
    let mut findings = match checked.result {
        RowResult::Rejected { code, message, face } => {
            vec![Finding { face, ..finding(Severity::Error, code, message) }]
        }
        RowResult::Unread { message } => vec![finding(Severity::Unread, ErrorCode::from("Unreadable"), message)],
        RowResult::Repeated { first } => {
            let message = format!("row {first} has the same id, group and photo: this row is skipped");
            vec![finding(Severity::Warning, ErrorCode::from(REPEATED_ROW), message)]
        }
        RowResult::Link | RowResult::Stopped(_) => Vec::new(),
        RowResult::Photo { warnings, face, .. } => {
            let warning = |warning: &Warning| {
                let face = if matches!(warning, Warning::Face(_)) { face } else { None };
                let code = ErrorCode::from(warning.name());
                Finding { face, ..finding(Severity::Warning, code, warning.message().to_owned()) }
            };
            warnings.iter().map(warning).collect()
        }
    };
    findings.extend(similar);
    findings
}
