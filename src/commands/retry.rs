//! `face-enroll retry`.

use std::time::Duration;

use super::{CliError, checkpoint_path};
use crate::{
    checkpoint::{Lock, Reader, SqliteStore, Store},
    cli::RetryArgs,
    exit::Exit,
    report,
};

pub(super) fn retry(args: &RetryArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    // Check that the checkpoint exists first, so that no stray lock file is left.
    drop(Reader::open(&path)?);
    let _lock = Lock::acquire(&path, Duration::ZERO)?;
    let mut store = SqliteStore::open_existing(&path)?;
    store.begin()?;
    let reopened = store.retry(&args.status, args.code.as_deref())?;
    store.commit()?;
    report::print(&format!("{} pending again; run again to send them", report::plural(reopened, "row")));
    Ok(Exit::Success)
}
