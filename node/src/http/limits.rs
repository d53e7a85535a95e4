//! Every bound of the front door, with its default. Configuration may set each.

use crate::base::limits::REQUEST_BODY_BYTES_MAX;
use std::time::Duration;

/// The bounds. What happens at each is said with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Request line and headers, bytes (at least 1,024, at most 60 KiB); above: 431, connection closed. For HTTP/2
    /// it is the decoded size, 32 bytes a field more.
    pub header_bytes_max: usize,
    /// Headers of one request; above: 431.
    pub headers_max: usize,
    /// Body of one request, announced or actual, bytes; above: 413.
    pub body_bytes_max: u64,
    /// Connections of all reactors together; above: closed at once.
    pub connections_max: usize,
    /// Connections of one address, loopback excepted (a proxy on this host speaks for many); above: closed at once.
    pub connections_per_address_max: usize,
    /// From accept to the end of the TLS handshake; above: closed.
    pub handshake_ms_max: u64,
    /// From the first byte of a request (from the handshake, for the first one) to the end of its headers; above:
    /// 408, connection closed.
    pub header_ms_max: u64,
    /// Without a request on a connection that has had one; above: closed.
    pub idle_ms_max: u64,
    /// Time spent waiting for body bytes within which `progress_bytes_min` must arrive; above: 408, closed.
    pub body_progress_ms_max: u64,
    /// Time spent waiting for a reader within which it must take `progress_bytes_min`; above: connection reset.
    pub write_progress_ms_max: u64,
    /// The least progress in the two windows above, bytes.
    pub progress_bytes_min: u64,
    /// Requests being answered, of all reactors; above: 503 with Retry-After.
    pub requests_max: usize,
    /// Memory that requests being answered may take, as estimated from their announced length (16 KiB to 1 MiB
    /// each); above: 503 with Retry-After.
    pub requests_bytes_max: u64,
    /// Seconds of Retry-After with a 503 that names no other.
    pub retry_after_s: u32,
    /// Requests at once on one HTTP/2 connection; above: the stream is refused.
    pub streams_max: u32,
    /// HTTP/2 streams reset before they were answered; above: connection closed.
    pub streams_reset_max: usize,
    /// Interval of HTTP/2 pings, and how long each may stay unanswered.
    pub ping_ms: u64,
    /// How long running requests may go on after shutdown was asked for.
    pub shutdown_ms_max: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            header_bytes_max: 16 * 1024,
            headers_max: 100,
            body_bytes_max: REQUEST_BODY_BYTES_MAX,
            connections_max: 20_000,
            connections_per_address_max: 4_000,
            handshake_ms_max: 10_000,
            header_ms_max: 10_000,
            idle_ms_max: 75_000,
            body_progress_ms_max: 20_000,
            write_progress_ms_max: 20_000,
            progress_bytes_min: 4 * 1024,
            requests_max: 4_096,
            requests_bytes_max: 512 * 1024 * 1024,
            retry_after_s: 2,
            streams_max: 128,
            streams_reset_max: 64,
            ping_ms: 20_000,
            shutdown_ms_max: 20_000,
        }
    }
}

impl Limits {
    /// How often connections are checked against their deadlines: fine enough for the shortest of them.
    pub(super) fn sweep_interval(&self) -> Duration {
        let shortest = [self.header_ms_max, self.idle_ms_max, self.write_progress_ms_max]
            .into_iter()
            .min()
            .expect("three limits");
        Duration::from_millis((shortest / 8).clamp(10, 500))
    }
}
