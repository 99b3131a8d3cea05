//! Reads manifests, and directories, archives and buckets of photos. A source is an iterator of rows, and an invalid row is
//! data, not an error.
//!
//! Reading is streamed: memory holds one block of a manifest, however many rows it has. This module never looks for
//! duplicate ids (the checkpoint does) and never judges photos (`picture` does).

mod archive;
mod columns;
mod content;
mod dialect;
mod directory;
mod embedded;
mod error;
mod fields;
mod file_filter;
mod framing;
mod input;
mod json;
mod objects;
mod options;
mod photo_path;
mod record_parser;
mod row;
mod sheet;
mod source;
mod table;
mod text;

pub use content::ForeignContent;
pub use dialect::Delimiter;
pub use error::SourceError;
pub use fields::{ColumnName, Field};
pub use file_filter::{FileFilter, Pattern};
pub use input::{Compression, FileFormat, Format};
pub use options::Settings;
pub use photo_path::IdFrom;
pub use source::{Source, from_bytes, open};

#[cfg(test)]
mod test_support {
    use super::{Settings, SourceError, open, options::Row};
    use crate::domain::FaceGroupCode;

    /// Options with a group.
    pub(super) fn settings() -> Settings {
        Settings { group: FaceGroupCode::parse("g").ok(), ..Settings::default() }
    }

    /// Reads all rows of a manifest with this file name.
    pub(super) fn read_as(name: &str, bytes: &[u8], settings: &Settings) -> Result<Vec<Row>, SourceError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        open(&path, settings)?.collect()
    }
}
