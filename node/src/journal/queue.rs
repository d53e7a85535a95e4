//! What waits for the journal's task, and what handles see of it. Shared by every thread; it does no I/O.

use super::format::{Identity, Place, record_disk_bytes};
use super::recover::{Recovered, Tail};
use super::{AppendError, Done, JournalConfig, Position, RECORD_BYTES_MAX, ReadError, Record, SegmentInfo, Stream};
use crate::ring::storage::SegmentReads;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

/// Largest payload of a carried record: all of them together must fit at the head of a segment.
pub const CARRIED_BYTES_MAX: usize = 16 * 1024;

/// Who waits for an entry.
pub(super) enum Waiter {
    /// A task.
    Task(tokio::sync::oneshot::Sender<Result<Vec<Position>, AppendError>>),
    /// A callback.
    Call(Done),
}

impl Waiter {
    pub(super) fn tell(self, result: Result<Vec<Position>, AppendError>) {
        match self {
            // The task may have gone away; its records are durable all the same.
            Waiter::Task(sender) => drop(sender.send(result)),
            Waiter::Call(done) => done(result),
        }
    }
}

/// One call of append.
pub(super) struct Entry {
    /// Records not yet in a batch.
    pub(super) records: VecDeque<Record>,
    /// Positions of those that are.
    pub(super) positions: Vec<Position>,
    /// Memory the entry counts for.
    pub(super) bytes: usize,
    /// Records in all.
    pub(super) count: usize,
    pub(super) waiter: Waiter,
}

#[derive(Default)]
struct Waiting {
    entries: [VecDeque<Entry>; 3],
    removals: Vec<(Stream, u32)>,
    bytes: usize,
    records: usize,
    closing: bool,
    closed: bool,
    close_waiters: Vec<Waker>,
    task: Option<Waker>,
}

/// What the task takes over in one go, besides the entries.
#[derive(Default)]
pub(super) struct Taken {
    pub(super) removals: Vec<(Stream, u32)>,
    pub(super) closing: bool,
}

/// Counters that the task writes and anybody reads.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) records: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) bytes: AtomicU64,
    pub(super) sync_us_last: AtomicU64,
    pub(super) sync_us_sum: AtomicU64,
    pub(super) free_bytes: AtomicU64,
    /// Milliseconds from `Shared::started` to the task's last turn.
    pub(super) turned_ms: AtomicU64,
}

/// What handles know of the streams' ends.
#[derive(Default)]
pub(super) struct Ends {
    /// The end of the last batch that no append reaches beyond.
    pub(super) whole: [Place; 3],
    pub(super) segments: [BTreeMap<u32, SegmentInfo>; 3],
}

impl Ends {
    fn of(tails: &[Tail; 3]) -> Ends {
        let mut ends = Ends::default();
        for tail in tails {
            let info = |(&number, &used_bytes): (&u32, &u32)| {
                (
                    number,
                    SegmentInfo {
                        number,
                        used_bytes,
                        sealed: number != tail.place.0,
                    },
                )
            };
            ends.whole[tail.stream.index()] = tail.place;
            ends.segments[tail.stream.index()] = tail.segments.iter().map(info).collect();
        }
        ends
    }
}

/// What handles and the task share.
pub(super) struct Shared {
    pub(super) identity: Identity,
    pub(super) reads: Arc<dyn SegmentReads>,
    pub(super) ends: Mutex<Ends>,
    pub(super) counters: Counters,
    /// What opening cut off, by stream.
    pub(super) cut_off_bytes: [u32; 3],
    /// The disk's reserve is reached.
    pub(super) full: AtomicBool,
    pub(super) started: Instant,
    queue_bytes_max: usize,
    waiting: Mutex<Waiting>,
}

impl Shared {
    pub(super) fn new(config: &JournalConfig, found: &Recovered, reads: Arc<dyn SegmentReads>) -> Shared {
        Shared {
            identity: found.identity,
            reads,
            ends: Mutex::new(Ends::of(&found.tails)),
            cut_off_bytes: found.cut_off_bytes,
            counters: Counters::default(),
            full: AtomicBool::new(false),
            started: Instant::now(),
            queue_bytes_max: config.queue_bytes_max,
            waiting: Mutex::new(Waiting::default()),
        }
    }

