//! What can be said of a photo's quality without looking for a face: far too dark, far too bright, far too blurred.
//!
//! The API page asks for a clear photo with proper exposure and gives no figures. The thresholds are far out, so that
//! what is flagged is nearly always wrong; they were set by darkening, brightening and blurring a real portrait until a
//! person would no longer enrol it (`tests::quality_thresholds_pass_only_the_good_portrait`).

use super::{Facts, decode::Pixels};

/// Width that a photo is looked at in: blur is a matter of scale, and noise is averaged away.
const ANALYSIS_SIZE: usize = 180;
/// Mean brightness of the middle, of 255, below which nothing can be made out.
const DARK: f64 = 40.0;
/// And above which it is burnt out.
const BRIGHT: f64 = 225.0;
/// Variance of the Laplacian, divided by that of the brightness: the share of detail.
const BLURRED: f64 = 0.006;
/// Variance of brightness below which there is nothing to be seen, sharp or not.
const FLAT: f64 = 4.0;
/// "A resolution of 640x480 pixels (height x width) is recommended" (API page).
const RECOMMENDED: (u32, u32) = (480, 640);

/// Something to know of a photo that goes all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Warning {
    /// Less than the recommended 480 x 640.
    Small,
    /// Far too dark.
    TooDark,
    /// Far too bright.
    TooBright,
    /// Far too blurred, or nothing on it.
    Blurred,
}

impl Warning {
    /// Its code.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "Small",
            Self::TooDark => "TooDark",
            Self::TooBright => "TooBright",
            Self::Blurred => "Blurred",
        }
    }

    /// For a person.
    pub fn message(self) -> &'static str {
        match self {
            Self::Small => "it is smaller than the recommended 480x640 pixels",
            Self::TooDark => "it is far too dark",
            Self::TooBright => "it is far too bright",
            Self::Blurred => "it is far too blurred, or there is nothing on it",
        }
    }
}

/// Of the header alone.
pub(super) fn too_small(facts: &Facts) -> Option<Warning> {
    (facts.width < RECOMMENDED.0 || facts.height < RECOMMENDED.1).then_some(Warning::Small)
}

/// Of the pixels: the most_severe, if there is one.
pub(super) fn assess(pixels: &Pixels) -> Option<Warning> {
    let (width, height, luma) = luma(pixels);
    let middle = |at: usize, size: usize| at >= size / 5 && at < size - size / 5;
    let inner = (0..luma.len()).filter(|at| middle(at % width, width) && middle(at / width, height));
    let (mean, variance) = moments(inner.map(|at| luma[at]));
    if mean < DARK {
        return Some(Warning::TooDark);
    }
    if mean > BRIGHT {
        return Some(Warning::TooBright);
    }
    let detail = (1..height.saturating_sub(1)).flat_map(|y| (1..width.saturating_sub(1)).map(move |x| y * width + x));
    let detail = detail.map(|at| 4.0 * luma[at] - luma[at - 1] - luma[at + 1] - luma[at - width] - luma[at + width]);
    let (_, sharpness) = moments(detail);
    (variance < FLAT || sharpness / variance < BLURRED).then_some(Warning::Blurred)
}

/// Brightness, averaged to about [`ANALYSIS_SIZE`] pixels across.
fn luma(pixels: &Pixels) -> (usize, usize, Vec<f64>) {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let block = (width / ANALYSIS_SIZE).max(1);
    let (across, down) = ((width / block).max(1), (height / block).max(1));
    let mut sums = vec![0_u32; across * down];
    for (y, row) in pixels.rgb.chunks_exact(width * 3).enumerate().take(down * block) {
        for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate().take(across * block) {
            // ITU-R BT.601, of 256.
            let &[r, g, b] = pixel;
            sums[y / block * across + x / block] += (u32::from(r) * 77 + u32::from(g) * 150 + u32::from(b) * 29) >> 8;
        }
    }
    let area = (block * block) as f64;
    (across, down, sums.into_iter().map(|sum| f64::from(sum) / area).collect())
}

fn moments(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (n, sum, squares) =
        values.fold((0.0, 0.0, 0.0), |(n, sum, squares), value| (n + 1.0, sum + value, squares + value * value));
    let mean = sum / f64::max(n, 1.0);
    (mean, squares / f64::max(n, 1.0) - mean * mean)
}
