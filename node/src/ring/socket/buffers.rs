//! The buffers that the kernel fills: one group a ring, handed out by the kernel, given back by us.
//!
//! Invariant: a buffer is either in the kernel's ring or held by exactly one connection, never both.

use io_uring::Submitter;
use io_uring::types::BufRingEntry;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

/// The only buffer group of a ring.
pub(super) const GROUP: u16 = 0;
/// The kernel wants the ring of entries on a page boundary.
const PAGE_BYTES: usize = 4096;

/// A ring of equal buffers in memory that is touched only as far as it is used.
pub(super) struct Buffers {
    entries: *mut BufRingEntry,
    entries_layout: Layout,
    data: *mut u8,
    data_layout: Layout,
    count: u16,
    buffer_bytes: usize,
    tail: u16,
    held: usize,
}

impl Buffers {
    /// Allocates `count` (a power of two, at most 32,768) buffers and registers them with the ring.
    ///
    /// # Errors
    /// What the kernel says when it has no buffer rings or no memory for one.
    pub(super) fn register(submitter: &Submitter<'_>, count: u16, buffer_bytes: usize) -> io::Result<Buffers> {
        assert!(count.is_power_of_two() && buffer_bytes > 0, "buffer ring geometry");
        let entries_layout = Layout::array::<BufRingEntry>(usize::from(count))
            .and_then(|layout| layout.align_to(PAGE_BYTES))
            .expect("at most 32,768 entries of 16 bytes");
        let data_layout = Layout::from_size_align(usize::from(count) * buffer_bytes, PAGE_BYTES)
            .expect("a few MiB fit the address space");
        // SAFETY: both layouts have a size above zero.
        let (entries, data) = unsafe {
            (
                alloc_zeroed(entries_layout).cast::<BufRingEntry>(),
                alloc_zeroed(data_layout),
            )
        };
        if entries.is_null() || data.is_null() {
            handle_alloc_error(data_layout);
        }
        let mut buffers = Buffers {
            entries,
            entries_layout,
            data,
            data_layout,
            count,
            buffer_bytes,
            tail: 0,
            held: usize::from(count),
        };
        // SAFETY: the entries are page-aligned, zeroed and live until this value is dropped, which the driver does
        // only after it has closed the ring.
        unsafe { submitter.register_buf_ring(entries as u64, count, GROUP)? };
        for id in 0..count {
            buffers.give_back(id);
        }
        Ok(buffers)
    }

    /// How many buffers there are.
    pub(super) fn count(&self) -> usize {
        usize::from(self.count)
    }

    /// How many are out of the kernel's ring, as far as we have been told.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// Notes that the kernel filled one buffer for us.
    pub(super) fn taken(&mut self) {
        self.held += 1;
    }

    /// The first `bytes` bytes of a buffer that we hold.
    pub(super) fn bytes(&self, id: u16, bytes: usize) -> &[u8] {
        assert!(
            id < self.count && bytes <= self.buffer_bytes,
            "the kernel names a buffer of ours"
        );
        // SAFETY: in bounds by the line above, initialised (zeroed at allocation), and the kernel does not write to
        // a buffer that is not in its ring.
        unsafe { std::slice::from_raw_parts(self.data.add(usize::from(id) * self.buffer_bytes), bytes) }
    }

    /// Gives a buffer back to the kernel.
    pub(super) fn give_back(&mut self, id: u16) {
        assert!(id < self.count && self.held > 0, "only a held buffer is given back");
        let slot = usize::from(self.tail & (self.count - 1));
        // SAFETY: the slot is inside the ring of entries, and the kernel reads it only after the tail has passed it.
        // The entry's fields that are set here do not overlap the tail, which lies in the unused part of entry 0.
        let tail = unsafe {
            let entry = &mut *self.entries.add(slot);
            entry.set_addr(self.data.add(usize::from(id) * self.buffer_bytes) as u64);
            entry.set_len(self.buffer_bytes as u32);
            entry.set_bid(id);
            &*BufRingEntry::tail(self.entries).cast::<AtomicU16>()
        };
        self.tail = self.tail.wrapping_add(1);
        // Release: the kernel must see the entry before it sees the tail.
        tail.store(self.tail, Ordering::Release);
        self.held -= 1;
    }
}

impl Drop for Buffers {
    fn drop(&mut self) {
        // SAFETY: allocated in `register` with these layouts; the ring is closed and no operation is in flight.
        unsafe {
            dealloc(self.entries.cast(), self.entries_layout);
            dealloc(self.data, self.data_layout);
        }
    }
}
