//! Kills the process at any point and runs it again: same outcomes, no duplicate, no loss.
//!
//! The sandbox outlives the process and may execute a request after its client is gone. More than a thousand SIGKILLs: at
//! the first twenty passes of each named crash point, the rest at random times. Seeds are printed; `FACE_ENROLL_KILLS`
//! (random kills per shard) and `FACE_ENROLL_SEED` turn it into a soak test.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use face_enroll::sandbox::{Action, Script, Settings};
use rusqlite::{Connection, OpenFlags};

use crate::support::{Archive, Enroll, Service, export, zip};

/// Crash points of the binary in the order in which an item passes them, from ingesting its row to reporting its outcome.
const CRASH_POINTS: [&str; 12] = [
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
/// Crash points of `undo`.
const UNDO_CRASH_POINTS: [&str; 6] =
    ["commit.before", "commit.after", "query.after", "removal.intended", "removal.before", "removal.after"];
const PASSES_PER_UNDO_POINT: u32 = 6;
const PASSES_PER_POINT: u32 = 20;
const SHARDS: u64 = 8;
/// Random kills per shard.
const KILLS_PER_SHARD: u64 = 100;
/// Largest delay before the sandbox creates a record, also when its client is gone.
const LATE: Duration = Duration::from_millis(60);
/// Wait before an in-doubt item is queried. It must be longer than `LATE`, or there would be duplicates (reference,
/// reliability.md 3.3).
const SETTLE: &str = "200ms";

fn from_environment(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Asserts that the file is intact, that its states add up, and that every photo received by the service has an intent for
/// exactly that photo on disk.
fn check(checkpoint: &Path, service: &Service, archive: &Archive) {
    let db = Connection::open_with_flags(checkpoint, OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
    let integrity: String = db.query_row("PRAGMA quick_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
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
    for call in service.sandbox.journal() {
        if call.action.as_deref() == Some(Action::AddFaceRecord.name()) {
            let user = call.user.unwrap();
            let digest = intended.get(&user).unwrap_or_else(|| panic!("{user} was sent without an intent on disk"));
            assert_eq!(Some(digest), archive.photos.get(&user), "{user}: the intent is for another photo");
        }
    }
}

/// The photos of an archive as a ZIP, in which their names are the ids.
fn zipped(archive: &Archive) -> PathBuf {
    let names: Vec<String> = archive.users.iter().map(|user| format!("{user}.jpg")).collect();
    let photo = |name: &String| fs::read(archive.path().join("photos").join(name)).unwrap();
    let path = archive.path().join("photos.zip");
    fs::write(&path, zip(names.iter().map(|name| (name.as_str(), photo(name))))).unwrap();
    path
}

fn finish(service: &Service, archive: &Archive, source: &Path) {
    service.sandbox.set_faults(Script::default());
    let people = archive.users.len() as u64;
    let ended = service.run_source(source).args(["--settle", SETTLE, "--retries", "1000"]).end();
    ended.is(0, &[("total", people), ("enrolled", people), ("in_doubt", 0), ("pending", 0)]);
    service.holds_exactly(archive);
}

/// Kills `kills` runs at random times, one after the other. Returns how many were still running.
fn shard(seed: u64, kills: u64) -> u64 {
    let mut random = fastrand::Rng::with_seed(seed);
    let archive = Archive::of(500, 0);
    // The 407 ends a run and leaves nothing to kill, so it is rare.
    let faults = r#"[{"chance": 0.03, "fault": "reset_after"}, {"chance": 0.03, "fault": "reset_before"}, {"chance": 0.05, "fault": "throttle"},
        {"chance": 0.02, "fault": "html", "executed": true, "status": 429}, {"chance": 0.02, "fault": "html", "executed": true, "status": 413},
        {"chance": 0.002, "fault": "html", "executed": true, "status": 407}]"#;
    let faults = Script::parse(faults).unwrap();
    let latency = Duration::from_millis(5);
    let service = Service::with(Settings { late: LATE, latency, seed, faults, ..Settings::default() });
    // Every fourth shard uploads its photos.
    let send = if seed % 4 == 3 { "upload" } else { "auto" };
    // And one reads them from a ZIP.
    let source = if seed % SHARDS == 5 { zipped(&archive) } else { archive.manifest() };
    let checkpoint = PathBuf::from(format!("{}.enroll.sqlite", source.display()));
    let mut killed = 0;
    for _kill in 0..kills {
        let mut run = service.run_source(&source);
        let mut child = run.args(["--qps", "60", "--settle", SETTLE, "--retries", "1000", "--send", send]).spawn();
        // Mostly early, sometimes late enough for in-doubt items to be queried twice.
        let longest = if random.u8(..5) == 0 { 700 } else { 150 };
        thread::sleep(Duration::from_millis(random.u64(5..longest)));
        child.kill().unwrap();
        killed += u64::from(child.wait().unwrap().signal() == Some(9));
        if checkpoint.exists() && checkpoint.metadata().unwrap().len() > 0 {
            check(&checkpoint, &service, &archive);
        }
    }
    finish(&service, &archive, &source);
    killed
}

#[test]
fn random_kills_lose_and_duplicate_nobody() {
    let seed = from_environment("FACE_ENROLL_SEED", fastrand::u64(..));
    let kills = from_environment("FACE_ENROLL_KILLS", KILLS_PER_SHARD);
    println!("seed {seed}, {SHARDS} shards of {kills} kills");
    let began = Instant::now();
    // An archive is finished after about 200 kills, so a soak test starts a new one after every 100.
    let rounds = move |n: u64| -> u64 {
        let seeds = (0..kills)
            .step_by(KILLS_PER_SHARD as usize)
            .map(|done| (seed.wrapping_add(n + done / KILLS_PER_SHARD * SHARDS), done));
        seeds.map(|(seed, done)| shard(seed, KILLS_PER_SHARD.min(kills - done))).sum()
    };
    let shards: Vec<_> = (0..SHARDS).map(|n| thread::spawn(move || rounds(n))).collect();
    let killed: u64 = shards.into_iter().map(|shard| shard.join().unwrap()).sum();
    println!("{killed} random kills in {:.0} s: no duplicate, no loss", began.elapsed().as_secs_f64());
    assert!(killed * 20 >= SHARDS * kills * 19, "{killed}: too many runs ended before they were killed");
}

#[test]
fn kill_at_each_point_loses_and_duplicates_nobody() {
    let began = Instant::now();
    let points: Vec<_> = CRASH_POINTS.iter().map(|point| thread::spawn(move || crash_at(point))).collect();
    let killed: u32 = points.into_iter().map(|point| point.join().unwrap()).sum();
    println!("{killed} kills at crash points in {:.0} s: no duplicate, no loss", began.elapsed().as_secs_f64());
    assert!(killed >= (CRASH_POINTS.len() as u32 - 1) * PASSES_PER_POINT, "{killed}");
}

/// Crashes at the first, second, ... pass of a point, on the same files. Returns the number of crashes.
fn crash_at(point: &str) -> u32 {
    // Keeps items in doubt, so that the query points are reached too.
    let every_other: Vec<String> = (1..400).map(|n| (2 * n + 1).to_string()).collect();
    let faults = format!(r#"{{"calls": [{}], "fault": "reset_after"}}"#, every_other.join(", "));
    let archive = Archive::of(500, 0);
    let faults = Script::parse(&faults).unwrap();
    let service = Service::with(Settings { late: LATE, faults, ..Settings::default() });
    let send = if point.starts_with("upload") { "upload" } else { "auto" };
    let mut killed = 0;
    for pass in 1..=PASSES_PER_POINT {
        let mut run = service.run(&archive);
        run.args(["--qps", "100", "--settle", SETTLE, "--retries", "1000", "--send", send]);
        let died = run.env("FACE_ENROLL_CRASH", format!("{point}:{pass}")).command().output().unwrap();
        // The manifest is ingested in two batches.
        let is_reached = point != "ingest.before_commit" || pass <= 2;
        assert_eq!(died.status.signal(), is_reached.then_some(9), "{point}:{pass} {died:?}");
        killed += u32::from(is_reached);
        check(&archive.checkpoint(), &service, &archive);
    }
    finish(&service, &archive, &archive.manifest());
    killed
}

#[test]
fn kill_during_undo_leaves_no_record_unaccounted() {
    let points: Vec<_> = UNDO_CRASH_POINTS.iter().map(|point| thread::spawn(move || crash_undo_at(point))).collect();
    points.into_iter().for_each(|point| point.join().unwrap());
}

/// Crashes an undo at each of the first passes of a point, on the same files; the next one finishes it.
fn crash_undo_at(point: &str) {
    let archive = Archive::of(200, 0);
    let service = Service::with(Settings { late: LATE, ..Settings::default() });
    let people = archive.users.len() as u64;
    let enrolled = service.run(&archive).args(["--settle", SETTLE]).end().is(0, &[("enrolled", people)]);
    let run = enrolled["run_id"].as_str().unwrap();
    let command = |subcommand: &str, args: &[&str]| {
        let mut enroll = Enroll::new(subcommand);
        enroll
            .arg(archive.manifest())
            .args(["--endpoint", &service.sandbox.endpoint(), "--query-qps", "1000", "--settle", SETTLE, "--json"])
            .args(args)
            .env("ALIBABA_CLOUD_ACCESS_KEY_ID", service.sandbox.access_key_id())
            .env("ALIBABA_CLOUD_ACCESS_KEY_SECRET", service.sandbox.access_key_secret());
        enroll
    };
    for pass in 1..=PASSES_PER_UNDO_POINT {
        let mut undo = command("undo", &["--run", run, "--yes"]);
        let died = undo.env("FACE_ENROLL_CRASH", format!("{point}:{pass}")).command().output().unwrap();
        assert_eq!(died.status.signal(), Some(9), "{point}:{pass} {died:?}");
        // Only a row that is enrolled or in doubt may have a record, and an enrolled one must.
        let db = Connection::open_with_flags(archive.checkpoint(), OpenFlags::SQLITE_OPEN_READ_WRITE).unwrap();
        let mut select = db.prepare("SELECT user, state FROM items").unwrap();
        let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))).unwrap();
        let records = service.records();
        for (user, state) in rows.map(Result::unwrap) {
            let has_record = records.contains_key(&user);
            assert!(state == 2 || has_record == (state == 3), "{point}:{pass}: {user} is in state {state}");
        }
        let tally: i64 = db.query_row("SELECT sum(n) FROM tally", [], |row| row.get(0)).unwrap();
        assert_eq!(tally as u64, people, "the tally differs from the rows");
    }
    // Some points are finished by an undo, the others by a run.
    if !point.starts_with("commit") {
        let pending = export(&archive.checkpoint(), &["--status", "pending"]).len() as u64;
        let ended = command("undo", &["--run", run, "--yes"]).end();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        let balance: serde_json::Value = serde_json::from_str(ended.stdout.lines().last().unwrap()).unwrap();
        let n = |name: &str| balance[name].as_u64().unwrap();
        assert_eq!((n("removed") + n("gone"), n("left")), (people - pending, 0), "{balance}");
        assert!(service.records().is_empty());
        let ended = command("verify", &["--all"]).end();
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }
    finish(&service, &archive, &archive.manifest());
    assert_eq!(service.calls(Action::DeleteFaceRecordV2), 0);
}
