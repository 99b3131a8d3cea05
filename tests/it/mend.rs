//! An export of the refused rows is corrected and run: a row that can be an item now removes the refused row that it names.

use std::{cell::RefCell, fs, path::PathBuf};

use crate::support::{Archive, Ended, Enroll, Service, codes, export, photo};

/// An archive whose rows 5 to 8 can't become an item: too long an id, a duplicate, a path that leads out, no photo at all.
struct Refused {
    archive: Archive,
    service: Service,
    /// The last export, as it was written.
    exported: RefCell<String>,
}

impl Refused {
    fn new() -> Self {
        let (archive, service) = (Archive::of(3, 0), Service::new());
        for name in ["d", "e"] {
            fs::write(archive.path().join(format!("photos/{name}.jpg")), photo(name, 0)).unwrap();
        }
        let long = "x".repeat(40);
        let manifest = fs::read_to_string(archive.manifest()).unwrap()
            + &format!("photos/d.jpg,{long}\nphotos/e.jpg,u00001\n../f.jpg,u6\n,u7\n");
        archive.write(&manifest);
        let refused = Self { archive, service, exported: RefCell::default() };
        let ended = refused.service.run(&refused.archive).end();
        ended.is(6, &[("total", 7), ("enrolled", 3), ("rejected", 4)]);
        refused
    }

    /// What was refused, as an export that stands beside the manifest, with these changes.
    fn mended(&self, format: &str, changes: &[(&str, &str)]) -> PathBuf {
        let file = self.archive.path().join(format!("mended.{format}"));
        let mut enroll = Enroll::new("export");
        enroll.args(["--status", "rejected", "--checkpoint"]).arg(self.archive.checkpoint());
        assert_eq!(enroll.arg("-o").arg(&file).end().code, Some(0));
        let mut text = fs::read_to_string(&file).unwrap();
        self.exported.replace(text.clone());
        for (from, to) in changes {
            assert!(text.contains(from), "{from} in {text}");
            text = text.replace(from, to);
        }
        fs::write(&file, text).unwrap();
        file
    }

    fn run(&self, file: &std::path::Path) -> Ended {
        let mut enroll = self.service.run_source(file);
        enroll.arg("--checkpoint").arg(self.archive.checkpoint()).args(["--on-change", "replace"]).end()
    }
}

#[test]
fn corrected_row_of_an_export_removes_the_refused_row() {
    for format in ["csv", "jsonl"] {
        let refused = Refused::new();
        let long = "x".repeat(40);
        let mended = refused.mended(
            format,
            &[
                (long.as_str(), "u4"),
                ("u00001", "u5"),
                ("../f.jpg", "photos/u00001.jpg"),
                if format == "csv" {
                    (",,,u7", ",photos/u00002.jpg,,u7")
                } else {
                    (
                        r#""path":null,"url":null,"merchant_user_id":"u7""#,
                        r#""path":"photos/u00002.jpg","url":null,"merchant_user_id":"u7""#,
                    )
                },
            ],
        );
        refused.run(&mended).is(0, &[("total", 7), ("enrolled", 7), ("rejected", 0), ("newly_enrolled", 4)]);
        refused.run(&mended).is(0, &[("total", 7), ("calls", 0)]);
        // The old manifest comes again as it was: its rows are refused again, until the export comes again too.
        let again = refused.run(&refused.archive.manifest());
        again.is(6, &[("total", 11), ("enrolled", 7), ("rejected", 4), ("calls", 0)]);
        refused.run(&mended).is(0, &[("total", 7), ("enrolled", 7), ("calls", 0), ("vanished", 0)]);
        assert!(refused.service.records().values().all(|records| *records == 1));
    }
}

#[test]
fn manifest_and_its_corrected_export_can_be_run_together() {
    let refused = Refused::new();
    let mended = refused.mended("csv", &[("x".repeat(40).as_str(), "u4"), ("u00001", "u5")]);
    for calls in [2, 0] {
        let mut enroll = refused.service.run(&refused.archive);
        let ended = enroll.arg(&mended).arg("--checkpoint").arg(refused.archive.checkpoint()).end();
        ended.is(6, &[("total", 7), ("enrolled", 5), ("rejected", 2), ("vanished", 0), ("calls", calls)]);
    }
}

#[test]
fn export_that_was_not_corrected_takes_nobodys_place() {
    let refused = Refused::new();
    let before = refused.service.sandbox.records();
    let mended = refused.mended("csv", &[("u00001", "u5")]);
    refused.run(&mended).is(6, &[("enrolled", 4), ("rejected", 3)]);
    // The row that was a duplicate names no refused row any more, and its id is still somebody else's.
    let exported = refused.archive.path().join("exported.csv");
    fs::write(&exported, &refused.exported.borrow()[..]).unwrap();
    refused.run(&exported).is(6, &[("total", 8), ("enrolled", 4), ("rejected", 4), ("changed", 0), ("calls", 0)]);
    let records = refused.service.sandbox.records();
    assert!(before.iter().all(|record| records.iter().any(|now| now.id == record.id)), "a record was replaced");
}

