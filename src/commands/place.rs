//! Where a checkpoint is, when it is not named.

use std::path::{Path, PathBuf};

use super::CliError;
use crate::{cli::CheckpointArgs, exit::Exit};

/// What a checkpoint is for: the two are never mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A real endpoint.
    Service,
    /// The sandbox inside the process.
    Sandbox,
}

impl Kind {
    pub(super) fn ending(self) -> &'static str {
        match self {
            Self::Service => ".enroll.sqlite",
            Self::Sandbox => ".sandbox.sqlite",
        }
    }
}

/// The checkpoint of these sources. Says so where it is not beside its source.
pub(super) fn of_sources(sources: &[PathBuf], named: Option<&Path>, kind: Kind) -> Result<PathBuf, CliError> {
    let (path, place) = locate(sources, named, kind)?;
    if place == Place::StateFolder {
        tracing::warn!(checkpoint = %path.display(), "the folder of the source can't be written: the checkpoint is kept elsewhere");
    }
    Ok(path)
}

/// Why a checkpoint is where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Named,
    BesideSource,
    /// The folder of the source can't be written.
    StateFolder,
}

/// The checkpoint of these sources: beside the one source, or, where that folder can't be written, among the user's state.
pub(super) fn locate(sources: &[PathBuf], named: Option<&Path>, kind: Kind) -> Result<(PathBuf, Place), CliError> {
    match (named, sources) {
        (Some(named), _) => Ok((named.to_owned(), Place::Named)),
        (None, [source]) => {
            let beside = beside(source, kind);
            if beside.exists() || is_writable(&beside) {
                return Ok((beside, Place::BesideSource));
            }
            Ok((in_state_folder(&beside)?, Place::StateFolder))
        }
        (None, _) => {
            Err(CliError::new(Exit::Usage, "several sources need a checkpoint of their own: give --checkpoint FILE"))
        }
    }
}

/// The checkpoint that `status` and the others look into.
pub(super) fn to_look_into(which: &CheckpointArgs) -> Result<PathBuf, CliError> {
    if let Some(named) = &which.checkpoint {
        return Ok(named.clone());
    }
    let source = which.source.as_ref().expect("clap asks for one of the two");
    let kinds: &[Kind] = if which.sandbox { &[Kind::Sandbox] } else { &[Kind::Service, Kind::Sandbox] };
    let places = kinds.iter().flat_map(|&kind| {
        let beside = beside(source, kind);
        let state = in_state_folder(&beside).ok();
        [Some(beside), state]
    });
    let found = places.flatten().find(|place| place.exists());
    // Where there is none, the usual place is the one to name.
    Ok(found.unwrap_or_else(|| beside(source, kinds[0])))
}

fn beside(source: &Path, kind: Kind) -> PathBuf {
    // "photos/" and "." have names too. A link is the source that was named, not what it points to today.
    let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
    let mut name = source.components().collect::<PathBuf>().into_os_string();
    name.push(kind.ending());
    name.into()
}

fn is_writable(file: &Path) -> bool {
    let folder = file.parent().unwrap_or(Path::new("/"));
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

fn in_state_folder(beside: &Path) -> Result<PathBuf, CliError> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
    let Some(state) = state else {
        return Err(CliError::new(Exit::Usage, "there is no place for the checkpoint: give --checkpoint FILE"));
    };
    // The whole path is in the name: two manifests of one name in two folders are two.
    let name = beside.to_string_lossy().replace('%', "%25").replace('/', "%2F");
    Ok(state.join("face-enroll").join(name))
}
