//! Applies the eight EXIF orientations (EXIF 2.32, 4.6.4 A, tag 274) to pixels.

use image::{
    RgbImage,
    imageops::{flip_horizontal, flip_vertical, rotate90, rotate180, rotate270},
};

use super::decode::Pixels;

/// Turns stored pixels upright.
pub(super) fn apply_orientation(stored: Pixels, orientation: u8) -> Pixels {
    if !(2..=8).contains(&orientation) {
        return stored;
    }
    let stored = RgbImage::from_raw(stored.width, stored.height, stored.rgb).expect("three bytes for each pixel");
    // Not `DynamicImage::apply_orientation`, which would link the code for all pixel types.
    let upright = match orientation {
        2 => flip_horizontal(&stored),
        3 => rotate180(&stored),
        4 => flip_vertical(&stored),
        5 => flip_horizontal(&rotate90(&stored)),
        6 => rotate90(&stored),
        7 => flip_horizontal(&rotate270(&stored)),
        _ => rotate270(&stored),
    };
    Pixels { width: upright.width(), height: upright.height(), rgb: upright.into_raw() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The letter `F`, as in the specification: it shows which stored corner is at the top left and which way the first
    /// row runs.
    #[test]
    fn every_orientation_turns_the_letter_upright() {
        let seen = ["###", "#..", "##.", "#..", "#.."];
        let dark = |rows: &[&str], x: usize, y: usize| rows[y].as_bytes()[x] == b'#';
        // The letter as a camera stores it with each orientation.
        let stored: [(u8, &[&str]); 8] = [
            (1, &["###", "#..", "##.", "#..", "#.."]),
            (2, &["###", "..#", ".##", "..#", "..#"]),
            (3, &["..#", "..#", ".##", "..#", "###"]),
            (4, &["#..", "#..", "##.", "#..", "###"]),
            (5, &["#####", "#.#..", "#...."]),
            (6, &["#....", "#.#..", "#####"]),
            (7, &["....#", "..#.#", "#####"]),
            (8, &["#####", "..#.#", "....#"]),
        ];
        for (orientation, rows) in stored {
            let (width, height) = (rows[0].len(), rows.len());
            let rgb = (0..height).flat_map(|y| (0..width).flat_map(move |x| [u8::from(dark(rows, x, y)); 3])).collect();
            let turned = apply_orientation(Pixels { width: width as u32, height: height as u32, rgb }, orientation);
            let shown: Vec<String> = turned
                .rgb
                .chunks(turned.width as usize * 3)
                .map(|row| row.chunks(3).map(|pixel| if pixel[0] == 1 { '#' } else { '.' }).collect())
                .collect();
            assert_eq!(shown, seen, "orientation {orientation}");
        }
    }
}
