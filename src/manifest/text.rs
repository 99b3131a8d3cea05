//! Decodes the text of a manifest to UTF-8 while reading.
//!
//! A byte-order mark wins over `--encoding`. Bytes that are invalid in the encoding become 0xFF, which never occurs in
//! UTF-8: their row is rejected as not UTF-8, and no replacement character gets into an id.

use std::{
    io::{self, Cursor, Read},
    path::Path,
};

use encoding_rs::{Decoder, DecoderResult, UTF_8};

use super::{
    SourceError,
    content::{recognize_bytes, recognize_text},
    input::{Format, Input},
};
use crate::domain::Encoding;

/// Bytes to read before the content is recognized: fewer than any header with a row.
const HEAD_BYTES: usize = 16;
/// Bytes per read.
const CHUNK_BYTES: usize = 64 * 1024;
/// Byte that replaces undecodable input.
const UNDECODABLE: u8 = 0xFF;

/// Decoded text of a manifest.
pub(super) struct Text {
    pub(super) input: Input,
    /// Original encoding; `None` for UTF-8.
    pub(super) encoding: Option<&'static str>,
}

/// Opens the text of an uncompressed manifest, or reports other content.
pub(super) fn open(
    mut input: Input,
    format: Format,
    given: Option<Encoding>,
    path: &Path,
) -> Result<Text, SourceError> {
    let unreadable = |source| SourceError::Unreadable { path: path.to_owned(), source };
    let head = read_head(&mut input, HEAD_BYTES).map_err(unreadable)?;
    let foreign = |found| SourceError::NotAManifest { path: path.to_owned(), found };
    if let Some(found) = recognize_bytes(&head) {
        return Err(foreign(found));
    }
    let (encoding, mark) = match (encoding_rs::Encoding::for_bom(&head), given) {
        (Some((encoding, mark)), _) => (encoding, mark),
        (None, Some(Encoding(encoding))) => (encoding, 0),
        (None, None) => match head[..] {
            [0, 1..=255, ..] => return Err(SourceError::Utf16 { path: path.to_owned(), encoding: "utf-16be" }),
            [1..=255, 0, ..] => return Err(SourceError::Utf16 { path: path.to_owned(), encoding: "utf-16le" }),
            _ => (UTF_8, 0),
        },
    };
    let (start, _) = encoding.decode_without_bom_handling(&head[mark..]);
    if let Some(found) = recognize_text(&start, format) {
        return Err(foreign(found));
    }
    let input = Cursor::new(head[mark..].to_vec()).chain(input);
    Ok(if encoding == UTF_8 {
        Text { input: Box::new(input), encoding: None }
    } else {
        let decoder = encoding.new_decoder_without_bom_handling();
        Text { input: Box::new(DecodingReader::new(input, decoder)), encoding: Some(encoding.name()) }
    })
}

/// Reads at least `least` bytes, or all; the result may have more.
pub(super) fn read_head(input: &mut impl Read, least: usize) -> io::Result<Vec<u8>> {
    let (mut head, mut len) = (vec![0; 4096], 0);
    while len < least {
        match input.read(&mut head[len..]) {
            Ok(0) => break,
            Ok(read) => len += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    head.truncate(len);
    Ok(head)
}

struct DecodingReader<R> {
    input: R,
    decoder: Decoder,
    encoded: Vec<u8>,
    /// Part of `encoded` that is not decoded yet.
    rest: std::ops::Range<usize>,
    is_at_end: bool,
    decoded: Vec<u8>,
    given: usize,
    is_over: bool,
}

impl<R: Read> DecodingReader<R> {
    fn new(input: R, decoder: Decoder) -> Self {
        Self {
            input,
            decoder,
            encoded: vec![0; CHUNK_BYTES],
            rest: 0..0,
            is_at_end: false,
            decoded: Vec::with_capacity(CHUNK_BYTES),
            given: 0,
            is_over: false,
        }
    }

    /// Decodes what has been read, up to the next undecodable bytes.
    fn decode(&mut self) -> io::Result<()> {
        if self.rest.is_empty() && !self.is_at_end {
            let read = self.input.read(&mut self.encoded)?;
            self.rest = 0..read;
            self.is_at_end = read == 0;
        }
        self.decoded.resize(CHUNK_BYTES, 0);
        let (result, read, written) = self.decoder.decode_to_utf8_without_replacement(
            &self.encoded[self.rest.clone()],
            &mut self.decoded[..CHUNK_BYTES - 1],
            self.is_at_end,
        );
        self.rest.start += read;
        self.decoded.truncate(written);
        self.given = 0;
        match result {
            DecoderResult::InputEmpty => self.is_over = self.is_at_end,
            DecoderResult::OutputFull => {}
            DecoderResult::Malformed(..) => self.decoded.push(UNDECODABLE),
        }
        Ok(())
    }
}

impl<R: Read> Read for DecodingReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.given == self.decoded.len() {
            if self.is_over {
                return Ok(0);
            }
            self.decode()?;
        }
        let read = (&self.decoded[self.given..]).read(buffer)?;
        self.given += read;
        Ok(read)
    }
}

