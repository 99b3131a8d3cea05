//! Kill the process at any point, run again: the same outcomes, nobody enrolled twice, nobody lost.
//!
//! By SIGKILL, against a sandbox that outlives the process and may execute a request after its client is gone. More than
//! a thousand of them: each named point at each of its first twenty passages, and the rest at random. Seeds are printed;
//! `FACE_ENROLL_KILLS` (random kills a shard) and `FACE_ENROLL_SEED` make a soak of it.

use std::{
    collections::BTreeMap,
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
const POINTS: [&str; 12] = [
    "ingest.before_commit",
    "intent.before_commit",
    "commit.before",
    "commit.after",
    "upload.before",
    "upload.after",
    "intent.after_commit",
    "send.before",
    "send.after",
    "outcome.before_commit",
    "outcome.after_commit",
    "query.after",
];
const PASSAGES: u32 = 20;
const SHARDS: u64 = 8;
/// Random kills a shard.
const KILLS: u64 = 100;
/// A record may be made so long after its client is gone ...
const LATE: Duration = Duration::from_millis(60);
/// ... and so long is waited before asking: longer, or there would be duplicates (reference, reliability.md 3.3).
const SETTLE: &str = "200ms";

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The file is whole, its states add up, and nobody's photo arrived at the service without an intent for exactly this
/// photo on disk.
fn check(checkpoint: &Path, service: &Service, archive: &Archive) {
    let db = Connection::open_with_flags(checkpoint, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let verdict: String = db.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(verdict, "ok");
    let version: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    if version == 0 {
        assert_eq!(service.calls(Action::AddFaceRecord), 0, "sent before there was a table to hold an intent");
        return;
    }
    let tally: i64 = db.query_row("SELECT coalesce(sum(n), 0) FROM tally", [], |row| row.get(0)).unwrap();
    let items: i64 = db.query_row("SELECT count(*) FROM items", [], |row| row.get(0)).unwrap();
    assert_eq!(tally, items, "the tally differs from the rows");
    assert!(items as usize <= archive.users.len());
    let mut intended =
        db.prepare("SELECT user, lower(hex(sha256)) FROM items WHERE first_intent_at IS NOT NULL").unwrap();
    let intended: BTreeMap<String, String> =
        intended.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect();
    for arrival in service.sandbox.journal() {
        if arrival.action.as_deref() == Some(Action::AddFaceRecord.name()) {
            let user = arrival.user.unwrap();
            let digest = intended.get(&user).unwrap_or_else(|| panic!("{user} was sent without an intent on disk"));
            assert_eq!(Some(digest), archive.photos.get(&user), "{user}: the intent is for another photo");
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

/// Kills one run after another at random moments, until there have been so many. Gives how many were still at work.
fn shard(seed: u64, kills: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let archive = Archive::of(500, 0);
    // Of the proxy's answers, the last one ends a run, which leaves nothing to kill: seldom.
    let faults = r#"[{"chance": 0.03, "fault": "reset_after"}, {"chance": 0.03, "fault": "reset_before"}, {"chance": 0.05, "fault": "throttle"},
        {"chance": 0.02, "fault": "html", "executed": true, "status": 429}, {"chance": 0.02, "fault": "html", "executed": true, "status": 413},
        {"chance": 0.002, "fault": "html", "executed": true, "status": 407}]"#;
    let faults = Script::parse(faults).unwrap();
    let latency = Duration::from_millis(5);
    let service = Service::with(Settings { late: LATE, latency, seed, faults, ..Settings::default() });
    // Every fourth shard takes the other way of delivery.
    let send = if seed % 4 == 3 { "upload" } else { "auto" };
    let mut killed = 0;
    for _kill in 0..kills {
        let mut run = service.run(&archive);
        let mut child = run.args(["--qps", "60", "--settle", SETTLE, "--retries", "1000", "--send", send]).spawn();
        // Mostly soon; now and then late enough for what is in doubt to be heard twice.
        let longest = if random.u8(..5) == 0 { 700 } else { 150 };
        thread::sleep(Duration::from_millis(random.u64(5..longest)));
        child.kill().unwrap();
        killed += u64::from(child.wait().unwrap().signal() == Some(9));
        if archive.checkpoint().exists() && archive.checkpoint().metadata().unwrap().len() > 0 {
            check(&archive.checkpoint(), &service, &archive);
        }
    }
    finish(&service, &archive);
    killed
}

#[test]
fn random_kills_lose_and_duplicate_nobody() {
    let seed = from_environment("FACE_ENROLL_SEED", fastrand::u64(..));
    let kills = from_environment("FACE_ENROLL_KILLS", KILLS);
    println!("seed {seed}, {SHARDS} shards of {kills} kills");
    let began = Instant::now();
    // An archive is done after some two hundred kills: a soak takes a new one after each hundred.
    let rounds = move |n: u64| -> u64 {
        let seeds = (0..kills).step_by(KILLS as usize).map(|done| (seed.wrapping_add(n + done / KILLS * SHARDS), done));
        seeds.map(|(seed, done)| shard(seed, KILLS.min(kills - done))).sum()
    };
    let shards: Vec<_> = (0..SHARDS).map(|n| thread::spawn(move || rounds(n))).collect();
    let killed: u64 = shards.into_iter().map(|shard| shard.join().unwrap()).sum();
    println!("{killed} killed at random in {:.0} s: no duplicate, nobody lost", began.elapsed().as_secs_f64());
    assert!(killed * 20 >= SHARDS * kills * 19, "{killed}: the runs were over before they were killed");
}

#[test]
fn kill_at_each_point_loses_and_duplicates_nobody() {
    let began = Instant::now();
    let points: Vec<_> = POINTS.iter().map(|point| thread::spawn(move || at_point(point))).collect();
    let killed: u32 = points.into_iter().map(|point| point.join().unwrap()).sum();
    println!("{killed} killed at named points in {:.0} s: no duplicate, nobody lost", began.elapsed().as_secs_f64());
    assert!(killed >= (POINTS.len() as u32 - 1) * PASSAGES, "{killed}");
}

/// Dies at the first, the second, ... passage of a point, on the same files. Gives how often.
fn at_point(point: &str) -> u32 {
    // Something is always in doubt, so that the queries are passed too.
    let every_other: Vec<String> = (1..400).map(|n| (2 * n + 1).to_string()).collect();
    let faults = format!(r#"{{"calls": [{}], "fault": "reset_after"}}"#, every_other.join(", "));
    let archive = Archive::of(500, 0);
    let faults = Script::parse(&faults).unwrap();
    let service = Service::with(Settings { late: LATE, faults, ..Settings::default() });
    let send = if point.starts_with("upload") { "upload" } else { "auto" };
    let mut killed = 0;
    for passage in 1..=PASSAGES {
        let mut run = service.run(&archive);
        run.args(["--qps", "100", "--settle", SETTLE, "--retries", "1000", "--send", send]);
        let died = run.env("FACE_ENROLL_CRASH", format!("{point}:{passage}")).command().output().unwrap();
        // The manifest comes in two batches.
        let is_passed = point != "ingest.before_commit" || passage <= 2;
        assert_eq!(died.status.signal(), is_passed.then_some(9), "{point}:{passage} {died:?}");
        killed += u32::from(is_passed);
        check(&archive.checkpoint(), &service, &archive);
    }
    finish(&service, &archive);
    killed
}
