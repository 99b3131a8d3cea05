//! HEIC: header and pixels. The decoder takes any number of tiles, and any size that the video stream claims, so both are
//! held against the size of the picture first: decoding then takes memory by its pixels.
//!
//! Phones write the colours into the video stream, not into the file's header (`nclx`), and the decoder knows only those:
//! the steps from planes to upright pixels are taken here.

mod parameter_set;

use std::collections::BTreeSet;

use heic_rs::{
    Error, Grid, MatrixCoefficients, Mirror, Nclx, PixelLayout, Range, Transform, color,
    context::Context,
    grid,
    hevc::{self, Frame},
    props::{ItemProps, hvcc::NAL_SPS},
    transform,
};

use self::parameter_set::{HDR_TRANSFERS, ParameterSet};
use super::{Defect, ImageInfo, Kind, decode::Pixels};

/// Bytes per pixel that decoding holds at most: planes twice, or once beside the pixels. Measured: 6.2 to 7.6.
const BYTES_PER_PIXEL: u64 = 8;
/// Bytes beside the pixels.
const FIXED_BYTES: u64 = 1 << 20;
/// Least side of a tile, and the block that coded sizes are rounded up to.
const BLOCK: u32 = 64;
/// Code of a matrix that is not named (ITU-T H.273, table 4).
const UNSPECIFIED: u16 = 2;
/// Matrix of a picture that names none, by MIAF (ISO/IEC 23000-22, 7.3.6.4) and libheif: BT.601.
const DEFAULT_MATRIX: u16 = 6;

/// Reads the header. The file's own rotation, `irot` and `imir`, is applied by [`decode`] and supersedes EXIF.
pub(super) fn probe(bytes: &[u8]) -> Result<ImageInfo, Defect> {
    let header = Header::read(bytes)?;
    let decoded_bytes = header.coded_pixels.saturating_mul(BYTES_PER_PIXEL).saturating_add(FIXED_BYTES);
    let (width, height) = header.size;
    Ok(ImageInfo { width, height, decoded_bytes, ..ImageInfo::default() })
}

/// Decodes the pixels, upright.
pub(super) fn decode(bytes: &[u8]) -> Result<Pixels, Defect> {
    let header = Header::read(bytes)?;
    let planes = header.planes()?;
    let pixels = color::convert(&planes, None, header.colours, PixelLayout::Rgb8, header.coded_pixels, Some(1))?;
    // Turning holds the pixels twice.
    drop(planes);
    let image = transform::apply_all(pixels, &transforms(&header.props))?;
    if (image.width, image.height) != header.size {
        return Err(undecodable("its size differs from its header"));
    }
    Ok(Pixels { width: image.width, height: image.height, rgb: image.data })
}

/// Header of a picture whose pixels can be decoded.
struct Header<'a> {
    file: Context<'a>,
    item: u32,
    props: ItemProps<'a>,
    grid: Option<(Grid, Vec<u32>)>,
    /// Width and height, upright.
    size: (u32, u32),
    /// Pixels that are decoded, before cropping.
    coded_pixels: u64,
    colours: Nclx,
}

impl<'a> Header<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Defect> {
        let info = heic_rs::probe(bytes)?;
        let (file, item) = (Context::open(bytes)?, info.primary_item);
        let (props, grid) = (file.props(item)?, file.grid(item)?);
        let (colours, coded_pixels) = match grid.as_ref().zip(info.grid) {
            Some(((grid, tiles), tile)) => {
                let (width, height) = (tile.tile_width, tile.tile_height);
                // Every column and row of tiles is needed.
                let is_needed = |count: u32, side: u32, whole: u32| {
                    side >= BLOCK && u64::from(count - 1) * u64::from(side) < u64::from(whole)
                };
                if !is_needed(grid.columns, width, grid.output_width)
                    || !is_needed(grid.rows, height, grid.output_height)
                {
                    return Err(undecodable("it has more tiles than its size needs"));
                }
                let mut all = None;
                for tile in BTreeSet::from_iter(tiles) {
                    let tile = file.props(*tile)?;
                    let colours = colours(props.nclx.or(tile.nclx), &parameter_set(&tile, (width, height))?)?;
                    if *all.get_or_insert(colours) != colours {
                        return Err(undecodable("its tiles differ in their colours"));
                    }
                }
                let colours = all.ok_or_else(|| undecodable("it has no tiles"))?;
                (colours, grid.tile_count() * u64::from(width) * u64::from(height))
            }
            None => {
                let (width, height) = (info.coded_width, info.coded_height);
                let colours = colours(props.nclx, &parameter_set(&props, (width, height))?)?;
                (colours, u64::from(width) * u64::from(height))
            }
        };
        Ok(Self { file, item, props, grid, size: (info.width, info.height), coded_pixels, colours })
    }

    fn planes(&self) -> Result<Frame, Defect> {
        let Some((grid, tiles)) = &self.grid else {
            return self.coded_planes(self.item);
        };
        let tiles = tiles.iter().map(|tile| self.coded_planes(*tile)).collect::<Result<Vec<_>, _>>()?;
        Ok(grid::compose(grid, &tiles, self.coded_pixels)?)
    }

    /// Planes of a picture, or of a tile.
    fn coded_planes(&self, item: u32) -> Result<Frame, Defect> {
        let config = self.file.props(item)?.hvcc.ok_or(Error::MissingBox("hvcC"))?;
        let data = self.file.item_data(item)?;
        Ok(hevc::decode_still(&config.parameter_sets(), &config.split_nals(&data)?)?)
    }
}

