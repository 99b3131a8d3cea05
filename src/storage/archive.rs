//! ZIP archives, read in place: nothing is unpacked.
//!
//! The archive's directory says what there is. Before any byte of a member is used, its own header must have the same name,
//! and size and CRC-32 must be those of the directory; after that the archive must still be the file that was opened. So an
//! archive that is replaced or written meanwhile never gives one person another's photo.
//!
//! Whatever an archive claims, a member costs at most the bytes that may be read, and memory is only taken for data that is
//! there.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rawzip::{
    CompressionMethod, EntryFlags, ErrorKind, MAX_CENTRAL_DIRECTORY_RECORD_SIZE, RECOMMENDED_BUFFER_SIZE, ReaderAt,
    ZipArchive, ZipArchiveEntryWayfinder, ZipFileHeaderRecord, ZipLocalFileHeader, ZipLocator,
};

use super::{
    ReadError, Stored, Unavailable,
    index::{Found, Index},
    name::{self, BadName},
};
use crate::{
    domain::{Encoding, FileStamp},
    files::{FileId, beneath},
};

/// Size of a record in the directory without its name, extra fields and comment.
const RECORD_BYTES: u64 = 46;
/// The same of a member's own header.
const HEADER_BYTES: u64 = 30;
/// Buffer for one record or header; few have longer names.
const USUAL_RECORD: usize = 1024;
/// Members that are listed at once.
const CHUNK: usize = 256;

/// An open archive.
#[derive(Debug)]
pub struct Archive {
    path: PathBuf,
    zip: ZipArchive<Window>,
    identity: Identity,
    names_in: Option<Encoding>,
    index: OnceLock<Result<Index, Unavailable>>,
}

/// What a member is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MemberKind {
    /// A file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
}

/// A record of the archive's directory.
#[derive(Debug)]
pub struct Entry {
    /// Path of the member in the archive.
    pub name: Result<String, BadName>,
    /// Offset of this record.
    pub at: u64,
    /// Kind of the member.
    pub kind: MemberKind,
    raw_name: Vec<u8>,
    flags: EntryFlags,
    method: CompressionMethod,
    way: ZipArchiveEntryWayfinder,
    crc: u32,
    /// Bytes of the record.
    length: u64,
}

impl Entry {
    fn of(record: &ZipFileHeaderRecord<'_>, shift: u64, names_in: Option<Encoding>) -> Self {
        let raw_name = record.file_path().as_bytes().to_vec();
        let variable =
            raw_name.len() + record.extra_fields().remaining_bytes().len() + record.comment().as_bytes().len();
        let decoded = name::decode(record, names_in);
        let is_folder = record.is_dir() || decoded.as_deref().is_ok_and(name::is_folder);
        Self {
            name: decoded.and_then(|name| name::normalize(&name)),
            at: record.central_directory_offset().saturating_add(shift),
            kind: match record.mode().is_symlink() {
                true => MemberKind::Link,
                false if is_folder => MemberKind::Folder,
                false => MemberKind::File,
            },
            raw_name,
            flags: record.flags(),
            method: record.compression_method(),
            way: record.wayfinder(),
            crc: record.crc32(),
            length: RECORD_BYTES + variable as u64,
        }
    }

    /// The name as far as it can be shown.
    pub fn shown_name(&self) -> String {
        match &self.name {
            Ok(name) => name.clone(),
            Err(_) => String::from_utf8_lossy(&self.raw_name).into_owned(),
        }
    }

    /// Stamp of the member.
    pub fn stamp(&self) -> FileStamp {
        FileStamp { size: self.way.uncompressed_size_hint(), mark: i64::from(self.crc) }
    }
}

/// The archive's file from some offset on. rawzip reads a directory from its start only; with a shift it reads one record.
#[derive(Debug, Clone)]
struct Window {
    file: Arc<File>,
    size: u64,
    shift: u64,
}

impl ReaderAt for Window {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match offset.checked_add(self.shift).filter(|at| *at < self.size) {
            Some(at) => self.file.read_at(buffer, at),
            None => Ok(0),
        }
    }
}

/// The file that was opened, as it was then.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    file: FileId,
    size: u64,
    mtime: (i64, i64),
}

