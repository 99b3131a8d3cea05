//! `face-enroll retry`.

use std::time::Duration;

use super::{CliError, place};
use crate::{
    checkpoint::{Lock, Reader, SqliteStore, Store},
    cli::RetryArgs,
    exit::Exit,
    report,
};

/// See the module.
pub(super) fn retry(args: &RetryArgs) -> Result<Exit, CliError> {
    let path = place::to_look_into(&args.which)?;
    // Looked at first: a lock beside nothing would only be litter.
    drop(Reader::open(&path)?);
    let _lock = Lock::acquire(&path, Duration::ZERO)?;
    let mut store = SqliteStore::open_existing(&path)?;
    store.begin()?;
    let reopened = store.retry(&args.status, args.code.as_deref())?;
    store.commit()?;
    report::print(&format!("{} pending again; run again to send them", report::thousands(reopened)));
    Ok(Exit::Success)
}
