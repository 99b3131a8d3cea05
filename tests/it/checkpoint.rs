//! Guarantees of a checkpoint store, checked on the SQLite file.

use std::path::{Path, PathBuf};

use face_enroll::{
    checkpoint::{
        Batch, Checkpoint, Claimed, NewIntent, OutcomeRecord, Reader, RunStart, SourceId, SqliteStore, Store,
        StoreError,
    },
    domain::{
        ConfirmedBy, Counts, FaceGroupCode, Item, ItemId, ItemState, MerchantUserId, Outcome, PhotoSource, RawFields,
        RejectedBy, RowError, RowErrorKind, RunId,
    },
};

fn new_run() -> RunStart {
    RunStart {
        id: RunId(format!("run-{}", fastrand::u64(..))),
        access_key: "LTAI****".to_owned(),
        rules: Some("rules of the page".to_owned()),
        quota: Some(50.0),
    }
}

const GROUP: &str = "sgl0001uc";

fn item(row: u64, user: &str, path: &str) -> Item {
    Item {
        row,
        group: FaceGroupCode::parse(GROUP).unwrap(),
        user: MerchantUserId::parse(user).unwrap(),
        picture: PhotoSource::Path(Path::new("/photos").join(path)),
        extra: vec![("department".into(), "R&D".into())],
        origin: None,
    }
}

fn people(users: &[&str]) -> Vec<Result<Item, RowError>> {
    users.iter().enumerate().map(|(at, user)| Ok(item(at as u64 + 2, user, &format!("{user}.jpg")))).collect()
}

fn bad_row(row: u64) -> Result<Item, RowError> {
    let fields = Box::new(RawFields { user: Some(String::new()), ..RawFields::default() });
    Err(RowError { row, defect: RowErrorKind::MissingPicture, message: "no photo".into(), fields })
}

fn new_intent(claimed: &Claimed) -> NewIntent {
    NewIntent {
        item: claimed.item,
        group: claimed.group.clone(),
        user: claimed.user.clone(),
        digest: None,
        sent: None,
        stamp: None,
        at_ms: 0,
    }
}

fn enrolled() -> Outcome {
    let confirmed_by = ConfirmedBy::Response;
    Outcome::Enrolled { confirmed_by, quality: Some("HIGH".into()), code: None, message: None, request_id: None }
}

fn rejected(stage: RejectedBy) -> Outcome {
    Outcome::Rejected { stage, code: "NoFaceDetected".into(), message: "no face".into(), request_id: None }
}

/// One run on one checkpoint with a transaction for each call.
struct Run {
    store: SqliteStore,
    path: PathBuf,
}

impl Run {
    fn open(path: &Path) -> Self {
        let mut run = Self { store: SqliteStore::open(path, "region:ap-southeast-1").unwrap(), path: path.to_owned() };
        run.commit(|store| store.start_run(&new_run()));
        run
    }

    fn commit<R>(&mut self, call: impl FnOnce(&mut SqliteStore) -> Result<R, StoreError>) -> R {
        self.store.begin().unwrap();
        let result = call(&mut self.store).unwrap();
        self.store.commit().unwrap();
        result
    }

    fn read(&mut self, source: &str, rows: Vec<Result<Item, RowError>>) {
        self.commit(|store| {
            let source: SourceId = store.open_source(source, Path::new("/photos"))?;
            store.ingest(&Batch { source, rows })?;
            store.finish_ingest()
        });
    }

    fn pending(&mut self) -> Vec<String> {
        self.commit(|store| store.claim(ItemId(0), 1_000)).iter().map(|claimed| claimed.user.to_string()).collect()
    }

    fn claim(&mut self, user: &str) -> Claimed {
        let claimed = self.commit(|store| store.claim(ItemId(0), 1_000));
        claimed.into_iter().find(|claimed| claimed.user.as_str() == user).unwrap()
    }

    fn intend(&mut self, user: &str) -> ItemId {
        let claimed = self.claim(user);
        self.commit(|store| store.intend(&new_intent(&claimed)));
        claimed.item
    }

