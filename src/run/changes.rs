//! Finds known items whose photo has changed since it was sent or rejected.
//!
//! Usually the size and time of the file decide. Several files are checked at once, because each check waits for a disk
//! or file server. Once `is_stopped` is true, the remaining files are skipped.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{Builder, ScopedJoinHandle},
};

use crate::{
    checkpoint::{EnrolledItem, PhotoChange, PhotoCheck, RejectedItem, StoredPhoto},
    domain::{Digest, FileStamp, ItemId, OnChange, PhotoSource},
    picture::{self, Defect, LoadError, Rules},
    storage::{Place, Storage, Unavailable},
};

/// Checks under way at once.
const MAX_THREADS: usize = 8;
/// Fewest checks that are worth a thread.
const MIN_CHECKS_PER_THREAD: usize = 64;

/// Checks photos, and remembers whether any of them was found.
pub(super) struct PhotoChecker {
    rules: Rules,
    on_change: OnChange,
    storage: Arc<Storage>,
    has_found: AtomicBool,
}

impl PhotoChecker {
    pub(super) fn new(rules: Rules, on_change: OnChange, storage: Arc<Storage>) -> Self {
        Self { rules, on_change, storage, has_found: AtomicBool::new(false) }
    }

    /// Whether any photo was found.
    pub(super) fn has_found(&self) -> bool {
        self.has_found.load(Relaxed)
    }

    /// Checks the photos of enrolled items.
    pub(super) fn check_enrolled(
        &self,
        all: &[EnrolledItem],
        is_stopped: &(impl Fn() -> bool + Sync),
    ) -> Vec<PhotoCheck> {
        let is_skipped = |photo: &StoredPhoto| matches!(photo, StoredPhoto::File { .. }) && is_stopped();
        let may_have_changed =
            |before: &'_ EnrolledItem| !is_skipped(&before.photo) && self.may_have_changed(&before.photo);
        let suspect = parallel_filter_map(all, |before| may_have_changed(before).then_some(before));
        // Few are left; they are read one by one, because each is held in memory.
        let checked = suspect.into_iter().filter(|before| !is_skipped(&before.photo));
        checked.filter_map(|before| self.read(before)).collect()
    }

    /// Rejected items whose photo has changed, or exists now.
    pub(super) fn changed_rejected(
        &self,
        all: &[RejectedItem],
        is_stopped: &(impl Fn() -> bool + Sync),
    ) -> Vec<ItemId> {
        let has_changed = |refused: &RejectedItem| match self.stamp(&refused.photo, &refused.root) {
            Ok(found) => Some(found) != refused.stamp,
            Err(error) if is_permanent(&error) => refused.stamp.is_some(),
            // A fault of the machine says nothing about the photo.
            Err(_) => false,
        };
        parallel_filter_map(all, |refused| (!is_stopped() && has_changed(refused)).then_some(refused.item))
    }

    fn stamp(&self, photo: &PhotoSource, root: &Path) -> io::Result<FileStamp> {
        let place = Place::of(photo).map_err(|_| io::ErrorKind::Unsupported)?;
        let stamp = self.storage.stamp(&place, root)?;
        self.has_found.store(true, Relaxed);
        Ok(stamp)
    }

    /// Whether the photo may differ from the one that was sent, judged without reading it.
    fn may_have_changed(&self, photo: &StoredPhoto) -> bool {
        match photo {
            StoredPhoto::Other => true,
            // A photo sent by a link: its bytes are not known, only its stamp.
            StoredPhoto::File {
                photo: photo @ PhotoSource::Object(..),
                root,
                stamp: stamp @ Some(_),
                digest: None,
            } => self.stamp(photo, root).is_ok_and(|found| Some(found) != *stamp),
            StoredPhoto::File { digest: None, .. } if self.has_found() => false,
            StoredPhoto::File { photo, root, stamp, digest } => {
                let found = self.stamp(photo, root).ok();
                digest.is_some() && found.is_some() && found != *stamp
            }
        }
    }

    fn digest(&self, photo: &PhotoSource, root: &Path) -> Option<Result<(Digest, FileStamp), LoadError>> {
        Some(picture::digest(&self.storage, &Place::of(photo).ok()?, root, &self.rules))
    }

    /// `None` if the photo cannot be read now.
    fn read(&self, before: &EnrolledItem) -> Option<PhotoCheck> {
        let other = match self.on_change {
            OnChange::Keep => PhotoChange::Other,
            OnChange::Replace => PhotoChange::Replacement,
        };
        let seen = match &before.photo {
            StoredPhoto::Other | StoredPhoto::File { digest: None, .. } => other,
            StoredPhoto::File { photo, root, digest, .. } => match self.digest(photo, root)? {
                Ok((found, stamp)) if Some(found) == *digest => PhotoChange::Same(stamp),
                // Nothing is known about a photo that cannot be opened.
                Err(LoadError::Defect(defect)) if is_unknown(&defect) => {
                    tracing::warn!(%defect, "cannot read a changed photo; the next run checks it again");
                    return None;
                }
                Ok(_) | Err(LoadError::Defect(_)) => other,
                Err(error @ (LoadError::Io(_) | LoadError::Fatal(_))) => {
                    tracing::warn!(%error, "cannot read a changed photo; the next run checks it again");
                    return None;
                }
            },
        };
        Some(PhotoCheck { item: before.item, seen })
    }
}

/// Whether nothing is known about a photo with this defect.
fn is_unknown(defect: &Defect) -> bool {
    matches!(defect, Defect::Unavailable(Unavailable::NotFound { .. } | Unavailable::PermissionDenied))
        || defect.may_pass_unchanged()
}

/// Whether the file is absent or unreadable independently of the state of the machine.
fn is_permanent(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidInput | InvalidFilename)
}

/// Filters and maps on several threads, keeping the order.
fn parallel_filter_map<'a, T: Sync, R: Send>(all: &'a [T], check: impl Fn(&'a T) -> Option<R> + Sync) -> Vec<R> {
    let share = all.len().div_ceil(MAX_THREADS).max(MIN_CHECKS_PER_THREAD);
    if all.len() <= share {
        return all.iter().filter_map(check).collect();
    }
    std::thread::scope(|scope| {
        let check_all = |share: &'a [T]| share.iter().filter_map(&check).collect::<Vec<R>>();
        let started: Vec<_> = (all.chunks(share))
            // If no thread can be started, check on this one.
            .map(|share| Builder::new().spawn_scoped(scope, move || check_all(share)).map_err(|_| check_all(share)))
            .collect();
        let join = |thread: ScopedJoinHandle<'_, Vec<R>>| thread.join().expect("checking a file does not panic");
        started.into_iter().flat_map(|share| share.map_or_else(|checked| checked, join)).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parallel_filter_keeps_every_match_in_order() {
        for n in [0, 1, MIN_CHECKS_PER_THREAD, MIN_CHECKS_PER_THREAD + 1, 10_000] {
            let all: Vec<usize> = (0..n).collect();
            let odd = parallel_filter_map(&all, |n| (n % 2 == 1).then_some(*n));
            assert_eq!(odd, (0..n).filter(|n| n % 2 == 1).collect::<Vec<_>>());
        }
    }
}
