//! Reads a ZIP archive of photos: each photo in it is a row, by the same rules as in a directory.
//!
//! Rows are in the order of the archive's directory. Nothing but that is read, except the first bytes of members whose name
//! does not say what they are.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use super::{
    directory::{NameClass, SkipLog, classify, id_with_extension, is_ignored, is_jpeg_head, is_trash},
    error::SourceError,
    file_filter::FileFilter,
    input::FileFormat,
    options::{Row, Rows, Settings, SourcePath},
    photo_path::IdFrom,
    row::{RowBuilder, row_error},
};
use crate::{
    domain::{Member, PhotoSource, RowErrorKind},
    storage::{Archive, BadName, Entry, MemberKind, Members, ReadError},
};

/// Bytes that tell a JPEG.
const HEAD_BYTES: u64 = 3;
/// Most skipped folders that are counted as one each; the files of others are counted.
const MAX_SKIPPED_FOLDERS: usize = 1_000;

/// Reads an archive. Counts the members that are not photos in `skipped`.
pub(super) fn rows(at: &SourcePath<'_>, settings: &Settings, skipped: Arc<AtomicU64>) -> Result<Rows, SourceError> {
    if settings.group.is_none() {
        return Err(SourceError::NoGroupOfPhotos { path: at.path.to_owned() });
    }
    let failed = |error| source_error(error, at.path);
    let archive = Arc::new(Archive::open(at.path, None, settings.names_in).map_err(failed)?);
    let mut lists = Vec::new();
    let members = archive.survey(&mut |entry| lists.extend(list_in(entry).filter(|_| lists.len() < 2)));
    let members = members.map_err(failed)?;
    if let [list] = &lists[..] {
        tracing::warn!(
            archive = %at.path.display(),
            "the archive holds {list}, which is not read: the ids are the photos' names. To take them from the list, unpack \
             it and run it with --root {}",
            at.path.display(),
        );
    }
    Ok(Box::new(Listing {
        members: Arc::clone(&archive).members(members),
        archive,
        builder: RowBuilder::new(&SourcePath { path: at.path, root: at.path }, settings),
        id_from: settings.id_from.unwrap_or_default(),
        filter: settings.files.clone(),
        skip_log: SkipLog::new(at.path.to_owned(), skipped),
        skipped_folders: HashSet::new(),
        row: 0,
    }))
}

/// Name of a member that is a list of people.
fn list_in(entry: &Entry) -> Option<String> {
    let name = entry.name.as_ref().ok().filter(|_| entry.kind == MemberKind::File)?;
    let is_list = FileFormat::from_name(name).is_some();
    let is_ignored = Path::new(name).iter().any(|part| is_ignored(&part.to_string_lossy().to_lowercase()));
    (is_list && !is_ignored).then(|| name.clone())
}

fn source_error(error: ReadError, path: &Path) -> SourceError {
    match error {
        ReadError::Fatal(fatal) => SourceError::ObjectStorage { place: path.display().to_string(), fatal },
        ReadError::Io(source) => SourceError::Unreadable { path: path.to_owned(), source },
        ReadError::Unavailable(source) => SourceError::Archive { path: path.to_owned(), source },
    }
}

struct Listing {
    archive: Arc<Archive>,
    members: Members,
    builder: RowBuilder,
    id_from: IdFrom,
    filter: FileFilter,
    skip_log: SkipLog,
    skipped_folders: HashSet<PathBuf>,
    row: u64,
}

impl Iterator for Listing {
    type Item = Result<Row, SourceError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let row = match self.members.next() {
                None => {
                    self.skip_log.report();
                    return self
                        .archive
                        .check_unchanged()
                        .err()
                        .map(|error| Err(source_error(error, self.archive.path())));
                }
                Some(entry) => entry.and_then(|entry| self.entry(&entry)),
            };
            match row {
                Ok(None) => {}
                Ok(Some(row)) => return Some(Ok(row)),
                Err(error) => return Some(Err(source_error(error, self.archive.path()))),
            }
        }
    }
}

impl Listing {
    /// The row of a member; `None` if it is not a photo.
    fn entry(&mut self, entry: &Entry) -> Result<Option<Row>, ReadError> {
        if entry.kind == MemberKind::Folder {
            return Ok(None);
        }
        let shown = entry.shown_name();
        let relative = Path::new(&shown);
        if self.is_left_out(relative) {
            return Ok(None);
        }
        let class = match self.filter.is_included(relative) {
            Some(true) => NameClass::Photo,
            Some(false) => return Ok(None),
            None => classify(relative),
        };
        let is_photo = matches!(class, NameClass::Photo);
        let is_taken = match class {
            NameClass::Photo => true,
            NameClass::Unknown if entry.kind == MemberKind::File => {
                is_jpeg_head(&self.archive.head(entry, HEAD_BYTES)?)
            }
            NameClass::Unknown | NameClass::NotPhoto => false,
        };
        if !is_taken {
            self.skip_log.file(relative);
            return Ok(None);
        }
        self.row += 1;
        let path = self.archive.path().join(relative);
        let refused = |defect, message: &str| Some(Err(row_error(self.row, defect, message.to_owned(), Some(&path))));
        Ok(match entry.name {
            Err(bad) => {
                let (defect, message) = explain(bad);
                refused(defect, message)
            }
            Ok(_) if entry.kind == MemberKind::Link => refused(
                RowErrorKind::NotFollowed,
                "it is a symbolic link, which is not followed: make the archive without links",
            ),
            Ok(_) => {
                let id = if is_photo { None } else { id_with_extension(relative, self.id_from) };
                Some(self.builder.file(self.row, PhotoSource::Member(Member { path, at: entry.at }), id.as_deref()))
            }
        })
    }

    /// Whether a member is excluded, hidden or deleted, or in such a folder, which counts as one.
    fn is_left_out(&mut self, relative: &Path) -> bool {
        let mut parts: Vec<&Path> = relative.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
        parts.reverse();
        for part in parts {
            if self.filter.is_excluded(part) {
                return true;
            }
            let name = part.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
            let is_folder = part != relative;
            let is_trash = is_folder && is_trash(&name);
            if !is_trash && !is_ignored(&name) {
                continue;
            }
            let is_counted = !is_folder
                || self.skipped_folders.len() >= MAX_SKIPPED_FOLDERS
                || self.skipped_folders.insert(part.to_owned());
            match (is_counted, is_trash) {
                (true, true) => self.skip_log.trash(part),
                (true, false) => self.skip_log.file(part),
                (false, _) => {}
            }
            return true;
        }
        false
    }
}

/// Why a member with this name is no item.
fn explain(bad: BadName) -> (RowErrorKind, &'static str) {
    match bad {
        BadName::UnknownEncoding => (
            RowErrorKind::UnreadableRow,
            "its name is not UTF-8, and the archive does not say what it is: give --names-in gbk, or another encoding",
        ),
        BadName::Undecodable => (
            RowErrorKind::UnreadableRow,
            "its name is not valid in its encoding: give another --names-in, or rename it",
        ),
        BadName::Outside => (RowErrorKind::OutsideRoot, "its name leads out of the archive: make the archive again"),
        BadName::NoName => (RowErrorKind::UnreadableRow, "its name is empty or holds a NUL: make the archive again"),
    }
}
