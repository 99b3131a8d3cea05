//! Looks at the photos of people who are known: is it still the one that was sent, or refused?
//!
//! Mostly the size and the time of the file tell. Several are looked at beside one another: each look waits for the disk,
//! or for a file server.

use std::thread::{Builder, ScopedJoinHandle};

use super::feed::OnChange;
use crate::{
    checkpoint::{EnrolledBefore, KnownPhoto, PhotoLook, RefusedBefore, Seen},
    domain::ItemId,
    picture::{self, LoadError, Rules},
};

/// Looks under way at once.
const LOOKERS: usize = 8;
/// Looks that are worth a thread.
const FEWEST: usize = 64;

/// What there is to tell of these photos.
pub(super) fn at_enrolled(all: &[EnrolledBefore], on_change: OnChange, rules: &Rules) -> Vec<PhotoLook> {
    let suspect = beside_one_another(all, |before| is_suspect(&before.photo).then_some(before));
    // Few, and one by one: each of these is read, and held in memory.
    suspect.into_iter().filter_map(|before| read(before, on_change, rules)).collect()
}

/// Those whose photo is another one now, or is there now.
pub(super) fn at_refused(all: &[RefusedBefore]) -> Vec<ItemId> {
    let is_changed = |refused: &RefusedBefore| match picture::stamp(&refused.path) {
        Ok(found) => Some(found) != refused.stamp,
        Err(error) if is_absence(&error) => refused.stamp.is_some(),
        // The machine's trouble tells nothing of the photo.
        Err(_) => false,
    };
    beside_one_another(all, |refused| is_changed(refused).then_some(refused.item))
}

/// Is there no such file, or none for us, whatever the machine's state?
fn is_absence(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | PermissionDenied | InvalidInput | InvalidFilename)
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

/// False: as far as can be told without reading it, it is the photo that was sent.
fn is_suspect(photo: &KnownPhoto) -> bool {
    match photo {
        KnownPhoto::Other => true,
        KnownPhoto::File { path, stamp, digest } => {
            digest.is_some() && picture::stamp(path).is_ok_and(|found| Some(found) != *stamp)
        }
    }
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
    fn all_are_looked_at_once_and_told_of_in_their_order() {
        for n in [0, 1, FEWEST, FEWEST + 1, 10_000] {
            let all: Vec<usize> = (0..n).collect();
            let odd = beside_one_another(&all, |n| (n % 2 == 1).then_some(*n));
            assert_eq!(odd, (0..n).filter(|n| n % 2 == 1).collect::<Vec<_>>());
        }
    }
}
