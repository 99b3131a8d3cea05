//! First step of a run: open the sources, take the lock, open the checkpoint and resolve the target. Sends nothing.

use std::{
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use crate::{
    checkpoint::{Checkpoint, Lock, Reader, SqliteStore, StoreError},
    cli::RunArgs,
    commands::{
        CliError,
        checkpoint_path::{self, Kind},
        duplicate_checkpoint, objects, sources,
        target::{self, Target},
    },
    exit::Exit,
    files,
    manifest::Source,
    storage::Objects,
};

/// Everything that a run has opened before it starts.
pub(super) struct Prepared {
    pub(super) path: PathBuf,
    pub(super) lock: Lock,
    /// False if the service may have records that the checkpoint does not know.
    pub(super) is_complete: bool,
    pub(super) sources: Vec<Source>,
    pub(super) objects: Objects,
    pub(super) target: Target,
    pub(super) checkpoint: Checkpoint<SqliteStore>,
    pub(super) writer: JoinHandle<()>,
}

pub(super) async fn prepare(args: &RunArgs) -> Result<Prepared, CliError> {
    let kind = target::kind(args);
    let path = checkpoint_path::for_run(&args.read.sources, args.checkpoint.as_deref(), kind)?;
    // Open the sources first, so that a missing one is reported before any file is created.
    let objects = objects::for_run(args)?;
    let sources = sources::open(&args.read, target::group(args), &objects)?;
    let service = match kind {
        Kind::Service => Some(target::service(&args.service, None).await?),
        Kind::Sandbox => None,
    };
    create_directory(&path)?;
    let lock = {
        let (path, wait) = (path.clone(), args.limits.wait_lock);
        tokio::task::spawn_blocking(move || Lock::acquire(&path, wait)).await.expect("taking a lock does not panic")?
    };
    let target = match service {
        Some(service) => service,
        None => target::sandbox(&args.service, args.sending.qps, &path, &args.sandbox_bucket).await?,
    };
    let mut store = SqliteStore::open(&path, &target.binding)?;
    let is_complete = match store.is_current(&lock, &path) {
        Err(StoreError::Stale { .. } | StoreError::Copied { .. }) if args.after_restore || args.sending.precheck => {
            false
        }
        is_current => is_current?,
    };
    let is_new = store.epoch()? == 0;
    if !is_complete {
        // Record this before the epoch advances: if this run is killed, the next one still sees it.
        store.note_incomplete()?;
    }
    warn_about_new_group(args, &path);
    // Runs that share a quota have parts of one archive, each with its own checkpoint.
    if is_new && is_complete && kind == Kind::Service && args.sending.shared.quota_at.is_none() {
        warn_about_duplicate(args, &path, &target.binding);
    }
    let (checkpoint, writer) = Checkpoint::start(store).map_err(|error| CliError::new(Exit::Internal, error))?;
    Ok(Prepared { path, lock, is_complete, sources, objects, target, checkpoint, writer })
}

fn warn_about_new_group(args: &RunArgs, path: &Path) {
    if let Some(group) = &args.read.reading.group
        && let Ok(others) = Reader::open(path).and_then(|reader| reader.groups())
        && !others.is_empty()
        && !others.iter().any(|other| other == group.as_str())
    {
        tracing::warn!(
            group = group.as_str(),
            before = others.join(", "),
            "this checkpoint has no rows of this group yet; people enrolled in another group are enrolled in this one too"
        );
    }
}

fn warn_about_duplicate(args: &RunArgs, path: &Path, binding: &str) {
    if let Some(other) = duplicate_checkpoint::find(path, binding, target::group(args).as_ref()) {
        tracing::warn!(
            other = %other.display(),
            "another checkpoint in this directory holds the same group; a new one enrols the same people twice. If it is \
             the same archive, give --checkpoint with that file; otherwise consider --precheck"
        );
    }
}

fn create_directory(checkpoint: &Path) -> Result<(), CliError> {
    use std::os::unix::fs::DirBuilderExt;
    let folder = files::folder_of(checkpoint);
    if folder.is_dir() {
        return Ok(());
    }
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        CliError::new(Exit::Checkpoint, error)
            .with_hint("cannot create the checkpoint's directory: give another --checkpoint")
    })?;
    tracing::info!(folder = %folder.display(), "created the checkpoint's directory");
    Ok(())
}
