//! `face-enroll purge` and `face-enroll erase`: what the checkpoint knows of people who are done, or want to be forgotten.
//! Neither touches the service, a manifest or a photo.

use std::{path::Path, time::Duration};

use super::{CliError, place, target};
use crate::{
    checkpoint::{Lock, PurgeFilter, PurgeReport, Reader, SqliteStore},
    cli::{EraseArgs, PurgeArgs},
    exit::Exit,
    report,
};

/// Everyone who has been enrolled for long.
pub(super) fn purge(args: &PurgeArgs) -> Result<Exit, CliError> {
    let path = place::to_look_into(&args.which)?;
    let before =
        jiff::Timestamp::now().as_millisecond() - i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    let forgotten = forget(&path, &PurgeFilter::EnrolledBefore(before))?;
    let rows = forgotten.rows;
    report::print(&format!("{} removed from {}", report::plural(rows, "enrolled row"), path.display()));
    tell_files(&path, &forgotten);
    if rows > 0 {
        report::print("Every later run with this checkpoint asks the service before each send.");
    }
    Ok(Exit::Success)
}

/// One person.
pub(super) fn erase(args: &EraseArgs) -> Result<Exit, CliError> {
    let path = place::to_look_into(&args.which)?;
    let forgotten = forget(&path, &PurgeFilter::User(args.user.clone(), args.group.clone()))?;
    report::print(&format!("{} removed from {}", report::plural(forgotten.rows, "row"), path.display()));
    tell_files(&path, &forgotten);
    for group in &forgotten.groups {
        // With its group: without, the service removes the id from every group.
        report::print(&format!(
            "The service may still have a record; to remove it: aliyun cloudauth-intl DeleteFaceRecordV2 --FaceGroupCode {group} --MerchantUserId '{}'",
            args.user.as_str().replace('\'', r"'\''")
        ));
    }
    report::print("The photo is yours to remove; so are exports, reports, logs and copies that were made elsewhere.");
    Ok(Exit::Success)
}

/// Which copies were removed, and which files may hold the same people still.
fn tell_files(path: &Path, forgotten: &PurgeReport) {
    for backup in &forgotten.backups {
        report::print(&format!("removed   {}: a copy made before a migration held them too", backup.display()));
    }
    let manifests = forgotten.manifests.iter().map(|manifest| (manifest.clone(), "a manifest"));
    let records = std::iter::once((target::sandbox_records(path), "the records of the sandbox"));
    for (file, what) in manifests.chain(records).filter(|(file, _)| file.is_file()) {
        report::print(&format!("may hold  {}: {what}, not touched", file.display()));
    }
}

fn forget(path: &Path, whom: &PurgeFilter) -> Result<PurgeReport, CliError> {
    // Looked at first: a lock beside nothing would only be litter.
    drop(Reader::open(path)?);
    let _lock = Lock::acquire(path, Duration::ZERO)?;
    Ok(SqliteStore::open_existing(path)?.purge(whom)?)
}
