//! Scales a part of a picture.

use fast_image_resize::{
    FilterType, ResizeAlg, ResizeOptions, Resizer,
    images::{TypedImage, TypedImageRef},
    pixels::U8x3,
};

use super::{Defect, decode::Pixels};

/// Scales the part at (left, top, width, height) to `width` x `height` pixels.
pub(super) fn resize(
    picture: &Pixels,
    (left, top, across, down): (f64, f64, f64, f64),
    (width, height): (u32, u32),
    filter: FilterType,
) -> Result<Pixels, Defect> {
    let failed = |error: &dyn std::error::Error| Defect::NotFitted { why: error.to_string() };
    // Typed images: choosing the pixel type at run time would link the code for all types, which is 4 MB.
    let source = TypedImageRef::<U8x3>::from_buffer(picture.width, picture.height, &picture.rgb);
    let source = source.map_err(|e| failed(&e))?;
    let mut rgb = vec![0; width as usize * height as usize * 3];
    let mut scaled = TypedImage::<U8x3>::from_buffer(width, height, &mut rgb).map_err(|e| failed(&e))?;
    let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(left, top, across, down);
    Resizer::new().resize_typed(&source, &mut scaled, &options).map_err(|e| failed(&e))?;
    Ok(Pixels { width, height, rgb })
}
