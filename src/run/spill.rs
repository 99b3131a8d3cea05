//! Items in the order of their ids, however many: sorted in parts, which are merged from a file without a name.
//!
//! Order: by id, then by row, so that of two rows with one id the first stays the first. The file lies in the checkpoint's
//! folder, has no name by which another could open it, and is gone with the process: a row names a person.

use std::{
    cmp::Ordering,
    collections::{BinaryHeap, binary_heap::PeekMut},
    fs::File,
    io::{self, BufRead, BufReader, BufWriter, Read, Write},
    os::unix::fs::FileExt,
    path::PathBuf,
    sync::Arc,
};

use crate::domain::{FaceGroupCode, Item, MerchantUserId, Origin, PictureRef, PictureUrl};

/// What a part may hold: with what stands beside it, a sixth more.
const PART_BYTES: usize = 8 * 1024 * 1024;
/// Read of a part at once: of 10 million rows there are about a hundred.
const READ_BYTES: usize = 32 * 1024;

/// Takes items in, in any order.
pub(super) struct Spill {
    folder: PathBuf,
    part_bytes: usize,
    /// Items, one behind the other.
    bytes: Vec<u8>,
    /// Where each begins, with the first bytes of its id: most comparisons need no more.
    places: Vec<(u64, usize)>,
    /// What has been sorted so far, one part behind the other.
    file: Option<File>,
    /// Where each part ends.
    ends: Vec<u64>,
}

impl Spill {
    pub(super) fn new(folder: PathBuf) -> Self {
        let (bytes, places, ends) = (Vec::new(), Vec::new(), Vec::new());
        Self { folder, part_bytes: PART_BYTES, bytes, places, file: None, ends }
    }

    /// One more.
    pub(super) fn push(&mut self, item: &Item) -> io::Result<()> {
        if self.bytes.len() >= self.part_bytes {
            self.write_part()?;
        }
        let at = self.bytes.len();
        encode(item, &mut self.bytes);
        let user = item.user.as_str().as_bytes();
        let mut first = [0; 8];
        let known = user.len().min(8);
        first[..known].copy_from_slice(&user[..known]);
        self.places.push((u64::from_be_bytes(first), at));
        Ok(())
    }

    fn write_part(&mut self) -> io::Result<()> {
        let Self { folder, part_bytes: _, bytes, places, file, ends } = self;
        places.sort_unstable_by(|(a, a_at), (b, b_at)| {
            a.cmp(b).then_with(|| key(&bytes[a_at + LENGTH..]).cmp(&key(&bytes[b_at + LENGTH..])))
        });
        let file = match file {
            Some(file) => file,
            None => file.insert(tempfile::tempfile_in(folder)?),
        };
        let mut file = BufWriter::new(file);
        for (_, at) in places.drain(..) {
            let length = length_at(&bytes[at..]);
            file.write_all(&bytes[at..at + LENGTH + length])?;
        }
        file.flush()?;
        ends.push(ends.last().copied().unwrap_or_default() + bytes.len() as u64);
        bytes.clear();
        Ok(())
    }

    /// All of them, in their order.
    pub(super) fn merge(mut self) -> io::Result<Merged> {
        self.write_part()?;
        let mut heads = BinaryHeap::with_capacity(self.ends.len());
        let Some(file) = self.file.map(Arc::new) else { return Ok(Merged { heads }) };
        let mut at = 0;
        for end in self.ends {
            let part = BufReader::with_capacity(READ_BYTES, Part { file: file.clone(), at, end });
            at = end;
            let mut head = Head { part, record: Vec::new() };
            if head.advance()? {
                heads.push(head);
            }
        }
        Ok(Merged { heads })
    }
}

/// Gives items in their order.
pub(super) struct Merged {
    heads: BinaryHeap<Head>,
}

impl Iterator for Merged {
    type Item = io::Result<Item>;

    fn next(&mut self) -> Option<io::Result<Item>> {
        let mut head = self.heads.peek_mut()?;
        let item = decode(&head.record);
        match head.advance() {
            Ok(true) => {}
            Ok(false) => {
                PeekMut::pop(head);
            }
            Err(error) => return Some(Err(error)),
        }
        Some(item)
    }
}

/// A part of the file.
struct Part {
    file: Arc<File>,
    at: u64,
    end: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.end - self.at).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..left], self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

/// A part, and the first of its items that has not been given.
struct Head {
    part: BufReader<Part>,
    record: Vec<u8>,
}

impl Head {
    /// Is there another one?
    fn advance(&mut self) -> io::Result<bool> {
        if self.part.fill_buf()?.is_empty() && self.part.get_ref().at == self.part.get_ref().end {
            return Ok(false);
        }
        let mut length = [0; LENGTH];
        self.part.read_exact(&mut length)?;
        self.record.resize(length_at(&length), 0);
        self.part.read_exact(&mut self.record)?;
        Ok(true)
    }
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        key(&self.record) == key(&other.record)
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    /// The first is the greatest, for the heap.
    fn cmp(&self, other: &Self) -> Ordering {
        key(&other.record).cmp(&key(&self.record))
    }
}

/// Of what stands before a text, in bytes.
const LENGTH: usize = size_of::<u32>();

fn length_at(bytes: &[u8]) -> usize {
    let length = bytes.first_chunk().map_or(0, |length| u32::from_be_bytes(*length));
    length as usize
}

fn put(text: &[u8], to: &mut Vec<u8>) {
    let length = u32::try_from(text.len()).expect("a row is shorter than 4 GiB");
    to.extend_from_slice(&length.to_be_bytes());
    to.extend_from_slice(text);
}

