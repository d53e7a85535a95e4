//! The journal's task: one loop that waits for one thing, then does it. It alone writes.
//!
//! ```text
//!            a segment is ready, a tick, a removal
//!            ┌────────────┐
//!            ▼            │
//!          wait ──────────┘
//!            │ an entry
//!            ▼
//!       yield once ──▶ lay batches ──▶ submit ──▶ wait for every fsync, answer each
//!            ▲                                                   │
//!            └──────────── more waits ──────────────────────────┘   (nothing more: wait)
//! ```
//!
//! Invariants: one batch in flight for each stream; a waiter is answered after the fsync of the batch that holds its
//! last record, in the order of the calls; after a failed write or fsync nothing is answered ever again.

use super::format::{BatchKind, BatchWriter, Header, Identity, Place, segment_crc};
use super::planted::{Bug, planted};
use super::queue::{Entry, Shared};
use super::recover::{Recovered, Sizes, Tail, seal_batch};
use super::{AppendError, Position, SegmentInfo, Stream};
use crate::ring::storage::{BLOCK_BYTES, BatchWrite, Event, SegmentId, Storage};
use bytes::Bytes;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

/// A stream that ends in records gets its seal after this long without another.
const SEAL_AFTER_US: u64 = 250_000;
/// The task turns at least this often, so that the watchdog can tell it from a hanging one.
const TICK_US: u64 = 500_000;
/// A segment that could not be made for lack of space is tried again after this long.
const PREPARE_AGAIN_US: u64 = 1_000_000;

/// A batch on its way to the disk.
struct InFlight {
    header: Header,
    crc: u32,
    /// Entries whose last record is in it.
    entries: Vec<Entry>,
    records: u64,
}

/// One stream, as the task sees it.
struct Lane {
    tail: Tail,
    /// End of the last batch that is durable; `tail.place` is already in the next segment after a roll.
    durable_end: Place,
    backlog: VecDeque<Entry>,
    in_flight: Option<InFlight>,
    preparing: bool,
    prepare_not_before_us: u64,
    /// The backlog waits for the next segment.
    blocked: bool,
    unsealed_since_us: u64,
}

/// What the task woke up for.
enum Wake {
    Queue,
    Event(Event),
    Tick,
}

/// The task.
pub(super) struct Task<S: Storage> {
    storage: S,
    shared: Arc<Shared>,
    identity: Identity,
    sizes: Sizes,
    reserve_bytes: u64,
    lanes: [Lane; 3],
    closing: bool,
    next_look_us: u64,
}

