//! Finds the checkpoint of a command.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use super::CliError;
use crate::{
    checkpoint::{Lock, Reader, SqliteStore},
    cli::CheckpointArgs,
    domain::ObjectRef,
    exit::Exit,
};

/// What a checkpoint is for. Each kind has its own extension, so the two are never mixed up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A real endpoint.
    Service,
    /// The sandbox inside the process.
    Sandbox,
}

impl Kind {
    fn extension(self) -> &'static str {
        match self {
            Self::Service => ".enroll.sqlite",
            Self::Sandbox => ".sandbox.sqlite",
        }
    }
}

/// Checkpoint of a run. Says so if it is not next to its source: for a bucket, which has no such place, only once.
pub(super) fn for_run(sources: &[PathBuf], named: Option<&Path>, kind: Kind) -> Result<PathBuf, CliError> {
    let (path, location) = locate(sources, named, kind)?;
    if sources.iter().any(|source| is_object(source)) {
        if location == Location::StateDirectory && !path.exists() {
            tracing::info!(checkpoint = %path.display(), "the checkpoint of a bucket is in the user's state directory: give --checkpoint to keep it elsewhere");
        }
    } else if location == Location::StateDirectory {
        tracing::warn!(checkpoint = %path.display(), "no checkpoint can be written beside the source: it is in the user's state directory");
    }
    Ok(path)
}

/// Where a checkpoint is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    Named,
    BesideSource,
    /// In the user's state directory, because the source's directory is not writable.
    StateDirectory,
}

/// Path of the checkpoint: as named, next to its one source, or in the user's state directory if that is not writable.
pub(super) fn locate(sources: &[PathBuf], named: Option<&Path>, kind: Kind) -> Result<(PathBuf, Location), CliError> {
    match (named, sources) {
        (Some(named), _) => Ok((named.to_owned(), Location::Named)),
        (None, [source]) if is_object(source) => {
            Ok((in_state_directory(&beside(source, kind))?, Location::StateDirectory))
        }
        (None, [source]) => {
            let beside = beside(source, kind);
            if beside.exists() || is_writable(&beside) {
                return Ok((beside, Location::BesideSource));
            }
            Ok((in_state_directory(&beside)?, Location::StateDirectory))
        }
        (None, _) => {
            Err(CliError::new(Exit::Usage, "several sources have no default checkpoint: give --checkpoint FILE"))
        }
    }
}

/// The checkpoint that a command other than `run` opens.
pub(super) fn existing(which: &CheckpointArgs) -> Result<PathBuf, CliError> {
    if let Some(named) = &which.checkpoint {
        return Ok(named.clone());
    }
    let source = which.source.as_ref().expect("clap asks for one of the two");
    let kinds: &[Kind] = if which.sandbox { &[Kind::Sandbox] } else { &[Kind::Service, Kind::Sandbox] };
    let candidates = kinds.iter().flat_map(|&kind| {
        let beside = beside(source, kind);
        let state = in_state_directory(&beside).ok();
        [Some(beside), state]
    });
    let found = candidates.flatten().find(|path| path.exists());
    // Without any, name the usual path in the error.
    let usual = beside(source, kinds[0]);
    Ok(match found {
        Some(found) => found,
        None if is_object(source) => in_state_directory(&usual)?,
        None => usual,
    })
}

/// Opens an existing checkpoint with its lock.
pub(super) fn open_locked(path: &Path) -> Result<(Lock, SqliteStore), CliError> {
    // Check that the checkpoint exists first, so that no stray lock file is left.
    drop(Reader::open(path)?);
    let lock = Lock::acquire(path, Duration::ZERO)?;
    Ok((lock, SqliteStore::open_existing(path)?))
}

fn beside(source: &Path, kind: Kind) -> PathBuf {
    if let Some(text) = source.to_str().filter(|_| is_object(source)) {
        return PathBuf::from(format!("{}{}", text.trim_end_matches('/'), kind.extension()));
    }
    // Make "photos/" and "." absolute to get a name. Do not resolve a link: its target may change.
    let source = std::path::absolute(source).unwrap_or_else(|_| source.to_owned());
    let mut name = source.components().collect::<PathBuf>().into_os_string();
    name.push(kind.extension());
    name.into()
}

fn is_object(source: &Path) -> bool {
    source.to_str().is_some_and(ObjectRef::is_object)
}

fn is_writable(file: &Path) -> bool {
    let folder = file.parent().unwrap_or(Path::new("/"));
    rustix::fs::access(folder, rustix::fs::Access::WRITE_OK).is_ok()
}

fn in_state_directory(beside: &Path) -> Result<PathBuf, CliError> {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/state"));
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home);
    let Some(state) = state else {
        return Err(CliError::new(
            Exit::Usage,
            "no default path for the checkpoint (HOME is not set): give --checkpoint FILE",
        ));
    };
    // The name holds the whole path, so manifests of the same name in two directories do not collide.
    let name = beside.to_string_lossy().replace('%', "%25").replace('/', "%2F");
    Ok(state.join("face-enroll").join(name))
}
