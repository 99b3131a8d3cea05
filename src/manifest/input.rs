//! Opens a manifest's bytes, from a file or from standard input, and decompresses them. Reading is streamed: memory holds
//! one buffer, whatever size a compressed file expands to.
//!
//! gzip and Zstandard data are also recognized by their first bytes, so a compressed file may have a plain name. Zeros after
//! compressed data are padding from tapes and block devices, and are ignored.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    str::FromStr,
};

use super::{SourceError, text::read_head};

/// Format of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated values with a header.
    Csv,
    /// Tab-separated values with a header.
    Tsv,
    /// One JSON object per line.
    JsonLines,
    /// A JSON array of objects, or a sequence of objects.
    Json,
    /// A sheet of an .xlsx workbook.
    Sheet,
}

/// Compression of a manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Compression {
    /// Not compressed.
    None,
    /// gzip with one or more members.
    Gzip,
    /// Zstandard with one or more frames.
    Zstd,
}

/// The `--input-format` flag, for standard input or a file with another name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileFormat {
    /// Format of the uncompressed text.
    pub format: Format,
    /// Compression of the file.
    pub compression: Compression,
}

impl FileFormat {
    /// Format by the extensions of a file's name.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let (name, compression) = match name.rsplit_once('.') {
            Some((name, "gz")) => (name, Compression::Gzip),
            Some((name, "zst")) => (name, Compression::Zstd),
            Some(_) | None => (name.as_str(), Compression::None),
        };
        let format = match name.rsplit('.').next()? {
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "jsonl" | "ndjson" => Format::JsonLines,
            "json" => Format::Json,
            "xlsx" | "xlsm" => Format::Sheet,
            _ => return None,
        };
        Some(Self { format, compression })
    }
}

impl FromStr for FileFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::from_name(text)
            .ok_or("expected csv, tsv, jsonl, ndjson or json, optionally followed by .gz or .zst, or xlsx")
    }
}

/// Source of the bytes.
pub(super) type Input = Box<dyn Read + Send>;

/// Opens a file, or standard input for `None`.
pub(super) fn open(path: Option<&Path>, compression: Compression) -> Result<Input, SourceError> {
    let shown = path.unwrap_or(Path::new("-"));
    let unreadable = |source| SourceError::Unreadable { path: shown.to_owned(), source };
    let file = path.map(File::open).transpose().map_err(unreadable)?;
    let input: Input = match file {
        Some(file) => Box::new(file),
        None => Box::new(io::stdin()),
    };
    decompress(input, compression).map_err(unreadable)
}

/// Takes a stream, which `name` is for errors.
pub(super) fn from_stream(input: Input, compression: Compression, name: &Path) -> Result<Input, SourceError> {
    decompress(input, compression).map_err(|source| SourceError::Unreadable { path: name.to_owned(), source })
}

/// Decompresses the input if its name or its first bytes say that it is compressed.
fn decompress(mut input: Input, compression: Compression) -> io::Result<Input> {
    let head = read_head(&mut input, 4)?;
    let compression = match compression {
        Compression::None if head.starts_with(b"\x1F\x8B\x08") => Compression::Gzip,
        Compression::None if head.starts_with(b"\x28\xB5\x2F\xFD") => Compression::Zstd,
        Compression::None | Compression::Gzip | Compression::Zstd => compression,
    };
    let input: Input = Box::new(Cursor::new(head).chain(input));
    Ok(match compression {
        Compression::None => input,
        Compression::Gzip => {
            Box::new(Decompressor::new("gzip", input, |input| Ok(Member::Gzip(flate2::bufread::GzDecoder::new(input)))))
        }
        Compression::Zstd => Box::new(Decompressor::new("Zstandard", input, |input| {
            Ok(Member::Zstd(zstd::stream::read::Decoder::with_buffer(input)?.single_frame()))
        })),
    })
}

/// Decoder of one gzip member or Zstandard frame.
enum Member {
    Gzip(flate2::bufread::GzDecoder<BufReader<Input>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Input>>),
}

/// Decompresses all members in turn and explains errors.
struct Decompressor {
    name: &'static str,
    open: fn(BufReader<Input>) -> io::Result<Member>,
    /// `None` after an error.
    state: Option<State>,
}

