//! The log's storage: openraft's entries, vote and positions as records of the journal's log stream.
//!
//! Invariants:
//! - Records reach the journal in the order openraft wrote them. A refused one (disk full, queue full) waits in a
//!   backlog and everything after it waits behind it; openraft sees it as a write that is not yet durable.
//! - An entry is readable when `append` returns and reported as flushed only after the journal said it is durable.
//! - The vote and a truncation are durable before their calls return.
//! - The committed position rides along with the next entries, or follows alone after [`COMMITTED_LAZY_MS`]. It may lag
//!   behind after a crash; readiness therefore waits until the whole durable log is committed and applied again.

use super::index::{Found, Index, TAIL_BYTES_MAX};
use super::planted::{Bug, planted};
use super::record::{self, KIND_COMMITTED, KIND_ENTRY, KIND_PURGED, KIND_TRUNCATE, KIND_VOTE};
use super::tables::{self, Row};
use super::types::{Entry, LogId, TypeConfig, Vote};
use crate::journal::{AppendError, Journal, Position, ReadError, Record, Stream};
use crate::ledger::Ledger;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::type_config::TypeConfigExt as _;
use openraft::{OptionalSend, RaftLogReader};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, VecDeque};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds, RangeInclusive};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, oneshot};

/// How long a committed position waits for entries to ride along with.
pub const COMMITTED_LAZY_MS: u64 = 100;
/// How often a refused write is tried again.
const RETRY_MS: u64 = 5;
/// Bytes of one answer to a peer that reads the log.
const READ_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// Flushes remembered for the deep ping.
const TRACES_MAX: usize = 256;
/// Rows of purged entries cleared for each row written.
const CLEARED_PER_ROW: u64 = 2;

/// When a run of entries was appended and when it was durable.
#[derive(Clone, Copy, Debug)]
pub struct Trace {
    first: u64,
    count: u64,
    /// When `append` was called.
    pub appended: Instant,
    /// When the journal said so.
    pub durable: Instant,
}

/// What happens once records are durable, on the journal's task: so that whatever lies below the journal's watermark
/// is already in the local tables when a checkpoint takes that watermark.
enum Then {
    Nothing,
    Saved(oneshot::Sender<()>),
    Vote(Vote, oneshot::Sender<()>),
    Truncated {
        keep: u64,
        end: u64,
        signal: oneshot::Sender<()>,
    },
    Entries {
        first: u64,
        count: u64,
        skip: usize,
        epoch: u32,
        appended: Instant,
        flushed: IOFlushed<TypeConfig>,
    },
}

struct Waiting {
    records: Vec<Record>,
    then: Then,
}

/// Refused writes by their place in the order of writes, and the next place.
#[derive(Default)]
struct Backlog {
    waiting: BTreeMap<u64, Waiting>,
    next: u64,
}

struct Positions {
    vote: Option<Vote>,
    committed: Option<LogId>,
    committed_saved: Option<LogId>,
}

/// The storage; one for the node, behind an `Arc`. Written on the log's thread alone, read from any.
pub struct Store {
    /// The journal.
    pub journal: Journal,
    /// The ledger, for the local tables.
    pub ledger: Ledger,
    index: RwLock<Index>,
    positions: Mutex<Positions>,
    backlog: Mutex<Backlog>,
    traces: Mutex<VecDeque<Trace>>,
    /// Wakes [`Store::drive`].
    wake: Notify,
    /// Wakes [`Store::drive_committed`].
    committed_saved: Notify,
    /// Told after every flush.
    flushed: Notify,
    closed: AtomicBool,
    /// Every entry before this one has its row in the ledger. There is none for what is not in the log.
    rows_end: AtomicU64,
    /// Rows before this one are cleared.
    cleared_to: AtomicU64,
    appended_bytes: AtomicU64,
}

impl Store {
    /// Takes over what was recovered. Rows of entries from `rows_end` on are to be written, again or for the first time.
    pub fn new(journal: Journal, ledger: Ledger, index: Index, meta: tables::Meta, rows_end: u64) -> Store {
        let purged_end = meta.purged.map_or(0, |id| id.index + 1);
        let mut first_row = purged_end;
        tables::rows(&ledger, tables::ENTRIES, None, &mut |at, _| {
            first_row = at.min(purged_end);
            false
        });
        // The replay may have truncated the log behind the last checkpoint.
        let mut rows_past = index.end();
        tables::rows(&ledger, tables::ENTRIES, index.end().checked_sub(1), &mut |at, _| {
            rows_past = at + 1;
            true
        });
        let past = index.end()..rows_past;
        let store = Store {
            journal,
            ledger,
            index: RwLock::new(index),
            positions: Mutex::new(Positions {
                vote: meta.vote,
                committed: meta.committed,
                committed_saved: meta.committed,
            }),
            backlog: Mutex::default(),
            traces: Mutex::default(),
            wake: Notify::new(),
            committed_saved: Notify::new(),
            flushed: Notify::new(),
            closed: AtomicBool::new(false),
            rows_end: AtomicU64::new(rows_end),
            cleared_to: AtomicU64::new(first_row),
            appended_bytes: AtomicU64::new(0),
        };
        store.remove_rows(past);
        store
    }

