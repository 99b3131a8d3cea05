//! Reads a prefix of a bucket: each photo under it is a row, in the order of the keys.
//!
//! Names decide as in a directory, but no object is opened: one whose name does not tell that it is a photo is skipped, unless
//! `--include` names it.

use std::{
    path::Path,
    sync::{Arc, atomic::AtomicU64},
};

use super::{
    directory::{NameClass, SkipLog, classify, is_ignored, is_trash},
    error::SourceError,
    file_filter::FileFilter,
    options::{Row, Rows, Settings, SourcePath},
    row::{RowBuilder, row_error},
};
use crate::{
    domain::{ObjectRef, RowErrorKind},
    storage::{ListedObject, Listing, ObjectError, object_stamp},
};

/// Rows of the photos under a prefix. Counts the rest in `skipped`.
pub(super) fn rows(place: ObjectRef, settings: &Settings, skipped: Arc<AtomicU64>) -> Result<Rows, SourceError> {
    let name = place.to_string();
    let name = Path::new(&name);
    if settings.group.is_none() {
        return Err(SourceError::NoGroupOfPhotos { path: name.to_owned() });
    }
    let listing = settings.objects.list(&place).map_err(|error| source_error(&place, error))?;
    // A bucket may be empty, and so may a folder, which a console marks with an object.
    if listing.is_empty() && !place.key.is_empty() {
        return Err(SourceError::NoSuchPrefix { place: place.to_string() });
    }
    Ok(Box::new(Objects {
        listing,
        builder: RowBuilder::new(&SourcePath { path: name, root: name }, settings),
        filter: settings.files.clone(),
        skip_log: SkipLog::new(name.to_owned(), skipped),
        skipped_folder: None,
        place,
        row: 0,
        is_over: false,
    }))
}

/// Why a place in object storage can't be read.
pub(super) fn source_error(place: &ObjectRef, error: ObjectError) -> SourceError {
    match error {
        ObjectError::Fatal(fatal) => SourceError::ObjectStorage { place: place.to_string(), fatal },
        error => {
            SourceError::Unreadable { path: place.to_string().into(), source: std::io::Error::other(error.to_string()) }
        }
    }
}

struct Objects {
    listing: Listing,
    place: ObjectRef,
    builder: RowBuilder,
    filter: FileFilter,
    skip_log: SkipLog,
    /// The folder that was skipped last, with a slash at its end.
    skipped_folder: Option<String>,
    row: u64,
    is_over: bool,
}

impl Iterator for Objects {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.is_over {
            match self.listing.next() {
                None => {
                    self.skip_log.report();
                    self.is_over = true;
                }
                Some(Ok(object)) => {
                    if let Some(row) = self.row_of(object) {
                        return Some(Ok(row));
                    }
                }
                Some(Err(error)) => {
                    self.is_over = true;
                    return Some(Err(source_error(&self.place, error)));
                }
            }
        }
        None
    }
}

impl Objects {
    /// The row of an object; `None` if it is not a photo.
    fn row_of(&mut self, object: ListedObject) -> Option<Row> {
        let ListedObject { key, size, etag } = object;
        let relative = key.strip_prefix(&self.place.key).unwrap_or(&key).to_owned();
        // Consoles make folders as empty objects.
        if relative.is_empty() || relative.ends_with('/') || self.is_in_skipped_folder(&relative) {
            return None;
        }
        let path = Path::new(&relative);
        if self.filter.is_excluded(path) {
            return None;
        }
        let name = relative.rsplit('/').next().unwrap_or_default().to_lowercase();
        if is_ignored(&name) || self.is_in_junk_folder(&relative) {
            self.skip_log.file(path);
            return None;
        }
        let is_photo = match self.filter.is_included(path) {
            Some(true) => true,
            Some(false) => return None,
            None => matches!(classify(path), NameClass::Photo),
        };
        if !is_photo {
            self.skip_log.file(path);
            return None;
        }
        self.row += 1;
        let bucket = self.place.bucket.clone();
        // Every key is a valid place but for parts that a URL can't carry.
        match format!("oss://{bucket}/{key}").parse::<ObjectRef>() {
            Ok(object) => Some(self.builder.object(self.row, object, object_stamp(size, &etag))),
            Err(problem) => {
                let message = format!("it {problem}: give the object another key");
                Some(Err(row_error(self.row, RowErrorKind::InvalidUrl, message, Some(path))))
            }
        }
    }

    fn is_in_skipped_folder(&self, relative: &str) -> bool {
        self.skipped_folder.as_ref().is_some_and(|folder| relative.starts_with(folder.as_str()))
    }

    /// Whether a folder of the key is of deleted files or otherwise ignored. Such a folder is counted once.
    fn is_in_junk_folder(&mut self, relative: &str) -> bool {
        for (at, _) in relative.match_indices('/') {
            let folder = &relative[..at];
            let name = folder.rsplit('/').next().unwrap_or_default().to_lowercase();
            if is_trash(&name) || is_ignored(&name) || self.filter.is_excluded(Path::new(folder)) {
                self.skipped_folder = Some(relative[..=at].to_owned());
                return true;
            }
        }
        false
    }
}
