//! The seam under the journal: segments as files, written in whole blocks.
//!
//! It owns segment files, the ring that writes them and their buffers. It must never know what a block means.
//! Two implementations: [`RingStorage`] (real files, a ring of its own) and, in tests and fuzz targets, a simulated disk that loses,
//! tears, flips, moves and refuses what it likes.
//!
//! Invariants the journal relies on: a write that was reported as done was synced to the disk first; a
//! segment that was reported as prepared exists after a power cut, at its full length, filled with zeros; a segment
//! that was removed leaves a mark, so that a lost file is not taken for a removed one.

use bytes::Bytes;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

mod buffer;
mod files;
mod real;
#[cfg(any(test, fuzzing))]
pub mod simulated;

pub use buffer::BlockBuffer;
pub use real::RingStorage;

/// Everything on disk is a multiple of this, at a multiple of this.
pub const BLOCK_BYTES: usize = 4096;

/// One segment: a stream's number as the journal counts them, and the segment's number within it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId {
    /// Index into the folder names the storage was opened with.
    pub stream: u8,
    /// From 1.
    pub number: u32,
}

/// A segment met when the storage was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundSegment {
    /// Which.
    pub id: SegmentId,
    /// Length of its file in bytes.
    pub bytes: u64,
    /// It was removed on purpose; only its mark is left.
    pub removed: bool,
}

/// One write of the batch that lies in the stream's buffer, from its start.
#[derive(Clone, Copy, Debug)]
pub struct BatchWrite {
    /// Where to.
    pub id: SegmentId,
    /// Byte offset in the segment, a multiple of [`BLOCK_BYTES`].
    pub offset: u32,
    /// Bytes of the buffer to write, a multiple of [`BLOCK_BYTES`].
    pub bytes: usize,
}

/// What the storage reports, in the order in which it happened.
#[derive(Debug)]
pub enum Event {
    /// The stream's batch is written and synced, or why not. After a failure nothing may be assumed of the file.
    Written {
        /// The stream.
        stream: u8,
        /// A short write is a failure too.
        result: io::Result<()>,
    },
    /// The segment is ready to be written, or why not.
    Prepared {
        /// The segment.
        id: SegmentId,
        /// `StorageFull` is worth another try later.
        result: io::Result<()>,
    },
}

/// The writing side, owned by one thread.
pub trait Storage {
    /// Every segment and every mark of a removed one, in any order.
    fn survey(&mut self) -> io::Result<Vec<FoundSegment>>;

    /// Reads blocks into `into` from `offset`; fewer bytes at the end of the file. Blocks the thread: only while opening.
    fn read_blocks(&mut self, id: SegmentId, offset: u32, into: &mut [u8]) -> io::Result<usize>;

    /// Writes whole blocks and waits until they are on the disk. Blocks the thread: only while opening.
    fn write_synced(&mut self, id: SegmentId, offset: u32, blocks: &BlockBuffer) -> io::Result<()>;

    /// Makes a segment of zeros and waits until it is on the disk. Blocks the thread: only while opening.
    fn create(&mut self, id: SegmentId, bytes: u32) -> io::Result<()>;

    /// Makes a segment of zeros in the background; an [`Event::Prepared`] follows.
    fn prepare(&mut self, id: SegmentId, bytes: u32);

    /// The prepared segment is wanted soon: finish it at full speed.
    fn hurry(&mut self);

    /// A full segment that will be read: brings it into the page cache in the background. A hint: nothing depends on it.
    fn warm(&mut self, id: SegmentId);

    /// Removes a segment in the background and leaves a mark.
    fn remove(&mut self, id: SegmentId);

    /// The buffer into which the stream's next batch is laid. Not to be touched between `submit` and `Written`.
    fn buffer(&mut self, stream: u8) -> &mut BlockBuffer;

    /// Starts all `writes` at once, each followed by its sync; one [`Event::Written`] for each follows.
    fn submit(&mut self, writes: &[BatchWrite]) -> io::Result<()>;

    /// The next event; wakes the task when there is one.
    fn poll_event(&mut self, cx: &mut Context<'_>) -> Poll<Event>;

    /// Bytes of the file system that are left to us.
    fn free_bytes(&mut self) -> io::Result<u64>;

    /// Microseconds since some start; never goes back.
    fn now_us(&self) -> u64;

    /// Ready once `now_us` has reached `deadline_us`.
    fn poll_until(&mut self, deadline_us: u64, cx: &mut Context<'_>) -> Poll<()>;

    /// The storage failed in a way that leaves nothing to rely on: end the process. Returns only in a simulation, where
    /// the caller must return too, without another word to anybody.
    fn die(&mut self, why: &str);

    /// The reading side.
    fn reads(&self) -> Arc<dyn SegmentReads>;
}

/// A read in flight on the current thread's ring.
pub type RingRead<'a> = Pin<Box<dyn Future<Output = io::Result<Vec<u8>>> + 'a>>;

/// The reading side, used from any thread. A missing segment is `NotFound`. Reads are short at the end of the file.
pub trait SegmentReads: Send + Sync {
    /// `bytes` of what can be read without waiting; `None` when the disk would have to be asked.
    fn read_cached(&self, id: SegmentId, offset: u64, bytes: usize) -> io::Result<Option<Vec<u8>>>;

    /// Reads, and blocks the thread for it.
    fn read_blocking(&self, id: SegmentId, offset: u64, into: &mut [u8]) -> io::Result<usize>;

    /// Reads `bytes` through the current thread's `tokio_uring` runtime.
    fn read_on_ring(&self, id: SegmentId, offset: u64, bytes: usize) -> RingRead<'_>;

    /// Reads much at once that is not looked at again soon, around the page cache where it is not there; less at the end of the
    /// segment. Blocks the thread.
    fn read_run(&self, id: SegmentId, offset: u64, bytes: usize) -> io::Result<Bytes>;

    /// Forgets an open segment that was removed.
    fn forget(&self, id: SegmentId);
}