    /// Queues records; `then` happens once they are durable. The order of calls is the order in the journal.
    fn submit(self: &Arc<Store>, records: Vec<Record>, then: Then) {
        let mut backlog = self.backlog.lock();
        let place = backlog.next;
        backlog.next += 1;
        if backlog.waiting.is_empty() {
            drop(backlog);
            // Kept only what could not be rebuilt from the log in memory.
            let kept = match &then {
                Then::Nothing | Then::Saved(_) | Then::Vote(..) | Then::Truncated { .. } => records.clone(),
                Then::Entries { skip, .. } => records[..*skip].to_vec(),
            };
            self.append_now(place, records, kept, then, Store::rebuilt);
        } else {
            backlog.waiting.insert(place, Waiting { records, then });
        }
    }

    /// Hands records to the journal. If it does not take them, at once or after a new segment could not be made, they
    /// wait: `restore` makes them whole again from what was kept. Everything behind them is refused with them, in order.
    fn append_now(
        self: &Arc<Store>,
        place: u64,
        records: Vec<Record>,
        kept: Vec<Record>,
        then: Then,
        restore: fn(&Store, Vec<Record>, &Then) -> Vec<Record>,
    ) {
        let store = self.clone();
        let done = move |result: Result<Vec<Position>, AppendError>| match result {
            Ok(positions) => store.durable(then, &positions),
            Err(AppendError::Full) if planted(Bug::RefusedIsDurable) => store.pretend_durable(then),
            Err(AppendError::Full | AppendError::Overloaded) => {
                let records = restore(&store, kept, &then);
                store.backlog.lock().waiting.insert(place, Waiting { records, then });
                store.wake.notify_one();
            }
            Err(AppendError::Closed) => store.closed(then),
        };
        self.journal.append_then(Stream::Log, records, Box::new(done));
    }

    /// The records of refused entries, from the log in memory; those that were truncated meanwhile are left out.
    fn rebuilt(&self, mut kept: Vec<Record>, then: &Then) -> Vec<Record> {
        let Then::Entries {
            first, count, epoch, ..
        } = then
        else {
            return kept;
        };
        let index = self.index.read();
        if index.epoch() == *epoch {
            let entries: Vec<Entry> = (*first..*first + *count)
                .filter_map(|at| match index.find(at)? {
                    Found::Here(entry) => Some(entry),
                    Found::At(..) => None,
                })
                .collect();
            assert!(
                entries.len() as u64 == *count,
                "entries that are not durable are in memory"
            );
            record::encode_entries(KIND_ENTRY, &entries, &mut kept);
        }
        kept
    }

    /// What a planted bug does with a write that was refused.
    fn pretend_durable(&self, then: Then) {
        if let Then::Entries { flushed, .. } = then {
            flushed.io_completed(Ok(()));
        }
    }

    fn closed(&self, then: Then) {
        match then {
            // The receiver is told by the drop.
            Then::Nothing | Then::Saved(_) | Then::Vote(..) | Then::Truncated { .. } => {}
            Then::Entries { flushed, .. } => {
                flushed.io_completed(Err(io::Error::other("the journal is closing")));
            }
        }
    }

    fn durable(&self, then: Then, positions: &[Position]) {
        match then {
            Then::Nothing => {}
            Then::Saved(signal) => {
                let _gone = signal.send(());
            }
            Then::Vote(vote, signal) => {
                self.positions.lock().vote = Some(vote);
                tables::put_vote(&self.ledger, &vote);
                let _gone = signal.send(());
            }
            Then::Truncated { keep, end, signal } => {
                // Also those behind `rows_end`: after a replay there may be rows of entries that are to be written again.
                self.remove_rows(keep..end);
                self.rows_end.fetch_min(keep, Ordering::Relaxed);
                let _gone = signal.send(());
            }
            Then::Entries {
                first,
                count,
                skip,
                epoch,
                appended,
                flushed,
            } => {
                let mut index = self.index.write();
                for (at, position) in (first..first + count).zip(&positions[skip..]) {
                    index.durable(at, epoch, *position);
                }
                drop(index);
                let durable = Instant::now();
                let mut traces = self.traces.lock();
                if traces.len() == TRACES_MAX {
                    traces.pop_front();
                }
                traces.push_back(Trace {
                    first,
                    count,
                    appended,
                    durable,
                });
                drop(traces);
                flushed.io_completed(Ok(()));
                self.flushed.notify_waiters();
            }
        }
    }

