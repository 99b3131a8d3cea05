//! Reads the sources into the checkpoint while items are sent.
//!
//! Each source is read by its own thread, which may hang in a read for ever: a silent pipe, a dead file server. A queue
//! hands the rows to the thread that commits them in batches of the rows that have arrived, so that a slow source waits
//! for nothing. On stop the committing side ends within a moment and abandons the reading thread; the next run reads
//! the rest.

use std::{
    panic::resume_unwind,
    sync::{Arc, OnceLock, atomic::Ordering::Relaxed},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, watch};

use super::{
    changes::PhotoChecker,
    control::Stop,
    row_queue::{RowQueue, Taken, Weighed},
};
use crate::{
    checkpoint::{Batch, Change, Checkpoint, Ingested, PendingCommit, SourceId, Store, StoreError},
    domain::{Event, Item, Member, OnChange, PhotoSource, RawFields, RowError},
    manifest::{Source, SourceError},
    picture::Rules,
    storage::Storage,
};

/// Limit of the first batch, and the lowest limit of a batch, in rows.
const MIN_BATCH_ROWS: usize = 256;
/// Highest limit of a batch, in rows. The queue limits its bytes.
const MAX_BATCH_ROWS: usize = 4_096;
/// Take at most 1/16 of the rows read so far from the queue at once. More than a batch of them are sorted by id: each
/// unsorted row touches a page of the id index, sorted ones share pages. The window grows with the index and costs a
/// short manifest no memory.
const WINDOW_DIVISOR: u64 = 16;
/// Most rows taken at once.
const MAX_WINDOW_ROWS: usize = 131_072;
/// Longest commit of a batch. Intents wait for it, and only 120 ms of calls may wait (`run::admission`). After a commit
/// of less than half of this the batches grow.
const MAX_BATCH_TIME: Duration = Duration::from_millis(40);
/// How often to check for a stop while no rows arrive.
const STOP_POLL: Duration = Duration::from_millis(100);
/// After a stop, rows are still read for this long, so that a short manifest is read completely.
const STOP_GRACE: Duration = Duration::from_millis(500);
/// At a sending limit the sources are read to the end, unless one is silent for this long.
const MAX_SILENCE: Duration = Duration::from_secs(1);

type Row = Result<Item, RowError>;

/// Progress of the reading.
#[derive(Debug, Clone, Default)]
pub struct IngestProgress {
    /// Rows read.
    pub rows: u64,
    /// Rows that could be parsed as items.
    pub parsed: u64,
    /// Whether every source has been read to its end.
    pub is_done: bool,
    /// Whether a photo of a known person was found.
    pub has_found_photos: bool,
}

/// The reading of the sources.
pub struct Ingest<S> {
    /// Sources in order.
    pub sources: Vec<Source>,
    /// Checkpoint that receives the rows.
    pub checkpoint: Checkpoint<S>,
    /// Photo rules, to check whether the photos of known people have changed.
    pub rules: Rules,
    /// Handling of changed photos.
    pub on_change: OnChange,
    /// Reader of photos.
    pub storage: Arc<Storage>,
    /// Sender of the progress after each batch.
    pub progress: watch::Sender<IngestProgress>,
    /// Sender of an event after each batch.
    pub events: mpsc::Sender<Event>,
    /// Stop signal.
    pub stop: Stop,
}

/// Why the reading failed.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The source failed.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The checkpoint failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug in the code that reads the source.
    #[error("internal error while reading a source")]
    Panicked,
}

/// A batch that is being committed, and the progress after the commit.
struct PendingBatch {
    commit: PendingCommit<Ingested>,
    progress: IngestProgress,
}

/// A source with its reading thread, which ends with the source or with the process.
struct SourceReader {
    queue: Arc<RowQueue<Row, SourceError>>,
    thread: Option<JoinHandle<()>>,
}

