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
const PAPER: u8 = 255;

/// See the module.
pub(super) fn fit(bytes: &[u8], kind: Kind, facts: &Facts, geometry: &Geometry) -> Result<Pixels, Defect> {
    let stored = Stored::of(facts, geometry);
    let decoded = decode(bytes, kind, stored.wanted())?;
    let scaled = stored.scale(decoded)?;
    Ok(lay(upright(scaled, facts.orientation), geometry.sheet))
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
            .map_err(|error| Defect::Undecodable { why: format!("it can't be encoded: {error}") })?;
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
        let failed =
            |error: &dyn std::error::Error| Defect::Undecodable { why: format!("it can't be scaled: {error}") };
        // Of one kind of pixel by its type: told at run time, it would bring the code for all kinds, which is 4 MB.
        let source = TypedImageRef::<U8x3>::from_buffer(decoded.width, decoded.height, &decoded.rgb);
        let source = source.map_err(|e| failed(&e))?;
        let mut rgb = vec![0; width as usize * height as usize * 3];
        let mut drawn = TypedImage::<U8x3>::from_buffer(width, height, &mut rgb).map_err(|e| failed(&e))?;
        // The decoder has scaled already, by a power of two.
        let (x, y) =
            (f64::from(decoded.width) / f64::from(self.size.0), f64::from(decoded.height) / f64::from(self.size.1));
        let (left, top, across, down) = self.part;
        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(FilterType::Lanczos3)).crop(
            f64::from(left) * x,
            f64::from(top) * y,
            f64::from(across) * x,
            f64::from(down) * y,
        );
        Resizer::new().resize_typed(&source, &mut drawn, &options).map_err(|e| failed(&e))?;
        Ok(Pixels { width, height, rgb })
    }
}

/// In the middle of a sheet, where the sheet is larger.
fn lay(picture: Pixels, (width, height): (u32, u32)) -> Pixels {
    if (picture.width, picture.height) == (width, height) {
        return picture;
    }
    let mut rgb = vec![PAPER; width as usize * height as usize * 3];
    let (left, top) = ((width - picture.width) as usize / 2, (height - picture.height) as usize / 2);
    let row = picture.width as usize * 3;
    for (y, pixels) in picture.rgb.chunks_exact(row).enumerate() {
        let at = ((top + y) * width as usize + left) * 3;
        rgb[at..at + row].copy_from_slice(pixels);
    }
    Pixels { width, height, rgb }
}
