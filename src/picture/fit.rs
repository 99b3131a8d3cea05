//! Re-encodes a photo so that the service accepts it: scaled, upright, JPEG of quality 80, under 1 MB, without metadata
//! (no location, no camera, no thumbnail).

use fast_image_resize::FilterType;
use image::{Rgb, RgbImage, imageops};
use jpeg_encoder::{ColorType, Encoder};

use super::{
    Defect, ImageInfo, Kind,
    decode::{Pixels, decode},
    orientation::apply_orientation,
    plan::Geometry,
    resize::resize,
};

/// JPEG qualities to try: 80 is "a compression ratio of 0.8" (API page), lower ones only if the result is too large.
const JPEG_QUALITIES: [u8; 5] = [80, 70, 60, 50, 40];
/// Colour of the padding: white.
const BACKGROUND: Rgb<u8> = Rgb([255; 3]);

/// Decodes, crops and scales a photo, and turns it upright.
pub(super) fn fit(bytes: &[u8], kind: Kind, info: &ImageInfo, geometry: &Geometry) -> Result<Pixels, Defect> {
    let stored = StoredGeometry::new(info, geometry);
    let decoded = decode(bytes, kind, stored.decode_size())?;
    let scaled = stored.scale(decoded)?;
    Ok(apply_orientation(scaled, info.orientation))
}

/// Decodes the whole photo and turns it upright, for [`crop`].
pub(super) fn decode_whole(bytes: &[u8], kind: Kind, info: &ImageInfo, geometry: &Geometry) -> Result<Pixels, Defect> {
    let stored = StoredGeometry::new(info, geometry);
    Ok(apply_orientation(decode(bytes, kind, stored.decode_size())?, info.orientation))
}

/// Crops and scales an upright photo, of which `info` gives the original size.
pub(super) fn crop(upright: Pixels, info: &ImageInfo, geometry: &Geometry) -> Result<Pixels, Defect> {
    StoredGeometry::new(&ImageInfo { orientation: 1, ..*info }, geometry).scale(upright)
}

/// Size to which a photo is decoded at least.
pub(super) fn decode_size(info: &ImageInfo, geometry: &Geometry) -> (u32, u32) {
    StoredGeometry::new(info, geometry).decode_size()
}

/// Encodes a JPEG of at most `max_bytes`.
pub(super) fn encode(pixels: &Pixels, max_bytes: u64) -> Result<Vec<u8>, Defect> {
    let side = |pixels: u32| u16::try_from(pixels).expect("a fitted photo has at most 1,920 pixels a side");
    let (width, height) = (side(pixels.width), side(pixels.height));
    let mut size = 0;
    for quality in JPEG_QUALITIES {
        let mut jpeg = Vec::with_capacity(pixels.rgb.len() / 8);
        Encoder::new(&mut jpeg, quality)
            .encode(&pixels.rgb, width, height, ColorType::Rgb)
            .map_err(|error| Defect::NotFitted { why: error.to_string() })?;
        size = jpeg.len() as u64;
        if size <= max_bytes {
            return Ok(jpeg);
        }
    }
    Err(Defect::TooLargeInline { size, limit: max_bytes })
}

/// The geometry in stored pixels, before the orientation is applied.
struct StoredGeometry {
    size: (u32, u32),
    crop: (u32, u32, u32, u32),
    scaled: (u32, u32),
}

impl StoredGeometry {
    fn new(info: &ImageInfo, geometry: &Geometry) -> Self {
        let (left, top, width, height) = geometry.crop;
        let (across, down) = geometry.scaled;
        if info.orientation >= 5 {
            Self { size: (info.height, info.width), crop: (top, left, height, width), scaled: (down, across) }
        } else {
            Self { size: (info.width, info.height), crop: geometry.crop, scaled: geometry.scaled }
        }
    }

    /// Smallest size of the whole picture at which the crop is as large as its scaled size.
    fn decode_size(&self) -> (u32, u32) {
        let side = |size: u32, crop: u32, scaled: u32| {
            let product = u64::from(size) * u64::from(scaled);
            u32::try_from(product.div_ceil(u64::from(crop))).unwrap_or(u32::MAX)
        };
        (side(self.size.0, self.crop.2, self.scaled.0), side(self.size.1, self.crop.3, self.scaled.1))
    }

    fn scale(&self, decoded: Pixels) -> Result<Pixels, Defect> {
        let is_whole = self.crop == (0, 0, self.size.0, self.size.1);
        if is_whole && (decoded.width, decoded.height) == self.scaled {
            return Ok(decoded);
        }
        let (left, top, across, down) = self.crop;
        let (left, across) = span((left, across), self.size.0, decoded.width);
        let (top, down) = span((top, down), self.size.1, decoded.height);
        resize(&decoded, (left, top, across, down), self.scaled, FilterType::Lanczos3)
    }
}

