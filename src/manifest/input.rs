//! The bytes of a manifest: from a file or from standard input, as they are or compressed. Streaming: what is held is one
//! buffer, whatever a compressed file grows to.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    str::FromStr,
};

use super::SourceError;

/// What a manifest is written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Comma-separated, with a header.
    Csv,
    /// The same with tabs.
    Tsv,
    /// An object a line.
    JsonLines,
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
            _ => return None,
        };
        Some(Self { format, packing })
    }
}

impl FromStr for InputFormat {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::of_name(text).ok_or("one of csv, tsv, jsonl, ndjson, or one of these with .gz or .zst behind it")
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
    Ok(match packing {
        Packing::Plain => input,
        Packing::Gzip => Box::new(Packed { name: "gzip", input: flate2::read::MultiGzDecoder::new(input) }),
        Packing::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(input).map_err(unreadable)?;
            Box::new(Packed { name: "Zstandard", input: decoder })
        }
    })
}

/// Says of an error what it means.
struct Packed<R> {
    name: &'static str,
    input: R,
}

impl<R: Read> Read for Packed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.input.read(buffer).map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            kind => io::Error::new(kind, format!("its {} data is damaged or cut off: {error}", self.name)),
        })
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
    fn packed_manifest_that_is_cut_off_or_no_such_thing_is_told_as_that() {
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
    fn bomb_of_one_endless_line_is_refused_at_the_length_of_a_record() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(b"path,id\n").unwrap();
        (0..64).for_each(|_| encoder.write_all(&[b'x'; 1 << 20]).unwrap());
        encoder.write_all(b"\nb.jpg,u2\n").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.csv.gz");
        std::fs::write(&path, encoder.finish().unwrap()).unwrap();
        let settings = Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() };
        let rows: Vec<_> = open_source(&path, &settings).unwrap().map(Result::unwrap).collect();
        assert_eq!(rows[0].as_ref().unwrap_err().defect, crate::domain::RowDefect::RecordTooLong);
        assert_eq!(rows[1].as_ref().unwrap().user.as_str(), "u2");
    }
}
