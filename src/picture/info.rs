//! What a picture's header says.

/// How far a JPEG's markers vouch for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Structure {
    /// As the standard has it, from the first byte to the last.
    #[default]
    Standard,
    /// Something follows its end marker, which might be all that is left of a picture that was cut off: it is decoded
    /// before it goes byte for byte.
    Trailer,
    /// What only a lenient decoder takes: bytes between its segments, or no end marker. It is encoded anew, where that is
    /// allowed, and decoded in any case.
    Irregular,
}

/// See the module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Pixels across, upright: after the EXIF orientation.
    pub width: u32,
    /// Pixels down, upright.
    pub height: u32,
    /// EXIF orientation; 1 where there is none.
    pub orientation: u8,
    /// Saved in several scans.
    pub is_progressive: bool,
    /// Colour components: 1 grey, 3 colour, 4 print.
    pub components: u8,
    /// Bytes that its decoder holds at once, whatever the scale.
    pub decoded_bytes: u64,
    /// Whether its markers can be trusted.
    pub structure: Structure,
}

impl Default for Facts {
    fn default() -> Self {
        Self {
            width: 0,
            height: 0,
            orientation: 1,
            is_progressive: false,
            components: 3,
            decoded_bytes: 0,
            structure: Structure::Standard,
        }
    }
}

impl Facts {
    /// About how many bytes it takes to decode it to at least this size: the decoder's own; planes and pixels of the
    /// power of two above; their copy, scaled.
    pub(super) fn decoding_cost(&self, (width, height): (u32, u32)) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let scaled = (4 * u64::from(width) * u64::from(height)).min(pixels);
        self.decoded_bytes + 9 * scaled
    }
}
