//! Missing photos: one or all of them.

use std::fs;

use crate::support::{Archive, Service, codes, export};

/// An archive whose photos are moved away, as if a share were not mounted.
fn unmounted(people: usize) -> Archive {
    let archive = Archive::of(people, 0);
    fs::rename(archive.path().join("photos"), archive.path().join("share")).unwrap();
    archive
}

fn mount(archive: &Archive) {
    fs::rename(archive.path().join("share"), archive.path().join("photos")).unwrap();
}

#[test]
fn hundred_missing_photos_stop_run_and_stay_pending() {
    let archive = unmounted(400);
    let service = Service::new();
    let ended = service.run(&archive).end();
    let summary = ended.is(3, &[("total", 400), ("pending", 400), ("rejected", 0), ("calls", 0)]);
    let reason = summary["exit_reason"].as_str().unwrap();
    assert!(reason.starts_with("none of the 1") && reason.contains("mount the directory or share"), "{reason}");
    assert!(ended.stderr.contains("first=\"file not found: photos/u0"), "{}", ended.stderr);
    mount(&archive);
    service.run(&archive).end().is(0, &[("enrolled", 400), ("calls", 400)]);
    service.holds_exactly(&archive);
}

#[test]
fn few_missing_photos_stop_run_if_none_was_found() {
    let archive = unmounted(2);
    let service = Service::new();
    service.run(&archive).end().is(3, &[("pending", 2), ("rejected", 0)]);
    mount(&archive);
    service.run(&archive).end().is(0, &[("enrolled", 2)]);
    let single = unmounted(1);
    service.run(&single).end().is(6, &[("rejected", 1)]);
}

#[test]
fn missing_photos_are_rejected_if_one_was_found() {
    let archive = Archive::of(300, 0);
    for user in &archive.users[1..] {
        fs::remove_file(archive.path().join(format!("photos/{user}.jpg"))).unwrap();
    }
    let service = Service::new();
    service.run(&archive).end().is(6, &[("enrolled", 1), ("rejected", 299), ("pending", 0)]);
    assert_eq!(codes(&export(&archive.checkpoint(), &["--status", "rejected"])), ["NotFound"].into());
}

#[test]
fn photos_of_enrolled_people_prove_the_folder_exists() {
    let archive = Archive::of(20, 0);
    let service = Service::new();
    service.run(&archive).end().is(0, &[("enrolled", 20)]);
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    let new: String = (0..5).map(|n| format!("photos/new{n}.jpg,new{n}\n")).collect();
    archive.write(&(manifest + &new));
    service.run(&archive).end().is(6, &[("enrolled", 20), ("rejected", 5)]);
    // If the share disappears later, known people stay as they are.
    let manifest = fs::read_to_string(archive.manifest()).unwrap();
    archive.write(&(manifest + "photos/late1.jpg,late1\nphotos/late2.jpg,late2\n"));
    fs::rename(archive.path().join("photos"), archive.path().join("share")).unwrap();
    service.run(&archive).end().is(3, &[("enrolled", 20), ("rejected", 5), ("pending", 2)]);
}

#[test]
fn photo_that_is_back_unchanged_is_sent() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let photo = archive.path().join("photos/u00002.jpg");
    let (away, small) = (archive.path().join("away.jpg"), archive.path().join("small.jpg"));
    // The first run rejects the photo and records its file.
    fs::rename(&photo, &away).unwrap();
    fs::write(&photo, "no photo").unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 1), ("rejected", 1)]);
    fs::rename(&photo, &small).unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 1), ("rejected", 1)]);
    assert_eq!(codes(&export(&archive.checkpoint(), &["--status", "rejected"])), ["NotFound"].into());
    fs::rename(&small, &photo).unwrap();
    service.run(&archive).end().is(6, &[("enrolled", 1), ("rejected", 1)]);
    assert_ne!(codes(&export(&archive.checkpoint(), &["--status", "rejected"])), ["NotFound"].into());
    fs::rename(&away, &photo).unwrap();
    service.run(&archive).end().is(0, &[("enrolled", 2)]);
    service.holds_exactly(&archive);
}

#[test]
fn deleted_photo_is_tried_again_only_once() {
    let archive = Archive::of(2, 0);
    let service = Service::new();
    let photo = archive.path().join("photos/u00002.jpg");
    fs::write(&photo, "no photo").unwrap();
    service.run(&archive).end().is(6, &[("rejected", 1)]);
    fs::remove_file(&photo).unwrap();
    let newly_rejected = |log: &str| log.matches("NotFound").count();
    let ended: Vec<_> = (0..2).map(|_| service.run(&archive).arg("--json=items").end()).collect();
    assert_eq!(ended.iter().map(|run| newly_rejected(&run.stdout)).collect::<Vec<_>>(), [2, 1]);
}
