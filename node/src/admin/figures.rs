//! What is sampled when metrics or status are asked for.

use super::{Admin, status};
use crate::base::Timestamp;
use crate::ledger::Ledger;
use crate::metrics::{MAILBOXES_SHOWN_MAX, Sample, process};
use crate::services::mesh::state;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// How old the last look at all inboxes may be: with many mailboxes a look costs milliseconds.
const LOOK_AGE_MAX: Duration = Duration::from_secs(5);
/// Below so many mailboxes every question looks afresh.
const MAILBOXES_CHEAP: u64 = 200;
/// Mailboxes read at once.
const PAGE: usize = 500;

/// All inboxes at one moment.
#[derive(Clone, Debug, Default)]
pub struct Look {
    /// Mailboxes registered.
    pub mailboxes: u64,
    /// Messages waiting in all.
    pub waiting: u64,
    /// Arrival of the oldest of them.
    pub oldest: Option<Timestamp>,
    /// The deepest, most messages first: identifier, messages, arrival of the oldest.
    pub deepest: Vec<(String, u64, Option<Timestamp>)>,
}

/// The last look, shared by all askers.
#[derive(Clone, Default)]
pub struct Depths(Arc<Mutex<Option<(Instant, Look)>>>);

/// Looks at every inbox; blocking.
fn look_blocking(ledger: &Ledger) -> Look {
    let mut look = Look::default();
    let mut after = None;
    loop {
        let page = state::mailboxes(ledger, after.as_ref(), PAGE);
        for mailbox in &page {
            let (waiting, oldest) = state::inbox_depth(ledger, &mailbox.id);
            look.mailboxes += 1;
            look.waiting += waiting;
            look.oldest = [look.oldest, oldest].into_iter().flatten().min();
            look.deepest.push((mailbox.id.to_string(), waiting, oldest));
        }
        look.deepest.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        look.deepest.truncate(MAILBOXES_SHOWN_MAX);
        if page.len() < PAGE {
            return look;
        }
        after = page.last().map(|mailbox| mailbox.id.clone());
    }
}

impl Admin {
    /// The outbox, and what this node's publisher counted.
    fn sample_events(&self, s: &mut Sample) {
        let view = self.events_view(false);
        s.add("events_waiting", view.waiting as f64);
        s.add("events_waiting_bytes", view.waiting_bytes as f64);
        s.add("events_lag_seconds", view.oldest_seconds as f64);
        s.add("events_parked", view.parked as f64);
        s.add("events_dropped_total", view.dropped as f64);
        let Some(figures) = &self.events else { return };
        let count = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed) as f64;
        s.add("events_published_total", count(&figures.published));
        s.add("events_confirmed_total", count(&figures.confirmed));
        s.add("events_parked_total", count(&figures.parked));
        s.add("events_resyncs_total", count(&figures.resyncs));
        s.add("events_watermarks_total", count(&figures.watermarks));
        s.add("events_sessions_lost_total", count(&figures.sessions_lost));
        let publishing = figures.phase().0 == crate::outbox::Phase::Publishing;
        s.add("events_publishing", f64::from(u8::from(publishing)));
    }

    /// All inboxes, as of now or of at most [`LOOK_AGE_MAX`] ago.
    pub(super) async fn look(&self) -> Look {
        if let Some((at, look)) = &*self.depths.0.lock()
            && look.mailboxes >= MAILBOXES_CHEAP
            && at.elapsed() < LOOK_AGE_MAX
        {
            return look.clone();
        }
        let ledger = self.ledger.clone();
        let look = match tokio::task::spawn_blocking(move || look_blocking(&ledger)).await {
            Ok(look) => look,
            Err(cause) => {
                tracing::error!(%cause, "the inboxes could not be looked at");
                Look::default()
            }
        };
        *self.depths.0.lock() = Some((Instant::now(), look.clone()));
        look
    }

    /// Everything that is sampled rather than counted.
    pub(super) async fn sample(&self) -> Sample {
        let look = self.look().await;
        let mut s = Sample::default();
        let (log, journal) = (self.log.status(), self.journal.stats());
        s.add("journal_records_total", journal.records as f64);
        s.add("journal_batches_total", journal.batches as f64);
        s.add("journal_written_bytes_total", journal.bytes as f64);
        s.add("journal_sync_microseconds_total", journal.sync_us_sum as f64);
        s.add("journal_sync_seconds_last", journal.sync_us_last as f64 / 1e6);
        s.add("journal_queue_bytes", journal.queue_bytes as f64);
        s.add("journal_queue_records", journal.queue_records as f64);
        s.add("disk_free_bytes", status::disk(&self.config.node.data).0 as f64);
        s.add("log_applied_index", log.applied as f64);
        s.add("log_committed_index", log.committed as f64);
        s.add("log_last_index", log.last as f64);
        s.add("log_first_index", log.first as f64);
        s.add("log_checkpoint_index", log.checkpointed as f64);
        s.add("log_queue_commands", log.queue as f64);
        s.add("log_leader", f64::from(u8::from(log.leader)));
        s.add("ledger_dirty_bytes", self.ledger.dirty_bytes() as f64);
        s.add("audit_entries", self.audit.head().sequence as f64);
        let now = self.clock.now();
        let age = |at: Option<Timestamp>| at.map_or(0.0, |at| now.since_ms(at) as f64 / 1e3);
        s.add("mailboxes", look.mailboxes as f64);
        s.add("inbox_messages", look.waiting as f64);
        s.add("inbox_oldest_seconds", age(look.oldest));
        for (mailbox, waiting, oldest) in &look.deepest {
            s.add_for("mailbox_inbox_messages", "mailbox", mailbox, *waiting as f64);
            s.add_for("mailbox_oldest_seconds", "mailbox", mailbox, age(*oldest));
        }
        self.sample_events(&mut s);
        self.sample_redis(&mut s);
        let wall = crate::base::Clock::default().now().ms();
        if let Some(seconds) = status::certificate_seconds(&self.config.tls.certificate, wall) {
            s.add("certificate_expiry_seconds", seconds as f64);
        }
        let process = process();
        s.add("process_resident_bytes", process.resident_bytes as f64);
        s.add("process_anonymous_bytes", process.anonymous_bytes as f64);
        s.add("process_descriptors", process.descriptors as f64);
        s.add("process_descriptors_max", process.descriptors_max as f64);
        for (thread, turns) in &self.threads {
            s.add_for(
                "thread_turns_total",
                "thread",
                thread,
                turns.load(Ordering::Relaxed) as f64,
            );
        }
        (self.figures)(&mut s);
        s
    }
}
