//! The net against the reference runtime, and findings on real, turned, combined and made-up pictures.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use sha2::Digest as _;

use super::*;
use crate::picture::{
    Kind,
    decode::{Pixels, decode},
    orientation::apply_orientation,
};

/// Largest difference from the reference runtime.
const TOLERANCE: f32 = 0.01;

fn file(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn photo(path: &str) -> Pixels {
    decode(&fs::read(file(path)).unwrap(), Kind::Jpeg, (u32::MAX, u32::MAX)).unwrap()
}

fn portrait() -> Pixels {
    decode(&fs::read(file("samples/photos/collins-01.jpg")).unwrap(), Kind::Jpeg, (240, 240)).unwrap()
}

fn picture(width: u32, height: u32, mut colour: impl FnMut(u32, u32) -> u8) -> Pixels {
    let rgb = (0..height).flat_map(|y| (0..width).map(move |x| (x, y))).flat_map(|(x, y)| [colour(x, y); 3]).collect();
    Pixels { width, height, rgb }
}

/// The part of a picture of this size from (left, top); white outside it.
fn part(of: &Pixels, (left, top): (i64, i64), (width, height): (u32, u32)) -> Pixels {
    let mut rgb = Vec::new();
    for y in 0..i64::from(height) {
        for x in 0..i64::from(width) {
            let (x, y) = (x + left, y + top);
            let is_inside = (0..i64::from(of.width)).contains(&x) && (0..i64::from(of.height)).contains(&y);
            let at = if is_inside { (y as usize * of.width as usize + x as usize) * 3 } else { usize::MAX };
            rgb.extend_from_slice(of.rgb.get(at..at.saturating_add(3)).unwrap_or(&[255; 3]));
        }
    }
    Pixels { width, height, rgb }
}

fn beside(left: &Pixels, right: &Pixels) -> Pixels {
    let rows = |pixels: &Pixels| pixels.rgb.chunks(pixels.width as usize * 3).map(<[u8]>::to_vec).collect::<Vec<_>>();
    let rgb = rows(left).into_iter().zip(rows(right)).flat_map(|(left, right)| [left, right].concat()).collect();
    Pixels { width: left.width + right.width, height: left.height, rgb }
}

fn codes(pixels: &Pixels) -> Vec<&'static str> {
    find(pixels, 640).problems.into_iter().map(FaceProblem::name).collect()
}

/// Rows of a CSV file of the reference runtime: a name and numbers.
fn vectors(name: &str) -> Vec<(String, Vec<f32>)> {
    let text = fs::read_to_string(file("tests/vectors").join(name)).unwrap();
    let row = |line: &str| {
        let (name, numbers) = line.split_once(',').unwrap();
        (name.to_owned(), numbers.split(',').map(|number| number.parse().unwrap()).collect())
    };
    text.lines().skip(1).map(row).collect()
}

#[test]
fn model_file_is_as_published() {
    let sha256 = hex::encode(sha2::Sha256::digest(model::BYTES));
    assert_eq!(sha256, "3bc182eb9f33925d9e58b5c8d59308a760f4adea8f282370e428c51212c26633");
    let notice = fs::read_to_string(file("src/picture/face/NOTICE")).unwrap();
    assert!(notice.contains(&sha256) && notice.contains("Apache License"), "{notice}");
    assert!(fs::read_to_string(file("src/picture/face/LICENSE-APACHE-2.0")).unwrap().contains("Version 2.0"));
}

#[test]
fn net_agrees_with_reference_runtime() {
    let detector = look::look_at_test_picture();
    let (scores, boxes) = (&detector.workspace.scores, &detector.workspace.boxes);
    let vectors = vectors("blazeface.csv");
    assert_eq!((vectors.len(), scores.len()), (32, 896));
    for (candidate, numbers) in vectors {
        let n: usize = candidate.parse().unwrap();
        let ours = std::iter::once(&scores[n]).chain(&boxes[n * net::BOX_LENGTH..]);
        for (ours, reference) in ours.zip(&numbers) {
            assert!((ours - reference).abs() < TOLERANCE, "candidate {n}: {ours} is not {reference}");
        }
    }
    assert!(face_detector_works());
}

#[test]
fn faces_agree_with_reference_runtime() {
    let vectors = vectors("faces.csv");
    assert!(vectors.len() > 14);
    for (name, numbers) in vectors {
        let report = find(&photo(&name), 640);
        let face = report.face.unwrap();
        for (ours, reference) in [face.score, face.x, face.y, face.width, face.height].iter().zip(&numbers) {
            assert!((ours - reference).abs() < TOLERANCE, "{name}: {face:?} is not {numbers:?}");
        }
        assert_eq!(report.problems, [], "{name}");
    }
}

