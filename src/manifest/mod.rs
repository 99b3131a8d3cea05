//! Rows become items: a source is an iterator, and a row that can't be an item is data, not the end.
//!
//! Streaming: what is held is one block of a manifest, however many rows it has. Whether an id comes twice is not asked
//! here (the checkpoint knows), nor whether a photo is any good (`picture` knows).

mod columns;
mod directory;
mod framing;
mod place;
mod row;
mod source;
mod table;

pub use source::{Settings, Source, SourceError, open};
