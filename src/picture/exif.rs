//! The orientation in EXIF data, whatever holds it. Everything else in it is left alone.
//!
//! The data itself is read by `kamadak-exif`: any integer type, both byte orders, as much of damaged data as there is. Where
//! it lies in a file is told here, for that crate knows the places of the specifications alone: no `Exif\0\0` in front of it
//! in a WebP or a PNG, no text chunk of a PNG, nothing unexpected between the segments of a JPEG.

use std::io::Read;

use exif::{In, Reader, Tag, Value};

use super::decode::catch_panic;

/// In front of EXIF data in a JPEG, and by mistake elsewhere. The last byte is padding.
const PREFIX: &[u8] = b"Exif\0";
/// Bytes of a text chunk, uncompressed, beyond which there is no EXIF data in it: an APP1 segment twice over, as digits.
const MOST_TEXT: u64 = 1 << 18;

/// Of a JPEG's APP1 segment, which may hold something else.
pub(super) fn of_app1(content: &[u8]) -> Option<u8> {
    content.strip_prefix(PREFIX).and_then(|rest| of_tiff(rest.get(1..)?))
}

/// Of a WebP's EXIF chunk.
pub(super) fn of_webp(bytes: &[u8]) -> Option<u8> {
    chunks(bytes.get(12..)?, Layout::Riff)
        .filter(|(kind, _)| kind == b"EXIF")
        .find_map(|(_, content)| of_block(content))
}

/// Of a PNG's eXIf chunk, or of the text chunk in which ImageMagick and exiftool put EXIF data before there was one. Either
/// may stand behind the pixels.
pub(super) fn of_png(bytes: &[u8]) -> Option<u8> {
    let all = || chunks(bytes.get(8..).unwrap_or_default(), Layout::Png);
    let exif = all().filter(|(kind, _)| kind == b"eXIf").find_map(|(_, content)| of_block(content));
    exif.or_else(|| all().filter_map(|(kind, content)| raw_profile(kind, content)).find_map(|block| of_block(&block)))
}

/// Of a TIFF file, or of EXIF data, which is one.
pub(super) fn of_tiff(bytes: &[u8]) -> Option<u8> {
    catch_panic(|| Ok(read(bytes))).ok().flatten()
}

fn read(bytes: &[u8]) -> Option<u8> {
    let read = Reader::new().continue_on_error(true).read_raw(bytes.to_vec());
    let exif = read.or_else(|error| error.distill_partial_result(|_| {})).ok()?;
    let value = match &exif.get_field(Tag::Orientation, In::PRIMARY)?.value {
        Value::Byte(values) => i64::from(*values.first()?),
        Value::Short(values) => i64::from(*values.first()?),
        Value::Long(values) => i64::from(*values.first()?),
        Value::SByte(values) => i64::from(*values.first()?),
        Value::SShort(values) => i64::from(*values.first()?),
        Value::SLong(values) => i64::from(*values.first()?),
        _ => return None,
    };
    u8::try_from(value).ok().filter(|value| (1..=8).contains(value))
}

/// With or without the prefix.
fn of_block(block: &[u8]) -> Option<u8> {
    of_app1(block).or_else(|| of_tiff(block))
}

/// How chunks follow one another.
#[derive(Clone, Copy)]
enum Layout {
    /// Kind, length (little end first), content, one byte of padding where that is odd.
    Riff,
    /// Length (big end first), kind, content, checksum.
    Png,
}

/// As many as are whole: their kinds and contents.
fn chunks(bytes: &[u8], layout: Layout) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&[a, b, c, d, e, f, g, h], behind) = rest.split_first_chunk::<8>()?;
        let (kind, length) = match layout {
            Layout::Riff => ([a, b, c, d], u32::from_le_bytes([e, f, g, h])),
            Layout::Png => ([e, f, g, h], u32::from_be_bytes([a, b, c, d])),
        };
        let length = usize::try_from(length).ok()?;
        let content = behind.get(..length)?;
        let gap = match layout {
            Layout::Riff => length % 2,
            Layout::Png => 4,
        };
        rest = behind.get(length + gap..).unwrap_or_default();
        Some((kind, content))
    })
}

