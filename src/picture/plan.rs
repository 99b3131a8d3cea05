//! Decides from the header alone whether a photo is sent unchanged, fitted or rejected. Pure.

use super::{Defect, FaceBox, Fit, ImageInfo, Kind, Landscape, Rules, SizeLimits, Structure};
use crate::storage::Unavailable;

/// Aspect ratio for photos that are cropped or padded: 3:4, as the recommended 480 x 640.
const CANVAS_RATIO: (u32, u32) = (3, 4);

/// How a photo is prepared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// Send it unchanged.
    Passthrough,
    /// Decode, turn upright, scale and re-encode it.
    Fit(Geometry),
}

/// How a photo is fitted, in upright pixels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// Part of the original that is used: left, top, width, height.
    pub crop: (u32, u32, u32, u32),
    /// Size to which the crop is scaled.
    pub scaled: (u32, u32),
    /// Size of the result; larger than `scaled` if the photo is padded.
    pub canvas: (u32, u32),
    /// Whether the crop moves to the face, which only the pixels show.
    pub follows_face: bool,
}

impl Geometry {
    /// The same with the crop around this face of a photo of `width` pixels, as far as the photo reaches.
    pub(super) fn around(self, face: &FaceBox, width: u32) -> Self {
        let (_, top, across, down) = self.crop;
        let centre = f64::from(face.x + face.width / 2.0) * f64::from(width);
        let left = (centre - f64::from(across) / 2.0).round().clamp(0.0, f64::from(width - across));
        Self { crop: (left as u32, top, across, down), ..self }
    }
}

/// Plans for a photo of `size` bytes.
pub(super) fn plan(kind: Kind, info: &ImageInfo, size: u64, rules: &Rules) -> Result<Plan, Defect> {
    let limits = &rules.limits;
    match (rules.fit, unmet_rule(kind, info, size, rules)) {
        (Fit::Never, Some(defect)) => Err(defect),
        (Fit::Never, None) => Ok(Plan::Passthrough),
        // The service's decoder may be stricter than ours.
        (Fit::Auto, None) if info.structure != Structure::Irregular => Ok(Plan::Passthrough),
        (Fit::Auto | Fit::Always, Some(_) | None) => {
            let &ImageInfo { width, height, .. } = info;
            if u64::from(width) * u64::from(height) > limits.original_pixels {
                return Err(Defect::TooManyPixels { width, height, limit: limits.original_pixels });
            }
            geometry((width, height), rules.landscape, limits).map(Plan::Fit)
        }
    }
}

/// First rule that keeps the photo from being sent unchanged, the most severe one first.
fn unmet_rule(kind: Kind, info: &ImageInfo, size: u64, rules: &Rules) -> Option<Defect> {
    let &ImageInfo { width, height, orientation, .. } = info;
    let limits = &rules.limits;
    let may_upload = rules.allows_upload && rules.fit == Fit::Never;
    let (max_width, max_height) = (limits.width, limits.height);
    if kind != Kind::Jpeg {
        Some(Defect::NotJpeg { kind })
    } else if height <= width {
        Some(Defect::NotPortrait { width, height, turned: None })
    } else if width > max_width || height > max_height {
        Some(Defect::TooLargeShape { width, height, max_width, max_height })
    } else if orientation != 1 {
        Some(Defect::NeedsRotation { orientation })
    } else if size > limits.bytes {
        Some(Unavailable::TooLarge { size, limit: limits.bytes }.into())
    } else if size > limits.inline_bytes && !may_upload {
        Some(Defect::TooLargeInline { size, limit: limits.inline_bytes })
    } else {
        None
    }
}

/// Crops or pads to portrait, then scales by min(1, 720 / shorter side, 1080 / width, 1920 / height): never upscales,
/// and also keeps photos taller than 8:3 within the limits.
fn geometry((width, height): (u32, u32), landscape: Landscape, limits: &SizeLimits) -> Result<Geometry, Defect> {
    let (across, down) = CANVAS_RATIO;
    let whole = (0, 0, width, height);
    let is_portrait = height > width;
    let (crop, canvas) = match landscape {
        _ if is_portrait => (whole, (width, height)),
        Landscape::Reject => return Err(Defect::NotPortrait { width, height, turned: None }),
        Landscape::Crop => {
            let cropped = (height * across / down).max(1);
            (((width - cropped) / 2, 0, cropped, height), (cropped, height))
        }
        Landscape::Pad => (whole, (width, (width * down).div_ceil(across))),
    };
    let scale =
        [1.0, ratio(limits.shorter_side, canvas.0), ratio(limits.width, canvas.0), ratio(limits.height, canvas.1)];
    let scale = scale.into_iter().fold(1.0, f64::min);
    let side = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).max(1);
    let scaled = (side(crop.2), side(crop.3));
    let canvas = (side(canvas.0), side(canvas.1));
    // Rounding would turn 4000 x 4001 into a square, which is not portrait.
    let height = canvas.1.max(canvas.0 + 1);
    let scaled = if is_portrait { (scaled.0, height) } else { scaled };
    let follows_face = !is_portrait && landscape == Landscape::Crop;
    Ok(Geometry { crop, scaled, canvas: (canvas.0, height), follows_face })
}

