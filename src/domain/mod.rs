//! The words of the project as types, and the rules that hold between them.
//!
//! Pure data: no I/O, no async, and no import of another room. Everything else imports this.

mod attempt;
mod binding;
mod counts;
mod damage;
mod event;
mod ids;
mod invisible;
mod item;
mod on_change;
mod outcome;
mod proof;
mod similar;
mod text;

pub use attempt::{Answer, Fatal, Fault, FaultKind, Intent, Receipt, Refusal, Removal, Replaces, RunEffect, Verdict};
pub use binding::Binding;
pub use counts::{Counts, Latencies, RunSummary, RunTotals};
pub use damage::{Damage, find_damage};
pub use event::{DrainReason, Event, ItemReport};
pub use ids::{ApiCode, Digest, FaceGroupCode, InvalidId, ItemId, MerchantUserId, RequestId, RunId};
pub use invisible::is_invisible;
pub use item::{
    EXPORT_COLUMNS, Extra, FileStamp, Item, Origin, PictureRef, PictureUrl, RawFields, RowDefect, RowError,
};
pub use on_change::OnChange;
pub use outcome::{ConfirmedBy, ItemState, Outcome, Stage};
pub use proof::{Committed, Permit};
pub use similar::{most_similar, suggestion};
pub use text::{
    NotText, decode_text, is_unprintable, printable, printable_json, printable_lines, printable_message, unquoted,
};