enum State {
    InMember(Member),
    BetweenMembers(BufReader<Input>),
}

impl Decompressor {
    fn new(name: &'static str, input: Input, open: fn(BufReader<Input>) -> io::Result<Member>) -> Self {
        // Open the first member even if the input is empty: that is an error, not an empty manifest.
        let state = open(BufReader::with_capacity(64 * 1024, input)).ok().map(State::InMember);
        Self { name, open, state }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        if kind == io::ErrorKind::Interrupted {
            return error;
        }
        // Zstandard's default limit for decoders is a window of 128 MiB.
        if error.to_string().contains("too much memory") {
            return io::Error::new(
                kind,
                "its Zstandard data needs more than 128 MiB to decompress (zstd --long=28 and above): compress it again \
                 without --long, or use zstd -dc --long=31 FILE | face-enroll ... - --input-format csv",
            );
        }
        io::Error::new(kind, format!("its {} data is damaged or truncated: {error}", self.name))
    }

    /// Skips zeros. Returns whether another member follows.
    fn skip_padding(input: &mut impl BufRead) -> io::Result<bool> {
        loop {
            let bytes = input.fill_buf()?;
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            if zeros < bytes.len() || bytes.is_empty() {
                let is_more = !bytes.is_empty();
                input.consume(zeros);
                return Ok(is_more);
            }
            input.consume(zeros);
        }
    }
}

impl Read for Decompressor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state.take() {
                Some(State::InMember(mut member)) => {
                    let read = match &mut member {
                        Member::Gzip(decoder) => decoder.read(buffer),
                        Member::Zstd(decoder) => decoder.read(buffer),
                    };
                    match read {
                        Ok(0) => {
                            self.state = Some(State::BetweenMembers(match member {
                                Member::Gzip(decoder) => decoder.into_inner(),
                                Member::Zstd(decoder) => decoder.finish(),
                            }));
                        }
                        read => {
                            self.state = Some(State::InMember(member));
                            return read.map_err(|error| self.explain(error));
                        }
                    }
                }
                Some(State::BetweenMembers(mut input)) => {
                    let is_more = Self::skip_padding(&mut input);
                    match is_more {
                        Ok(true) => self.state = Some(State::InMember((self.open)(input)?)),
                        end => {
                            self.state = Some(State::BetweenMembers(input));
                            return end.map(|_| 0);
                        }
                    }
                }
                None => return Err(io::Error::other(format!("can't decompress its {} data", self.name))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::manifest::{open as open_source, test_support::settings};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// The ids in a manifest, or its error.
    fn read(name: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let shown = |error: SourceError| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {cause}").replace(&*path.to_string_lossy(), name)
        };
        let rows = open_source(&path, &settings()).map_err(shown)?;
        rows.map(|row| row.map_err(shown).map(|row| row.unwrap().user.to_string())).collect()
    }

    #[test]
    fn formats_are_recognized_by_extension_in_any_case() {
        for (name, format, compression) in [
            ("a.csv", Format::Csv, Compression::None),
            ("A.TSV.GZ", Format::Tsv, Compression::Gzip),
            ("a.b.jsonl.zst", Format::JsonLines, Compression::Zstd),
            ("ndjson", Format::JsonLines, Compression::None),
            ("a.json.gz", Format::Json, Compression::Gzip),
            ("a.XLSX", Format::Sheet, Compression::None),
            ("a.xlsm", Format::Sheet, Compression::None),
        ] {
            assert_eq!(FileFormat::from_name(name), Some(FileFormat { format, compression }), "{name}");
        }
        assert!(["a.xls", "a.ods", "a.gz", "", "csv.zip"].iter().all(|name| FileFormat::from_name(name).is_none()));
    }

    #[test]
    fn all_members_of_compressed_manifests_are_read() {
        let (head, tail) = (&b"path,id\na.jpg,u1\n"[..], &b"b.jpg,u2\n"[..]);
        assert_eq!(read("m.csv.gz", &[gzip(head), gzip(tail)].concat()).unwrap(), ["u1", "u2"]);
        let zstd = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
        assert_eq!(read("m.csv.zst", &[zstd(head), zstd(tail)].concat()).unwrap(), ["u1", "u2"]);
        assert_eq!(read("m.jsonl.gz", &gzip(b"{\"path\":\"a.jpg\"}\n")).unwrap(), ["a"]);
    }