impl Identity {
    fn of(found: &Metadata) -> Self {
        Self { file: FileId::of(found), size: found.len(), mtime: (found.mtime(), found.mtime_nsec()) }
    }
}

/// Counts what a directory claims, to recognize one that can't be true.
#[derive(Debug, Default)]
pub(super) struct Claims {
    members: u64,
    bytes: u64,
}

impl Claims {
    pub(super) fn add(&mut self, entry: &Entry) {
        self.members += 1;
        let header = HEADER_BYTES + entry.raw_name.len() as u64;
        self.bytes = self.bytes.saturating_add(entry.way.compressed_size_hint()).saturating_add(header);
    }
}

impl Archive {
    /// Opens an archive. `names_in`: encoding of names that are not marked as UTF-8.
    pub fn open(path: &Path, root: Option<&Path>, names_in: Option<Encoding>) -> Result<Self, ReadError> {
        let file = beneath::open(path, root).map_err(|error| super::file::open_error(error, path, root))?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(Unavailable::NotAFile.into());
        }
        let window = Window { file: Arc::new(file), size: metadata.len(), shift: 0 };
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let zip = ZipLocator::new()
            .locate_in_reader(window, &mut buffer, metadata.len())
            .map_err(|(_, error)| damage(error, path))?;
        let archive =
            Self { path: path.to_owned(), zip, identity: Identity::of(&metadata), names_in, index: OnceLock::new() };
        archive.check_disks()?;
        Ok(archive)
    }

    /// Path of the archive.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses one part of a split archive: the others hold most of its members.
    fn check_disks(&self) -> Result<(), ReadError> {
        let mut disks = [0; 4];
        let read = self.zip.get_ref().read_exact_at(&mut disks, self.zip.eocd_offset() + 4);
        read.map_err(|error| damage(error.into(), &self.path))?;
        let [a, b, c, d] = disks;
        let is_whole = |disk| matches!(disk, 0 | u16::MAX);
        if is_whole(u16::from_le_bytes([a, b])) && is_whole(u16::from_le_bytes([c, d])) {
            return Ok(());
        }
        Err(Unavailable::SplitArchive { archive: self.shown() }.into())
    }

    /// Passes every member to `each` and checks that the directory can be true. Returns the number of members.
    pub fn survey(&self, each: &mut dyn FnMut(&Entry)) -> Result<u64, ReadError> {
        let mut buffer = vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let mut entries = self.zip.entries(&mut buffer);
        let mut claims = Claims::default();
        while let Some(record) = entries.next_entry().map_err(|error| damage(error, &self.path))? {
            let entry = Entry::of(&record, 0, self.names_in);
            claims.add(&entry);
            each(&entry);
        }
        self.check_claims(&claims)?;
        Ok(claims.members)
    }

    fn check_claims(&self, claims: &Claims) -> Result<(), ReadError> {
        let damaged = |found: &str| Err(Unavailable::damaged(&self.path, found).into());
        // An archive of more than 65,535 members without ZIP64 counts them modulo 65,536.
        if (claims.members ^ self.zip.entries_hint()) & 0xFFFF != 0 {
            return damaged("its directory is incomplete");
        }
        if claims.bytes > self.zip.directory_offset() {
            return damaged("its members overlap, as in a ZIP bomb");
        }
        Ok(())
    }

    /// Members in the order of the directory.
    pub fn members(self: Arc<Self>, count: u64) -> Members {
        let (next, buffer) = (self.zip.directory_offset(), vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE]);
        Members { archive: self, next, left: count, buffer, chunk: Vec::new().into_iter() }
    }

    /// The archive as it is read from a record on.
    fn shifted(&self, at: u64) -> Option<(ZipArchive<Window>, u64)> {
        let shift = at.checked_sub(self.zip.directory_offset())?;
        let mut zip = self.zip.clone();
        zip.get_mut().shift = shift;
        Some((zip, shift))
    }

    /// The record at this offset, if there is one.
    pub(super) fn entry_at(&self, at: u64) -> Result<Option<Entry>, ReadError> {
        let Some((zip, shift)) = self.shifted(at).filter(|_| at < self.zip.eocd_offset()) else { return Ok(None) };
        let read = |buffer: &mut [u8]| {
            let mut entries = zip.entries(buffer);
            entries.next_entry().map(|record| record.map(|record| Entry::of(&record, shift, self.names_in)))
        };
        let found = match read(&mut [0; USUAL_RECORD]) {
            Err(error) if matches!(error.kind(), ErrorKind::BufferTooSmall { .. }) => {
                read(&mut vec![0; MAX_CENTRAL_DIRECTORY_RECORD_SIZE])
            }
            found => found,
        };
        match found.map_err(|error| damage(error, &self.path)) {
            Ok(entry) => Ok(entry),
            // Another version of the archive has something else there.
            Err(ReadError::Unavailable(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Finds a member by the hint where its record is, else by name.
    pub fn find(&self, name: &str, at: Option<u64>) -> Result<Entry, ReadError> {
        if let Some(entry) = at.map(|at| self.entry_at(at)).transpose()?.flatten()
            && entry.name.as_deref() == Ok(name)
        {
            return Ok(entry);
        }
        match self.index()?.find(self, name)? {
            Found::One(entry) => Ok(*entry),
            Found::Several => Err(Unavailable::AmbiguousMember.into()),
            Found::None { advice } => {
                let archive = self.path.file_name().unwrap_or_default().to_string_lossy();
                Err(Unavailable::NotFound { path: format!("{archive}/{name}"), advice }.into())
            }
        }
    }

    fn index(&self) -> Result<&Index, ReadError> {
        if let Some(index) = self.index.get() {
            return Ok(index.as_ref().map_err(Clone::clone)?);
        }
        let index = match Index::build(self) {
            Ok(index) => Ok(index),
            Err(ReadError::Unavailable(unavailable)) => Err(unavailable),
            // The machine's fault, so the next photo tries again.
            Err(error @ (ReadError::Io(_) | ReadError::Fatal(_))) => return Err(error),
        };
        Ok(self.index.get_or_init(|| index).as_ref().map_err(Clone::clone)?)
    }

    /// Number of members, as far as the size of the directory allows it.
    pub(super) fn plausible_members(&self) -> u64 {
        let directory = self.zip.eocd_offset().saturating_sub(self.zip.directory_offset());
        self.zip.entries_hint().min(directory / RECORD_BYTES)
    }

    /// Reads a member of at most `limit` bytes.
    pub fn read(&self, name: &str, at: Option<u64>, limit: u64) -> Result<Stored, ReadError> {
        let stored = self.find(name, at).and_then(|entry| self.inflate(&entry, limit));
        self.check_unchanged()?;
        stored
    }

    /// Stamp of a member.
    pub fn stamp(&self, name: &str, at: Option<u64>) -> Result<FileStamp, ReadError> {
        let stamp = self.find(name, at).map(|entry| entry.stamp());
        self.check_unchanged()?;
        stamp
    }

    /// First bytes of a member, unchecked; fewer if it has no more, or can't be read.
    pub fn head(&self, entry: &Entry, bytes: u64) -> Result<Vec<u8>, ReadError> {
        let mut head = Vec::new();
        match self
            .open_member(entry, bytes)
            .and_then(|mut data| data.read_to_end(&mut head).map_err(|error| damage(error.into(), &self.path)))
        {
            Ok(_) | Err(ReadError::Unavailable(_)) => Ok(head),
            Err(error) => Err(error),
        }
    }

    /// Checks that the archive is still the file that was opened, as it was.
    pub fn check_unchanged(&self) -> Result<(), ReadError> {
        match self.path.metadata() {
            Ok(found) if Identity::of(&found) == self.identity => Ok(()),
            Ok(_) => Err(self.changed("replaced or changed").into()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(self.changed("removed").into()),
            Err(error) => Err(error.into()),
        }
    }

    fn changed(&self, how: &str) -> io::Error {
        io::Error::other(format!("{} was {how} while it was read: run again", self.shown()))
    }

    fn shown(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
    }

    fn inflate(&self, entry: &Entry, limit: u64) -> Result<Stored, ReadError> {
        let stamp = entry.stamp();
        match stamp.size {
            0 => return Err(Unavailable::Empty.into()),
            size if size > limit => return Err(Unavailable::TooLarge { size, limit }.into()),
            _ => {}
        }
        let mut bytes = Vec::with_capacity(usize::try_from(stamp.size).unwrap_or(0) + 1);
        let read = self.open_member(entry, stamp.size + 1)?.read_to_end(&mut bytes);
        read.map_err(|error| damage(error.into(), &self.path))?;
        Ok(Stored { bytes, stamp })
    }

    /// Opens a member's data. Reading `size + 1` bytes of it checks size and CRC-32.
    fn open_member(&self, entry: &Entry, bytes: u64) -> Result<io::Take<Box<dyn Read + '_>>, ReadError> {
        if entry.flags.is_encrypted() {
            return Err(Unavailable::EncryptedMember.into());
        }
        let member = self.zip.get_entry(entry.way).map_err(|error| damage(error, &self.path))?;
        let is_of_entry = |header: ZipLocalFileHeader<'_>| header.file_path().as_bytes() == entry.raw_name;
        let checked = match member.local_header(&mut [0; USUAL_RECORD]).map(is_of_entry) {
            Err(error) => match *error.kind() {
                ErrorKind::BufferTooSmall { required } => member.local_header(&mut vec![0; required]).map(is_of_entry),
                _ => Err(error),
            },
            checked => checked,
        };
        if !checked.map_err(|error| damage(error, &self.path))? {
            return Err(
                Unavailable::damaged(&self.path, "its directory and a member's header differ in the name").into()
            );
        }
        let packed = member.reader();
        let data: Box<dyn Read> = match entry.method {
            CompressionMethod::STORE => Box::new(member.verifying_reader(packed)),
            CompressionMethod::DEFLATE => Box::new(member.verifying_reader(flate2::read::DeflateDecoder::new(packed))),
            other => {
                let method = other.name().map_or_else(|| format!("method {}", other.as_u16()), str::to_owned);
                return Err(Unavailable::UnsupportedMethod { method }.into());
            }
        };
        Ok(data.take(bytes))
    }
}

/// Iterator of an archive's members.
pub struct Members {
    archive: Arc<Archive>,
    next: u64,
    left: u64,
    buffer: Vec<u8>,
    chunk: std::vec::IntoIter<Entry>,
}

impl Members {
    fn read_chunk(&mut self) -> Result<Vec<Entry>, ReadError> {
        let archive = Arc::clone(&self.archive);
        let failed = |error| damage(error, &archive.path);
        let Some((zip, shift)) = archive.shifted(self.next) else { return Ok(Vec::new()) };
        let mut entries = zip.entries(&mut self.buffer);
        let mut chunk = Vec::with_capacity(CHUNK);
        while chunk.len() < CHUNK && self.left > 0 {
            let Some(record) = entries.next_entry().map_err(failed)? else { break };
            let entry = Entry::of(&record, shift, archive.names_in);
            self.next = entry.at + entry.length;
            self.left -= 1;
            chunk.push(entry);
        }
        Ok(chunk)
    }
}

impl Iterator for Members {
    type Item = Result<Entry, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.chunk.len() == 0 && self.left > 0 {
            match self.read_chunk() {
                Ok(chunk) => self.chunk = chunk.into_iter(),
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            }
        }
        self.chunk.next().map(Ok)
    }
}

/// Attributes a failure to the archive or to the machine.
pub(super) fn damage(error: rawzip::Error, archive: &Path) -> ReadError {
    let found = match error.into_kind() {
        ErrorKind::IO(error) if error.raw_os_error().is_some() => return error.into(),
        ErrorKind::IO(error) => match error.get_ref().and_then(|inner| inner.downcast_ref::<rawzip::Error>()) {
            Some(inner) => describe(inner.kind()),
            None if error.kind() == io::ErrorKind::UnexpectedEof => "a member is cut off".to_owned(),
            None => "a member's data can't be unpacked".to_owned(),
        },
        kind => describe(&kind),
    };
    Unavailable::damaged(archive, &found).into()
}

fn describe(kind: &ErrorKind) -> String {
    match kind {
        ErrorKind::MissingEndOfCentralDirectory => "its end is missing, or it is no ZIP archive".to_owned(),
        ErrorKind::InvalidChecksum { .. } => "a member's CRC-32 is wrong".to_owned(),
        ErrorKind::InvalidSize { .. } => "a member's size is wrong".to_owned(),
        ErrorKind::Eof => "it is cut off".to_owned(),
        other => other.to_string(),
    }
}
