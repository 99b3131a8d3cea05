//! The sequence parameter set of an HEVC stream (ITU-T H.265, 7.3.2.2), which the decoder reads but does not show: the size
//! it allocates for, and the colours it does not apply.

/// Transfer characteristics (ITU-T H.273, table 3) of PQ and HLG. Such a picture would come out flat and grey.
pub(super) const HDR_TRANSFERS: [u16; 2] = [16, 18];

/// What a sequence parameter set says of its pictures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ParameterSet {
    /// Width and height as coded, before they are cropped.
    pub(super) size: (u32, u32),
    /// Chroma format: 0 is grey, 1 is 4:2:0.
    pub(super) chroma: u32,
    /// Bits of luma and of chroma beyond 8.
    pub(super) depths: (u32, u32),
    /// Whether samples use all values of their depth.
    pub(super) is_full_range: bool,
    /// Code of the matrix (ITU-T H.273, table 4), 2 if unspecified.
    pub(super) matrix: u16,
}

impl ParameterSet {
    /// Reads a NAL unit up to its colours. What lies beyond is for the decoder to check. `None` if it is cut or in HDR.
    pub(super) fn read(unit: &[u8]) -> Option<Self> {
        // A 3 after two zeros only keeps start codes out of the data.
        let mut zeros = 0;
        let plain = unit.iter().copied().filter(move |&byte| {
            let is_data = zeros < 2 || byte != 3;
            zeros = if byte == 0 { zeros + 1 } else { 0 };
            is_data
        });
        // Behind the unit's header.
        let mut bits = Bits(plain.skip(2).flat_map(|byte| (0..8).rev().map(move |bit| byte >> bit & 1)));
        bits.skip(4)?;
        let layers = bits.take(3)?;
        bits.skip(1)?;
        bits.skip_levels(layers)?;
        let (_id, chroma) = (bits.number()?, bits.number()?);
        if chroma == 3 {
            bits.skip(1)?;
        }
        let size = (bits.number()?, bits.number()?);
        if bits.flag()? {
            bits.skip_numbers(4)?; // cropping
        }
        let depths = (bits.number()?, bits.number()?);
        let order_bits = bits.number()?.checked_add(4).filter(|bits| *bits <= 16)?;
        let orders = if bits.flag()? { layers + 1 } else { 1 };
        bits.skip_numbers(3 * orders)?;
        bits.skip_numbers(6)?; // sizes of blocks
        if bits.flag()? && bits.flag()? {
            bits.skip_scaling_lists()?;
        }
        bits.skip(2)?;
        if bits.flag()? {
            bits.skip(8)?;
            bits.skip_numbers(2)?;
            bits.skip(1)?;
        }
        bits.skip_short_term_pictures()?;
        if bits.flag()? {
            let long_term_pictures = bits.number().filter(|count| *count <= 32)?;
            bits.skip(long_term_pictures * (order_bits + 1))?;
        }
        bits.skip(2)?;
        let (is_full_range, matrix) = bits.colours()?;
        Some(Self { size, chroma, depths, is_full_range, matrix })
    }
}

/// Bits, the most significant first.
struct Bits<I>(I);

impl<I: Iterator<Item = u8>> Bits<I> {
    fn flag(&mut self) -> Option<bool> {
        Some(self.0.next()? == 1)
    }

    fn take(&mut self, count: u32) -> Option<u32> {
        (0..count).try_fold(0, |value, _| Some(value << 1 | u32::from(self.0.next()?)))
    }

