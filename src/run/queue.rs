//! Queue of the engine: items ready to be sent, items with a due time, and pending reconciliations.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashSet, VecDeque},
};

use tokio::time::Instant;

use super::{
    ingest::IngestProgress,
    task::{ReconcileStep, Reconciliation, Task},
};
use crate::{checkpoint::Claimed, domain::ItemId};

/// Stop sending new items while a run has this many new items in doubt: the service is failing.
const MAX_NEW_IN_DOUBT: usize = 1_000;

/// Reconciliations in progress at once.
pub(super) const MAX_CONCURRENT_QUERIES: usize = 16;

/// Phase of the scan for pending items.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ScanPhase {
    /// Rows are still being ingested, and items are sent as they arrive.
    Streaming {
        /// Whether rows have arrived since the scan last reached the end.
        has_more: bool,
    },
    /// All rows are ingested: scan once more from the start, for requeued or skipped items.
    Final,
    /// No pending items are left.
    Exhausted,
    /// No more items are wanted, although some may be pending.
    Closed,
}

/// A scan for pending items.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scan {
    pub(super) after: ItemId,
    phase: ScanPhase,
}

/// The queue. Its size is bounded by the number of tasks, by one claim and by [`MAX_NEW_IN_DOUBT`].
#[derive(Debug)]
pub(super) struct Queue {
    ready: VecDeque<Task>,
    waiting: BinaryHeap<Timed<Task>>,
    reconciliations: BinaryHeap<Timed<Reconciliation>>,
    /// Reconciliations left by earlier runs, which do not count against [`MAX_NEW_IN_DOUBT`].
    leftover: usize,
    /// Items queued or in progress, which a scan must not claim again.
    in_progress: HashSet<ItemId>,
    /// Items released since the scan started, which it may have read as pending before that.
    released_since_scan: HashSet<ItemId>,
    cursor: ItemId,
    phase: ScanPhase,
    /// First item that the last scan may have passed before it became pending.
    rescan_from: Option<ItemId>,
}

