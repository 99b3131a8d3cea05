//! Bytes become what the API accepts, or a refusal with its reason.
//!
//! By content, header only: no pixel is decoded, so a picture that claims 65535 x 65535 costs nothing. What the service
//! must refuse is refused here, without a call. The rules are those of the AddFaceRecord page, "Image upload
//! requirements".

mod defect;
mod exif;
mod jpeg;
mod kind;
mod load;

pub use defect::{Defect, Limits};
pub use jpeg::{Facts, probe};
pub use kind::Kind;
pub use load::{LoadError, Picture, load, stamp};
