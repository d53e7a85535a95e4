//! Figures for Prometheus. Every handle is registered once at start, so that a request touches atomics only.
//!
//! Owns: the names, units and labels below, and the page that shows them. Must never know: who a request was for.
//! Invariants: labels come from closed sets (routes, status classes, reactors), except the mailboxes, of which only the
//! [`MAILBOXES_SHOWN_MAX`] deepest are shown; no label ever holds a person's data.
//!
//! | name | kind, unit | labels | tells |
//! |---|---|---|---|
//! | `vertebra_requests_total` | counter | `route`, `class` (2xx…5xx) | requests answered |
//! | `vertebra_request_seconds` | histogram, s | `route` | from the last header to the end of the answer |
//! | `vertebra_connections_total` | counter | | connections accepted |
//! | `vertebra_connections_open` | gauge | | connections now |
//! | `vertebra_refused_total` | counter | `why` | connections and requests that broke a limit: too many, too large, too slow, revoked |
//! | `vertebra_requests_in_work` | gauge | | requests being answered |
//! | `vertebra_idle_closed_total` | counter | | connections closed because they were idle |
//! | `vertebra_received_bytes_total`, `vertebra_sent_bytes_total` | counter, bytes | | from and to clients, inside TLS |
//! | `vertebra_handshakes_total` | counter | `kind` (full, resumed, failed) | TLS handshakes; failed ones are refusals before authentication |
//! | `vertebra_authentications_refused_total` | counter | | requests answered 403: token, certificate or mailbox did not fit |
//! | `vertebra_shed_total` | counter | | requests answered 503 because a limit of load was reached |
//! | `vertebra_thread_turns_total` | counter | `thread` | turns of each reactor and of the journal, as the watchdog sees them |
//! | `vertebra_ring_…` | gauges and counters | `thread` | use of each reactor's ring, as the socket driver counts it |
//! | `vertebra_journal_records_total` | counter | | records appended |
//! | `vertebra_journal_batches_total` | counter | | batches, one fsync each; records/batches is the batch size |
//! | `vertebra_journal_written_bytes_total` | counter, bytes | | written, blocks included |
//! | `vertebra_journal_sync_microseconds_total` | counter, µs | | time in write and fsync; divided by batches: the mean |
//! | `vertebra_journal_sync_seconds_last` | gauge, s | | the last write and fsync |
//! | `vertebra_journal_queue_bytes`, `…_queue_records` | gauge | | what waits for the next batch |
//! | `vertebra_disk_free_bytes` | gauge, bytes | | free on the data folder's file system |
//! | `vertebra_log_applied_index`, `…_committed_index`, `…_last_index`, `…_first_index`, `…_checkpoint_index` | gauge | | log positions |
//! | `vertebra_log_queue_commands` | gauge | | proposals that wait |
//! | `vertebra_log_leader` | gauge | | 1 when this node leads |
//! | `vertebra_ledger_dirty_bytes` | gauge, bytes | | waits for the next checkpoint |
//! | `vertebra_audit_entries` | gauge | | entries in this node's audit chain |
//! | `vertebra_events_waiting`, `…_waiting_bytes` | gauge; gauge, bytes | | events in the outbox |
//! | `vertebra_events_lag_seconds` | gauge, s | | age of the oldest of them |
//! | `vertebra_events_parked` | gauge | | events that the broker did not take |
//! | `vertebra_events_dropped_total` | counter | | events that went into a gap at the outbox's bound |
//! | `vertebra_events_published_total`, `…_confirmed_total`, `…_parked_total`, `…_resyncs_total` | counter | | what this node's publisher handed over and heard; published counts again what was sent again |
//! | `vertebra_events_watermarks_total` | counter | | watermarks of confirmed events in the log |
//! | `vertebra_events_sessions_lost_total` | counter | | connections to RabbitMQ that ended by a fault |
//! | `vertebra_events_publishing` | gauge | | 1 while connected to RabbitMQ and not blocked by it |
//! | `vertebra_redis_up` | gauge | | 1 while Redis is asked; no figure of Redis without one |
//! | `vertebra_redis_nonces_total` | counter | `answer` (first, taken, none) | tokens of reads claimed there; `none`: it did not say, so this node alone decided |
//! | `vertebra_redis_rates_total` | counter | | buckets of clients charged there |
//! | `vertebra_redis_late_total`, `…_refused_total` | counter | | answers that came too late; commands it refused |
//! | `vertebra_redis_sessions_lost_total` | counter | | connections that ended by a fault |
//! | `vertebra_redis_forgotten_total` | counter | | how often it had forgotten what this node had told it |
//! | `vertebra_redis_memory_bytes`, `…_memory_bytes_max` | gauge, bytes | | what it says of its memory; bound 0: none |
//! | `vertebra_mailboxes` | gauge | | mailboxes registered |
//! | `vertebra_inbox_messages` | gauge | | messages waiting in all inboxes |
//! | `vertebra_inbox_oldest_seconds` | gauge, s | | age of the oldest waiting message |
//! | `vertebra_mailbox_inbox_messages`, `vertebra_mailbox_oldest_seconds` | gauge | `mailbox` | the deepest inboxes |
//! | `vertebra_certificate_expiry_seconds` | gauge, s | | until the server's certificate expires; negative after |
//! | `vertebra_process_resident_bytes`, `…_anonymous_bytes` | gauge, bytes | | memory |
//! | `vertebra_process_descriptors`, `…_descriptors_max` | gauge | | open descriptors and their limit |
//! | `vertebra_log_lines_dropped_total` | counter | | log lines lost because their reader was slow |
//! | `vertebra_build_info` | gauge, 1 | `release` | which release runs |

