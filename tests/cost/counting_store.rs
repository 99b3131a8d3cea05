//! A checkpoint store that counts its commits.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use face_enroll::{
    checkpoint::{
        Batch, Change, CheckpointState, Claimed, InDoubtRow, Ingested, Reply, RunStart, SourceId, SqliteStore, Store,
        StoreError,
    },
    domain::{Counts, ItemId},
};

type Stored<T> = Result<T, StoreError>;

/// Wraps a SQLite store.
pub struct CountingStore {
    pub store: SqliteStore,
    pub commits: Arc<AtomicUsize>,
}

impl CountingStore {
    fn commit<R>(&mut self, call: impl FnOnce(&mut SqliteStore) -> Stored<R>) -> Stored<R> {
        self.commits.fetch_add(1, Relaxed);
        call(&mut self.store)
    }
}

impl Store for CountingStore {
    fn start_run(&mut self, run: &RunStart) -> Stored<CheckpointState> {
        self.commit(|store| store.start_run(run))
    }
    fn end_run(&mut self, exit_code: u8, reason: &str) -> Stored<u64> {
        self.commit(|store| store.end_run(exit_code, reason))
    }
    fn write(&mut self, changes: &[Change]) -> Stored<Vec<Reply>> {
        self.commit(|store| store.write(changes))
    }
    fn open_source(&mut self, name: &str, root: &Path) -> Stored<SourceId> {
        self.commit(|store| store.open_source(name, root))
    }
    fn ingest(&mut self, batch: &Batch) -> Stored<Ingested> {
        self.commit(|store| store.ingest(batch))
    }
    fn finish_ingest(&mut self) -> Stored<()> {
        self.commit(Store::finish_ingest)
    }
    fn count_items(&mut self, source: SourceId) -> Stored<u64> {
        self.store.count_items(source)
    }
    fn claim(&mut self, after: ItemId, limit: usize) -> Stored<Vec<Claimed>> {
        self.store.claim(after, limit)
    }
    fn in_doubt_items(&mut self, after: ItemId, limit: usize) -> Stored<Vec<InDoubtRow>> {
        self.store.in_doubt_items(after, limit)
    }
    fn pending_deletes(&mut self, after: ItemId, limit: usize) -> Stored<Vec<Claimed>> {
        self.store.pending_deletes(after, limit)
    }
    fn counts(&mut self) -> Stored<Counts> {
        self.store.counts()
    }
}
