//! Facts from a picture's header.

/// How well-formed a JPEG's markers are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Structure {
    /// Conforms to the standard from the first byte to the last.
    #[default]
    Standard,
    /// Data follows an end marker. The picture may have been cut off and other data appended, so the photo is decoded
    /// before it is sent unchanged.
    Trailer,
    /// Only lenient decoders accept it: stray bytes between segments, or no end marker. The photo is re-encoded if
    /// allowed, and decoded in any case.
    Irregular,
}

/// Header of a picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageInfo {
    /// Width in pixels after the EXIF orientation is applied.
    pub width: u32,
    /// Height in pixels after the EXIF orientation is applied.
    pub height: u32,
    /// EXIF orientation, 1 to 8; 1 if there is none.
    pub orientation: u8,
    /// Whether a JPEG is progressive.
    pub is_progressive: bool,
    /// Colour components: 1 for grey, 3 for colour, 4 for CMYK.
    pub components: u8,
    /// Bytes that the decoder holds at any scale.
    pub decoded_bytes: u64,
    /// How well-formed the markers are.
    pub structure: Structure,
}

impl Default for ImageInfo {
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

impl ImageInfo {
    /// Estimated memory in bytes for decoding to at least this size: the decoder's buffers, planes and pixels at the
    /// next larger power-of-two scale, and the scaled copy.
    pub(super) fn decoding_cost(&self, (width, height): (u32, u32)) -> u64 {
        let pixels = u64::from(self.width) * u64::from(self.height);
        let scaled = (4 * u64::from(width) * u64::from(height)).min(pixels);
        self.decoded_bytes + 9 * scaled
    }
}
