//! The checkpoint as a file that lives long: it is killed, damaged, restored from a backup, deleted, and made to forget.

use std::{
    fs,
    io::{Seek, SeekFrom, Write},
    path::Path,
};

use face_enroll::sandbox::Action;
use rusqlite::Connection;

use crate::support::{Archive, Ended, Enroll, Service, export};

fn on(checkpoint: &Path, command: &str, args: &[&str]) -> Ended {
    Enroll::new(command).arg("--checkpoint").arg(checkpoint).args(args).end()
}

/// As far as a kill at this point.
fn killed(service: &Service, archive: &Archive, point: &str) {
    let died = service.run(archive).env("FACE_ENROLL_CRASH", point).end();
    assert_eq!(died.code, None, "{died:#?}");
}

#[test]
fn checkpoint_restored_from_a_backup_is_refused_until_everyone_may_be_asked_about() {
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
    // Known again: nothing more is asked.
    service.run(&archive).end().is(0, &[("calls", 0), ("queries", 0)]);
}

#[test]
fn new_checkpoint_where_there_was_another_asks_before_every_send() {
    let archive = Archive::of(6, 0);
    let service = Service::new();
    service.run(&archive).args(["--max-images", "4"]).end().is(8, &[("enrolled", 4)]);
    fs::remove_file(archive.checkpoint()).unwrap();
    let ended = service.run(&archive).end();
    ended.is(0, &[("enrolled", 6), ("calls", 2), ("queries", 6)]);
    assert!(ended.stderr.contains("asking before every send"), "{}", ended.stderr);
    service.holds_exactly(&archive);
}

#[test]
fn damage_is_found_after_a_kill_and_ends_the_run() {
    let archive = Archive::of(600, 0);
    let service = Service::new();
    // The file of a run that was killed; its pages are in the file itself, as after a checkpoint of the WAL.
    killed(&service, &archive, "outcome.after_commit:40");
    let page = {
        let db = Connection::open(archive.checkpoint()).unwrap();
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
        let root: u64 = db
            .query_row("SELECT rootpage FROM sqlite_schema WHERE name = 'items_changed'", [], |row| row.get(0))
            .unwrap();
        let size: u64 = db.pragma_query_value(None, "page_size", |row| row.get(0)).unwrap();
        (root - 1) * size
    };
    // An index that this run has no use for: only a look at every page finds it.
    let mut file = fs::OpenOptions::new().write(true).open(archive.checkpoint()).unwrap();
    file.seek(SeekFrom::Start(page)).unwrap();
    file.write_all(&[0x55; 64]).unwrap();
    drop(file);
    let ended = service.run(&archive).args(["--qps", "100"]).end();
    assert_eq!(ended.code, Some(13), "{ended:#?}");
    assert!(ended.stderr.contains("damaged"), "{}", ended.stderr);
}

#[test]
fn erased_person_is_nowhere_in_the_file_and_is_not_enrolled_a_second_time() {
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
    assert!(traces("u00017") > 0);
    let ended = on(&archive.checkpoint(), "erase", &["--user", "u00017"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stdout.contains("1 row removed"), "{}", ended.stdout);
    assert!(ended.stdout.contains("--FaceGroupCode sgl0001uc --MerchantUserId 'u00017'"), "{}", ended.stdout);
    assert_eq!(traces("u00017"), 0, "something of it is left");
    assert!(traces("u00018") > 0);
    assert_eq!(export(&archive.checkpoint(), &[]).len(), 39);
    // The manifest still names it; the service is asked, and has it.
    service.run(&archive).end().is(0, &[("enrolled", 40), ("calls", 0), ("queries", 1)]);
    service.holds_exactly(&archive);
    assert_eq!(on(&archive.checkpoint(), "erase", &["--user", "nobody"]).code, Some(0));
}

#[test]
fn purge_removes_who_was_enrolled_long_ago_and_keeps_who_was_not_enrolled() {
    let archive = Archive::of(10, 0);
    fs::remove_file(archive.path().join("photos/u00010.jpg")).unwrap();
    let service = Service::new();
    service.run(&archive).end().is(6, &[("enrolled", 9), ("rejected", 1)]);
    let purged = on(&archive.checkpoint(), "purge", &["--older-than", "1d"]);
    assert!(purged.stdout.starts_with("0 enrolled rows removed"), "{purged:#?}");
    let purged = on(&archive.checkpoint(), "purge", &["--older-than", "0"]);
    assert!(purged.stdout.starts_with("9 enrolled rows removed"), "{purged:#?}");
    let left = export(&archive.checkpoint(), &[]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["merchant_user_id"], "u00010");
    service.run(&archive).end().is(6, &[("enrolled", 9), ("rejected", 1), ("calls", 0), ("vanished", 0)]);
    service.holds_exactly_but(&archive, &["u00010"]);
}

#[test]
fn export_for_a_spreadsheet_holds_no_formula_and_one_for_us_every_id_as_it_is() {
    let archive = Archive::of(1, 0);
    archive.write("path,merchant_user_id,note\nphotos/u00001.jpg,=1+1,@x\n");
    let service = Service::new();
    service.run(&archive).arg("--allow-odd-ids").end().is(0, &[("enrolled", 1)]);
    let plain = on(&archive.checkpoint(), "export", &[]).stdout;
    assert!(plain.contains(",=1+1,") && plain.contains(",@x"), "{plain}");
    let guarded = on(&archive.checkpoint(), "export", &["--for-spreadsheet"]).stdout;
    assert!(guarded.contains(",'=1+1,") && guarded.contains(",'@x"), "{guarded}");
}
