//! Looks at a photo: first at the whole, then, where that is not conclusive, at its parts and from its other sides.

use std::sync::LazyLock;

use fast_image_resize::FilterType;

use super::{
    Turn,
    candidates::{self, Candidate},
    net::{INPUT_SIDE, Net, Workspace},
};
use crate::picture::{decode::Pixels, orientation::apply_orientation, resize::resize};

/// Score of a clear face in the first look, at the whole photo. Photos without a face reach 0.795.
const CLEAR_AT_FIRST: f32 = 0.8;
/// Score of a clear face in the second look, at parts of the photo. Photos without a face reach 0.85: there are more
/// chances to be wrong.
const CLEAR_AT_SECOND: f32 = 0.87;
/// Score of the second look below which there is no face. That of the first look is [`candidates::MIN_SCORE`].
const UNCLEAR_AT_SECOND: f32 = 0.7;
/// Score of a face on a photo that lies on its side or its head.
const CLEAR_WHEN_TURNED: f32 = 0.8;
/// Tilt in degrees from which a clear face is looked at from the other sides.
const SUSPICIOUS_ROLL: f32 = 40.0;
/// Largest tilt in degrees of a face on a turned photo.
const MAX_TURNED_ROLL: f32 = 35.0;
/// Share of the smaller of two boxes, in overlapping parts of the photo, from which they are the same face.
const SAME_FACE_SHARE: f32 = 0.5;

/// What is to be seen on a photo. Lengths are in pixels of that photo.
#[derive(Debug)]
pub(super) enum Sight {
    /// No face.
    Nothing,
    /// Something that may be a face.
    Unclear(Candidate),
    /// The largest clear face, and all others of the same look.
    Clear(Candidate, Vec<Candidate>),
    /// A face on a photo that lies on its side or its head, and the turn that mends it. Its box is that of the photo as it is.
    Turned(Candidate, Turn),
}

/// Looks for faces.
pub(super) fn look(photo: &Pixels) -> Sight {
    if photo.width == 0 || photo.height == 0 {
        return Sight::Nothing;
    }
    let mut detector = Detector::new();
    let whole = View::of(photo, (0, 0, photo.width, photo.height));
    let first = detector.detect(&whole);
    let best = |faces: &[Candidate]| faces.iter().copied().max_by(|a, b| a.score.total_cmp(&b.score));
    let at_first = best(&first);
    let is_clear = at_first.is_some_and(|face| face.score >= CLEAR_AT_FIRST);
    if is_clear && at_first.is_some_and(|face| face.roll().abs() < SUSPICIOUS_ROLL) {
        return clear(first, CLEAR_AT_FIRST);
    }
    let second = if is_clear { Vec::new() } else { detector.detect_in_parts(photo) };
    let at_second = best(&second);
    let upright = at_first.iter().chain(&at_second).map(|face| face.score).fold(0.0, f32::max);
    if let Some((face, turn)) = detector.detect_turned(&whole).filter(|(face, _)| face.score > upright) {
        return Sight::Turned(face, turn);
    }
    match (at_first, at_second) {
        _ if is_clear => clear(first, CLEAR_AT_FIRST),
        (_, Some(face)) if face.score >= CLEAR_AT_SECOND => clear(second, CLEAR_AT_SECOND),
        (Some(face), _) => Sight::Unclear(face),
        (None, Some(face)) if face.score >= UNCLEAR_AT_SECOND => Sight::Unclear(face),
        (None, Some(_) | None) => Sight::Nothing,
    }
}

/// The largest face with at least this score, and all others.
fn clear(mut faces: Vec<Candidate>, min_score: f32) -> Sight {
    let clear = faces.iter().enumerate().filter(|(_, face)| face.score >= min_score);
    match clear.max_by(|(_, a), (_, b)| a.size.1.total_cmp(&b.size.1)) {
        Some((n, &largest)) => {
            faces.remove(n);
            Sight::Clear(largest, faces)
        }
        None => Sight::Nothing,
    }
}

/// A part of a photo as the net sees it: scaled into a square, with black around it.
struct View {
    pixels: Pixels,
    /// Point of the photo at the top left of the square, in pixels.
    origin: (f32, f32),
    /// Pixels of the photo for one of the square.
    scale: f32,
}

impl View {
    /// Shows a part of the photo: left, top, width, height.
    fn of(photo: &Pixels, (left, top, width, height): (u32, u32, u32, u32)) -> Self {
        let side = INPUT_SIDE as u32;
        let longer = width.max(height);
        let scaled = |length: u32| ((f64::from(length) * f64::from(side) / f64::from(longer)).round() as u32).max(1);
        let (across, down) = (scaled(width), scaled(height));
        let part = (f64::from(left), f64::from(top), f64::from(width), f64::from(height));
        let small = resize(photo, part, (across, down), FilterType::Lanczos3)
            .expect("a part of the photo can be scaled to any size");
        let (before, above) = ((side - across) / 2, (side - down) / 2);
        let mut rgb = vec![0; INPUT_SIDE * INPUT_SIDE * 3];
        for (y, row) in small.rgb.chunks_exact(across as usize * 3).enumerate() {
            let at = ((above as usize + y) * INPUT_SIDE + before as usize) * 3;
            rgb[at..at + row.len()].copy_from_slice(row);
        }
        let scale = longer as f32 / side as f32;
        let origin = (left as f32 - before as f32 * scale, top as f32 - above as f32 * scale);
        Self { pixels: Pixels { width: side, height: side, rgb }, origin, scale }
    }
}

