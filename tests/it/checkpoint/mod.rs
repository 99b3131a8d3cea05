//! The checkpoint: what every store must hold, checked on SQLite, and the writer.

mod conformance;

use std::path::{Path, PathBuf};

use conformance::{Subject, item, new_intent, new_run};
use face_enroll::{
    checkpoint::{Batch, Checkpoint, ExportRow, PurgeFilter, Reader, RunSummaryRow, SqliteStore, Store, StoreError},
    domain::{ItemId, MerchantUserId},
};

const TARGET: &str = "region:ap-southeast-1";

/// A checkpoint in a folder of its own.
struct Sqlite(tempfile::TempDir);

impl Sqlite {
    fn path(&self) -> PathBuf {
        self.0.path().join("c.sqlite")
    }

    fn reader(&self) -> Reader {
        Reader::open(&self.path()).unwrap()
    }
}

impl Subject for Sqlite {
    type Store = SqliteStore;

    fn fresh() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn open(&self) -> SqliteStore {
        SqliteStore::open(&self.path(), TARGET).unwrap()
    }

    fn rows(&self) -> Vec<ExportRow> {
        let mut rows = Vec::new();
        let collected = self.reader().export::<StoreError>(&mut |row| {
            rows.push(row);
            Ok(())
        });
        collected.unwrap();
        rows
    }

    fn runs(&self) -> Vec<RunSummaryRow> {
        self.reader().runs(10).unwrap()
    }

    fn purge(&self, user: &str) {
        let filter = PurgeFilter::User(MerchantUserId::parse(user).unwrap(), None);
        SqliteStore::open_existing(&self.path()).unwrap().purge(&filter).unwrap();
    }

    fn mark_incomplete(&self) {
        self.open().note_incomplete().unwrap();
    }
}

conformance::for_store!(Sqlite);

#[test]
fn checkpoint_of_another_target_is_rejected() {
    let sqlite = Sqlite::fresh();
    drop(sqlite.open());
    let Err(StoreError::TargetMismatch { found, wanted }) =
        SqliteStore::open(&sqlite.path(), "endpoint:127.0.0.1:8470")
    else {
        panic!("it was opened");
    };
    assert_eq!((found.as_str(), wanted.as_str()), (TARGET, "endpoint:127.0.0.1:8470"));
}

/// A store with 500 pending items in a run.
fn with_pending_items(sqlite: &Sqlite) -> SqliteStore {
    let mut store = sqlite.open();
    store.start_run(&new_run()).unwrap();
    let source = store.open_source("/m.csv", Path::new("/photos")).unwrap();
    let rows = (0..500).map(|n| Ok(item(n + 2, &format!("u{n:04}"), "p.jpg"))).collect();
    store.ingest(&Batch { source, rows }).unwrap();
    store.finish_ingest().unwrap();
    store
}

#[tokio::test]
async fn waiting_callers_share_a_commit() {
    let sqlite = Sqlite::fresh();
    let (checkpoint, writer) = Checkpoint::start(with_pending_items(&sqlite)).unwrap();
    let claimed = checkpoint.claim(ItemId(0), 500).await.unwrap();
    assert_eq!(claimed.len(), 500);
    let reader = sqlite.reader();
    let intents = claimed.iter().map(|claimed| {
        let intent = new_intent(claimed);
        let (checkpoint, reader) = (&checkpoint, &reader);
        async move {
            let committed = checkpoint.intend(intent).await.unwrap();
            assert_eq!(committed.get().attempt, 1);
            // A caller with the proof finds the intent on disk.
            reader.counts().unwrap().in_doubt
        }
    });
    let on_disk = futures_util::future::join_all(intents).await;
    assert!(on_disk.iter().all(|&n| n > 0));
    // The order of replies is unspecified; callers of the last commit see all intents.
    let commits: std::collections::BTreeSet<u64> = on_disk.into_iter().collect();
    assert_eq!(commits.last(), Some(&500));
    assert!(commits.len() < 50, "hardly any commit was shared: {commits:?}");
    drop(checkpoint);
    tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap();
}

/// The writer on the runtime's own clock commits like the thread: nothing before its time, and in one group.
#[tokio::test(start_paused = true)]
async fn inline_writer_commits_after_its_sync_time() {
    let sqlite = Sqlite::fresh();
    let sync = std::time::Duration::from_millis(40);
    let (checkpoint, writer) = Checkpoint::inline(with_pending_items(&sqlite), move || sync);
    let writer = tokio::spawn(writer);
    let claimed = checkpoint.claim(ItemId(0), 5).await.unwrap();
    let began = tokio::time::Instant::now();
    let intents = claimed.iter().map(|claimed| checkpoint.intend(new_intent(claimed)));
    let intents = futures_util::future::join_all(intents).await;
    assert!(intents.iter().all(Result::is_ok) && began.elapsed() == sync, "{:?}", began.elapsed());
    let again = checkpoint.intend(new_intent(&claimed[0])).await;
    assert!(matches!(again, Err(StoreError::InvalidTransition { .. })), "{again:?}");
    let after = checkpoint.intend(new_intent(&claimed[1])).await;
    assert!(matches!(after, Err(StoreError::Stopped)), "nothing is written after an error: {after:?}");
    writer.await.unwrap();
    let counts = sqlite.reader().counts().unwrap();
    assert_eq!(counts.in_doubt, 5);
}
