//! Power loss: no acknowledged intent or outcome is lost, and the file stays intact.
//!
//! Disk images are taken after every commit and during it, with none of the unsynced writes, all of them, the first ones, or
//! torn pieces in any order. Each image is opened and compared with what had been acknowledged.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use face_enroll::{
    checkpoint::{
        Batch, Change, Checkpoint, NewIntent, OutcomeRecord, Reply, RunStart, SqliteStore, Store, StoreError,
    },
    domain::{
        ConfirmedBy, FaceGroupCode, Item, ItemId, ItemState, MerchantUserId, Outcome, PhotoSource, RejectedBy, RunId,
    },
};
use rusqlite::Connection;

use crate::vfs::{self, Disk, DiskFailure, Files, Loss};

const PEOPLE: usize = 120;
/// Steps of a history, one commit of intents and one of outcomes each: enough for one or two WAL checkpoints.
const STEPS: u32 = 130;
const LOSSES: [Loss; 4] = [Loss::Everything, Loss::Nothing, Loss::Tail, Loss::Torn];

/// State and attempts of each item that has left `pending`, by its id.
type ItemStates = BTreeMap<i64, (i64, u32)>;

fn user(n: usize) -> MerchantUserId {
    MerchantUserId::parse(format!("u{n:05}")).unwrap()
}

fn group() -> FaceGroupCode {
    FaceGroupCode::parse("sgl0001uc").unwrap()
}

fn open(folder: &Path) -> SqliteStore {
    let mut store = SqliteStore::open(&folder.join("c.sqlite"), "region:ap-southeast-1").unwrap();
    let rules = Some("those of the page".to_owned());
    store.start_run(&RunStart { id: RunId("r".into()), access_key: "LTAI****".into(), rules, quota: None }).unwrap();
    let source = store.open_source("/m.csv", Path::new("/photos")).unwrap();
    let item = |n: usize| Item {
        row: n as u64 + 2,
        group: group(),
        user: user(n),
        picture: PhotoSource::Path(PathBuf::from(format!("/photos/u{n:05}.jpg"))),
        extra: vec![("department".into(), "R&D".into())],
        origin: None,
    };
    store.ingest(&Batch { source, rows: (0..PEOPLE).map(|n| Ok(item(n))).collect() }).unwrap();
    store.finish_ingest().unwrap();
    store
}

fn intent(item: ItemId) -> NewIntent {
    NewIntent { item, group: group(), user: user(item.0 as usize), digest: None, sent: None, stamp: None, at_ms: 0 }
}

fn outcome(random: &mut fastrand::Rng) -> Outcome {
    match random.u8(..5) {
        0 | 1 => Outcome::Enrolled {
            confirmed_by: ConfirmedBy::Response,
            quality: Some("HIGH".into()),
            code: None,
            message: None,
            request_id: None,
        },
        2 => Outcome::Rejected {
            stage: RejectedBy::Service,
            code: "NoFaceDetected".into(),
            message: "no face".into(),
            request_id: None,
        },
        3 => Outcome::InDoubt { code: "Timeout".into(), message: "no answer".into(), request_id: None },
        _ => Outcome::Retry { counts: true },
    }
}

/// A sequence of commits, checked against the possible disk images after a power loss.
struct History {
    disk: Arc<Mutex<Disk>>,
    random: fastrand::Rng,
    acknowledged: ItemStates,
    images: u32,
    /// Images that were damaged or lacked acknowledged changes.
    losses: u32,
    scratch: tempfile::TempDir,
}

impl History {
    /// Checks images of the last commit, which changed the states to `next`.
    fn check_commit(&mut self, next: ItemStates) {
        let before = std::mem::replace(&mut self.acknowledged, next);
        let (now, points) = {
            let mut disk = self.disk.lock().unwrap();
            (disk.now(), disk.take_sync_points())
        };
        for point in points {
            let loss = LOSSES[self.random.usize(..LOSSES.len())];
            let image = point.after_loss(loss, &mut self.random);
            self.check_image(&image, Some(&before), loss);
        }
        for _ in 0..2 {
            let loss = LOSSES[self.random.usize(..LOSSES.len())];
            let image = now.after_loss(loss, &mut self.random);
            self.check_image(&image, None, loss);
        }
    }

