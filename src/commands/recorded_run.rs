//! A run of the checkpoint that is not `run`: it is recorded, so that the next one knows who wrote last.

use std::{path::Path, thread::JoinHandle, time::Duration};

use super::{CliError, target::Target};
use crate::{
    checkpoint::{Checkpoint, CheckpointState, Lock, RunStart, SqliteStore},
    domain::RunId,
    exit::Exit,
};

/// A recorded run. It holds the lock.
pub(super) struct RecordedRun {
    lock: Lock,
    writer: JoinHandle<()>,
    pub(super) checkpoint: Checkpoint<SqliteStore>,
    /// The checkpoint as the run found it.
    pub(super) state: CheckpointState,
}

impl RecordedRun {
    pub(super) async fn start(path: &Path, target: &Target) -> Result<Self, CliError> {
        let lock = Lock::acquire(path, Duration::ZERO)?;
        let store = SqliteStore::open(path, &target.binding)?;
        store.is_current(&lock, path)?;
        let (checkpoint, writer) = Checkpoint::start(store).map_err(|error| CliError::new(Exit::Internal, error))?;
        let id = RunId::new(jiff::Timestamp::now(), fastrand::u16(..));
        let access_key = target.credentials.masked_id();
        let state = checkpoint.start_run(RunStart { id, access_key, rules: None, quota: None }).await?;
        lock.remember(state.epoch);
        Ok(Self { lock, writer, checkpoint, state })
    }

    /// Records the end. Every other handle of the checkpoint must be dropped by now.
    pub(super) async fn end(self, exit: Exit, reason: &str) -> Result<(), CliError> {
        let Self { lock, writer, checkpoint, .. } = self;
        let epoch = checkpoint.end_run(exit.code(), reason.to_owned()).await;
        drop(checkpoint);
        let _ = tokio::task::spawn_blocking(move || writer.join()).await;
        lock.remember(epoch?);
        Ok(())
    }
}
