//! Loading of real files, end to end.

use std::{fs, path::PathBuf};

use super::*;
use crate::picture::{Fit, Landscape, SizeLimits};

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/");
const ARCHIVE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/archive/photos/");

pub(super) const AUTO: Rules = Rules {
    fit: Fit::Auto,
    landscape: Landscape::Reject,
    quality: QualityPolicy::Allow,
    faces: FacePolicy::Ignore,
    allows_upload: false,
    limits: SizeLimits::DOCUMENTED,
};
const NEVER: Rules = Rules { fit: Fit::Never, ..AUTO };
pub(super) const ALWAYS: Rules = Rules { fit: Fit::Always, ..AUTO };

fn code(path: &Path, rules: &Rules) -> String {
    match load(path, rules) {
        Ok(_) => "fine".into(),
        Err(LoadError::Defect(defect)) => defect.code().0,
        Err(error @ (LoadError::Io(_) | LoadError::Fatal(_))) => panic!("{error}"),
    }
}

fn archived(name: &str) -> PathBuf {
    Path::new(ARCHIVE).join(name)
}

fn pixels(jpeg: &[u8]) -> Pixels {
    decode::decode(jpeg, Kind::Jpeg, (u32::MAX, u32::MAX)).unwrap()
}

/// Mean difference of two pictures in channel values (0 to 255); the second is scaled to the first.
fn difference(one: &Pixels, other: &Pixels) -> f64 {
    let at = |of: &Pixels, x: f64, y: f64| {
        let (x, y) = ((x * f64::from(of.width)) as usize, (y * f64::from(of.height)) as usize);
        let at = (y * of.width as usize + x) * 3;
        [of.rgb[at], of.rgb[at + 1], of.rgb[at + 2]]
    };
    let grid = (0..80).flat_map(|y| (0..60).map(move |x| ((f64::from(x) + 0.5) / 60.0, (f64::from(y) + 0.5) / 80.0)));
    let differ = |(x, y)| {
        let (a, b) = (at(one, x, y), at(other, x, y));
        (0..3).map(|channel| f64::from(a[channel].abs_diff(b[channel]))).sum::<f64>() / 3.0
    };
    grid.map(differ).sum::<f64>() / 4_800.0
}

#[test]
fn compliant_photo_is_sent_unchanged() {
    let path = Path::new(SAMPLES).join("photos/collins-01.jpg");
    let bytes = fs::read(&path).unwrap();
    let (storage, place, root) = (Storage::default(), Place::Path(path.clone()), Path::new(SAMPLES));
    for rules in [AUTO, NEVER] {
        let picture = load(&path, &rules).unwrap();
        assert_eq!(picture.bytes, bytes);
        assert_eq!(picture.digest.0[..], sha2::Sha256::digest(&bytes)[..]);
        assert_eq!(picture.sent, picture.digest);
        assert_eq!(picture.stamp, storage.stamp(&place, root).unwrap());
    }
    assert_eq!(digest(&storage, &place, root, &AUTO).unwrap().0, load(&path, &AUTO).unwrap().digest);
}

#[test]
fn eight_orientations_are_turned_upright() {
    let plain = pixels(&load(&archived("plain.jpg"), &ALWAYS).unwrap().bytes);
    for orientation in 2..=8 {
        let path = archived(&format!("orientation-{orientation}.jpg"));
        assert_eq!(code(&path, &NEVER), "NeedsRotation");
        let turned = load(&path, &AUTO).unwrap();
        assert_eq!(jpeg::probe(&turned.bytes).unwrap().orientation, 1);
        let turned = pixels(&turned.bytes);
        assert_eq!((turned.width, turned.height), (240, 320), "orientation {orientation}");
        let difference = difference(&plain, &turned);
        assert!(difference < 4.0, "orientation {orientation} differs by {difference}");
    }
}

#[test]
fn every_format_decodes_to_the_same_picture() {
    let plain = pixels(&load(&archived("plain.jpg"), &ALWAYS).unwrap().bytes);
    let grey = pixels(&load(&archived("grey.jpg"), &ALWAYS).unwrap().bytes);
    for (name, max) in [
        ("progressive.jpg", 2.0),
        ("sampled-444.jpg", 3.0),
        ("cmyk.jpg", 5.0),
        ("cmyk-lying.jpg", 5.0),
        ("gps-lying.jpg", 4.0),
        ("png-named.jpg", 9.0),
        ("png-palette.png", 12.0),
        ("png-lying.png", 9.0),
        ("webp.webp", 5.0),
        ("webp-lossless.webp", 9.0),
        ("webp-lying.webp", 5.0),
        ("bmp.bmp", 9.0),
        ("tiff.tif", 9.0),
        ("tiff-lying.tif", 9.0),
    ] {
        let fitted = pixels(&load(&archived(name), &ALWAYS).unwrap().bytes);
        let difference = difference(&plain, &fitted);
        assert!(difference < max, "{name} differs by {difference}");
    }
    for name in ["grey-lying.jpg", "png-grey16.png"] {
        let difference = difference(&grey, &pixels(&load(&archived(name), &ALWAYS).unwrap().bytes));
        assert!(difference < 9.0, "{name} differs by {difference}");
    }
    // A picture that is not turned upright differs far more.
    let lying = pixels(&fs::read(archived("orientation-3.jpg")).unwrap());
    assert!(difference(&plain, &lying) > 30.0);
}