    fn settle(&mut self, item: ItemId, before: ItemState, outcome: Outcome) {
        self.commit(|store| store.settle(&OutcomeRecord::new(item, before, outcome)));
    }

    fn enrol(&mut self, user: &str) {
        let item = self.intend(user);
        self.settle(item, ItemState::Sending, enrolled());
    }

    fn counts(&mut self) -> Counts {
        let counts = self.commit(Store::counts);
        assert!(counts.is_balanced(), "{counts:?}");
        assert_eq!(counts, self.count_without_tally(), "the tally differs from the rows");
        counts
    }

    /// Counts row by row instead of reading the tally.
    fn count_without_tally(&self) -> Counts {
        let mut counts = Counts::default();
        let reader = Reader::open(&self.path).unwrap();
        counts.vanished = reader.counts().unwrap().vanished;
        reader
            .export::<StoreError>(&mut |row| {
                counts.total += 1;
                match row.state {
                    ItemState::Pending | ItemState::Sending => counts.pending += 1,
                    ItemState::InDoubt if row.code.is_none() => counts.pending += 1,
                    ItemState::InDoubt => counts.in_doubt += 1,
                    ItemState::Enrolled => counts.enrolled += 1,
                    ItemState::Rejected => counts.rejected += 1,
                    ItemState::Failed => counts.failed += 1,
                }
                if let Some(code) = row.code {
                    *counts.by_code.entry(code).or_default() += 1;
                }
                Ok(())
            })
            .unwrap();
        counts
    }
}

fn new_checkpoint() -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.sqlite");
    (dir, path)
}

#[test]
fn same_rows_again_change_nothing() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/m.csv", people(&["a", "b", "c"]));
    first.enrol("a");
    let before = first.counts();
    drop(first);
    let mut second = Run::open(&path);
    second.read("/m.csv", people(&["a", "b", "c"]));
    assert_eq!(second.counts(), before);
    assert_eq!(second.pending(), ["b", "c"]);
}

#[test]
fn renamed_reordered_and_grown_manifest_resumes() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/old.csv", people(&["a", "b", "c"]));
    first.enrol("b");
    drop(first);
    let mut second = Run::open(&path);
    second.read("/new.csv", people(&["d", "c", "b", "a"]));
    assert_eq!(second.pending(), ["a", "c", "d"]);
    let counts = second.counts();
    assert_eq!((counts.total, counts.enrolled, counts.pending, counts.vanished), (4, 1, 3, 0));
}

#[test]
fn duplicate_id_names_the_first_row() {
    let (_dir, path) = new_checkpoint();
    let mut run = Run::open(&path);
    for _reading in 0..2 {
        run.read("/m.csv", vec![Ok(item(2, "a", "1.jpg")), Ok(item(3, "b", "2.jpg")), Ok(item(4, "a", "3.jpg"))]);
        let counts = run.counts();
        assert_eq!((counts.total, counts.pending, counts.rejected), (3, 2, 1));
        drop(run);
        run = Run::open(&path);
    }
    let mut rejected_rows = Vec::new();
    let reader = Reader::open(&path).unwrap();
    reader
        .export::<StoreError>(&mut |row| {
            if row.state == ItemState::Rejected {
                rejected_rows.push((row.row, row.code.unwrap(), row.message.unwrap(), row.path.unwrap(), row.extra));
            }
            Ok(())
        })
        .unwrap();
    let [(4, code, message, path, extra)] = &rejected_rows[..] else { panic!("{rejected_rows:?}") };
    assert_eq!(code, "DuplicateUserId");
    assert!(message.contains("row 2 "), "{message}");
    assert_eq!((path, extra.len()), (&PathBuf::from("/photos/3.jpg"), 1));
}

#[test]
fn corrected_row_is_no_longer_rejected() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/m.csv", vec![Ok(item(2, "a", "a.jpg")), bad_row(3)]);
    assert_eq!(first.counts().rejected, 1);
    drop(first);
    let mut second = Run::open(&path);
    second.read("/m.csv", people(&["a", "b"]));
    let counts = second.counts();
    assert_eq!((counts.total, counts.rejected, counts.pending), (2, 0, 2));
}