/// Lets every other ready task of this tick run first.
async fn yield_once() {
    let mut yielded = false;
    poll_fn(|cx| {
        if std::mem::replace(&mut yielded, true) {
            return Poll::Ready(());
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

impl<S: Storage> Task<S> {
    pub(super) fn new(storage: S, shared: Arc<Shared>, sizes: Sizes, reserve_bytes: u64, found: Recovered) -> Task<S> {
        let lanes = found.tails.map(|tail| Lane {
            durable_end: tail.place,
            tail,
            backlog: VecDeque::new(),
            in_flight: None,
            preparing: false,
            prepare_not_before_us: 0,
            blocked: false,
            unsealed_since_us: 0,
        });
        let identity = found.identity;
        Task {
            storage,
            shared,
            identity,
            sizes,
            reserve_bytes,
            lanes,
            closing: false,
            next_look_us: 0,
        }
    }

    /// Runs until the journal is closed, or until the storage failed in a simulation.
    pub(super) async fn run(mut self) {
        if self.serve().await.is_some() {
            let shared = self.shared.clone();
            // The folder's lock is free before anybody is told.
            drop(self);
            shared.closed();
        }
    }

    /// `None` when the storage failed.
    async fn serve(&mut self) -> Option<()> {
        self.look_at_disk()?;
        loop {
            self.prepare_segments();
            if !self.work_left() {
                match poll_fn(|cx| self.poll_wake(cx)).await {
                    Wake::Queue => {}
                    Wake::Event(event) => self.on_event(event)?,
                    Wake::Tick => self.look_at_disk()?,
                }
            }
            self.turned();
            yield_once().await;
            self.take();
            if self.storage.now_us() >= self.next_look_us {
                self.look_at_disk()?;
            }
            let mut writes = self.lay_batches();
            if writes.is_empty() {
                writes = self.lay_seals();
            }
            if !writes.is_empty() {
                self.commit(&writes).await?;
            } else if self.closing && self.lanes.iter().all(|lane| lane.backlog.is_empty()) {
                return Some(());
            }
        }
    }

    fn turned(&self) {
        let ms = self.shared.started.elapsed().as_millis() as u64;
        self.shared.counters.turned_ms.store(ms, Ordering::Relaxed);
    }

    /// Whether a batch can be laid, or the last seal, without waiting for anything.
    fn work_left(&self) -> bool {
        let nothing_waits = self.lanes.iter().all(|lane| lane.backlog.is_empty());
        (self.closing && nothing_waits) || self.lanes.iter().any(|lane| !lane.backlog.is_empty() && !lane.blocked)
    }

    fn poll_wake(&mut self, cx: &mut Context<'_>) -> Poll<Wake> {
        if let Poll::Ready(event) = self.storage.poll_event(cx) {
            return Poll::Ready(Wake::Event(event));
        }
        if self.shared.poll_waiting(self.closing, cx).is_ready() {
            return Poll::Ready(Wake::Queue);
        }
        let seals = self
            .lanes
            .iter()
            .filter(|lane| lane.wants_seal())
            .map(|lane| lane.unsealed_since_us + SEAL_AFTER_US);
        let deadline_us = seals.min().unwrap_or(u64::MAX).min(self.next_look_us);
        self.storage.poll_until(deadline_us, cx).map(|()| Wake::Tick)
    }

    fn take(&mut self) {
        let taken = self.shared.take(self.lanes.iter_mut().map(|lane| &mut lane.backlog));
        self.closing |= taken.closing;
        for (stream, segment) in taken.removals {
            self.storage.remove(SegmentId {
                stream: stream.number(),
                number: segment,
            });
        }
    }

    fn on_event(&mut self, event: Event) -> Option<()> {
        match event {
            Event::Prepared { id, result } => self.on_prepared(id, result),
            Event::Written { stream, result } => {
                let lane = &mut self.lanes[usize::from(stream)];
                let done = lane.in_flight.take().expect("only what was submitted is reported");
                if let Err(error) = result
                    && !planted(Bug::IgnoreFailedSync)
                {
                    let place = done.header.place;
                    let why = format!(
                        "writing {:?} segment {} byte {}: {error}",
                        lane.tail.stream, place.0, place.1
                    );
                    self.storage.die(&why);
                    return None;
                }
                self.on_durable(usize::from(stream), done);
            }
        }
        Some(())
    }

    fn on_prepared(&mut self, id: SegmentId, result: std::io::Result<()>) {
        let lane = &mut self.lanes[usize::from(id.stream)];
        lane.preparing = false;
        match result {
            Ok(()) => {
                let bytes = self.sizes.next_segment_bytes(lane.tail.stream, lane.tail.capacity);
                lane.tail.spare = Some((id.number, bytes));
                lane.blocked = false;
            }
            Err(error) => {
                tracing::warn!(%error, stream = ?lane.tail.stream, "no new journal segment: refusing writes until there is space");
                lane.prepare_not_before_us = self.storage.now_us() + PREPARE_AGAIN_US;
                if lane.blocked {
                    self.shared.full.store(true, Ordering::Relaxed);
                    self.refuse_backlog(usize::from(id.stream));
                }
            }
        }
    }

    /// Refuses what waits for a segment that cannot be made. What is partly written already stays.
    fn refuse_backlog(&mut self, stream: usize) {
        self.take();
        let lane = &mut self.lanes[stream];
        let begun = lane.backlog.front().is_some_and(|entry| !entry.positions.is_empty());
        let refused: Vec<Entry> = lane.backlog.drain(usize::from(begun)..).collect();
        for entry in refused {
            self.shared.release(entry.bytes, entry.count);
            entry.waiter.tell(Err(AppendError::Full));
        }
    }

    fn prepare_segments(&mut self) {
        let now_us = self.storage.now_us();
        for lane in &mut self.lanes {
            if lane.tail.spare.is_none() && !lane.preparing && now_us >= lane.prepare_not_before_us {
                let bytes = self.sizes.next_segment_bytes(lane.tail.stream, lane.tail.capacity);
                let id = SegmentId {
                    stream: lane.tail.stream.number(),
                    number: lane.tail.place.0 + 1,
                };
                self.storage.prepare(id, bytes);
                lane.preparing = true;
            }
            if lane.preparing && (lane.blocked || lane.tail.place.1 > lane.tail.capacity / 2) {
                self.storage.hurry();
            }
        }
    }

    fn look_at_disk(&mut self) -> Option<()> {
        self.next_look_us = self.storage.now_us() + TICK_US;
        match self.storage.free_bytes() {
            Ok(free) => {
                self.shared.counters.free_bytes.store(free, Ordering::Relaxed);
                let stuck = self.lanes.iter().any(|lane| lane.blocked && !lane.preparing);
                let full = free < self.reserve_bytes || stuck;
                if self.shared.full.swap(full, Ordering::Relaxed) != full {
                    tracing::warn!(full, free, reserve = self.reserve_bytes, "the journal's disk reserve");
                }
                Some(())
            }
            Err(error) => {
                self.storage.die(&format!("asking for the free space: {error}"));
                None
            }
        }
    }

    fn durable(&self) -> [Place; 3] {
        std::array::from_fn(|stream| self.lanes[stream].durable_end)
    }

    fn lay_batches(&mut self) -> Vec<BatchWrite> {
        let durable = self.durable();
        let mut writes = Vec::with_capacity(3);
        for stream in 0..3 {
            writes.extend(self.lay_batch(stream, durable));
        }
        writes
    }

    /// Lays as many of the stream's records as fit into one batch; rolls to the next segment when none does.
    fn lay_batch(&mut self, stream: usize, durable: [Place; 3]) -> Option<BatchWrite> {
        let lane = &mut self.lanes[stream];
        let first = lane.backlog.front()?;
        let needed = first.records.front().map_or(0, |record| payload_bytes(&record.payload));
        if !lane.fits(needed, self.sizes.batch_bytes_max) {
            let full = SegmentId {
                stream: stream as u8,
                number: lane.tail.place.0,
            };
            if !lane.roll() {
                self.storage.hurry();
                return None;
            }
            // Records are read from where the log holds them, soon after they were written more often than not.
            if lane.tail.stream == Stream::Log {
                self.storage.warm(full);
            }
        }
        let tail = &mut lane.tail;
        let carry_due = tail.place.1 == 0 || tail.place.1 - tail.carry_offset >= self.sizes.carry_bytes;
        let room = (tail.capacity - tail.place.1).min(self.sizes.batch_bytes_max) as usize;
        let buffer = &mut self.storage.buffer(stream as u8)[..room];
        let crc = segment_crc(self.identity, tail.stream, tail.place.0);
        let mut writer = BatchWriter::new(buffer, crc, tail.place.1);
        if carry_due && !planted(Bug::ForgetCarried) {
            for (key, payload) in tail.carried.values() {
                writer.push(*key, true, std::slice::from_ref(payload));
            }
        }
        let repeated = u64::from(writer.records());
        let entries = lay_entries(&mut writer, tail, &mut lane.backlog);
        let records = u64::from(writer.records()) - repeated;
        if records == 0 && !entries.is_empty() && writer.records() == 0 {
            // Only empty entries: everything before them is durable already.
            for entry in entries {
                self.shared.release(entry.bytes, entry.count);
                entry.waiter.tell(Ok(entry.positions));
            }
            return None;
        }
        assert!(records > 0 || !entries.is_empty(), "the first record was found to fit");
        let carry_offset = if carry_due { tail.place.1 } else { tail.carry_offset };
        let header = tail.header(BatchKind::Records, self.identity, durable, carry_offset);
        let (header, crc) = writer.finish(header);
        let id = SegmentId {
            stream: stream as u8,
            number: tail.place.0,
        };
        let write = BatchWrite {
            id,
            offset: tail.place.1,
            bytes: header.disk_bytes() as usize,
        };
        lane.in_flight = Some(InFlight {
            header,
            crc,
            entries,
            records,
        });
        Some(write)
    }

    /// Seals for the streams that have been idle long enough, or for all when closing.
    fn lay_seals(&mut self) -> Vec<BatchWrite> {
        let now_us = self.storage.now_us();
        let durable = self.durable();
        let mut writes = Vec::new();
        for stream in 0..3 {
            let lane = &mut self.lanes[stream];
            let due = self.closing || now_us >= lane.unsealed_since_us + SEAL_AFTER_US;
            if !lane.wants_seal() || !due {
                continue;
            }
            let (header, crc) = seal_batch(&lane.tail, self.identity, durable, self.storage.buffer(stream as u8));
            let id = SegmentId {
                stream: stream as u8,
                number: lane.tail.place.0,
            };
            writes.push(BatchWrite {
                id,
                offset: lane.tail.place.1,
                bytes: BLOCK_BYTES,
            });
            lane.in_flight = Some(InFlight {
                header,
                crc,
                entries: Vec::new(),
                records: 0,
            });
        }
        writes
    }

    /// Submits and waits until every write and fsync is through.
    async fn commit(&mut self, writes: &[BatchWrite]) -> Option<()> {
        let started_us = self.storage.now_us();
        if let Err(error) = self.storage.submit(writes) {
            self.storage.die(&format!("submitting a batch: {error}"));
            return None;
        }
        if planted(Bug::AcknowledgeBeforeSync) {
            for write in writes {
                self.acknowledge_early(usize::from(write.id.stream));
            }
        }
        while self.lanes.iter().any(|lane| lane.in_flight.is_some()) {
            let event = poll_fn(|cx| self.storage.poll_event(cx)).await;
            self.on_event(event)?;
        }
        let sync_us = self.storage.now_us() - started_us;
        let counters = &self.shared.counters;
        let bytes: u64 = writes.iter().map(|write| write.bytes as u64).sum();
        counters.batches.fetch_add(writes.len() as u64, Ordering::Relaxed);
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.sync_us_last.store(sync_us, Ordering::Relaxed);
        counters.sync_us_sum.fetch_add(sync_us, Ordering::Relaxed);
        Some(())
    }

    fn acknowledge_early(&mut self, stream: usize) {
        let entries = self.lanes[stream]
            .in_flight
            .as_mut()
            .map(|batch| std::mem::take(&mut batch.entries));
        self.answer(entries.unwrap_or_default());
    }

    fn on_durable(&mut self, stream: usize, done: InFlight) {
        let now_us = self.storage.now_us();
        let lane = &mut self.lanes[stream];
        lane.tail.advance(&done.header, done.crc);
        lane.durable_end = lane.tail.place;
        lane.unsealed_since_us = now_us;
        self.shared.counters.records.fetch_add(done.records, Ordering::Relaxed);
        {
            let mut ends = self.shared.ends.lock();
            // A checkpoint must not leave behind the first half of an append whose second half is still to come.
            if lane.backlog.front().is_none_or(|entry| entry.positions.is_empty()) {
                ends.whole[stream] = lane.tail.place;
            }
            let number = lane.tail.place.0;
            let info = SegmentInfo {
                number,
                used_bytes: lane.tail.place.1,
                sealed: false,
            };
            if ends.segments[stream].insert(number, info).is_none() {
                ends.segments[stream]
                    .range_mut(..number)
                    .for_each(|(_, older)| older.sealed = true);
            }
        }
        self.answer(done.entries);
    }

    fn answer(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let (bytes, records) = entries
            .iter()
            .fold((0, 0), |sum, entry| (sum.0 + entry.bytes, sum.1 + entry.count));
        self.shared.release(bytes, records);
        for entry in entries {
            entry.waiter.tell(Ok(entry.positions));
        }
    }
}

impl Lane {
    fn wants_seal(&self) -> bool {
        !self.tail.sealed && self.tail.place.1 > 0 && self.tail.place.1 + BLOCK_BYTES as u32 <= self.tail.capacity
    }

    /// Whether a record of `payload_bytes` fits into the segment, with the carried records where they are due.
    fn fits(&self, payload_bytes: usize, batch_bytes_max: u32) -> bool {
        let room = (self.tail.capacity - self.tail.place.1).min(batch_bytes_max) as usize;
        let carried: usize = self
            .tail
            .carried
            .values()
            .map(|(_, payload)| super::format::record_disk_bytes(payload.len()))
            .sum();
        let needed = super::format::HEADER_BYTES + carried + super::format::record_disk_bytes(payload_bytes);
        assert!(
            needed <= batch_bytes_max as usize,
            "the carried records and one more fit into a batch"
        );
        needed <= room
    }

    /// Goes on in the next segment; `false` when there is none yet.
    fn roll(&mut self) -> bool {
        let Some((number, bytes)) = self.tail.spare.take() else {
            self.blocked = true;
            return false;
        };
        self.tail.place = (number, 0);
        self.tail.capacity = bytes;
        self.tail.carry_offset = 0;
        true
    }
}

fn payload_bytes(payload: &[Bytes]) -> usize {
    payload.iter().map(Bytes::len).sum()
}

/// Moves records into the batch until one does not fit; returns the entries that are whole now.
fn lay_entries(writer: &mut BatchWriter<'_>, tail: &mut Tail, backlog: &mut VecDeque<Entry>) -> Vec<Entry> {
    let mut whole = Vec::with_capacity(backlog.len());
    while let Some(entry) = backlog.front_mut() {
        while let Some(record) = entry.records.front() {
            let bytes = payload_bytes(&record.payload);
            if !writer.fits(bytes) {
                return whole;
            }
            let offset = writer.push(record.key, false, &record.payload);
            entry.positions.push(Position {
                segment: tail.place.0,
                offset,
                bytes: bytes as u32,
            });
            if record.key.kind >= 0x80 {
                let payload = match record.payload.as_slice() {
                    [one] => one.clone(),
                    many => many.concat().into(),
                };
                tail.carried.insert(record.key.kind, (record.key, payload));
            }
            entry.records.pop_front();
        }
        whole.push(backlog.pop_front().expect("it was the front"));
    }
    whole
}
