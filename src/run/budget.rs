//! What a run may hold, or use up: bytes of photos in memory, and images of `--max-images`.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of photos and bodies held at once. At 80 KB a photo this is more than 128 of them.
const BYTES: u64 = 32 * 1024 * 1024;
/// A photo and its body: 1 + 4/3 (Base64) x 17/16 (percent-encoding) of the photo's size.
const PER_BYTE: f64 = 2.42;
/// Permits are counted in KiB: a semaphore has 2^61 of them at most, and a photo needs at least one.
const UNIT: u64 = 1024;

/// Room in memory for photos.
#[derive(Debug)]
pub(super) struct ByteBudget(Arc<Semaphore>);

/// A part of the budget, given back when it is dropped.
pub(super) struct Budgeted {
    _permit: OwnedSemaphorePermit,
}

impl Default for ByteBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((BYTES / UNIT) as usize)))
    }
}

impl ByteBudget {
    /// Waits for room for a photo of this many bytes. One that is larger than the whole budget has it to itself.
    pub(super) async fn acquire(&self, photo: u64) -> Budgeted {
        let needed = (photo as f64 * PER_BYTE) as u64 / UNIT + 1;
        let permits = u32::try_from(needed.min(BYTES / UNIT)).expect("the budget is below 4 TiB");
        let permit = Arc::clone(&self.0).acquire_many_owned(permits).await.expect("the semaphore is never closed");
        Budgeted { _permit: permit }
    }
}

/// `--max-images`.
#[derive(Debug)]
pub(super) struct Images {
    left: Option<AtomicU64>,
}

impl Images {
    pub(super) fn new(limit: Option<NonZeroU64>) -> Self {
        Self { left: limit.map(|limit| AtomicU64::new(limit.get())) }
    }

    /// One more, if there is one.
    pub(super) fn take(&self) -> bool {
        self.left.as_ref().is_none_or(|left| {
            left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn budget_holds_a_hundred_ordinary_photos_and_a_giant_alone() {
        let budget = ByteBudget::default();
        let held: Vec<_> = (0..500).map_while(|_| budget.acquire(80_000).now_or_never()).collect();
        assert!((128..250).contains(&held.len()), "{}", held.len());
        drop(held);
        let giant = budget.acquire(u64::MAX).await;
        assert!(budget.acquire(1).now_or_never().is_none());
        drop(giant);
        assert!(budget.acquire(1).now_or_never().is_some());
    }

    #[test]
    fn images_run_out_once() {
        let images = Images::new(NonZeroU64::new(2));
        assert_eq!([images.take(), images.take(), images.take(), images.take()], [true, true, false, false]);
        assert!(Images::new(None).take());
    }
}
