//! A checkpoint whose disk takes its time to sync, and which counts what it commits.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use face_enroll::{
    checkpoint::{
        Batch, Claimed, Doubt, Found, Ingested, NewIntent, NewRun, PhotoLook, Settlement, SourceId, SqliteStore, Store,
        StoreError,
    },
    domain::{Binding, Counts, Intent, ItemId, ItemReport, Removal, RunTotals},
};

type Stored<T> = Result<T, StoreError>;

/// See the module.
pub struct Slow {
    pub store: SqliteStore,
    pub sync: Duration,
    pub commits: Arc<AtomicUsize>,
}

impl Store for Slow {
    fn commit(&mut self) -> Stored<()> {
        self.commits.fetch_add(1, Relaxed);
        std::thread::sleep(self.sync);
        self.store.commit()
    }
    fn begin(&mut self) -> Stored<()> {
        self.store.begin()
    }
    fn start_run(&mut self, run: &NewRun) -> Stored<Found> {
        self.store.start_run(run)
    }
    fn end_run(&mut self, exit_code: u8, reason: &str) -> Stored<u64> {
        self.store.end_run(exit_code, reason)
    }
    fn open_source(&mut self, name: &str, root: &Path) -> Stored<SourceId> {
        self.store.open_source(name, root)
    }
    fn ingest(&mut self, batch: &Batch) -> Stored<Ingested> {
        self.store.ingest(batch)
    }
    fn finish_ingest(&mut self) -> Stored<()> {
        self.store.finish_ingest()
    }
    fn note_photos(&mut self, looks: &[PhotoLook]) -> Stored<()> {
        self.store.note_photos(looks)
    }
    fn reopen(&mut self, items: &[ItemId]) -> Stored<()> {
        self.store.reopen(items)
    }
    fn claim(&mut self, after: ItemId, limit: usize) -> Stored<Vec<Claimed>> {
        self.store.claim(after, limit)
    }
    fn doubts(&mut self, after: ItemId, limit: usize) -> Stored<Vec<Doubt>> {
        self.store.doubts(after, limit)
    }
    fn intend(&mut self, intent: &NewIntent) -> Stored<Intent> {
        self.store.intend(intent)
    }
    fn settle(&mut self, settlement: &Settlement) -> Stored<ItemReport> {
        self.store.settle(settlement)
    }
    fn note_replaced(&mut self, item: ItemId, records: &[i64]) -> Stored<()> {
        self.store.note_replaced(item, records)
    }
    fn unfinished_removals(&mut self, after: ItemId, limit: usize) -> Stored<Vec<Claimed>> {
        self.store.unfinished_removals(after, limit)
    }
    fn intend_removal(&mut self, removal: &Removal) -> Stored<()> {
        self.store.intend_removal(removal)
    }
    fn finish_removal(&mut self, item: ItemId) -> Stored<()> {
        self.store.finish_removal(item)
    }
    fn counts(&mut self) -> Stored<Counts> {
        self.store.counts()
    }
    fn note_totals(&mut self, totals: &RunTotals, limited_by: Binding) -> Stored<()> {
        self.store.note_totals(totals, limited_by)
    }
    fn learn_rate(&mut self, per_second: Option<f64>) -> Stored<()> {
        self.store.learn_rate(per_second)
    }
}
