//! Hands rows from the thread that reads a source to the thread that commits them.
//!
//! Rows are held while they wait here and, once taken, until they are released. Held rows and bytes are bounded, so a
//! fast source waits for the checkpoint. The committing side waits with a timeout: a read from a silent pipe or a dead
//! file server may never return.

use std::{
    collections::VecDeque,
    mem,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Most bytes held at once. A larger row is held alone.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// Longest wait for a full batch after its first row.
const MAX_BATCH_DELAY: Duration = Duration::from_millis(20);

/// The queue between the two threads.
pub(super) struct RowQueue<T, E> {
    state: Mutex<State<T, E>>,
    /// Notified when enough rows wait for the taker, or no more can come.
    filled: Condvar,
    /// Notified when there is room again, or no more rows are wanted.
    emptied: Condvar,
}

struct State<T, E> {
    rows: VecDeque<Weighed<T>>,
    /// Rows that wait, and rows that are taken but not released.
    held_rows: usize,
    held_bytes: usize,
    max_rows: usize,
    /// Result of the source once it has ended.
    end: Option<Result<(), E>>,
    is_closed: bool,
    /// Number of rows that the taker waits for. `None` if it does not wait.
    wanted: Option<usize>,
    is_pusher_waiting: bool,
}

/// A row and its approximate size in bytes.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Weighed<T> {
    pub(super) row: T,
    pub(super) bytes: usize,
}

/// Result of [`RowQueue::take`].
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken<T, E> {
    /// Rows in order. Each has to be released.
    Rows(Vec<Weighed<T>>),
    /// No row within the timeout.
    Nothing,
    /// The source has ended, and all its rows are taken.
    End(Result<(), E>),
}

impl<T, E> RowQueue<T, E> {
    pub(super) fn new() -> Self {
        let state = State {
            rows: VecDeque::new(),
            held_rows: 0,
            held_bytes: 0,
            max_rows: 1,
            end: None,
            is_closed: false,
            wanted: None,
            is_pusher_waiting: false,
        };
        Self { state: Mutex::new(state), filled: Condvar::new(), emptied: Condvar::new() }
    }

    /// Waits for room and adds a row. Returns false if no more rows are wanted.
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
        state.rows.push_back(Weighed { row, bytes });
        state.held_rows += 1;
        state.held_bytes += bytes;
        if state.wanted.is_some_and(|wanted| state.rows.len() >= wanted) {
            self.filled.notify_one();
        }
        true
    }

    /// Marks the end of the source.
    pub(super) fn end(&self, end: Result<(), E>) {
        self.lock().end = Some(end);
        self.filled.notify_one();
    }

    /// Refuses further rows.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.emptied.notify_one();
    }

    /// Takes at most `most` rows. Waits up to `timeout` for the first one, then [`MAX_BATCH_DELAY`] for `enough` of
    /// them.
    pub(super) fn take(&self, enough: usize, most: usize, timeout: Duration) -> Taken<T, E> {
        let mut state = self.lock();
        if state.max_rows < most {
            state.max_rows = most;
            self.make_room(&mut state);
        }
        state = self.wait_for(state, 1, timeout);
        if !state.rows.is_empty() {
            state = self.wait_for(state, enough, MAX_BATCH_DELAY);
        }
        if state.rows.is_empty() {
            return state.end.take().map_or(Taken::Nothing, Taken::End);
        }
        let taken = state.rows.len().min(most);
        Taken::Rows(state.rows.drain(..taken).collect())
    }

    /// Frees the room of taken rows.
    pub(super) fn release(&self, rows: usize, bytes: usize) {
        let mut state = self.lock();
        state.held_rows -= rows;
        state.held_bytes -= bytes;
        self.make_room(&mut state);
    }

    fn make_room(&self, state: &mut State<T, E>) {
        if mem::take(&mut state.is_pusher_waiting) {
            self.emptied.notify_one();
        }
    }

    /// Waits until this many rows are there, no more can come, or the timeout has passed.
    fn wait_for<'a>(
        &self,
        mut state: MutexGuard<'a, State<T, E>>,
        rows: usize,
        timeout: Duration,
    ) -> MutexGuard<'a, State<T, E>> {
        let until = Instant::now() + timeout;
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
        let is_over = self.held_bytes.saturating_add(bytes) > MAX_BYTES;
        self.held_rows >= self.max_rows || (is_over && self.held_rows > 0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Queue = RowQueue<usize, &'static str>;

    const SOON: Duration = Duration::from_millis(1);

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn rows_come_out_once_in_order_within_bounds(
            sizes in proptest::collection::vec(0..MAX_BYTES * 3 / 2, 0..200), most in 1_usize..40,
        ) {
            let queue = Queue::new();
            let (mut rows, mut end) = (Vec::new(), None);
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    sizes.iter().enumerate().for_each(|(row, bytes)| assert!(queue.push(row, *bytes)));
                    queue.end(Err("broken"));
                });
                while end.is_none() {
                    match queue.take(most, most, SOON) {
                        Taken::Rows(batch) => {
                            let bytes: usize = batch.iter().map(|row| row.bytes).sum();
                            assert!(batch.len() <= most && (bytes <= MAX_BYTES || batch.len() == 1), "{batch:?}");
                            queue.release(batch.len(), bytes);
                            rows.extend(batch.into_iter().map(|row| row.row));
                        }
                        Taken::Nothing => {}
                        Taken::End(how) => end = Some(how),
                    }
                }
            });
            prop_assert_eq!(end, Some(Err("broken")));
            prop_assert_eq!(rows, (0..sizes.len()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn row_is_taken_before_the_next_arrives() {
        let queue = Queue::new();
        assert_eq!(queue.take(10, 10, SOON), Taken::Nothing);
        assert!(queue.push(1, 0));
        assert_eq!(queue.take(10, 10, SOON), Taken::Rows(vec![Weighed { row: 1, bytes: 0 }]));
        assert_eq!(queue.take(10, 10, SOON), Taken::Nothing);
    }

    #[test]
    fn closing_wakes_a_waiting_source() {
        let queue = Queue::new();
        std::thread::scope(|scope| {
            let pushing = scope.spawn(|| (0..).take_while(|row| queue.push(*row, 0)).count());
            while !queue.lock().is_pusher_waiting {
                std::thread::yield_now();
            }
            queue.close();
            assert_eq!(pushing.join().unwrap(), 1);
        });
    }
}