    #[test]
    fn truncated_or_fake_compressed_data_is_reported() {
        let mut long = String::from("path,id\n");
        (0..50_000).for_each(|n| long.push_str(&format!("{n}.jpg,u{n}\n")));
        let whole = gzip(long.as_bytes());
        let error = read("m.csv.gz", &whole[..whole.len() / 2]).unwrap_err();
        assert!(error.starts_with("can't read m.csv.gz: its gzip data is damaged or truncated"), "{error}");
        let whole = zstd::encode_all(long.as_bytes(), 3).unwrap();
        let error = read("m.csv.zst", &whole[..whole.len() / 2]).unwrap_err();
        assert!(error.contains("its Zstandard data is damaged or truncated"), "{error}");
        for name in ["m.csv.gz", "m.csv.zst"] {
            let error = read(name, b"path,id\na.jpg,u1\n").unwrap_err();
            assert!(error.contains("data is damaged or truncated"), "{error}");
        }
    }

    #[test]
    fn zeros_after_compressed_data_are_ignored() {
        let (head, tail) = (&b"path,id\na.jpg,u1\n"[..], &b"b.jpg,u2\n"[..]);
        let zeros = vec![0; 100_000];
        let zstd = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
        for (name, pack) in [("m.csv.gz", &gzip as &dyn Fn(&[u8]) -> Vec<u8>), ("m.csv.zst", &zstd)] {
            assert_eq!(read(name, &[pack(head), zeros.clone()].concat()).unwrap(), ["u1"]);
            assert_eq!(read(name, &[pack(head), zeros.clone(), pack(tail), vec![0]].concat()).unwrap(), ["u1", "u2"]);
            let error = read(name, &[pack(head), zeros.clone(), b"b.jpg,u2\n".to_vec()].concat()).unwrap_err();
            assert!(error.contains("data is damaged or truncated"), "{error}");
        }
    }

    #[test]
    fn compressed_data_with_a_plain_name_is_decompressed_once() {
        let text = &b"path,id\na.jpg,u1\n"[..];
        assert_eq!(read("m.csv", &gzip(text)).unwrap(), ["u1"]);
        assert_eq!(read("m.csv", &zstd::encode_all(text, 3).unwrap()).unwrap(), ["u1"]);
        let error = read("m.csv.gz", &gzip(&gzip(text))).unwrap_err();
        assert!(error.contains("m.csv.gz is gzip data inside compressed data: decompress it once"), "{error}");
    }

    #[test]
    fn large_zstd_window_is_refused_with_advice() {
        // A frame's header that announces a window of 2 GiB, as zstd --long=31 writes it to a pipe, and an empty block.
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8, 0x01, 0x00, 0x00];
        let error = read("m.csv.zst", &frame).unwrap_err();
        assert!(error.contains("more than 128 MiB to decompress") && error.contains("zstd -dc --long=31"), "{error}");
    }

    #[test]
    fn other_files_named_csv_are_recognized() {
        for (bytes, words) in [
            (
                &b"PK\x03\x04\x14\0\x06\0[Content_Types].xml"[..],
                "is an .xlsx workbook: rename it to .xlsx, or give --input-format xlsx",
            ),
            (b"<html><body><table>", "is a web page (HTML)"),
            (b"{\"path\":\"a.jpg\"}", "is JSON: name it .json"),
        ] {
            let error = read("m.csv", bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
            let error = read("m.csv.gz", &gzip(bytes)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }

    #[test]
    fn endless_line_is_refused_at_record_cap() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(b"path,id\n").unwrap();
        (0..64).for_each(|_| encoder.write_all(&[b'x'; 1 << 20]).unwrap());
        encoder.write_all(b"\nb.jpg,u2\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv.gz");
        std::fs::write(&path, encoder.finish().unwrap()).unwrap();
        let rows: Vec<_> = open_source(&path, &settings()).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows[0].as_ref().unwrap_err().defect, crate::domain::RowErrorKind::RecordTooLong);
        assert_eq!(rows[1].as_ref().unwrap().user.as_str(), "u2");
    }
}
