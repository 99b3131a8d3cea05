//! Walks the markers of a JPEG (ITU-T T.81, annex B). Linear in its bytes, no pixel decoded, no panic on any input.

use super::{Defect, Facts, Kind, exif};

/// Scans of a progressive JPEG that are decoded: an encoder writes ten; each costs a pass over the picture.
const MOST_SCANS: usize = 200;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const APP1: u8 = 0xE1;

/// What a JPEG's header says, if it is one and is whole.
pub fn probe(bytes: &[u8]) -> Result<Facts, Defect> {
    match Kind::of(bytes) {
        Kind::Jpeg => {}
        kind => return Err(Defect::NotJpeg { kind }),
    }
    let (mut frame, mut orientation) = (None, None);
    let mut at = 2;
    loop {
        let marker = next_marker(bytes, &mut at)?;
        match marker {
            // Without a length: stand-alone markers that a header may, but should not, have.
            0x01 | 0xD0..=0xD7 | SOI => continue,
            EOI => return Err(Defect::Truncated { found: "it ends before any picture" }),
            _ => {}
        }
        let segment = segment(bytes, &mut at)?;
        match marker {
            0xC0..=0xCF if !matches!(marker, 0xC4 | 0xC8 | 0xCC) => {
                // The frame of the picture itself; a second one would be a thumbnail gone astray.
                frame = frame.or(Some(read_frame(marker, segment)?));
            }
            0xC8 => return Err(Defect::UnsupportedJpeg { found: "of a kind that was never standardised" }),
            0xCC => return Err(Defect::UnsupportedJpeg { found: "arithmetic-coded" }),
            APP1 => orientation = orientation.or_else(|| exif::of_app1(segment)),
            SOS => break,
            _ => {}
        }
    }
    let Some(frame) = frame else { return Err(Defect::Malformed { found: "it has no frame header" }) };
    if !has_end(&bytes[at..]) {
        return Err(Defect::Truncated { found: "its end marker is missing" });
    }
    if frame.is_progressive && scans(&bytes[at..]) > MOST_SCANS {
        return Err(Defect::UnsupportedJpeg { found: "of hundreds of scans" });
    }
    let orientation = orientation.unwrap_or(1);
    // 5 to 8 are turned by a quarter.
    let (width, height) = if orientation >= 5 { (frame.height, frame.width) } else { (frame.width, frame.height) };
    Ok(Facts { width, height, orientation, ..frame })
}

/// The marker at `at`, behind any fill bytes.
fn next_marker(bytes: &[u8], at: &mut usize) -> Result<u8, Defect> {
    if bytes.get(*at).is_some_and(|&byte| byte != 0xFF) {
        return Err(Defect::Malformed { found: "something stands where a marker should" });
    }
    while bytes.get(*at) == Some(&0xFF) {
        *at += 1;
    }
    let marker = *bytes.get(*at).ok_or(Defect::Truncated { found: "it ends within its header" })?;
    *at += 1;
    if marker == 0 { Err(Defect::Malformed { found: "it has data where a marker should stand" }) } else { Ok(marker) }
}

/// The content of the segment whose length stands at `at`.
fn segment<'a>(bytes: &'a [u8], at: &mut usize) -> Result<&'a [u8], Defect> {
    let cut_off = Defect::Truncated { found: "it ends within its header" };
    let length = bytes.get(*at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(cut_off.clone())?;
    let length = usize::from(u16::from_be_bytes(*length));
    if length < 2 {
        return Err(Defect::Malformed { found: "a segment is shorter than its own length field" });
    }
    let content = bytes.get(*at + 2..*at + length).ok_or(cut_off)?;
    *at += length;
    Ok(content)
}