/// Message for undecodable bytes, following a subject.
pub(super) fn undecodable(encoding: Option<&'static str>) -> String {
    match encoding {
        Some(encoding) => format!("is not {encoding}: save the file as UTF-8, or give the right --encoding"),
        None => {
            "is not UTF-8: give --encoding NAME (gbk, big5, shift_jis, windows-1252, ...), or save the file as UTF-8"
                .to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::manifest::framing::OneByteReader;

    fn decode(input: impl Read + Send + 'static, given: Option<&str>) -> Vec<u8> {
        let given = given.map(|name| name.parse().unwrap());
        let mut bytes = Vec::new();
        let text = open(Box::new(input), Format::Csv, given, Path::new("m.csv"));
        text.map_err(|error| error.to_string()).unwrap().input.read_to_end(&mut bytes).unwrap();
        bytes
    }

    fn utf_16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
        text.encode_utf16().flat_map(to_bytes).collect()
    }

    #[test]
    fn encodings_are_found_by_label_or_code_page() {
        for (label, name) in
            [("gbk", "GBK"), ("GB18030", "gb18030"), ("Big5", "Big5"), ("cp936", "GBK"), ("950", "Big5")]
        {
            assert_eq!(label.parse::<Encoding>().unwrap().0.name(), name);
        }
        assert!("klingon".parse::<Encoding>().unwrap_err().contains("gbk"));
        assert!("hz-gb-2312".parse::<Encoding>().is_err(), "a decoder that only replaces");
    }

    #[test]
    fn undecodable_bytes_become_0xff_and_keep_lines() {
        let text = decode(Cursor::new(b"path,id\na.jpg,\x81\nb.jpg,u\x80\xFF2\n".to_vec()), Some("gbk"));
        assert_eq!(text, b"path,id\na.jpg,\xFF\nb.jpg,u\xE2\x82\xAC\xFF2\n");
        // An unpaired surrogate, and half a code unit at the end.
        let text = decode(Cursor::new(b"\xFF\xFEa\0\x00\xD8b\0\n\0c".to_vec()), None);
        assert_eq!(text, b"a\xFFb\n\xFF");
    }

    #[test]
    fn bom_wins_over_the_flag() {
        assert_eq!(decode(Cursor::new("\u{FEFF}path,ü".as_bytes().to_vec()), Some("gbk")), "path,ü".as_bytes());
        let text = utf_16("\u{FEFF}path,ü", u16::to_be_bytes);
        assert_eq!(decode(Cursor::new(text), Some("gbk")), "path,ü".as_bytes());
    }

    #[test]
    fn utf_16_without_bom_suggests_the_flag() {
        for (bytes, flag) in [(&b"p\0a\0t\0"[..], "--encoding utf-16le"), (b"\0p\0a\0t", "--encoding utf-16be")] {
            let error = open(Box::new(bytes), Format::Csv, None, Path::new("m.csv")).map(|_| ()).unwrap_err();
            assert!(error.to_string().contains(flag), "{error}");
        }
        assert_eq!(decode(&b"p\0a\0t\0"[..], Some("utf-16le")), b"pat");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]
        #[test]
        fn any_text_is_decoded_in_any_encoding_and_chunking(
            text in "(path|文件|é|ü|💡|[ -~]|\n){0,40}",
            name in prop::sample::select(vec!["gbk", "gb18030", "big5", "shift_jis", "euc-kr", "windows-1252", "utf-8"]),
            repeat in 1usize..1_500,
        ) {
            let text = text.repeat(repeat);
            let Encoding(encoding) = name.parse().unwrap();
            let (bytes, _, has_replaced) = encoding.encode(&text);
            prop_assume!(!has_replaced && recognize_text(&text, Format::Csv).is_none());
            prop_assert_eq!(decode(Cursor::new(bytes.to_vec()), Some(name)), text.as_bytes());
            if bytes.len() < 10_000 {
                prop_assert_eq!(decode(OneByteReader(Cursor::new(bytes.to_vec())), Some(name)), text.as_bytes());
            }
            let marked = format!("\u{FEFF}{text}");
            prop_assert_eq!(decode(Cursor::new(utf_16(&marked, u16::to_le_bytes)), None), text.as_bytes());
            prop_assert_eq!(decode(Cursor::new(utf_16(&marked, u16::to_be_bytes)), None), text.as_bytes());
        }
    }
}