/// Maps `length` pixels from `start` on a side of `size` pixels to the same side as decoded, of `decoded` pixels.
///
/// Uses integers, in 1/256 pixel: a floating-point quotient may round up beyond the side, which the resizer rejects.
fn span((start, length): (u32, u32), size: u32, decoded: u32) -> (f64, f64) {
    let at = |pixels: u32| u64::from(pixels) * u64::from(decoded) * 256 / u64::from(size);
    let (from, to) = (at(start), at(start + length));
    (from as f64 / 256.0, (to - from) as f64 / 256.0)
}

/// Centres the picture on a white canvas if the canvas is larger.
pub(super) fn pad(picture: Pixels, (width, height): (u32, u32)) -> Pixels {
    if (picture.width, picture.height) == (width, height) {
        return picture;
    }
    let (left, top) = ((width - picture.width) / 2, (height - picture.height) / 2);
    let picture = RgbImage::from_raw(picture.width, picture.height, picture.rgb).expect("three bytes for each pixel");
    let mut canvas = RgbImage::from_pixel(width, height, BACKGROUND);
    imageops::replace(&mut canvas, &picture, left.into(), top.into());
    Pixels { width, height, rgb: canvas.into_raw() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::picture::{Fit, Landscape, Plan, Rules, SizeLimits, jpeg, plan::plan};

    fn landscape() -> impl Strategy<Value = Landscape> {
        prop_oneof![Just(Landscape::Crop), Just(Landscape::Pad)]
    }

    /// Geometry for a photo of this stored size.
    fn fitted(
        (width, height): (u32, u32),
        orientation: u8,
        landscape: Landscape,
        limits: SizeLimits,
    ) -> (ImageInfo, Geometry) {
        let (width, height) = if orientation >= 5 { (height, width) } else { (width, height) };
        let info = ImageInfo { width, height, orientation, ..ImageInfo::default() };
        let rules = Rules { fit: Fit::Always, landscape, limits, ..Rules::default() };
        let Ok(Plan::Fit(geometry)) = plan(Kind::Jpeg, &info, 1, &rules) else { panic!("{info:?} is not fitted") };
        (info, geometry)
    }

    fn meets(limits: &SizeLimits, (width, height): (u32, u32)) -> bool {
        height > width && width <= limits.width && height <= limits.height
    }

    /// Size of a side after scaling in the decoder.
    fn eighths(size: u32, eighths: u32) -> u32 {
        (size * eighths).div_ceil(8)
    }

    #[test]
    fn odd_sides_stay_within_the_decoded_picture() {
        for (size, decoded) in [(2_560, 1_280), (1_707, 854), (5_120, 1_280), (3_413, 854), (3, 1)] {
            assert_eq!(span((0, size), size, decoded), (0.0, f64::from(decoded)));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        #[test]
        fn crop_lies_within_the_decoded_picture(
            size in (1_u32..12_000, 1_u32..12_000),
            orientation in 1_u8..=8,
            landscape in landscape(),
            scale in prop::sample::select(vec![1_u32, 2, 4, 8]),
        ) {
            let limits = SizeLimits { original_pixels: u64::MAX, ..SizeLimits::DOCUMENTED };
            let (info, geometry) = fitted(size, orientation, landscape, limits);
            let stored = StoredGeometry::new(&info, &geometry);
            prop_assert_eq!(stored.size, size);
            prop_assert!(meets(&limits, geometry.canvas), "{:?}", geometry);
            let (left, top, across, down) = stored.crop;
            for (crop, size) in [((left, across), size.0), ((top, down), size.1)] {
                let decoded = eighths(size, scale);
                let (from, length) = span(crop, size, decoded);
                prop_assert!(from >= 0.0 && length > 0.0 && from + length <= f64::from(decoded), "{} {}", from, length);
                let exact = f64::from(crop.0) * f64::from(decoded) / f64::from(size);
                prop_assert!((from - exact).abs() < 0.01);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]

        /// Runs the decoder and the resizer with limits of a twentieth of the documented ones.
        #[test]
        fn photo_of_any_size_is_fitted(
            size in prop_oneof![(1_u32..600, 1_u32..600), (1_u32..4, 1_u32..1_200), (1_u32..1_200, 1_u32..4)],
            orientation in 1_u8..=8,
            landscape in landscape(),
        ) {
            let limits = SizeLimits { width: 54, height: 96, shorter_side: 36, ..SizeLimits::DOCUMENTED };
            let (info, geometry) = fitted(size, orientation, landscape, limits);
            let grey = Pixels { width: size.0, height: size.1, rgb: vec![100; (size.0 * size.1 * 3) as usize] };
            let original = encode(&grey, u64::MAX).unwrap();
            let fitted = pad(fit(&original, Kind::Jpeg, &info, &geometry).unwrap(), geometry.canvas);
            prop_assert!(meets(&limits, (fitted.width, fitted.height)));
            let sent = jpeg::probe(&encode(&fitted, limits.inline_bytes).unwrap()).unwrap();
            prop_assert_eq!((sent.width, sent.height), geometry.canvas);
        }
    }
}
