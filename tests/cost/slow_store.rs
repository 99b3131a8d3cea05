//! A checkpoint store with slow commits, which it counts.

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
        Batch, CheckpointState, Claimed, InDoubtRow, Ingested, NewIntent, OutcomeRecord, PhotoCheck, RunStart,
        SourceId, SqliteStore, Store, StoreError,
    },
    domain::{Bottleneck, Counts, DeleteIntent, Intent, ItemId, ItemUpdate, RunTotals},
};

type Stored<T> = Result<T, StoreError>;

/// Wraps a SQLite store; each commit takes `sync` longer.
pub struct SlowStore {
    pub store: SqliteStore,
    pub sync: Duration,
    pub commits: Arc<AtomicUsize>,
}

impl Store for SlowStore {
    fn commit(&mut self) -> Stored<()> {
        self.commits.fetch_add(1, Relaxed);
        std::thread::sleep(self.sync);
        self.store.commit()
    }
    fn begin(&mut self) -> Stored<()> {
        self.store.begin()
    }
    fn start_run(&mut self, run: &RunStart) -> Stored<CheckpointState> {
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
    fn count_items(&mut self, source: SourceId) -> Stored<u64> {
        self.store.count_items(source)
    }
    fn record_skipped(&mut self, source: SourceId, files: u64) -> Stored<()> {
        self.store.record_skipped(source, files)
    }
    fn finish_ingest(&mut self) -> Stored<()> {
        self.store.finish_ingest()
    }
    fn record_photo_checks(&mut self, checks: &[PhotoCheck]) -> Stored<()> {
        self.store.record_photo_checks(checks)
    }
    fn requeue(&mut self, items: &[ItemId]) -> Stored<()> {
        self.store.requeue(items)
    }
    fn claim(&mut self, after: ItemId, limit: usize) -> Stored<Vec<Claimed>> {
        self.store.claim(after, limit)
    }
    fn in_doubt_items(&mut self, after: ItemId, limit: usize) -> Stored<Vec<InDoubtRow>> {
        self.store.in_doubt_items(after, limit)
    }
    fn intend(&mut self, intent: &NewIntent) -> Stored<Intent> {
        self.store.intend(intent)
    }
    fn settle(&mut self, outcome: &OutcomeRecord) -> Stored<ItemUpdate> {
        self.store.settle(outcome)
    }
    fn record_superseded(&mut self, item: ItemId, records: &[i64]) -> Stored<()> {
        self.store.record_superseded(item, records)
    }
    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Stored<Vec<Claimed>> {
        self.store.pending_deletes(after, limit)
    }
    fn intend_delete(&mut self, intent: &DeleteIntent) -> Stored<bool> {
        self.store.intend_delete(intent)
    }
    fn finish_delete(&mut self, item: ItemId) -> Stored<()> {
        self.store.finish_delete(item)
    }
    fn counts(&mut self) -> Stored<Counts> {
        self.store.counts()
    }
    fn record_totals(&mut self, totals: &RunTotals, limited_by: Bottleneck) -> Stored<()> {
        self.store.record_totals(totals, limited_by)
    }
    fn save_rate(&mut self, per_second: Option<f64>) -> Stored<()> {
        self.store.save_rate(per_second)
    }
}