    async fn submit_and_wait(
        self: &Arc<Store>,
        record: Record,
        then: impl FnOnce(oneshot::Sender<()>) -> Then,
    ) -> io::Result<()> {
        let (signal, durable) = oneshot::channel();
        self.submit(vec![record], then(signal));
        durable.await.map_err(|_| io::Error::other("the journal is closing"))
    }

    /// Waits until the entry is durable here, if the log contains it. A follower may learn that an entry is committed
    /// before its own disk has it; what is applied only after that never goes back over a restart.
    pub async fn wait_durable(&self, index: u64) {
        let ready = || self.index.read().slot(index).is_none_or(|slot| slot.position.is_some());
        if ready() {
            return;
        }
        loop {
            let mut flushed = std::pin::pin!(self.flushed.notified());
            flushed.as_mut().enable();
            if ready() {
                return;
            }
            flushed.await;
        }
    }

    /// The committed position as a record, when it is newer than the last one written.
    fn committed_record(&self) -> Option<Record> {
        let mut positions = self.positions.lock();
        if positions.committed == positions.committed_saved {
            return None;
        }
        positions.committed_saved = positions.committed;
        Some(record::small_record(
            KIND_COMMITTED,
            record::encode_log_id(positions.committed.as_ref()),
        ))
    }

    /// Writes the committed position if it still waits; durable when this returns.
    pub async fn flush_committed(self: &Arc<Store>) -> io::Result<()> {
        match self.committed_record() {
            Some(record) => self.submit_and_wait(record, Then::Saved).await,
            None => Ok(()),
        }
    }

    /// Tries refused writes again, in their order; runs until [`Store::stop`].
    pub async fn drive(self: Arc<Store>) {
        while !self.closed.load(Ordering::Acquire) {
            self.wake.notified().await;
            while !self.backlog.lock().waiting.is_empty() && !self.closed.load(Ordering::Acquire) {
                TypeConfig::sleep(Duration::from_millis(RETRY_MS)).await;
                self.retry();
            }
        }
    }

    /// Writes the backlog until something is refused again.
    fn retry(self: &Arc<Store>) {
        loop {
            let Some((place, Waiting { records, then })) = self.backlog.lock().waiting.pop_first() else {
                return;
            };
            let kept = records.clone();
            self.append_now(place, records, kept, then, |_, kept, _| kept);
            if self.backlog.lock().waiting.contains_key(&place) {
                return;
            }
        }
    }

    /// Writes late committed positions; runs until [`Store::stop`].
    pub async fn drive_committed(self: Arc<Store>) {
        while !self.closed.load(Ordering::Acquire) {
            self.committed_saved.notified().await;
            TypeConfig::sleep(Duration::from_millis(COMMITTED_LAZY_MS)).await;
            if let Some(record) = self.committed_record() {
                self.submit(vec![record], Then::Nothing);
            }
        }
    }

    /// Ends [`Store::drive`] and [`Store::drive_committed`].
    pub fn stop(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake.notify_one();
        self.committed_saved.notify_one();
    }

    fn remove_rows(&self, range: Range<u64>) {
        for at in range {
            self.ledger.put_local(tables::ENTRIES, &at.to_be_bytes(), None);
        }
    }

    /// Writes the rows of durable entries before `upto` and clears some of purged ones.
    pub fn write_rows(&self, upto: u64) {
        let index = self.index.read();
        let mut at = self.rows_end.load(Ordering::Relaxed).max(index.first());
        let from = at;
        while at < upto {
            let Some(slot) = index.slot(at) else { break };
            let Some(position) = slot.position else { break };
            let row = Row {
                leader: slot.leader,
                position,
                copied: false,
            };
            self.ledger
                .put_local(tables::ENTRIES, &at.to_be_bytes(), Some(&row.encode()));
            at += 1;
        }
        let purged_end = index.purged().map_or(0, |id| id.index + 1);
        drop(index);
        self.rows_end.store(at, Ordering::Relaxed);
        self.clear_rows(purged_end, (at - from) * CLEARED_PER_ROW);
    }