/// The net and its buffers.
pub(super) struct Detector {
    net: &'static Net,
    pub(super) workspace: Workspace,
}

impl Detector {
    fn new() -> Self {
        static NET: LazyLock<Net> = LazyLock::new(Net::built_in);
        Self { net: &NET, workspace: Workspace::new() }
    }

    fn detect(&mut self, view: &View) -> Vec<Candidate> {
        let faces = self.run(&view.pixels).into_iter();
        let to_photo = |(x, y)| (view.origin.0 + x * view.scale, view.origin.1 + y * view.scale);
        faces.map(|face| face.map(view.scale, to_photo)).collect()
    }

    /// Faces in a square of the net's size, in its pixels.
    fn run(&mut self, square: &Pixels) -> Vec<Candidate> {
        for (y, row) in square.rgb.chunks_exact(INPUT_SIDE * 3).enumerate() {
            for (to, &value) in self.workspace.input_row(y).iter_mut().zip(row) {
                *to = f32::from(value) / 127.5 - 1.0;
            }
        }
        self.net.run(&mut self.workspace);
        candidates::faces(&self.workspace.scores, &self.workspace.boxes)
    }

    /// Looks at overlapping squares of half the longer side: six of a 3:4 photo, nine of a square one.
    fn detect_in_parts(&mut self, photo: &Pixels) -> Vec<Candidate> {
        let (width, height) = (photo.width, photo.height);
        let side = width.max(height).div_ceil(2);
        // Positions half a square apart, from one end to the other.
        let starts = |length: u32| {
            let last = length.saturating_sub(side);
            let steps = (2 * last).div_ceil(side);
            (0..=steps).map(move |n| last * n / steps.max(1))
        };
        let mut faces: Vec<Candidate> = Vec::new();
        for top in starts(height) {
            for left in starts(width) {
                let part = (left, top, side.min(width - left), side.min(height - top));
                faces.extend(self.detect(&View::of(photo, part)));
            }
        }
        faces.sort_by(|a, b| b.score.total_cmp(&a.score));
        let mut distinct: Vec<Candidate> = Vec::new();
        for face in faces {
            let is_same =
                |other: &Candidate| face.intersection(other) > SAME_FACE_SHARE * face.area().min(other.area());
            if !distinct.iter().any(is_same) {
                distinct.push(face);
            }
        }
        distinct
    }

    /// Best face that stands upright after a turn, with its box in the photo as it is.
    fn detect_turned(&mut self, whole: &View) -> Option<(Candidate, Turn)> {
        let mut best: Option<(Candidate, Turn)> = None;
        for turn in Turn::ALL {
            let turned = apply_orientation(whole.pixels.clone(), turn.exif_orientation());
            let Some(&face) = self.run(&turned).first() else { continue };
            let is_upright = face.score >= CLEAR_WHEN_TURNED && face.roll().abs() < MAX_TURNED_ROLL;
            if is_upright && best.is_none_or(|(other, _)| face.score > other.score) {
                best = Some((turn_back(&face, turn, whole), turn));
            }
        }
        best
    }
}

/// Maps a face in the turned square to the photo as it is.
fn turn_back(face: &Candidate, turn: Turn, whole: &View) -> Candidate {
    let side = INPUT_SIDE as f32;
    let to_photo = |(x, y): (f32, f32)| {
        let (x, y) = match turn {
            Turn::Quarter => (y, side - x),
            Turn::Half => (side - x, side - y),
            Turn::ThreeQuarters => (side - y, x),
        };
        (whole.origin.0 + x * whole.scale, whole.origin.1 + y * whole.scale)
    };
    let face = face.map(whole.scale, to_photo);
    let size = match turn {
        Turn::Half => face.size,
        Turn::Quarter | Turn::ThreeQuarters => (face.size.1, face.size.0),
    };
    Candidate { size, ..face }
}

/// Whether the net gives its known scores for a made-up picture: a miscompiled build would not.
pub(super) fn gives_known_scores() -> bool {
    let detector = look_at_test_picture();
    KNOWN_SCORES.iter().all(|&(candidate, score)| (detector.workspace.scores[candidate] - score).abs() < 0.01)
}

/// Runs the net on pixels of a linear congruential generator.
pub(super) fn look_at_test_picture() -> Detector {
    let mut random = 1_u32;
    let mut next = || {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (random >> 24) as u8
    };
    let side = INPUT_SIDE as u32;
    let rgb = (0..INPUT_SIDE * INPUT_SIDE * 3).map(|_| next()).collect();
    let mut detector = Detector::new();
    detector.run(&Pixels { width: side, height: side, rgb });
    detector
}

/// Scores of the reference runtime for the test picture.
const KNOWN_SCORES: [(usize, f32); 8] = [
    (50, -2.695),
    (170, -4.121),
    (290, -3.473),
    (410, -4.271),
    (530, -2.210),
    (650, -2.878),
    (770, -0.957),
    (890, -5.485),
];