#[test]
fn vanished_row_is_kept_and_not_sent() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/m.csv", people(&["a", "b", "c"]));
    first.enrol("a");
    drop(first);
    let mut second = Run::open(&path);
    second.read("/m.csv", people(&["c"]));
    let counts = second.counts();
    assert_eq!((counts.total, counts.enrolled, counts.pending, counts.vanished), (3, 1, 2, 2));
    assert_eq!(second.pending(), ["c"]);
}

#[test]
fn leftovers_of_another_manifest_are_sent() {
    let (_dir, path) = new_checkpoint();
    let mut monday = Run::open(&path);
    monday.read("/monday.csv", people(&["a", "b"]));
    monday.enrol("a");
    drop(monday);
    let mut tuesday = Run::open(&path);
    tuesday.read("/tuesday.csv", people(&["c"]));
    assert_eq!(tuesday.pending(), ["b", "c"]);
}

#[test]
fn intent_without_outcome_is_in_doubt_after_crash() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/m.csv", people(&["a", "b"]));
    first.intend("a");
    assert_eq!(first.counts().pending, 2, "pending while the run is live");
    assert_eq!(Reader::open(&path).unwrap().counts().unwrap().in_doubt, 1, "in doubt once no run is live");
    drop(first);
    let mut second = Run::open(&path);
    second.read("/m.csv", people(&["a", "b"]));
    assert_eq!(second.pending(), ["b"]);
    let doubts = second.commit(|store| store.in_doubt_items(ItemId(0), 10));
    assert_eq!(doubts.len(), 1);
    assert_eq!((doubts[0].claimed.user.as_str(), doubts[0].claimed.attempts), ("a", 1));
    assert_eq!(second.counts().by_code.get("Interrupted"), Some(&1));
}

#[test]
fn in_doubt_item_keeps_its_photo_under_another_root() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/m.csv", people(&["a"]));
    first.intend("a");
    drop(first);
    let mut second = Run::open(&path);
    // Another source names the same person, with another photo in another folder.
    second.commit(|store| {
        let source = store.open_source("/batch2/m.csv", Path::new("/batch2"))?;
        let other = Item { picture: PhotoSource::Path("/batch2/b.jpg".into()), ..item(2, "a", "b.jpg") };
        store.ingest(&Batch { source, rows: vec![Ok(other)] })?;
        store.finish_ingest()
    });
    let doubts = second.commit(|store| store.in_doubt_items(ItemId(0), 10));
    let PhotoSource::Path(photo) = &doubts[0].claimed.picture else { panic!("{doubts:#?}") };
    assert_eq!(photo, Path::new("/photos/a.jpg"), "resending must not take the photo of another person");
    assert_eq!(second.counts().total, 1);
}

#[test]
fn change_from_an_unexpected_state_is_rejected() {
    let (_dir, path) = new_checkpoint();
    let mut run = Run::open(&path);
    run.read("/m.csv", people(&["a"]));
    let item = run.claim("a").item;
    for (before, outcome) in [
        (ItemState::Sending, enrolled()),
        (ItemState::Pending, enrolled()),
        (ItemState::InDoubt, Outcome::Requeue { counts: true }),
    ] {
        run.store.begin().unwrap();
        let refused = run.store.settle(&OutcomeRecord::new(item, before, outcome));
        assert!(matches!(refused, Err(StoreError::InvalidTransition { .. })), "{refused:?}");
        drop(run);
        run = Run::open(&path);
        run.read("/m.csv", people(&["a"]));
    }
    assert_eq!(run.counts().pending, 1);
}

#[test]
fn uncounted_attempt_is_given_back() {
    let (_dir, path) = new_checkpoint();
    let mut run = Run::open(&path);
    run.read("/m.csv", people(&["a"]));
    let attempts = |run: &mut Run| run.commit(|store| store.claim(ItemId(0), 1))[0].attempts;
    for (counts, expected) in [(false, 0), (true, 1), (false, 1), (true, 2)] {
        let item = run.intend("a");
        run.settle(item, ItemState::Sending, Outcome::Requeue { counts });
        assert_eq!(attempts(&mut run), expected);
    }
}

