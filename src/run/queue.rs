//! What is to be done next: items ready to go, items that wait for their time, doubts that wait for theirs.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashSet, VecDeque},
};

use tokio::time::Instant;

use super::{
    attempt::Task,
    ingest::IngestProgress,
    reconcile::{ReconcileStep, Reconciliation},
};
use crate::{checkpoint::Claimed, domain::ItemId};

/// New doubts in one run beyond which nothing new is sent until some are settled: the service is not well.
const MAX_NEW_IN_DOUBT: usize = 1_000;

/// How far the search for pending items has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanPhase {
    /// Rows are still coming in; what has come is being sent.
    Streaming {
        /// Have rows come in since the search last came to their end?
        has_more: bool,
    },
    /// All rows are in: once more from the beginning, for what was opened again or left out.
    Final,
    /// There is nothing more.
    Exhausted,
    /// There may be more, and it is not wanted.
    Closed,
}

/// Where a search for pending items begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    pub(super) after: ItemId,
    pass: ScanPhase,
}

/// See the module. Everything in it is bounded: by the room for units, by one claim, by [`MAX_NEW_IN_DOUBT`].
#[derive(Debug)]
pub(super) struct Queue {
    ready: VecDeque<Task>,
    waiting: BinaryHeap<Timed<Task>>,
    doubts: BinaryHeap<Timed<Reconciliation>>,
    /// Doubts that the run began with: they do not count against [`MAX_NEW_IN_DOUBT`].
    leftover: usize,
    /// Items that are in here or on their way: the search finds those that are pending, or become it, again.
    in_progress: HashSet<ItemId>,
    /// Items let go since the search began: it may have seen them pending before that.
    released_since_scan: HashSet<ItemId>,
    cursor: ItemId,
    pass: ScanPhase,
}

impl Queue {
    /// Begins with what is in doubt from earlier runs.
    pub(super) fn new(doubts: Vec<(Reconciliation, Instant)>) -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            leftover: doubts.len(),
            in_progress: doubts.iter().map(|(case, _)| case.item()).collect(),
            doubts: doubts.into_iter().map(|(what, at)| Timed { at, what }).collect(),
            released_since_scan: HashSet::new(),
            cursor: ItemId(0),
            // Until it is known what the sources name, nothing is claimed: what they no longer name is not to go.
            pass: ScanPhase::Streaming { has_more: false },
        }
    }

    /// The next item whose time has come; those that have waited go first.
    pub(super) fn next_task(&mut self, now: Instant) -> Option<Task> {
        pop_due(&mut self.waiting, now)
            .or_else(|| if self.is_reconcile_backlog_full() { None } else { self.ready.pop_front() })
    }

    /// The next doubt whose time has come.
    pub(super) fn next_reconciliation(&mut self, now: Instant) -> Option<Reconciliation> {
        pop_due(&mut self.doubts, now)
    }

    /// When the next item that waits is due.
    pub(super) fn task_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|due| due.at)
    }

    /// When the next doubt is due.
    pub(super) fn reconciliation_due(&self) -> Option<Instant> {
        self.doubts.peek().map(|due| due.at)
    }

    /// Where to search for more, if it makes sense now. One search at a time.
    pub(super) fn next_scan(&mut self) -> Option<Scan> {
        let may_find = match self.pass {
            ScanPhase::Streaming { has_more } => has_more,
            ScanPhase::Final => true,
            ScanPhase::Exhausted | ScanPhase::Closed => false,
        };
        if !may_find || !self.ready.is_empty() || self.is_reconcile_backlog_full() {
            return None;
        }
        self.released_since_scan.clear();
        Some(Scan { after: self.cursor, pass: self.pass })
    }

    /// What a search has found.
    pub(super) fn found(&mut self, search: Scan, claimed: Vec<Claimed>) {
        // All rows may have come in meanwhile; then the final pass is still to begin.
        if search.pass == self.pass {
            match claimed.last() {
                Some(last) => self.cursor = last.item,
                None => match self.pass {
                    ScanPhase::Streaming { .. } => self.pass = ScanPhase::Streaming { has_more: false },
                    ScanPhase::Final => self.pass = ScanPhase::Exhausted,
                    ScanPhase::Exhausted | ScanPhase::Closed => {}
                },
            }
        }
        if self.is_closed() {
            return;
        }
        for claimed in claimed {
            if !self.released_since_scan.contains(&claimed.item) && self.in_progress.insert(claimed.item) {
                self.ready.push_back(Task::new(claimed));
            }
        }
    }

    /// Nothing new is wanted; what has been begun goes on to its end.
    pub(super) fn close(&mut self) {
        self.pass = ScanPhase::Closed;
        self.ready.clear();
    }

    /// Has it been closed?
    pub(super) fn is_closed(&self) -> bool {
        self.pass == ScanPhase::Closed
    }

    /// Rows have come in.
    pub(super) fn on_ingest_progress(&mut self, progress: &IngestProgress) {
        if let ScanPhase::Streaming { .. } = self.pass {
            if progress.is_done {
                (self.pass, self.cursor) = (ScanPhase::Final, ItemId(0));
            } else {
                self.pass = ScanPhase::Streaming { has_more: true };
            }
        }
    }

    /// An item is not in here any more.
    pub(super) fn release(&mut self, item: ItemId) {
        self.in_progress.remove(&item);
        self.released_since_scan.insert(item);
    }

    /// An item is not to be taken again in this run, although it is pending.
    pub(super) fn set_aside(&mut self, item: ItemId) {
        self.in_progress.insert(item);
    }

    /// An item is to be sent when its time comes.
    pub(super) fn wait(&mut self, work: Task, at: Instant) {
        self.in_progress.insert(work.claimed.item);
        self.waiting.push(Timed { at, what: work });
    }

    /// The service is to be asked when the time comes.
    pub(super) fn ask(&mut self, case: Reconciliation, at: Instant) {
        self.in_progress.insert(case.item());
        self.doubts.push(Timed { at, what: case });
    }

    /// What became of a doubt.
    pub(super) fn on_reconcile_step(&mut self, item: ItemId, end: ReconcileStep) {
        self.release(item);
        match end {
            ReconcileStep::Settled | ReconcileStep::Left => {}
            ReconcileStep::AskAgain(case, at) => self.ask(case, at),
            ReconcileStep::Resend(work, at) => self.wait(work, at),
        }
    }

    /// Is there nothing left to wait for?
    pub(super) fn is_over(&self) -> bool {
        let is_searched = matches!(self.pass, ScanPhase::Exhausted | ScanPhase::Closed);
        is_searched && self.ready.is_empty() && self.waiting.is_empty() && self.doubts.is_empty()
    }

    fn is_reconcile_backlog_full(&self) -> bool {
        self.doubts.len() >= self.leftover + MAX_NEW_IN_DOUBT
    }
}

