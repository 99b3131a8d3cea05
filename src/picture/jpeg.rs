//! Walks the markers of a JPEG (ITU-T T.81, annex B) as libjpeg does: in linear time, without decoding pixels, and
//! without a panic on any input.
//!
//! The walk skips what libjpeg skips: bytes between segments, fill bytes, data after the end marker. It can't tell
//! whether a scan holds all of its rows, so an irregular file is decoded before it is sent ([`Structure`]).
//! [`normalize`] gives the decoder a regular file in which a truncated scan is an error instead of grey rows.

use memchr::memchr;

use super::{Defect, ImageInfo, Kind, exif, info::Structure};

/// Most scans that are decoded: a progressive JPEG has about ten, and each costs a pass over the picture.
const MAX_SCANS: usize = 200;

const SOI: u8 = 0xD8;
const EOI: u8 = 0xD9;
const SOS: u8 = 0xDA;
const DRI: u8 = 0xDD;
const APP1: u8 = 0xE1;

/// Appended to each scan before decoding: stuffed one-bits, which are no Huffman code (T.81, annex C). A decoder that
/// runs out of data fails on them; without them it would read zeros at the end marker and fill the rest with grey.
const SENTINEL: &[u8] = b"\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0\xFF\0";

/// Reads a JPEG's header and checks that the file is complete as far as its markers show.
pub fn probe(bytes: &[u8]) -> Result<ImageInfo, Defect> {
    match Kind::detect(bytes) {
        Kind::Jpeg => {}
        kind => return Err(Defect::NotJpeg { kind }),
    }
    let mut walk = MarkerWalk::new(bytes);
    let (mut frame, mut orientation) = (None::<Frame>, None);
    let (mut interval, mut scans, mut restarts_seen, mut has_all_restarts) = (0, 0, 0, true);
    while let Some(part) = walk.next()? {
        match part {
            Part::Segment { marker, content } => match marker {
                // Only the first frame is the picture's; a second one would be a stray thumbnail.
                0xC0..=0xCF if is_frame(marker) && frame.is_none() => frame = Some(Frame::read(marker, content)?),
                0xC8 => return Err(Defect::UnsupportedJpeg { found: "of a reserved type" }),
                0xCC => return Err(Defect::UnsupportedJpeg { found: "arithmetic-coded" }),
                DRI => interval = content.first_chunk().map_or(0, |&two| u32::from(u16::from_be_bytes(two))),
                APP1 if scans == 0 => orientation = orientation.or_else(|| exif::from_app1(content)),
                SOS => {
                    let Some(frame) = &mut frame else {
                        return Err(Defect::Malformed { found: "it has no frame header" });
                    };
                    scans += 1;
                    frame.begin_scan(content);
                }
                _ => {}
            },
            Part::ScanData { restarts, is_last, .. } => {
                restarts_seen += restarts;
                let expected = frame.as_ref().map_or(0, |frame| frame.restarts(interval));
                has_all_restarts &= !is_last || std::mem::take(&mut restarts_seen) >= expected;
            }
        }
    }
    let Some(frame) = frame.filter(|_| scans > 0) else {
        return Err(Defect::Truncated { found: "it ends before the picture data" });
    };
    if scans > MAX_SCANS {
        return Err(Defect::UnsupportedJpeg { found: "made of hundreds of scans" });
    }
    if !has_all_restarts {
        return Err(Defect::Truncated { found: "restart markers are missing" });
    }
    let structure = match walk.end {
        Some(end) if walk.is_clean && end == bytes.len() => Structure::Standard,
        Some(_) if walk.is_clean => Structure::Trailer,
        Some(_) | None => Structure::Irregular,
    };
    if !frame.has_all_components() || structure != Structure::Standard && !frame.has_all_scans() {
        return Err(Defect::Truncated { found: "scans are missing" });
    }
    let orientation = orientation.unwrap_or(1);
    let ImageInfo { width, height, .. } = frame.info;
    // Orientations 5 to 8 swap width and height.
    let (width, height) = if orientation >= 5 { (height, width) } else { (width, height) };
    Ok(ImageInfo { width, height, orientation, structure, ..frame.info })
}

