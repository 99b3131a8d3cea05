//! Turns the numbers of the net into faces.

use super::net::{BOX_LENGTH, CANDIDATES, INPUT_SIDE};

/// Least score of a face that is looked at any further.
pub(super) const MIN_SCORE: f32 = 0.5;
/// Overlap (intersection over union) above which two candidates are the same face.
const SAME_FACE_OVERLAP: f32 = 0.3;

/// A face. Its unit of length is that of the view in which it was found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Candidate {
    /// From 0 to 1.
    pub(super) score: f32,
    /// Centre of the box, which reaches from brow to chin.
    pub(super) centre: (f32, f32),
    /// Width and height of the box.
    pub(super) size: (f32, f32),
    /// The eyes, the one on the left of an upright photo first.
    pub(super) eyes: [(f32, f32); 2],
}

impl Candidate {
    /// Angle in degrees by which the face is tilted from upright, -180 to 180.
    pub(super) fn roll(&self) -> f32 {
        let [(left, left_y), (right, right_y)] = self.eyes;
        (right_y - left_y).atan2(right - left).to_degrees()
    }

    pub(super) fn area(&self) -> f32 {
        self.size.0 * self.size.1
    }

    /// Area that two faces share.
    pub(super) fn intersection(&self, other: &Self) -> f32 {
        let shared = |centre: (f32, f32), size: (f32, f32)| {
            let end = (centre.0 + size.0 / 2.0).min(centre.1 + size.1 / 2.0);
            (end - (centre.0 - size.0 / 2.0).max(centre.1 - size.1 / 2.0)).max(0.0)
        };
        shared((self.centre.0, other.centre.0), (self.size.0, other.size.0))
            * shared((self.centre.1, other.centre.1), (self.size.1, other.size.1))
    }

    /// Moves and scales the face: `map` maps a point.
    pub(super) fn map(self, scale: f32, map: impl Fn((f32, f32)) -> (f32, f32)) -> Self {
        let size = (self.size.0 * scale, self.size.1 * scale);
        Self { centre: map(self.centre), size, eyes: self.eyes.map(map), ..self }
    }
}

/// Faces among the outputs of the net, the best first, in input pixels.
pub(super) fn faces(scores: &[f32], boxes: &[f32]) -> Vec<Candidate> {
    let candidates = scores.iter().zip(boxes.as_chunks::<BOX_LENGTH>().0).enumerate();
    let found = candidates.filter_map(|(n, (&raw, numbers))| {
        // Scores reach -4,477, whose exponential overflows.
        let score = 1.0 / (1.0 + (-raw.clamp(-80.0, 80.0)).exp());
        (score >= MIN_SCORE).then(|| candidate(score, cell_centre(n), numbers))
    });
    merge(found.collect())
}

fn candidate(score: f32, (x, y): (f32, f32), numbers: &[f32; BOX_LENGTH]) -> Candidate {
    let point = |at: usize| (x + numbers[at], y + numbers[at + 1]);
    let size = (numbers[2].max(1.0), numbers[3].max(1.0));
    Candidate { score, centre: point(0), size, eyes: [point(4), point(6)] }
}

/// Centre of the cell to which the numbers of a candidate are relative, in input pixels.
fn cell_centre(candidate: usize) -> (f32, f32) {
    const OF_16: usize = 16 * 16 * 2;
    debug_assert!(candidate < CANDIDATES);
    let (cell, side) = if candidate < OF_16 { (candidate / 2, 16) } else { ((candidate - OF_16) / 6, 8) };
    let centre = |at: usize| (at as f32 + 0.5) / side as f32 * INPUT_SIDE as f32;
    (centre(cell % side), centre(cell / side))
}

/// Merges candidates of the same face into one: their mean, weighted by score, with the best score.
fn merge(mut candidates: Vec<Candidate>) -> Vec<Candidate> {
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    let mut faces = Vec::new();
    while let Some(&best) = candidates.first() {
        let overlaps = |other: &Candidate| {
            let shared = best.intersection(other);
            shared > SAME_FACE_OVERLAP * (best.area() + other.area() - shared)
        };
        let (same, others): (Vec<_>, Vec<_>) = candidates.iter().skip(1).partition(|other| overlaps(other));
        let same = || std::iter::once(&best).chain(&same);
        let total: f32 = same().map(|face| face.score).sum();
        let mean = |get: fn(&Candidate) -> (f32, f32)| {
            let sums = same().fold((0.0, 0.0), |(x, y), face| {
                let value = get(face);
                (x + face.score * value.0, y + face.score * value.1)
            });
            (sums.0 / total, sums.1 / total)
        };
        let eyes = [mean(|face| face.eyes[0]), mean(|face| face.eyes[1])];
        faces.push(Candidate {
            score: best.score,
            centre: mean(|face| face.centre),
            size: mean(|face| face.size),
            eyes,
        });
        candidates = others;
    }
    faces
}