    /// Clears at most `max` rows of purged entries.
    pub fn clear_rows(&self, purged_end: u64, max: u64) {
        let from = self.cleared_to.load(Ordering::Relaxed);
        let to = purged_end.min(from.saturating_add(max));
        self.remove_rows(from..to);
        self.cleared_to.store(to.max(from), Ordering::Relaxed);
    }

    /// Called when entries before `upto` were applied: their rows are written and old ones leave memory.
    pub fn settle(&self, upto: u64) {
        self.write_rows(upto);
        let upto = upto.min(self.rows_end.load(Ordering::Relaxed));
        self.index.write().shrink(upto, TAIL_BYTES_MAX);
    }

    /// Rows for everything durable: before a checkpoint, whose watermark leaves those records behind.
    pub fn settle_all(&self) {
        let end = self.index.read().end();
        self.write_rows(end);
        tables::put_committed(&self.ledger, self.committed().as_ref());
        let purged_end = self.index.read().purged().map_or(0, |id| id.index + 1);
        self.clear_rows(purged_end, 4096);
    }

    /// Where an entry of the log is, if it is durable.
    pub fn row(&self, index: u64) -> Option<Row> {
        let slots = self.index.read();
        let slot = slots.slot(index)?;
        slot.position.map(|position| Row {
            leader: slot.leader,
            position,
            copied: false,
        })
    }

    /// Purge point, first index, last log id.
    pub fn bounds(&self) -> (Option<LogId>, u64, Option<LogId>) {
        let index = self.index.read();
        (index.purged(), index.first(), index.last())
    }

    /// The last vote that is durable here.
    pub fn vote(&self) -> Option<Vote> {
        self.positions.lock().vote
    }

    /// The last committed position that openraft saved here.
    pub fn committed(&self) -> Option<LogId> {
        self.positions.lock().committed
    }

    /// Segment of the first entry that is not purged, if it is durable.
    pub fn first_segment(&self) -> Option<u32> {
        let index = self.index.read();
        index
            .slot(index.first())
            .and_then(|slot| slot.position)
            .map(|position| position.segment)
    }

    /// Bytes of entries appended since start.
    pub fn appended_bytes(&self) -> u64 {
        self.appended_bytes.load(Ordering::Relaxed)
    }

    /// When the entry was appended and durable, if it is not long ago.
    pub fn trace(&self, index: u64) -> Option<Trace> {
        let traces = self.traces.lock();
        traces
            .iter()
            .rev()
            .find(|trace| (trace.first..trace.first + trace.count).contains(&index))
            .copied()
    }

    /// An entry of the log or a held one, from memory or this node's journal.
    pub async fn entry_here(&self, index: u64) -> Result<Option<Entry>, ReadError> {
        let mut gone_at = None;
        loop {
            let found = self.index.read().find(index);
            let row = match found {
                Some(Found::Here(entry)) => return Ok(Some(entry)),
                Some(Found::At(log_id, position)) => Row {
                    leader: log_id.leader_id,
                    position,
                    copied: false,
                },
                None => match tables::held(&self.ledger, index) {
                    Some(row) => row,
                    None => return Ok(None),
                },
            };
            match self.read_row(index, row).await {
                // The space reclaim may have moved it between the look and the read.
                Err(ReadError::Gone { .. }) if gone_at != Some(row) => gone_at = Some(row),
                // Of a damaged record of the log there may be a copy, made when it was repaired.
                Err(ReadError::Corrupt { .. }) if !row.copied => {
                    return match tables::held(&self.ledger, index).filter(|held| held.copied) {
                        Some(held) => self.read_row(index, held).await.map(Some),
                        None => self.read_row(index, row).await.map(Some),
                    };
                }
                read => return read.map(Some),
            }
        }
    }

    /// Reads a record that a row names.
    pub async fn read_row(&self, index: u64, row: Row) -> Result<Entry, ReadError> {
        let key = row.key(index);
        let payload = self.journal.read(Stream::Log, row.position, key).await?;
        decode(&key, row.position, &payload)
    }
}

/// Decodes a record's payload; what does not fit is corruption.
pub fn decode(key: &crate::journal::RecordKey, position: Position, payload: &bytes::Bytes) -> Result<Entry, ReadError> {
    record::decode_entry(key, payload).map_err(|what| ReadError::Corrupt {
        stream: Stream::Log,
        position,
        what,
    })
}

