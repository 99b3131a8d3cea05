//! `face-enroll retry`.

use super::{CliError, checkpoint_path};
use crate::{cli::RetryArgs, exit::Exit, report};

pub(super) fn retry(args: &RetryArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    let (_lock, mut store) = checkpoint_path::open_locked(&path)?;
    let reopened = store.retry(&args.status, args.code.as_deref())?;
    report::print(&format!("{} pending again; run again to send them", report::group_digits(reopened)));
    Ok(Exit::Success)
}
