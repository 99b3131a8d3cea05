//! File type by the first bytes.

use std::fmt;

/// File type of what is given as a photo.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// JPEG
    Jpeg,
    /// PNG
    Png,
    /// GIF
    Gif,
    /// WebP
    WebP,
    /// HEIC, the default of iPhones
    Heic,
    /// AVIF
    Avif,
    /// BMP
    Bmp,
    /// TIFF, and camera formats based on it
    Tiff,
    /// JPEG XL
    JpegXl,
    /// PDF
    Pdf,
    /// A web page
    Html,
    /// A ZIP archive
    Zip,
    /// Any other content
    Unknown,
}

impl Kind {
    /// Detects the type by the first bytes.
    pub fn detect(bytes: &[u8]) -> Self {
        let brand = (bytes.get(4..8) == Some(b"ftyp")).then(|| bytes.get(8..12)).flatten();
        match (bytes, brand) {
            ([0xFF, 0xD8, 0xFF, ..], _) => Self::Jpeg,
            ([0x89, b'P', b'N', b'G', ..], _) => Self::Png,
            ([b'G', b'I', b'F', b'8', ..], _) => Self::Gif,
            ([b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..], _) => Self::WebP,
            (_, Some(b"avif" | b"avis")) => Self::Avif,
            (_, Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1" | b"heif")) => {
                Self::Heic
            }
            ([0xFF, 0x0A, ..] | [0, 0, 0, 0x0C, b'J', b'X', b'L', ..], _) => Self::JpegXl,
            // 43 is BigTIFF, made for files above 4 GiB but used for smaller ones too.
            ([b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..], _) => Self::Tiff,
            ([b'%', b'P', b'D', b'F', ..], _) => Self::Pdf,
            ([b'P', b'K', 3, 4, ..], _) => Self::Zip,
            ([b'B', b'M', ..], _) => Self::Bmp,
            _ if is_html(bytes) => Self::Html,
            _ => Self::Unknown,
        }
    }
}

fn is_html(bytes: &[u8]) -> bool {
    let head = bytes[..bytes.len().min(64)].trim_ascii_start().to_ascii_lowercase();
    head.starts_with(b"<!doctype html") || head.starts_with(b"<html")
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Jpeg => "a JPEG",
            Self::Png => "a PNG",
            Self::Gif => "a GIF",
            Self::WebP => "a WebP",
            Self::Heic => "a HEIC",
            Self::Avif => "an AVIF",
            Self::Bmp => "a BMP",
            Self::Tiff => "a TIFF",
            Self::JpegXl => "a JPEG XL",
            Self::Pdf => "a PDF",
            Self::Html => "a web page",
            Self::Zip => "a ZIP archive",
            Self::Unknown => "not a picture of a known format",
        })
    }
}
