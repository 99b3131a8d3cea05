//! The power goes: no acknowledged intent and no acknowledged outcome is lost, and the file is whole.
//!
//! Disk images are taken after each commit and in the midst of each: with nothing of what was not synced, with all of it,
//! with its beginning, with torn pieces of it in any order. Each is opened and compared with what had been acknowledged.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
};

use face_enroll::{
    checkpoint::{Batch, Checkpoint, NewIntent, OutcomeRecord, RunStart, SqliteStore, Store, StoreError},
    domain::{
        ConfirmedBy, FaceGroupCode, Item, ItemId, ItemState, MerchantUserId, Outcome, PhotoSource, RejectedBy, RunId,
    },
};
use rusqlite::Connection;

use crate::vfs::{self, ApiRejection, Disk, Files, Loss};

const PEOPLE: usize = 120;
/// Intents and outcomes of a history: enough for the WAL to be carried over into the file once or twice.
const STEPS: u32 = 130;
const LOSSES: [Loss; 4] = [Loss::Everything, Loss::Nothing, Loss::Tail, Loss::Torn];

/// State and attempts of each item that has left `pending`, by its number.
type Known = BTreeMap<i64, (i64, u32)>;

fn user(n: usize) -> MerchantUserId {
    MerchantUserId::parse(format!("u{n:05}")).unwrap()
}

fn group() -> FaceGroupCode {
    FaceGroupCode::parse("sgl0001uc").unwrap()
}

fn open(folder: &Path) -> SqliteStore {
    let mut store = SqliteStore::open(&folder.join("c.sqlite"), "region:ap-southeast-1").unwrap();
    store.begin().unwrap();
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
    store.commit().unwrap();
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
        _ => Outcome::Requeue { counts: true },
    }
}

/// One history of intents and outcomes, and what the power could leave of it at each moment.
struct History {
    disk: Arc<Mutex<Disk>>,
    random: fastrand::Rng,
    acknowledged: Known,
    images: u32,
    /// Images that were damaged, or in which something acknowledged was missing.
    losses: u32,
    scratch: tempfile::TempDir,
}

impl History {
    /// After a commit that made `next` of what was known before.
    fn committed(&mut self, next: Known) {
        let before = std::mem::replace(&mut self.acknowledged, next);
        let (now, moments) = {
            let mut disk = self.disk.lock().unwrap();
            (disk.now(), disk.moments())
        };
        for moment in moments {
            let loss = LOSSES[self.random.usize(..LOSSES.len())];
            let image = moment.after(loss, &mut self.random);
            self.look_into(&image, Some(&before), loss);
        }
        for _ in 0..2 {
            let loss = LOSSES[self.random.usize(..LOSSES.len())];
            let image = now.after(loss, &mut self.random);
            self.look_into(&image, None, loss);
        }
    }

    /// Is everything there that was acknowledged? In the midst of a commit, that is what was before it, or behind it.
    fn look_into(&mut self, image: &Files, before: Option<&Known>, loss: Loss) {
        self.images += 1;
        for entry in fs::read_dir(self.scratch.path()).unwrap() {
            fs::remove_file(entry.unwrap().path()).unwrap();
        }
        for (name, bytes) in image {
            fs::write(self.scratch.path().join(name), bytes).unwrap();
        }
        let found = known(&self.scratch.path().join("c.sqlite"));
        let is_right = match &found {
            Ok(found) => *found == self.acknowledged || before.is_some_and(|before| found == before),
            Err(_) => false,
        };
        if !is_right {
            self.losses += 1;
            if !self.disk_lies() {
                panic!("{loss:?}: found {found:?}, acknowledged {:?}, before {before:?}", self.acknowledged);
            }
        }
    }

    fn disk_lies(&self) -> bool {
        self.disk.lock().unwrap().lies()
    }
}

