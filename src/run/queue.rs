//! What is to be done next: items ready to go, items that wait for their time, doubts that wait for theirs.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, HashSet, VecDeque},
};

use tokio::time::Instant;

use super::{
    doubt::{Case, CaseEnd},
    ingest::IngestProgress,
    unit::Work,
};
use crate::{checkpoint::Claimed, domain::ItemId};

/// New doubts in one run beyond which nothing new is sent until some are settled: the service is not well.
const DOUBTS: usize = 1_000;

/// How far the search for pending items has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    /// Rows are still coming in; what has come is being sent.
    Beside {
        /// Have rows come in since the search last came to their end?
        has_more: bool,
    },
    /// All rows are in: once more from the beginning, for what was opened again or left out.
    Final,
    /// There is nothing more.
    Over,
    /// There may be more, and it is not wanted.
    Closed,
}

/// Where a search for pending items begins.
#[derive(Debug, Clone, Copy)]
pub(super) struct Search {
    pub(super) after: ItemId,
    pass: Pass,
}

/// See the module. Everything in it is bounded: by the room for units, by one claim, by [`DOUBTS`].
#[derive(Debug)]
pub(super) struct Queue {
    ready: VecDeque<Work>,
    waiting: BinaryHeap<Due<Work>>,
    doubts: BinaryHeap<Due<Case>>,
    /// Doubts that the run began with: they do not count against [`DOUBTS`].
    leftover: usize,
    /// Items that are in here or on their way: the search finds those that are pending, or become it, again.
    held: HashSet<ItemId>,
    /// Items let go since the search began: it may have seen them pending before that.
    gone: HashSet<ItemId>,
    cursor: ItemId,
    pass: Pass,
}

impl Queue {
    /// Begins with what is in doubt from earlier runs.
    pub(super) fn new(doubts: Vec<(Case, Instant)>) -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: BinaryHeap::new(),
            leftover: doubts.len(),
            held: doubts.iter().map(|(case, _)| case.item()).collect(),
            doubts: doubts.into_iter().map(|(what, at)| Due { at, what }).collect(),
            gone: HashSet::new(),
            cursor: ItemId(0),
            // Until it is known what the sources name, nothing is claimed: what they no longer name is not to go.
            pass: Pass::Beside { has_more: false },
        }
    }

    /// The next item whose time has come; those that have waited go first.
    pub(super) fn next_work(&mut self, now: Instant) -> Option<Work> {
        pop_due(&mut self.waiting, now)
            .or_else(|| if self.has_too_many_doubts() { None } else { self.ready.pop_front() })
    }

    /// The next doubt whose time has come.
    pub(super) fn next_case(&mut self, now: Instant) -> Option<Case> {
        pop_due(&mut self.doubts, now)
    }

    /// When the next item that waits is due.
    pub(super) fn work_due(&self) -> Option<Instant> {
        self.waiting.peek().map(|due| due.at)
    }

    /// When the next doubt is due.
    pub(super) fn case_due(&self) -> Option<Instant> {
        self.doubts.peek().map(|due| due.at)
    }

    /// Where to search for more, if it makes sense now. One search at a time.
    pub(super) fn next_search(&mut self) -> Option<Search> {
        let may_find = match self.pass {
            Pass::Beside { has_more } => has_more,
            Pass::Final => true,
            Pass::Over | Pass::Closed => false,
        };
        if !may_find || !self.ready.is_empty() || self.has_too_many_doubts() {
            return None;
        }
        self.gone.clear();
        Some(Search { after: self.cursor, pass: self.pass })
    }

    /// What a search has found.
    pub(super) fn found(&mut self, search: Search, claimed: Vec<Claimed>) {
        // All rows may have come in meanwhile; then the final pass is still to begin.
        if search.pass == self.pass {
            match claimed.last() {
                Some(last) => self.cursor = last.item,
                None => match self.pass {
                    Pass::Beside { .. } => self.pass = Pass::Beside { has_more: false },
                    Pass::Final => self.pass = Pass::Over,
                    Pass::Over | Pass::Closed => {}
                },
            }
        }
        if self.is_closed() {
            return;
        }
        for claimed in claimed {
            if !self.gone.contains(&claimed.item) && self.held.insert(claimed.item) {
                self.ready.push_back(Work::new(claimed));
            }
        }
    }

    /// Nothing new is wanted; what has been begun goes on to its end.
    pub(super) fn close(&mut self) {
        self.pass = Pass::Closed;
        self.ready.clear();
    }

    /// Has it been closed?
    pub(super) fn is_closed(&self) -> bool {
        self.pass == Pass::Closed
    }

    /// Rows have come in.
    pub(super) fn rows_came(&mut self, progress: &IngestProgress) {
        if let Pass::Beside { .. } = self.pass {
            if progress.is_done {
                (self.pass, self.cursor) = (Pass::Final, ItemId(0));
            } else {
                self.pass = Pass::Beside { has_more: true };
            }
        }
    }

    /// An item is not in here any more.
    pub(super) fn let_go(&mut self, item: ItemId) {
        self.held.remove(&item);
        self.gone.insert(item);
    }

    /// An item is not to be taken again in this run, although it is pending.
    pub(super) fn set_aside(&mut self, item: ItemId) {
        self.held.insert(item);
    }

    /// An item is to be sent when its time comes.
    pub(super) fn wait(&mut self, work: Work, at: Instant) {
        self.held.insert(work.claimed.item);
        self.waiting.push(Due { at, what: work });
    }

    /// The service is to be asked when the time comes.
    pub(super) fn ask(&mut self, case: Case, at: Instant) {
        self.held.insert(case.item());
        self.doubts.push(Due { at, what: case });
    }

    /// What became of a doubt.
    pub(super) fn looked_at(&mut self, item: ItemId, end: CaseEnd) {
        self.let_go(item);
        match end {
            CaseEnd::Settled | CaseEnd::Left => {}
            CaseEnd::AskAgain(case, at) => self.ask(case, at),
            CaseEnd::Resend(work, at) => self.wait(work, at),
        }
    }

    /// Is there nothing left to wait for?
    pub(super) fn is_over(&self) -> bool {
        let is_searched = matches!(self.pass, Pass::Over | Pass::Closed);
        is_searched && self.ready.is_empty() && self.waiting.is_empty() && self.doubts.is_empty()
    }

    fn has_too_many_doubts(&self) -> bool {
        self.doubts.len() >= self.leftover + DOUBTS
    }
}

