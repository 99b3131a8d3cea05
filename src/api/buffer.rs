//! Buffers for bodies, used again and again.
//!
//! A body is made on one thread and dropped on another, after its answer. Given back to the allocator, its pages go back to
//! the system, to be fetched and cleared for the next one: a tenth of what a photo costs.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;

/// Buffers kept: as many as there are bodies at once, with the default concurrency.
const MAX_POOLED: usize = 128;
/// A smaller one is not made. The allocator maps what is as large as that by itself (glibc: from 128 KiB on), and returns
/// it whole; smaller ones, made on one thread and dropped on another, tear holes into the memory of each. What is not used
/// of it takes no memory.
const SMALLEST: usize = 160 * 1024;
/// A larger one is not kept. The body of an ordinary photo takes 110 KB.
const LARGEST: usize = 256 * 1024;

static SPARE: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());

/// An empty buffer with so much room.
pub(super) fn take(room: usize) -> Vec<u8> {
    let spare = if room <= LARGEST { SPARE.lock().unwrap_or_else(PoisonError::into_inner).pop() } else { None };
    let mut buffer = spare.unwrap_or_default();
    // More than it takes would soon be too large to be kept.
    buffer.reserve_exact(room.max(SMALLEST));
    buffer
}

/// As what is sent. When the last of it is dropped, the buffer is spare again.
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
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        if spare.len() < MAX_POOLED && buffer.capacity() <= LARGEST {
            spare.push(buffer);
        }
    }
}