/// What a file holds, if it is whole and its numbers add up.
fn known(path: &Path) -> rusqlite::Result<Known> {
    let db = Connection::open(path)?;
    let verdict: String = db.query_row("PRAGMA quick_check", [], |row| row.get(0))?;
    assert_eq!(verdict, "ok");
    let (tally, items): (i64, i64) =
        db.query_row("SELECT (SELECT sum(n) FROM tally), (SELECT count(*) FROM items)", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    assert_eq!((tally, items), (PEOPLE as i64, PEOPLE as i64));
    let mut rows = db.prepare("SELECT id, state, attempts FROM items WHERE state <> 0 OR attempts > 0")?;
    rows.query_map([], |row| Ok((row.get(0)?, (row.get(1)?, row.get(2)?))))?.collect()
}

/// Gives images looked into, and losses.
fn history(seed: u64, lies: bool) -> (u32, u32) {
    let folder = tempfile::tempdir().unwrap();
    let disk = vfs::watch(folder.path());
    let mut store = open(folder.path());
    if lies {
        disk.lock().unwrap().lie();
    }
    disk.lock().unwrap().moments();
    let mut history = History {
        disk,
        random: fastrand::Rng::with_seed(seed),
        acknowledged: Known::new(),
        images: 0,
        losses: 0,
        scratch: tempfile::tempdir().unwrap(),
    };
    for _ in 0..STEPS {
        let mut next = history.acknowledged.clone();
        store.begin().unwrap();
        for claimed in store.claim(ItemId(0), history.random.usize(1..4)).unwrap() {
            let written = store.intend(&intent(claimed.item)).unwrap();
            next.insert(claimed.item.0, (ItemState::Sending as i64, written.attempt));
        }
        store.commit().unwrap();
        history.committed(next.clone());
        store.begin().unwrap();
        let sending: Vec<i64> =
            next.iter().filter(|(_, known)| known.0 == ItemState::Sending as i64).map(|(item, _)| *item).collect();
        for item in sending {
            if history.random.u8(..4) == 0 {
                continue;
            }
            let outcome = outcome(&mut history.random);
            let settlement = OutcomeRecord::new(ItemId(item), ItemState::Sending, outcome.clone());
            let report = store.settle(&settlement).unwrap();
            next.insert(item, (outcome.state() as i64, report.attempts));
        }
        store.commit().unwrap();
        history.committed(next);
    }
    (history.images, history.losses)
}

fn histories(seeds: std::ops::Range<u64>, lies: bool) -> (u32, u32) {
    let halves = [seeds.clone().step_by(2), (seeds.start + 1..seeds.end).step_by(2)];
    let halves: Vec<_> = halves
        .into_iter()
        .map(|seeds| thread::spawn(move || seeds.map(|seed| history(seed, lies)).collect::<Vec<_>>()))
        .collect();
    let all = halves.into_iter().flat_map(|half| half.join().unwrap());
    all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
}

#[test]
fn power_loss_keeps_acknowledged_intents_and_outcomes() {
    let seed = fastrand::u64(..1 << 40);
    let (images, losses) = histories(seed..seed + 4, false);
    println!("seed {seed}: {images} images, {losses} losses");
    assert!(images >= 2_000, "{images}");
    assert_eq!(losses, 0);
}

/// What this suite would say of a checkpoint that is not synced: or else it proves nothing.
#[test]
fn lying_disk_is_detected_by_these_images() {
    let (images, losses) = histories(1..2, true);
    println!("{images} images, {losses} losses");
    assert!(losses * 5 > images, "{losses} of {images}");
}

#[tokio::test]
async fn failed_checkpoint_is_not_written_again() {
    for refusal in [ApiRejection::Full, ApiRejection::Sync] {
        for after in [0, 1, 2, 5, 11, 23] {
            let folder = tempfile::tempdir().unwrap();
            let disk = vfs::watch(folder.path());
            let (checkpoint, writer) = Checkpoint::start(open(folder.path())).unwrap();
            disk.lock().unwrap().refuse(refusal, after);
            let mut acknowledged = Known::new();
            let mut items = 1..=PEOPLE as i64;
            let error = loop {
                let item = ItemId(items.next().unwrap());
                match checkpoint.intend(intent(item)).await {
                    Ok(_) => acknowledged.insert(item.0, (ItemState::Sending as i64, 1)),
                    Err(error) => break error,
                };
            };
            assert!(matches!(error, StoreError::Sqlite { .. }), "{error:?}");
            // The disk is well again, and it does not matter.
            assert!(disk.lock().unwrap().has_refused());
            let again = checkpoint.intend(intent(ItemId(items.next().unwrap()))).await;
            assert!(matches!(again, Err(StoreError::Stopped)), "{again:?}");
            drop(checkpoint);
            writer.join().unwrap();
            let found = known(&folder.path().join("c.sqlite")).unwrap();
            assert_eq!(found, acknowledged, "{refusal:?} after {after}");
        }
    }
}

#[test]
fn power_that_goes_during_a_migration_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = vfs::watch(folder.path());
    let path = folder.path().join("c.sqlite");
    let db = Connection::open(&path).unwrap();
    // A checkpoint of the first shape, "FENR".
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
    disk.lock().unwrap().moments();
    drop(SqliteStore::open(&path, "region:ap-southeast-1").unwrap());
    let (mut moments, now) = {
        let mut disk = disk.lock().unwrap();
        (disk.moments(), disk.now())
    };
    moments.push(now);
    let mut random = fastrand::Rng::with_seed(7);
    let mut images = 0;
    for moment in &moments {
        for loss in LOSSES.into_iter().chain([Loss::Tail, Loss::Torn, Loss::Torn]) {
            let scratch = tempfile::tempdir().unwrap();
            for (name, bytes) in moment.after(loss, &mut random) {
                fs::write(scratch.path().join(name), bytes).unwrap();
            }
            let path = scratch.path().join("c.sqlite");
            let found = SqliteStore::open(&path, "region:ap-southeast-1").map(drop);
            found.unwrap_or_else(|error| panic!("{loss:?}: {error}"));
            assert_eq!(known(&path).unwrap().len(), 120, "{loss:?}");
            images += 1;
        }
    }
    println!("{images} images of {} moments", moments.len());
    assert!(images >= 20, "{images}");
}
