//! Types of the problem domain and the rules between them.
//!
//! Pure data: no I/O, no async, and no import from another module. Everything else imports this one.

mod attempt;
mod bottleneck;
mod counts;
mod damage;
mod encoding;
mod event;
mod ids;
mod invisible;
mod item;
mod object;
mod on_change;
mod outcome;
mod suggest;
mod text;
mod tokens;

pub use attempt::{
    Answer, ApiRejection, CallError, CallFailure, DeleteIntent, EnrollmentReceipt, FailureKind, FatalError, Intent,
    MAX_CLOCK_SKEW, RunEffect, Supersedes,
};
pub use bottleneck::Bottleneck;
pub use counts::{Counts, Latencies, RunSummary, RunTotals};
pub use damage::{Damage, find_damage};
pub use encoding::Encoding;
pub use event::{DrainReason, Event, ItemUpdate};
pub use ids::{Digest, ErrorCode, FaceGroupCode, InvalidId, ItemId, MerchantUserId, RequestId, RunId};
pub use invisible::is_invisible;
pub use item::{
    EXPORT_COLUMNS, Extra, FileStamp, Item, Member, Origin, PhotoSource, PhotoUrl, RawFields, RowError, RowErrorKind,
};
pub use object::{InvalidObject, ObjectRef};
pub use on_change::OnChange;
pub use outcome::{ConfirmedBy, ItemState, Outcome, RejectedBy};
pub use suggest::{closest_match, did_you_mean};
pub use text::{
    NotText, decode_text, is_unprintable, printable, printable_json, printable_lines, printable_message, unquoted,
};
pub use tokens::{Committed, Permit, action};
