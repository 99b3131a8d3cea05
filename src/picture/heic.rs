//! HEIC: header and pixels. The decoder takes any number of tiles, and any size that the video stream claims, so both are
//! held against the size of the picture first: decoding then takes memory by its pixels.

use std::collections::BTreeSet;

use heic_rs::{
    ChromaFormat, DecodeOptions, Error, Rotation,
    context::Context,
    props::{ItemProps, hvcc::NAL_SPS},
};

use super::{Defect, ImageInfo, Kind, decode::Pixels};

/// Bytes per pixel that decoding holds at most: the planes and the pixels. Measured: 6.6 to 7.1.
const BYTES_PER_PIXEL: u64 = 7;
/// The same for a picture that is turned, which holds its pixels twice. Measured: 9.1 to 10.0.
const BYTES_PER_TURNED_PIXEL: u64 = 10;
/// Bytes beside the pixels.
const FIXED_BYTES: u64 = 1 << 20;
/// Least side of a tile, and the block that coded sizes are rounded up to.
const BLOCK: u32 = 64;

/// Reads the header. The file's own rotation, `irot` and `imir`, is applied by the decoder and supersedes EXIF.
pub(super) fn probe(bytes: &[u8]) -> Result<ImageInfo, Defect> {
    let info = heic_rs::probe(bytes).map_err(|error| defect(&error))?;
    // Phones write 4:2:0. Of 4:4:4 the decoder fails on most files.
    if !matches!(info.chroma, ChromaFormat::Yuv420 | ChromaFormat::Monochrome) {
        return Err(Defect::UnsupportedVariant { kind: Kind::Heic });
    }
    let file = Context::open(bytes).map_err(|error| defect(&error))?;
    // Without the colours in the header the decoder assumes video range, and photos of full range come out too contrasty.
    let props = file.props(info.primary_item).map_err(|error| defect(&error))?;
    if props.nclx.is_none() {
        return Err(Defect::UnsupportedVariant { kind: Kind::Heic });
    }
    let (width, height) = match file.grid(info.primary_item).map_err(|error| defect(&error))?.zip(info.grid) {
        Some(((grid, tiles), tile)) => {
            let (width, height) = (tile.tile_width, tile.tile_height);
            // Every column and row of tiles is needed.
            let is_needed = |count: u32, side: u32, whole: u32| {
                side >= BLOCK && u64::from(count - 1) * u64::from(side) < u64::from(whole)
            };
            if !is_needed(grid.columns, width, grid.output_width) || !is_needed(grid.rows, height, grid.output_height) {
                return Err(undecodable("it has more tiles than its size needs"));
            }
            for tile in BTreeSet::from_iter(tiles) {
                check_coded_size(&file.props(tile).map_err(|error| defect(&error))?, (width, height))?;
            }
            (u64::from(grid.columns) * u64::from(width), u64::from(grid.rows) * u64::from(height))
        }
        None => {
            let size = (info.coded_width, info.coded_height);
            check_coded_size(&props, size)?;
            (u64::from(size.0), u64::from(size.1))
        }
    };
    let is_turned = info.rotation != Rotation::None || info.mirror.is_some();
    let bytes_per_pixel = if is_turned { BYTES_PER_TURNED_PIXEL } else { BYTES_PER_PIXEL };
    let decoded_bytes = (width * height).saturating_mul(bytes_per_pixel).saturating_add(FIXED_BYTES);
    Ok(ImageInfo { width: info.width, height: info.height, decoded_bytes, ..ImageInfo::default() })
}

/// Decodes the pixels, upright.
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, Defect> {
    let info = probe(bytes)?;
    let max_pixels = Some(u64::from(info.width) * u64::from(info.height));
    let options = DecodeOptions { max_pixels, threads: Some(1), ..DecodeOptions::default() };
    let image = heic_rs::decode(bytes, &options).map_err(|error| defect(&error))?;
    if (image.width, image.height) != (info.width, info.height) {
        return Err(undecodable("its size differs from its header"));
    }
    Ok(Pixels { width: image.width, height: image.height, rgb: image.data })
}

/// Checks the size that the video stream claims: the decoder allocates for it before it crops.
fn check_coded_size(props: &ItemProps<'_>, (width, height): (u32, u32)) -> Result<(), Defect> {
    let arrays = props.hvcc.iter().flat_map(|hvcc| &hvcc.arrays);
    for unit in arrays.filter(|array| array.nal_type == NAL_SPS).flat_map(|array| &array.nals) {
        let (coded_width, coded_height) = coded_size(unit).ok_or(Defect::UnsupportedVariant { kind: Kind::Heic })?;
        if coded_width > width.next_multiple_of(BLOCK) || coded_height > height.next_multiple_of(BLOCK) {
            return Err(undecodable("its video stream is larger than its header says"));
        }
    }
    Ok(())
}

