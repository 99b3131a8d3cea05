//! Memory for decoding: a photo allocates no more than the budget reserves for it.

use std::io::Cursor;

use face_enroll::picture::{Original, Rules};
use image::{DynamicImage, ImageFormat};
use stats_alloc::Region;

use crate::{ALLOCATOR, ONE_AT_A_TIME};

const WIDTH: u32 = 1_500;
const HEIGHT: u32 = 2_000;

type NewImage = fn(u32, u32) -> DynamicImage;

#[test]
fn decoding_allocates_no_more_than_is_budgeted() {
    let _alone = ONE_AT_A_TIME.blocking_lock();
    let pictures: [(&str, NewImage); 8] = [
        ("grey", DynamicImage::new_luma8),
        ("grey with alpha", DynamicImage::new_luma_a8),
        ("RGB", DynamicImage::new_rgb8),
        ("RGBA", DynamicImage::new_rgba8),
        ("16-bit grey", DynamicImage::new_luma16),
        ("16-bit grey with alpha", DynamicImage::new_luma_a16),
        ("16-bit RGB", DynamicImage::new_rgb16),
        ("16-bit RGBA", DynamicImage::new_rgba16),
    ];
    let rules = Rules::default();
    for (name, picture) in pictures {
        for format in [ImageFormat::Png, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Tiff] {
            let mut file = Cursor::new(Vec::new());
            if picture(WIDTH, HEIGHT).write_to(&mut file, format).is_err() {
                continue; // The format has no such pixels.
            }
            let original = Original::from_bytes(file.into_inner(), &rules).unwrap();
            let plan = original.plan(&rules).unwrap();
            let budgeted = original.cost(&plan, &rules);
            let region = Region::new(ALLOCATOR);
            original.render(&plan, &rules).unwrap();
            let allocated = region.change().bytes_allocated as u64;
            println!("{name} {format:?}: {} of {} MB", allocated / 1_000_000, budgeted / 1_000_000);
            assert!(allocated <= budgeted, "{name} {format:?}: {allocated} bytes, {budgeted} budgeted");
        }
    }
}