/// Rewrites a JPEG for the decoder: only the segments that decoding needs, and the end marker after the last scan. If
///  `is_strict`, decoding a truncated scan fails.
pub(super) fn normalize(bytes: &[u8], is_strict: bool) -> Vec<u8> {
    let mut normal = Vec::with_capacity(bytes.len() + 1_024);
    normal.extend_from_slice(&[0xFF, SOI]);
    let mut walk = MarkerWalk::new(bytes);
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
                // Among the application segments, JFIF and Adobe define the colours.
                let is_needed = is_frame(marker) || matches!(marker, 0xC4 | SOS | 0xDB | DRI | 0xE0 | 0xEE);
                if is_needed && !is_second_frame {
                    let length = u16::try_from(content.len() + 2).expect("the segment was read with a 16-bit length");
                    normal.extend_from_slice(&[0xFF, marker]);
                    normal.extend_from_slice(&length.to_be_bytes());
                    normal.extend_from_slice(content);
                }
            }
            Part::ScanData { bytes, .. } => {
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

/// Next part of the file.
enum Part<'a> {
    /// Segment with its content after the length field.
    Segment { marker: u8, content: &'a [u8] },
    /// Entropy-coded data, the number of restart markers in it, and whether it is the last of its scan.
    ScanData { bytes: &'a [u8], restarts: u32, is_last: bool },
}

struct MarkerWalk<'a> {
    bytes: &'a [u8],
    offset: usize,
    /// Whether `offset` is inside scan data.
    is_in_scan: bool,
    /// Whether a scan was seen: unparseable data after it is treated as a trailer.
    has_scan: bool,
    /// Whether no byte was skipped.
    is_clean: bool,
    is_finished: bool,
    /// Offset after the end marker, once seen.
    end: Option<usize>,
}

impl<'a> MarkerWalk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 2, is_in_scan: false, has_scan: false, is_clean: true, is_finished: false, end: None }
    }

    fn next(&mut self) -> Result<Option<Part<'a>>, Defect> {
        if self.is_in_scan {
            return Ok(Some(self.data()));
        }
        while !self.is_finished {
            let before = self.offset;
            match self.segment() {
                Ok(None) => {}
                Ok(part) => return Ok(part),
                Err(_) if self.has_scan => {
                    // The end marker is missing, and the rest is not part of the picture.
                    self.offset = before;
                    self.is_finished = true;
                }
                Err(defect) => return Err(defect),
            }
        }
        Ok(None)
    }

    /// Reads the next marker and its segment; `None` if the marker has no segment.
    fn segment(&mut self) -> Result<Option<Part<'a>>, Defect> {
        let marker = self.marker()?;
        match marker {
            // Stand-alone markers, which should not be in a header but are tolerated.
            0x01 | 0xD0..=0xD7 => {
                self.is_clean = false;
                return Ok(None);
            }
            // A second picture starts, and the first has no end marker.
            SOI if self.has_scan => return Err(Defect::Malformed { found: "a second picture begins inside it" }),
            SOI => {
                self.is_clean = false;
                return Ok(None);
            }
            EOI => {
                self.end = Some(self.offset);
                self.is_finished = true;
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
                return Err(Defect::Malformed { found: "a scan header has a wrong length" });
            }
            (self.is_in_scan, self.has_scan) = (true, true);
        }
        Ok(Some(Part::Segment { marker, content }))
    }

    /// Reads the next marker and skips fill bytes and stray bytes, like libjpeg's `next_marker`.
    fn marker(&mut self) -> Result<u8, Defect> {
        let cut_off = Defect::Truncated { found: "it ends within its header" };
        loop {
            let skipped = memchr(0xFF, &self.bytes[self.offset..]).ok_or(cut_off.clone())?;
            self.offset += skipped;
            while self.bytes.get(self.offset) == Some(&0xFF) {
                self.offset += 1;
            }
            let code = *self.bytes.get(self.offset).ok_or(cut_off.clone())?;
            self.offset += 1;
            self.is_clean &= skipped == 0 && code != 0;
            if code != 0 {
                return Ok(code);
            }
        }
    }

    /// Reads the content of the segment whose length field is at `offset`.
    fn content(&mut self) -> Result<&'a [u8], Defect> {
        let cut_off = Defect::Truncated { found: "it ends within its header" };
        let length = self.bytes.get(self.offset..).and_then(|rest| rest.first_chunk::<2>()).ok_or(cut_off.clone())?;
        let length = usize::from(u16::from_be_bytes(*length));
        if length < 2 {
            return Err(Defect::Malformed { found: "a segment is shorter than its own length field" });
        }
        let content = self.bytes.get(self.offset + 2..self.offset + length).ok_or(cut_off)?;
        self.offset += length;
        Ok(content)
    }

    /// Reads scan data to its end, or up to a fill byte that must be left out.
    fn data(&mut self) -> Part<'a> {
        let start = self.offset;
        let mut restarts = 0;
        loop {
            let found = memchr(0xFF, &self.bytes[self.offset..]);
            let marked = self.offset + found.unwrap_or(self.bytes.len() - self.offset);
            let fill = self.bytes[marked..].iter().take_while(|&&byte| byte == 0xFF).count();
            self.offset = marked + fill + 1;
            match self.bytes.get(marked + fill) {
                // FF 00 is a data byte FF; libjpeg accepts fill bytes before the 00.
                Some(0) if fill > 1 => {
                    self.offset = marked + fill;
                    self.is_clean = false;
                    return Part::ScanData { bytes: &self.bytes[start..=marked], restarts, is_last: false };
                }
                Some(0) => {}
                Some(0xD0..=0xD7) => restarts += 1,
                Some(_) | None => {
                    self.offset = marked;
                    self.is_in_scan = false;
                    return Part::ScanData { bytes: &self.bytes[start..marked], restarts, is_last: true };
                }
            }
        }
    }
}

