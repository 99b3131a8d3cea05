//! The bytes of a manifest: from a file or from standard input, as they are or compressed. Streaming: what is held is one
//! buffer, whatever a compressed file grows to.
//!
//! gzip and Zstandard data are known by their first bytes too, so a packed file under a plain name is read. Zeros behind
//! packed data are the padding of tapes and blocks, and are ignored.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Cursor, Read},
    path::Path,
    str::FromStr,
};

use super::{SourceError, text::read_head};

/// What a manifest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header.
    Csv,
    /// The same with tabs.
    Tsv,
    /// An object a line.
    JsonLines,
    /// An array of objects, or objects one behind another.
    Json,
}

/// How it is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Not.
    Plain,
    /// gzip, of one member or several.
    Gzip,
    /// Zstandard, of one frame or several.
    Zstd,
}

/// `--input-format`: what standard input, or a file of another name, is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InputFormat {
    /// Beneath any packing.
    pub format: Format,
    /// Around it.
    pub packing: Packing,
}

impl InputFormat {
    /// By the endings of a file's name.
    pub fn of_name(name: &str) -> Option<Self> {
        let name = name.to_lowercase();
        let (name, packing) = match name.rsplit_once('.') {
            Some((name, "gz")) => (name, Packing::Gzip),
            Some((name, "zst")) => (name, Packing::Zstd),
            Some(_) | None => (name.as_str(), Packing::Plain),
        };
        let format = match name.rsplit('.').next()? {
            "csv" => Format::Csv,
            "tsv" => Format::Tsv,
            "jsonl" | "ndjson" => Format::JsonLines,
            "json" => Format::Json,
            _ => return None,
        };
        Some(Self { format, packing })
    }
}

impl FromStr for InputFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of_name(text).ok_or("one of csv, tsv, jsonl, ndjson, json, or one of these with .gz or .zst behind it")
    }
}

/// What is read from.
pub(super) type Input = Box<dyn Read + Send>;

/// Opens a file, or standard input where there is none.
pub(super) fn open(path: Option<&Path>, packing: Packing) -> Result<Input, SourceError> {
    let shown = path.unwrap_or(Path::new("-"));
    let unreadable = |source| SourceError::Unreadable { path: shown.to_owned(), source };
    let file = path.map(File::open).transpose().map_err(unreadable)?;
    let input: Input = match file {
        Some(file) => Box::new(file),
        None => Box::new(io::stdin()),
    };
    unpack(input, packing).map_err(unreadable)
}

/// What is packed, by its name or by its first bytes, is unpacked as it is read.
fn unpack(mut input: Input, packing: Packing) -> io::Result<Input> {
    let head = read_head(&mut input, 4)?;
    let packing = match packing {
        Packing::Plain if head.starts_with(b"\x1F\x8B\x08") => Packing::Gzip,
        Packing::Plain if head.starts_with(b"\x28\xB5\x2F\xFD") => Packing::Zstd,
        Packing::Plain | Packing::Gzip | Packing::Zstd => packing,
    };
    let input: Input = Box::new(Cursor::new(head).chain(input));
    Ok(match packing {
        Packing::Plain => input,
        Packing::Gzip => {
            Box::new(Unpacked::new("gzip", input, |input| Ok(Member::Gzip(flate2::bufread::GzDecoder::new(input)))))
        }
        Packing::Zstd => Box::new(Unpacked::new("Zstandard", input, |input| {
            Ok(Member::Zstd(zstd::stream::read::Decoder::with_buffer(input)?.single_frame()))
        })),
    })
}

/// A gzip member or a Zstandard frame.
enum Member {
    Gzip(flate2::bufread::GzDecoder<BufReader<Input>>),
    Zstd(zstd::stream::read::Decoder<'static, BufReader<Input>>),
}

/// Reads member after member, and says of an error what it means.
struct Unpacked {
    name: &'static str,
    open: fn(BufReader<Input>) -> io::Result<Member>,
    /// None: an error has ended it.
    state: Option<State>,
}

enum State {
    Within(Member),
    Behind(BufReader<Input>),
}

impl Unpacked {
    fn new(name: &'static str, input: Input, open: fn(BufReader<Input>) -> io::Result<Member>) -> Self {
        // The first member is opened even where there is nothing: that is an error, and not an empty manifest.
        let state = open(BufReader::with_capacity(64 * 1024, input)).ok().map(State::Within);
        Self { name, open, state }
    }

