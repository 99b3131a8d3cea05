//! Tests of the ledger and its file.

use std::fs;

use super::*;

fn new(group: &str, user: &str) -> NewRecord {
    NewRecord {
        group: group.to_owned(),
        user: user.to_owned(),
        created: "2026-11-23T04:05:06Z".parse().unwrap(),
        picture: Some(Digest([7; 32])),
        picture_bytes: Some(3),
        made_at: None,
    }
}

fn filter(group: &str) -> Filter {
    Filter { group: group.to_owned(), ..Filter::default() }
}

#[test]
fn records_outlive_their_ledger() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let mut ledger = Ledger::open(Some(&path)).unwrap();
    let ids: Vec<i64> = ["a", "张 三", "a"].iter().map(|user| ledger.add(new("g", user)).unwrap()).collect();
    assert!(ledger.delete(ids[0]).unwrap());
    let before = ledger.all();
    drop(ledger);

    let mut ledger = Ledger::open(Some(&path)).unwrap();
    assert_eq!(ledger.all(), before);
    assert_eq!(ledger.add(new("g", "b")).unwrap(), ids[2] + 1, "an id is never given twice");
}

#[test]
fn deleted_last_id_is_not_given_again_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let mut ledger = Ledger::open(Some(&path)).unwrap();
    let id = ledger.add(new("g", "a")).unwrap();
    ledger.delete(id).unwrap();
    drop(ledger);
    assert_eq!(Ledger::open(Some(&path)).unwrap().add(new("g", "a")).unwrap(), id + 1);
}

#[test]
fn torn_last_ledger_line_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let mut ledger = Ledger::open(Some(&path)).unwrap();
    ledger.add(new("g", "a")).unwrap();
    let whole = fs::read(&path).unwrap();
    ledger.add(new("g", "b")).unwrap();
    let both = fs::read(&path).unwrap();
    drop(ledger);
    for end in whole.len()..both.len() {
        fs::write(&path, &both[..end]).unwrap();
        assert_eq!(Ledger::open(Some(&path)).unwrap().all().len(), 1, "cut after {end} bytes");
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn unreadable_ledger_line_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let content = "{\"delete\":1}\n{\"add\":{}}\n{\"delete\":2}\n";
    fs::write(&path, content).unwrap();
    let error = Ledger::open(Some(&path)).unwrap_err();
    assert!(matches!(error, SandboxError::Corrupt { line: 2, .. }), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn second_ledger_on_the_same_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let first = Ledger::open(Some(&path)).unwrap();
    assert!(matches!(Ledger::open(Some(&path)), Err(SandboxError::InUse(_))));
    drop(first);
    assert!(Ledger::open(Some(&path)).is_ok());
}

#[test]
fn pages_hold_every_record_once_and_in_order() {
    let mut ledger = Ledger::open(None).unwrap();
    let ids: Vec<i64> = (0..25).map(|n| ledger.add(new("g", &format!("u{n}"))).unwrap()).collect();
    ledger.add(new("other", "u1")).unwrap();
    let pages: Vec<(Vec<i64>, usize)> = [0, 10, 20, 30]
        .iter()
        .map(|&offset| {
            let (page, total) = ledger.find(&filter("g"), offset, 10);
            (page.iter().map(|record| record.id).collect(), total)
        })
        .collect();
    assert_eq!(pages, [(ids[..10].to_vec(), 25), (ids[10..20].to_vec(), 25), (ids[20..].to_vec(), 25), (vec![], 25)]);
}

#[test]
fn lagging_query_sees_only_what_is_old_enough() {
    let mut ledger = Ledger::open(None).unwrap();
    for millis in [10, 20, 30] {
        ledger.add(NewRecord { made_at: Some(Duration::from_millis(millis)), ..new("g", "a") }).unwrap();
    }
    ledger.add(new("g", "a")).unwrap();
    let seen = |until| ledger.find(&Filter { made_until: Some(Duration::from_millis(until)), ..filter("g") }, 0, 10).1;
    assert_eq!([seen(5), seen(20), seen(30)], [1, 3, 4], "what was there before the start is always seen");
}

#[test]
fn user_is_found_in_one_group_or_in_all() {
    let mut ledger = Ledger::open(None).unwrap();
    for (group, user) in [("g", "a"), ("h", "a"), ("g", "b"), ("g", "a")] {
        ledger.add(new(group, user)).unwrap();
    }
    assert_eq!(ledger.of_user("a", None).len(), 3);
    assert_eq!(ledger.of_user("a", Some("g")).len(), 2);
    assert_eq!(ledger.of_user("c", None).len(), 0);
    assert_eq!(ledger.groups(), ["g", "h"]);
}