/// Reads the one parameter set of a stream, and checks what the decoder allocates for before it crops.
fn parameter_set(props: &ItemProps<'_>, (width, height): (u32, u32)) -> Result<ParameterSet, Defect> {
    let arrays = props.hvcc.iter().flat_map(|config| &config.arrays);
    let units = arrays.filter(|array| array.nal_type == NAL_SPS).flat_map(|array| &array.nals);
    let mut sets = units.map(|unit| ParameterSet::read(unit));
    let set = sets.next().flatten().ok_or(UNSUPPORTED)?;
    let (coded_width, coded_height) = set.size;
    if coded_width > width.next_multiple_of(BLOCK) || coded_height > height.next_multiple_of(BLOCK) {
        return Err(undecodable("its video stream is larger than its header says"));
    }
    // Phones write 4:2:0. Of 4:2:2 and 4:4:4 the decoder fails on most files. It takes luma's depth for both.
    if set.chroma > 1 || set.depths.0 != set.depths.1 || sets.any(|other| other != Some(set)) {
        return Err(UNSUPPORTED);
    }
    Ok(set)
}

/// Colours by the header; else by the stream; else the defaults. The decoder would take BT.709 for a matrix it does not know.
fn colours(header: Option<Nclx>, stream: &ParameterSet) -> Result<Nclx, Defect> {
    let matrices = [header.map_or(UNSPECIFIED, |colours| colours.matrix_code), stream.matrix, DEFAULT_MATRIX];
    let matrix_code = matrices.into_iter().find(|code| *code != UNSPECIFIED).unwrap_or(DEFAULT_MATRIX);
    let matrix = MatrixCoefficients::from_code(matrix_code);
    if header.is_some_and(|colours| HDR_TRANSFERS.contains(&colours.transfer)) {
        return Err(UNSUPPORTED);
    }
    let is_grey = stream.chroma == 0;
    if !is_grey && matches!(matrix, MatrixCoefficients::Identity | MatrixCoefficients::Other(_)) {
        return Err(UNSUPPORTED);
    }
    let range = header.map(|colours| colours.range);
    let range = range.unwrap_or(if stream.is_full_range { Range::Full } else { Range::Limited });
    Ok(Nclx { matrix, matrix_code, range, ..Nclx::default() })
}

/// Crops and turns, in the file's order. The decoder reads `imir` by the first edition of ISO/IEC 23008-12; by later ones,
/// and for libheif, 0 exchanges top and bottom.
fn transforms(props: &ItemProps<'_>) -> Vec<Transform> {
    let mirrored = |transform: &Transform| match transform {
        Transform::Mirror(Mirror::LeftRight) => Transform::Mirror(Mirror::TopBottom),
        Transform::Mirror(Mirror::TopBottom) => Transform::Mirror(Mirror::LeftRight),
        other => *other,
    };
    props.transforms.iter().map(mirrored).collect()
}

const UNSUPPORTED: Defect = Defect::UnsupportedVariant { kind: Kind::Heic };

fn undecodable(why: &str) -> Defect {
    Defect::Undecodable { why: why.to_owned() }
}