/// The storage as openraft sees it.
#[derive(Clone)]
pub struct LogStore(pub Arc<Store>);

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, io::Error> {
        self.read_range(range, u64::MAX).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.positions.lock().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        self.read_range(start..end, READ_BYTES_MAX).await
    }

    async fn get_key_log_ids(&mut self, range: RangeInclusive<LogId>) -> Result<Vec<LogId>, io::Error> {
        let found = self.0.index.read().key_log_ids(range.start().index, range.end().index);
        found.ok_or_else(|| io::Error::other(format!("the log lacks entries of {range:?}")))
    }
}

impl LogStore {
    /// Entries of the range that the log contains, at least one and then as many as fit `bytes_max`.
    async fn read_range(&self, range: impl RangeBounds<u64>, bytes_max: u64) -> io::Result<Vec<Entry>> {
        let found = self.find_range(range, bytes_max);
        let mut entries = Vec::with_capacity(found.len());
        for found in found {
            match found {
                Found::Here(entry) => entries.push(entry),
                Found::At(log_id, position) => {
                    let row = Row {
                        leader: log_id.leader_id,
                        position,
                        copied: false,
                    };
                    let read = match self.0.read_row(log_id.index, row).await {
                        // There may be a copy, made when it was repaired.
                        Err(error @ ReadError::Corrupt { .. }) => {
                            self.0.entry_here(log_id.index).await.transpose().unwrap_or(Err(error))
                        }
                        read => read,
                    };
                    entries.push(read.map_err(io::Error::other)?);
                }
            }
        }
        Ok(entries)
    }

    /// One look at the index: what is decided here stays readable, because segments outlive the purge.
    fn find_range(&self, range: impl RangeBounds<u64>, bytes_max: u64) -> Vec<Found> {
        let index = self.0.index.read();
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(start) => start.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(end) => end.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let mut bytes = 0;
        let mut found = Vec::new();
        for at in start.max(index.first())..end.min(index.end()) {
            let Some(entry) = index.find(at) else { break };
            bytes += match &entry {
                Found::Here(entry) => match &entry.payload {
                    super::types::Payload::Normal(command) => command.bytes.len() as u64,
                    super::types::Payload::Blank | super::types::Payload::Membership(_) => 0,
                },
                Found::At(_, position) => u64::from(position.bytes),
            };
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            found.push(entry);
        }
        found
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogStore;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let (last_purged_log_id, _, last_log_id) = self.0.bounds();
        Ok(LogState {
            last_purged_log_id,
            last_log_id,
        })
    }

    async fn get_log_reader(&mut self) -> LogStore {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        if planted(Bug::VoteNotSaved) {
            self.0.positions.lock().vote = Some(*vote);
            return Ok(());
        }
        let record = record::small_record(KIND_VOTE, record::encode_vote(vote));
        self.0.submit_and_wait(record, |signal| Then::Vote(*vote, signal)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.0.positions.lock().committed = committed;
        self.0.committed_saved.notify_one();
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.0.committed())
    }

    async fn append<I>(&mut self, entries: I, flushed: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let Some(first) = entries.first().map(|entry| entry.log_id.index) else {
            flushed.io_completed(Ok(()));
            return Ok(());
        };
        let count = entries.len() as u64;
        let mut records: Vec<Record> = self.0.committed_record().into_iter().collect();
        let skip = records.len();
        record::encode_entries(KIND_ENTRY, &entries, &mut records);
        let bytes: usize = records
            .iter()
            .flat_map(|record| &record.payload)
            .map(|part| part.len())
            .sum();
        self.0.appended_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        let mut index = self.0.index.write();
        for entry in entries {
            index.push(entry.log_id, entry.payload, None);
        }
        let epoch = index.epoch();
        drop(index);
        let appended = Instant::now();
        self.0.submit(
            records,
            Then::Entries {
                first,
                count,
                skip,
                epoch,
                appended,
                flushed,
            },
        );
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        let mut index = self.0.index.write();
        let end = index.end();
        index.truncate_after(last);
        let keep = index.end();
        drop(index);
        let record = record::small_record(KIND_TRUNCATE, record::encode_log_id(last.as_ref()));
        self.0
            .submit_and_wait(record, |signal| Then::Truncated { keep, end, signal })
            .await
    }

    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.0.index.write().purge(upto);
        tables::put_purged(&self.0.ledger, Some(&upto));
        // It need not be durable: an older purge point only means that more is still there.
        let record = record::small_record(KIND_PURGED, record::encode_log_id(Some(&upto)));
        self.0.submit(vec![record], Then::Nothing);
        Ok(())
    }
}