#[test]
fn turned_photos_are_named_with_their_turn() {
    let upright = portrait();
    let face = find(&upright, 640).face.unwrap();
    for (orientation, code) in [(8, "FaceTurned90"), (3, "FaceTurned180"), (6, "FaceTurned270")] {
        let turned = apply_orientation(upright.clone(), orientation);
        assert_eq!(codes(&turned), [code]);
        // Each side of the box is about as far from its edge of the photo as that of the upright photo.
        let found = find(&turned, 640).face.unwrap();
        let (x, y) = (found.x + found.width / 2.0, found.y + found.height / 2.0);
        let (upright_x, upright_y) = (face.x + face.width / 2.0, face.y + face.height / 2.0);
        let expected = match orientation {
            8 => (upright_y, 1.0 - upright_x),
            3 => (1.0 - upright_x, 1.0 - upright_y),
            _ => (1.0 - upright_y, upright_x),
        };
        assert!((x - expected.0).abs() < 0.03 && (y - expected.1).abs() < 0.03, "{code}: {found:?} {expected:?}");
    }
}

#[test]
fn two_people_side_by_side_are_several_faces() {
    let other = decode(&fs::read(file("samples/photos/collins-08.jpg")).unwrap(), Kind::Jpeg, (240, 240)).unwrap();
    let other = part(&other, (0, 0), (240, 320));
    assert_eq!(codes(&beside(&portrait(), &other)), ["SeveralFaces"]);
    let small = part(&portrait(), (0, 0), (240, 320));
    assert_eq!(codes(&beside(&small, &picture(240, 320, |_, _| 128))), [""; 0]);
}

#[test]
fn small_and_cut_faces_are_named() {
    let upright = portrait();
    let on_a_page = part(&upright, (-250, -150), (600, 800));
    assert_eq!(codes(&on_a_page).first().copied().unwrap_or_default(), "SmallFace");
    let report = find(&upright, 240);
    assert_eq!(report.problems, [FaceProblem::Small], "61 pixels are sent");
    let face = report.face.unwrap();
    // A fifth of the face's width is missing.
    let left = (face.x + face.width * 0.2) * upright.width as f32;
    assert_eq!(codes(&part(&upright, (left as i64, 0), (180, 240))), ["CutFace"]);
}

#[test]
fn noise_text_and_plain_colour_have_no_face() {
    let mut random = fastrand::Rng::with_seed(7);
    assert_eq!(codes(&picture(240, 320, |_, _| random.u8(..))), ["NoFace"]);
    for colour in [0, 60, 128, 255] {
        assert_eq!(codes(&picture(240, 320, |_, _| colour)), ["NoFace"]);
    }
    // Lines of strokes in words.
    let mut random = fastrand::Rng::with_seed(7);
    let strokes: Vec<bool> = (0..80 * 20).map(|_| random.u8(..) > 90).collect();
    let text = picture(240, 320, |x, y| {
        let is_ink = x % 3 != 0 && y % 16 < 9 && (20..220).contains(&x) && (x / 3) % 7 != 0;
        if is_ink && strokes[(y / 16 * 80 + x / 3) as usize] { 20 } else { 250 }
    });
    assert_eq!(codes(&text), ["NoFace"]);
}

/// A photo is looked at from all sides in 10 to 13 passes of the net, so only a few sizes are tried.
#[test]
fn extreme_sizes_give_finite_boxes() {
    for (width, height) in [(1, 1), (1, 64), (4_096, 64), (64, 4_096)] {
        let report = find(&picture(width, height, |x, y| (x * 7 + y * 13) as u8), height);
        assert!(report.face.is_none_or(is_finite), "{width}x{height}: {report:?}");
    }
}

fn is_finite(face: FaceBox) -> bool {
    [face.x, face.y, face.width, face.height, face.score].iter().all(|number| number.is_finite())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn any_pixels_give_finite_boxes(width in 1_u32..400, height in 1_u32..400, seed in any::<u64>(), step in 1_u32..40) {
        let mut random = fastrand::Rng::with_seed(seed);
        let blocks: Vec<u8> = (0..401 * 401).map(|_| random.u8(..)).collect();
        let pixels = picture(width, height, |x, y| blocks[(y / step * 401 + x / step) as usize]);
        let report = find(&pixels, height);
        prop_assert!(report.face.is_none_or(is_finite), "{:?}", report);
        prop_assert_eq!(report.face.is_none(), report.problems == [FaceProblem::Missing]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The file is built in, but its reader must not depend on that.
    #[test]
    fn damaged_model_is_refused_without_panic(
        length in prop_oneof![Just(model::BYTES.len()), 0..model::BYTES.len()],
        changes in prop::collection::vec((0..model::BYTES.len(), any::<u8>()), 0..200),
    ) {
        let mut bytes = model::BYTES.to_vec();
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Some(found) = model::convolutions(&bytes[..length]) {
            prop_assert!(found.len() <= 250, "{} convolutions", found.len());
        }
    }
}

#[test]
fn empty_or_cut_model_is_refused() {
    for length in [0, 3, 8, 100, model::BYTES.len() / 2] {
        assert!(model::convolutions(&model::BYTES[..length]).is_none_or(|found| found.len() < 37), "{length} bytes");
    }
    assert_eq!(model::convolutions(model::BYTES).unwrap().len(), 37);
}