impl SourceReader {
    fn start(source: Source) -> Result<Self, SourceError> {
        let queue = Arc::new(RowQueue::new());
        let (name, rows) = (source.name().to_owned(), queue.clone());
        let thread = std::thread::Builder::new().name("source".into()).spawn(move || read_into(&rows, source));
        let thread = thread.map_err(|source| SourceError::Unreadable { path: name.into(), source })?;
        Ok(Self { queue, thread: Some(thread) })
    }

    /// Takes rows as [`RowQueue::take`] does. Panics if the reading thread has panicked.
    fn take(&mut self, enough: usize, most: usize, timeout: Duration) -> Taken<Row, SourceError> {
        let taken = self.queue.take(enough, most, timeout);
        // A panic in a parser ends the run; otherwise it would wait for rows for ever.
        if let Taken::Nothing = &taken
            && let Some(thread) = self.thread.take_if(|thread| thread.is_finished())
            && let Err(panic) = thread.join()
        {
            resume_unwind(panic);
        }
        taken
    }
}

impl Drop for SourceReader {
    fn drop(&mut self) {
        self.queue.close();
    }
}

fn read_into(queue: &RowQueue<Row, SourceError>, source: Source) {
    for row in source {
        let row = match row {
            Ok(row) => row,
            Err(broken) => return queue.end(Err(broken)),
        };
        let bytes = size_of_row(&row);
        if !queue.push(row, bytes) {
            return;
        }
    }
    queue.end(Ok(()));
}

/// Approximate memory of a row in bytes.
fn size_of_row(row: &Row) -> usize {
    let (texts, extra) = match row {
        Ok(Item { user, picture, extra, .. }) => {
            let picture = match picture {
                PhotoSource::Path(path) | PhotoSource::Member(Member { path, .. }) => path.as_os_str().len(),
                PhotoSource::Object(object, _) => object.bucket.len() + object.key.len(),
                PhotoSource::Url(url) => url.0.len(),
            };
            (user.as_str().len() + picture, extra)
        }
        Err(RowError { message, fields, .. }) => {
            let RawFields { path, url, user, group, extra, origin: _ } = &**fields;
            let written = [path, url, user, group].into_iter().flatten().map(String::len).sum::<usize>();
            (size_of::<RawFields>() + message.len() + written, extra)
        }
    };
    let extra: usize = extra.iter().map(|(name, value)| 2 * size_of::<String>() + name.len() + value.len()).sum();
    size_of::<Row>() + texts + extra
}

/// Sorts stably, so that the first of two rows with one id stays first. Invalid rows have no id and come first.
fn sort_by_id(rows: &mut [Weighed<Row>]) {
    fn id(row: &Weighed<Row>) -> Option<&str> {
        row.row.as_ref().ok().map(|item| item.user.as_str())
    }
    rows.sort_by(|a, b| id(a).cmp(&id(b)));
}

/// Row limit of the next batch, given the limit and commit time of the last one.
fn next_batch_rows(rows: usize, took: Duration) -> usize {
    if took > MAX_BATCH_TIME {
        (rows / 2).max(MIN_BATCH_ROWS)
    } else if took < MAX_BATCH_TIME / 2 {
        (rows * 2).min(MAX_BATCH_ROWS)
    } else {
        rows
    }
}

