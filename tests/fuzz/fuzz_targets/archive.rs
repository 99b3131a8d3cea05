//! No bytes make the reading of a ZIP archive panic, or give a member that is not what the directory says.
#![no_main]

use std::{io::Write, path::Path, sync::Arc};

use face_enroll::{
    domain::Member,
    storage::{Archive, Place, Storage},
};
use libfuzzer_sys::fuzz_target;

/// Most bytes of a member.
const LIMIT: u64 = 1_000_000;

fuzz_target!(|bytes: &[u8]| {
    let mut file = tempfile::Builder::new().suffix(".zip").tempfile_in("/dev/shm").expect("there is memory");
    file.write_all(bytes).expect("there is memory");
    let (root, storage) = (Path::new("/dev/shm"), Storage::default());
    let Ok(archive) = Archive::open(file.path(), None, None).map(Arc::new) else { return };
    let Ok(count) = archive.survey(&mut |_| {}) else { return };
    for entry in archive.members(count) {
        let entry = entry.expect("the directory was surveyed");
        let Ok(name) = &entry.name else { continue };
        let path = file.path().join(name);
        assert!(path.starts_with(file.path()) && !path.components().any(|part| part.as_os_str() == ".."));
        let place = Place::Member(Member { path: path.clone(), at: entry.at });
        let _ = storage.read(&Place::Path(path), root, LIMIT);
        if let Ok(stored) = storage.read(&place, root, LIMIT) {
            assert_eq!(stored.bytes.len() as u64, entry.stamp().size);
            assert_eq!(stored.stamp, entry.stamp());
        }
    }
});
