//! Tests of the record store and its file.

use std::fs;

use super::*;

fn new(group: &str, user: &str) -> NewRecord {
    NewRecord {
        group: group.to_owned(),
        user: user.to_owned(),
        created: "2026-11-23T04:05:06Z".parse().unwrap(),
        picture: Some(Digest([7; 32])),
        picture_bytes: Some(3),
        created_after: None,
    }
}

fn filter(group: &str) -> Filter {
    Filter { group: group.to_owned(), ..Filter::default() }
}

#[test]
fn records_survive_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let mut store = RecordStore::open(Some(&path)).unwrap();
    let ids: Vec<i64> = ["a", "张 三", "a"].iter().map(|user| store.add(new("g", user)).unwrap()).collect();
    assert!(store.delete(ids[0]).unwrap());
    let before = store.all();
    drop(store);

    let mut store = RecordStore::open(Some(&path)).unwrap();
    assert_eq!(store.all(), before);
    assert_eq!(store.add(new("g", "b")).unwrap(), ids[2] + 1, "ids are never reused");
}

#[test]
fn deleted_last_id_is_not_reused_after_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let mut store = RecordStore::open(Some(&path)).unwrap();
    let id = store.add(new("g", "a")).unwrap();
    store.delete(id).unwrap();
    drop(store);
    assert_eq!(RecordStore::open(Some(&path)).unwrap().add(new("g", "a")).unwrap(), id + 1);
}

#[test]
fn torn_last_line_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let mut store = RecordStore::open(Some(&path)).unwrap();
    store.add(new("g", "a")).unwrap();
    let whole = fs::read(&path).unwrap();
    store.add(new("g", "b")).unwrap();
    let both = fs::read(&path).unwrap();
    drop(store);
    for end in whole.len()..both.len() {
        fs::write(&path, &both[..end]).unwrap();
        assert_eq!(RecordStore::open(Some(&path)).unwrap().all().len(), 1, "cut after {end} bytes");
        assert_eq!(fs::read(&path).unwrap(), whole);
    }
}

#[test]
fn corrupt_line_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let content = "{\"delete\":1}\n{\"add\":{}}\n{\"delete\":2}\n";
    fs::write(&path, content).unwrap();
    let error = RecordStore::open(Some(&path)).unwrap_err();
    assert!(matches!(error, SandboxError::Corrupt { line: 2, .. }), "{error:?}");
    assert_eq!(fs::read_to_string(&path).unwrap(), content);
}

#[test]
fn second_store_on_the_same_file_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("records.jsonl");
    let first = RecordStore::open(Some(&path)).unwrap();
    assert!(matches!(RecordStore::open(Some(&path)), Err(SandboxError::InUse(_))));
    drop(first);
    assert!(RecordStore::open(Some(&path)).is_ok());
}

#[test]
fn pages_cover_every_record_once_in_order() {
    let mut store = RecordStore::open(None).unwrap();
    let ids: Vec<i64> = (0..25).map(|n| store.add(new("g", &format!("u{n}"))).unwrap()).collect();
    store.add(new("other", "u1")).unwrap();
    let pages: Vec<(Vec<i64>, usize)> = [0, 10, 20, 30]
        .iter()
        .map(|&offset| {
            let (page, total) = store.find(&filter("g"), offset, 10);
            (page.iter().map(|record| record.id).collect(), total)
        })
        .collect();
    assert_eq!(pages, [(ids[..10].to_vec(), 25), (ids[10..20].to_vec(), 25), (ids[20..].to_vec(), 25), (vec![], 25)]);
}

#[test]
fn lagging_query_hides_new_records() {
    let mut store = RecordStore::open(None).unwrap();
    for millis in [10, 20, 30] {
        store.add(NewRecord { created_after: Some(Duration::from_millis(millis)), ..new("g", "a") }).unwrap();
    }
    store.add(new("g", "a")).unwrap();
    let seen =
        |until| store.find(&Filter { created_until: Some(Duration::from_millis(until)), ..filter("g") }, 0, 10).1;
    assert_eq!([seen(5), seen(20), seen(30)], [1, 3, 4], "records from before the start are always visible");
}

#[test]
fn records_are_found_by_user_in_one_or_all_groups() {
    let mut store = RecordStore::open(None).unwrap();
    for (group, user) in [("g", "a"), ("h", "a"), ("g", "b"), ("g", "a")] {
        store.add(new(group, user)).unwrap();
    }
    assert_eq!(store.find_by_user("a", None).len(), 3);
    assert_eq!(store.find_by_user("a", Some("g")).len(), 2);
    assert_eq!(store.find_by_user("c", None).len(), 0);
    assert_eq!(store.groups(), ["g", "h"]);
}
