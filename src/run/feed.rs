//! Reads the sources into the checkpoint, beside the sending, on a thread of its own.

use std::{path::PathBuf, str::FromStr, time::Duration};

use tokio::sync::{mpsc, watch};

use super::look;
use crate::{
    checkpoint::{Batch, Begun, Checkpoint, Ingested, Store, StoreError},
    domain::{Event, Item, RowError},
    manifest::{self, SourceError},
    picture::Rules,
};

/// Rows in the first transaction, and the fewest in any.
const FEWEST: usize = 256;
/// The most: what memory they may take.
const MOST: usize = 4_096;
/// What a batch may take of the writer's time, as no intent is written meanwhile. One that took less than half of it is
/// followed by a larger one.
const TURN: Duration = Duration::from_millis(20);

/// How far the reading has come.
#[derive(Debug, Clone, Default)]
pub struct FeedState {
    /// Rows read.
    pub rows: u64,
    /// Of them, those that could be items.
    pub parsed: u64,
    /// Has every source been read to its end?
    pub is_done: bool,
}

/// `--on-change`: what becomes of an enrolled id with another photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnChange {
    /// It is counted, and the service keeps the photo that it has.
    #[default]
    Keep,
    /// The new photo is sent, and takes the old one's place.
    Replace,
}

impl FromStr for OnChange {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "keep" => Ok(Self::Keep),
            "replace" => Ok(Self::Replace),
            _ => Err("one of keep, replace"),
        }
    }
}

/// What a run reads.
pub struct Reading {
    /// The source.
    pub source: manifest::Source,
    /// What its relative paths are relative to.
    pub root: PathBuf,
}

/// See the module.
pub struct Feed<S> {
    /// In their order.
    pub readings: Vec<Reading>,
    /// Where the rows go.
    pub checkpoint: Checkpoint<S>,
    /// For a second look at photos of people who are enrolled.
    pub rules: Rules,
    /// What becomes of those that are others now.
    pub on_change: OnChange,
    /// Told after each batch.
    pub state: watch::Sender<FeedState>,
    /// Told after each batch.
    pub events: mpsc::Sender<Event>,
}

type Rows = Vec<Result<Item, RowError>>;

/// A batch that is being taken in, and how far the reading has come with it.
struct Taking {
    batch: Begun<(Ingested, Duration)>,
    state: FeedState,
}


/// Of the batch after one that took so long.
fn next_size(size: usize, took: Duration) -> usize {
    if took > TURN {
        (size / 2).max(FEWEST)
    } else if took < TURN / 2 {
        (size * 2).min(MOST)
    } else {
        size
    }
}

/// Why the reading ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The source broke.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The checkpoint broke.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl<S: Store> Feed<S> {
    /// Reads everything. Blocks.
    pub fn read(mut self) -> Result<FeedState, FeedError> {
        let mut state = self.read_rows()?;
        state.is_done = true;
        self.tell(&state);
        Ok(state)
    }

    fn read_rows(&mut self) -> Result<FeedState, FeedError> {
        let mut state = FeedState::default();
        let mut size = FEWEST;
        // One batch is taken in while the next is read.
        let mut begun: Option<Taking> = None;
        let mut readings = std::mem::take(&mut self.readings);
        // All of them, before anything is claimed: what a later one has named before waits until it names it again.
        let mut ids = Vec::with_capacity(readings.len());
        for Reading { source, root } in &readings {
            ids.push(self.checkpoint.open_source(source.name().to_owned(), root.clone())?);
        }
        self.state.send_replace(state.clone());
        for (Reading { source, .. }, id) in readings.iter_mut().zip(ids) {
            loop {
                let rows: Rows = source.by_ref().take(size).collect::<Result<_, _>>()?;
                if rows.is_empty() {
                    break;
                }
                state.rows += rows.len() as u64;
                state.parsed += rows.iter().filter(|row| row.is_ok()).count() as u64;
                let batch = self.checkpoint.begin_ingest(Batch { source: id, rows })?;
                if let Some(before) = begun.replace(Taking { batch, state: state.clone() }) {
                    size = next_size(size, self.take_in(before)?);
                }
            }
        }
        begun.map(|last| self.take_in(last)).transpose()?;
        self.checkpoint.finish_ingest()?;
        Ok(state)
    }

    /// One batch. Gives what it took of the writer's time.
    fn take_in(&self, Taking { batch, state }: Taking) -> Result<Duration, StoreError> {
        let (ingested, took) = batch.wait()?;
        self.look_at(ingested)?;
        self.tell(&state);
        Ok(took)
    }

    /// What was refused before goes back to the queue if its photo is another one now.
    fn look_at(&self, ingested: Ingested) -> Result<(), StoreError> {
        let looks = look::at_enrolled(&ingested.enrolled_before, self.on_change, &self.rules);
        if !looks.is_empty() {
            self.checkpoint.note_photos(looks)?;
        }
        let changed = look::at_refused(&ingested.refused_before);
        if changed.is_empty() { Ok(()) } else { self.checkpoint.reopen_blocking(changed) }
    }

    fn tell(&self, state: &FeedState) {
        self.state.send_replace(state.clone());
        // A lost watcher never ends a run.
        let _ = self.events.blocking_send(Event::Ingested { rows: state.rows, done: state.is_done });
    }
}
