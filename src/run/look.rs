//! Looks at the photos of people who are known: is it still the one that was sent, or refused?
//!
//! Mostly the size and the time of the file tell. Several are looked at beside one another: each look waits for the disk,
//! or for a file server.

use std::{
    path::Path,
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread::{Builder, ScopedJoinHandle},
};

use super::feed::OnChange;
use crate::{
    checkpoint::{EnrolledBefore, KnownPhoto, PhotoLook, RefusedBefore, Seen},
    domain::{FileStamp, ItemId},
    picture::{self, LoadError, Rules},
};

/// Looks under way at once.
const LOOKERS: usize = 8;
/// Looks that are worth a thread.
const FEWEST: usize = 64;

/// Looks at photos, and remembers whether any was there.
pub(super) struct PhotoObserver {
    rules: Rules,
    on_change: OnChange,
    may_lead_out: bool,
    has_found: AtomicBool,
}

impl PhotoObserver {
    pub(super) fn new(rules: Rules, on_change: OnChange, may_lead_out: bool) -> Self {
        Self { rules, on_change, may_lead_out, has_found: AtomicBool::new(false) }
    }

    /// Was any photo there?
    pub(super) fn has_found(&self) -> bool {
        self.has_found.load(Relaxed)
    }

    /// What there is to tell of these photos.
    pub(super) fn look_at_enrolled(&self, all: &[EnrolledBefore]) -> Vec<PhotoLook> {
        let suspect = beside_one_another(all, |before| self.is_suspect(&before.photo).then_some(before));
        // Few, and one by one: each of these is read, and held in memory.
        suspect.into_iter().filter_map(|before| self.read(before)).collect()
    }

    /// Those whose photo is another one now, or is there now.
    pub(super) fn look_at_refused(&self, all: &[RefusedBefore]) -> Vec<ItemId> {
        beside_one_another(all, |refused| {
            (self.stamp(&refused.path, &refused.root) != refused.stamp).then_some(refused.item)
        })
    }

    fn root<'a>(&self, root: &'a Path) -> Option<&'a Path> {
        (!self.may_lead_out).then_some(root)
    }

    fn stamp(&self, path: &Path, root: &Path) -> Option<FileStamp> {
        let stamp = picture::stamp(path, self.root(root)).ok()?;
        self.has_found.store(true, Relaxed);
        Some(stamp)
    }

    /// False: as far as can be told without reading it, it is the photo that was sent.
    fn is_suspect(&self, photo: &KnownPhoto) -> bool {
        match photo {
            KnownPhoto::Other => true,
            KnownPhoto::File { digest: None, .. } if self.has_found() => false,
            KnownPhoto::File { path, root, stamp, digest } => {
                let found = self.stamp(path, root);
                digest.is_some() && found.is_some() && found != *stamp
            }
        }
    }

    /// None: it can't be told.
    fn read(&self, before: &EnrolledBefore) -> Option<PhotoLook> {
        let other = match self.on_change {
            OnChange::Keep => Seen::Other,
            OnChange::Replace => Seen::Replacement,
        };
        let seen = match &before.photo {
            KnownPhoto::Other => other,
            KnownPhoto::File { path, root, digest, .. } => match picture::digest(path, self.root(root), &self.rules) {
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
}

/// What there is to tell of each, in their order.
fn beside_one_another<'a, T: Sync, R: Send>(all: &'a [T], look: impl Fn(&'a T) -> Option<R> + Sync) -> Vec<R> {
    let share = all.len().div_ceil(LOOKERS).max(FEWEST);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_are_looked_at_once_and_told_of_in_their_order() {
        for n in [0, 1, FEWEST, FEWEST + 1, 10_000] {
            let all: Vec<usize> = (0..n).collect();
            let odd = beside_one_another(&all, |n| (n % 2 == 1).then_some(*n));
            assert_eq!(odd, (0..n).filter(|n| n % 2 == 1).collect::<Vec<_>>());
        }
    }
}