fn ratio(limit: u32, pixels: u32) -> f64 {
    f64::from(limit) / f64::from(pixels.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn info(width: u32, height: u32, orientation: u8) -> ImageInfo {
        ImageInfo { width, height, orientation, ..ImageInfo::default() }
    }

    fn plan_for(fit: Fit, info: &ImageInfo, size: u64) -> Result<Plan, String> {
        let rules = Rules { fit, ..Rules::default() };
        plan(Kind::Jpeg, info, size, &rules).map_err(|defect| defect.code().0)
    }

    #[test]
    fn compliant_photo_is_planned_unchanged() {
        for (width, height, size) in [(480, 640, 80_000), (1_080, 1_920, 1_000_000), (90, 120, 2_000)] {
            let info = info(width, height, 1);
            assert_eq!(plan_for(Fit::Auto, &info, size), Ok(Plan::Passthrough));
            assert_eq!(plan_for(Fit::Never, &info, size), Ok(Plan::Passthrough));
            assert!(matches!(plan_for(Fit::Always, &info, size), Ok(Plan::Fit(_))));
        }
    }

    #[test]
    fn photo_is_fitted_or_rejected_with_reason() {
        for (info, size, code, scaled) in [
            (info(3_024, 4_032, 1), 4_000_000, "TooLargeShape", (720, 960)),
            (info(1_081, 1_920, 1), 80_000, "TooLargeShape", (720, 1_279)),
            (info(1_080, 2_400, 1), 80_000, "TooLargeShape", (720, 1_600)),
            (info(1_000, 4_000, 1), 80_000, "TooLargeShape", (480, 1_920)),
            (info(480, 640, 6), 80_000, "NeedsRotation", (480, 640)),
            (info(480, 640, 1), 1_000_001, "TooLargeInline", (480, 640)),
            (info(720, 960, 1), 10_000_001, "TooLarge", (720, 960)),
            (info(4_000, 4_001, 1), 80_000, "TooLargeShape", (720, 721)),
        ] {
            assert_eq!(plan_for(Fit::Never, &info, size).unwrap_err(), code);
            let Ok(Plan::Fit(geometry)) = plan_for(Fit::Auto, &info, size) else { panic!("{info:?} is not fitted") };
            assert_eq!((geometry.scaled, geometry.canvas), (scaled, scaled));
        }
    }

    #[test]
    fn landscape_and_square_are_refused_cropped_or_padded() {
        let info = info(4_000, 3_000, 1);
        let with = |landscape| plan(Kind::Jpeg, &info, 80_000, &Rules { landscape, ..Rules::default() });
        assert_eq!(with(Landscape::Reject).unwrap_err().code().0, "NotPortrait");
        let (scaled, canvas) = ((720, 960), (720, 960));
        let crop = Geometry { crop: (875, 0, 2_250, 3_000), scaled, canvas, follows_face: true };
        assert_eq!(with(Landscape::Crop), Ok(Plan::Fit(crop)));
        let pad = Geometry { crop: (0, 0, 4_000, 3_000), scaled: (720, 540), canvas, follows_face: false };
        assert_eq!(with(Landscape::Pad), Ok(Plan::Fit(pad)));
    }

    #[test]
    fn large_unfitted_photo_is_uploaded() {
        let rules = |fit| Rules { fit, allows_upload: true, ..Rules::default() };
        let info = info(720, 960, 1);
        assert_eq!(plan(Kind::Jpeg, &info, 9_000_000, &rules(Fit::Never)), Ok(Plan::Passthrough));
        assert!(matches!(plan(Kind::Jpeg, &info, 9_000_000, &rules(Fit::Auto)), Ok(Plan::Fit(_))));
        assert_eq!(plan(Kind::Jpeg, &info, 10_000_001, &rules(Fit::Never)).unwrap_err().code().0, "TooLarge");
    }

    #[test]
    fn decompression_bomb_is_rejected_from_its_header() {
        assert_eq!(plan_for(Fit::Auto, &info(65_535, 65_535, 1), 1_000).unwrap_err(), "TooManyPixels");
        assert_eq!(plan_for(Fit::Auto, &info(10_000, 13_000, 1), 1_000).unwrap_err(), "TooManyPixels");
    }

    proptest! {
        #[test]
        fn fitted_photo_meets_the_rules_and_is_never_larger(
            width in 1_u32..12_000, height in 1_u32..12_000, pads in any::<bool>(),
        ) {
            let landscape = if pads { Landscape::Pad } else { Landscape::Crop };
            let rules = Rules { fit: Fit::Always, landscape, ..Rules::default() };
            if let Ok(Plan::Fit(Geometry { crop, scaled, canvas, .. })) =
                plan(Kind::Jpeg, &info(width, height, 1), 1, &rules)
            {
                prop_assert!(canvas.1 > canvas.0 && canvas.0 <= 1_080 && canvas.1 <= 1_920 && canvas.0 <= 720);
                prop_assert!(scaled.0 <= canvas.0 && scaled.1 <= canvas.1 && scaled.0 > 0 && scaled.1 > 0);
                prop_assert!(crop.0 + crop.2 <= width && crop.1 + crop.3 <= height && crop.2 > 0);
                prop_assert!(scaled.0 <= crop.2 && scaled.1 <= crop.3 + 1, "upscaled");
            }
        }
    }
}
