//! A local server of the API, for rehearsal and tests: it must be able to say no.
//!
//! It plays `cloudauth-intl` 2022-08-09, and what an upload needs besides (AuthorizeFileUpload of the open platform, the
//! object store), over HTTP/1.1 on a loopback address, as strictly as the documents allow: it
//! checks the signature from the bytes that arrived, remembers nonces, keeps a quota, refuses what the service refuses,
//! and on demand fails in the ways in which networks and services fail ([`Script`]). What it made is in its ledger
//! ([`Record`]), what it saw in its journal ([`CallRecord`]); a test judges the client by these two alone.
//!
//! It never imports `api`: a signer or a body type shared with the client would hide a shared mistake. It never reads a
//! picture from the network, never listens beyond loopback, and makes no judgement of faces.
//!
//! A request goes through in this order, and each step sees only what the one before let pass:
//!
//! ```text
//! connection   head and body read, arrival stamped      from here on it is played even if the client leaves
//! gateway      key, token, date, signature, nonce, API
//! turnstile    quota of the action, then the faults     refused calls take nothing of the quota
//! actions      parameters read, the picture decoded
//! latency      then `late`, then the ledger             on disk before the answer
//! connection   the answer, or what a fault makes of it
//! ```
//!
//! A second AddFaceRecord of the same id makes a second record: so a duplicate can be seen.

mod actions;
mod answer;
mod clock;
mod connection;
mod error;
pub mod faults;
mod form;
mod gateway;
mod journal;
mod ledger;
mod multipart;
mod nonces;
mod objects;
mod quota;
mod server;
mod service;
mod settings;
mod signature;
mod text;
mod turn;
mod turnstile;
mod wire;

pub use actions::Action;
pub use error::SandboxError;
pub use faults::{Fault, Rule, Script, ScriptError, When};
pub use journal::{CallEnd, CallRecord};
pub use ledger::Record;
pub use server::Sandbox;
pub use settings::{Credentials, Groups, Settings, Window};