impl<S: Store> Ingest<S> {
    /// Reads all sources, or until it is stopped. Blocks.
    pub fn run(mut self) -> Result<IngestProgress, IngestError> {
        let sources = std::mem::take(&mut self.sources);
        // Open all sources before anything is claimed: an item of a later source waits until that source names it
        // again.
        let mut ids = Vec::with_capacity(sources.len());
        for source in &sources {
            ids.push(self.checkpoint.open_source(source.name().to_owned(), source.root().to_owned())?);
        }
        let clock = StopClock { stop: self.stop.clone(), ends_at: OnceLock::new() };
        let progress = IngestProgress::default();
        let checker = PhotoChecker::new(self.rules, self.on_change, Arc::clone(&self.storage));
        let mut reading = Reading { ingest: self, progress, batch_rows: MIN_BATCH_ROWS, clock, checker, repeated: 0 };
        reading.ingest.progress.send_replace(IngestProgress::default());
        for (source, id) in sources.into_iter().zip(ids) {
            if !reading.read_source(source, id)? {
                tracing::info!(rows = reading.progress.rows, "stopped reading; the next run reads the rest");
                return Ok(reading.progress);
            }
        }
        reading.ingest.checkpoint.finish_ingest()?;
        if reading.repeated > 0 {
            let rows = reading.repeated;
            tracing::warn!(
                rows,
                "skipped rows that repeat an earlier one (same id, group and photo); check names them"
            );
        }
        reading.progress.is_done = true;
        reading.progress.has_found_photos = reading.checker.has_found();
        reading.ingest.emit(&reading.progress);
        Ok(reading.progress)
    }

    fn emit(&self, progress: &IngestProgress) {
        self.progress.send_replace(progress.clone());
        // A closed receiver never ends a run.
        let _ = self.events.blocking_send(Event::Ingested { rows: progress.rows, done: progress.is_done });
    }
}

/// Ends the reading [`STOP_GRACE`] after a stop.
struct StopClock {
    stop: Stop,
    ends_at: OnceLock<Instant>,
}

impl StopClock {
    fn is_over(&self) -> bool {
        self.stop.is_reading_ended() && Instant::now() >= *self.ends_at.get_or_init(|| Instant::now() + STOP_GRACE)
    }
}

/// An ingest under way.
struct Reading<S> {
    ingest: Ingest<S>,
    progress: IngestProgress,
    batch_rows: usize,
    clock: StopClock,
    checker: PhotoChecker,
    /// Rows skipped as repetitions.
    repeated: u64,
}

impl<S: Store> Reading<S> {
    /// Reads a source. Returns false if it was stopped before the end.
    fn read_source(&mut self, source: Source, id: SourceId) -> Result<bool, IngestError> {
        let (name, may_be_empty) = (source.name().to_owned(), source.may_be_empty());
        let (skipped, parsed_before) = (source.skipped_counter(), self.progress.parsed);
        let mut reader = SourceReader::start(source)?;
        // One batch is committed while the next one is read.
        let mut pending: Option<PendingBatch> = None;
        let mut last_row = Instant::now();
        let mut window = Vec::new().into_iter();
        let end = loop {
            if self.clock.is_over() {
                break None;
            }
            if window.len() > 0 {
                let batch: Vec<Weighed<Row>> = window.by_ref().take(self.batch_rows).collect();
                reader.queue.release(batch.len(), batch.iter().map(|row| row.bytes).sum());
                let rows: Vec<Row> = batch.into_iter().map(|row| row.row).collect();
                self.progress.rows += rows.len() as u64;
                self.progress.parsed += rows.iter().filter(|row| row.is_ok()).count() as u64;
                let commit = self.ingest.checkpoint.begin_ingest(Batch { source: id, rows })?;
                let before = pending.replace(PendingBatch { commit, progress: self.progress.clone() });
                before.map_or(Ok(()), |before| self.finish_batch(before))?;
                continue;
            }
            let timeout = if pending.is_some() { Duration::ZERO } else { STOP_POLL };
            match reader.take(self.batch_rows, self.window_rows(), timeout) {
                Taken::Rows(mut rows) => {
                    last_row = Instant::now();
                    if rows.len() > MAX_BATCH_ROWS {
                        sort_by_id(&mut rows);
                    }
                    window = rows.into_iter();
                }
                Taken::Nothing => match pending.take() {
                    Some(last) => self.finish_batch(last)?,
                    None if self.ingest.stop.is_reading_ended() => break None,
                    None if self.ingest.stop.is_draining() && last_row.elapsed() >= MAX_SILENCE => break None,
                    None => {}
                },
                Taken::End(end) => break Some(end),
            }
        };
        pending.map_or(Ok(()), |last| self.finish_batch(last))?;
        let is_whole = end.transpose()?.is_some();
        if is_whole {
            let checkpoint = &self.ingest.checkpoint;
            if self.progress.parsed == parsed_before
                && !may_be_empty
                && checkpoint.call_blocking(move |store| store.count_items(id))? > 0
            {
                return Err(SourceError::NothingLeft { path: name.into() }.into());
            }
            if let Some(files) = skipped {
                let files = files.load(Relaxed);
                checkpoint.write_blocking(Change::RecordSkipped(id, files))?;
            }
        }
        Ok(is_whole)
    }

