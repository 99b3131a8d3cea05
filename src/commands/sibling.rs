//! A manifest with a new name each night begins a new checkpoint each night, and forgets everyone in the old one.

use std::path::{Path, PathBuf};

use crate::{checkpoint::Reader, domain::FaceGroupCode};

/// Checkpoints that are looked into: a folder of hundreds has told its story by then.
const LOOKS: usize = 100;

/// What the names of checkpoints end in, whoever named them: those of `place` do too.
const ENDING: &str = ".sqlite";

/// Another checkpoint in the same folder that belongs to the same place and holds this group: of several, the fullest.
pub(super) fn of(checkpoint: &Path, binding: &str, group: Option<&FaceGroupCode>) -> Option<PathBuf> {
    let group = group?.as_str();
    let folder = std::path::absolute(checkpoint).ok()?.parent()?.to_owned();
    let files = std::fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    let is_one = |file: &PathBuf| {
        file.file_name() != checkpoint.file_name()
            && file.to_string_lossy().ends_with(ENDING)
            && Reader::is_checkpoint(file)
    };
    let enrolled = |file: &PathBuf| -> Option<u64> {
        let reader = Reader::open(file).ok()?;
        let holds =
            reader.binding().ok()?.as_deref() == Some(binding) && reader.groups().ok()?.iter().any(|g| g == group);
        reader.counts().ok().filter(|_| holds).map(|counts| counts.enrolled)
    };
    let holding = files.filter(is_one).take(LOOKS).filter_map(|file| enrolled(&file).map(|n| (n, file)));
    holding.max_by_key(|(enrolled, _)| *enrolled).map(|(_, file)| file)
}
