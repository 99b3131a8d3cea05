//! Walks the markers of a JPEG (ITU-T T.81, annex B) as libjpeg does. Linear in its bytes, no pixel decoded, no panic on
//! any input.
//!
//! What libjpeg skips is skipped: bytes between segments, fill bytes, whatever follows the end marker. The walk can't tell
//! whether a scan holds all of its rows, so a file that is odd in any way is decoded before it is sent
//! ([`Structure`]). [`normalize`] gives the decoder a file without oddities, in which a scan that ends too early is an
//! error instead of grey.

use memchr::memchr;

use super::{Defect, Facts, Kind, exif, facts::Structure};

/// Scans of a JPEG that are decoded: a progressive one has ten; each costs a pass over the picture.
const MAX_SCANS: usize = 200;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DRI: u8 = 0xDD;
const APP1: u8 = 0xE1;

/// Put behind each scan before it is decoded: ones (stuffed), which no Huffman code consists of (T.81, annex C). A decoder
/// that runs out of data fails on them, where it would take the end marker for zeros and fill the rest with grey.
const SENTINEL: &[u8] = b"\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0";

/// What a JPEG's header says, if it is one and is whole as far as its markers tell.
pub fn probe(bytes: &[u8]) -> Result<Facts, Defect> {
    match Kind::of(bytes) {
        Kind::Jpeg => {}
        kind => return Err(Defect::NotJpeg { kind }),
    }
    let mut walk = Walk::new(bytes);
    let (mut frame, mut orientation) = (None::<Frame>, None);
    let (mut interval, mut scans, mut met, mut has_all_restarts) = (0, 0, 0, true);
    while let Some(part) = walk.next()? {
        match part {
            Part::Segment { marker, content } => match marker {
                // The frame of the picture itself; a second one would be a thumbnail gone astray.
                0xC0..=0xCF if is_frame(marker) && frame.is_none() => frame = Some(Frame::read(marker, content)?),
                0xC8 => return Err(Defect::UnsupportedJpeg { found: "of a kind that was never standardised" }),
                0xCC => return Err(Defect::UnsupportedJpeg { found: "arithmetic-coded" }),
                DRI => interval = content.first_chunk().map_or(0, |&two| u32::from(u16::from_be_bytes(two))),
                APP1 if scans == 0 => orientation = orientation.or_else(|| exif::of_app1(content)),
                SOS => {
                    let Some(frame) = &mut frame else {
                        return Err(Defect::Malformed { found: "it has no frame header" });
                    };
                    scans += 1;
                    frame.begin_scan(content);
                }
                _ => {}
            },
            Part::Data { restarts, is_last, .. } => {
                met += restarts;
                let expected = frame.as_ref().map_or(0, |frame| frame.restarts(interval));
                has_all_restarts &= !is_last || std::mem::take(&mut met) >= expected;
            }
        }
    }
    let Some(frame) = frame.filter(|_| scans > 0) else {
        return Err(Defect::Truncated { found: "it ends before any picture" });
    };
    if scans > MAX_SCANS {
        return Err(Defect::UnsupportedJpeg { found: "of hundreds of scans" });
    }
    if !has_all_restarts {
        return Err(Defect::Truncated { found: "not all of its restart markers are there" });
    }
    let structure = match walk.end {
        Some(end) if walk.is_clean && end == bytes.len() => Structure::Standard,
        Some(_) if walk.is_clean => Structure::Trailer,
        Some(_) | None => Structure::Irregular,
    };
    if !frame.has_all_colours() || structure != Structure::Standard && !frame.has_all_scans() {
        return Err(Defect::Truncated { found: "not all of its scans are there" });
    }
    let orientation = orientation.unwrap_or(1);
    let Facts { width, height, .. } = frame.facts;
    // 5 to 8 are turned by a quarter.
    let (width, height) = if orientation >= 5 { (height, width) } else { (width, height) };
    Ok(Facts { width, height, orientation, structure, ..frame.facts })
}

