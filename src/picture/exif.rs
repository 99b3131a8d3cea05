//! Finds the EXIF orientation in each container format; other EXIF data is not read.
//!
//! `kamadak-exif` reads the data itself: any integer type, both byte orders, and as much as possible of damaged data.
//! This module locates the data in the file, because that crate only knows the places that the specifications name: no
//! `Exif\0\0` prefix in a WebP or PNG, no text chunk of a PNG, no stray bytes between the segments of a JPEG.

use std::io::Read;

use exif::{In, Reader, Tag, Value};

use super::decode::catch_panic;

/// Prefix of EXIF data in a JPEG, and by mistake in other formats. A padding byte follows.
const PREFIX: &[u8] = b"Exif\0";
/// Most bytes read of an inflated text chunk: an APP1 segment (64 KiB) as hexadecimal digits, twice over.
const MAX_TEXT_BYTES: u64 = 1 << 18;

/// Orientation in a JPEG's APP1 segment, which may hold something other than EXIF.
pub(super) fn from_app1(content: &[u8]) -> Option<u8> {
    content.strip_prefix(PREFIX).and_then(|rest| from_tiff(rest.get(1..)?))
}

/// Orientation in a WebP's EXIF chunk.
pub(super) fn from_webp(bytes: &[u8]) -> Option<u8> {
    chunks(bytes.get(12..)?, Layout::Riff)
        .filter(|(kind, _)| kind == b"EXIF")
        .find_map(|(_, content)| from_block(content))
}

/// Orientation in a PNG's eXIf chunk, or in the text chunk that ImageMagick and exiftool used before eXIf existed.
/// Either may follow the pixels.
pub(super) fn from_png(bytes: &[u8]) -> Option<u8> {
    let all = || chunks(bytes.get(8..).unwrap_or_default(), Layout::Png);
    let exif = all().filter(|(kind, _)| kind == b"eXIf").find_map(|(_, content)| from_block(content));
    exif.or_else(|| all().filter_map(|(kind, content)| raw_profile(kind, content)).find_map(|block| from_block(&block)))
}

/// Orientation in a TIFF file; EXIF data is one.
pub(super) fn from_tiff(bytes: &[u8]) -> Option<u8> {
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

/// Orientation in EXIF data with or without the prefix.
fn from_block(block: &[u8]) -> Option<u8> {
    from_app1(block).or_else(|| from_tiff(block))
}

/// Chunk format of a container.
#[derive(Clone, Copy)]
enum Layout {
    /// Kind, little-endian length, content, a padding byte after an odd length.
    Riff,
    /// Big-endian length, kind, content, checksum.
    Png,
}

/// Kinds and contents of the complete chunks.
fn chunks(bytes: &[u8], layout: Layout) -> impl Iterator<Item = ([u8; 4], &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&[a, b, c, d, e, f, g, h], after) = rest.split_first_chunk::<8>()?;
        let (kind, length) = match layout {
            Layout::Riff => ([a, b, c, d], u32::from_le_bytes([e, f, g, h])),
            Layout::Png => ([e, f, g, h], u32::from_be_bytes([a, b, c, d])),
        };
        let length = usize::try_from(length).ok()?;
        let content = after.get(..length)?;
        let gap = match layout {
            Layout::Riff => length % 2,
            Layout::Png => 4,
        };
        rest = after.get(length + gap..).unwrap_or_default();
        Some((kind, content))
    })
}

/// Decodes a "Raw profile type" text chunk: name and length, then EXIF data as hexadecimal digits.
fn raw_profile(kind: [u8; 4], content: &[u8]) -> Option<Vec<u8>> {
    let (keyword, rest) = split_at_nul(content)?;
    if !["Raw profile type exif", "Raw profile type APP1"]
        .iter()
        .any(|name| keyword.eq_ignore_ascii_case(name.as_bytes()))
    {
        return None;
    }
    let text = match &kind {
        b"tEXt" => rest.to_vec(),
        b"zTXt" => inflate(rest.get(1..)?),
        b"iTXt" => {
            let (&[is_compressed, _], rest) = rest.split_first_chunk::<2>()?;
            let (_language, rest) = split_at_nul(rest)?;
            let (_translated, text) = split_at_nul(rest)?;
            if is_compressed == 1 { inflate(text) } else { text.to_vec() }
        }
        _ => return None,
    };
    // Lines: empty, kind, length, digits.
    let digits = text.splitn(4, |&byte| byte == b'\n').nth(3)?;
    let digits: Vec<u8> = digits.iter().copied().filter(u8::is_ascii_hexdigit).collect();
    hex::decode(digits).ok()
}

/// Splits at the first zero byte.
fn split_at_nul(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let at = bytes.iter().position(|&byte| byte == 0)?;
    Some((&bytes[..at], &bytes[at + 1..]))
}

/// Decompresses as much as possible, up to [`MAX_TEXT_BYTES`].
fn inflate(bytes: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let _ = flate2::read::ZlibDecoder::new(bytes).take(MAX_TEXT_BYTES).read_to_end(&mut text);
    text
}

/// An APP1 segment that holds only an orientation.
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
    /// All integer types of EXIF.
    pub(in crate::picture) const TYPES: [u16; 6] = [BYTE, SHORT, LONG, SBYTE, SSHORT, SLONG];

    /// A value as stored in an IFD entry.
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

    /// A TIFF header and one IFD that holds only an orientation.
    pub(in crate::picture) fn block(orientation: u8, kind: u16, is_little: bool) -> Vec<u8> {
        let short = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
        let long = |number: u32| value(number, LONG, is_little);
        let header = if is_little { b"II\x2a\0" } else { b"MM\0\x2a" };
        let entry = [&short(0x0112)[..], &short(kind), &long(1), &value(orientation.into(), kind, is_little)].concat();
        [&header[..], &long(8), &short(1), &entry, &long(0)].concat()
    }

    #[test]
    fn every_integer_type_and_byte_order_is_read() {
        for (is_little, kind) in [true, false].into_iter().flat_map(|is_little| TYPES.map(|kind| (is_little, kind))) {
            for value in 1..=8_u8 {
                assert_eq!(from_tiff(&block(value, kind, is_little)), Some(value), "type {kind}");
            }
            for value in [0, 9, 200] {
                assert_eq!(from_tiff(&block(value, kind, is_little)), None, "type {kind}");
            }
        }
    }

    #[test]
    fn prefix_is_required_in_a_jpeg_and_optional_elsewhere() {
        let block = block(6, SHORT, true);
        let prefixed = [&b"Exif\0\0"[..], &block].concat();
        assert_eq!((from_app1(&prefixed), from_app1(&block)), (Some(6), None));
        assert_eq!((from_block(&prefixed), from_block(&block)), (Some(6), Some(6)));
    }

    proptest! {
        #[test]
        fn damaged_data_does_not_panic(at in 0_usize..40, byte in any::<u8>(), cut in 0_usize..40) {
            let mut bytes = segment(6, true);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            from_block(&bytes);
        }

        #[test]
        fn damaged_container_does_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            from_png(&bytes);
            from_webp(&bytes);
            for kind in [b"tEXt", b"zTXt", b"iTXt"] {
                raw_profile(*kind, &[b"Raw profile type exif\0", &bytes[..]].concat());
            }
        }
    }
}
