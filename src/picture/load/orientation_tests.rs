//! Orientation of decoded pixels in every container, place, field type and byte order.

use std::{
    fs,
    io::{Cursor, Read},
};

use image::{ImageFormat, RgbImage};

use super::{tests::ALWAYS, *};
use crate::picture::{
    decode::Pixels,
    exif::tests::{SHORT, TYPES, block, value},
    orientation::apply_orientation,
};

const SIZE: (u32, u32) = (32, 48);
/// Colours of the quarters: top left, top right, bottom left, bottom right.
const COLOURS: [[u8; 3]; 4] = [[230, 20, 20], [20, 200, 20], [20, 20, 230], [240, 240, 240]];

/// The four colours as a camera stores them with this orientation.
fn stored(orientation: u8) -> RgbImage {
    let (width, height) = SIZE;
    let seen = RgbImage::from_fn(width, height, |x, y| {
        image::Rgb(COLOURS[usize::from(y >= height / 2) * 2 + usize::from(x >= width / 2)])
    });
    let back = match orientation {
        6 => 8,
        8 => 6,
        other => other,
    };
    let stored = apply_orientation(Pixels { width, height, rgb: seen.into_raw() }, back);
    RgbImage::from_raw(stored.width, stored.height, stored.rgb).unwrap()
}

fn encoded(picture: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    picture.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn fitted(bytes: Vec<u8>) -> Pixels {
    let original = Original::from_bytes(bytes, &ALWAYS).unwrap();
    let plan = original.plan(&ALWAYS).unwrap();
    decode::decode(&original.render(&plan, &ALWAYS).unwrap().bytes, Kind::Jpeg, (u32::MAX, u32::MAX)).unwrap()
}

fn assert_upright(bytes: Vec<u8>, what: &str) {
    let fitted = fitted(bytes);
    assert_eq!((fitted.width, fitted.height), SIZE, "{what}");
    for (n, colour) in COLOURS.iter().enumerate() {
        let (x, y) = (SIZE.0 as usize / 4 * (1 + n % 2 * 2), SIZE.1 as usize / 4 * (1 + n / 2 * 2));
        let at = (y * SIZE.0 as usize + x) * 3;
        let found = &fitted.rgb[at..at + 3];
        assert!(found.iter().zip(colour).all(|(a, b)| a.abs_diff(*b) < 40), "{what}: {found:?}, not {colour:?}");
    }
}

fn prefixed(block: &[u8]) -> Vec<u8> {
    [b"Exif\0\0", block].concat()
}

fn app1(content: &[u8]) -> Vec<u8> {
    [&[0xFF, 0xE1][..], &u16::try_from(content.len() + 2).unwrap().to_be_bytes(), content].concat()
}

fn jpeg(picture: &RgbImage, segments: &[u8]) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let jpeg = fit::encode(&Pixels { width, height, rgb: picture.as_raw().clone() }, u64::MAX).unwrap();
    [&jpeg[..2], segments, &jpeg[2..]].concat()
}

fn png(picture: &RgbImage, before: &str, kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let png = encoded(picture, ImageFormat::Png);
    let at = png.windows(4).position(|window| window == before.as_bytes()).unwrap() - 4;
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(content);
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&png[..at], &length, kind, content, &sum.sum().to_be_bytes(), &png[at..]].concat()
}

/// A simple WebP with an EXIF chunk added.
fn webp(simple: &[u8], (width, height): (u32, u32), exif: &[u8]) -> Vec<u8> {
    let chunk = |kind: &[u8], content: &[u8]| {
        let length = u32::try_from(content.len()).unwrap().to_le_bytes();
        [kind, &length, content, &vec![0; content.len() % 2]].concat()
    };
    let header = [&[8, 0, 0, 0][..], &(width - 1).to_le_bytes()[..3], &(height - 1).to_le_bytes()[..3]].concat();
    let length = u32::from_le_bytes(*simple[16..].first_chunk().unwrap()) as usize;
    let chunks =
        [chunk(b"VP8X", &header), chunk(&simple[12..16], &simple[20..20 + length]), chunk(b"EXIF", exif)].concat();
    chunk(b"RIFF", &[b"WEBP", &chunks[..]].concat())
}