#[test]
fn rejected_row_with_another_photo_is_pending_again() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/m.csv", people(&["a", "b"]));
    for user in ["a", "b"] {
        let item = first.claim(user).item;
        first.settle(item, ItemState::Pending, rejected(RejectedBy::Local));
    }
    drop(first);
    let mut second = Run::open(&path);
    let rows = vec![Ok(item(2, "a", "a-new.jpg")), Ok(item(3, "b", "b.jpg"))];
    let ingested = second.commit(|store| {
        let source = store.open_source("/m.csv", Path::new("/photos"))?;
        store.ingest(&Batch { source, rows })
    });
    assert_eq!(second.pending(), ["a"]);
    let [same_path] = &ingested.rejected_items[..] else { panic!("{ingested:?}") };
    assert_eq!(same_path.photo.path(), Some(Path::new("/photos/b.jpg")));
    second.commit(|store| store.requeue(&[same_path.item]));
    assert_eq!(second.pending(), ["a", "b"]);
    assert_eq!(second.counts().rejected, 0);
}

#[test]
fn checkpoint_of_another_target_is_rejected() {
    let (_dir, path) = new_checkpoint();
    drop(Run::open(&path));
    let Err(StoreError::TargetMismatch { found, wanted }) = SqliteStore::open(&path, "endpoint:127.0.0.1:8470") else {
        panic!("it was opened");
    };
    assert_eq!((found.as_str(), wanted.as_str()), ("region:ap-southeast-1", "endpoint:127.0.0.1:8470"));
}

#[test]
fn learned_rate_and_doubts_reach_the_next_run() {
    let (_dir, path) = new_checkpoint();
    let mut first = Run::open(&path);
    first.read("/m.csv", people(&["a", "b", "c"]));
    first.enrol("a");
    first.intend("b");
    first.commit(|store| store.save_rate(Some(9.5)));
    drop(first);
    let mut store = SqliteStore::open(&path, "region:ap-southeast-1").unwrap();
    store.begin().unwrap();
    let found = store.start_run(&new_run()).unwrap();
    store.commit().unwrap();
    assert!(found.is_resumed);
    assert_eq!(found.learned_rate, Some(9.5));
    assert_eq!((found.counts.enrolled, found.counts.in_doubt, found.counts.pending), (1, 1, 1));
}

#[tokio::test]
async fn waiting_callers_share_a_commit() {
    let (_dir, path) = new_checkpoint();
    let store = SqliteStore::open(&path, "region:ap-southeast-1").unwrap();
    let (checkpoint, writer) = Checkpoint::start(store).unwrap();
    checkpoint.start_run(new_run()).await.unwrap();
    let users: Vec<String> = (0..500).map(|n| format!("u{n:04}")).collect();
    let rows = users.iter().enumerate().map(|(at, user)| Ok(item(at as u64 + 2, user, "p.jpg"))).collect();
    let ingest = checkpoint.clone();
    tokio::task::spawn_blocking(move || {
        let source = ingest.open_source("/m.csv".into(), "/photos".into()).unwrap();
        ingest.ingest(Batch { source, rows }).unwrap();
        ingest.finish_ingest().unwrap();
    })
    .await
    .unwrap();
    let claimed = checkpoint.claim(ItemId(0), 500).await.unwrap();
    assert_eq!(claimed.len(), 500);
    let reader = Reader::open(&path).unwrap();
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
    let on_disk = futures::future::join_all(intents).await;
    assert!(on_disk.iter().all(|&n| n > 0));
    // The order of replies is unspecified; callers of the last commit see all intents.
    let commits: std::collections::BTreeSet<u64> = on_disk.into_iter().collect();
    assert_eq!(commits.last(), Some(&500));
    assert!(commits.len() < 50, "hardly any commit was shared: {commits:?}");
    drop(checkpoint);
    tokio::task::spawn_blocking(move || writer.join().unwrap()).await.unwrap();
}