/// The same picture as a file without oddities, for a decoder: only what decoding takes, the end marker behind the last
/// scan, nothing behind that. With `is_strict`, a scan that lacks data can't be decoded.
pub(super) fn normalize(bytes: &[u8], is_strict: bool) -> Vec<u8> {
    let mut normal = Vec::with_capacity(bytes.len() + 1_024);
    normal.extend_from_slice(&[0xFF, SOI]);
    let mut walk = Walk::new(bytes);
    let (mut has_frame, mut is_in_scan) = (false, false);
    let end_scan = |normal: &mut Vec<u8>, is_in_scan: bool| {
        if is_in_scan && is_strict {
            normal.extend_from_slice(SENTINEL);
        }
    };
    while let Ok(Some(part)) = walk.next() {
        match part {
            Part::Segment { marker, content } => {
                end_scan(&mut normal, std::mem::take(&mut is_in_scan));
                let is_second_frame = has_frame && is_frame(marker);
                has_frame |= is_frame(marker);
                // Of the application's segments, JFIF's and Adobe's tell the colours.
                let is_needed = is_frame(marker) || matches!(marker, 0xC4 | SOS | 0xDB | DRI | 0xE0 | 0xEE);
                if is_needed && !is_second_frame {
                    let length = u16::try_from(content.len() + 2).expect("a segment was read with its length");
                    normal.extend_from_slice(&[0xFF, marker]);
                    normal.extend_from_slice(&length.to_be_bytes());
                    normal.extend_from_slice(content);
                }
            }
            Part::Data { bytes, .. } => {
                is_in_scan = true;
                normal.extend_from_slice(bytes);
            }
        }
    }
    end_scan(&mut normal, is_in_scan);
    normal.extend_from_slice(&[0xFF, EOI]);
    normal
}

fn is_frame(marker: u8) -> bool {
    matches!(marker, 0xC0..=0xCF) && !matches!(marker, 0xC4 | 0xC8 | 0xCC)
}

/// A piece of the file, in order.
enum Part<'a> {
    /// With a length; its content is what follows that.
    Segment { marker: u8, content: &'a [u8] },
    /// Of a scan, with the restart markers in it, and whether it is the last of that scan.
    Data { bytes: &'a [u8], restarts: u32, is_last: bool },
}

struct Walk<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Whether data of a scan stands at `at`.
    is_in_scan: bool,
    /// Whether a scan has been met: what can't be understood from there on is taken for something behind the picture.
    has_scan: bool,
    /// Whether nothing was skipped.
    is_clean: bool,
    /// Whether the walk is over.
    is_over: bool,
    /// Where the end marker ends, once it is met.
    end: Option<usize>,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 2, is_in_scan: false, has_scan: false, is_clean: true, is_over: false, end: None }
    }

    fn next(&mut self) -> Result<Option<Part<'a>>, Defect> {
        if self.is_in_scan {
            return Ok(Some(self.data()));
        }
        while !self.is_over {
            let before = self.at;
            match self.segment() {
                Ok(None) => {}
                Ok(part) => return Ok(part),
                Err(_) if self.has_scan => {
                    // Without an end marker, and something behind: no part of the picture.
                    self.at = before;
                    self.is_over = true;
                }
                Err(defect) => return Err(defect),
            }
        }
        Ok(None)
    }

    /// The next marker with what belongs to it; none where it has no content.
    fn segment(&mut self) -> Result<Option<Part<'a>>, Defect> {
        let marker = self.marker()?;
        match marker {
            // Without a length: stand-alone markers that a header may, but should not, have.
            0x01 | 0xD0..=0xD7 => {
                self.is_clean = false;
                return Ok(None);
            }
            // A second picture, where the first has no end.
            SOI if self.has_scan => return Err(Defect::Malformed { found: "a picture begins within it" }),
            SOI => {
                self.is_clean = false;
                return Ok(None);
            }
            EOI => {
                self.end = Some(self.at);
                self.is_over = true;
                return Ok(None);
            }
            _ if self.has_scan && !matches!(marker, 0xC4 | SOS | 0xDB | 0xDC | DRI | 0xE0..=0xEF | 0xFE) => {
                return Err(Defect::Malformed { found: "it has a second header" });
            }
            _ => {}
        }
        let content = self.content()?;
        if marker == SOS {
            if content.len() != 4 + 2 * usize::from(content.first().copied().unwrap_or(0)) {
                return Err(Defect::Malformed { found: "a scan's header has a wrong length" });
            }
            (self.is_in_scan, self.has_scan) = (true, true);
        }
        Ok(Some(Part::Segment { marker, content }))
    }

    /// The marker at `at`, behind any fill bytes and anything that is none, as libjpeg's `next_marker`.
    fn marker(&mut self) -> Result<u8, Defect> {
        let cut_off = Defect::Truncated { found: "it ends within its header" };
        loop {
            let skipped = memchr(0xFF, &self.bytes[self.at..]).ok_or(cut_off.clone())?;
            self.at += skipped;
            while self.bytes.get(self.at) == Some(&0xFF) {
                self.at += 1;
            }
            let code = *self.bytes.get(self.at).ok_or(cut_off.clone())?;
            self.at += 1;
            self.is_clean &= skipped == 0 && code != 0;
            if code != 0 {
                return Ok(code);
            }
        }
    }

    /// The content of the segment whose length stands at `at`.
    fn content(&mut self) -> Result<&'a [u8], Defect> {
        let cut_off = Defect::Truncated { found: "it ends within its header" };
        let length = self.bytes.get(self.at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(cut_off.clone())?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length < 2 {
            return Err(Defect::Malformed { found: "a segment is shorter than its own length field" });
        }
        let content = self.bytes.get(self.at + 2..self.at + length).ok_or(cut_off)?;
        self.at += length;
        Ok(content)
    }

    /// Data of a scan: all of it, or as far as a fill byte that is left out.
    fn data(&mut self) -> Part<'a> {
        let start = self.at;
        let mut restarts = 0;
        loop {
            let found = memchr(0xFF, &self.bytes[self.at..]);
            let marked = self.at + found.unwrap_or(self.bytes.len() - self.at);
            let fill = self.bytes[marked..].iter().take_while(|&&byte| byte == 0xFF).count();
            self.at = marked + fill + 1;
            match self.bytes.get(marked + fill) {
                // FF 00 is an FF of the data; libjpeg takes fill bytes there too.
                Some(0) if fill > 1 => {
                    self.at = marked + fill;
                    self.is_clean = false;
                    return Part::Data { bytes: &self.bytes[start..=marked], restarts, is_last: false };
                }
                Some(0) => {}
                Some(0xD0..=0xD7) => restarts += 1,
                Some(_) | None => {
                    self.at = marked;
                    self.is_in_scan = false;
                    return Part::Data { bytes: &self.bytes[start..marked], restarts, is_last: true };
                }
            }
        }
    }
}