#[test]
fn transparency_is_blended_onto_white() {
    for name in ["png-alpha.png", "webp-alpha.webp"] {
        let fitted = pixels(&load(&archived(name), &AUTO).unwrap().bytes);
        // The alpha of these files is the portrait's brightness: dark hair and clothes become white.
        let plain = pixels(&load(&archived("plain.jpg"), &ALWAYS).unwrap().bytes);
        assert!(mean_brightness(&fitted) > mean_brightness(&plain) + 20.0, "{name}");
    }
}

fn mean_brightness(pixels: &Pixels) -> f64 {
    pixels.rgb.iter().map(|&value| f64::from(value)).sum::<f64>() / pixels.rgb.len() as f64
}

#[test]
fn fitted_photo_has_no_metadata() {
    let before = fs::read(archived("gps-lying.jpg")).unwrap();
    let fitted = load(&archived("gps-lying.jpg"), &AUTO).unwrap().bytes;
    for canary in [&b"Exif"[..], b"CANARY-CAMERA"] {
        let has = |bytes: &[u8]| bytes.windows(canary.len()).any(|window| window == canary);
        assert!(has(&before) && !has(&fitted));
    }
}

#[test]
fn landscape_is_cropped_or_padded() {
    let path = archived("landscape.jpg");
    assert_eq!(code(&path, &AUTO), "NotPortrait");
    let with = |landscape| pixels(&load(&path, &Rules { landscape, ..AUTO }).unwrap().bytes);
    let original = pixels(&fs::read(&path).unwrap());
    let cropped = with(Landscape::Crop);
    assert_eq!((cropped.width, cropped.height), (180, 240));
    let middle = |pixels: &Pixels| {
        let at = (pixels.height as usize / 2 * pixels.width as usize + pixels.width as usize / 2) * 3;
        pixels.rgb[at]
    };
    assert!(middle(&cropped).abs_diff(middle(&original)) < 12);
    let padded = with(Landscape::Pad);
    assert_eq!((padded.width, padded.height), (320, 427));
    assert!(padded.rgb[..960].iter().all(|&value| value > 250) && middle(&padded).abs_diff(middle(&original)) < 12);
}

/// A landscape photo with the portrait at `left` of a plain wall.
fn portrait_on_a_wall(left: usize) -> Vec<u8> {
    let portrait = pixels(&fs::read(Path::new(SAMPLES).join("photos/collins-01.jpg")).unwrap());
    let (width, height) = (1_280, portrait.height as usize);
    let mut rgb = vec![150; width * height * 3];
    for (y, row) in portrait.rgb.chunks_exact(portrait.width as usize * 3).enumerate() {
        rgb[(y * width + left) * 3..][..row.len()].copy_from_slice(row);
    }
    fit::encode(&Pixels { width: width as u32, height: height as u32, rgb }, u64::MAX).unwrap()
}

fn render(bytes: Vec<u8>, rules: &Rules) -> Result<Picture, Defect> {
    let original = Original::from_bytes(bytes, rules)?;
    let plan = original.plan(rules)?;
    original.render(&plan, rules)
}

#[test]
fn landscape_crop_follows_the_face() {
    for left in [0, 100, 400, 700, 800] {
        let rules = Rules { landscape: Landscape::Crop, ..AUTO };
        let cropped = render(portrait_on_a_wall(left), &rules).unwrap();
        assert_eq!(cropped.warnings, [], "{left}");
        let face = face::find(&pixels(&cropped.bytes), 640).face.unwrap();
        // The head is the box and 30 % of it on each side, and 50 % above it.
        let (margin, above) = (0.3 * face.width, 0.5 * face.height);
        let is_whole = face.x - margin > 0.0 && face.x + face.width + margin < 1.0 && face.y - above > 0.0;
        assert!(is_whole, "{left}: {face:?}");
    }
}

#[test]
fn landscape_without_face_is_cropped_in_the_middle() {
    let wall = Pixels { width: 640, height: 480, rgb: (0..640 * 480 * 3).map(|at| (at / 3 % 640 / 3) as u8).collect() };
    let wall = fit::encode(&wall, u64::MAX).unwrap();
    let rules = Rules { landscape: Landscape::Crop, ..AUTO };
    let cropped = render(wall.clone(), &rules).unwrap();
    assert!(cropped.warnings.contains(&Warning::Face(FaceProblem::Missing)), "{:?}", cropped.warnings);
    let cropped = pixels(&cropped.bytes);
    // The crop is 360 wide, from 140: the grey there is a third of the column.
    let grey = |x: usize| cropped.rgb[(240 * cropped.width as usize + x) * 3];
    assert!(grey(2).abs_diff(47) < 4 && grey(357).abs_diff(165) < 4, "{} {}", grey(2), grey(357));
    let rejecting = Rules { faces: FacePolicy::Reject, ..rules };
    assert_eq!(render(wall, &rejecting).unwrap_err().code().0, "NoFace");
}

