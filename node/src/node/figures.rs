//! What the node's own parts count: answered requests, the front door, each reactor's ring.

use crate::http::{Answered, Door};
use crate::metrics::{Metrics, Sample};
use crate::ring::socket::RingFigures;
use crate::systemd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One answered request: counted, and on the access log without anything a client sent.
pub(super) fn observe(metrics: &Metrics, answered: &Answered) {
    metrics.request(answered.route, answered.status, answered.micros);
    let writes = !matches!(answered.method, "GET" | "HEAD" | "OPTIONS");
    metrics.served.count(writes, answered.status, answered.micros);
    // What went well is counted and on the audit record; what did not is what somebody will ask about.
    if answered.status >= 400 {
        tracing::info!(
            request = %answered.id,
            method = answered.method,
            route = answered.route,
            status = answered.status,
            micros = answered.micros,
            bytes = answered.bytes_out,
            "answered"
        );
    } else {
        tracing::debug!(
            request = %answered.id,
            method = answered.method,
            route = answered.route,
            status = answered.status,
            micros = answered.micros,
            bytes = answered.bytes_out,
            "answered"
        );
    }
}

/// The figures of the front door and of each reactor's ring.
pub(super) fn sample(sample: &mut Sample, door: &Door, rings: &[(String, Option<Arc<RingFigures>>)]) {
    let figures = door.figures();
    let count = |value: &AtomicU64| value.load(Ordering::Relaxed) as f64;
    let plain = [
        ("connections_open", &figures.connections_now),
        ("connections_total", &figures.connections),
        ("requests_in_work", &figures.requests_now),
        ("shed_total", &figures.shed),
        ("idle_closed_total", &figures.idle),
        ("received_bytes_total", &figures.bytes_in),
        ("sent_bytes_total", &figures.bytes_out),
    ];
    for (name, value) in plain {
        sample.add(name, count(value));
    }
    let refused = [
        ("connections", &figures.refused_connections),
        ("address", &figures.refused_address),
        ("header", &figures.refused_header),
        ("body", &figures.refused_body),
        ("certificate", &figures.refused_certificate),
        ("slow-header", &figures.slow_header),
        ("slow-body", &figures.slow_body),
        ("slow-reader", &figures.slow_reader),
    ];
    for (why, value) in refused {
        sample.add_for("refused_total", "why", why, count(value));
    }
    let handshakes = [
        ("full", &figures.handshakes_full),
        ("resumed", &figures.handshakes_resumed),
        ("failed", &figures.handshakes_failed),
    ];
    for (kind, value) in handshakes {
        sample.add_for("handshakes_total", "kind", kind, count(value));
    }
    sample.add("log_lines_dropped_total", systemd::lines_dropped() as f64);
    for (thread, ring) in rings {
        let Some(ring) = ring else { continue };
        let counters: [(&'static str, &AtomicU64); 7] = [
            ("ring_submissions_total", &ring.submissions),
            ("ring_enters_total", &ring.enters),
            ("ring_completions_total", &ring.completions),
            ("ring_receives_starved_total", &ring.receives_starved),
            ("ring_accepts_paused_total", &ring.accepts_paused),
            ("ring_buffers_held", &ring.buffers_held_now),
            ("ring_sockets", &ring.sockets_now),
        ];
        for (name, value) in counters {
            sample.add_for(name, "thread", thread, count(value));
        }
    }
}