    /// Opens an image and compares it with the acknowledged states, or, during a commit, with those before it.
    fn check_image(&mut self, image: &Files, before: Option<&ItemStates>, loss: Loss) {
        self.images += 1;
        for entry in fs::read_dir(self.scratch.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, bytes) in image {
            fs::write(self.scratch.path().join(name), bytes).unwrap();
        }
        let found = read_states(&self.scratch.path().join("c.sqlite"));
        let is_consistent = match &found {
            Ok(found) => *found == self.acknowledged || before.is_some_and(|before| found == before),
            Err(_) => false,
        };
        if !is_consistent {
            self.losses += 1;
            if !self.ignores_syncs() {
                panic!("{loss:?}: found {found:?}, acknowledged {:?}, before {before:?}", self.acknowledged);
            }
        }
    }

    fn ignores_syncs(&self) -> bool {
        self.disk.lock().unwrap().ignores_syncs()
    }
}

/// Item states in a file; asserts that the file is intact and its counts add up.
fn read_states(path: &Path) -> rusqlite::Result<ItemStates> {
    let db = Connection::open(path)?;
    let integrity: String = db.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    assert_eq!(integrity, "ok");
    let (tally, items): (i64, i64) =
        db.query_row("SELECT (SELECT sum(n) FROM tally), (SELECT count(*) FROM items)", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    assert_eq!((tally, items), (PEOPLE as i64, PEOPLE as i64));
    let mut rows = db.prepare("SELECT id, state, attempts FROM items WHERE state <> 0 OR attempts > 0")?;
    rows.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.collect()
}

/// Returns the number of images checked and of losses.
fn run_history(seed: u64, ignore_syncs: bool) -> (u32, u32) {
    let folder = tempfile::tempdir().unwrap();
    let disk = vfs::watch(folder.path());
    let mut store = open(folder.path());
    if ignore_syncs {
        disk.lock().unwrap().ignore_syncs();
    }
    disk.lock().unwrap().take_sync_points();
    let mut history = History {
        disk,
        random: fastrand::Rng::with_seed(seed),
        acknowledged: ItemStates::new(),
        images: 0,
        losses: 0,
        scratch: tempfile::tempdir().unwrap(),
    };
    for _ in 0..STEPS {
        let mut next = history.acknowledged.clone();
        let claims = store.claim(ItemId(0), history.random.usize(1..4)).unwrap();
        let intents: Vec<Change> = claims.iter().map(|claimed| Change::Intend(intent(claimed.item))).collect();
        for reply in store.write(&intents).unwrap() {
            let Reply::Intent(written) = reply else { panic!("{reply:?}") };
            next.insert(written.item.0, (ItemState::Sending as i64, written.attempt));
        }
        history.check_commit(next.clone());
        let sending: Vec<i64> =
            next.iter().filter(|(_, state)| state.0 == ItemState::Sending as i64).map(|(item, _)| *item).collect();
        let mut outcomes = Vec::new();
        for item in sending {
            if history.random.u8(..4) == 0 {
                continue;
            }
            let outcome = outcome(&mut history.random);
            outcomes.push(Change::Settle(OutcomeRecord::new(ItemId(item), ItemState::Sending, outcome)));
        }
        for reply in store.write(&outcomes).unwrap() {
            let Reply::Settled(update) = reply else { panic!("{reply:?}") };
            next.insert(update.item.0, (update.outcome.state() as i64, update.attempts));
        }
        history.check_commit(next);
    }
    (history.images, history.losses)
}

fn run_histories(seeds: std::ops::Range<u64>, ignore_syncs: bool) -> (u32, u32) {
    let halves = [seeds.clone().step_by(2), (seeds.start + 1..seeds.end).step_by(2)];
    let halves: Vec<_> = halves
        .into_iter()
        .map(|seeds| thread::spawn(move || seeds.map(|seed| run_history(seed, ignore_syncs)).collect::<Vec<_>>()))
        .collect();
    let all = halves.into_iter().flat_map(|half| half.join().unwrap());
    all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn power_loss_keeps_acknowledged_intents_and_outcomes() {
    let seed = fastrand::u64(..1 << 40);
    let (images, losses) = run_histories(seed..seed + 4, false);
    println!("seed {seed}: {images} images, {losses} losses");
    assert!(images >= 2_000, "{images}");
    assert_eq!(losses, 0);
}

/// Proves that this suite detects a checkpoint that is not synced.
#[test]
fn disk_that_ignores_syncs_is_detected() {
    let (images, losses) = run_histories(1..2, true);
    println!("{images} images, {losses} losses");
    assert!(losses * 5 > images, "{losses} of {images}");
}

#[tokio::test]
async fn failed_checkpoint_is_not_written_again() {
    for failure in [DiskFailure::Full, DiskFailure::Sync] {
        for after in [0, 1, 2, 5, 11, 23] {
            let folder = tempfile::tempdir().unwrap();
            let disk = vfs::watch(folder.path());
            let (checkpoint, writer) = Checkpoint::start(open(folder.path())).unwrap();
            disk.lock().unwrap().fail(failure, after);
            let mut acknowledged = ItemStates::new();
            let mut items = 1..=PEOPLE as i64;
            let error = loop {
                let item = ItemId(items.next().unwrap());
                match checkpoint.intend(intent(item)).await {
                    Ok(_) => acknowledged.insert(item.0, (ItemState::Sending as i64, 1)),
                    Err(error) => break error,
                };
            };
            assert!(matches!(error, StoreError::Failed { .. }), "{error:?}");
            // The disk works again, but the checkpoint must stay stopped.
            assert!(disk.lock().unwrap().has_failed());
            let again = checkpoint.intend(intent(ItemId(items.next().unwrap()))).await;
            assert!(matches!(again, Err(StoreError::Stopped)), "{again:?}");
            drop(checkpoint);
            writer.join().unwrap();
            let found = read_states(&folder.path().join("c.sqlite")).unwrap();
            assert_eq!(found, acknowledged, "{failure:?} after {after}");
        }
    }
}

#[test]
fn power_loss_during_a_migration_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = vfs::watch(folder.path());
    let path = folder.path().join("c.sqlite");
    let db = Connection::open(&path).unwrap();
    // A checkpoint of schema version 1; the application id is "FENR".
    db.execute_batch("PRAGMA journal_mode = WAL; PRAGMA application_id = 1178947154;").unwrap();
    db.execute_batch(include_str!("../../migrations/0001_checkpoint.sql")).unwrap();
    db.execute_batch(
        "PRAGMA user_version = 1;
         INSERT INTO sources (name, root) VALUES ('m.csv', '/');
         INSERT INTO face_groups (code) VALUES ('g');
         WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 120)
         INSERT INTO items (user, group_id, source_id, row, path, state, enrolled_at, confirmed_by)
         SELECT 'u' || i, 1, 1, i, i || '.jpg', 3, 5, 0 FROM n;
         INSERT INTO tally VALUES (3, '', 120);",
    )
    .unwrap();
    drop(db);
    disk.lock().unwrap().take_sync_points();
    drop(SqliteStore::open(&path, "region:ap-southeast-1").unwrap());
    let (mut points, now) = {
        let mut disk = disk.lock().unwrap();
        (disk.take_sync_points(), disk.now())
    };
    points.push(now);
    let mut random = fastrand::Rng::with_seed(7);
    let mut images = 0;
    for point in &points {
        for loss in LOSSES.into_iter().chain([Loss::Tail, Loss::Torn, Loss::Torn]) {
            let scratch = tempfile::tempdir().unwrap();
            for (name, bytes) in point.after_loss(loss, &mut random) {
                fs::write(scratch.path().join(name), bytes).unwrap();
            }
            let path = scratch.path().join("c.sqlite");
            let found = SqliteStore::open(&path, "region:ap-southeast-1").map(drop);
            found.unwrap_or_else(|error| panic!("{loss:?}: {error}"));
            assert_eq!(read_states(&path).unwrap().len(), 120, "{loss:?}");
            images += 1;
        }
    }
    println!("{images} images of {} sync points", points.len());
    assert!(images >= 20, "{images}");
}