/// Width and height in a sequence parameter set (ITU-T H.265, 7.3.2.2) with one temporal layer, as still pictures have.
fn coded_size(unit: &[u8]) -> Option<(u32, u32)> {
    // A 3 after two zeros only keeps start codes out of the data.
    let mut zeros = 0;
    let plain = unit.iter().copied().filter(|&byte| {
        let is_data = zeros < 2 || byte != 3;
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        is_data
    });
    let plain: Vec<u8> = plain.take(64).collect();
    // The unit's header; the parameter set's id, layers and nesting flag; profile and level.
    let (layers, rest) = (plain.get(2)? >> 1 & 7, plain.get(2 + 1 + 12..)?);
    let mut bits = rest.iter().flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1));
    let mut number = || {
        let zeros = bits.by_ref().take_while(|bit| *bit == 0).count();
        let suffix = bits.by_ref().take(zeros).fold(0_u64, |number, bit| number << 1 | u64::from(bit));
        u32::try_from((1_u64.checked_shl(u32::try_from(zeros).ok()?)? - 1).checked_add(suffix)?).ok()
    };
    let (_id, chroma) = (number()?, number()?);
    if layers != 0 || chroma > 2 {
        return None;
    }
    Some((number()?, number()?))
}

fn undecodable(why: &str) -> Defect {
    Defect::Undecodable { why: why.to_owned() }
}

fn defect(error: &Error) -> Defect {
    match error {
        Error::Unsupported(_) => Defect::UnsupportedVariant { kind: Kind::Heic },
        error => undecodable(&error.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn photo(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/tests/archive/photos/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    /// Mean of each channel.
    fn mean(pixels: &Pixels) -> [f64; 3] {
        let all = pixels.rgb.as_chunks::<3>().0;
        [0, 1, 2].map(|channel| all.iter().map(|pixel| f64::from(pixel[channel])).sum::<f64>() / all.len() as f64)
    }

    #[test]
    fn pixels_are_those_of_libheif() {
        // Mean of the channels and two pixels, as libheif gives them.
        for (name, size, expected, near) in [
            ("heic-x265.heic", (90, 120), [165.6, 126.9, 113.4], [((5, 5), [181, 177, 176]), ((84, 114), [1, 0, 0])]),
            (
                "heic-tiles-turned.heic",
                (120, 160),
                [165.5, 126.9, 113.4],
                [((5, 5), [175, 175, 175]), ((60, 60), [209, 161, 151])],
            ),
        ] {
            let bytes = photo(name);
            let info = probe(&bytes).unwrap();
            let pixels = decode(&bytes).unwrap();
            assert_eq!(((info.width, info.height), info.orientation), (size, 1), "{name}");
            assert_eq!((pixels.width, pixels.height), size, "{name}");
            for (found, expected) in mean(&pixels).into_iter().zip(expected) {
                assert!((found - expected).abs() < 1.0, "{name}: {found} instead of {expected}");
            }
            for ((x, y), expected) in near {
                let at = (y * size.0 + x) as usize * 3;
                for (found, expected) in pixels.rgb[at..at + 3].iter().zip(expected) {
                    assert!(found.abs_diff(expected) < 24, "{name}, {x} {y}: {found} instead of {expected}");
                }
            }
        }
    }

    #[test]
    fn picture_that_claims_less_than_it_decodes_is_refused() {
        let refused = |bytes: &[u8]| decode(bytes).unwrap_err().to_string();
        assert!(refused(&photo("heic-no-colours.heic")).contains("of a variant that can't be read here"));
        assert!(refused(&photo("heic-bomb.heic")).contains("more tiles than its size needs"));
        let mut bytes = photo("heic-x265.heic");
        let at = bytes.windows(4).position(|window| window == b"ispe").unwrap() + 8;
        bytes[at..at + 4].copy_from_slice(&20_u32.to_be_bytes());
        assert!(refused(&bytes).contains("larger than its header says"), "{}", refused(&bytes));
    }

    #[test]
    fn coded_size_is_read_from_the_parameter_set() {
        let bytes = photo("heic-x265.heic");
        let file = Context::open(&bytes).unwrap();
        let props = file.props(file.meta.primary).unwrap();
        let sets = props.hvcc.unwrap().parameter_sets();
        let unit = sets.iter().find(|unit| unit[0] >> 1 & 63 == NAL_SPS).unwrap();
        // 90 pixels are coded as whole blocks of 8.
        assert_eq!(coded_size(unit), Some((96, 120)));
        assert_eq!(coded_size(&unit[..10]), None);
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(
            name in prop::sample::select(vec!["heic-x265.heic", "heic-tiles-turned.heic"]),
            at in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 1..4),
        ) {
            let mut photo = photo(name);
            let at = at.index(photo.len() - bytes.len());
            photo[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = decode(&photo);
        }

        #[test]
        fn any_parameter_set_is_read_or_refused(unit in prop::collection::vec(any::<u8>(), 0..80)) {
            coded_size(&unit);
        }
    }
}