/// Something that waits for its time; the earliest is the greatest, for the heap.
#[derive(Debug)]
struct Timed<W> {
    at: Instant,
    what: W,
}

impl<W> PartialEq for Timed<W> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<W> Eq for Timed<W> {}

impl<W> PartialOrd for Timed<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> Ord for Timed<W> {
    fn cmp(&self, other: &Self) -> Ordering {
        Reverse(self.at).cmp(&Reverse(other.at))
    }
}

fn pop_due<W>(heap: &mut BinaryHeap<Timed<W>>, now: Instant) -> Option<W> {
    if heap.peek()?.at <= now { heap.pop().map(|due| due.what) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{FaceGroupCode, MerchantUserId, PhotoSource},
        run::reconcile::InDoubtItem,
    };

    fn claimed(item: i64) -> Claimed {
        Claimed {
            item: ItemId(item),
            row: 1,
            group: FaceGroupCode::parse("g").unwrap(),
            user: MerchantUserId::parse("u").unwrap(),
            picture: PhotoSource::Path("p".into()),
            root: "".into(),
            replaces: None,
            attempts: 0,
            intent_ms: None,
        }
    }

    /// The sources have been opened, and rows are coming in.
    fn begun(doubts: Vec<(Reconciliation, Instant)>) -> Queue {
        let mut queue = Queue::new(doubts);
        queue.on_ingest_progress(&IngestProgress::default());
        queue
    }

    fn all_in() -> IngestProgress {
        IngestProgress { is_done: true, ..IngestProgress::default() }
    }

    fn take(queue: &mut Queue) -> Vec<i64> {
        std::iter::from_fn(|| queue.next_task(Instant::now())).map(|work| work.claimed.item.0).collect()
    }

    #[test]
    fn nothing_is_claimed_before_sources_are_open() {
        assert!(Queue::new(Vec::new()).next_scan().is_none());
        assert!(begun(Vec::new()).next_scan().is_some());
    }

    #[test]
    fn item_in_progress_is_not_claimed_twice() {
        let mut queue = begun(Vec::new());
        let search = queue.next_scan().unwrap();
        queue.found(search, vec![claimed(1), claimed(2)]);
        assert_eq!(take(&mut queue), [1, 2]);
        queue.on_ingest_progress(&all_in());
        let again = queue.next_scan().unwrap();
        assert_eq!(again.after, ItemId(0), "the final pass begins at the beginning");
        queue.found(again, vec![claimed(1), claimed(2), claimed(3)]);
        assert_eq!(take(&mut queue), [3]);
    }

    #[test]
    fn item_finished_during_scan_is_not_claimed_again() {
        let mut queue = begun(Vec::new());
        let search = queue.next_scan().unwrap();
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [1]);
        queue.on_ingest_progress(&all_in());
        let search = queue.next_scan().unwrap();
        // The search has seen it pending; then its outcome was stored.
        queue.release(ItemId(1));
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [0_i64; 0]);
    }

    #[test]
    fn item_that_is_set_aside_is_not_taken_again() {
        let mut queue = begun(Vec::new());
        let search = queue.next_scan().unwrap();
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [1]);
        queue.release(ItemId(1));
        queue.set_aside(ItemId(1));
        queue.on_ingest_progress(&all_in());
        let search = queue.next_scan().unwrap();
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [0_i64; 0]);
        let search = queue.next_scan().unwrap();
        queue.found(search, Vec::new());
        assert!(queue.is_over());
    }

    #[test]
    fn resent_in_doubt_item_is_not_claimed_by_a_scan() {
        let doubt = Reconciliation::InDoubt(InDoubtItem::new(Task::new(claimed(1)), "Timeout".into()));
        let mut queue = begun(vec![(doubt, Instant::now())]);
        queue.next_reconciliation(Instant::now()).unwrap();
        let search = queue.next_scan().unwrap();
        // Found to be absent, and pending on disk; the search sees that before we hear of it.
        queue.found(search, vec![claimed(1)]);
        queue.on_reconcile_step(ItemId(1), ReconcileStep::Resend(Task::new(claimed(1)), Instant::now()));
        assert_eq!(take(&mut queue), [1]);
    }

    #[test]
    fn early_scan_does_not_end_final_scan() {
        let mut queue = begun(Vec::new());
        let early = queue.next_scan().unwrap();
        queue.on_ingest_progress(&all_in());
        queue.found(early, Vec::new());
        assert!(!queue.is_over());
        let last = queue.next_scan().unwrap();
        queue.found(last, Vec::new());
        assert!(queue.is_over());
    }
}
