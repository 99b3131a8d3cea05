//! Finds a checkpoint that already holds the group. A manifest with a new name each night gets a new checkpoint each night,
//! which does not know the people in the old one.

use std::path::{Path, PathBuf};

use crate::{checkpoint::Reader, domain::FaceGroupCode};

/// Checkpoints to open at most; a directory may hold hundreds.
const MAX_CHECKPOINTS: usize = 100;

/// Extension of a checkpoint, whether its name is a default or was given.
const EXTENSION: &str = ".sqlite";

/// The checkpoint in the same directory with the same target and group that has the most people enrolled.
pub(super) fn find(checkpoint: &Path, binding: &str, group: Option<&FaceGroupCode>) -> Option<PathBuf> {
    let group = group?.as_str();
    let folder = std::path::absolute(checkpoint).ok()?.parent()?.to_owned();
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let is_checkpoint = |file: &PathBuf| {
        file.file_name() != checkpoint.file_name()
            && file.to_string_lossy().ends_with(EXTENSION)
            && Reader::is_checkpoint(file)
    };
    let enrolled = |file: &PathBuf| -> Option<u64> {
        let reader = Reader::open(file).ok()?;
        let holds =
            reader.binding().ok()?.as_deref() == Some(binding) && reader.groups().ok()?.iter().any(|g| g == group);
        reader.counts().ok().filter(|_| holds).map(|counts| counts.enrolled)
    };
    let candidates =
        files.filter(is_checkpoint).take(MAX_CHECKPOINTS).filter_map(|file| enrolled(&file).map(|n| (n, file)));
    candidates.max_by_key(|(enrolled, _)| *enrolled).map(|(_, file)| file)
}
