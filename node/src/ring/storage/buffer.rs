//! Memory that a direct write accepts: aligned to a block, a whole number of blocks long, zeroed when made.

use super::BLOCK_BYTES;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;

/// A block-aligned buffer of whole blocks.
pub struct BlockBuffer {
    start: NonNull<u8>,
    bytes: usize,
}

// SAFETY: the buffer is plain owned memory; nothing in it is tied to a thread.
unsafe impl Send for BlockBuffer {}

impl BlockBuffer {
    /// A buffer of at least `bytes` (rounded up to whole blocks, one at the least), all zero.
    pub fn new(bytes: usize) -> BlockBuffer {
        let bytes = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Self::layout(bytes);
        // SAFETY: the layout has a size above zero.
        let start = unsafe { alloc_zeroed(layout) };
        match NonNull::new(start) {
            Some(start) => BlockBuffer { start, bytes },
            None => handle_alloc_error(layout),
        }
    }

    /// A buffer that holds `from`, filled up with zeros.
    pub fn holding(from: &[u8]) -> BlockBuffer {
        let mut buffer = BlockBuffer::new(from.len());
        buffer[..from.len()].copy_from_slice(from);
        buffer
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, BLOCK_BYTES).expect("a block is a power of two and buffers are small")
    }
}

impl Drop for BlockBuffer {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` with this very layout, and freed only here.
        unsafe { dealloc(self.start.as_ptr(), Self::layout(self.bytes)) }
    }
}

impl Deref for BlockBuffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `start` points to `bytes` initialised bytes that this value owns.
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.bytes) }
    }
}

impl DerefMut for BlockBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `deref`, and `&mut self` makes the access the only one.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.bytes) }
    }
}
