//! The ZIP container of a workbook: its parts by name, each read within a budget of inflated bytes.
//!
//! Sizes in the container's headers are never trusted: what counts is what a part inflates to.

use std::{
    collections::HashMap,
    io::{self, BufReader, Read},
    sync::Arc,
};

use flate2::bufread::DeflateDecoder;
use rawzip::{CompressionMethod, RangeReader, ReaderAt, ZipArchive, ZipArchiveEntryWayfinder, ZipLocator, ZipVerifier};

use super::xml::{Limits, Xml};

/// Most inflated bytes of a part that is read whole, such as the shared strings: ten million of them are half of it.
const MAX_PART_BYTES: u64 = 1 << 30;
/// Elements that any part may have.
const FREE_ELEMENTS: u64 = 1 << 19;
/// More elements per byte of the file. Measured: 3 in shared strings with fonts, 11 in a sheet whose rows differ by a number
/// alone, 1 in what spreadsheets write otherwise. A bomb has up to 250.
const HELD_ELEMENTS_PER_BYTE: u64 = 4;
const STREAMED_ELEMENTS_PER_BYTE: u64 = 12;
/// Most XML parts; a workbook has one per sheet and a few dozen more.
const MAX_PARTS: usize = 10_000;
/// Longest name of a part in bytes.
const MAX_NAME_BYTES: usize = 512;
/// Bytes per read of compressed data.
const CHUNK_BYTES: usize = 32 * 1024;

/// Bytes of a workbook, readable at any position.
pub(in crate::manifest) type Bytes = Arc<dyn ReaderAt + Send + Sync>;

/// An open container.
pub(super) struct Package {
    archive: ZipArchive<Bytes>,
    /// Bytes of the file.
    len: u64,
    /// Parts by lower-case name: names of parts ignore case.
    parts: HashMap<String, Part>,
}

/// Place of a part.
#[derive(Clone, Copy)]
struct Part {
    place: ZipArchiveEntryWayfinder,
    method: CompressionMethod,
    is_encrypted: bool,
}

/// Which limit applies to a part.
#[derive(Clone, Copy)]
pub(super) enum Size {
    /// The part is held in memory.
    Held,
    /// The part is read as a stream.
    Streamed,
}

impl Package {
    /// Reads the directory of a container. The error says what is wrong with it.
    pub(super) fn open(bytes: Bytes, len: u64) -> Result<Self, String> {
        let mut buffer = vec![0; rawzip::MAX_CENTRAL_DIRECTORY_RECORD_SIZE];
        let archive =
            ZipLocator::new().locate_in_reader(bytes, &mut buffer, len).map_err(|(_, error)| damaged(&error))?;
        let mut parts = HashMap::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(|error| damaged(&error))? {
            let path = entry.file_path();
            let Ok(name) = str::from_utf8(path.as_bytes()) else { continue };
            // Some writers use backslashes.
            let name = name.replace('\\', "/").to_lowercase();
            let name = name.trim_start_matches('/');
            // Pictures and other media are never read.
            let is_part = name == "mimetype" || [".xml", ".rels", ".bin"].iter().any(|end| name.ends_with(end));
            if !is_part || name.len() > MAX_NAME_BYTES {
                continue;
            }
            if parts.len() == MAX_PARTS {
                return Err(format!("it has more than {MAX_PARTS} parts"));
            }
            let is_encrypted = entry.flags().is_encrypted();
            let part = Part { place: entry.wayfinder(), method: entry.compression_method(), is_encrypted };
            if parts.insert(name.to_owned(), part).is_some() {
                return Err(format!("it has two parts named {name}"));
            }
        }
        Ok(Self { archive, len, parts })
    }

    /// Whether there is a part with this lower-case name.
    pub(super) fn contains(&self, name: &str) -> bool {
        self.parts.contains_key(name)
    }

    /// Opens a part; `None` if there is none with this name. Elements at `record_depth` and below share one budget.
    pub(super) fn open_part(&self, name: &str, size: Size, record_depth: usize) -> Result<Option<Xml>, String> {
        let Some(part) = self.parts.get(&name.to_lowercase()) else { return Ok(None) };
        if part.is_encrypted {
            return Err(format!("its part {name} is encrypted: remove the password"));
        }
        let entry = self.archive.get_entry(part.place).map_err(|error| damaged(&error))?;
        let (start, end) = entry.compressed_data_range();
        let input = RangeReader::new(Arc::clone(self.archive.get_ref()), start..end);
        let inflated: Box<dyn Read + Send> = match part.method {
            CompressionMethod::STORE => Box::new(input),
            CompressionMethod::DEFLATE => Box::new(DeflateDecoder::new(BufReader::with_capacity(CHUNK_BYTES, input))),
            method => return Err(format!("its part {name} is compressed by {method}: save it again in a spreadsheet")),
        };
        let (total, elements_per_byte) = match size {
            Size::Held => (MAX_PART_BYTES, HELD_ELEMENTS_PER_BYTE),
            Size::Streamed => (u64::MAX, STREAMED_ELEMENTS_PER_BYTE),
        };
        // The directory may claim more than there is.
        let packed = end.saturating_sub(start).min(self.len);
        let limits = Limits { record_depth, packed, elements: FREE_ELEMENTS + elements_per_byte * packed };
        Ok(Some(Xml::new(Budget::new(entry.verifying_reader(inflated), total), limits)))
    }
}

fn damaged(error: &rawzip::Error) -> String {
    format!("its ZIP container is damaged or truncated ({error})")
}

/// A reader that ends with an error when a record or the whole part is too large.
pub(super) struct Budget {
    input: ZipVerifier<Box<dyn Read + Send>>,
    total: u64,
    record: u64,
}

/// Most inflated bytes of one record: a row, or a shared string. A cell holds at most 32,767 characters.
const MAX_RECORD_BYTES: u64 = 8 << 20;

impl Budget {
    fn new(input: ZipVerifier<Box<dyn Read + Send>>, total: u64) -> Self {
        Self { input, total, record: MAX_RECORD_BYTES }
    }

    /// Starts a new record.
    pub(super) fn renew(&mut self) {
        self.record = MAX_RECORD_BYTES;
    }
}

impl Read for Budget {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.total.min(self.record);
        if left == 0 && !buffer.is_empty() {
            let problem = if self.total == 0 {
                format!("a part inflates to more than {} MiB", MAX_PART_BYTES >> 20)
            } else {
                format!("a row or text inflates to more than {} MiB", MAX_RECORD_BYTES >> 20)
            };
            return Err(io::Error::other(problem));
        }
        let most = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let read = self.input.read(&mut buffer[..most])?;
        self.total -= read as u64;
        self.record -= read as u64;
        Ok(read)
    }
}
