//! No bytes make the probe or the fitting panic, or take memory that the header did not announce; and what is fitted
//! meets the rules.
#![no_main]

use face_enroll::picture::{Fit, Landscape, Original, Plan, QualityPolicy, Rules, probe};
use libfuzzer_sys::fuzz_target;

/// Pictures beyond this are not decoded here: the fuzzer would only find that they take time.
const MOST: u64 = 4_000_000;

fuzz_target!(|bytes: &[u8]| {
    let _ = probe(bytes);
    let rules = Rules { fit: Fit::Always, landscape: Landscape::Pad, quality: QualityPolicy::Warn, ..Rules::default() };
    let Ok(original) = Original::from_bytes(bytes.to_vec(), &rules) else { return };
    let Ok(plan) = original.plan(&rules) else { return };
    if original.cost(&plan, &rules) > MOST {
        return;
    }
    let Plan::Fit(geometry) = plan else { unreachable!("everything is fitted") };
    if let Ok(picture) = original.render(&plan, &rules) {
        let facts = probe(&picture.bytes).expect("what is fitted is a JPEG");
        assert_eq!((facts.width, facts.height), geometry.canvas);
        assert!(facts.height > facts.width && facts.height <= 1_920 && facts.orientation == 1);
        assert!(picture.bytes.len() <= 1_000_000);
    }
});
