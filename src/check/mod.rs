//! Looks at everything that a run would send, and sends nothing: the same reading, the same rules, the same fitting, on
//! all processors. No network, no checkpoint.
//!
//! Rows are found by one thread, looked at by as many as there are processors, and told in the order of the rows. What is
//! held is a bounded number of rows, and as many photos as there are processors.

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

use duplicates::{Duplicates, Kinship};
pub use forecast::Forecast;
pub use photo::{Found, Look};

use crate::{
    domain::{ErrorCode, Item, PhotoSource, RawFields, RowError, RowErrorKind},
    manifest::{Source, SourceError},
    picture::{Rules, Warning},
};

/// The group of rows that name none, where none was given: no call is made, so which one it is makes no difference.
pub const NO_GROUP: &str = "-";
/// Rows that wait to be looked at, for each processor.
const WAITING: usize = 32;

/// How everything is looked at.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// What a photo may be.
    pub rules: Rules,
    /// From the headers alone: nothing is decoded.
    pub headers_only: bool,
    /// May a photo lie elsewhere than beneath its source's root?
    pub allow_outside_root: bool,
    /// Photos that are looked at at once.
    pub processors: usize,
}

/// What there is to say of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The row in its source.
    pub row: u64,
    /// The source's name.
    pub source: String,
    /// Of a directory: the file, relative to it. Nobody knows it by its row.
    pub file: Option<String>,
    /// As written, as far as it could be read.
    pub fields: Box<RawFields>,
    /// Will it be rejected, or is it only to be known?
    pub gravity: Severity,
    /// Why.
    pub code: ErrorCode,
    /// Why, for a person.
    pub message: String,
}

/// How grave a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// The row would be rejected.
    CallFailure,
    /// The photo goes all the same.
    Warning,
    /// It could not be read now, and may be fine.
    Unread,
}

/// What has been found in all.
#[derive(Debug, Clone, Default)]
pub struct CheckTotals {
    /// Every row.
    pub rows: u64,
    /// Files of directories that were left out.
    pub skipped: u64,
    /// Rows that were items.
    pub parsed: u64,
    /// Of them, those that would be sent.
    pub good: u64,
    /// Of these, those that would go as they are.
    pub as_they_are: u64,
    /// Of these, links.
    pub links: u64,
    /// Items whose photo this machine could not read now.
    pub unread: u64,
    /// Bytes of photos read.
    pub read_bytes: u64,
    /// Bytes of photos that would be sent.
    pub sent_bytes: u64,
    /// Processor time of the photos that were fitted.
    pub fitting: Duration,
    /// Faults by code.
    pub faults: BTreeMap<String, u64>,
    /// Warnings by code.
    pub warnings: BTreeMap<String, u64>,
}

impl CheckTotals {
    /// Rows that would be rejected.
    pub fn rejected(&self) -> u64 {
        self.rows - self.good - self.unread
    }

    /// Photos that would be made to meet the rules.
    pub fn fitted(&self) -> u64 {
        self.good - self.as_they_are - self.links
    }

    fn add(&mut self, found: &Found) {
        self.rows += 1;
        self.read_bytes += found.read_bytes;
        match &found.look {
            Look::CallFailure { code, .. } => *self.faults.entry(code.0.clone()).or_default() += 1,
            Look::Unread { .. } => self.unread += 1,
            Look::Link => {
                self.good += 1;
                self.links += 1;
            }
            Look::Photo { sent_bytes, fitting, warnings } => {
                self.good += 1;
                self.sent_bytes += sent_bytes;
                match fitting {
                    Some(time) => self.fitting += *time,
                    None => self.as_they_are += 1,
                }
                for warning in warnings {
                    *self.warnings.entry(warning.name().to_owned()).or_default() += 1;
                }
            }
        }
    }
}

/// The code of the warning for ids that people would take for one.
const SIMILAR_ID: &str = "SimilarUserId";

/// A row on its way to whoever looks at it.
enum Task {
    /// With the row whose id differs from this one only in case or in Unicode normalisation.
    Item(Item, Option<u64>),
    CallFailure(RowError),
}

struct Numbered<T> {
    number: u64,
    source: usize,
    what: T,
}