/// An uncompressed TIFF with the orientation in its main directory.
fn tiff(picture: &RgbImage, orientation: u8, kind: u16, is_little: bool) -> Vec<u8> {
    let (width, height) = picture.dimensions();
    let short = |number: u16| if is_little { number.to_le_bytes() } else { number.to_be_bytes() };
    let long = |number: u32| value(number, 4, is_little);
    let pixels = picture.as_raw();
    let entries = 10;
    let bits = 8 + 2 + entries * 12 + 4;
    let tags: [(u16, u16, u32, u32); 10] = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, SHORT, 3, bits),
        (259, SHORT, 1, 1),
        (262, SHORT, 1, 2),
        (273, 4, 1, bits + 6),
        (274, kind, 1, orientation.into()),
        (277, SHORT, 1, 3),
        (278, 4, 1, height),
        (279, 4, 1, u32::try_from(pixels.len()).unwrap()),
    ];
    let entry = |(tag, kind, count, number): (u16, u16, u32, u32)| {
        let value = if count == 1 { value(number, kind, is_little) } else { long(number) };
        [&short(tag)[..], &short(kind), &long(count), &value].concat()
    };
    let directory: Vec<u8> = tags.into_iter().flat_map(entry).collect();
    let header = if is_little { b"II\x2a\0" } else { b"MM\0\x2a" };
    let bits = [short(8), short(8), short(8)].concat();
    [&header[..], &long(8), &short(10), &directory, &long(0), &bits, pixels].concat()
}

fn raw_profile(block: &[u8]) -> String {
    let block = prefixed(block);
    format!("\nexif\n{:8}\n{}\n", block.len(), hex::encode(&block))
}

fn deflated(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    flate2::read::ZlibEncoder::new(text.as_bytes(), flate2::Compression::default()).read_to_end(&mut bytes).unwrap();
    bytes
}

#[test]
fn every_container_and_field_type_is_turned() {
    for (orientation, kind, is_little) in (1..=8)
        .flat_map(|o| TYPES.into_iter().flat_map(move |kind| [true, false].map(|is_little| (o, kind, is_little))))
    {
        let what = |container: &str| format!("{container}, orientation {orientation}, type {kind}, little {is_little}");
        let (picture, block) = (stored(orientation), block(orientation, kind, is_little));
        let lossless = encoded(&picture, ImageFormat::WebP);
        assert_upright(jpeg(&picture, &app1(&prefixed(&block))), &what("JPEG"));
        assert_upright(png(&picture, "IDAT", b"eXIf", &block), &what("PNG"));
        assert_upright(webp(&lossless, picture.dimensions(), &block), &what("WebP"));
        assert_upright(tiff(&picture, orientation, kind, is_little), &what("TIFF"));
    }
}

#[test]
fn orientation_is_found_in_every_place_of_a_container() {
    for orientation in 1..=8 {
        let (picture, block) = (stored(orientation), block(orientation, SHORT, false));
        let what = |place: &str| format!("{place}, orientation {orientation}");
        let several =
            [app1(b"http://ns.adobe.com/xap/1.0/\0<x/>"), app1(b"Exif\0\0?"), app1(&prefixed(&block))].concat();
        assert_upright(jpeg(&picture, &several), &what("third APP1"));
        let lossless = encoded(&picture, ImageFormat::WebP);
        assert_upright(webp(&lossless, picture.dimensions(), &prefixed(&block)), &what("EXIF chunk with a prefix"));
        assert_upright(png(&picture, "IDAT", b"eXIf", &prefixed(&block)), &what("eXIf with a prefix"));
        assert_upright(png(&picture, "IEND", b"eXIf", &block), &what("eXIf after IDAT"));
        let text = raw_profile(&block);
        for name in ["Raw profile type exif\0", "Raw profile type APP1\0"] {
            let plain = [name.as_bytes(), text.as_bytes()].concat();
            assert_upright(png(&picture, "IDAT", b"tEXt", &plain), &what("tEXt"));
            let packed = [name.as_bytes(), b"\0", &deflated(&text)].concat();
            assert_upright(png(&picture, "IEND", b"zTXt", &packed), &what("zTXt"));
            let international = [name.as_bytes(), b"\0\0\0\0", text.as_bytes()].concat();
            assert_upright(png(&picture, "IDAT", b"iTXt", &international), &what("iTXt"));
            let international = [name.as_bytes(), b"\x01\0\0\0", &deflated(&text)].concat();
            assert_upright(png(&picture, "IDAT", b"iTXt", &international), &what("packed iTXt"));
        }
    }
}

#[test]
fn lossy_webp_is_turned() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archive/photos/webp.webp");
    let simple = fs::read(path).unwrap();
    let plain = fitted(simple.clone());
    for orientation in 1..=4 {
        let turned = fitted(webp(&simple, (plain.width, plain.height), &block(orientation, SHORT, true)));
        let expected = apply_orientation(fitted(simple.clone()), orientation);
        let differences = turned.rgb.iter().zip(&expected.rgb).map(|(a, b)| u64::from(a.abs_diff(*b)));
        assert!(differences.sum::<u64>() < 4 * turned.rgb.len() as u64, "orientation {orientation}");
    }
}

/// As in browsers, libvips and ImageMagick: tools that turn the pixels and drop the EXIF data leave the XMP unchanged.
#[test]
fn xmp_orientation_is_ignored() {
    let xmp = b"http://ns.adobe.com/xap/1.0/\0<rdf:Description tiff:Orientation=\"3\"/>";
    assert_upright(jpeg(&stored(1), &app1(xmp)), "XMP");
}