#[test]
fn row_that_is_still_invalid_gets_the_present_reason() {
    let refused = Refused::new();
    let before = refused.service.sandbox.records();
    // One as it was, one with the id of somebody else, one with another fault, one mended.
    let long = "x".repeat(40);
    let mended =
        refused.mended("csv", &[(long.as_str(), "u00002"), ("../f.jpg", "../g.jpg"), (",,,u7", ",photos/d.jpg,,u7")]);
    let text = fs::read_to_string(&mended).unwrap();
    assert!(text.contains(",u00001,"), "{text}");
    for calls in [1, 0] {
        let ended = refused.run(&mended);
        ended.is(6, &[("total", 7), ("enrolled", 4), ("rejected", 3), ("calls", calls), ("changed", 0)]);
    }
    let records = refused.service.sandbox.records();
    assert!(before.iter().all(|record| records.iter().any(|now| now.id == record.id)), "a record was replaced");
    let rows = export(&refused.archive.checkpoint(), &["--status", "rejected"]);
    assert_eq!(codes(&rows), ["DuplicateUserId", "OutsideRoot"].into());
    // Each where it was, with what is wrong with it now.
    let found = |row: u64| rows.iter().find(|found| found["row"] == row).unwrap();
    let said = |row: u64| found(row)["message"].as_str().unwrap();
    assert!(said(5).starts_with("row 2 of mended.csv: row 3 has the same id"), "{}", said(5));
    assert!(said(6).contains("row 2 has the same id"), "{}", said(6));
    assert!(said(7).starts_with("row 4 of mended.csv: its path leads out"), "{}", said(7));
    assert!(rows.iter().all(|row| row["source"].as_str().unwrap().ends_with("manifest.csv")), "{rows:#?}");
}

#[test]
fn two_corrected_rows_with_one_id_are_duplicates() {
    let refused = Refused::new();
    let long = "x".repeat(40);
    let mended = refused.mended("csv", &[(long.as_str(), "u4"), ("u00001", "u4")]);
    refused.run(&mended).is(6, &[("total", 7), ("enrolled", 4), ("rejected", 3), ("calls", 1)]);
    // Nor does a later round under the same file name take that person's place.
    let mended = refused.mended("csv", &[("u00001", "u4"), (",,,u7", ",photos/u00002.jpg,,u7")]);
    let ended = refused.run(&mended);
    ended.is(6, &[("total", 7), ("enrolled", 5), ("rejected", 2), ("calls", 1), ("changed", 0)]);
    let rows = export(&refused.archive.checkpoint(), &["--status", "rejected"]);
    let row = rows.iter().find(|row| row["row"] == 6).unwrap();
    assert_eq!(row["code"], "DuplicateUserId", "{row:#}");
    // An export with nothing mended in it ends in the same way, however often it comes.
    let unmended = refused.mended("csv", &[]);
    for _ in 0..2 {
        let ended = refused.run(&unmended);
        ended.is(6, &[("total", 7), ("rejected", 2), ("calls", 0)]);
        assert!(!ended.stderr.contains("the source has no rows"), "{}", ended.stderr);
    }
}

#[test]
fn manifest_replaced_by_its_own_export_loses_no_row() {
    let refused = Refused::new();
    let export = refused.mended("csv", &[(",,,u7", ",photos/u00002.jpg,,u7")]);
    fs::rename(export, refused.archive.manifest()).unwrap();
    let ended = refused.run(&refused.archive.manifest());
    // In it nobody else has the id of the one that was a duplicate.
    ended.is(6, &[("total", 6), ("enrolled", 4), ("rejected", 2), ("vanished", 2)]);
}

#[test]
fn corrected_person_is_erased_like_everyone_else() {
    let refused = Refused::new();
    let mended = refused.mended("csv", &[("x".repeat(40).as_str(), "u4")]);
    refused.run(&mended).is(6, &[("enrolled", 4), ("rejected", 3)]);
    let mut erase = Enroll::new("erase");
    assert_eq!(erase.args(["--user", "u4", "--checkpoint"]).arg(refused.archive.checkpoint()).end().code, Some(0));
    // Their row in the manifest is refused again, as it always was.
    fs::remove_file(mended).unwrap();
    refused.run(&refused.archive.manifest()).is(6, &[("total", 7), ("enrolled", 3), ("rejected", 4)]);
}