#[test]
fn face_is_looked_for_only_on_request() {
    let bytes = fs::read(Path::new(SAMPLES).join("photos/collins-01.jpg")).unwrap();
    let cost = |rules: &Rules| {
        let original = Original::from_bytes(bytes.clone(), rules).unwrap();
        original.cost(&original.plan(rules).unwrap(), rules)
    };
    assert_eq!(cost(&AUTO), 0, "nothing is decoded");
    assert_eq!(render(bytes.clone(), &AUTO).unwrap().face, None);
    let warn = Rules { faces: FacePolicy::Warn, ..AUTO };
    assert!(cost(&warn) > FACE_COST);
    let looked_at = render(bytes.clone(), &warn).unwrap();
    assert!(looked_at.face.is_some_and(|face| face.score > 0.9) && looked_at.warnings.is_empty());
    assert_eq!(looked_at.bytes, bytes, "no pixel is changed");
}

#[test]
fn padding_does_not_count_as_part_of_the_photo() {
    let rules = Rules { landscape: Landscape::Pad, faces: FacePolicy::Warn, ..AUTO };
    let padded = render(portrait_on_a_wall(400), &rules).unwrap();
    let face = padded.face.unwrap();
    assert!(padded.warnings.is_empty() && (face.y - 0.19).abs() < 0.03, "{face:?} {:?}", padded.warnings);
}

#[test]
fn quality_thresholds_pass_only_the_good_portrait() {
    let warn = Rules { quality: QualityPolicy::Warn, ..AUTO };
    let reject = Rules { quality: QualityPolicy::Reject, ..AUTO };
    for (name, expected) in [
        ("plain.jpg", "fine"),
        ("grey.jpg", "fine"),
        ("tiny.jpg", "fine"),
        ("dark.jpg", "TooDark"),
        ("bright.jpg", "TooBright"),
        ("blurred.jpg", "Blurred"),
        ("nothing-on-it.jpg", "Blurred"),
    ] {
        assert_eq!(code(&archived(name), &reject), expected, "{name}");
        let warnings = load(&archived(name), &warn).unwrap().warnings;
        let names: Vec<&str> = warnings.iter().map(|warning| warning.name()).collect();
        let expected = if expected == "fine" { vec!["Small"] } else { vec!["Small", expected] };
        assert_eq!(names, expected, "{name}");
        assert_eq!(code(&archived(name), &AUTO), "fine", "{name}: the default rules do not check it");
    }
    for n in 1..=12 {
        let path = Path::new(SAMPLES).join(format!("photos/collins-{n:02}.jpg"));
        assert_eq!(load(&path, &warn).unwrap().warnings, [], "{}", path.display());
    }
}

#[test]
fn file_size_is_checked_before_reading() {
    let dir = tempfile::tempdir().unwrap();
    let sparse = dir.path().join("sparse.jpg");
    fs::File::create(&sparse).unwrap().set_len(10 << 30).unwrap();
    assert_eq!(code(&sparse, &AUTO), "TooLarge");
    let mut large = fs::read(Path::new(SAMPLES).join("photos/collins-01.jpg")).unwrap();
    for (size, never, auto) in [
        (1_000_000, "fine", "fine"),
        (1_000_001, "TooLargeInline", "fine"),
        (10_000_001, "TooLarge", "fine"),
        (64_000_001, "TooLarge", "TooLarge"),
    ] {
        // Bytes after the end marker count towards the size; decoders ignore them.
        large.resize(size, 0);
        let path = dir.path().join("large.jpg");
        fs::write(&path, &large).unwrap();
        assert_eq!((&*code(&path, &NEVER), &*code(&path, &AUTO)), (never, auto), "{size}");
        if auto == "fine" {
            assert!(load(&path, &AUTO).unwrap().bytes.len() <= 1_000_000);
        }
    }
}

#[test]
fn pipes_and_devices_are_rejected_without_blocking() {
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.jpg");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
        0,
    )
    .unwrap();
    assert_eq!(code(&pipe, &AUTO), "NotAFile");
    assert_eq!(code(Path::new("/dev/null"), &AUTO), "NotAFile");
    let socket = dir.path().join("socket.jpg");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    assert_eq!(code(&socket, &AUTO), "NotAFile");
    let looped = dir.path().join("loop.jpg");
    std::os::unix::fs::symlink(&looped, &looped).unwrap();
    assert_eq!(code(&looped, &AUTO), "NotFound");
}
