//! Applies the eight EXIF orientations (EXIF 2.32, 4.6.4 A, tag 274) to pixels.

use super::decode::Pixels;

/// Turns stored pixels upright.
pub(super) fn apply_orientation(stored: Pixels, orientation: u8) -> Pixels {
    let (w, h) = (stored.width as usize, stored.height as usize);
    // Maps upright (x, y) to stored coordinates.
    let to_stored: fn(usize, usize, usize, usize) -> (usize, usize) = match orientation {
        2 => |x, y, w, _| (w - 1 - x, y),
        3 => |x, y, w, h| (w - 1 - x, h - 1 - y),
        4 => |x, y, _, h| (x, h - 1 - y),
        5 => |x, y, _, _| (y, x),
        6 => |x, y, _, h| (y, h - 1 - x),
        7 => |x, y, w, h| (w - 1 - y, h - 1 - x),
        8 => |x, y, w, _| (w - 1 - y, x),
        _ => return stored,
    };
    let (width, height) = if orientation >= 5 { (h, w) } else { (w, h) };
    let mut rgb = Vec::with_capacity(stored.rgb.len());
    for y in 0..height {
        for x in 0..width {
            let (sx, sy) = to_stored(x, y, w, h);
            let at = (sy * w + sx) * 3;
            rgb.extend_from_slice(&stored.rgb[at..at + 3]);
        }
    }
    Pixels { width: width as u32, height: height as u32, rgb }
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
