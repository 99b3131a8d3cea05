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
mod outcome;
mod proof;
mod similar;

pub use attempt::{Answer, Fatal, Fault, FaultKind, Intent, Receipt, Refusal, Removal, Replaces, Verdict};
pub use binding::Binding;
pub use counts::{Counts, Latencies, RunSummary, RunTotals};
pub use damage::{Damage, find_damage};
pub use event::{DrainReason, Event, ItemReport};
pub use ids::{ApiCode, Digest, FaceGroupCode, InvalidId, ItemId, MerchantUserId, RequestId, RunId};
pub use invisible::is_invisible;
pub use item::{
    EXPORT_COLUMNS, Extra, FileStamp, Item, Origin, PictureRef, PictureUrl, RawFields, RowDefect, RowError,
};
pub use outcome::{ConfirmedBy, ItemState, Outcome, Stage};
pub use proof::{Committed, Permit};
pub use similar::{most_similar, suggestion};
