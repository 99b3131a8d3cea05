//! A pool of buffers for request bodies.
//!
//! A body is built on one thread and dropped on another, after its response. Without the pool, the allocator would return
//! its pages to the system and fetch cleared ones for the next body, which is a tenth of the cost of a photo, and a run would
//! take 12 MiB more.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Maximum number of pooled buffers: the number of bodies in flight at the default concurrency.
const MAX_POOLED: usize = 128;
/// Smallest capacity that is allocated. Above 128 KiB, glibc maps an allocation separately and returns it as a whole;
/// smaller ones, freed on another thread, fragment the memory of both. The unused part takes no memory.
const MIN_CAPACITY: usize = 160 * 1024;
/// Largest capacity that is pooled. The body of an ordinary photo takes 110 KB.
const MAX_POOLED_CAPACITY: usize = 256 * 1024;

static POOL: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An empty buffer with at least this capacity.
pub(super) fn get(capacity: usize) -> Vec<u8> {
    let pooled =
        if capacity <= MAX_POOLED_CAPACITY { POOL.lock().unwrap_or_else(PoisonError::into_inner).pop() } else { None };
    let mut buffer = pooled.unwrap_or_default();
    // Exact, because growing by doubling would soon exceed the pooled size.
    buffer.reserve_exact(capacity.max(MIN_CAPACITY));
    buffer
}

/// Converts a buffer to `Bytes`. It returns to the pool when the last reference is dropped.
pub(super) fn into_bytes(buffer: Vec<u8>) -> Bytes {
    Bytes::from_owner(PooledBuffer(buffer))
}

struct PooledBuffer(Vec<u8>);

impl AsRef<[u8]> for PooledBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PooledBuffer {
    fn drop(&mut self) {
        let mut buffer = std::mem::take(&mut self.0);
        buffer.clear();
        let mut pooled = POOL.lock().unwrap_or_else(PoisonError::into_inner);
        if pooled.len() < MAX_POOLED && buffer.capacity() <= MAX_POOLED_CAPACITY {
            pooled.push(buffer);
        }
    }
}