    fn skip(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.0.next().map(drop))
    }

    /// An unsigned number: as many zeros as digits follow its first 1.
    fn number(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
        }
        let digits = (zeros < 32).then(|| self.take(zeros))??;
        Some((1 << zeros) - 1 + digits)
    }

    /// Skips numbers; those with a sign have the same length.
    fn skip_numbers(&mut self, count: u32) -> Option<()> {
        (0..count).try_for_each(|_| self.number().map(drop))
    }

    /// Skips profile and level (7.3.3), of the stream and of its lower layers.
    fn skip_levels(&mut self, layers: u32) -> Option<()> {
        self.skip(88 + 8)?;
        let present = (0..layers).map(|_| Some((self.flag()?, self.flag()?))).collect::<Option<Vec<_>>>()?;
        if layers > 0 {
            self.skip(2 * 8_u32.checked_sub(layers)?)?;
        }
        present.into_iter().try_for_each(|(has_profile, has_level)| {
            self.skip(if has_profile { 88 } else { 0 } + if has_level { 8 } else { 0 })
        })
    }

    /// 7.3.4.
    fn skip_scaling_lists(&mut self) -> Option<()> {
        for size in 0..4 {
            for _ in 0..if size == 3 { 2 } else { 6 } {
                let is_coded = self.flag()?;
                let has_first = size > 1;
                let coefficients = 64.min(1 << (4 + 2 * size));
                self.skip_numbers(if is_coded { coefficients + u32::from(has_first) } else { 1 })?;
            }
        }
        Some(())
    }

    /// 7.3.7. A set may be coded as the difference to the one before it.
    fn skip_short_term_pictures(&mut self) -> Option<()> {
        let sets = self.number().filter(|sets| *sets <= 64)?;
        let mut pictures = 0;
        for set in 0..sets {
            if set > 0 && self.flag()? {
                self.skip(1)?;
                self.skip_numbers(1)?;
                // A picture is used, or at least kept.
                let mut kept = 0;
                for _ in 0..=pictures {
                    kept += u32::from(self.flag()? || self.flag()?);
                }
                pictures = kept;
            } else {
                pictures = self.number()?.checked_add(self.number()?).filter(|pictures| *pictures <= 16)?;
                for _ in 0..pictures {
                    self.skip_numbers(1)?;
                    self.skip(1)?;
                }
            }
        }
        Some(())
    }

    /// Range and matrix (E.2.1), or what they are where nothing is said.
    fn colours(&mut self) -> Option<(bool, u16)> {
        const UNSPECIFIED: (bool, u16) = (false, 2);
        if !self.flag()? {
            return Some(UNSPECIFIED);
        }
        if self.flag()? && self.take(8)? == 255 {
            self.skip(32)?; // shape of a pixel
        }
        if self.flag()? {
            self.skip(1)?;
        }
        if !self.flag()? {
            return Some(UNSPECIFIED);
        }
        self.skip(3)?;
        let is_full_range = self.flag()?;
        // Primaries, transfer and matrix, of 8 bits each.
        let codes = if self.flag()? { self.take(24)? } else { u32::from(UNSPECIFIED.1) };
        let (transfer, matrix) = ((codes >> 8 & 0xFF) as u16, (codes & 0xFF) as u16);
        if HDR_TRANSFERS.contains(&transfer) {
            return None;
        }
        Some((is_full_range, matrix))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Bits of a parameter set, written as in the standard.
    #[derive(Default)]
    struct Writer(Vec<bool>);

    impl Writer {
        fn bits(&mut self, value: u64, count: u32) -> &mut Self {
            self.0.extend((0..count).rev().map(|bit| value.checked_shr(bit).is_some_and(|rest| rest & 1 == 1)));
            self
        }

        fn numbers(&mut self, values: &[u64]) -> &mut Self {
            for value in values {
                let digits = (value + 1).ilog2();
                self.bits(0, digits).bits(value + 1, digits + 1);
            }
            self
        }

        /// The unit, with what keeps start codes out.
        fn unit(&self) -> Vec<u8> {
            let mut unit = vec![0x42, 1];
            for byte in self.0.chunks(8) {
                let byte = byte.iter().enumerate().fold(0, |value, (at, bit)| value | u8::from(*bit) << (7 - at));
                if byte <= 3 && unit.ends_with(&[0, 0]) {
                    unit.push(3);
                }
                unit.push(byte);
            }
            unit.push(0x80);
            unit
        }
    }

    /// A set of 512x512 pixels in 4:2:0, with everything optional in it or nothing of it, up to the colours.
    fn set(is_full: bool) -> Writer {
        let mut set = Writer::default();
        let (flag, layers) = (u64::from(is_full), if is_full { 2 } else { 0 });
        set.bits(0, 4).bits(layers, 3).bits(1, 1).bits(0, 96);
        if is_full {
            // The first layer has a profile and a level, the second a level.
            set.bits(0b1101, 4).bits(0, 12).bits(0, 88 + 8).bits(0, 8);
        }
        set.numbers(&[0, 1, 512, 512]).bits(flag, 1);
        if is_full {
            set.numbers(&[0, 1, 2, 3]);
        }
        set.numbers(&[0, 0, 4]).bits(flag, 1);
        set.numbers(&[3; 9][..if is_full { 9 } else { 3 }]).numbers(&[0, 3, 0, 3, 1, 1]).bits(flag, 1);
        if is_full {
            set.bits(1, 1);
            for size in 0..4 {
                for matrix in 0..if size == 3 { 2 } else { 6 } {
                    // One is a copy, the others are written out.
                    set.bits(u64::from(matrix != 1), 1);
                    let numbers = if matrix == 1 { 1 } else { [16, 64, 65, 65][size] };
                    set.numbers(&vec![1; numbers]);
                }
            }
        }
        set.bits(0, 2).bits(flag, 1);
        if is_full {
            set.bits(0x77, 8).numbers(&[0, 2]).bits(1, 1);
            // Two pictures; as before with one dropped; as before.
            set.numbers(&[3, 1, 1, 0]).bits(1, 1).numbers(&[0]).bits(1, 1);
            set.bits(0b10, 2).numbers(&[0]).bits(0b1_00_01, 5);
            set.bits(0b10, 2).numbers(&[0]).bits(0b1_1_1, 3);
            set.bits(1, 1).numbers(&[2]).bits(0, 2 * 9);
        } else {
            set.numbers(&[0]).bits(0, 1);
        }
        set.bits(0, 2);
        set
    }

    #[test]
    fn colours_are_read_behind_whatever_is_optional() {
        let unspecified = ParameterSet { size: (512, 512), chroma: 1, depths: (0, 0), is_full_range: false, matrix: 2 };
        for is_full in [false, true] {
            // No colours at all; a shape of pixels alone; the range alone; range and matrix.
            let read = |bits: &[(u64, u32)]| {
                let mut set = set(is_full);
                for (value, count) in bits {
                    set.bits(*value, *count);
                }
                let unit = set.bits(0, 8).unit();
                // The decoder's reader is a second opinion on all but the colours.
                let second = heic_rs::hevc::probe(&[&unit]).unwrap();
                assert_eq!((second.width, second.height), if is_full { (510, 502) } else { (512, 512) });
                ParameterSet::read(&unit).unwrap()
            };
            assert_eq!(read(&[(0, 1)]), unspecified);
            assert_eq!(read(&[(1, 1), (1, 1), (255, 8), (0, 32), (0, 2)]), unspecified);
            let ranged = ParameterSet { is_full_range: true, ..unspecified };
            assert_eq!(read(&[(0b1011, 4), (1, 1), (5, 3), (1, 1), (0, 1)]), ranged);
            let coloured = ParameterSet { matrix: 6, ..ranged };
            assert_eq!(read(&[(0b1001, 4), (5, 3), (1, 1), (1, 1), (0x0C_0D_06, 24)]), coloured);
        }
    }

    #[test]
    fn high_dynamic_range_is_refused() {
        let read = |transfer: u64| {
            let codes = 9 << 16 | transfer << 8 | 9;
            let unit = set(false).bits(0b1001, 4).bits(5, 3).bits(1, 1).bits(1, 1).bits(codes, 24).bits(0, 8).unit();
            ParameterSet::read(&unit).is_some()
        };
        assert_eq!([1, 13, 16, 18].map(read), [true, true, false, false]);
    }

    #[test]
    fn cut_set_is_refused() {
        let unit = set(true).bits(0, 1).unit();
        assert!(ParameterSet::read(&unit).is_some());
        for length in 0..unit.len() - 2 {
            assert_eq!(ParameterSet::read(&unit[..length]), None, "{length}");
        }
    }

    proptest! {
        #[test]
        fn any_set_is_read_or_refused(
            at in any::<prop::sample::Index>(),
            bytes in prop::collection::vec(any::<u8>(), 1..40),
        ) {
            ParameterSet::read(&bytes);
            let mut unit = set(true).bits(0, 1).unit();
            let at = at.index(unit.len());
            let end = unit.len().min(at + bytes.len());
            unit.splice(at..end, bytes);
            ParameterSet::read(&unit);
        }
    }
}
