//! A local server of the API, for rehearsal and tests. It rejects what the service rejects.
//!
//! It serves `cloudauth-intl` 2022-08-09, the two parts of a file upload (AuthorizeFileUpload of the open platform, and the
//! object store), and buckets of photos over HTTP/1.1 on a loopback address, as strictly as the documents allow. It verifies signatures from
//! the bytes received, remembers nonces, enforces a quota, and fails on demand in the ways in which networks and services
//! fail ([`Script`]). The records that it created ([`Record`]) and the calls that it received ([`CallRecord`]) are all that
//! a test needs to judge the client.
//!
//! It never imports `api`, because a signer or a body type shared with the client would hide a shared mistake. It never
//! fetches a photo from the network, never listens beyond loopback, and never judges faces.
//!
//! A request passes these steps in order; each step sees only what the previous one accepted:
//!
//! ```text
//! connection   read head and body, stamp the time       from here on the call completes even if the client disconnects
//! gateway      key, token, date, signature, nonce, API
//! limiter      quota of the action, then faults         rejected calls do not count against the quota
//! actions      parse parameters, decode the photo
//! latency      then `late`, then the record store       on disk before the response
//! connection   the response, or what a fault makes of it
//! ```
//!
//! A second AddFaceRecord for the same id creates a second record, so that duplicates are visible.

mod actions;
mod buckets;
mod clock;
mod connection;
mod error;
pub mod faults;
mod form;
mod gateway;
mod handler;
mod journal;
mod limiter;
mod multipart;
mod nonces;
mod object_store;
mod quota;
mod records;
mod response;
mod serde_text;
mod server;
mod service;
mod settings;
mod signature;
mod socket;

pub use actions::Action;
pub use error::SandboxError;
pub use faults::{Condition, Fault, Rule, Script, ScriptError};
pub use journal::{CallEnd, CallRecord};
pub use records::Record;
pub use server::Sandbox;
pub use settings::{Credentials, Groups, Settings, Window};
