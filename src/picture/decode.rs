//! Bytes become pixels. The one place where a picture's content is decoded.
//!
//! Decoders are safe Rust, and what they may allocate is bounded from the header. One that panics all the same concerns
//! its photo: the panic is caught here and becomes a refusal. A JPEG is decoded at a half, a quarter or an eighth where
//! that is still as large as what is wanted, which is most of what makes fitting fast.

use std::{
    cell::Cell,
    io::Cursor,
    panic::{self, UnwindSafe},
    sync::Once,
    thread,
};

use image::{DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader};
use jpeg_decoder::PixelFormat;

use super::{Defect, Facts, Kind, exif, jpeg};

/// 8 bits of red, green and blue each, in rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pixels {
    pub(super) width: u32,
    pub(super) height: u32,
    pub(super) rgb: Vec<u8>,
}

/// What the header of a picture that is no JPEG says.
pub(super) fn probe(bytes: &[u8], kind: Kind) -> Result<Facts, Defect> {
    let format = format(kind)?;
    if kind == Kind::WebP {
        check_chunks(bytes)?;
    }
    catch_panic(|| {
        let mut decoder = reader(bytes, format).into_decoder().map_err(|error| refusal(kind, &error))?;
        let (width, height) = decoder.dimensions();
        let orientation = match kind {
            Kind::Png => exif::of_png(bytes),
            Kind::WebP => exif::of_webp(bytes),
            // A large TIFF, which the reader of EXIF does not know, is read by its decoder.
            _ => exif::of_tiff(bytes).or_else(|| decoder.orientation().ok().map(image::metadata::Orientation::to_exif)),
        };
        let orientation = orientation.unwrap_or(1);
        let components = decoder.color_type().channel_count();
        // Uncompressed, before it becomes RGB.
        let decoded_bytes = decoder.total_bytes();
        let facts = Facts { orientation, components, decoded_bytes, ..Facts::default() };
        Ok(if orientation >= 5 {
            Facts { width: height, height: width, ..facts }
        } else {
            Facts { width, height, ..facts }
        })
    })
}

/// The pixels as they are stored, not turned; at least as many as `wanted` in each direction, as far as there are.
pub(super) fn decode(bytes: &[u8], kind: Kind, wanted: (u32, u32)) -> Result<Pixels, Defect> {
    catch_panic(|| if kind == Kind::Jpeg { jpeg(bytes, wanted) } else { other(bytes, kind) })
}

/// A scan that ends too early is an error: what a lenient decoder fills in with grey is no face.
fn jpeg(bytes: &[u8], wanted: (u32, u32)) -> Result<Pixels, Defect> {
    let error = match decode_jpeg(&jpeg::normalize(bytes, true), wanted) {
        Ok(pixels) => return Ok(pixels),
        Err(error) => error,
    };
    match decode_jpeg(&jpeg::normalize(bytes, false), wanted) {
        Ok(_) => Err(Defect::Truncated { found: "not all of its rows are there" }),
        Err(_) => Err(error),
    }
}

fn decode_jpeg(bytes: &[u8], (width, height): (u32, u32)) -> Result<Pixels, Defect> {
    let side = |pixels: u32| u16::try_from(pixels).unwrap_or(u16::MAX);
    let mut decoder = jpeg_decoder::Decoder::new(bytes);
    let (width, height) = decoder.scale(side(width), side(height)).map_err(jpeg_refusal)?;
    let pixels = decoder.decode().map_err(jpeg_refusal)?;
    let format = decoder.info().expect("what has been decoded has a header").pixel_format;
    let rgb = match format {
        PixelFormat::RGB24 => pixels,
        PixelFormat::L8 => pixels.iter().flat_map(|&grey| [grey; 3]).collect(),
        // Big end first.
        PixelFormat::L16 => pixels.as_chunks::<2>().0.iter().flat_map(|&[high, _]| [high; 3]).collect(),
        PixelFormat::CMYK32 => pixels.as_chunks::<4>().0.iter().flat_map(|&ink| cmyk_to_rgb(ink)).collect(),
    };
    Ok(Pixels { width: u32::from(width), height: u32::from(height), rgb })
}