impl From<Error> for Defect {
    fn from(error: Error) -> Self {
        match error {
            Error::Unsupported(_) => UNSUPPORTED,
            error => undecodable(&error.to_string()),
        }
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

    /// The file with the bytes at and behind a mark replaced.
    fn patched(name: &str, mark: &[u8], offset: usize, new: &[u8]) -> Vec<u8> {
        let mut bytes = photo(name);
        let at = bytes.windows(mark.len()).rposition(|window| window == mark).unwrap() + offset;
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    }

    #[test]
    fn pixels_are_those_of_libheif() {
        // Mean of the channels and two pixels, as libheif gives them.
        let tiles = ([165.5, 126.9, 113.4], [((5, 5), [175, 175, 175]), ((60, 60), [209, 161, 151])]);
        for (name, size, (expected, near)) in [
            ("heic-x265.heic", (90, 120), ([165.6, 126.9, 113.4], [((5, 5), [181, 177, 176]), ((84, 114), [1, 0, 0])])),
            ("heic-tiles-turned.heic", (120, 160), tiles),
            // Its colours stand in the video stream.
            ("heic-profile.heic", (120, 160), tiles),
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
        assert!(refused(&photo("heic-bomb.heic")).contains("more tiles than its size needs"));
        let bytes = patched("heic-x265.heic", b"ispe", 8, &20_u32.to_be_bytes());
        assert!(refused(&bytes).contains("larger than its header says"), "{}", refused(&bytes));
    }

    #[test]
    fn size_is_read_from_the_parameter_set() {
        let bytes = photo("heic-x265.heic");
        let file = Context::open(&bytes).unwrap();
        let set = parameter_set(&file.props(file.meta.primary).unwrap(), (90, 120)).unwrap();
        // 90 pixels are coded as whole blocks of 8.
        let expected = ParameterSet { size: (96, 120), chroma: 1, depths: (0, 0), is_full_range: true, matrix: 6 };
        assert_eq!(set, expected);
    }

    #[test]
    fn colours_come_from_header_then_stream_then_standard() {
        let stream = |is_full_range, matrix, chroma| ParameterSet {
            size: (64, 64),
            chroma,
            depths: (0, 0),
            is_full_range,
            matrix,
        };
        let header = |matrix_code, range| Some(Nclx { matrix_code, range, ..Nclx::default() });
        for (header, stream, expected) in [
            (header(9, Range::Full), stream(false, 1, 1), Some((MatrixCoefficients::Bt2020Ncl, Range::Full))),
            (header(1, Range::Limited), stream(true, 6, 1), Some((MatrixCoefficients::Bt709, Range::Limited))),
            (header(2, Range::Full), stream(false, 1, 1), Some((MatrixCoefficients::Bt709, Range::Full))),
            (None, stream(true, 5, 1), Some((MatrixCoefficients::Bt601, Range::Full))),
            (None, stream(true, 2, 1), Some((MatrixCoefficients::Bt601, Range::Full))),
            (None, stream(false, 2, 1), Some((MatrixCoefficients::Bt601, Range::Limited))),
            // Not known to the decoder, or impossible with chroma at half the size.
            (header(8, Range::Full), stream(true, 6, 1), None),
            (None, stream(true, 14, 1), None),
            (None, stream(true, 0, 1), None),
            // Grey needs no matrix.
            (None, stream(true, 0, 0), Some((MatrixCoefficients::Identity, Range::Full))),
        ] {
            let found = colours(header, &stream).ok().map(|colours| (colours.matrix, colours.range));
            assert_eq!(found, expected, "{header:?} {stream:?}");
        }
    }

    #[test]
    fn matrix_that_the_decoder_does_not_know_is_refused() {
        let bytes = patched("heic-x265.heic", b"nclx", 8, &8_u16.to_be_bytes());
        assert_eq!(probe(&bytes).unwrap_err(), UNSUPPORTED);
    }

    #[test]
    fn tiles_of_different_colours_are_refused() {
        // The profile becomes colours of the last tile: the grid's fourth property, instead of that tile's size.
        let mut bytes = patched("heic-profile.heic", b"prof", 0, b"nclx\0\x01\0\x0D\0\x01\0");
        let owners = b"\0\x06\x02\x81\x02\0\x07\x04\x03\x04\x85\x06";
        let at = bytes.windows(owners.len()).position(|window| window == owners).unwrap();
        bytes[at..at + owners.len()].copy_from_slice(b"\0\x06\x02\x81\x06\0\x07\x04\x03\x04\x85\x04");
        assert!(probe(&bytes).unwrap_err().to_string().contains("differ in their colours"));
    }

    #[test]
    fn mirror_0_exchanges_top_and_bottom() {
        let rows = |transform: &[u8]| {
            let pixels = decode(&patched("heic-tiles-turned.heic", b"irot", 0, transform)).unwrap();
            pixels.rgb.chunks(160 * 3).map(<[u8]>::to_vec).collect::<Vec<_>>()
        };
        let (plain, mut upside_down) = (rows(b"irot\0"), rows(b"imir\0"));
        upside_down.reverse();
        assert!(plain == upside_down);
        let mirrored = rows(b"imir\x01");
        let row = |row: &[u8]| row.as_chunks::<3>().0.iter().rev().flatten().copied().collect::<Vec<_>>();
        assert!(plain == mirrored.iter().map(|pixels| row(pixels)).collect::<Vec<_>>());
    }

    proptest! {
        #[test]
        fn damaged_bytes_never_panic(
            name in prop::sample::select(vec!["heic-x265.heic", "heic-tiles-turned.heic", "heic-profile.heic"]),
            at in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 1..4),
        ) {
            let mut photo = photo(name);
            let at = at.index(photo.len() - bytes.len());
            photo[at..at + bytes.len()].copy_from_slice(&bytes);
            let _ = decode(&photo);
        }
    }
}