/// EXIF data as hexadecimal digits in a chunk of text, behind its name and its length.
fn raw_profile(kind: [u8; 4], content: &[u8]) -> Option<Vec<u8>> {
    let (keyword, rest) = split(content)?;
    if !["Raw profile type exif", "Raw profile type APP1"]
        .iter()
        .any(|name| keyword.eq_ignore_ascii_case(name.as_bytes()))
    {
        return None;
    }
    let text = match &kind {
        b"tEXt" => rest.to_vec(),
        b"zTXt" => inflated(rest.get(1..)?),
        b"iTXt" => {
            let (&[is_compressed, _], rest) = rest.split_first_chunk::<2>()?;
            let (_language, rest) = split(rest)?;
            let (_translated, text) = split(rest)?;
            if is_compressed == 1 { inflated(text) } else { text.to_vec() }
        }
        _ => return None,
    };
    // An empty line, the kind, the length, the digits.
    let digits = text.splitn(4, |&byte| byte == b'\n').nth(3)?;
    let digits: Vec<u8> = digits.iter().copied().filter(u8::is_ascii_hexdigit).collect();
    hex::decode(digits).ok()
}

/// At the first zero byte.
fn split(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// As much as can be.
fn inflated(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = flate2::read::ZlibDecoder::new(bytes).take(MOST_TEXT).read_to_end(&mut text);
    text
}

/// An APP1 segment's content that says nothing but this.
#[cfg(test)]
pub(super) fn segment(orientation: u8, is_little: bool) -> Vec<u8> {
    [b"Exif\0\0".to_vec(), tests::block(orientation, tests::SHORT, is_little)].concat()
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;

    use super::*;

    const BYTE: u16 = 1;
    pub(in crate::picture) const SHORT: u16 = 3;
    const LONG: u16 = 4;
    const SBYTE: u16 = 6;
    const SSHORT: u16 = 8;
    const SLONG: u16 = 9;
    /// Of integers.
    pub(in crate::picture) const TYPES: [u16; 6] = [BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG];

    /// A value of this type, as an entry of an IFD holds it.
    pub(in crate::picture) fn value(number: u32, kind: u16, is_little: bool) -> [u8; 4] {
        let short = number as u16;
        match (kind, is_little) {
            (BYTE | SBYTE, _) => [number as u8, 0, 0, 0],
            (SHORT | SSHORT, true) => number.to_le_bytes(),
            (SHORT | SSHORT, false) => [short.to_be_bytes(), [0, 0]].concat().try_into().unwrap(),
            (_, true) => number.to_le_bytes(),
            (_, false) => number.to_be_bytes(),
        }
    }

    /// A TIFF header and one IFD with nothing but an orientation.
    pub(in crate::picture) fn block(orientation: u8, kind: u16, is_little: bool) -> Vec<u8> {
        let short = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let long = |number: u32| value(number, LONG, is_little);
        let header = if is_little { b"II\x2a\0" } else { b"MM\0\x2a" };
        let entry = [&short(0x0112)[..], &short(kind), &long(1), &value(orientation.into(), kind, is_little)].concat();
        [&header[..], &long(8), &short(1), &entry, &long(0)].concat()
    }

    #[test]
    fn orientation_of_any_integer_type_is_read_in_both_byte_orders() {
        for (is_little, kind) in [true, false].into_iter().flat_map(|is_little| TYPES.map(|kind| (is_little, kind))) {
            for value in 1..=8_u8 {
                assert_eq!(of_tiff(&block(value, kind, is_little)), Some(value), "type {kind}");
            }
            for value in [0, 9, 200] {
                assert_eq!(of_tiff(&block(value, kind, is_little)), None, "type {kind}");
            }
        }
    }

    #[test]
    fn prefix_is_required_in_a_jpeg_and_optional_elsewhere() {
        let block = block(6, SHORT, true);
        let prefixed = [&b"Exif\0\0"[..], &block].concat();
        assert_eq!((of_app1(&prefixed), of_app1(&block)), (Some(6), None));
        assert_eq!((of_block(&prefixed), of_block(&block)), (Some(6), Some(6)));
    }

    proptest! {
        #[test]
        fn damaged_data_is_no_panic(at in 0_usize..40, byte in any::<u8>(), cut in 0_usize..40) {
            let mut bytes = segment(6, true);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            of_block(&bytes);
        }

        #[test]
        fn damaged_container_is_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            of_png(&bytes);
            of_webp(&bytes);
            for kind in [b"tEXt", b"zTXt", b"iTXt"] {
                raw_profile(*kind, &[b"Raw profile type exif\0", &bytes[..]].concat());
            }
        }
    }
}