/// By what an item is sorted: its id and its row. They stand at its beginning.
fn key(record: &[u8]) -> (&[u8], &[u8]) {
    let user = length_at(record);
    let rest = record.get(LENGTH..).unwrap_or_default();
    let (user, rest) = rest.split_at(user.min(rest.len()));
    (user, rest.get(..size_of::<u64>()).unwrap_or_default())
}

fn encode(item: &Item, to: &mut Vec<u8>) {
    let Item { row, group, user, picture, extra, origin } = item;
    let at = to.len();
    to.extend_from_slice(&[0; LENGTH]);
    put(user.as_str().as_bytes(), to);
    to.extend_from_slice(&row.to_be_bytes());
    put(group.as_str().as_bytes(), to);
    match picture {
        PictureRef::Path(path) => {
            to.push(b'p');
            put(path.as_os_str().as_encoded_bytes(), to);
        }
        PictureRef::Url(url) => {
            to.push(b'u');
            put(url.0.as_bytes(), to);
        }
    }
    if let Some(Origin { source, row, was_duplicate }) = origin.as_deref() {
        to.push(if *was_duplicate { b'd' } else { b'o' });
        put(source.as_bytes(), to);
        to.extend_from_slice(&row.to_be_bytes());
    } else {
        to.push(b'-');
    }
    for (name, value) in extra {
        put(name.as_bytes(), to);
        put(value.as_bytes(), to);
    }
    let length = u32::try_from(to.len() - at - LENGTH).expect("a row is shorter than 4 GiB");
    to[at..at + LENGTH].copy_from_slice(&length.to_be_bytes());
}

/// What was written is read, unless the disk lies.
fn decode(record: &[u8]) -> io::Result<Item> {
    let mut rest = Rest(record);
    let item = (|| {
        let user = MerchantUserId::parse(rest.text()?).ok()?;
        let row = rest.number()?;
        let group = FaceGroupCode::parse(rest.text()?).ok()?;
        let picture = match rest.take(1)? {
            b"p" => {
                use std::os::unix::ffi::OsStrExt;
                PictureRef::Path(std::ffi::OsStr::from_bytes(rest.bytes()?).into())
            }
            _ => PictureRef::Url(PictureUrl(rest.text()?)),
        };
        let origin = match rest.take(1)? {
            b"-" => None,
            kind => {
                let was_duplicate = kind == b"d";
                Some(Box::new(Origin { source: rest.text()?, row: rest.number()?, was_duplicate }))
            }
        };
        let mut extra = Vec::new();
        while !rest.0.is_empty() {
            extra.push((rest.text()?, rest.text()?));
        }
        Some(Item { row, group, user, picture, extra, origin })
    })();
    item.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a row comes back from the disk as another one"))
}

/// Of a record.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = length_at(self.take(LENGTH)?);
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.take(size_of::<u64>())?.try_into().ok().map(u64::from_be_bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn item() -> impl Strategy<Value = Item> {
        let extra = proptest::collection::vec((".{0,9}", ".{0,9}"), 0..3);
        (any::<u64>(), "[a-c张]{1,9}", "[gh]{1,3}", any::<bool>(), proptest::option::of(any::<(u64, bool)>()), extra)
            .prop_map(|(row, user, group, is_path, origin, extra)| Item {
                row,
                picture: if is_path {
                    PictureRef::Path(format!("/photos/{user}.jpg").into())
                } else {
                    PictureRef::Url(PictureUrl(format!("https://h/{user}")))
                },
                user: MerchantUserId::parse(user).unwrap(),
                group: FaceGroupCode::parse(group).unwrap(),
                extra,
                origin: origin
                    .map(|(row, was_duplicate)| Box::new(Origin { source: "/m.csv".into(), row, was_duplicate })),
            })
    }

    proptest! {
        #[test]
        fn items_come_back_as_they_were_in_the_order_of_ids_and_rows(
            items in proptest::collection::vec(item(), 0..300), part_bytes in 1_usize..5_000,
        ) {
            let dir = tempfile::tempdir().unwrap();
            let mut spill = Spill { part_bytes, ..Spill::new(dir.path().to_owned()) };
            items.iter().for_each(|item| spill.push(item).unwrap());
            prop_assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "a file has a name");
            let merged: Vec<Item> = spill.merge().unwrap().map(Result::unwrap).collect();
            let mut expected = items;
            expected.sort_by(|a, b| (a.user.as_str(), a.row).cmp(&(b.user.as_str(), b.row)));
            let keys = |items: &[Item]| items.iter().map(|item| (item.user.clone(), item.row)).collect::<Vec<_>>();
            prop_assert_eq!(keys(&merged), keys(&expected));
            // Of two with one id in one row, which no manifest has, either may be the first.
            let as_texts = |items: &[Item]| {
                let mut texts: Vec<String> = items.iter().map(|item| format!("{item:?}")).collect();
                texts.sort();
                texts
            };
            prop_assert_eq!(as_texts(&merged), as_texts(&expected));
        }
    }

    #[test]
    fn damaged_record_is_an_error_and_no_panic() {
        let mut bytes = Vec::new();
        let whole = Item {
            row: 7,
            group: FaceGroupCode::parse("g").unwrap(),
            user: MerchantUserId::parse("u").unwrap(),
            picture: PictureRef::Path("/a.jpg".into()),
            extra: vec![("a".into(), "b".into())],
            origin: None,
        };
        encode(&whole, &mut bytes);
        let record = &bytes[LENGTH..];
        assert_eq!(decode(record).unwrap(), whole);
        // Where it is cut before its last field, there is no last field.
        let broken = (0..record.len()).filter(|&at| decode(&record[..at]).is_err()).count();
        assert_eq!(broken, record.len() - 1);
    }
}
