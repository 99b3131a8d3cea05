//! Quality checks without face detection: far too dark, far too bright, far too blurred.
//!
//! The API page asks for a clear photo with proper exposure and gives no figures. The thresholds are extreme, so that a
//! flagged photo is nearly always unusable. They were set by darkening, brightening and blurring a real portrait until
//! a person would no longer enrol it (`tests::quality_thresholds_pass_only_the_good_portrait`).

use super::{FaceProblem, ImageInfo, decode::Pixels};

/// Width in pixels at which a photo is analysed: blur depends on scale, and averaging removes noise.
const ANALYSIS_WIDTH: usize = 180;
/// Mean brightness of the centre (0 to 255) below which nothing is recognisable.
const MIN_MEAN_BRIGHTNESS: f64 = 40.0;
/// Mean brightness of the centre above which the photo is overexposed.
const MAX_MEAN_BRIGHTNESS: f64 = 225.0;
/// Least variance of the Laplacian, divided by the variance of the brightness: the share of detail.
const MIN_SHARPNESS: f64 = 0.006;
/// Variance of the brightness below which the photo shows nothing.
const MIN_VARIANCE: f64 = 4.0;
/// "A resolution of 640x480 pixels (height x width) is recommended" (API page).
const RECOMMENDED_SIZE: (u32, u32) = (480, 640);

/// Quality problem of a photo that is sent nevertheless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Warning {
    /// Smaller than the recommended 480 x 640 pixels.
    Small,
    /// Far too dark.
    TooDark,
    /// Far too bright.
    TooBright,
    /// Far too blurred, or blank.
    Blurred,
    /// Something is wrong with the face.
    Face(FaceProblem),
}

impl Warning {
    /// Stable code of the warning.
    pub fn name(self) -> &'static str {
        match self {
            Self::Small => "Small",
            Self::TooDark => "TooDark",
            Self::TooBright => "TooBright",
            Self::Blurred => "Blurred",
            Self::Face(problem) => problem.name(),
        }
    }

    /// Message for the user.
    pub fn message(self) -> &'static str {
        match self {
            Self::Small => "photo is smaller than the recommended 480x640 pixels",
            Self::TooDark => "photo is far too dark",
            Self::TooBright => "photo is far too bright",
            Self::Blurred => "photo is far too blurred, or blank",
            Self::Face(problem) => problem.message(),
        }
    }
}

/// Checks the size, from the header alone.
pub(super) fn check_size(info: &ImageInfo) -> Option<Warning> {
    (info.width < RECOMMENDED_SIZE.0 || info.height < RECOMMENDED_SIZE.1).then_some(Warning::Small)
}

/// Checks the pixels and returns the most severe problem.
pub(super) fn assess(pixels: &Pixels) -> Option<Warning> {
    let (width, height, luma) = luma(pixels);
    let is_central = |at: usize, size: usize| at >= size / 5 && at < size - size / 5;
    let centre = (0..luma.len()).filter(|at| is_central(at % width, width) && is_central(at / width, height));
    let (mean, variance) = mean_and_variance(centre.map(|at| luma[at]));
    if mean < MIN_MEAN_BRIGHTNESS {
        return Some(Warning::TooDark);
    }
    if mean > MAX_MEAN_BRIGHTNESS {
        return Some(Warning::TooBright);
    }
    let interior = (1..height.saturating_sub(1)).flat_map(|y| (1..width.saturating_sub(1)).map(move |x| y * width + x));
    let laplacian =
        interior.map(|at| 4.0 * luma[at] - luma[at - 1] - luma[at + 1] - luma[at - width] - luma[at + width]);
    let (_, sharpness) = mean_and_variance(laplacian);
    (variance < MIN_VARIANCE || sharpness / variance < MIN_SHARPNESS).then_some(Warning::Blurred)
}

/// Width, height and brightness of the photo, averaged to about [`ANALYSIS_WIDTH`] pixels across.
fn luma(pixels: &Pixels) -> (usize, usize, Vec<f64>) {
    let (width, height) = (pixels.width as usize, pixels.height as usize);
    let block = (width / ANALYSIS_WIDTH).max(1);
    let (across, down) = ((width / block).max(1), (height / block).max(1));
    let mut sums = vec![0_u32; across * down];
    for (y, row) in pixels.rgb.chunks_exact(width * 3).enumerate().take(down * block) {
        for (x, pixel) in row.as_chunks::<3>().0.iter().enumerate().take(across * block) {
            // ITU-R BT.601 weights, in 256ths.
            let &[r, g, b] = pixel;
            sums[y / block * across + x / block] += (u32::from(r) * 77 + u32::from(g) * 150 + u32::from(b) * 29) >> 8;
        }
    }
    let area = (block * block) as f64;
    (across, down, sums.into_iter().map(|sum| f64::from(sum) / area).collect())
}

fn mean_and_variance(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (n, sum, squares) =
        values.fold((0.0, 0.0, 0.0), |(n, sum, squares), value| (n + 1.0, sum + value, squares + value * value));
    let mean = sum / f64::max(n, 1.0);
    (mean, squares / f64::max(n, 1.0) - mean * mean)
}
