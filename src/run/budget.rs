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
const BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of decoded pictures held at once: eight of 12 megapixels at full size, or one of the largest.
const DECODED: u64 = 512 * 1024 * 1024;
/// A photo and its body: 1 + 4/3 (Base64) x 17/16 (percent-encoding) of the photo's size.
const PER_BYTE: f64 = 2.42;
/// Permits are counted in KiB: a semaphore has 2^61 of them at most, and a photo needs at least one.
const UNIT: u64 = 1024;

/// Photos that are read and prepared at once, each on a blocking thread: they wait for disks, and for room in memory, more
/// than they work.
pub const MAX_PREPARING: usize = 8;

/// Room in memory for photos.
#[derive(Debug)]
pub(super) struct ByteBudget(Arc<Semaphore>);

/// A part of the budget, given back when it is dropped.
pub(super) struct BytePermit(OwnedSemaphorePermit);

impl Default for ByteBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((BYTES / UNIT) as usize)))
    }
}

impl ByteBudget {
    /// Waits for room for a photo of this many bytes. One that is larger than the whole budget has it to itself.
    pub(super) async fn acquire(&self, photo: u64) -> BytePermit {
        let permits = permits(photo as f64 * PER_BYTE, BYTES);
        BytePermit(Arc::clone(&self.0).acquire_many_owned(permits).await.expect("the semaphore is never closed"))
    }
}

impl BytePermit {
    /// The photo has become this small: the rest is given back.
    pub(super) fn shrink(&mut self, photo: u64) {
        let needed = permits(photo as f64 * PER_BYTE, BYTES) as usize;
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }
}

fn permits(bytes: f64, budget: u64) -> u32 {
    let needed = (bytes / UNIT as f64) as u64 + 1;
    u32::try_from(needed.min(budget / UNIT)).expect("budgets are below 4 TiB")
}

/// Where pictures are decoded: as many at once as there are processors, and only so much of them.
#[derive(Debug)]
pub(super) struct DecodeLimiter {
    places: Arc<Semaphore>,
    decoded: Arc<Semaphore>,
}

/// A place at the workbench, given back when it is dropped.
pub(super) struct DecodePermit {
    _place: OwnedSemaphorePermit,
    _decoded: OwnedSemaphorePermit,
}

impl Default for DecodeLimiter {
    fn default() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            places: Arc::new(Semaphore::new(processors)),
            decoded: Arc::new(Semaphore::new((DECODED / UNIT) as usize)),
        }
    }
}

impl DecodeLimiter {
    /// Waits for a place, and for room for a picture that takes this many bytes.
    pub(super) async fn acquire(&self, cost: u64) -> DecodePermit {
        let closed = "the semaphore is never closed";
        let place = Arc::clone(&self.places).acquire_owned().await.expect(closed);
        let decoded = Arc::clone(&self.decoded).acquire_many_owned(permits(cost as f64, DECODED)).await.expect(closed);
        DecodePermit { _place: place, _decoded: decoded }
    }
}

/// `--max-images`.
#[derive(Debug)]
pub(super) struct ImageLimit {
    left: Option<AtomicU64>,
}

impl ImageLimit {
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
    async fn byte_budget_holds_many_photos_or_one_giant() {
        let budget = ByteBudget::default();
        let held: Vec<_> = (0..500).map_while(|_| budget.acquire(80_000).now_or_never()).collect();
        assert!((128..500).contains(&held.len()), "{}", held.len());
        drop(held);
        let mut giant = budget.acquire(u64::MAX).await;
        assert!(budget.acquire(1).now_or_never().is_none());
        giant.shrink(80_000);
        assert!(budget.acquire(10_000_000).now_or_never().is_some(), "what a photo no longer takes is not given back");
        drop(giant);
        assert!(budget.acquire(1).now_or_never().is_some());
    }

    #[test]
    fn images_run_out_once() {
        let images = ImageLimit::new(NonZeroU64::new(2));
        assert_eq!([images.take(), images.take(), images.take(), images.take()], [true, true, false, false]);
        assert!(ImageLimit::new(None).take());
    }
}
