//! Full disk: nothing is sent unless its intent was written, and the next run continues.

use face_enroll::sandbox::Action;
use rusqlite::Connection;

use crate::support::{Archive, Ended, Service};

#[test]
fn full_disk_exits_13_without_unrecorded_sends() {
    for kibibytes in [0, 64, 150, 300] {
        let archive = Archive::of(200, 0);
        let service = Service::new();
        let mut run = service.run(&archive);
        // Like a full disk, the limit keeps files from growing; SIGXFSZ would kill a process that does not ignore it.
        let ended = Ended::from(run.under(&format!("ulimit -f {kibibytes}")).output().unwrap());
        assert_eq!(ended.code, Some(13), "{ended:#?}");
        assert!(ended.stderr.contains("check the disk"), "{}", ended.stderr);
        let intended: i64 = Connection::open(archive.checkpoint())
            .and_then(|db| db.query_row("SELECT coalesce(sum(attempts), 0) FROM items", [], |row| row.get(0)))
            .unwrap_or(0);
        let calls = service.calls(Action::AddFaceRecord) as i64;
        assert!(calls <= intended, "{calls} calls of {intended} intents");
        service.run(&archive).end().is(0, &[("enrolled", 200), ("in_doubt", 0)]);
        service.holds_exactly(&archive);
    }
}