fn read_frame(marker: u8, segment: &[u8]) -> Result<Facts, Defect> {
    let &[precision, h1, h0, w1, w0, components, ..] = segment else {
        return Err(Defect::Malformed { found: "its frame header is too short" });
    };
    let unsupported = |found| Err(Defect::UnsupportedJpeg { found });
    match marker {
        0xC0..=0xC2 => {}
        0xC3 | 0xC7 | 0xCB | 0xCF => return unsupported("lossless"),
        0xC5 | 0xC6 => return unsupported("hierarchical"),
        _ => return unsupported("arithmetic-coded"),
    }
    if precision != 8 {
        return unsupported("of more than 8 bits a colour");
    }
    let (width, height) = (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
    if width == 0 || height == 0 {
        return Err(Defect::Malformed { found: "it has no width or no height" });
    }
    if !matches!(components, 1 | 3 | 4) {
        return Err(Defect::Malformed { found: "it has neither one, nor three, nor four colours" });
    }
    let is_progressive = marker == 0xC2;
    let pixels = u64::from(width) * u64::from(height);
    // A progressive picture is held whole, as coefficients of two bytes; any other goes by line by line.
    let decoded_bytes = if is_progressive { pixels * u64::from(components) * 2 } else { 0 };
    Ok(Facts { width, height, is_progressive, components, decoded_bytes, ..Facts::default() })
}

/// Is there an end marker behind the first scan's header? What follows the picture (some cameras append things) does
/// not matter; within a scan an FF is always followed by 00 or a marker, so any FF D9 there is an end.
fn has_end(scans: &[u8]) -> bool {
    // From the back: the end marker is nearly always in the last bytes.
    scans.windows(2).rev().any(|pair| pair == [0xFF, EOI])
}

fn scans(scans: &[u8]) -> usize {
    1 + scans.windows(2).filter(|pair| *pair == [0xFF, SOS]).count()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marker(code: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len() + 2).unwrap().to_be_bytes();
        [&[0xFF, code], &length[..], content].concat()
    }

    fn frame(code: u8, precision: u8, width: u16, height: u16) -> Vec<u8> {
        let ([h1, h0], [w1, w0]) = (height.to_be_bytes(), width.to_be_bytes());
        marker(code, &[precision, h1, h0, w1, w0, 3, 1, 0x22, 0, 2, 0x11, 1, 3, 0x11, 1])
    }

    fn jpeg(segments: &[Vec<u8>], scan: &[u8]) -> Vec<u8> {
        [&[0xFF, SOI][..], &segments.concat(), &marker(SOS, &[3, 1, 0, 2, 0x11, 3, 0x11, 0, 63, 0]), scan].concat()
    }

    const SCAN: &[u8] = &[1, 2, 0xFF, 0, 3, 0xFF, EOI];

    fn portrait() -> Vec<u8> {
        jpeg(&[frame(0xC0, 8, 480, 640)], SCAN)
    }

    fn real() -> Vec<u8> {
        std::fs::read(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/portrait.jpg")).unwrap()
    }

    #[test]
    fn real_portrait_is_read() {
        let facts = probe(&real()).unwrap();
        assert_eq!((facts.width, facts.height, facts.orientation, facts.components), (720, 960, 1, 3));
    }

    #[test]
    fn orientation_turns_width_and_height() {
        for is_little in [true, false] {
            for orientation in 1..=8_u8 {
                let exif = marker(APP1, &exif::segment(orientation, is_little));
                let facts = probe(&jpeg(&[exif, frame(0xC2, 8, 640, 480)], SCAN)).unwrap();
                let expected = if orientation >= 5 { (480, 640) } else { (640, 480) };
                assert_eq!((facts.width, facts.height), expected);
                assert_eq!(facts.orientation, orientation);
                assert!(facts.is_progressive);
            }
        }
    }

    #[test]
    fn damage_is_named() {
        let code = |bytes: &[u8]| probe(bytes).unwrap_err().code().0;
        let whole = portrait();
        for (bytes, expected) in [
            (&b""[..], "NotJpeg"),
            (b"\x89PNG\r\n\x1a\n", "NotJpeg"),
            (&whole[..3], "Truncated"),
            (&whole[..10], "Truncated"),
            (&whole[..whole.len() - 2], "Truncated"),
            (&[0xFF, SOI, 0xFF, EOI], "Truncated"),
            (&jpeg(&[], SCAN), "Malformed"),
            (&jpeg(&[vec![0xFF, 0xE0, 0, 0]], SCAN), "Malformed"),
            (&jpeg(&[vec![0xFF, 0xE0, 0, 1]], SCAN), "Malformed"),
            (&jpeg(&[vec![0xFF, 0xE0, 0xFF, 0xFF]], SCAN), "Truncated"),
            (&jpeg(&[frame(0xC0, 8, 0, 640)], SCAN), "Malformed"),
            (&jpeg(&[marker(0xC0, &[8, 1])], SCAN), "Malformed"),
            (&jpeg(&[frame(0xC1, 12, 480, 640)], SCAN), "UnsupportedJpeg"),
            (&jpeg(&[frame(0xC3, 8, 480, 640)], SCAN), "UnsupportedJpeg"),
            (&jpeg(&[frame(0xC9, 8, 480, 640)], SCAN), "UnsupportedJpeg"),
            (&[&[0xFF, SOI, 0xFF, 0xFF][..], b"xyz"].concat(), "Truncated"),
        ] {
            assert_eq!(code(bytes), expected, "{bytes:x?}");
        }
    }

    #[test]
    fn end_of_a_thumbnail_is_not_the_end_of_the_picture() {
        let thumbnail = marker(APP1, &[&b"Exif\0\0"[..], &portrait()].concat());
        let cut_off = jpeg(&[thumbnail, frame(0xC0, 8, 480, 640)], &SCAN[..4]);
        assert_eq!(probe(&cut_off), Err(Defect::Truncated { found: "its end marker is missing" }));
    }

    #[test]
    fn what_follows_the_picture_does_not_matter() {
        assert!(probe(&[&portrait()[..], b"<script>PK\x03\x04", &[0; 1_000]].concat()).is_ok());
    }

    #[test]
    fn progressive_picture_of_thousands_of_scans_is_refused() {
        let scan = marker(SOS, &[1, 1, 0, 0, 63, 0]);
        let many = |scans: usize| jpeg(&[frame(0xC2, 8, 480, 640)], &[&scan.repeat(scans)[..], SCAN].concat());
        assert!(probe(&many(MOST_SCANS - 1)).is_ok());
        assert_eq!(probe(&many(MOST_SCANS)).unwrap_err().code().0, "UnsupportedJpeg");
    }

    #[test]
    fn header_of_a_bomb_costs_nothing() {
        let facts = probe(&jpeg(&[frame(0xC0, 8, 65_535, 65_535)], SCAN)).unwrap();
        assert_eq!((facts.width, facts.height), (65_535, 65_535));
        let many = vec![marker(0xE0, b""); 10_000];
        assert!(probe(&jpeg(&[many.concat(), frame(0xC0, 8, 480, 640)], SCAN)).is_ok());
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = probe(&bytes);
            bytes.splice(0..0, [0xFF, SOI, 0xFF]);
            let _ = probe(&bytes);
        }

        #[test]
        fn no_damage_to_a_real_photo_makes_it_panic(
            damage in proptest::collection::vec((0_usize..2_000, any::<u8>()), 1..20),
            cut in 0_usize..100_000,
        ) {
            let mut bytes = real();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            bytes.truncate(cut);
            let _ = probe(&bytes);
        }
    }
}
