//! Buffers that are used again: fresh pages for each frame cost more than copying it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;

/// Frames below this are read into a buffer of their own size: the allocator is good at those.
const POOLED_MIN: usize = 16 * 1024;
/// A buffer is used for a frame that fills at least this part of it, so that a small frame that is kept for long does not pin much.
const WASTE_MAX: usize = 4;
const BUFFERS_MAX: usize = 64;

#[derive(Clone, Debug)]
pub(super) struct Pool {
    free: Arc<Mutex<Free>>,
}

#[derive(Debug)]
struct Free {
    buffers: Vec<Vec<u8>>,
    bytes: usize,
    bytes_max: usize,
}

/// A frame's bytes; its buffer goes back when the last slice of it is dropped.
struct Pooled {
    buffer: Vec<u8>,
    pool: Pool,
}

impl Pool {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { free: Arc::new(Mutex::new(Free { buffers: Vec::new(), bytes: 0, bytes_max })) }
    }

    /// An empty buffer: with room for `len` bytes if there is a fitting one, else without any.
    pub(super) fn take(&self, len: usize) -> Vec<u8> {
        if len < POOLED_MIN {
            return Vec::new();
        }
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |buffer: &&Vec<u8>| buffer.capacity() >= len && buffer.capacity() / WASTE_MAX <= len;
        let best = free.buffers.iter().filter(fits).map(Vec::capacity).min();
        let Some(at) = best.and_then(|best| free.buffers.iter().position(|buffer| buffer.capacity() == best)) else {
            return Vec::new();
        };
        let buffer = free.buffers.swap_remove(at);
        free.bytes -= buffer.capacity();
        buffer
    }

    /// Makes a frame of a filled buffer.
    pub(super) fn freeze(&self, buffer: Vec<u8>) -> Bytes {
        if buffer.capacity() < POOLED_MIN {
            Bytes::from(buffer)
        } else {
            Bytes::from_owner(Pooled { buffer, pool: self.clone() })
        }
    }

    /// The larger a buffer, the dearer it would be to get it again: when there are too many, the smallest go.
    fn give_back(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        if buffer.capacity() > free.bytes_max {
            return;
        }
        free.bytes += buffer.capacity();
        free.buffers.push(buffer);
        while free.buffers.len() > BUFFERS_MAX || free.bytes > free.bytes_max {
            let Some((smallest, _)) = free.buffers.iter().enumerate().min_by_key(|(_, buffer)| buffer.capacity()) else { break };
            free.bytes -= free.buffers.swap_remove(smallest).capacity();
        }
    }
}

/// How large a buffer for a frame of `len` bytes should be in the end: frames of about one size then fit into each other's buffers.
pub(super) fn room_for(len: usize) -> usize {
    if len < POOLED_MIN { len } else { len.next_power_of_two() }
}

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    fn used(pool: &Pool, len: usize) -> Bytes {
        let mut buffer = pool.take(len);
        buffer.resize(len, 7);
        pool.freeze(buffer)
    }

    #[test]
    fn a_buffer_goes_back_with_the_last_slice_of_its_frame_and_is_used_again() {
        let pool = Pool::new(1024 * KIB);
        let frame = used(&pool, 64 * KIB);
        let (place, slice) = (frame.as_ptr(), frame.slice(100..200));
        drop(frame);
        assert_eq!(pool.take(64 * KIB).capacity(), 0, "still in use");
        drop(slice);
        let again = pool.take(60 * KIB);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert_eq!(pool.take(64 * KIB).capacity(), 0, "given out once");
    }

    #[test]
    fn the_smallest_fitting_buffer_is_taken_and_none_that_would_be_wasted() {
        let pool = Pool::new(1024 * KIB);
        let frames = [used(&pool, 400 * KIB), used(&pool, 100 * KIB), used(&pool, 200 * KIB)];
        drop(frames);
        assert_eq!(pool.take(90 * KIB).capacity(), 100 * KIB);
        assert_eq!(pool.take(20 * KIB).capacity(), 0);
        assert_eq!(pool.take(1000 * KIB).capacity(), 0);
    }

    #[test]
    fn the_pool_keeps_a_limited_number_of_bytes_the_largest_buffers_and_no_small_ones() {
        let pool = Pool::new(200 * KIB);
        let frames: Vec<_> = (0..3).map(|_| used(&pool, 100 * KIB)).collect();
        drop(frames);
        assert_eq!(pool.free.lock().unwrap().bytes, 200 * KIB);
        drop(used(&pool, KIB));
        assert_eq!(pool.free.lock().unwrap().buffers.len(), 2);
        drop(used(&pool, 150 * KIB));
        assert_eq!(pool.free.lock().unwrap().bytes, 150 * KIB);
        drop(used(&pool, 201 * KIB));
        assert_eq!(pool.free.lock().unwrap().bytes, 150 * KIB, "larger than all that may be kept");
    }

    #[test]
    fn frames_of_about_one_size_share_buffers() {
        assert_eq!([100, 16 * KIB, 600 * KIB, 1000 * KIB].map(room_for), [100, 16 * KIB, 1024 * KIB, 1024 * KIB]);
    }
}
