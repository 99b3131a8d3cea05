//! Kill the process at any point, run again: the same outcomes, nobody enrolled twice, nobody lost.
//!
//! By SIGKILL, against a sandbox that outlives the process and may execute a request after its client is gone. Seeds are
//! printed; `FACE_ENROLL_KILLS` (cycles a shard) and `FACE_ENROLL_SEED` make a soak of it.

use std::{
    collections::BTreeSet,
    os::unix::process::ExitStatusExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use face_enroll::sandbox::{Action, Script, Settings};
use rusqlite::{Connection, OpenFlags};

use crate::support::{Archive, Service};

/// The points of the binary, in the order in which an item passes them. Each lies between taking a row in and telling
/// its outcome.
const POINTS: [&str; 10] = [
    "ingest.before_commit",
    "intent.before_commit",
    "commit.before",
    "commit.after",
    "intent.after_commit",
    "send.before",
    "send.after",
    "outcome.before_commit",
    "outcome.after_commit",
    "query.after",
];
/// A record may be made so long after its client is gone ...
const LATE: Duration = Duration::from_millis(150);
/// ... and so long is waited before asking: longer, or there would be duplicates (reference, reliability.md 3.3).
const SETTLE: &str = "250ms";

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The file is whole, its states add up, and nobody arrived at the service without an intent on disk.
fn check(checkpoint: &Path, service: &Service, rows: usize) {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE;
    let db = Connection::open_with_flags(checkpoint, flags).unwrap();
    let verdict: String = db.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let tally: i64 = db.query_row("SELECT coalesce(sum(n), 0) FROM tally", [], |row| row.get(0)).unwrap();
    let items: i64 = db.query_row("SELECT count(*) FROM items", [], |row| row.get(0)).unwrap();
    assert_eq!(tally, items, "the tally differs from the rows");
    assert!(items as usize <= rows);
    let mut intended = db.prepare("SELECT user FROM items WHERE first_intent_at IS NOT NULL").unwrap();
    let intended: BTreeSet<String> = intended.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    for arrival in service.sandbox.journal() {
        if arrival.action.as_deref() == Some(Action::AddFaceRecord.name()) {
            let user = arrival.user.unwrap();
            assert!(intended.contains(&user), "{user} was sent without an intent on disk");
        }
    }
}

fn finish(service: &Service, archive: &Archive) {
    service.sandbox.set_faults(Script::default());
    let people = archive.users.len() as u64;
    let ended = service.run(archive).args(["--settle", SETTLE, "--retries", "1000"]).end();
    ended.is(0, &[("total", people), ("enrolled", people), ("in_doubt", 0), ("pending", 0)]);
    service.holds_exactly(archive);
}

/// Kills one run after another at random moments, until there have been so many.
fn shard(seed: u64, kills: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let archive = Archive::of(600, 0);
    let faults = r#"[{"chance": 0.03, "fault": "reset_after"}, {"chance": 0.03, "fault": "reset_before"}, {"chance": 0.05, "fault": "throttle"}]"#;
    let faults = Script::parse(faults).unwrap();
    let latency = Duration::from_millis(5);
    let service = Service::with(Settings { late: LATE, latency, seed, faults, ..Settings::default() });
    for _kill in 0..kills {
        let mut child = service.run(&archive).args(["--qps", "250", "--settle", SETTLE, "--retries", "1000"]).spawn();
        thread::sleep(Duration::from_millis(random.u64(5..700)));
        child.kill().unwrap();
        child.wait().unwrap();
        if archive.checkpoint().exists() && archive.checkpoint().metadata().unwrap().len() > 0 {
            check(&archive.checkpoint(), &service, archive.users.len());
        }
    }
    finish(&service, &archive);
}

#[test]
fn killed_at_random_moments_nobody_is_lost_and_nobody_is_enrolled_twice() {
    let seed = from_environment("FACE_ENROLL_SEED", fastrand::u64(..));
    let kills = from_environment("FACE_ENROLL_KILLS", 16);
    println!("seed {seed}, 4 shards of {kills} kills");
    let shards: Vec<_> = (0..4).map(|n| thread::spawn(move || shard(seed.wrapping_add(n), kills))).collect();
    for shard in shards {
        shard.join().unwrap();
    }
}

#[test]
fn killed_at_each_point_between_claim_and_outcome_nobody_is_lost_and_nobody_is_enrolled_twice() {
    let halves: Vec<_> =
        POINTS.chunks(5).map(|points| thread::spawn(move || points.iter().for_each(|p| at_point(p)))).collect();
    for half in halves {
        half.join().unwrap();
    }
}

fn at_point(point: &str) {
    for passage in 1..=3 {
        let archive = Archive::of(8, 0);
        // Something is always in doubt, so that the queries are passed too.
        let faults = Script::parse(r#"{"calls": [1, 3, 4], "fault": "reset_after"}"#).unwrap();
        let service = Service::with(Settings { late: LATE, seed: passage, faults, ..Settings::default() });
        let mut run = service.run(&archive);
        run.args(["--settle", SETTLE]).env("FACE_ENROLL_CRASH", format!("{point}:{passage}"));
        let died = run.command().output().unwrap();
        // A small manifest comes in one batch.
        let is_passed = point != "ingest.before_commit" || passage == 1;
        assert_eq!(died.status.signal(), is_passed.then_some(9), "{point}:{passage} {died:?}");
        check(&archive.checkpoint(), &service, archive.users.len());
        finish(&service, &archive);
    }
}

#[test]
fn restarts_stay_within_the_quota_too() {
    let archive = Archive::of(200, 0);
    let service = Service::with_quota(50, Duration::from_millis(20));
    let mut random = fastrand::Rng::with_seed(7);
    let started = Instant::now();
    while started.elapsed() < Duration::from_secs(4) {
        let mut child = service.run(&archive).args(["--qps", "50", "--settle", SETTLE]).spawn();
        thread::sleep(Duration::from_millis(random.u64(50..700)));
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let busiest = service.sandbox.busiest_second(Action::AddFaceRecord);
    assert!(busiest <= 50, "{busiest} calls in one second");
    service.run(&archive).args(["--settle", SETTLE]).end().is(0, &[("enrolled", 200)]);
    service.holds_exactly(&archive);
}
