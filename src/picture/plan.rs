//! What is to be done with a photo, decided from its header alone. Pure.

use super::{Defect, Facts, Fit, Kind, Landscape, Limits, Rules, Structure};

/// A sheet for a photo that is not higher than it is wide: 3:4, as the recommended 640 x 480.
const SHEET: (u32, u32) = (3, 4);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    /// It goes byte for byte.
    Passthrough,
    /// It is decoded, turned upright, scaled and encoded anew.
    Fit(Geometry),
}

/// How a photo is fitted, upright.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Geometry {
    /// What is taken of the original: left, top, width, height.
    pub part: (u32, u32, u32, u32),
    /// What it becomes.
    pub drawn: (u32, u32),
    /// The sheet that it is drawn upon; larger than it where it is padded.
    pub sheet: (u32, u32),
}

/// See the module. `size` is the file's, in bytes.
pub(super) fn plan(kind: Kind, facts: &Facts, size: u64, rules: &Rules) -> Result<Plan, Defect> {
    let limits = &rules.limits;
    match (rules.fit, unmet_rule(kind, facts, size, rules)) {
        (Fit::Never, Some(defect)) => Err(defect),
        (Fit::Never, None) => Ok(Plan::Passthrough),
        // The service may be less lenient than our decoder.
        (Fit::Auto, None) if facts.structure != Structure::Irregular => Ok(Plan::Passthrough),
        (Fit::Auto | Fit::Always, Some(_) | None) => {
            let &Facts { width, height, .. } = facts;
            if u64::from(width) * u64::from(height) > limits.original_pixels {
                return Err(Defect::TooManyPixels { width, height, limit: limits.original_pixels });
            }
            geometry((width, height), rules.landscape, limits).map(Plan::Fit)
        }
    }
}

/// What keeps it from going byte for byte: the most_severe first.
fn unmet_rule(kind: Kind, facts: &Facts, size: u64, rules: &Rules) -> Option<Defect> {
    let &Facts { width, height, orientation, .. } = facts;
    let limits = &rules.limits;
    let streams = rules.has_stream && rules.fit == Fit::Never;
    let (max_width, max_height) = (limits.width, limits.height);
    if kind != Kind::Jpeg {
        Some(Defect::NotJpeg { kind })
    } else if height <= width {
        Some(Defect::NotPortrait { width, height })
    } else if width > max_width || height > max_height {
        Some(Defect::TooLargeShape { width, height, max_width, max_height })
    } else if orientation != 1 {
        Some(Defect::NeedsRotation { orientation })
    } else if size > limits.bytes {
        Some(Defect::TooLarge { size, limit: limits.bytes })
    } else if size > limits.inline_bytes && !streams {
        Some(Defect::TooLargeInline { size, limit: limits.inline_bytes })
    } else {
        None
    }
}

/// The scale is min(1, 720 / shorter side, 1080 / width, 1920 / height): never upscaled, and right also for photos that
/// are higher than 8:3.
fn geometry((width, height): (u32, u32), landscape: Landscape, limits: &Limits) -> Result<Geometry, Defect> {
    let (across, down) = SHEET;
    let whole = (0, 0, width, height);
    let is_portrait = height > width;
    let (part, sheet) = match landscape {
        _ if is_portrait => (whole, (width, height)),
        Landscape::Reject => return Err(Defect::NotPortrait { width, height }),
        Landscape::Crop => {
            let taken = (height * across / down).max(1);
            (((width - taken) / 2, 0, taken, height), (taken, height))
        }
        Landscape::Pad => (whole, (width, (width * down).div_ceil(across))),
    };
    let scale = [1.0, ratio(limits.shorter_side, sheet.0), ratio(limits.width, sheet.0), ratio(limits.height, sheet.1)];
    let scale = scale.into_iter().fold(1.0, f64::min);
    let scaled = |pixels: u32| ((f64::from(pixels) * scale).round() as u32).max(1);
    let drawn = (scaled(part.2), scaled(part.3));
    let sheet = (scaled(sheet.0), scaled(sheet.1));
    // Rounding makes a square of 4000 x 4001.
    let height = sheet.1.max(sheet.0 + 1);
    let drawn = if is_portrait { (drawn.0, height) } else { drawn };
    Ok(Geometry { part, drawn, sheet: (sheet.0, height) })
}

