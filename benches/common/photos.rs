//! Photo sets: distinct real portraits of a given size, as incompressible as photos.

use std::{fs, path::Path};

/// Portrait that is padded.
pub const PORTRAIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples/photos/collins-01.jpg");
/// Bytes per comment segment; a segment holds less than 64 KiB, its length field included.
const COMMENT_BYTES: usize = 65_000;

/// A portrait padded to exactly `bytes` bytes by comment segments of noise; `number` seeds the noise.
pub fn photo(portrait: &[u8], number: u64, bytes: usize) -> Vec<u8> {
    let mut random = fastrand::Rng::with_seed(number);
    let mut photo = Vec::with_capacity(bytes);
    photo.extend_from_slice(&portrait[..2]);
    let mut missing = bytes.saturating_sub(portrait.len());
    while missing > 4 {
        let comment = (missing - 4).min(COMMENT_BYTES);
        let length = u16::try_from(comment + 2).expect("a comment is below 64 KiB").to_be_bytes();
        photo.extend_from_slice(&[0xFF, 0xFE, length[0], length[1]]);
        photo.extend(std::iter::repeat_with(|| random.u8(..)).take(comment));
        missing -= comment + 4;
    }
    photo.extend_from_slice(&portrait[2..]);
    photo
}

/// Writes `000000.jpg`, `000001.jpg`, … to the folder.
pub fn write(folder: &Path, photos: usize, bytes: usize) {
    let portrait = fs::read(PORTRAIT).expect("the samples are in the repository");
    fs::create_dir_all(folder).expect("folder can be created");
    for n in 0..photos {
        fs::write(folder.join(name(n)), photo(&portrait, n as u64, bytes)).expect("folder is writable");
    }
}

/// File name of the n-th photo.
pub fn name(n: usize) -> String {
    format!("{n:06}.jpg")
}
