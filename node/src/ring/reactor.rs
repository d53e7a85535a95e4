//! The runtime of one core thread: `tokio_uring` for files, with the socket driver's ring beside it.
//!
//! Owns the flags of the file ring. Knows nothing of what runs on the thread.

use std::io;

/// Entries of the file ring's submission queue. Files move in 256 KiB chunks, so few are in flight at once.
const FILE_RING_ENTRIES: u32 = 256;

/// Builds the runtime of the calling thread. Run everything of that thread inside `block_on`; tasks on it are
/// `!Send` and started by `tokio::task::spawn_local`.
///
/// Never spin with `yield_now` on it: the file ring is submitted only when the thread parks.
///
/// # Errors
/// When the kernel refuses the ring (no io_uring, memory lock limit).
pub fn runtime() -> io::Result<tokio_uring::Runtime> {
    let mut ring = tokio_uring::uring_builder();
    // Completions are handled when the thread enters the kernel anyway; no interrupt is sent for each.
    ring.setup_coop_taskrun().setup_taskrun_flag();
    let mut builder = tokio_uring::builder();
    builder.entries(FILE_RING_ENTRIES).uring_builder(&ring);
    // A runtime that fails to start keeps what it opened, so the memory is waited for with a plain ring of that size.
    super::make_patiently(|| io_uring::IoUring::new(FILE_RING_ENTRIES))?;
    tokio_uring::Runtime::new(&builder)
}