mod process;
mod served;
#[cfg(test)]
mod tests;

pub use process::{Process, process};
pub use served::{KindFigures, Served, ServedFigures};

use crate::base::release;

use metrics::{Counter, Histogram, Key, Label, Level, Metadata, Recorder};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use std::fmt::Write as _;
use std::sync::OnceLock;

/// How many inboxes are shown by name.
pub const MAILBOXES_SHOWN_MAX: usize = 20;

/// Bounds of the latency histogram, seconds: from a cached read to a timeout.
const SECONDS: [f64; 14] = [
    0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// Routes that figures are kept for by name; what comes beyond is counted with the last one.
const ROUTES_MAX: usize = 64;

/// One sampled figure.
#[derive(Clone, Debug, PartialEq)]
struct Figure {
    name: &'static str,
    label: Option<(&'static str, String)>,
    value: f64,
}

/// The figures that are sampled when the page is asked for.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sample {
    figures: Vec<Figure>,
}

impl Sample {
    /// Adds a figure. `name` goes without `vertebra_`; one that ends in `_total` is a counter, any other a gauge.
    pub fn add(&mut self, name: &'static str, value: f64) {
        self.figures.push(Figure {
            name,
            label: None,
            value,
        });
    }

    /// Adds a figure with one label, whose value is one of ours: letters, digits, `_`, `-`, `.`.
    pub fn add_for(&mut self, name: &'static str, label: &'static str, of: &str, value: f64) {
        let of = of
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
            .collect();
        self.figures.push(Figure {
            name,
            label: Some((label, of)),
            value,
        });
    }
}

struct RouteFigures {
    name: &'static str,
    classes: [Counter; CLASSES.len()],
    seconds: Histogram,
}

/// All handles; one a node, shared by its threads.
pub struct Metrics {
    recorder: PrometheusRecorder,
    page: PrometheusHandle,
    routes: [OnceLock<RouteFigures>; ROUTES_MAX],
    authentications_refused: Counter,
    /// What releases are compared by.
    pub served: Served,
    /// When this process began to count, ms since 1970.
    pub since_ms: u64,
}

const METADATA: Metadata<'static> = Metadata::new("vertebra", Level::INFO, None);

fn counter(recorder: &PrometheusRecorder, name: &'static str, labels: Vec<Label>) -> Counter {
    recorder.register_counter(&Key::from_parts(name, labels), &METADATA)
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl Metrics {
    /// Registers what is known at start; a route is registered when it is first met.
    pub fn new() -> Metrics {
        let recorder = PrometheusBuilder::new()
            .set_buckets(&SECONDS)
            .expect("the bounds are not empty")
            .build_recorder();
        let release = vec![Label::new("release", release::this().name.as_str())];
        recorder
            .register_gauge(&Key::from_parts("vertebra_build_info", release), &METADATA)
            .set(1.0);
        Metrics {
            served: Served::default(),
            since_ms: crate::base::Clock::default().now().ms(),
            routes: [const { OnceLock::new() }; ROUTES_MAX],
            authentications_refused: counter(&recorder, "vertebra_authentications_refused_total", vec![]),
            page: recorder.handle(),
            recorder,
        }
    }

    /// Counts one answered request. `route` is one of ours, never a client's text; `micros` is its whole time.
    pub fn request(&self, route: &'static str, status: u16, micros: u64) {
        let figures = self.route(route);
        let class = usize::from(status / 100).clamp(2, 5) - 2;
        figures.classes[class].increment(1);
        figures.seconds.record(micros as f64 / 1e6);
        if status == 403 {
            self.authentications_refused.increment(1);
        }
    }

    fn route(&self, name: &'static str) -> &RouteFigures {
        let mut found = self.routes[0].get_or_init(|| self.register(name));
        for slot in &self.routes {
            found = slot.get_or_init(|| self.register(name));
            if found.name == name {
                break;
            }
        }
        found
    }

    fn register(&self, name: &'static str) -> RouteFigures {
        let route = || Label::new("route", name);
        RouteFigures {
            name,
            classes: CLASSES.map(|class| {
                counter(
                    &self.recorder,
                    "vertebra_requests_total",
                    vec![route(), Label::new("class", class)],
                )
            }),
            seconds: self
                .recorder
                .register_histogram(&Key::from_parts("vertebra_request_seconds", vec![route()]), &METADATA),
        }
    }

    /// Folds recorded latencies into their buckets; call every few seconds, or memory grows with each request.
    pub fn upkeep(&self) {
        self.page.run_upkeep();
    }

    /// The page: everything registered, then what was sampled, one block a name.
    pub fn render(&self, sample: &Sample) -> String {
        let mut page = self.page.render();
        let mut figures: Vec<&Figure> = sample.figures.iter().collect();
        figures.sort_by_key(|figure| figure.name); // stable: labels stay in the order they were added
        let mut before = "";
        for Figure { name, label, value } in figures {
            if *name != before {
                let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
                let _ = writeln!(page, "# TYPE vertebra_{name} {kind}");
                before = name;
            }
            let _ = match label {
                Some((label, of)) => writeln!(page, "vertebra_{name}{{{label}=\"{of}\"}} {value}"),
                None => writeln!(page, "vertebra_{name} {value}"),
            };
        }
        page
    }
}