impl Queue {
    /// Queue with the reconciliations that earlier runs left.
    pub(super) fn new(reconciliations: Vec<(Reconciliation, Instant)>) -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            leftover: reconciliations.len(),
            in_progress: reconciliations.iter().map(|(case, _)| case.item()).collect(),
            reconciliations: reconciliations.into_iter().map(|(entry, at)| Timed { at, entry }).collect(),
            released_since_scan: HashSet::new(),
            cursor: ItemId(0),
            // Nothing is claimed before the sources are open: items that they no longer name must not be sent.
            phase: ScanPhase::Streaming { has_more: false },
            rescan_from: None,
        }
    }

    /// Takes the next item that is due; delayed items go first.
    pub(super) fn next_task(&mut self, now: Instant) -> Option<Task> {
        pop_due(&mut self.waiting, now)
            .or_else(|| if self.is_reconcile_backlog_full() { None } else { self.ready.pop_front() })
    }

    /// Takes the next reconciliation that is due.
    pub(super) fn next_reconciliation(&mut self, now: Instant) -> Option<Reconciliation> {
        pop_due(&mut self.reconciliations, now)
    }

    /// Due time of the next delayed item.
    pub(super) fn task_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|due| due.at)
    }

    /// Due time of the next reconciliation.
    pub(super) fn reconciliation_due(&self) -> Option<Instant> {
        self.reconciliations.peek().map(|due| due.at)
    }

    /// Starts a scan if items are needed and may exist. Only one scan may run at a time.
    pub(super) fn next_scan(&mut self) -> Option<Scan> {
        // No scan is running now, so none can move the cursor past these items again.
        if let Some(item) = self.rescan_from
            && matches!(self.phase, ScanPhase::Final | ScanPhase::Exhausted)
        {
            (self.phase, self.cursor) = (ScanPhase::Final, self.cursor.min(ItemId(item.0 - 1)));
            self.rescan_from = None;
        }
        let may_find = match self.phase {
            ScanPhase::Streaming { has_more } => has_more,
            ScanPhase::Final => true,
            ScanPhase::Exhausted | ScanPhase::Closed => false,
        };
        if !may_find || !self.ready.is_empty() || self.is_reconcile_backlog_full() {
            return None;
        }
        self.released_since_scan.clear();
        Some(Scan { after: self.cursor, phase: self.phase })
    }

    /// Adds the items that a scan has claimed.
    pub(super) fn on_claimed(&mut self, scan: Scan, claimed: Vec<Claimed>) {
        // If ingestion ended during this scan, the final scan has yet to start.
        if scan.phase == self.phase {
            match claimed.last() {
                Some(last) => self.cursor = last.item,
                None => match self.phase {
                    ScanPhase::Streaming { .. } => self.phase = ScanPhase::Streaming { has_more: false },
                    ScanPhase::Final => self.phase = ScanPhase::Exhausted,
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

    /// Drops items that are not started; started ones continue.
    pub(super) fn close(&mut self) {
        self.phase = ScanPhase::Closed;
        self.rescan_from = None;
        self.ready.clear();
    }

    /// Whether the queue is closed.
    pub(super) fn is_closed(&self) -> bool {
        self.phase == ScanPhase::Closed
    }

    /// Updates the scan phase after a batch of rows.
    pub(super) fn on_ingest_progress(&mut self, progress: &IngestProgress) {
        if let ScanPhase::Streaming { .. } = self.phase {
            if progress.is_done {
                (self.phase, self.cursor) = (ScanPhase::Final, ItemId(0));
            } else {
                self.phase = ScanPhase::Streaming { has_more: true };
            }
        }
    }

    /// Removes an item from those in progress.
    pub(super) fn release(&mut self, item: ItemId) {
        self.in_progress.remove(&item);
        self.released_since_scan.insert(item);
    }

    /// Excludes a pending item for the rest of the run.
    pub(super) fn set_aside(&mut self, item: ItemId) {
        self.in_progress.insert(item);
    }

    /// Schedules an item to be sent.
    pub(super) fn schedule_task(&mut self, task: Task, at: Instant) {
        self.in_progress.insert(task.claimed.item);
        self.waiting.push(Timed { at, entry: task });
    }

    /// Schedules a reconciliation.
    pub(super) fn schedule_reconciliation(&mut self, case: Reconciliation, at: Instant) {
        self.in_progress.insert(case.item());
        self.reconciliations.push(Timed { at, entry: case });
    }

    /// Applies the next step of a reconciliation. An absent item is sent again at `resend_at`.
    pub(super) fn on_reconcile_step(&mut self, item: ItemId, step: ReconcileStep, resend_at: impl FnOnce() -> Instant) {
        self.release(item);
        match step {
            ReconcileStep::Settled | ReconcileStep::Deferred => {}
            ReconcileStep::AskAgain(case, at) => self.schedule_reconciliation(case, at),
            ReconcileStep::Resend(task) => self.schedule_task(task, resend_at()),
            ReconcileStep::Rescan if self.is_closed() => {}
            ReconcileStep::Rescan => {
                self.rescan_from = Some(self.rescan_from.map_or(item, |first| first.min(item)));
            }
        }
    }

    /// Whether nothing is left to do.
    pub(super) fn is_over(&self) -> bool {
        let is_scanned = matches!(self.phase, ScanPhase::Exhausted | ScanPhase::Closed) && self.rescan_from.is_none();
        is_scanned && self.ready.is_empty() && self.waiting.is_empty() && self.reconciliations.is_empty()
    }

    fn is_reconcile_backlog_full(&self) -> bool {
        self.reconciliations.len() >= self.leftover + MAX_NEW_IN_DOUBT
    }
}

/// An entry with a due time. The earliest is the greatest, because the heap is a max-heap.
#[derive(Debug)]
struct Timed<W> {
    at: Instant,
    entry: W,
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
    if heap.peek()?.at <= now { heap.pop().map(|due| due.entry) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{FaceGroupCode, MerchantUserId, PhotoSource},
        run::task::InDoubtItem,
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

    /// A queue whose sources are open.
    fn streaming(reconciliations: Vec<(Reconciliation, Instant)>) -> Queue {
        let mut queue = Queue::new(reconciliations);
        queue.on_ingest_progress(&IngestProgress::default());
        queue
    }

    fn all_in() -> IngestProgress {
        IngestProgress { is_done: true, ..IngestProgress::default() }
    }

    fn take(queue: &mut Queue) -> Vec<i64> {
        std::iter::from_fn(|| queue.next_task(Instant::now())).map(|task| task.claimed.item.0).collect()
    }

    #[test]
    fn nothing_is_claimed_before_sources_are_open() {
        assert!(Queue::new(Vec::new()).next_scan().is_none());
        assert!(streaming(Vec::new()).next_scan().is_some());
    }

    #[test]
    fn item_in_progress_is_not_claimed_twice() {
        let mut queue = streaming(Vec::new());
        let scan = queue.next_scan().unwrap();
        queue.on_claimed(scan, vec![claimed(1), claimed(2)]);
        assert_eq!(take(&mut queue), [1, 2]);
        queue.on_ingest_progress(&all_in());
        let again = queue.next_scan().unwrap();
        assert_eq!(again.after, ItemId(0), "the final scan starts from the beginning");
        queue.on_claimed(again, vec![claimed(1), claimed(2), claimed(3)]);
        assert_eq!(take(&mut queue), [3]);
    }

    #[test]
    fn item_finished_during_scan_is_not_claimed_again() {
        let mut queue = streaming(Vec::new());
        let scan = queue.next_scan().unwrap();
        queue.on_claimed(scan, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [1]);
        queue.on_ingest_progress(&all_in());
        let scan = queue.next_scan().unwrap();
        // The scan has read the item as pending; then its outcome was stored.
        queue.release(ItemId(1));
        queue.on_claimed(scan, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [0_i64; 0]);
    }

    #[test]
    fn item_that_is_set_aside_is_not_taken_again() {
        let mut queue = streaming(Vec::new());
        let scan = queue.next_scan().unwrap();
        queue.on_claimed(scan, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [1]);
        queue.release(ItemId(1));
        queue.set_aside(ItemId(1));
        queue.on_ingest_progress(&all_in());
        let scan = queue.next_scan().unwrap();
        queue.on_claimed(scan, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [0_i64; 0]);
        let scan = queue.next_scan().unwrap();
        queue.on_claimed(scan, Vec::new());
        assert!(queue.is_over());
    }

    #[test]
    fn resent_in_doubt_item_is_not_claimed_by_a_scan() {
        let doubt = Reconciliation::InDoubt(InDoubtItem::new(Task::new(claimed(1)), "Timeout".into()));
        let mut queue = streaming(vec![(doubt, Instant::now())]);
        queue.next_reconciliation(Instant::now()).unwrap();
        let scan = queue.next_scan().unwrap();
        // The item is absent and pending on disk; the scan reads that before the step arrives.
        queue.on_claimed(scan, vec![claimed(1)]);
        queue.on_reconcile_step(ItemId(1), ReconcileStep::Resend(Task::new(claimed(1))), Instant::now);
        assert_eq!(take(&mut queue), [1]);
    }

    #[test]
    fn item_that_became_pending_behind_the_scan_is_scanned_again() {
        let mut queue = streaming(Vec::new());
        queue.on_ingest_progress(&all_in());
        let scan = queue.next_scan().unwrap();
        queue.on_claimed(scan, vec![claimed(5)]);
        assert_eq!(take(&mut queue), [5]);
        let scan = queue.next_scan().unwrap();
        queue.on_reconcile_step(ItemId(3), ReconcileStep::Rescan, Instant::now);
        // The scan has found nothing behind item 5.
        queue.on_claimed(scan, Vec::new());
        assert!(!queue.is_over());
        let again = queue.next_scan().unwrap();
        assert_eq!(again.after, ItemId(2));
        queue.on_claimed(again, vec![claimed(3), claimed(5)]);
        assert_eq!(take(&mut queue), [3]);
        let last = queue.next_scan().unwrap();
        queue.on_claimed(last, Vec::new());
        assert!(queue.is_over());
    }

    #[test]
    fn early_scan_does_not_end_final_scan() {
        let mut queue = streaming(Vec::new());
        let early = queue.next_scan().unwrap();
        queue.on_ingest_progress(&all_in());
        queue.on_claimed(early, Vec::new());
        assert!(!queue.is_over());
        let last = queue.next_scan().unwrap();
        queue.on_claimed(last, Vec::new());
        assert!(queue.is_over());
    }
}
