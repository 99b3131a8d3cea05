//! Bytes become what the API accepts, or a refusal with its reason. The rules are those of the AddFaceRecord page, "Image
//! upload requirements".
//!
//! By content, and from the header first: a picture that claims 65535 x 65535 costs nothing. A photo that meets the rules
//! goes byte for byte, and no pixel of it is decoded. One that can be made to meet them is, where that is wanted.
//!
//! # Why these crates
//!
//! Fitting is most of what a run costs where photos come from cameras, so speed counts; the photos come from anywhere, so
//! memory safety counts more. `jpeg-decoder` is safe Rust and decodes at a half, a quarter or an eighth (the transform of
//! a block gives fewer pixels), which makes it faster on large photos than decoders that are faster per pixel
//! (`benches/fit.rs`). It is in maintenance mode: should it be given up, `zune-jpeg` without scaling costs a third more.
//! libjpeg-turbo is C and needs cmake and nasm to build, which a fresh machine does not have. `fast_image_resize` and
//! `jpeg-encoder` see only pixels that are ours, so their SIMD is welcome. PNG, WebP, BMP and TIFF are read by `image`.

mod decode;
mod defect;
mod exif;
mod facts;
mod fit;
mod jpeg;
mod kind;
mod load;
mod plan;
mod quality;
mod rules;
mod upright;

pub use defect::Defect;
pub use facts::{Facts, Structure};
pub use jpeg::probe;
pub use kind::Kind;
pub use load::{LoadError, Original, Picture, digest, load, read, stamp};
pub use plan::{Geometry, Plan};
pub use quality::Warning;
pub use rules::{Fit, Landscape, Limits, QualityPolicy, Rules};
