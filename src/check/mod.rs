//! Checks everything that a run would send, with the same reading, rules and fitting, and sends nothing. It uses no
//! network and no checkpoint.
//!
//! One thread reads the rows, one thread per processor checks them, and results are reported in row order. Memory is
//! bounded: a fixed number of queued rows per processor, and one photo per processor.

mod duplicates;
mod forecast;
mod photo;

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
        mpsc::{Receiver, sync_channel},
    },
    time::Duration,
};

use duplicates::{Duplicates, IdMatch};
pub use forecast::Forecast;
pub use photo::{CheckedRow, RowResult};

use crate::{
    domain::{ErrorCode, Item, Member, PhotoSource, RawFields, RowError, RowErrorKind},
    manifest::{Source, SourceError},
    picture::{Rules, Warning},
    storage::Storage,
};

/// Placeholder group for rows without one. No call is made, so its value does not matter.
pub const NO_GROUP: &str = "-";
/// Capacity of the queue before and after the checking threads.
const QUEUED_ROWS_PER_PROCESSOR: usize = 32;

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
#[derive(Debug, Clone, PartialEq, Eq)]
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
        self.rows += 1;
        self.read_bytes += checked.read_bytes;
        match &checked.result {
            RowResult::Rejected { code, .. } => *self.faults.entry(code.0.clone()).or_default() += 1,
            RowResult::Unread { .. } | RowResult::Stopped(_) => self.unread += 1,
            RowResult::Link => {
                self.good += 1;
                self.links += 1;
            }
            RowResult::Photo { sent_bytes, fitting, warnings } => {
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

/// A row to check.
enum Task {
    /// An item, and the earlier row with a similar id.
    Item(Item, Option<u64>),
    /// A row that could not be parsed, or a duplicate.
    Invalid(RowError),
}

struct Numbered<T> {
    number: u64,
    source: usize,
    value: T,
}

/// Checks every row. `on_row` gets the findings of each row in row order and the totals so far; it may stop the check.
pub fn check(
    sources: Vec<(Source, PathBuf)>,
    settings: &Settings,
    on_row: &mut dyn FnMut(&[Finding], &CheckTotals) -> ControlFlow<()>,
) -> Result<CheckTotals, SourceError> {
    let source_name =
        |source: &Source| SourceName { name: source.name().to_owned(), is_directory: source.is_directory() };
    let names: Vec<SourceName> = sources.iter().map(|(source, _)| source_name(source)).collect();
    let roots: Vec<PathBuf> = sources.iter().map(|(_, root)| root.clone()).collect();
    let (tasks, queue) = sync_channel::<Numbered<Task>>(settings.processors * QUEUED_ROWS_PER_PROCESSOR);
    let (results, checked_rows) =
        sync_channel::<Numbered<(Task, CheckedRow)>>(settings.processors * QUEUED_ROWS_PER_PROCESSOR);
    let queue = Mutex::new(queue);
    let is_stopped = &AtomicBool::new(false);
    let mut totals = CheckTotals::default();
    std::thread::scope(|scope| {
        let reader =
            scope.spawn(move || read_rows(sources, |task| !is_stopped.load(Relaxed) && tasks.send(task).is_ok()));
        for _ in 0..settings.processors {
            let (results, queue, roots) = (results.clone(), &queue, &roots);
            scope.spawn(move || {
                while let Some(Numbered { number, source, value: task }) = next(queue) {
                    let checked = photo::check_row(&task, &roots[source], settings);
                    if results.send(Numbered { number, source, value: (task, checked) }).is_err() {
                        break;
                    }
                }
            });
        }
        drop(results);
        let mut out_of_order = BTreeMap::new();
        let (mut next_number, mut stopped) = (0, None);
        'rows: for row in checked_rows {
            out_of_order.insert(row.number, row);
            while let Some(Numbered { source, value: (task, checked), .. }) = out_of_order.remove(&next_number) {
                next_number += 1;
                totals.parsed += u64::from(matches!(task, Task::Item(..)));
                if let RowResult::Stopped(fatal) = &checked.result {
                    is_stopped.store(true, Relaxed);
                    stopped =
                        Some(SourceError::ObjectStorage { place: names[source].name.clone(), fatal: fatal.clone() });
                    break 'rows;
                }
                totals.add(&checked);
                if let Task::Item(_, Some(_)) = task {
                    *totals.warnings.entry(SIMILAR_ID.to_owned()).or_default() += 1;
                }
                if on_row(&findings(task, checked, &names[source]), &totals).is_break() {
                    // The checking threads end with the channel; the reader must not block on a full queue.
                    is_stopped.store(true, Relaxed);
                    break 'rows;
                }
            }
        }
        while is_stopped.load(Relaxed) && next(&queue).is_some() {}
        if let Some(stopped) = stopped {
            return Err(stopped);
        }
        totals.skipped = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(totals)
    })
}

fn next<T>(queue: &Mutex<Receiver<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Sends the rows in order and marks duplicate ids. Returns the number of skipped files.
fn read_rows(
    sources: Vec<(Source, PathBuf)>,
    mut send: impl FnMut(Numbered<Task>) -> bool,
) -> Result<u64, SourceError> {
    let mut duplicates = Duplicates::default();
    let (mut number, mut skipped) = (0, 0);
    for (at, (mut source, _)) in sources.into_iter().enumerate() {
        for row in &mut source {
            let value = match row? {
                Ok(item) => match duplicates.compare(&item) {
                    IdMatch::New => Task::Item(item, None),
                    IdMatch::Similar(first) => Task::Item(item, Some(first)),
                    IdMatch::Duplicate(first) => Task::Invalid(duplicate(item, first)),
                },
                Err(error) => Task::Invalid(error),
            };
            if !send(Numbered { number, source: at, value }) {
                return Ok(skipped);
            }
            number += 1;
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
    };
    let similar = similar.map(|first| {
        let message = format!("row {first} has an id that differs from this one only in case or Unicode normalisation");
        finding(Severity::Warning, ErrorCode::from(SIMILAR_ID), message)
    });
    let mut findings = match checked.result {
        RowResult::Rejected { code, message } => vec![finding(Severity::Error, code, message)],
        RowResult::Unread { message } => vec![finding(Severity::Unread, ErrorCode::from("Unreadable"), message)],
        RowResult::Link | RowResult::Stopped(_) => Vec::new(),
        RowResult::Photo { warnings, .. } => {
            let warning = |warning: &Warning| {
                finding(Severity::Warning, ErrorCode::from(warning.name()), warning.message().to_owned())
            };
            warnings.iter().map(warning).collect()
        }
    };
    findings.extend(similar);
    findings
}
