//! Decodes pictures to pixels. No other module decodes.
//!
//! The decoders are safe Rust, and their allocations are bounded from the header. A panic in a decoder is caught here
//! and becomes a [`Defect`] of that photo. A JPEG is decoded at 1/2, 1/4 or 1/8 scale if that is still large enough,
//! which is the main reason why fitting is fast.

use std::{
    cell::Cell,
    io::Cursor,
    panic::{self, UnwindSafe},
    sync::Once,
    thread,
};

use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use jpeg_decoder::PixelFormat;

use super::{Defect, ImageInfo, Kind, exif, heic, jpeg};

/// A picture as rows of RGB pixels, 8 bits a channel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) rgb: Vec<u8>,
}

/// Reads the header of a picture that is not a JPEG.
pub(super) fn probe(bytes: &[u8], kind: Kind) -> Result<ImageInfo, Defect> {
    if kind == Kind::Heic {
        return catch_panic(|| heic::probe(bytes));
    }
    let format = format(kind)?;
    if kind == Kind::WebP {
        check_riff_chunks(bytes)?;
    }
    catch_panic(|| {
        let mut decoder = reader(bytes, format).into_decoder().map_err(|error| image_error(kind, &error))?;
        let (width, height) = decoder.dimensions();
        let orientation = match kind {
            Kind::Png => exif::from_png(bytes),
            Kind::WebP => exif::from_webp(bytes),
            // The EXIF reader does not support BigTIFF; the TIFF decoder does.
            _ => {
                exif::from_tiff(bytes).or_else(|| decoder.orientation().ok().map(image::metadata::Orientation::to_exif))
            }
        };
        let orientation = orientation.unwrap_or(1);
        let components = decoder.color_type().channel_count();
        // Uncompressed, and as converted to 8 bits a channel with or without alpha, which needs a copy except from those.
        let pixels = u64::from(width) * u64::from(height);
        let copied_bytes = match decoder.color_type() {
            ColorType::Rgb8 | ColorType::Rgba8 => 0,
            color if color.has_alpha() => 4 * pixels,
            _ => 3 * pixels,
        };
        // The WebP decoder has a frame of its own, the TIFF decoder a strip, which may be the whole picture.
        let buffer_bytes = match kind {
            Kind::WebP => 4 * pixels,
            Kind::Tiff => decoder.total_bytes(),
            _ => 0,
        };
        let decoded_bytes = decoder.total_bytes() + copied_bytes + buffer_bytes;
        let info = ImageInfo { orientation, components, decoded_bytes, ..ImageInfo::default() };
        Ok(if orientation >= 5 {
            ImageInfo { width: height, height: width, ..info }
        } else {
            ImageInfo { width, height, ..info }
        })
    })
}

/// Decodes the pixels as stored, without applying the orientation. A JPEG may be scaled down, but not below `min_size`.
pub(super) fn decode(bytes: &[u8], kind: Kind, min_size: (u32, u32)) -> Result<Pixels, Defect> {
    catch_panic(|| match kind {
        Kind::Jpeg => decode_jpeg(bytes, min_size),
        Kind::Heic => heic::decode(bytes),
        kind => decode_other(bytes, kind),
    })
}

/// Decodes a JPEG and rejects one whose scan ends early: a lenient decoder would fill the missing rows with grey.
fn decode_jpeg(bytes: &[u8], min_size: (u32, u32)) -> Result<Pixels, Defect> {
    let error = match decode_jpeg_scaled(&jpeg::normalize(bytes, true), min_size) {
        Ok(pixels) => return Ok(pixels),
        Err(error) => error,
    };
    match decode_jpeg_scaled(&jpeg::normalize(bytes, false), min_size) {
        Ok(_) => Err(Defect::Truncated { found: "rows are missing" }),
        Err(_) => Err(error),
    }
}

fn decode_jpeg_scaled(bytes: &[u8], (width, height): (u32, u32)) -> Result<Pixels, Defect> {
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let (width, height) = decoder.scale(side(width), side(height)).map_err(jpeg_error)?;
    let pixels = decoder.decode().map_err(jpeg_error)?;
    let format = decoder.info().expect("a decoded JPEG has a header").pixel_format;
    let rgb = match format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => spread_grey(&pixels, |&grey| grey),
        // Big-endian: the high byte is enough.
        PixelFormat::L16 => spread_grey(pixels.as_chunks().0, |&[high, _]: &[u8; 2]| high),
        PixelFormat::CMYK32 => shrink_to_rgb(pixels, cmyk_to_rgb),
    };
    Ok(Pixels { width: u32::from(width), height: u32::from(height), rgb })
}

/// RGB of grey pixels, in one allocation.
fn spread_grey<P>(pixels: &[P], grey: impl Fn(&P) -> u8) -> Vec<u8> {
    let mut rgb = Vec::with_capacity(pixels.len() * 3);
    rgb.extend(pixels.iter().flat_map(|pixel| [grey(pixel); 3]));
    rgb
}

