//! Finds the face on a photo, so that no call is spent on a photo without one.
//!
//! The net is Google's BlazeFace (short range), with its published weights. It looks at the whole photo, scaled to
//! 128x128 pixels (3 ms). Where that shows no clear face, it looks at overlapping parts, then at the photo turned by 90, 180
//! and 270 degrees. The thresholds were set on public pictures that packages ship, and variants of them: 570 with a face
//! and 420 without. A sound photo of a face must not be refused, so the doubtful ones are only named.
//!
//! Pure: pixels in, findings out. It never decides what becomes of a photo, and pixels never leave it.

mod candidates;
mod look;
mod model;
mod net;

use look::Sight;

use super::decode::Pixels;

/// Height of another face, as a share of the largest, from which the service may take it for the person.
const SIMILAR_HEIGHT: f32 = 0.5;
/// Least height of a face as a share of the photo's.
const MIN_HEIGHT_SHARE: f32 = 0.12;
/// Least height of a face in pixels, as sent.
const MIN_HEIGHT_PIXELS: f32 = 80.0;
/// Largest share of a face's box outside the photo.
const MAX_CUT_SHARE: f32 = 0.1;

/// Where a face is, in parts of the photo's width and height. The box reaches from brow to chin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FaceBox {
    /// Left side.
    pub x: f32,
    /// Top.
    pub y: f32,
    /// Width.
    pub width: f32,
    /// Height.
    pub height: f32,
    /// How sure the detector is, 0 to 1.
    pub score: f32,
}

/// Clockwise turn that sets a photo upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Turn {
    /// 90 degrees.
    Quarter,
    /// 180 degrees.
    Half,
    /// 270 degrees.
    ThreeQuarters,
}

impl Turn {
    const ALL: [Self; 3] = [Self::Quarter, Self::Half, Self::ThreeQuarters];

    /// EXIF orientation that asks for this turn.
    fn exif_orientation(self) -> u8 {
        match self {
            Self::Quarter => 6,
            Self::Half => 3,
            Self::ThreeQuarters => 8,
        }
    }
}

/// What is wrong with the face on a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaceProblem {
    /// No face is visible.
    Missing,
    /// Something that is barely recognisable as a face.
    Unclear,
    /// The photo lies on its side or its head.
    Turned(Turn),
    /// Another face is at least half as high as the largest.
    Several,
    /// The face is small, in the photo or in pixels.
    Small,
    /// The edge of the photo cuts the face.
    Cut,
}

impl FaceProblem {
    /// Every problem.
    pub const ALL: [Self; 8] = [
        Self::Missing,
        Self::Unclear,
        Self::Turned(Turn::Quarter),
        Self::Turned(Turn::Half),
        Self::Turned(Turn::ThreeQuarters),
        Self::Several,
        Self::Small,
        Self::Cut,
    ];

    /// Stable code of the problem.
    pub fn name(self) -> &'static str {
        match self {
            Self::Missing => "NoFace",
            Self::Unclear => "UnclearFace",
            Self::Turned(Turn::Quarter) => "FaceTurned90",
            Self::Turned(Turn::Half) => "FaceTurned180",
            Self::Turned(Turn::ThreeQuarters) => "FaceTurned270",
            Self::Several => "SeveralFaces",
            Self::Small => "SmallFace",
            Self::Cut => "CutFace",
        }
    }

    /// Message for the user.
    pub fn message(self) -> &'static str {
        match self {
            Self::Missing => "no face is visible",
            Self::Unclear => "a face is barely recognisable",
            Self::Turned(Turn::Quarter) => "photo lies on its side: turn it by 90 degrees clockwise",
            Self::Turned(Turn::Half) => "photo is upside down: turn it by 180 degrees",
            Self::Turned(Turn::ThreeQuarters) => "photo lies on its side: turn it by 270 degrees clockwise",
            Self::Several => "several faces of similar size are visible, of which the service enrols the largest",
            Self::Small => "face is small",
            Self::Cut => "face is cut off by the edge of the photo",
        }
    }

    /// Whether the photo lies on its side.
    pub(super) fn is_lying(self) -> bool {
        matches!(self, Self::Turned(Turn::Quarter | Turn::ThreeQuarters))
    }

    /// Whether `--faces reject` rejects a photo for it: only where a call would be wasted or enrol somebody else.
    pub(super) fn is_severe(self) -> bool {
        match self {
            Self::Missing | Self::Several => true,
            Self::Unclear | Self::Turned(_) | Self::Small | Self::Cut => false,
        }
    }
}

/// Findings about the face on a photo.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct FaceReport {
    /// The largest face, clear or not.
    pub(super) face: Option<FaceBox>,
    /// What is wrong with it, the most severe problem first.
    pub(super) problems: Vec<FaceProblem>,
}

/// Looks for the face on an upright photo, of which `sent_height` pixels are sent.
pub(super) fn find(photo: &Pixels, sent_height: u32) -> FaceReport {
    let mut problems = Vec::new();
    let face = match look::look(photo) {
        Sight::Nothing => {
            problems.push(FaceProblem::Missing);
            return FaceReport { face: None, problems };
        }
        Sight::Unclear(face) => {
            problems.push(FaceProblem::Unclear);
            in_parts(&face, photo)
        }
        Sight::Turned(face, turn) => {
            problems.push(FaceProblem::Turned(turn));
            in_parts(&face, photo)
        }
        Sight::Clear(face, others) => {
            if others.iter().any(|other| other.size.1 >= SIMILAR_HEIGHT * face.size.1) {
                problems.push(FaceProblem::Several);
            }
            let face = in_parts(&face, photo);
            if face.height < MIN_HEIGHT_SHARE || face.height * (sent_height as f32) < MIN_HEIGHT_PIXELS {
                problems.push(FaceProblem::Small);
            }
            if face.cut_share() > MAX_CUT_SHARE {
                problems.push(FaceProblem::Cut);
            }
            face
        }
    };
    FaceReport { face: Some(face), problems }
}

/// Whether the detector works in this build.
pub fn face_detector_works() -> bool {
    look::gives_known_scores()
}

fn in_parts(face: &candidates::Candidate, photo: &Pixels) -> FaceBox {
    let (width, height) = (photo.width as f32, photo.height as f32);
    FaceBox {
        x: (face.centre.0 - face.size.0 / 2.0) / width,
        y: (face.centre.1 - face.size.1 / 2.0) / height,
        width: face.size.0 / width,
        height: face.size.1 / height,
        score: face.score,
    }
}

impl FaceBox {
    /// Share of the box outside the photo.
    fn cut_share(&self) -> f32 {
        let inside = |start: f32, length: f32| ((start + length).min(1.0) - start.max(0.0)).max(0.0) / length;
        1.0 - inside(self.x, self.width) * inside(self.y, self.height)
    }
}

#[cfg(test)]
mod tests;
