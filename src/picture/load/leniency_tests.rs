//! JPEGs that libjpeg accepts are accepted, and truncated ones are always rejected.

use std::fs;

use proptest::prelude::*;

use super::{tests::AUTO, *};
use crate::picture::Fit;

const NAMES: [&str; 6] = ["plain.jpg", "progressive.jpg", "restarts.jpg", "grey.jpg", "cmyk.jpg", "sampled-422.jpg"];

fn archived(name: &str) -> Vec<u8> {
    fs::read(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archive/photos")).join(name)).unwrap()
}

fn render(bytes: Vec<u8>, fit: Fit) -> Result<Picture, Defect> {
    let rules = Rules { fit, ..AUTO };
    let original = Original::from_bytes(bytes, &rules)?;
    let plan = original.plan(&rules)?;
    original.render(&plan, &rules)
}

/// Offsets of the header's markers, including that of the first scan.
fn markers(jpeg: &[u8]) -> Vec<usize> {
    let mut offsets = vec![2];
    while jpeg[offsets[offsets.len() - 1] + 1] != 0xDA {
        let at = offsets[offsets.len() - 1];
        offsets.push(at + 2 + usize::from(u16::from_be_bytes([jpeg[at + 2], jpeg[at + 3]])));
    }
    offsets
}

/// Inserts `junk` before each marker of the header except the first, which identifies a JPEG.
fn insert_junk(jpeg: &[u8], junk: &[u8]) -> Vec<u8> {
    let mut result = jpeg.to_vec();
    for at in markers(jpeg).into_iter().skip(1).rev() {
        result.splice(at..at, junk.iter().copied());
    }
    result
}

#[test]
fn jpeg_accepted_by_libjpeg_is_decoded_completely() {
    let all = (u32::MAX, u32::MAX);
    for name in NAMES {
        let whole = archived(name);
        let endless = &whole[..whole.len() - 2];
        let pixels = decode::decode(&whole, Kind::Jpeg, all).unwrap();
        for (what, odd) in [
            ("bytes between segments", insert_junk(&whole, b"\0\x01junk")),
            ("FF 00 between segments", insert_junk(&whole, b"\xFF\0")),
            ("no end marker", endless.to_vec()),
            ("no end marker, and a trailer", [endless, b"\0\0MotionPhoto_Data\0\0\0\x18ftypmp42"].concat()),
            ("no end marker, and a second picture", [endless, &whole[..]].concat()),
        ] {
            assert!(decode::decode(&odd, Kind::Jpeg, all).as_ref() == Ok(&pixels), "{name}, {what}");
            let fitted = render(odd.clone(), Fit::Auto).unwrap();
            assert_eq!(jpeg::probe(&fitted.bytes).unwrap().structure, Structure::Standard, "{name}, {what}");
            assert_eq!(render(odd.clone(), Fit::Never).unwrap().bytes, odd, "{name}, {what}");
        }
        for (what, sound) in [
            ("fill bytes", insert_junk(&whole, b"\xFF\xFF")),
            ("trailer", [&whole[..], b"\0\0\0\x18ftypmp42", &[0xFF, 0xDA, 0x11].repeat(300)].concat()),
        ] {
            assert_eq!(render(sound.clone(), Fit::Auto).unwrap().bytes, sound, "{name}, {what}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn truncated_jpeg_is_always_rejected(
        name in prop::sample::select(&NAMES[..]),
        share in 0.0_f64..0.95,
        trailer in prop::sample::select(vec![&b""[..], b"\xFF\xD9tail", b"\0\0SEFT trailer\xFF\xD9tail", b"\0\0\0\0", b"second"]),
    ) {
        let whole = archived(name);
        let scan = *markers(&whole).last().unwrap() + 20;
        let cut = scan + ((whole.len() - 2 - scan) as f64 * share) as usize;
        let trailer = if trailer == b"second" { archived("tiny.jpg") } else { trailer.to_vec() };
        let cut = [&whole[..cut], &trailer[..]].concat();
        for fit in [Fit::Auto, Fit::Never, Fit::Always] {
            let code = render(cut.clone(), fit).map(|_| ()).map_err(|defect| defect.code().0);
            prop_assert_eq!(code, Err("Truncated".to_owned()), "{:?}", fit);
        }
    }

    /// A photo that is decoded for fitting has all of its rows.
    #[test]
    fn truncated_jpeg_with_end_marker_is_not_fitted(
        name in prop::sample::select(vec!["plain.jpg", "restarts.jpg", "grey.jpg", "cmyk.jpg", "sampled-422.jpg"]),
        share in 0.0_f64..0.95,
    ) {
        let whole = archived(name);
        let scan = *markers(&whole).last().unwrap() + 20;
        let cut = scan + ((whole.len() - 2 - scan) as f64 * share) as usize;
        let result = render([&whole[..cut], b"\xFF\xD9"].concat(), Fit::Always).map(|_| ());
        prop_assert_eq!(result.map_err(|defect| defect.code().0), Err("Truncated".to_owned()));
    }
}