fn ratio(limit: u32, pixels: u32) -> f64 {
    f64::from(limit) / f64::from(pixels.max(1))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn facts(width: u32, height: u32, orientation: u8) -> Facts {
        Facts { width, height, orientation, ..Facts::default() }
    }

    fn of(fit: Fit, facts: &Facts, size: u64) -> Result<Plan, String> {
        let rules = Rules { fit, ..Rules::default() };
        plan(Kind::Jpeg, facts, size, &rules).map_err(|defect| defect.code().0)
    }

    #[test]
    fn photo_that_meets_the_rules_goes_byte_for_byte() {
        for (width, height, size) in [(480, 640, 80_000), (1_080, 1_920, 1_000_000), (90, 120, 2_000)] {
            let facts = facts(width, height, 1);
            assert_eq!(of(Fit::Auto, &facts, size), Ok(Plan::Passthrough));
            assert_eq!(of(Fit::Never, &facts, size), Ok(Plan::Passthrough));
            assert!(matches!(of(Fit::Always, &facts, size), Ok(Plan::Fit(_))));
        }
    }

    #[test]
    fn photo_is_fitted_or_rejected_with_reason() {
        for (facts, size, code, drawn) in [
            (facts(3_024, 4_032, 1), 4_000_000, "TooLargeShape", (720, 960)),
            (facts(1_081, 1_920, 1), 80_000, "TooLargeShape", (720, 1_279)),
            (facts(1_080, 2_400, 1), 80_000, "TooLargeShape", (720, 1_600)),
            (facts(1_000, 4_000, 1), 80_000, "TooLargeShape", (480, 1_920)),
            (facts(480, 640, 6), 80_000, "NeedsRotation", (480, 640)),
            (facts(480, 640, 1), 1_000_001, "TooLargeInline", (480, 640)),
            (facts(720, 960, 1), 10_000_001, "TooLarge", (720, 960)),
            (facts(4_000, 4_001, 1), 80_000, "TooLargeShape", (720, 721)),
        ] {
            assert_eq!(of(Fit::Never, &facts, size).unwrap_err(), code);
            let Ok(Plan::Fit(geometry)) = of(Fit::Auto, &facts, size) else { panic!("{facts:?} is not fitted") };
            assert_eq!((geometry.drawn, geometry.sheet), (drawn, drawn));
        }
    }

    #[test]
    fn landscape_and_square_are_refused_cropped_or_padded() {
        let facts = facts(4_000, 3_000, 1);
        let with = |landscape| plan(Kind::Jpeg, &facts, 80_000, &Rules { landscape, ..Rules::default() });
        assert_eq!(with(Landscape::Reject).unwrap_err().code().0, "NotPortrait");
        let crop = Geometry { part: (875, 0, 2_250, 3_000), drawn: (720, 960), sheet: (720, 960) };
        assert_eq!(with(Landscape::Crop), Ok(Plan::Fit(crop)));
        let pad = Geometry { part: (0, 0, 4_000, 3_000), drawn: (720, 540), sheet: (720, 960) };
        assert_eq!(with(Landscape::Pad), Ok(Plan::Fit(pad)));
    }

    #[test]
    fn large_unfitted_photo_goes_as_file_stream() {
        let rules = |fit| Rules { fit, has_stream: true, ..Rules::default() };
        let facts = facts(720, 960, 1);
        assert_eq!(plan(Kind::Jpeg, &facts, 9_000_000, &rules(Fit::Never)), Ok(Plan::Passthrough));
        assert!(matches!(plan(Kind::Jpeg, &facts, 9_000_000, &rules(Fit::Auto)), Ok(Plan::Fit(_))));
        assert_eq!(plan(Kind::Jpeg, &facts, 10_000_001, &rules(Fit::Never)).unwrap_err().code().0, "TooLarge");
    }

    #[test]
    fn bomb_is_refused_from_its_header() {
        assert_eq!(of(Fit::Auto, &facts(65_535, 65_535, 1), 1_000).unwrap_err(), "TooManyPixels");
        assert_eq!(of(Fit::Auto, &facts(10_000, 13_000, 1), 1_000).unwrap_err(), "TooManyPixels");
    }

    proptest! {
        #[test]
        fn fitted_photo_meets_the_rules_and_is_never_larger(
            width in 1_u32..12_000, height in 1_u32..12_000, pads in any::<bool>(),
        ) {
            let landscape = if pads { Landscape::Pad } else { Landscape::Crop };
            let rules = Rules { fit: Fit::Always, landscape, ..Rules::default() };
            if let Ok(Plan::Fit(Geometry { part, drawn, sheet })) =
                plan(Kind::Jpeg, &facts(width, height, 1), 1, &rules)
            {
                prop_assert!(sheet.1 > sheet.0 && sheet.0 <= 1_080 && sheet.1 <= 1_920 && sheet.0 <= 720);
                prop_assert!(drawn.0 <= sheet.0 && drawn.1 <= sheet.1 && drawn.0 > 0 && drawn.1 > 0);
                prop_assert!(part.0 + part.2 <= width && part.1 + part.3 <= height && part.2 > 0);
                prop_assert!(drawn.0 <= part.2 && drawn.1 <= part.3 + 1, "upscaled");
            }
        }
    }
}