/// Without a colour profile: what every viewer that has none shows.
fn cmyk_to_rgb([cyan, magenta, yellow, black]: [u8; 4]) -> [u8; 3] {
    [cyan, magenta, yellow].map(|ink| (u32::from(255 - ink) * u32::from(255 - black) / 255) as u8)
}

fn other(bytes: &[u8], kind: Kind) -> Result<Pixels, Defect> {
    let mut decoder = reader(bytes, format(kind)?).into_decoder().map_err(|error| refusal(kind, &error))?;
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    decoder.set_limits(limits).map_err(|error| refusal(kind, &error))?;
    let decoded = DynamicImage::from_decoder(decoder).map_err(|error| refusal(kind, &error))?;
    let (width, height) = (decoded.width(), decoded.height());
    let rgb = if decoded.color().has_alpha() { flatten_alpha(&decoded) } else { decoded.into_rgb8().into_raw() };
    Ok(Pixels { width, height, rgb })
}

/// What can be seen through lies on white paper.
fn flatten_alpha(picture: &DynamicImage) -> Vec<u8> {
    let over = |colour: u8, alpha: u8| {
        ((u32::from(colour) * u32::from(alpha) + 255 * u32::from(255 - alpha) + 127) / 255) as u8
    };
    let rgba = picture.to_rgba8();
    rgba.as_chunks::<4>().0.iter().flat_map(|&[r, g, b, alpha]| [r, g, b].map(|colour| over(colour, alpha))).collect()
}

/// Bytes of a picture that is no JPEG, decoded: 120 megapixels of RGBA.
const MAX_DECODED_BYTES: u64 = 512 << 20;

/// A WebP is a chain of chunks (RIFF). Its decoder would make room for as much metadata as a chunk claims to hold.
fn check_chunks(bytes: &[u8]) -> Result<(), Defect> {
    let mut rest = bytes.get(12..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_first_chunk::<8>() {
        let length = u32::from_le_bytes([head[4], head[5], head[6], head[7]]) as usize;
        if length > behind.len() {
            return Err(Defect::Truncated { found: "a chunk of it is longer than the file" });
        }
        rest = behind.get(length + length % 2..).unwrap_or_default();
    }
    Ok(())
}

fn reader(bytes: &[u8], format: ImageFormat) -> ImageReader<Cursor<&[u8]>> {
    let mut reader = ImageReader::with_format(Cursor::new(bytes), format);
    let mut limits = image::Limits::no_limits();
    limits.max_alloc = Some(MAX_DECODED_BYTES);
    reader.limits(limits);
    reader
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

/// A panic of a decoder becomes a refusal, and its text goes nowhere: it would only disturb the user.
pub(super) fn catch_panic<R>(work: impl FnOnce() -> Result<R, Defect> + UnwindSafe) -> Result<R, Defect> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let report = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !is_guarded() {
                report(panic);
            }
        }));
    });
    let before = GUARDED.replace(true);
    let result = panic::catch_unwind(work);
    GUARDED.set(before);
    result.unwrap_or_else(|_| Err(Defect::Undecodable { why: "its decoder gave up".to_owned() }))
}

thread_local! {
    /// Whether a panic of this thread is caught by [`guarded`].
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// jpeg-decoder has threads of its own, whose panics end in one of ours.
fn is_guarded() -> bool {
    let is_worker =
        |thread: thread::Thread| thread.name().is_some_and(|name| name.starts_with("worker thread for component"));
    GUARDED.get() || is_worker(thread::current())
}

fn refusal(kind: Kind, error: &ImageError) -> Defect {
    match error {
        ImageError::Unsupported(_) => Defect::UnsupportedVariant { kind },
        ImageError::Limits(_) => Defect::TooMuchMemory { limit: MAX_DECODED_BYTES },
        ImageError::Decoding(_) | ImageError::Encoding(_) | ImageError::Parameter(_) | ImageError::IoError(_) => {
            Defect::Undecodable { why: error.to_string() }
        }
    }
}

fn jpeg_refusal(error: jpeg_decoder::Error) -> Defect {
    match error {
        jpeg_decoder::Error::Unsupported(_) => {
            Defect::UnsupportedJpeg { found: "of a form that hardly any program reads" }
        }
        error @ (jpeg_decoder::Error::Format(_) | jpeg_decoder::Error::Io(_) | jpeg_decoder::Error::Internal(_)) => {
            Defect::Undecodable { why: error.to_string() }
        }
    }
}