/// Frame header, and the progress of its scans.
struct Frame<'a> {
    info: ImageInfo,
    /// Id, sampling factors (four bits each for horizontal and vertical) and table of each component.
    components: &'a [[u8; 3]],
    /// Bit mask of the coefficients of each component that are complete to the last bit.
    complete: [u64; 4],
    /// Components of the last scan.
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
            return unsupported("of a precision other than 8 bits");
        }
        let (width, height) = (u32::from(u16::from_be_bytes([w1, w0])), u32::from(u16::from_be_bytes([h1, h0])));
        if width == 0 || height == 0 {
            return Err(Defect::Malformed { found: "its width or height is zero" });
        }
        if !matches!(components, 1 | 3 | 4) {
            return Err(Defect::Malformed { found: "it does not have 1, 3 or 4 colour components" });
        }
        let specifications = rest.as_chunks::<3>().0;
        let has_sampling =
            |&[_, sampling, _]: &[u8; 3]| (1..=4).contains(&(sampling >> 4)) && (1..=4).contains(&(sampling & 15));
        if specifications.len() != usize::from(components) || !specifications.iter().all(has_sampling) {
            return Err(Defect::Malformed { found: "its frame header does not describe all colour components" });
        }
        let has_twin = |n: usize| specifications[..n].iter().any(|other| other[0] == specifications[n][0]);
        if (1..specifications.len()).any(has_twin) {
            return unsupported("one with duplicate colour components");
        }
        let is_progressive = marker == 0xC2;
        let pixels = u64::from(width) * u64::from(height);
        // The decoder holds all coefficients (two bytes each) of a progressive picture; others it decodes line by line.
        let decoded_bytes = if is_progressive { pixels * u64::from(components) * 2 } else { 0 };
        let info = ImageInfo { width, height, is_progressive, components, decoded_bytes, ..ImageInfo::default() };
        Ok(Self { info, components: specifications, complete: [0; 4], scanned: Vec::new() })
    }

    /// Records the components of a scan; the length of `header` was checked before.
    fn begin_scan(&mut self, header: &[u8]) {
        let (selectors, parameters) = header[1..].split_at(header.len() - 4);
        let position = |id: u8| self.components.iter().position(|component| component[0] == id);
        self.scanned = selectors.as_chunks::<2>().0.iter().filter_map(|&[id, _]| position(id)).collect();
        let (first, last, low) =
            (parameters[0].min(63), parameters[1].clamp(parameters[0].min(63), 63), parameters[2] & 15);
        let is_whole = !self.info.is_progressive;
        let band = if is_whole { u64::MAX } else { (u64::MAX >> (63 - last)) & (u64::MAX << first) };
        if is_whole || low == 0 {
            for &component in &self.scanned {
                self.complete[component] |= band;
            }
        }
    }

    /// Expected restart markers in the last scan: one after every `interval` blocks.
    fn restarts(&self, interval: u32) -> u32 {
        let sampling = |component: usize| {
            let both = self.components[component][1];
            (u32::from(both >> 4), u32::from(both & 15))
        };
        let all = || (0..self.components.len()).map(sampling);
        let widest = all().map(|(across, _)| across).max().unwrap_or(1);
        let highest = all().map(|(_, down)| down).max().unwrap_or(1);
        let ImageInfo { width, height, .. } = self.info;
        let blocks = match self.scanned[..] {
            // A scan of one component counts that component's blocks.
            [component] => {
                let (across, down) = sampling(component);
                (width * across).div_ceil(8 * widest) * (height * down).div_ceil(8 * highest)
            }
            _ => width.div_ceil(8 * widest) * height.div_ceil(8 * highest),
        };
        if interval == 0 { 0 } else { blocks.div_ceil(interval).saturating_sub(1) }
    }

    /// Whether each component is in some scan.
    fn has_all_components(&self) -> bool {
        self.complete[..self.components.len()].iter().all(|&complete| complete != 0)
    }

    /// Whether each coefficient is complete. An encoder may omit some, which looks like a truncated file.
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
    fn real_portrait_is_probed() {
        let info = probe(&real()).unwrap();
        assert_eq!((info.width, info.height, info.orientation, info.components), (720, 960, 1, 3));
    }

    #[test]
    fn orientation_swaps_width_and_height() {
        for is_little in [true, false] {
            for orientation in 1..=8_u8 {
                let exif = marker(APP1, &exif::segment(orientation, is_little));
                let info = probe(&jpeg(&[exif, frame(0xC2, 8, 640, 480)], SCAN)).unwrap();
                let expected = if orientation >= 5 { (480, 640) } else { (640, 480) };
                assert_eq!((info.width, info.height), expected);
                assert_eq!(info.orientation, orientation);
                assert!(info.is_progressive);
            }
        }
    }

    #[test]
    fn damage_has_a_code() {
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
    fn structure_is_detected_from_markers() {
        let whole = portrait();
        let with_trailer = |bytes: &[u8]| probe(&[&whole[..], bytes].concat()).unwrap().structure;
        assert_eq!(with_trailer(b""), Structure::Standard);
        assert_eq!(with_trailer(b"<script>PK\x03\x04"), Structure::Trailer);
        // Scans in a trailer are not counted.
        assert_eq!(with_trailer(&[0xFF, SOS, 0x11].repeat(1_000)), Structure::Trailer);
        let endless = &whole[..whole.len() - 2];
        for odd in [
            endless.to_vec(),
            [endless, &whole].concat(),
            [endless, b"\0\0\xFF\xC4\xFF"].concat(),
            [&whole[..2], &marker(0xE0, b""), b"\0\x01", &whole[2..]].concat(),
            [&whole[..2], b"\xFF\0", &whole[2..]].concat(),
        ] {
            assert_eq!(probe(&odd).map(|info| info.structure), Ok(Structure::Irregular), "{odd:x?}");
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
        // 480 x 640 has 1,200 blocks of 16 x 16, so an interval of 400 needs two restart markers.
        let with_restarts = |markers: &[u8]| {
            let scan: Vec<u8> = markers.iter().flat_map(|&code| [1, 2, 0xFF, code]).collect();
            jpeg(&[marker(DRI, &400_u16.to_be_bytes()), frame(0xC0, 8, 480, 640)], &[&scan, SCAN].concat())
        };
        assert!(probe(&with_restarts(&[0xD0, 0xD1])).is_ok());
        assert!(truncated(&with_restarts(&[0xD0])));
    }

    #[test]
    fn too_many_progressive_scans_are_rejected() {
        let scan = marker(SOS, &[1, 1, 0, 0, 63, 0]);
        let many = |scans: usize| jpeg(&[frame(0xC2, 8, 480, 640)], &[&scan.repeat(scans)[..], SCAN].concat());
        assert!(probe(&many(MAX_SCANS - 1)).is_ok());
        assert_eq!(probe(&many(MAX_SCANS)).unwrap_err().code().0, "UnsupportedJpeg");
    }

    #[test]
    fn decompression_bomb_header_is_probed_cheaply() {
        let info = probe(&jpeg(&[frame(0xC0, 8, 65_535, 65_535)], SCAN)).unwrap();
        assert_eq!((info.width, info.height), (65_535, 65_535));
        let many = vec![marker(0xE0, b""); 10_000];
        assert!(probe(&jpeg(&[many.concat(), frame(0xC0, 8, 480, 640)], SCAN)).is_ok());
    }

    proptest! {
        #[test]
        fn random_bytes_do_not_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = probe(&bytes);
            bytes.splice(0..0, [0xFF, SOI, 0xFF]);
            let _ = probe(&bytes);
        }

        #[test]
        fn damaged_photo_does_not_panic(
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
