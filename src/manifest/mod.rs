//! Rows become items: a source is an iterator, and a row that can't be an item is data, not the end.
//!
//! Streaming: what is held is one block of a manifest, however many rows it has. Whether an id comes twice is not asked
//! here (the checkpoint knows), nor whether a photo is any good (`picture` knows).

mod columns;
mod content;
mod dialect;
mod directory;
mod embedded;
mod fields;
mod framing;
mod input;
mod json;
mod place;
mod row;
mod source;
mod table;
mod text;

pub use content::Foreign;
pub use dialect::Delimiter;
pub use directory::{Files, Pattern};
pub use fields::{ColumnName, Field};
pub use input::{Format, InputFormat, Packing};
pub use place::IdFrom;
pub use source::{Settings, Source, SourceError, from_bytes, open};
pub use text::Encoding;
