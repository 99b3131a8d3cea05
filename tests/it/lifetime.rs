//! A checkpoint over its lifetime: killed, damaged, restored from a backup, deleted and purged.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use face_enroll::sandbox::Action;
use rusqlite::Connection;

use crate::support::{Archive, Ended, Enroll, Service, export};

fn run_command(checkpoint: &Path, command: &str, args: &[&str]) -> Ended {
    Enroll::new(command).arg("--checkpoint").arg(checkpoint).args(args).end()
}

/// Runs until the process is killed at a crash point.
fn run_until_killed(service: &Service, archive: &Archive, point: &str) {
    let died = service.run(archive).env("FACE_ENROLL_CRASH", point).end();
    assert_eq!(died.code, None, "{died:#?}");
}

#[test]
fn restored_checkpoint_is_refused_without_after_restore() {
    let archive = Archive::of(12, 0);
    let service = Service::new();
    service.run(&archive).args(["--max-images", "4"]).end().is(8, &[("enrolled", 4)]);
    let backup = fs::read(archive.checkpoint()).unwrap();
    service.run(&archive).args(["--max-images", "5"]).end().is(8, &[("enrolled", 9)]);
    fs::write(archive.checkpoint(), backup).unwrap();

    let calls = service.calls(Action::AddFaceRecord);
    let refused = service.run(&archive).end();
    assert_eq!(refused.code, Some(13), "{refused:#?}");
    assert!(refused.stderr.contains("restored from a backup"), "{}", refused.stderr);
    assert!(refused.stderr.contains("--after-restore"), "{}", refused.stderr);
    assert_eq!(service.calls(Action::AddFaceRecord), calls);
    service.run(&archive).arg("--after-restore").end().is(0, &[("enrolled", 12), ("calls", 3), ("queries", 8)]);
    service.holds_exactly(&archive);
    // All items are known again, so nothing is queried.
    service.run(&archive).end().is(0, &[("calls", 0), ("queries", 0)]);
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Copies the checkpoint and its files with these suffixes.
fn copy_checkpoint(from: &Path, to: &Path, suffixes: &[&str]) {
    for suffix in std::iter::once(&"").chain(suffixes) {
        let from = with_suffix(from, suffix);
        if from.exists() {
            fs::copy(from, with_suffix(to, suffix)).unwrap();
        }
    }
}

/// Twelve people: four are enrolled according to the copy, eight in fact.
struct StaleCopy {
    archive: Archive,
    service: Service,
    elsewhere: tempfile::TempDir,
}

impl StaleCopy {
    /// Takes the copy after a run has ended or after one was killed.
    fn new(is_taken_during_a_run: bool) -> Self {
        let (archive, service) = (Archive::of(12, 0), Service::new());
        let elsewhere = tempfile::tempdir().unwrap();
        if is_taken_during_a_run {
            let mut run = service.run(&archive);
            // Sequential, so that each outcome has its own commit.
            let died = run.args(["--concurrency", "1"]).env("FACE_ENROLL_CRASH", "outcome.after_commit:4").end();
            assert_eq!(died.code, None, "{died:#?}");
        } else {
            service.run(&archive).args(["--max-images", "4"]).end().is(8, &[("enrolled", 4)]);
        }
        let stale = Self { archive, service, elsewhere };
        copy_checkpoint(&stale.archive.checkpoint(), &stale.copy(), &["-wal", "-shm", ".lock"]);
        stale.service.run(&stale.archive).args(["--max-images", "4"]).end();
        stale
    }

    fn copy(&self) -> PathBuf {
        self.elsewhere.path().join("copy.sqlite")
    }

    fn assert_refused_without_after_restore(&self, how: &str, checkpoint: &Path) {
        let run = || {
            let mut run = self.service.run(&self.archive);
            run.arg("--checkpoint").arg(checkpoint);
            run
        };
        let calls = self.service.calls(Action::AddFaceRecord);
        // A refused attempt must not make the next one succeed.
        for _ in 0..2 {
            let refused = run().end();
            assert_eq!(refused.code, Some(13), "{how}: {refused:#?}");
            assert!(refused.stderr.contains("--after-restore"), "{how}: {}", refused.stderr);
        }
        assert_eq!(self.service.calls(Action::AddFaceRecord), calls, "{how}");
        // A killed run must not make the checkpoint count as complete.
        let died = run().arg("--after-restore").env("FACE_ENROLL_CRASH", "outcome.after_commit:1").end();
        assert_eq!(died.code, None, "{how}: {died:#?}");
        run().end().is(0, &[("enrolled", 12)]);
        self.service.holds_exactly(&self.archive);
    }
}

#[test]
fn stale_checkpoint_without_its_lock_file_is_refused() {
    let stale = StaleCopy::new(false);
    fs::remove_file(with_suffix(&stale.copy(), ".lock")).unwrap();
    stale.assert_refused_without_after_restore("restored into another folder", &stale.copy());

    let stale = StaleCopy::new(false);
    let place = stale.archive.checkpoint();
    fs::remove_file(with_suffix(&place, ".lock")).unwrap();
    fs::remove_file(&place).unwrap();
    fs::copy(stale.copy(), &place).unwrap();
    stale.assert_refused_without_after_restore("restored in place", &place);
}

#[test]
fn overwritten_checkpoint_is_refused_without_its_lock_file() {
    let stale = StaleCopy::new(false);
    let place = stale.archive.checkpoint();
    let probe = rustix::fs::lsetxattr(&place, "user.probe", b"1", rustix::fs::XattrFlags::empty());
    if probe.is_err() {
        // Only an attribute of the file survives overwriting it.
        return;
    }
    fs::remove_file(with_suffix(&place, ".lock")).unwrap();
    fs::copy(stale.copy(), &place).unwrap();
    stale.assert_refused_without_after_restore("written over", &place);
}

#[test]
fn copy_taken_during_a_run_is_refused() {
    for with_lock in [true, false] {
        let stale = StaleCopy::new(true);
        if !with_lock {
            fs::remove_file(with_suffix(&stale.copy(), ".lock")).unwrap();
        }
        stale.assert_refused_without_after_restore("a copy", &stale.copy());
    }
}

#[test]
fn moved_checkpoint_resumes_with_or_without_its_lock_file() {
    type Change = fn(&Path, &Path);
    let changes: [(&str, Change); 6] = [
        ("it was renamed without its lock file", |from, to| {
            fs::rename(from, to).unwrap();
        }),
        ("its folder was moved", |from, to| {
            fs::rename(from, to).unwrap();
            fs::rename(with_suffix(from, ".lock"), with_suffix(to, ".lock")).unwrap();
        }),
        ("it was copied with its lock file", |from, to| copy_checkpoint(from, to, &[".lock"])),
        ("its lock file was emptied", |from, to| {
            fs::rename(from, to).unwrap();
            fs::write(with_suffix(to, ".lock"), "").unwrap();
        }),
        ("someone was erased, and its lock file was removed", |from, to| {
            assert_eq!(run_command(from, "erase", &["--user", "nobody"]).code, Some(0));
            fs::rename(from, to).unwrap();
        }),
        ("it was put back by a tool that rewrote its times", |from, to| {
            fs::rename(from, to).unwrap();
            let file = fs::File::options().write(true).open(to).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
    ];
    for (how, change) in changes {
        let (archive, service) = (Archive::of(6, 0), Service::new());
        service.run(&archive).args(["--max-images", "4"]).end().is(8, &[("enrolled", 4)]);
        let to = archive.path().join("moved.sqlite");
        change(&archive.checkpoint(), &to);
        let ended = service.run(&archive).arg("--checkpoint").arg(&to).end();
        assert_eq!(ended.code, Some(0), "{how}: {ended:#?}");
        ended.is(0, &[("enrolled", 6), ("calls", 2), ("queries", 0)]);
        service.holds_exactly(&archive);
    }
}

#[test]
fn killed_run_resumes_without_its_lock_file() {
    let (archive, service) = (Archive::of(6, 0), Service::new());
    run_until_killed(&service, &archive, "outcome.after_commit:4");
    fs::remove_file(with_suffix(&archive.checkpoint(), ".lock")).unwrap();
    service.run(&archive).end().is(0, &[("enrolled", 6)]);
    service.holds_exactly(&archive);
}

#[test]
fn checkpoint_without_file_identity_needs_its_lock_file() {
    let (archive, service) = (Archive::of(6, 0), Service::new());
    let remove_file_identity = || {
        let db = Connection::open(archive.checkpoint()).unwrap();
        assert_eq!(db.execute("DELETE FROM settings WHERE name = 'file'", []).unwrap(), 1);
    };
    service.run(&archive).args(["--max-images", "2"]).end().is(8, &[("enrolled", 2)]);
    remove_file_identity();
    service.run(&archive).args(["--max-images", "2"]).end().is(8, &[("enrolled", 4), ("queries", 0)]);
    remove_file_identity();
    fs::remove_file(with_suffix(&archive.checkpoint(), ".lock")).unwrap();
    let refused = service.run(&archive).end();
    assert_eq!(refused.code, Some(13), "{refused:#?}");
}

#[test]
fn recreated_checkpoint_prechecks_every_send() {
    let archive = Archive::of(6, 0);
    let service = Service::new();
    service.run(&archive).args(["--max-images", "4"]).end().is(8, &[("enrolled", 4)]);
    fs::remove_file(archive.checkpoint()).unwrap();
    let ended = service.run(&archive).end();
    ended.is(0, &[("enrolled", 6), ("calls", 2), ("queries", 6)]);
    assert!(ended.stderr.contains("checking the service before every send"), "{}", ended.stderr);
    service.holds_exactly(&archive);
}

#[test]
fn corruption_after_a_kill_ends_the_run() {
    let archive = Archive::of(600, 0);
    let service = Service::new();
    // A killed run's file with all pages in the file itself, as after a WAL checkpoint.
    run_until_killed(&service, &archive, "outcome.after_commit:40");
    let page = {
        let db = Connection::open(archive.checkpoint()).unwrap();
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let root: u64 = db
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'items_changed'", [], |row| row.get(0))
            .unwrap();
        let size: u64 = db.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
        (root - 1) * size
    };
    // An index that this run does not use: only a check of every page finds the damage.
    let mut file = fs::OpenOptions::new().write(true).open(archive.checkpoint()).unwrap();
    file.seek(SeekFrom::Start(page)).unwrap();
    file.write_all(&[0x55; 64]).unwrap();
    drop(file);
    let ended = service.run(&archive).args(["--qps", "100"]).end();
    assert_eq!(ended.code, Some(13), "{ended:#?}");
    assert!(ended.stderr.contains("damaged"), "{}", ended.stderr);
}

#[test]
fn erased_person_is_gone_and_not_enrolled_again() {
    let archive = Archive::of(40, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 40)]);
    let traces = |user: &str| -> usize {
        let files = fs::read_dir(archive.path()).unwrap().map(|entry| entry.unwrap().path());
        let ours = files.filter(|path| path.to_string_lossy().contains(".enroll.sqlite"));
        ours.map(|path| {
            let bytes = fs::read(path).unwrap();
            bytes.windows(user.len()).filter(|window| *window == user.as_bytes()).count()
        })
        .sum()
    };
    let (backup, partial) =
        (with_suffix(&archive.checkpoint(), ".v1.bak"), ".manifest.csv.enroll.sqlite.v1.bak.x.partial");
    for copy in [&backup, &archive.path().join(partial)] {
        fs::write(copy, "u00017 and others").unwrap();
    }
    let stranger = with_suffix(&archive.checkpoint(), ".vx.bak");
    fs::write(&stranger, "unrelated file").unwrap();
    assert!(traces("u00017") > 2);
    let ended = run_command(&archive.checkpoint(), "erase", &["--user", "u00017"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("1 row removed"), "{}", ended.stdout);
    assert!(ended.stdout.contains("--FaceGroupCode sgl0001uc --MerchantUserId 'u00017'"), "{}", ended.stdout);
    assert_eq!(traces("u00017"), 0, "traces are left");
    assert!(ended.stdout.contains(&format!("removed   {}", backup.display())), "{}", ended.stdout);
    assert!(
        ended.stdout.contains(&format!("may hold  {}: a manifest", archive.manifest().display())),
        "{}",
        ended.stdout
    );
    assert!(stranger.exists());
    assert!(traces("u00018") > 0);
    assert_eq!(export(&archive.checkpoint(), &[]).len(), 39);
    // The manifest still names the user; the query finds the record.
    service.run(&archive).end().is(0, &[("enrolled", 40), ("calls", 0), ("queries", 1)]);
    service.holds_exactly(&archive);
    assert_eq!(run_command(&archive.checkpoint(), "erase", &["--user", "nobody"]).code, Some(0));
}

#[test]
fn erase_beside_a_reader_removes_nothing_and_says_so() {
    let archive = Archive::of(3, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 3)]);
    // An open connection alone does not matter. It keeps the WAL: the first reader finds it empty, the second does not.
    let idle = Connection::open(archive.checkpoint()).unwrap();
    let _rows: u32 = idle.query_row("SELECT count(*) FROM items", [], |row| row.get(0)).unwrap();
    for _reader in 0..2 {
        let reader = Connection::open(archive.checkpoint()).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM items").unwrap();
        let refused = run_command(&archive.checkpoint(), "erase", &["--user", "u00002"]);
        assert_eq!(refused.code, Some(13), "{refused:#?}");
        assert!(refused.stderr.contains(&archive.checkpoint().display().to_string()), "{}", refused.stderr);
        assert!(refused.stderr.contains("close what reads it"), "{}", refused.stderr);
        assert_eq!(export(&archive.checkpoint(), &[]).len(), 3);
    }
    let ended = run_command(&archive.checkpoint(), "erase", &["--user", "u00002"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("--MerchantUserId 'u00002'"), "{}", ended.stdout);
    assert_eq!(export(&archive.checkpoint(), &[]).len(), 2);
}

#[test]
fn purge_removes_only_old_enrolled_items() {
    let archive = Archive::of(10, 0);
    fs::remove_file(archive.path().join("photos/u00010.jpg")).unwrap();
    let service = Service::new();
    service.run(&archive).end().is(6, &[("enrolled", 9), ("rejected", 1)]);
    let purged = run_command(&archive.checkpoint(), "purge", &["--older-than", "1d"]);
    assert!(purged.stdout.starts_with("0 enrolled rows removed"), "{purged:#?}");
    let purged = run_command(&archive.checkpoint(), "purge", &["--older-than", "0"]);
    assert!(purged.stdout.starts_with("9 enrolled rows removed"), "{purged:#?}");
    let left = export(&archive.checkpoint(), &[]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["merchant_user_id"], "u00010");
    service.run(&archive).end().is(6, &[("enrolled", 9), ("rejected", 1), ("calls", 0), ("vanished", 0)]);
    service.holds_exactly_but(&archive, &["u00010"]);
}

#[test]
fn spreadsheet_export_has_no_formulas() {
    let archive = Archive::of(1, 0);
    archive.write("path,merchant_user_id,note\nphotos/u00001.jpg,=1+1,@x\n");
    let service = Service::new();
    service.run(&archive).arg("--allow-odd-ids").end().is(0, &[("enrolled", 1)]);
    let plain = run_command(&archive.checkpoint(), "export", &[]).stdout;
    assert!(plain.contains(",=1+1,") && plain.contains(",@x"), "{plain}");
    let guarded = run_command(&archive.checkpoint(), "export", &["--for-spreadsheet"]).stdout;
    assert!(guarded.contains(",'=1+1,") && guarded.contains(",'@x"), "{guarded}");
}
