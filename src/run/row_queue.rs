//! Hands rows from the thread that reads a source to the thread that commits them.
//!
//! Bounded by rows and by bytes, so that a fast source waits for the checkpoint. The committing side never waits for the
//! reading side for longer than it says: a read from a silent pipe or a dead file server may never return.

use std::{
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most rows that wait.
pub(super) const MAX_QUEUED_ROWS: usize = 4_096;
/// Most bytes that wait. A row that is larger waits alone.
pub(super) const MAX_QUEUED_BYTES: usize = 8 * 1024 * 1024;
/// A batch is taken at the latest this long after its first row came.
const MAX_BATCH_DELAY: Duration = Duration::from_millis(20);

/// See the module.
pub(super) struct RowQueue<T, E> {
    state: Mutex<State<T, E>>,
    /// Told when as many rows wait as the taker asked for, or no more can come.
    filled: Condvar,
    /// Told when there is room again, or no more rows are wanted.
    emptied: Condvar,
}

struct State<T, E> {
    rows: Vec<T>,
    bytes: usize,
    /// How the source ended.
    end: Option<Result<(), E>>,
    is_closed: bool,
    /// How many rows the taker waits for; none: it does not wait.
    wanted: Option<usize>,
    is_pusher_waiting: bool,
}

/// What has come.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T, E> {
    /// Rows, in their order.
    Rows(Vec<T>),
    /// Nothing, for as long as was waited.
    Nothing,
    /// The source has ended, and all its rows have been taken.
    End(Result<(), E>),
}

impl<T, E> RowQueue<T, E> {
    pub(super) fn new() -> Self {
        let state =
            State { rows: Vec::new(), bytes: 0, end: None, is_closed: false, wanted: None, is_pusher_waiting: false };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    /// Waits for room. False: no more rows are wanted.
    pub(super) fn push(&self, row: T, bytes: usize) -> bool {
        let mut state = self.lock();
        while !state.is_closed && state.is_full(bytes) {
            state.is_pusher_waiting = true;
            if state.wanted.is_some() {
                self.filled.notify_one();
            }
            state = self.emptied.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if state.is_closed {
            return false;
        }
        state.rows.push(row);
        state.bytes += bytes;
        if state.wanted.is_some_and(|wanted| state.rows.len() >= wanted) {
            self.filled.notify_one();
        }
        true
    }

    /// No more rows come.
    pub(super) fn end(&self, end: Result<(), E>) {
        self.lock().end = Some(end);
        self.filled.notify_one();
    }

    /// No more rows are wanted.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.emptied.notify_one();
    }

    /// At most so many rows. Waits at most `patience` for the first one.
    pub(super) fn take(&self, most: usize, patience: Duration) -> Taken<T, E> {
        let mut state = self.wait_for(self.lock(), 1, patience);
        if !state.rows.is_empty() {
            state = self.wait_for(state, most, MAX_BATCH_DELAY);
        }
        if state.rows.is_empty() {
            return state.end.take().map_or(Taken::Nothing, Taken::End);
        }
        let rest = if state.rows.len() > most { state.rows.split_off(most) } else { Vec::new() };
        let rows = mem::replace(&mut state.rows, rest);
        if state.rows.is_empty() {
            state.bytes = 0;
        }
        if mem::take(&mut state.is_pusher_waiting) {
            self.emptied.notify_one();
        }
        Taken::Rows(rows)
    }

    /// Until so many rows wait, no more can come, or the time has passed.
    fn wait_for<'a>(
        &self,
        mut state: MutexGuard<'a, State<T, E>>,
        rows: usize,
        patience: Duration,
    ) -> MutexGuard<'a, State<T, E>> {
        let until = Instant::now() + patience;
        while state.rows.len() < rows && state.end.is_none() && !state.is_pusher_waiting {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            state.wanted = Some(rows);
            state = self.filled.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        state.wanted = None;
        state
    }

    fn lock(&self) -> MutexGuard<'_, State<T, E>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T, E> State<T, E> {
    fn is_full(&self, bytes: usize) -> bool {
        let is_over = self.bytes.saturating_add(bytes) > MAX_QUEUED_BYTES;
        self.rows.len() >= MAX_QUEUED_ROWS || (is_over && !self.rows.is_empty())
    }
}