/// Something that waits for its time; the earliest is the greatest, for the heap.
#[derive(Debug)]
struct Due<W> {
    at: Instant,
    what: W,
}

impl<W> PartialEq for Due<W> {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}

impl<W> Eq for Due<W> {}

impl<W> PartialOrd for Due<W> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<W> Ord for Due<W> {
    fn cmp(&self, other: &Self) -> Ordering {
        Reverse(self.at).cmp(&Reverse(other.at))
    }
}

fn pop_due<W>(heap: &mut BinaryHeap<Due<W>>, now: Instant) -> Option<W> {
    if heap.peek()?.at <= now { heap.pop().map(|due| due.what) } else { None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::{FaceGroupCode, MerchantUserId, PictureRef},
        run::doubt::OpenDoubt,
    };

    fn claimed(item: i64) -> Claimed {
        Claimed {
            item: ItemId(item),
            row: 1,
            group: FaceGroupCode::parse("g").unwrap(),
            user: MerchantUserId::parse("u").unwrap(),
            picture: PictureRef::Path("p".into()),
            root: "".into(),
            replaces: None,
            attempts: 0,
            intent_ms: None,
        }
    }

    /// The sources have been opened, and rows are coming in.
    fn begun(doubts: Vec<(Case, Instant)>) -> Queue {
        let mut queue = Queue::new(doubts);
        queue.rows_came(&IngestProgress::default());
        queue
    }

    fn all_in() -> IngestProgress {
        IngestProgress { is_done: true, ..IngestProgress::default() }
    }

    fn take(queue: &mut Queue) -> Vec<i64> {
        std::iter::from_fn(|| queue.next_work(Instant::now())).map(|work| work.claimed.item.0).collect()
    }

    #[test]
    fn nothing_is_searched_before_it_is_known_what_the_sources_name() {
        assert!(Queue::new(Vec::new()).next_search().is_none());
        assert!(begun(Vec::new()).next_search().is_some());
    }

    #[test]
    fn item_that_is_on_its_way_is_not_taken_twice() {
        let mut queue = begun(Vec::new());
        let search = queue.next_search().unwrap();
        queue.found(search, vec![claimed(1), claimed(2)]);
        assert_eq!(take(&mut queue), [1, 2]);
        queue.rows_came(&all_in());
        let again = queue.next_search().unwrap();
        assert_eq!(again.after, ItemId(0), "the final pass begins at the beginning");
        queue.found(again, vec![claimed(1), claimed(2), claimed(3)]);
        assert_eq!(take(&mut queue), [3]);
    }

    #[test]
    fn item_that_came_to_its_end_while_the_search_ran_is_not_taken_again() {
        let mut queue = begun(Vec::new());
        let search = queue.next_search().unwrap();
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [1]);
        queue.rows_came(&all_in());
        let search = queue.next_search().unwrap();
        // The search has seen it pending; then its outcome was stored.
        queue.let_go(ItemId(1));
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [0_i64; 0]);
    }

    #[test]
    fn item_that_is_set_aside_is_not_taken_again() {
        let mut queue = begun(Vec::new());
        let search = queue.next_search().unwrap();
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [1]);
        queue.let_go(ItemId(1));
        queue.set_aside(ItemId(1));
        queue.rows_came(&all_in());
        let search = queue.next_search().unwrap();
        queue.found(search, vec![claimed(1)]);
        assert_eq!(take(&mut queue), [0_i64; 0]);
        let search = queue.next_search().unwrap();
        queue.found(search, Vec::new());
        assert!(queue.is_over());
    }

    #[test]
    fn item_that_was_in_doubt_and_is_to_be_sent_again_is_not_taken_by_a_search_too() {
        let doubt = Case::Doubt(OpenDoubt::new(Work::new(claimed(1)), "Timeout".into()));
        let mut queue = begun(vec![(doubt, Instant::now())]);
        queue.next_case(Instant::now()).unwrap();
        let search = queue.next_search().unwrap();
        // Found to be absent, and pending on disk; the search sees that before we hear of it.
        queue.found(search, vec![claimed(1)]);
        queue.looked_at(ItemId(1), CaseEnd::Resend(Work::new(claimed(1)), Instant::now()));
        assert_eq!(take(&mut queue), [1]);
    }

    #[test]
    fn search_from_before_the_last_row_does_not_end_the_final_pass() {
        let mut queue = begun(Vec::new());
        let early = queue.next_search().unwrap();
        queue.rows_came(&all_in());
        queue.found(early, Vec::new());
        assert!(!queue.is_over());
        let last = queue.next_search().unwrap();
        queue.found(last, Vec::new());
        assert!(queue.is_over());
    }
}
