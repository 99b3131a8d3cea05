//! Finds known items whose photo has changed since it was sent or refused.
//!
//! Mostly the size and the time of the file tell. Several files are checked at once: each check waits for the disk, or for a
//! file server. Files that are not checked before `is_stopped` says so are left out.

use std::thread::{Builder, ScopedJoinHandle};

use crate::{
    checkpoint::{EnrolledBefore, KnownPhoto, PhotoLook, RefusedBefore, Seen},
    domain::{ItemId, OnChange},
    picture::{self, LoadError, Rules},
};

/// Checks under way at once.
const MAX_THREADS: usize = 8;
/// Fewest checks that are worth a thread.
const MIN_CHECKS_PER_THREAD: usize = 64;

/// Checks the photos of enrolled items.
pub(super) fn check_enrolled(
    all: &[EnrolledBefore],
    on_change: OnChange,
    rules: &Rules,
    is_stopped: &(impl Fn() -> bool + Sync),
) -> Vec<PhotoLook> {
    let may_have_changed = |photo: &KnownPhoto| match photo {
        KnownPhoto::Other => true,
        KnownPhoto::File { path, stamp, digest } => {
            digest.is_some() && !is_stopped() && picture::stamp(path).is_ok_and(|found| Some(found) != *stamp)
        }
    };
    let suspect = parallel_filter_map(all, |before| may_have_changed(&before.photo).then_some(before));
    // Few, and one by one: each of these is read, and held in memory.
    let is_left_out = |photo: &KnownPhoto| matches!(photo, KnownPhoto::File { .. }) && is_stopped();
    let checked = suspect.into_iter().filter(|before| !is_left_out(&before.photo));
    checked.filter_map(|before| read(before, on_change, rules)).collect()
}

/// Rejected items whose photo has changed, or is there now.
pub(super) fn changed_rejected(all: &[RefusedBefore], is_stopped: &(impl Fn() -> bool + Sync)) -> Vec<ItemId> {
    let has_changed = |refused: &RefusedBefore| picture::stamp(&refused.path).ok() != refused.stamp;
    parallel_filter_map(all, |refused| (!is_stopped() && has_changed(refused)).then_some(refused.item))
}

/// Keeps the order.
fn parallel_filter_map<'a, T: Sync, R: Send>(all: &'a [T], look: impl Fn(&'a T) -> Option<R> + Sync) -> Vec<R> {
    let share = all.len().div_ceil(MAX_THREADS).max(MIN_CHECKS_PER_THREAD);
    if all.len() <= share {
        return all.iter().filter_map(look).collect();
    }
    std::thread::scope(|scope| {
        let look_at = |share: &'a [T]| share.iter().filter_map(&look).collect::<Vec<R>>();
        let begun: Vec<_> = (all.chunks(share))
            // Where no thread is to be had any more, this one looks.
            .map(|share| Builder::new().spawn_scoped(scope, move || look_at(share)).map_err(|_| look_at(share)))
            .collect();
        let ended = |looked: ScopedJoinHandle<'_, Vec<R>>| looked.join().expect("looking at a file does not panic");
        begun.into_iter().flat_map(|share| share.map_or_else(|looked| looked, ended)).collect()
    })
}

/// None: it can't be told.
fn read(before: &EnrolledBefore, on_change: OnChange, rules: &Rules) -> Option<PhotoLook> {
    let other = match on_change {
        OnChange::Keep => Seen::Other,
        OnChange::Replace => Seen::Replacement,
    };
    let seen = match &before.photo {
        KnownPhoto::Other => other,
        KnownPhoto::File { path, digest, .. } => match picture::digest(path, rules) {
            Ok((found, stamp)) if Some(found) == *digest => Seen::Same(stamp),
            Ok(_) | Err(LoadError::Defect(_)) => other,
            Err(LoadError::Io(error)) => {
                tracing::warn!(%error, "a photo that has changed can't be read just now");
                return None;
            }
        },
    };
    Some(PhotoLook { item: before.item, seen })
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
