//! Archives: what is found in them, and what is refused.

use std::{
    fs,
    io::{Cursor, Write},
    os::unix::fs::symlink,
};

use proptest::prelude::*;
use rawzip::{CompressionMethod, ZipArchiveWriter};

use super::*;

const LIMIT: u64 = 10_000;

/// An archive of these members, deflated.
fn archive<'a>(members: impl IntoIterator<Item = (&'a str, &'a [u8])>) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut archive = ZipArchiveWriter::new(&mut bytes);
    for (name, data) in members {
        let name = rawzip::path::EntryPath::verbatim(name.as_bytes());
        let (mut entry, config) =
            archive.new_file(name).compression_method(CompressionMethod::DEFLATE).start().unwrap();
        let mut writer = config.wrap(flate2::write::DeflateEncoder::new(&mut entry, flate2::Compression::fast()));
        writer.write_all(data).unwrap();
        let (encoder, descriptor) = writer.finish().unwrap();
        encoder.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    archive.finish().unwrap();
    bytes
}

struct Folder(tempfile::TempDir);

impl Folder {
    fn with(bytes: &[u8]) -> Self {
        let folder = Self(tempfile::tempdir().unwrap());
        fs::write(folder.path("a.zip"), bytes).unwrap();
        folder
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn read(&self, storage: &Storage, name: &str) -> Result<String, String> {
        self.read_at(storage, &Place::Path(self.path(name)))
    }

    fn read_at(&self, storage: &Storage, place: &Place) -> Result<String, String> {
        match storage.read(place, self.0.path(), LIMIT) {
            Ok(stored) => Ok(String::from_utf8(stored.bytes).unwrap()),
            Err(ReadError::Unavailable(unavailable)) => Err(unavailable.code().0),
            Err(error @ (ReadError::Io(_) | ReadError::Fatal(_))) => Err(error.to_string()),
        }
    }
}

fn error(code: &str) -> Result<String, String> {
    Err(code.to_owned())
}

fn position(bytes: &[u8], part: &[u8]) -> usize {
    bytes.windows(part.len()).position(|window| window == part).unwrap()
}

#[test]
fn member_is_found_under_every_spelling_of_its_name() {
    let names: [(&str, &[u8]); 3] = [("p/a b.jpg", b"1"), ("p/Mu\u{308}ller.jpg", b"2"), ("p\\c.jpg", b"3")];
    let (folder, storage) = (Folder::with(&archive(names)), Storage::default());
    for (name, found) in [
        ("a.zip/p/a b.jpg", Ok("1")),
        ("a.zip/p/ a b.jpg\u{200b}", Ok("1")),
        ("a.zip/p\\a b.jpg", Ok("1")),
        ("a.zip/p/M\u{fc}ller.jpg", Ok("2")),
        ("a.zip/p/c.jpg", Ok("3")),
        ("a.zip/p/A b.jpg", Err("NotFound")),
        ("a.zip/p", Err("NotFound")),
        ("b.zip/p/a b.jpg", Err("NotFound")),
    ] {
        assert_eq!(folder.read(&storage, name), found.map(str::to_owned).map_err(str::to_owned), "{name}");
    }
    let stamp = storage.stamp(&Place::Path(folder.path("a.zip/p/a b.jpg")), folder.0.path()).unwrap();
    assert_eq!(stamp, FileStamp { size: 1, mark: i64::from(rawzip::crc32(b"1")) });
    let absent = storage.stamp(&Place::Path(folder.path("a.zip/none")), folder.0.path()).unwrap_err();
    assert_eq!(absent.kind(), io::ErrorKind::NotFound);
}

#[test]
fn two_members_of_one_name_are_never_chosen_between() {
    let folder = Folder::with(&archive([("a.jpg", &b"1"[..]), ("b.jpg", b"2"), ("./a.jpg", b"3")]));
    assert_eq!(folder.read(&Storage::default(), "a.zip/a.jpg"), error("AmbiguousMember"));
    assert_eq!(folder.read(&Storage::default(), "a.zip/b.jpg"), Ok("2".to_owned()));
    // One in the other's normalisation is no other.
    let folder = Folder::with(&archive([("\u{fc}.jpg", &b"1"[..]), ("u\u{308}.jpg", b"2")]));
    assert_eq!(folder.read(&Storage::default(), "a.zip/\u{fc}.jpg"), Ok("1".to_owned()));
    assert_eq!(folder.read(&Storage::default(), "a.zip/u\u{308}.jpg"), Ok("2".to_owned()));
}

#[test]
fn hint_is_believed_only_if_the_name_is_there() {
    let bytes = archive([("a.jpg", &b"1"[..]), ("b.jpg", b"2"), ("b.jpg", b"3")]);
    let folder = Folder::with(&bytes);
    let storage = Storage::default();
    let list = Arc::new(Archive::open(&folder.path("a.zip"), None, None).unwrap());
    let count = list.survey(&mut |_| {}).unwrap();
    let at: Vec<u64> = list.members(count).map(|entry| entry.unwrap().at).collect();
    let member = |name: &str, at: u64| Place::Member(Member { path: folder.path(name), at });
    for (name, at, found) in [
        ("a.zip/a.jpg", at[0], Ok("1")),
        ("a.zip/b.jpg", at[1], Ok("2")),
        ("a.zip/b.jpg", at[2], Ok("3")),
        ("a.zip/a.jpg", at[1], Ok("1")),
        ("a.zip/a.jpg", at[0] + 1, Ok("1")),
        ("a.zip/a.jpg", 0, Ok("1")),
        ("a.zip/a.jpg", u64::MAX, Ok("1")),
        ("a.zip/b.jpg", at[0], Err("AmbiguousMember")),
        ("a.zip/c.jpg", at[0], Err("NotFound")),
    ] {
        let found = found.map(str::to_owned).map_err(str::to_owned);
        assert_eq!(folder.read_at(&storage, &member(name, at)), found, "{name} {at}");
    }
}

#[test]
fn member_that_lies_is_damaged() {
    let whole = archive([("a.jpg", &[b'x'; 500][..]), ("b.jpg", b"2")]);
    let record = position(&whole, b"PK\x01\x02");
    let header = position(&whole, b"a.jpg");
    let lies: [(usize, &[u8]); 9] = [
        (record + 16, &[9]),                // CRC-32
        (record + 20, &[1, 0]),             // size packed
        (record + 20, &[0xFF; 4]),          // beyond the end
        (record + 24, &[1, 0]),             // size, too small
        (record + 24, &[0, 0x10]),          // size, too large
        (record + 42, &[0xFE, 0xFF, 0xFF]), // offset
        (record + 42, &[7]),                // offset within a header
        (record + 10, &[0]),                // stored, which it is not
        (header, b"b"),                     // its own header has another name
    ];
    for (at, lie) in lies {
        let mut bytes = whole.clone();
        bytes[at..at + lie.len()].copy_from_slice(lie);
        let folder = Folder::with(&bytes);
        assert_eq!(folder.read(&Storage::default(), "a.zip/a.jpg"), error("DamagedArchive"), "{at}: {lie:?}");
    }
    let folder = Folder::with(&whole);
    assert_eq!(folder.read(&Storage::default(), "a.zip/a.jpg"), Ok("x".repeat(500)));
    let large = archive([("a.jpg", &[0; LIMIT as usize + 1][..]), ("b.jpg", b"")]);
    let folder = Folder::with(&large);
    assert_eq!(folder.read(&Storage::default(), "a.zip/a.jpg"), error("TooLarge"));
    assert_eq!(folder.read(&Storage::default(), "a.zip/b.jpg"), error("Empty"));
}

#[test]
fn directory_that_lies_is_refused_before_any_member() {
    let whole = archive([("a.jpg", &b"1"[..]), ("b.jpg", b"2")]);
    let end = whole.len() - 22;
    for (at, lie) in [(end + 10, 3_u8), (end + 10, 1), (end, 0), (end + 4, 1), (end + 6, 1), (end + 12, 0xFF)] {
        let mut bytes = whole.clone();
        bytes[at] = lie;
        if at == end + 10 {
            bytes[end + 8] = lie;
        }
        let folder = Folder::with(&bytes);
        let read = folder.read(&Storage::default(), "a.zip/a.jpg");
        let refused = [error("DamagedArchive"), error("SplitArchive")];
        // The size of the directory is not believed where it starts is known.
        assert!(refused.contains(&read) || (at == end + 12 && read == Ok("1".to_owned())), "{at}: {read:?}");
    }
    for bytes in [&b""[..], b"PK", b"path,id\n", &whole[..whole.len() - 1], &whole[1..]] {
        let read = Folder::with(bytes).read(&Storage::default(), "a.zip/a.jpg");
        // Without its first byte, only the first member is lost.
        assert!(read == error("DamagedArchive"), "{}: {read:?}", bytes.len());
    }
}

#[test]
fn archive_that_changed_is_the_machines_fault() {
    let folder = Folder::with(&archive([("a.jpg", &b"1"[..])]));
    let storage = Storage::default();
    assert_eq!(folder.read(&storage, "a.zip/a.jpg"), Ok("1".to_owned()));
    fs::write(folder.path("b.zip"), archive([("a.jpg", &b"2"[..])])).unwrap();
    fs::rename(folder.path("b.zip"), folder.path("a.zip")).unwrap();
    let changed = error("a.zip was replaced or changed while it was read: run again");
    assert_eq!(folder.read(&storage, "a.zip/a.jpg"), changed);
    assert!(storage.stamp(&Place::Path(folder.path("a.zip/a.jpg")), folder.0.path()).is_err());
    // The next run opens it anew.
    let storage = Storage::default();
    assert_eq!(folder.read(&storage, "a.zip/a.jpg"), Ok("2".to_owned()));
    fs::File::options().append(true).open(folder.path("a.zip")).unwrap().write_all(b"x").unwrap();
    assert_eq!(folder.read(&storage, "a.zip/a.jpg"), changed);
    fs::remove_file(folder.path("a.zip")).unwrap();
    assert_eq!(folder.read(&storage, "a.zip/a.jpg"), error("a.zip was removed while it was read: run again"));
}

#[test]
fn archive_is_opened_beneath_its_root() {
    let folder = Folder::with(&archive([("p/a.jpg", &b"1"[..])]));
    let root = folder.path("root");
    fs::create_dir(&root).unwrap();
    symlink(folder.path("a.zip"), root.join("link.zip")).unwrap();
    let read = |storage: &Storage, path: &Path, root: &Path| {
        storage.read(&Place::Path(path.to_owned()), root, LIMIT).map(|stored| stored.bytes)
    };
    let refused = read(&Storage::default(), &root.join("link.zip/p/a.jpg"), &root);
    assert!(matches!(refused, Err(ReadError::Unavailable(Unavailable::OutsideRoot))), "{refused:?}");
    let refused = read(&Storage::default(), &folder.path("a.zip/p/a.jpg"), &root);
    assert!(matches!(refused, Err(ReadError::Unavailable(Unavailable::OutsideRoot))), "{refused:?}");
    let anywhere = Storage::new(Settings { allow_outside_root: true, ..Settings::default() });
    assert_eq!(read(&anywhere, &root.join("link.zip/p/a.jpg"), &root).unwrap(), b"1");
    // The root may be the archive itself, or a folder in it.
    for root in ["a.zip", "a.zip/p"] {
        assert_eq!(
            read(&Storage::default(), &folder.path("a.zip/p/a.jpg"), &folder.path(root)).unwrap(),
            b"1",
            "{root}"
        );
    }
}

#[test]
fn names_follow_their_mark_and_the_given_encoding() {
    let gbk = encoding_rs::GBK.encode("张三.jpg").0.into_owned();
    // The names are written without a mark.
    let mut bytes = Cursor::new(Vec::new());
    let mut writer = ZipArchiveWriter::new(&mut bytes);
    for name in [gbk.as_slice(), "李四.jpg".as_bytes()] {
        let (mut entry, config) = writer.new_file(rawzip::path::EntryPath::verbatim(name)).start().unwrap();
        let mut data = config.wrap(&mut entry);
        data.write_all(b"1").unwrap();
        let (_, descriptor) = data.finish().unwrap();
        entry.finish(descriptor).unwrap();
    }
    writer.finish().unwrap();
    let folder = Folder::with(&bytes.into_inner());
    let names = |names_in: Option<&str>| {
        let names_in = names_in.map(|name| name.parse().unwrap());
        let archive = Archive::open(&folder.path("a.zip"), None, names_in).unwrap();
        let mut names = Vec::new();
        archive.survey(&mut |entry| names.push(entry.name.clone())).unwrap();
        names
    };
    assert_eq!(names(None), [Err(BadName::UnknownEncoding), Ok("李四.jpg".to_owned())]);
    assert_eq!(names(Some("gbk"))[0], Ok("张三.jpg".to_owned()));
    assert_eq!(names(Some("utf-8")), [Err(BadName::Undecodable), Ok("李四.jpg".to_owned())]);
}

proptest! {
    #[test]
    fn lookup_agrees_with_a_plain_list(names in prop::collection::vec("[aAbB]{1,2}|[ab]/[aA]|\u{e9}|e\u{301}", 1..20), wanted in "[aAbB]{1,2}|[ab]/[aA]|\u{e9}|e\u{301}") {
        let data: Vec<String> = (0..names.len()).map(|n| format!("data {n}")).collect();
        let folder = Folder::with(&archive(names.iter().zip(&data).map(|(name, data)| (name.as_str(), data.as_bytes()))));
        let exact: Vec<usize> = (0..names.len()).filter(|n| names[*n] == wanted).collect();
        let nfc = |name: &str| icu_normalizer::ComposingNormalizerBorrowed::new_nfc().normalize(name).into_owned();
        let similar: Vec<usize> = (0..names.len()).filter(|n| nfc(&names[*n]) == nfc(&wanted)).collect();
        let found = if exact.is_empty() { similar } else { exact };
        let expected = match found[..] {
            [] => error("NotFound"),
            [one] => Ok(data[one].clone()),
            _ => error("AmbiguousMember"),
        };
        prop_assert_eq!(folder.read(&Storage::default(), &format!("a.zip/{wanted}")), expected);
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn listing_in_chunks_finds_every_record_at_its_place(names in prop::collection::vec("[a-z]{1,300}", 1..700)) {
        let folder = Folder::with(&archive(names.iter().map(|name| (name.as_str(), &b"1"[..]))));
        let archive = Arc::new(Archive::open(&folder.path("a.zip"), None, None).unwrap());
        let count = archive.survey(&mut |_| {}).unwrap();
        let listed: Vec<Entry> = Arc::clone(&archive).members(count).map(Result::unwrap).collect();
        prop_assert_eq!(listed.len(), names.len());
        for (entry, name) in listed.iter().zip(&names) {
            prop_assert_eq!(entry.name.as_deref(), Ok(name.as_str()));
            let again = archive.entry_at(entry.at).unwrap().unwrap();
            prop_assert_eq!(again.name.as_deref(), Ok(name.as_str()));
        }
    }
}

proptest! {
    #[test]
    fn damage_is_an_error_or_changes_nothing(
        which in 0_usize..3,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let name = ["python.zip", "python-stream.zip", "prefix-and-comment.zip"][which];
        let mut bytes = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zips").join(name)).unwrap();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        let folder = Folder::with(&bytes);
        let Ok(archive) = Archive::open(&folder.path("a.zip"), None, None).map(Arc::new) else { return Ok(()) };
        let Ok(count) = archive.survey(&mut |_| {}) else { return Ok(()) };
        for entry in Arc::clone(&archive).members(count) {
            let entry = entry.unwrap();
            let Ok(name) = &entry.name else { continue };
            if let Ok(stored) = archive.read(name, Some(entry.at), LIMIT) {
                prop_assert_eq!(stored.stamp, entry.stamp());
                prop_assert_eq!(stored.stamp.size, stored.bytes.len() as u64);
                prop_assert_eq!(stored.stamp.mark, i64::from(rawzip::crc32(&stored.bytes)));
            }
        }
    }
}