/// Looks at every row. `tell` hears every finding, in the order of the rows, and after each row how far it has come; it may
/// break off.
pub fn check(
    sources: Vec<(Source, PathBuf)>,
    settings: Settings,
    tell: &mut dyn FnMut(&[Finding], &CheckTotals) -> ControlFlow<()>,
) -> Result<CheckTotals, SourceError> {
    let named = |source: &Source| Named { name: source.name().to_owned(), is_directory: source.is_directory() };
    let names: Vec<Named> = sources.iter().map(|(source, _)| named(source)).collect();
    let roots: Vec<PathBuf> = sources.iter().map(|(_, root)| root.clone()).collect();
    let (tasks, queue) = sync_channel::<Numbered<Task>>(settings.processors * WAITING);
    let (found, looks) = sync_channel::<Numbered<(Task, Found)>>(settings.processors * WAITING);
    let queue = Mutex::new(queue);
    let is_over = &AtomicBool::new(false);
    let mut survey = CheckTotals::default();
    std::thread::scope(|scope| {
        let reader = scope.spawn(move || read(sources, |task| !is_over.load(Relaxed) && tasks.send(task).is_ok()));
        for _ in 0..settings.processors {
            let (found, queue, roots) = (found.clone(), &queue, &roots);
            scope.spawn(move || {
                while let Some(Numbered { number, source, what }) = next(queue) {
                    let look = photo::look(&what, &roots[source], &settings);
                    if found.send(Numbered { number, source, what: (what, look) }).is_err() {
                        break;
                    }
                }
            });
        }
        drop(found);
        let mut early = BTreeMap::new();
        let mut expected = 0;
        'looks: for look in looks {
            early.insert(look.number, look);
            while let Some(Numbered { source, what: (task, found), .. }) = early.remove(&expected) {
                expected += 1;
                survey.parsed += u64::from(matches!(task, Task::Item(..)));
                survey.add(&found);
                if let Task::Item(_, Some(_)) = task {
                    *survey.warnings.entry(SIMILAR_ID.to_owned()).or_default() += 1;
                }
                if tell(&findings(task, found, &names[source]), &survey).is_break() {
                    // Whoever looks ends with the channel; whoever reads must not wait for a place in the queue.
                    is_over.store(true, Relaxed);
                    break 'looks;
                }
            }
        }
        while is_over.load(Relaxed) && next(&queue).is_some() {}
        survey.skipped = reader.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok(survey)
    })
}

fn next<T>(queue: &Mutex<Receiver<T>>) -> Option<T> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}

/// Rows in their order, each id once. Gives the files that were left out.
fn read(sources: Vec<(Source, PathBuf)>, mut send: impl FnMut(Numbered<Task>) -> bool) -> Result<u64, SourceError> {
    let mut duplicates = Duplicates::default();
    let (mut number, mut skipped) = (0, 0);
    for (at, (mut source, _)) in sources.into_iter().enumerate() {
        for row in &mut source {
            let what = match row? {
                Ok(item) => match duplicates.compare(&item) {
                    Kinship::New => Task::Item(item, None),
                    Kinship::Similar(first) => Task::Item(item, Some(first)),
                    Kinship::Duplicate(first) => Task::CallFailure(duplicate(item, first)),
                },
                Err(error) => Task::CallFailure(error),
            };
            if !send(Numbered { number, source: at, what }) {
                return Ok(skipped);
            }
            number += 1;
        }
        skipped += source.skipped().unwrap_or_default();
    }
    Ok(skipped)
}

/// A source, as findings name it.
struct Named {
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
        PhotoSource::Path(path) => (Some(path.to_string_lossy().into_owned()), None),
        // Never the link itself: it may be signed, and this is shown.
        PhotoSource::Url(url) => (None, Some(url.to_string())),
    };
    let group = Some(item.group.to_string()).filter(|group| group != NO_GROUP);
    let user = Some(item.user.to_string());
    Box::new(RawFields { path, url, user, group, extra: item.extra, origin: None })
}

fn findings(task: Task, found: Found, source: &Named) -> Vec<Finding> {
    let (row, fields, similar) = match task {
        Task::Item(item, similar) => (item.row, fields(item), similar),
        Task::CallFailure(mut error) => {
            error.fields.group.take_if(|group| group == NO_GROUP);
            (error.row, error.fields, None)
        }
    };
    let beneath = |path: &String| {
        let path = Path::new(path);
        path.strip_prefix(&source.name).unwrap_or(path).to_string_lossy().into_owned()
    };
    let file = fields.path.as_ref().filter(|_| source.is_directory).map(beneath);
    let finding = |gravity, code, message| Finding {
        row,
        source: source.name.clone(),
        file: file.clone(),
        fields: fields.clone(),
        gravity,
        code,
        message,
    };
    let similar = similar.map(|first| {
        let message =
            format!("row {first} has an id that differs from this one only in case or in Unicode normalisation");
        finding(Severity::Warning, ErrorCode::from(SIMILAR_ID), message)
    });
    let mut findings = match found.look {
        Look::CallFailure { code, message } => vec![finding(Severity::CallFailure, code, message)],
        Look::Unread { message } => vec![finding(Severity::Unread, ErrorCode::from("Unreadable"), message)],
        Look::Link => Vec::new(),
        Look::Photo { warnings, .. } => {
            let warning = |warning: &Warning| {
                finding(Severity::Warning, ErrorCode::from(warning.name()), warning.message().to_owned())
            };
            warnings.iter().map(warning).collect()
        }
    };
    findings.extend(similar);
    findings
}
