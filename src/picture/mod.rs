//! Validates, decodes and re-encodes photos, by the rules of the AddFaceRecord page ("Image upload requirements").
//!
//! A file is identified by its content, and its header is checked before any pixel is decoded, so a picture that claims
//! 65535 x 65535 pixels costs nothing. A compliant photo is sent unchanged and is not decoded; other photos are fitted
//! if the rules allow it. This module never sends anything.
//!
//! # Why these crates
//!
//! Fitting dominates the cost of a run over camera photos, so speed matters; the photos are untrusted, so memory safety
//! matters more. `jpeg-decoder` is safe Rust and decodes at 1/2, 1/4 or 1/8 scale (the inverse transform of a block
//! yields fewer pixels), which makes it faster on large photos than decoders that are faster per pixel
//! (`benches/fit.rs`). It is in maintenance mode; the fallback is `zune-jpeg`, which has no scaling and costs a third
//! more. libjpeg-turbo is C and needs cmake and nasm to build, which a fresh machine does not have. `fast_image_resize`
//! and `jpeg-encoder` only see pixels that we decoded, so their SIMD is safe to use. `image` reads PNG, WebP, BMP and
//! TIFF.

mod decode;
mod defect;
mod exif;
mod face;
mod fit;
mod heic;
mod info;
mod jpeg;
mod kind;
mod load;
mod orientation;
mod plan;
mod quality;
mod resize;
mod rules;

pub use defect::Defect;
pub use face::{FaceBox, FaceProblem, Turn, face_detector_works};
pub use info::{ImageInfo, Structure};
pub use jpeg::probe;
pub use kind::Kind;
pub use load::{LoadError, Original, Picture, digest, load, read};
pub use plan::{Geometry, Plan};
pub use quality::Warning;
pub use rules::{FacePolicy, Fit, Landscape, QualityPolicy, Rules, SizeLimits};
