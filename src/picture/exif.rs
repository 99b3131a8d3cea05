//! The orientation in an EXIF segment. Everything else in it is left alone.

/// TIFF tag of the orientation (EXIF 2.32, 4.6.4).
const ORIENTATION: u16 = 0x0112;
/// Type SHORT.
const SHORT: u16 = 3;
/// An IFD entry: tag, type, count, value.
const ENTRY: usize = 12;

/// The orientation that an APP1 segment's content gives, from 1 to 8.
pub(super) fn orientation(segment: &[u8]) -> Option<u8> {
    let tiff = segment.strip_prefix(b"Exif\0\0")?;
    let read: fn([u8; 2]) -> u16 = match tiff.first_chunk::<4>()? {
        b"II\x2a\0" => u16::from_le_bytes,
        b"MM\0\x2a" => u16::from_be_bytes,
        _ => return None,
    };
    let is_little = tiff[0] == b'I';
    let short = |at: usize| Some(read(*tiff.get(at..)?.first_chunk::<2>()?));
    let offset = *tiff.get(4..)?.first_chunk::<4>()?;
    let offset = if is_little { u32::from_le_bytes(offset) } else { u32::from_be_bytes(offset) };
    let ifd = usize::try_from(offset).ok()?;
    let entries = usize::from(short(ifd)?);
    let found = (0..entries).map_while(|n| {
        let at = ifd.checked_add(2 + n * ENTRY)?;
        Some((short(at)?, short(at.checked_add(2)?)?, short(at.checked_add(8)?)?))
    });
    let value = found.into_iter().find(|(tag, kind, _)| *tag == ORIENTATION && *kind == SHORT)?.2;
    u8::try_from(value).ok().filter(|value| (1..=8).contains(value))
}

/// An APP1 segment's content that says nothing but this.
#[cfg(test)]
pub(super) fn segment(orientation: u16, is_little: bool) -> Vec<u8> {
    let two = |n: u16| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
    let four = |n: u32| if is_little { n.to_le_bytes() } else { n.to_be_bytes() };
    let mut bytes = b"Exif\0\0".to_vec();
    bytes.extend_from_slice(if is_little { b"II\x2a\0" } else { b"MM\0\x2a" });
    bytes.extend_from_slice(&four(8));
    bytes.extend_from_slice(&two(1));
    bytes.extend_from_slice(&[two(ORIENTATION), two(SHORT)].concat());
    bytes.extend_from_slice(&four(1));
    bytes.extend_from_slice(&[two(orientation), [0, 0]].concat());
    bytes.extend_from_slice(&four(0));
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn eight_orientations_are_read_in_both_byte_orders() {
        for is_little in [true, false] {
            for value in 1..=8 {
                assert_eq!(orientation(&segment(value, is_little)), u8::try_from(value).ok());
            }
            assert_eq!(orientation(&segment(0, is_little)), None);
            assert_eq!(orientation(&segment(9, is_little)), None);
        }
    }

    proptest! {
        #[test]
        fn damaged_segment_is_no_panic(at in 0_usize..40, byte in any::<u8>(), cut in 0_usize..40) {
            let mut bytes = segment(6, true);
            let at = at % bytes.len();
            bytes[at] = byte;
            bytes.truncate(cut);
            orientation(&bytes);
        }
    }
}