/// Converts pixels of four bytes in place: a copy would double the memory.
fn shrink_to_rgb(mut pixels: Vec<u8>, to_rgb: impl Fn([u8; 4]) -> [u8; 3]) -> Vec<u8> {
    let count = pixels.len() / 4;
    for at in 0..count {
        let pixel = [0, 1, 2, 3].map(|channel| pixels[at * 4 + channel]);
        pixels[at * 3..at * 3 + 3].copy_from_slice(&to_rgb(pixel));
    }
    pixels.truncate(count * 3);
    pixels
}

/// Converts CMYK to RGB without a colour profile, as viewers without colour management do.
fn cmyk_to_rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| (u32::from(255 - ink) * u32::from(255 - black) / 255) as u8)
}

fn decode_other(bytes: &[u8], kind: Kind) -> Result<Pixels, Defect> {
    let mut decoder = reader(bytes, format(kind)?).into_decoder().map_err(|error| image_error(kind, &error))?;
    decoder.set_limits(memory_limit()).map_err(|error| image_error(kind, &error))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| image_error(kind, &error))?;
    let (width, height) = (decoded.width(), decoded.height());
    let rgb = if decoded.color().has_alpha() {
        shrink_to_rgb(decoded.into_rgba8().into_raw(), over_white)
    } else {
        decoded.into_rgb8().into_raw()
    };
    Ok(Pixels { width, height, rgb })
}

/// Blends a transparent pixel onto white.
fn over_white([red, green, blue, alpha]: [u8; 4]) -> [u8; 3] {
    [red, green, blue]
        .map(|colour| ((u32::from(colour) * u32::from(alpha) + 255 * u32::from(255 - alpha) + 127) / 255) as u8)
}

/// Memory limit in bytes for decoding other formats than JPEG: 120 megapixels of RGBA.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// Checks the chunk lengths of a WebP (RIFF): its decoder allocates as much for metadata as a chunk claims to hold.
fn check_riff_chunks(bytes: &[u8]) -> Result<(), Defect> {
    // Bytes after the RIFF chunk are not part of the picture.
    let size = bytes.get(4..8).map_or(0, |size| u32::from_le_bytes([size[0], size[1], size[2], size[3]]) as usize);
    let end = if size > bytes.len().saturating_sub(8) { bytes.len() } else { size + 8 };
    let mut rest = bytes.get(12..end).unwrap_or_default();
    while let Some((head, after)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > after.len() {
            return Err(Defect::Truncated { found: "a chunk is longer than the file" });
        }
        rest = after.get(length + length % 2..).unwrap_or_default();
    }
    Ok(())
}

fn reader(bytes: &[u8], format: ImageFormat) -> ImageReader<Cursor<&[u8]>> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    reader.limits(memory_limit());
    reader
}

fn memory_limit() -> image::Limits {
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    limits
}

fn format(kind: Kind) -> Result<ImageFormat, Defect> {
    match kind {
        Kind::Jpeg => Ok(ImageFormat::Jpeg),
        Kind::Png => Ok(ImageFormat::Png),
        Kind::WebP => Ok(ImageFormat::WebP),
        Kind::Bmp => Ok(ImageFormat::Bmp),
        Kind::Tiff => Ok(ImageFormat::Tiff),
        Kind::Gif | Kind::Heic | Kind::Avif | Kind::JpegXl => Err(Defect::UnsupportedFormat { kind }),
        Kind::Pdf | Kind::Html | Kind::Zip | Kind::Unknown => Err(Defect::NotAPicture { kind }),
    }
}

/// Turns a panic in a decoder into a [`Defect`] and suppresses its message, which would only confuse the user.
pub(super) fn catch_panic<R>(work: impl FnOnce() -> Result<R, Defect> + UnwindSafe) -> Result<R, Defect> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !is_caught() {
                report(panic);
            }
        }));
    });
    let before = CATCHES_PANICS.replace(true);
    let result = panic::catch_unwind(work);
    CATCHES_PANICS.set(before);
    result.unwrap_or_else(|_| Err(Defect::Undecodable { why: "the decoder panicked".to_owned() }))
}

thread_local! {
    /// Whether [`catch_panic`] is active on this thread.
    static CATCHES_PANICS: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread is caught: jpeg-decoder's worker threads pass their panics on to our thread.
fn is_caught() -> bool {
    let is_worker =
        |thread: thread::Thread| thread.name().is_some_and(|name| name.starts_with("worker thread for component"));
    CATCHES_PANICS.get() || is_worker(thread::current())
}

fn image_error(kind: Kind, error: &ImageError) -> Defect {
    match error {
        ImageError::Unsupported(_) => Defect::UnsupportedVariant { kind },
        ImageError::Limits(_) => Defect::TooMuchMemory { limit: MAX_DECODED_BYTES },
        ImageError::Decoding(_) | ImageError::Encoding(_) | ImageError::Parameter(_) | ImageError::IoError(_) => {
            Defect::Undecodable { why: error.to_string() }
        }
    }
}

fn jpeg_error(error: jpeg_decoder::Error) -> Defect {
    match error {
        jpeg_decoder::Error::Unsupported(_) => {
            Defect::UnsupportedJpeg { found: "of a variant that hardly any program reads" }
        }
        error @ (jpeg_decoder::Error::Format(_) | jpeg_decoder::Error::Io(_) | jpeg_decoder::Error::Internal(_)) => {
            Defect::Undecodable { why: error.to_string() }
        }
    }
}