    fn explain(&self, error: io::Error) -> io::Error {
        let kind = error.kind();
        if kind == io::ErrorKind::Interrupted {
            return error;
        }
        // Zstandard's own limit for a reader that was not told of another: a window of 128 MiB.
        if error.to_string().contains("too much memory") {
            return io::Error::new(
                kind,
                "its Zstandard data needs more than 128 MiB to unpack, as zstd --long=28 and above make it: pack it anew \
                 without --long, or give zstd -dc --long=31 FILE | face-enroll ... - --input-format csv",
            );
        }
        io::Error::new(kind, format!("its {} data is damaged or cut off: {error}", self.name))
    }

    /// Passes over zeros; true: there is another member.
    fn find_member(input: &mut impl BufRead) -> io::Result<bool> {
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

impl Read for Unpacked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            match self.state.take() {
                Some(State::Within(mut member)) => {
                    let read = match &mut member {
                        Member::Gzip(decoder) => decoder.read(buffer),
                        Member::Zstd(decoder) => decoder.read(buffer),
                    };
                    match read {
                        Ok(0) => {
                            self.state = Some(State::Behind(match member {
                                Member::Gzip(decoder) => decoder.into_inner(),
                                Member::Zstd(decoder) => decoder.finish(),
                            }));
                        }
                        read => {
                            self.state = Some(State::Within(member));
                            return read.map_err(|error| self.explain(error));
                        }
                    }
                }
                Some(State::Behind(mut input)) => {
                    let is_more = Self::find_member(&mut input);
                    match is_more {
                        Ok(true) => self.state = Some(State::Within((self.open)(input)?)),
                        end => {
                            self.state = Some(State::Behind(input));
                            return end.map(|_| 0);
                        }
                    }
                }
                None => return Err(io::Error::other(format!("its {} data can't be unpacked", self.name))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{
        domain::FaceGroupCode,
        manifest::{Settings, open as open_source},
    };

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(text).unwrap();
        encoder.finish().unwrap()
    }

    /// The users of a manifest, or why there are none.
    fn read(name: &str, bytes: &[u8]) -> Result<Vec<String>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() };
        let shown = |error: SourceError| {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            format!("{error}: {cause}").replace(&*path.to_string_lossy(), name)
        };
        let rows = open_source(&path, &settings).map_err(shown)?;
        rows.map(|row| row.map_err(shown).map(|row| row.unwrap().user.to_string())).collect()
    }

    #[test]
    fn manifests_are_known_by_their_endings_in_any_case() {
        for (name, format, packing) in [
            ("a.csv", Format::Csv, Packing::Plain),
            ("A.TSV.GZ", Format::Tsv, Packing::Gzip),
            ("a.b.jsonl.zst", Format::JsonLines, Packing::Zstd),
            ("ndjson", Format::JsonLines, Packing::Plain),
            ("a.json.gz", Format::Json, Packing::Gzip),
        ] {
            assert_eq!(InputFormat::of_name(name), Some(InputFormat { format, packing }), "{name}");
        }
        assert!(["a.xlsx", "a.gz", "", "csv.zip"].iter().all(|name| InputFormat::of_name(name).is_none()));
    }

    #[test]
    fn packed_manifests_are_read_through_all_their_members() {
        let (head, tail) = (&b"path,id\na.jpg,u1\n"[..], &b"b.jpg,u2\n"[..]);
        assert_eq!(read("m.csv.gz", &[gzip(head), gzip(tail)].concat()).unwrap(), ["u1", "u2"]);
        let zstd = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
        assert_eq!(read("m.csv.zst", &[zstd(head), zstd(tail)].concat()).unwrap(), ["u1", "u2"]);
        assert_eq!(read("m.jsonl.gz", &gzip(b"{\"path\":\"a.jpg\"}\n")).unwrap(), ["a"]);
    }

