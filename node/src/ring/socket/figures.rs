//! What a driver counts. Written by its reactor thread alone, read by whoever shows metrics.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters of one driver since it started; `*_now` are gauges. Each is exact, all together are no snapshot.
#[derive(Debug, Default)]
pub struct RingFigures {
    /// Operations handed to the kernel.
    pub submissions: AtomicU64,
    /// Calls of `io_uring_enter` for them.
    pub enters: AtomicU64,
    /// Completions taken.
    pub completions: AtomicU64,
    /// Receives that ended because no buffer was free; each is re-armed once a buffer is.
    pub receives_starved: AtomicU64,
    /// Receives stopped because a connection's reader is behind.
    pub receives_stopped: AtomicU64,
    /// Accepts that ended because descriptors or memory ran out; accepting goes on after a pause.
    pub accepts_paused: AtomicU64,
    /// Provided buffers held by connections.
    pub buffers_held_now: AtomicU64,
    /// Connections whose descriptor is open.
    pub sockets_now: AtomicU64,
    /// Connections dropped by their owner that still deliver their last bytes.
    pub lingering_now: AtomicU64,
}

/// Adds to a counter that one thread writes.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Takes from a gauge.
pub(super) fn subtract(gauge: &AtomicU64, by: u64) {
    gauge.fetch_sub(by, Ordering::Relaxed);
}

/// Sets a gauge.
pub(super) fn set(gauge: &AtomicU64, to: u64) {
    gauge.store(to, Ordering::Relaxed);
}