    fn window_rows(&self) -> usize {
        let share = usize::try_from(self.progress.rows / WINDOW_DIVISOR).unwrap_or(MAX_WINDOW_ROWS);
        share.clamp(self.batch_rows, MAX_WINDOW_ROWS)
    }

    fn finish_batch(&mut self, PendingBatch { commit, mut progress }: PendingBatch) -> Result<(), StoreError> {
        let (ingested, took) = commit.wait_timed()?;
        self.check_photos(&ingested)?;
        self.repeated += ingested.repeated;
        progress.has_found_photos = self.checker.has_found();
        self.ingest.emit(&progress);
        self.batch_rows = next_batch_rows(self.batch_rows, took);
        Ok(())
    }

    /// Makes rejected items pending again whose photo has changed. The next run checks what is skipped after a stop.
    fn check_photos(&self, ingested: &Ingested) -> Result<(), StoreError> {
        let checkpoint = &self.ingest.checkpoint;
        let clock = &self.clock;
        let is_stopped = || clock.is_over();
        let checks = self.checker.check_enrolled(&ingested.enrolled_items, &is_stopped);
        if !checks.is_empty() {
            checkpoint.write_blocking(Change::RecordPhotoChecks(checks))?;
        }
        let changed = self.checker.changed_rejected(&ingested.rejected_items, &is_stopped);
        if changed.is_empty() { Ok(()) } else { checkpoint.write_blocking(Change::Reopen(changed)) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{FaceGroupCode, MerchantUserId};

    proptest! {
        #[test]
        fn sorted_rows_of_one_id_keep_their_order(users in proptest::collection::vec("[a-c]", 0..40)) {
            let group = FaceGroupCode::parse("g").unwrap();
            let item = |(row, user): (usize, &String)| Item {
                row: row as u64,
                group: group.clone(),
                user: MerchantUserId::parse(user.as_str()).unwrap(),
                picture: PhotoSource::Path("a.jpg".into()),
                extra: Vec::new(),
                origin: None,
            };
            let mut rows: Vec<_> =
                users.iter().enumerate().map(item).map(|item| Weighed { row: Ok(item), bytes: 0 }).collect();
            sort_by_id(&mut rows);
            let sorted = rows.into_iter().map(|row| row.row.unwrap());
            let sorted: Vec<_> = sorted.map(|item| (item.user.as_str().to_owned(), item.row)).collect();
            let mut expected: Vec<_> = users.iter().cloned().zip(0_u64..).collect();
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }

    #[test]
    fn batches_grow_when_quick_and_shrink_when_slow() {
        assert_eq!(next_batch_rows(512, Duration::ZERO), 1_024);
        assert_eq!(next_batch_rows(512, MAX_BATCH_TIME * 3 / 4), 512);
        assert_eq!(next_batch_rows(512, MAX_BATCH_TIME * 2), 256);
        assert_eq!(next_batch_rows(MIN_BATCH_ROWS, MAX_BATCH_TIME * 2), MIN_BATCH_ROWS);
        assert_eq!(next_batch_rows(MAX_BATCH_ROWS, Duration::ZERO), MAX_BATCH_ROWS);
    }
}
