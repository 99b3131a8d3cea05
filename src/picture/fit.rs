//! Pixels become a photo that the service takes: scaled, upright, JPEG of quality 80, under 1 MB, with nothing in it but
//! the picture (no place, no camera, no thumbnail).

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};
use jpeg_encoder::{ColorType, Encoder};

use super::{
    Defect, Facts, Kind,
    decode::{Pixels, decode},
    plan::Geometry,
    upright::upright,
};

/// "a compression ratio of 0.8" (API page); lower ones only where that is more than goes inline.
const QUALITIES: [u8; 5] = [80, 70, 60, 50, 40];
/// The sheet that a padded photo is laid upon.
const BACKGROUND: u8 = 255;

/// See the module.
pub(super) fn fit(bytes: &[u8], kind: Kind, facts: &Facts, geometry: &Geometry) -> Result<Pixels, Defect> {
    let stored = Stored::of(facts, geometry);
    let decoded = decode(bytes, kind, stored.wanted())?;
    let scaled = stored.scale(decoded)?;
    Ok(pad(upright(scaled, facts.orientation), geometry.sheet))
}

/// As a JPEG of at most so many bytes.
pub(super) fn encode(pixels: &Pixels, most: u64) -> Result<Vec<u8>, Defect> {
    let side = |pixels: u32| u16::try_from(pixels).expect("what is fitted has at most 1,920 pixels a side");
    let (width, height) = (side(pixels.width), side(pixels.height));
    let mut size = 0;
    for quality in QUALITIES {
        let mut jpeg = Vec::with_capacity(pixels.rgb.len() / 8);
        Encoder::new(&mut jpeg, quality)
            .encode(&pixels.rgb, width, height, ColorType::Rgb)
            .map_err(|error| Defect::NotFitted { why: error.to_string() })?;
        size = jpeg.len() as u64;
        if size <= most {
            return Ok(jpeg);
        }
    }
    Err(Defect::TooLargeInline { size, limit: most })
}

/// The geometry as the picture is stored, which may lie on its side.
struct Stored {
    size: (u32, u32),
    part: (u32, u32, u32, u32),
    drawn: (u32, u32),
}

impl Stored {
    fn of(facts: &Facts, geometry: &Geometry) -> Self {
        let (left, top, width, height) = geometry.part;
        let (across, down) = geometry.drawn;
        if facts.orientation >= 5 {
            Self { size: (facts.height, facts.width), part: (top, left, height, width), drawn: (down, across) }
        } else {
            Self { size: (facts.width, facts.height), part: geometry.part, drawn: geometry.drawn }
        }
    }

    /// Pixels of the whole picture that make the part as large as it is drawn.
    fn wanted(&self) -> (u32, u32) {
        let whole = |size: u32, part: u32, drawn: u32| {
            let wanted = u64::from(size) * u64::from(drawn);
            u32::try_from(wanted.div_ceil(u64::from(part))).unwrap_or(u32::MAX)
        };
        (whole(self.size.0, self.part.2, self.drawn.0), whole(self.size.1, self.part.3, self.drawn.1))
    }

    fn scale(&self, decoded: Pixels) -> Result<Pixels, Defect> {
        let (width, height) = self.drawn;
        let is_whole = self.part == (0, 0, self.size.0, self.size.1);
        if is_whole && (decoded.width, decoded.height) == (width, height) {
            return Ok(decoded);
        }
        let failed = |error: &dyn std::error::Error| Defect::NotFitted { why: error.to_string() };
        // Of one kind of pixel by its type: told at run time, it would bring the code for all kinds, which is 4 MB.
        let source = TypedImageRef::<U8x3>::from_buffer(decoded.width, decoded.height, &decoded.rgb);
        let source = source.map_err(|e| failed(&e))?;
        let mut rgb = vec![0; width as usize * height as usize * 3];
        let mut drawn = TypedImage::<U8x3>::from_buffer(width, height, &mut rgb).map_err(|e| failed(&e))?;
        let (left, top, across, down) = self.part;
        let (left, across) = span((left, across), self.size.0, decoded.width);
        let (top, down) = span((top, down), self.size.1, decoded.height);
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3));
        let options = options.crop(left, top, across, down);
        Resizer::new().resize_typed(&source, &mut drawn, &options).map_err(|e| failed(&e))?;
        Ok(Pixels { width, height, rgb })
    }
}

/// Where `length` pixels from `start`, of a side of `size` pixels, lie once the decoder has scaled that side.
///
/// Counted in 256ths of a pixel, by whole numbers: a quotient of floating-point numbers may round to more than the side,
/// which the resizer refuses.
fn span((start, length): (u32, u32), size: u32, decoded: u32) -> (f64, f64) {
    let at = |pixels: u32| u64::from(pixels) * u64::from(decoded) * 256 / u64::from(size);
    let (from, to) = (at(start), at(start + length));
    (from as f64 / 256.0, (to - from) as f64 / 256.0)
}

