//! What the front door counts, over all reactors. Read by whoever shows metrics; nothing in it names a client.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since start; `*_now` are gauges.
#[derive(Debug, Default)]
pub struct DoorFigures {
    /// Open connections.
    pub connections_now: AtomicU64,
    /// Accepted connections.
    pub connections: AtomicU64,
    /// Closed at once: too many in all.
    pub refused_connections: AtomicU64,
    /// Closed at once: too many from one address.
    pub refused_address: AtomicU64,
    /// Full TLS handshakes.
    pub handshakes_full: AtomicU64,
    /// Resumed TLS handshakes.
    pub handshakes_resumed: AtomicU64,
    /// Failed TLS handshakes, those too slow included.
    pub handshakes_failed: AtomicU64,
    /// Requests being answered.
    pub requests_now: AtomicU64,
    /// Requests taken.
    pub requests: AtomicU64,
    /// Requests answered 503 by the front door.
    pub shed: AtomicU64,
    /// Requests refused for an announced or actual body over the limit.
    pub refused_body: AtomicU64,
    /// Requests refused because the client's certificate is no longer valid.
    pub refused_certificate: AtomicU64,
    /// Connections refused for unreadable or too large headers (400, 414, 431).
    pub refused_header: AtomicU64,
    /// Connections closed for slow headers.
    pub slow_header: AtomicU64,
    /// Requests ended for a slow body.
    pub slow_body: AtomicU64,
    /// Connections reset for a slow reader.
    pub slow_reader: AtomicU64,
    /// Connections closed because they were idle.
    pub idle: AtomicU64,
    /// Bytes read from clients, after TLS.
    pub bytes_in: AtomicU64,
    /// Bytes written to clients, before TLS.
    pub bytes_out: AtomicU64,
}

/// Adds one.
pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Adds some.
pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Takes one from a gauge.
pub(super) fn uncount(gauge: &AtomicU64) {
    gauge.fetch_sub(1, Ordering::Relaxed);
}