/// What the frame header says, and what was seen of its scans.
struct Frame<'a> {
    facts: Facts,
    /// Of each component: its id, its sampling factors (across and down, four bits each), its table.
    components: &'a [[u8; 3]],
    /// Of each component, the coefficients that are there to the last bit.
    complete: [u64; 4],
    /// Components of the scan that was met last.
    scanned: Vec<usize>,
}

impl<'a> Frame<'a> {
    fn read(marker: u8, segment: &'a [u8]) -> Result<Self, Defect> {
        let &[precision, h1, h0, w1, w0, components, ref rest @ ..] = segment else {
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
        let specifications = rest.as_chunks::<3>().0;
        let has_sampling =
            |&[_, sampling, _]: &[u8; 3]| (1..=4).contains(&(sampling >> 4)) && (1..=4).contains(&(sampling & 15));
        if specifications.len() != usize::from(components) || !specifications.iter().all(has_sampling) {
            return Err(Defect::Malformed { found: "its frame header does not describe its colours" });
        }
        let has_twin = |n: usize| specifications[..n].iter().any(|other| other[0] == specifications[n][0]);
        if (1..specifications.len()).any(has_twin) {
            return unsupported("one whose colours can't be told apart");
        }
        let is_progressive = marker == 0xC2;
        let pixels = u64::from(width) * u64::from(height);
        // A progressive picture is held whole, as coefficients of two bytes; any other goes by line by line.
        let decoded_bytes = if is_progressive { pixels * u64::from(components) * 2 } else { 0 };
        let facts = Facts { width, height, is_progressive, components, decoded_bytes, ..Facts::default() };
        Ok(Self { facts, components: specifications, complete: [0; 4], scanned: Vec::new() })
    }

    /// `header` is one of the length that it should have.
    fn begin_scan(&mut self, header: &[u8]) {
        let (selectors, parameters) = header[1..].split_at(header.len() - 4);
        let position = |id: u8| self.components.iter().position(|component| component[0] == id);
        self.scanned = selectors.as_chunks::<2>().0.iter().filter_map(|&[id, _]| position(id)).collect();
        let (first, last, low) =
            (parameters[0].min(63), parameters[1].clamp(parameters[0].min(63), 63), parameters[2] & 15);
        let is_whole = !self.facts.is_progressive;
        let band = if is_whole { u64::MAX } else { (u64::MAX >> (63 - last)) & (u64::MAX << first) };
        if is_whole || low == 0 {
            for &component in &self.scanned {
                self.complete[component] |= band;
            }
        }
    }

    /// Restart markers within the scan that was met last, where one is due after each `interval` blocks.
    fn restarts(&self, interval: u32) -> u32 {
        let sampling = |component: usize| {
            let both = self.components[component][1];
            (u32::from(both >> 4), u32::from(both & 15))
        };
        let all = || (0..self.components.len()).map(sampling);
        let widest = all().map(|(across, _)| across).max().unwrap_or(1);
        let highest = all().map(|(_, down)| down).max().unwrap_or(1);
        let Facts { width, height, .. } = self.facts;
        let blocks = match self.scanned[..] {
            // A scan of one component goes by that component's blocks.
            [component] => {
                let (across, down) = sampling(component);
                (width * across).div_ceil(8 * widest) * (height * down).div_ceil(8 * highest)
            }
            _ => width.div_ceil(8 * widest) * height.div_ceil(8 * highest),
        };
        if interval == 0 { 0 } else { blocks.div_ceil(interval).saturating_sub(1) }
    }

    /// Has each component been met?
    fn has_all_colours(&self) -> bool {
        self.complete[..self.components.len()].iter().all(|&complete| complete != 0)
    }

    /// Is each coefficient there to its last bit? An encoder may leave some out, which a cut file looks like.
    fn has_all_scans(&self) -> bool {
        self.complete[..self.components.len()].iter().all(|&complete| complete == u64::MAX)
    }
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
    fn thumbnail_end_is_not_picture_end() {
        let thumbnail = marker(APP1, &[&b"Exif\0\0"[..], &portrait()].concat());
        let endless = jpeg(&[thumbnail, frame(0xC0, 8, 480, 640)], &SCAN[..4]);
        assert_eq!(probe(&endless).unwrap().structure, Structure::Irregular);
    }

    #[test]
    fn structure_tells_what_the_markers_vouch_for() {
        let whole = portrait();
        let behind = |bytes: &[u8]| probe(&[&whole[..], bytes].concat()).unwrap().structure;
        assert_eq!(behind(b""), Structure::Standard);
        assert_eq!(behind(b"<script>PK\x03\x04"), Structure::Trailer);
        // Scans of whatever follows are not counted.
        assert_eq!(behind(&[0xFF, SOS, 0x11].repeat(1_000)), Structure::Trailer);
        let endless = &whole[..whole.len() - 2];
        for odd in [
            endless.to_vec(),
            [endless, &whole].concat(),
            [endless, b"\0\0\xFF\xC4\xFF"].concat(),
            [&whole[..2], &marker(0xE0, b""), b"\0\x01", &whole[2..]].concat(),
            [&whole[..2], b"\xFF\0", &whole[2..]].concat(),
        ] {
            assert_eq!(probe(&odd).map(|facts| facts.structure), Ok(Structure::Irregular), "{odd:x?}");
        }
    }

    #[test]
    fn missing_scans_and_restart_markers_are_truncation() {
        let truncated = |bytes: &[u8]| probe(bytes).unwrap_err().code().0 == "Truncated";
        let colour = [marker(SOS, &[1, 1, 0, 0, 63, 0]), vec![1, 2]].concat();
        let only_grey = [&[0xFF, SOI][..], &frame(0xC0, 8, 480, 640), &colour, &[0xFF, EOI]].concat();
        assert!(truncated(&only_grey));
        let coarse = marker(SOS, &[3, 1, 0, 2, 0, 3, 0, 0, 0, 0]);
        let coarse = [&[0xFF, SOI][..], &frame(0xC2, 8, 480, 640), &coarse, &[1, 2, 0xFF, EOI]].concat();
        assert!(probe(&coarse).is_ok() && truncated(&[&coarse[..], b"tail"].concat()));
        // 480 x 640 in blocks of 16 x 16 are 1,200: three restarts for 400 blocks each.
        let with_restarts = |markers: &[u8]| {
            let scan: Vec<u8> = markers.iter().flat_map(|&code| [1, 2, 0xFF, code]).collect();
            jpeg(&[marker(DRI, &400_u16.to_be_bytes()), frame(0xC0, 8, 480, 640)], &[&scan, SCAN].concat())
        };
        assert!(probe(&with_restarts(&[0xD0, 0xD1])).is_ok());
        assert!(truncated(&with_restarts(&[0xD0])));
    }

    #[test]
    fn progressive_picture_of_thousands_of_scans_is_refused() {
        let scan = marker(SOS, &[1, 1, 0, 0, 63, 0]);
        let many = |scans: usize| jpeg(&[frame(0xC2, 8, 480, 640)], &[&scan.repeat(scans)[..], SCAN].concat());
        assert!(probe(&many(MAX_SCANS - 1)).is_ok());
        assert_eq!(probe(&many(MAX_SCANS)).unwrap_err().code().0, "UnsupportedJpeg");
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