/// In the middle of a sheet, where the sheet is larger.
fn pad(picture: Pixels, (width, height): (u32, u32)) -> Pixels {
    if (picture.width, picture.height) == (width, height) {
        return picture;
    }
    let mut rgb = vec![BACKGROUND; width as usize * height as usize * 3];
    let (left, top) = ((width - picture.width) as usize / 2, (height - picture.height) as usize / 2);
    let row = picture.width as usize * 3;
    for (y, pixels) in picture.rgb.chunks_exact(row).enumerate() {
        let at = ((top + y) * width as usize + left) * 3;
        rgb[at..at + row].copy_from_slice(pixels);
    }
    Pixels { width, height, rgb }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::{Fit, Landscape, Limits, Plan, Rules, jpeg, plan::plan};

    fn landscape() -> impl Strategy<Value = Landscape> {
        prop_oneof![Just(Landscape::Crop), Just(Landscape::Pad)]
    }

    /// How a photo of this size, as it is stored, is fitted.
    fn fitted((width, height): (u32, u32), orientation: u8, landscape: Landscape, limits: Limits) -> (Facts, Geometry) {
        let (width, height) = if orientation >= 5 { (height, width) } else { (width, height) };
        let facts = Facts { width, height, orientation, ..Facts::default() };
        let rules = Rules { fit: Fit::Always, landscape, limits, ..Rules::default() };
        let Ok(Plan::Fit(geometry)) = plan(Kind::Jpeg, &facts, 1, &rules) else { panic!("{facts:?} is not fitted") };
        (facts, geometry)
    }

    fn meets(limits: &Limits, (width, height): (u32, u32)) -> bool {
        height > width && width <= limits.width && height <= limits.height
    }

    /// As the decoder scales.
    fn eighths(size: u32, eighths: u32) -> u32 {
        (size * eighths).div_ceil(8)
    }

    #[test]
    fn scaled_side_that_is_no_multiple_stays_within_the_decoded_one() {
        for (size, decoded) in [(2_560, 1_280), (1_707, 854), (5_120, 1_280), (3_413, 854), (3, 1)] {
            assert_eq!(span((0, size), size, decoded), (0.0, f64::from(decoded)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn part_lies_within_the_decoded_picture(
            size in (1_u32..12_000, 1_u32..12_000),
            orientation in 1_u8..=8,
            landscape in landscape(),
            scale in prop::sample::select(vec![1_u32, 2, 4, 8]),
        ) {
            let limits = Limits { original_pixels: u64::MAX, ..Limits::PAGE };
            let (facts, geometry) = fitted(size, orientation, landscape, limits);
            let stored = Stored::of(&facts, &geometry);
            prop_assert_eq!(stored.size, size);
            prop_assert!(meets(&limits, geometry.sheet), "{:?}", geometry);
            let (left, top, across, down) = stored.part;
            for (part, size) in [((left, across), size.0), ((top, down), size.1)] {
                let decoded = eighths(size, scale);
                let (from, length) = span(part, size, decoded);
                prop_assert!(from >= 0.0 && length > 0.0 && from + length <= f64::from(decoded), "{} {}", from, length);
                let exact = f64::from(part.0) * f64::from(decoded) / f64::from(size);
                prop_assert!((from - exact).abs() < 0.01);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Through the decoder and the resizer, against limits that are a twentieth of the page's.
        #[test]
        fn real_photo_of_any_size_is_fitted(
            size in prop_oneof![(1_u32..600, 1_u32..600), (1_u32..4, 1_u32..1_200), (1_u32..1_200, 1_u32..4)],
            orientation in 1_u8..=8,
            landscape in landscape(),
        ) {
            let limits = Limits { width: 54, height: 96, shorter_side: 36, ..Limits::PAGE };
            let (facts, geometry) = fitted(size, orientation, landscape, limits);
            let grey = Pixels { width: size.0, height: size.1, rgb: vec![100; (size.0 * size.1 * 3) as usize] };
            let original = encode(&grey, u64::MAX).unwrap();
            let fitted = fit(&original, Kind::Jpeg, &facts, &geometry).unwrap();
            prop_assert!(meets(&limits, (fitted.width, fitted.height)));
            let sent = jpeg::probe(&encode(&fitted, limits.inline_bytes).unwrap()).unwrap();
            prop_assert_eq!((sent.width, sent.height), geometry.sheet);
        }
    }
}
