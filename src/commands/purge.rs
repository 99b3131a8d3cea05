//! `face-enroll purge` and `face-enroll erase`: remove people from the checkpoint. Neither touches the service, a manifest or a
//! photo.

use std::path::Path;

use super::{CliError, checkpoint_path, target};
use crate::{
    checkpoint::{PurgeFilter, PurgeReport},
    cli::{EraseArgs, PurgeArgs},
    exit::Exit,
    report,
};

/// Removes everyone who was enrolled longer ago than `--older-than`.
pub(super) fn purge(args: &PurgeArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    let before =
        jiff::Timestamp::now().as_millisecond() - i64::try_from(args.older_than.as_millis()).unwrap_or(i64::MAX);
    let purged = remove(&path, &PurgeFilter::EnrolledBefore(before))?;
    let rows = purged.rows;
    report::print(&format!("{} removed from {}", report::plural(rows, "enrolled row"), path.display()));
    list_files(&path, &purged);
    if rows > 0 {
        report::print("Later runs with this checkpoint check the service before every send.");
    }
    Ok(Exit::Success)
}

/// Removes one person.
pub(super) fn erase(args: &EraseArgs) -> Result<Exit, CliError> {
    let path = checkpoint_path::existing(&args.which)?;
    let purged = remove(&path, &PurgeFilter::User(args.user.clone(), args.group.clone()))?;
    report::print(&format!("{} removed from {}", report::plural(purged.rows, "row"), path.display()));
    list_files(&path, &purged);
    for group in &purged.groups {
        // Name the group: without it the service deletes the id from every group.
        report::print(&format!(
            "The service may still have a record; to delete it: aliyun cloudauth-intl DeleteFaceRecordV2 --FaceGroupCode {group} --MerchantUserId '{}'",
            args.user.as_str().replace('\'', r"'\''")
        ));
    }
    report::print("Delete the photo, and any exports, reports, logs and copies, yourself.");
    Ok(Exit::Success)
}

/// Lists the backups that were removed, and the files that may still hold the same people.
fn list_files(path: &Path, purged: &PurgeReport) {
    for backup in &purged.backups {
        report::print(&format!("removed   {}: a backup from before a migration", backup.display()));
    }
    let manifests = purged.manifests.iter().map(|manifest| (manifest.clone(), "a manifest"));
    let records = std::iter::once((target::sandbox_records(path), "records of the sandbox"));
    for (file, what) in manifests.chain(records).filter(|(file, _)| file.is_file()) {
        report::print(&format!("may hold  {}: {what}, not touched", file.display()));
    }
}

fn remove(path: &Path, filter: &PurgeFilter) -> Result<PurgeReport, CliError> {
    let (_lock, mut store) = checkpoint_path::open_locked(path)?;
    Ok(store.purge(filter)?)
}
