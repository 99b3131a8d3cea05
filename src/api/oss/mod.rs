//! Object storage: signs one request to a bucket, sends it once and classifies the answer. `storage` retries.

mod client;
mod endpoint;
mod error;
mod listing;
mod sign;

pub use client::{ListRequest, ObjectBody, ObjectClient};
pub use endpoint::ObjectStore;
pub use error::ObjectError;
pub use listing::{ListedObject, ObjectPage};
pub use sign::{ObjectRequest, SigningScope, encode_key, encode_query, presigned_query, signed_headers};