    #[test]
    fn truncated_or_fake_archives_are_named() {
        let mut long = String::from("path,id\n");
        (0..50_000).for_each(|n| long.push_str(&format!("{n}.jpg,u{n}\n")));
        let whole = gzip(long.as_bytes());
        let error = read("m.csv.gz", &whole[..whole.len() / 2]).unwrap_err();
        assert!(error.starts_with("m.csv.gz can't be read: its gzip data is damaged or cut off"), "{error}");
        let whole = zstd::encode_all(long.as_bytes(), 3).unwrap();
        let error = read("m.csv.zst", &whole[..whole.len() / 2]).unwrap_err();
        assert!(error.contains("its Zstandard data is damaged or cut off"), "{error}");
        for name in ["m.csv.gz", "m.csv.zst"] {
            let error = read(name, b"path,id\na.jpg,u1\n").unwrap_err();
            assert!(error.contains("data is damaged or cut off"), "{error}");
        }
    }

    #[test]
    fn zeros_behind_packed_data_are_ignored() {
        let (head, tail) = (&b"path,id\na.jpg,u1\n"[..], &b"b.jpg,u2\n"[..]);
        let zeros = vec![0; 100_000];
        let zstd = |text: &[u8]| zstd::encode_all(text, 3).unwrap();
        for (name, pack) in [("m.csv.gz", &gzip as &dyn Fn(&[u8]) -> Vec<u8>), ("m.csv.zst", &zstd)] {
            assert_eq!(read(name, &[pack(head), zeros.clone()].concat()).unwrap(), ["u1"]);
            assert_eq!(read(name, &[pack(head), zeros.clone(), pack(tail), vec![0]].concat()).unwrap(), ["u1", "u2"]);
            let error = read(name, &[pack(head), zeros.clone(), b"b.jpg,u2\n".to_vec()].concat()).unwrap_err();
            assert!(error.contains("data is damaged or cut off"), "{error}");
        }
    }

    #[test]
    fn packed_data_under_a_plain_name_is_unpacked_once() {
        let text = &b"path,id\na.jpg,u1\n"[..];
        assert_eq!(read("m.csv", &gzip(text)).unwrap(), ["u1"]);
        assert_eq!(read("m.csv", &zstd::encode_all(text, 3).unwrap()).unwrap(), ["u1"]);
        let error = read("m.csv.gz", &gzip(&gzip(text))).unwrap_err();
        assert!(error.contains("m.csv.gz is gzip data in packed data: unpack it once"), "{error}");
    }

    #[test]
    fn long_window_is_refused_with_a_remedy() {
        // A frame's header that announces a window of 2 GiB, as zstd --long=31 writes it to a pipe, and an empty block.
        let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 0xA8, 0x01, 0x00, 0x00];
        let error = read("m.csv.zst", &frame).unwrap_err();
        assert!(error.contains("more than 128 MiB to unpack") && error.contains("zstd -dc --long=31"), "{error}");
    }

    #[test]
    fn other_files_named_csv_are_told_as_what_they_are() {
        for (bytes, words) in [
            (
                &b"PK\x03\x04\x14\0\x06\0[Content_Types].xml"[..],
                "is a workbook (such as .xlsx or .ods): save it as CSV UTF-8",
            ),
            (b"<html><body><table>", "is a web page (HTML)"),
            (b"{\"path\":\"a.jpg\"}", "is JSON: name it .json"),
        ] {
            let error = read("m.csv", bytes).unwrap_err();
            assert!(error.contains(words), "{error}");
            let error = read("m.csv.gz", &gzip(bytes)).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let error = read("m.xlsx", b"PK\x03\x04\x14\0\x06\0[Content_Types].xml").unwrap_err();
        assert!(error.contains("is a workbook"), "{error}");
        let error = read("m.xlsx", b"path,id\na.jpg,1\n").unwrap_err();
        assert!(error.contains("is of no known kind"), "{error}");
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
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() };
        let rows: Vec<_> = open_source(&path, &settings).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows[0].as_ref().unwrap_err().defect, crate::domain::RowErrorKind::RecordTooLong);
        assert_eq!(rows[1].as_ref().unwrap().user.as_str(), "u2");
    }
}
