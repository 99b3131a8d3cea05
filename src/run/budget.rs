//! Limits of a run: bytes of photos in memory, decoding, and `--max-images`.

use std::{
    num::NonZeroU64,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bytes of photos and bodies held at once. At 80 KB a photo this is more than 128 of them.
const MAX_PHOTO_BYTES: u64 = 64 * 1024 * 1024;
/// Bytes of decoded pictures held at once: eight of 12 megapixels at full size, or one of the largest size.
const MAX_DECODED_BYTES: u64 = 512 * 1024 * 1024;
/// Memory of a photo and its body, per byte of the photo: 1 + 4/3 (Base64) x 17/16 (percent-encoding).
const MEMORY_PER_BYTE: f64 = 2.42;
/// Bytes per permit: a semaphore has at most 2^61 permits, and a photo needs at least one.
const UNIT: u64 = 1024;

/// Photos prepared at once, each on a blocking thread, which mostly waits for a disk or for memory.
pub const MAX_PREPARING: usize = 8;

/// Budget of memory for photos.
#[derive(Debug)]
pub(super) struct ByteBudget(Arc<Semaphore>);

/// A share of the budget, released on drop.
pub(super) struct BytePermit(OwnedSemaphorePermit);

impl Default for ByteBudget {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new((MAX_PHOTO_BYTES / UNIT) as usize)))
    }
}

impl ByteBudget {
    /// Waits for room for a photo of this many bytes. One larger than the whole budget takes all of it.
    pub(super) async fn acquire(&self, photo: u64) -> BytePermit {
        let permits = permits(photo as f64 * MEMORY_PER_BYTE, MAX_PHOTO_BYTES);
        BytePermit(Arc::clone(&self.0).acquire_many_owned(permits).await.expect("the semaphore is never closed"))
    }
}

impl BytePermit {
    /// Releases what a photo of this size no longer needs.
    pub(super) fn shrink(&mut self, photo: u64) {
        let needed = permits(photo as f64 * MEMORY_PER_BYTE, MAX_PHOTO_BYTES) as usize;
        drop(self.0.split(self.0.num_permits().saturating_sub(needed)));
    }
}

fn permits(bytes: f64, budget: u64) -> u32 {
    let needed = (bytes / UNIT as f64) as u64 + 1;
    u32::try_from(needed.min(budget / UNIT)).expect("budgets are below 4 TiB")
}

/// Limits decoding to one picture per processor, and to [`MAX_DECODED_BYTES`].
#[derive(Debug)]
pub(super) struct DecodeLimiter {
    processors: Arc<Semaphore>,
    decoded: Arc<Semaphore>,
}

/// Permission to decode, released on drop.
pub(super) struct DecodePermit {
    _processor: OwnedSemaphorePermit,
    _decoded: OwnedSemaphorePermit,
}

impl Default for DecodeLimiter {
    fn default() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            processors: Arc::new(Semaphore::new(cpus)),
            decoded: Arc::new(Semaphore::new((MAX_DECODED_BYTES / UNIT) as usize)),
        }
    }
}

impl DecodeLimiter {
    /// Waits for a processor, and for room for a decoded picture of this many bytes.
    pub(super) async fn acquire(&self, cost: u64) -> DecodePermit {
        let closed = "the semaphore is never closed";
        let processor = Arc::clone(&self.processors).acquire_owned().await.expect(closed);
        let decoded =
            Arc::clone(&self.decoded).acquire_many_owned(permits(cost as f64, MAX_DECODED_BYTES)).await.expect(closed);
        DecodePermit { _processor: processor, _decoded: decoded }
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

    /// Takes one image. Returns false if the limit is reached.
    pub(super) fn take(&self) -> bool {
        self.left.as_ref().is_none_or(|left| {
            left.try_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1)).is_ok()
        })
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

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
    fn image_limit_is_exact() {
        let images = ImageLimit::new(NonZeroU64::new(2));
        assert_eq!([images.take(), images.take(), images.take(), images.take()], [true, true, false, false]);
        assert!(ImageLimit::new(None).take());
    }
}