    /// Queues an entry, or tells its waiter at once why not.
    pub(super) fn push(&self, stream: Stream, records: Vec<Record>, waiter: Waiter) {
        let mut bytes = 0;
        let mut all_carried = !records.is_empty();
        for record in &records {
            let payload_bytes: usize = record.payload.iter().map(|piece| piece.len()).sum();
            let carried = record.key.kind >= 0x80;
            let payload_bytes_max = if carried { CARRIED_BYTES_MAX } else { RECORD_BYTES_MAX };
            assert!(
                payload_bytes <= payload_bytes_max,
                "a record of {payload_bytes} bytes: the caller splits"
            );
            bytes += record_disk_bytes(payload_bytes);
            all_carried &= carried;
        }
        let mut waiting = self.waiting.lock();
        let refused = if waiting.closing {
            Some(AppendError::Closed)
        } else if self.full.load(Ordering::Relaxed) && !all_carried {
            Some(AppendError::Full)
        } else if stream != Stream::Log && waiting.bytes > 0 && waiting.bytes + bytes > self.queue_bytes_max {
            Some(AppendError::Overloaded)
        } else {
            None
        };
        if let Some(error) = refused {
            drop(waiting);
            waiter.tell(Err(error));
            return;
        }
        let count = records.len();
        waiting.bytes += bytes;
        waiting.records += count;
        let positions = Vec::with_capacity(count);
        waiting.entries[stream.index()].push_back(Entry {
            records: records.into(),
            positions,
            bytes,
            count,
            waiter,
        });
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// `Gone` when the segment is no longer listed. A removed file is cut under those who still read it, so a short read
    /// says nothing until this was asked.
    pub(super) fn still_there(&self, stream: Stream, segment: u32) -> Result<(), ReadError> {
        if self.ends.lock().segments[stream.index()].contains_key(&segment) {
            Ok(())
        } else {
            Err(ReadError::Gone { stream, segment })
        }
    }

    /// Asks the task to remove a segment.
    pub(super) fn remove(&self, stream: Stream, segment: u32) {
        let mut waiting = self.waiting.lock();
        waiting.removals.push((stream, segment));
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Ready when there is something to take; otherwise wakes the task once there is.
    pub(super) fn poll_waiting(&self, closing_seen: bool, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.lock();
        let anything = waiting.entries.iter().any(|entries| !entries.is_empty())
            || !waiting.removals.is_empty()
            || (waiting.closing && !closing_seen);
        if anything {
            return Poll::Ready(());
        }
        waiting.task = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes everything; entries go behind their stream's backlog. Queue and backlog change places where they can, so
    /// that neither is allocated anew for each batch.
    pub(super) fn take<'a>(&self, backlogs: impl Iterator<Item = &'a mut VecDeque<Entry>>) -> Taken {
        let mut waiting = self.waiting.lock();
        for (backlog, entries) in backlogs.zip(&mut waiting.entries) {
            if backlog.is_empty() {
                std::mem::swap(backlog, entries);
            } else {
                backlog.append(entries);
            }
        }
        Taken {
            removals: std::mem::take(&mut waiting.removals),
            closing: waiting.closing,
        }
    }

    /// Gives back the room of entries that were answered.
    pub(super) fn release(&self, bytes: usize, records: usize) {
        let mut waiting = self.waiting.lock();
        waiting.bytes -= bytes;
        waiting.records -= records;
    }

    /// Bytes and records that wait or are in flight.
    pub(super) fn queued(&self) -> (usize, usize) {
        let waiting = self.waiting.lock();
        (waiting.bytes, waiting.records)
    }

    /// Refuses everything from now on and asks the task to finish.
    pub(super) fn start_closing(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closing = true;
        let task = waiting.task.take();
        drop(waiting);
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Ready once the task has ended.
    pub(super) fn poll_closed(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut waiting = self.waiting.lock();
        if waiting.closed {
            return Poll::Ready(());
        }
        waiting.close_waiters.push(cx.waker().clone());
        Poll::Pending
    }

    /// The task has ended. What is still queued was never answered and is dropped.
    pub(super) fn closed(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closing = true;
        waiting.closed = true;
        let wakers = std::mem::take(&mut waiting.close_waiters);
        let left = std::mem::take(&mut waiting.entries);
        drop(waiting);
        drop(left);
        wakers.into_iter().for_each(Waker::wake);
    }
}
