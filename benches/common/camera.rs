//! Photos of 12 megapixels.

use std::{
    fs,
    path::{Path, PathBuf},
};

use fast_image_resize::{PixelType, Resizer, images::Image};
use jpeg_encoder::{ColorType, Encoder, SamplingFactor};

/// Width and height in pixels.
pub const SIZE: (u32, u32) = (3_024, 4_032);

/// Writes a real portrait, enlarged and with sensor noise, as a camera would save it.
pub fn photo(dir: &Path, n: usize, progressive: bool) -> PathBuf {
    let portrait = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/photos/portrait.jpg");
    let mut decoder = jpeg_decoder::Decoder::new(fs::File::open(portrait).expect("the portrait is in the repository"));
    let pixels = decoder.decode().expect("the portrait can be decoded");
    let source = Image::from_vec_u8(720, 960, pixels, PixelType::U8x3).expect("720 x 960 pixels");
    let mut large = Image::new(SIZE.0, SIZE.1, PixelType::U8x3);
    Resizer::new().resize(&source, &mut large, None).expect("photo can be enlarged");
    let mut random = fastrand::Rng::with_seed(n as u64);
    for value in large.buffer_mut() {
        *value = value.saturating_add_signed(random.i8(-6..=6));
    }
    let path = dir.join(format!("{n}.jpg"));
    let mut encoder = Encoder::new_file(&path, 92).expect("folder is writable");
    encoder.set_sampling_factor(SamplingFactor::R_4_2_0);
    encoder.set_progressive(progressive);
    encoder.encode(large.buffer(), SIZE.0 as u16, SIZE.1 as u16, ColorType::Rgb).expect("photo can be encoded");
    path
}
