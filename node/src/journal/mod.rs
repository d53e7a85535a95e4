//! The journal: append-only, checksummed, group-committed. It knows bytes, never what they mean.
//!
//! Three streams, each with segments of its own, in one format (`FORMAT.md` beside this file). One task on the
//! thread that opened it owns the ring and has one batch in flight; handles may be used from any thread.
//! A record is durable when its append resolves; nothing is said to be durable before its fsync returned.
//! A failed write or fsync ends the process.
//!
//! ```text
//! handle ──▶ queue ──▶ task ──▶ format ──▶ ring::storage          recover ──▶ the task's tails
//! ```

#[cfg(test)]
mod faults;
mod format;
#[cfg(fuzzing)]
pub mod fuzzing;
pub(crate) mod planted;
mod queue;
mod recover;
mod run;
mod scan;
#[cfg(test)]
mod simulation;
#[cfg(any(test, fuzzing))]
mod stepping;
mod task;
#[cfg(test)]
mod tests;

/// The disk below a simulated journal, for those above that may not know the ring.
#[cfg(test)]
pub(crate) use crate::ring::storage::simulated::{Dice, Failing, SimDisk};
pub use queue::CARRIED_BYTES_MAX;
pub use run::Run;
#[cfg(test)]
pub(crate) use stepping::{SIMULATED_BATCH_BYTES_MAX, abandon, open_simulated};

use crate::ring::storage::{RingStorage, SegmentId, Storage};
use bytes::Bytes;
use format::{RECORD_HEADER_BYTES, RecordHeader, segment_crc};
use queue::{Shared, Waiter};
use recover::Sizes;
use serde::{Deserialize, Serialize};
use std::future::poll_fn;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use task::Task;

/// The three streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Stream {
    /// Raft log entries, votes, committed positions.
    Log,
    /// Pieces of large bodies.
    Bodies,
    /// The audit chain.
    Audit,
}

/// Where a record is on this node: never part of replicated state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Position {
    /// Number of the segment within its stream, from 1, never used again.
    pub segment: u32,
    /// Byte offset of the record within the segment.
    pub offset: u32,
    /// Bytes of the record's payload.
    pub bytes: u32,
}

/// What a record says it is; stored with it and compared on every read, so that a wrong position shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RecordKey {
    /// Kind, given by the stream's owner. From 0x80 up the kind is *carried*: the newest record of each such kind is
    /// written again at the head of every new segment, so that the last segments alone tell it.
    pub kind: u8,
    /// First part of the key: upload identifier, term, or 0.
    pub id: u128,
    /// Second part of the key: log index, piece or sequence number.
    pub number: u64,
}

/// A record to append. The payload is given in slices so that a header need not be copied before a body.
#[derive(Clone, Debug)]
pub struct Record {
    /// What it is.
    pub key: RecordKey,
    /// Its bytes, in order; at most [`RECORD_BYTES_MAX`] in all.
    pub payload: Vec<Bytes>,
}

/// Largest payload of one record: a piece of 256 KiB and its header.
pub const RECORD_BYTES_MAX: usize = 256 * 1024 + 4096;

/// Smallest size of a segment; smaller ones are raised to it.
pub const SEGMENT_BYTES_MIN: u32 = 1024 * 1024;

/// Sizes of segments on a production node: log 64 MiB, bodies 256 MiB, audit 64 MiB.
pub const SEGMENT_BYTES_DEFAULT: [u32; 3] = [64 * 1024 * 1024, 256 * 1024 * 1024, 64 * 1024 * 1024];

/// Largest batch: bounds how long a commit waits for one that is in flight.
const BATCH_BYTES_MAX: u32 = 1024 * 1024;

/// The carried records are repeated at least this often.
const CARRY_BYTES: u32 = 4 * 1024 * 1024;

/// Folders of the streams, by their numbers.
const FOLDERS: [&str; 3] = ["log", "bodies", "audit"];

/// How to open a journal.
#[derive(Clone, Debug)]
pub struct JournalConfig {
    /// Folder that holds `log/`, `bodies/` and `audit/`.
    pub folder: PathBuf,
    /// This node, written into every batch header.
    pub node: u64,
    /// Size of a new segment by stream (`Log`, `Bodies`, `Audit`).
    pub segment_bytes: [u32; 3],
    /// Appends are refused with [`AppendError::Full`] while the file system has less than this left.
    pub reserve_bytes: u64,
    /// Appends are refused with [`AppendError::Overloaded`] while more than this waits in memory; those to the log are
    /// not, because the log admits by itself and cannot go on without an entry that it has taken.
    pub queue_bytes_max: usize,
}

/// The end of what a checkpoint has taken over, by stream: replay starts at these (segment, offset) batch boundaries.
/// (0, 0) is the first segment that exists. A durable tail that ends before its watermark is corruption.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watermarks {
    /// By stream: `Log`, `Bodies`, `Audit`.
    pub from: [(u32, u32); 3],
}

/// A segment as the space reclaim sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// Its number.
    pub number: u32,
    /// Bytes of batches in it.
    pub used_bytes: u32,
    /// No batch will be added to it any more.
    pub sealed: bool,
}

/// Why an append was refused. The record is not in the journal and never will be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The disk's reserve is reached: refuse writes, go on reading, free space.
    #[error("the disk is full up to its reserve")]
    Full,
    /// More than `queue_bytes_max` wait already: shed load. Never told to [`Stream::Log`].
    #[error("the journal's queue is full")]
    Overloaded,
    /// The journal is closing.
    #[error("the journal is closing")]
    Closed,
}

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Checksum or key did not match: corruption, never served.
    #[error("corrupt record in {stream:?} at {position:?}: {what}")]
    Corrupt {
        /// Stream of the record.
        stream: Stream,
        /// Where it should be.
        position: Position,
        /// What did not match.
        what: &'static str,
    },
    /// The segment is gone: the caller's position is older than the space reclaim.
    #[error("segment {segment} of {stream:?} is gone")]
    Gone {
        /// Stream of the record.
        stream: Stream,
        /// The missing segment.
        segment: u32,
    },
    /// The operating system refused.
    #[error("reading the journal: {0}")]
    Io(#[from] std::io::Error),
}

/// Why a journal could not be opened. Each says what an operator does next.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Damage below a known-durable point.
    #[error("{stream:?} segment {segment} at byte {offset}: {what}; restore this node from a peer or a backup")]
    Corrupt {
        /// The damaged stream.
        stream: Stream,
        /// The damaged segment.
        segment: u32,
        /// Where the damage starts.
        offset: u32,
        /// What did not match.
        what: String,
    },
    /// Written by a later release.
    #[error(
        "{stream:?} segment {segment} has format {found}, this release reads up to {known}; start the newer release"
    )]
    Newer {
        /// The stream.
        stream: Stream,
        /// The segment.
        segment: u32,
        /// Its format version.
        found: u16,
        /// Ours.
        known: u16,
    },
    /// The operating system refused.
    #[error("opening the journal: {0}")]
    Io(#[from] std::io::Error),
}

/// What a replay calls for each record, oldest first within a stream.
pub type Replay<'a> = &'a mut dyn FnMut(Stream, RecordKey, Position, Bytes);

/// Figures for metrics and `status`.
#[derive(Clone, Copy, Debug, Default)]
pub struct JournalStats {
    /// Records appended since start.
    pub records: u64,
    /// Batches (one fsync each) since start.
    pub batches: u64,
    /// Bytes written since start, blocks included.
    pub bytes: u64,
    /// Time of the last write and fsync, in microseconds.
    pub sync_us_last: u64,
    /// Sum of write and fsync times, in microseconds.
    pub sync_us_sum: u64,
    /// Bytes that wait for the next batch.
    pub queue_bytes: usize,
    /// Records that wait for the next batch.
    pub queue_records: usize,
    /// Free bytes of the file system at the last look.
    pub free_bytes: u64,
    /// Milliseconds since the journal's task last turned; the watchdog looks at it.
    pub idle_ms: u64,
}

/// A handle; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Journal {
    shared: Arc<Shared>,
}

/// Called on the journal's thread once the records are durable, or at once with why they were refused.
/// It must be short: it runs between two batches.
pub type Done = Box<dyn FnOnce(Result<Vec<Position>, AppendError>) + Send>;

impl Sizes {
    fn of(config: &JournalConfig) -> Sizes {
        let block = crate::ring::storage::BLOCK_BYTES as u32;
        Sizes {
            batch_bytes_max: BATCH_BYTES_MAX,
            carry_bytes: CARRY_BYTES,
            first_segment_bytes: SEGMENT_BYTES_MIN,
            segment_bytes: config
                .segment_bytes
                .map(|bytes| bytes.clamp(SEGMENT_BYTES_MIN, 1 << 31).next_multiple_of(block)),
        }
    }
}

impl Journal {
    /// Opens the journal in `config.folder` (made when absent), replays from `watermarks`, rewrites and fsyncs the
    /// tail, and starts the task that owns the ring on the current `tokio_uring` runtime. Blocks the thread while it
    /// replays. Carried records that lie before a watermark are replayed first.
    pub async fn open(config: JournalConfig, watermarks: Watermarks, replay: Replay<'_>) -> Result<Journal, OpenError> {
        let storage = RingStorage::open(config.folder.clone(), &FOLDERS, BATCH_BYTES_MAX as usize)?;
        let fresh: u128 = rand::random();
        let (journal, task) = Journal::start(storage, &config, Sizes::of(&config), fresh, watermarks, replay)?;
        tokio::task::spawn_local(task.run());
        Ok(journal)
    }

    fn start<S: Storage>(
        mut storage: S,
        config: &JournalConfig,
        sizes: Sizes,
        fresh: u128,
        watermarks: Watermarks,
        replay: Replay<'_>,
    ) -> Result<(Journal, Task<S>), OpenError> {
        let found = recover::recover(&mut storage, config.node, fresh, &sizes, watermarks, replay)?;
        let shared = Arc::new(Shared::new(config, &found, storage.reads()));
        let task = Task::new(storage, shared.clone(), sizes, config.reserve_bytes, found);
        Ok((Journal { shared }, task))
    }

    /// Queues `records` behind everything queued before in this stream; resolves when all are durable.
    /// Dropping the future takes nothing back. Records above [`RECORD_BYTES_MAX`] (carried ones above
    /// [`CARRIED_BYTES_MAX`]) are a bug of the caller and panic. Errors in the order checked: `Closed`, `Full` (unless
    /// all records are carried ones), `Overloaded`.
    pub async fn append(&self, stream: Stream, records: Vec<Record>) -> Result<Vec<Position>, AppendError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.shared.push(stream, records, Waiter::Task(sender));
        match receiver.await {
            Ok(answer) => answer,
            // The task was dropped with the runtime, without a close: nobody can say what became of the records.
            Err(_) => std::future::pending().await,
        }
    }

    /// As [`append`](Self::append), for callers that cannot wait: order is the order of the calls. `done` is dropped
    /// without a call when the runtime ends without a [`close`](Self::close).
    pub fn append_then(&self, stream: Stream, records: Vec<Record>, done: Done) {
        self.shared.push(stream, records, Waiter::Call(done));
    }

    /// Reads one record's payload and checks its checksum and key. From the page cache where it is there; otherwise
    /// through the current thread's ring, so it may be called on any reactor and never blocks one.
    pub async fn read(&self, stream: Stream, position: Position, key: RecordKey) -> Result<Bytes, ReadError> {
        let id = SegmentId {
            stream: stream.number(),
            number: position.segment,
        };
        let wanted = self.record_bytes(stream, position)?;
        let offset = u64::from(position.offset);
        let gone = |error| gone_or_io(error, stream, position.segment);
        let record = match self.shared.reads.read_cached(id, offset, wanted).map_err(gone)? {
            Some(record) => record,
            None => self.shared.reads.read_on_ring(id, offset, wanted).await.map_err(gone)?,
        };
        self.check(stream, position, key, record.into())
    }

    /// The same, blocking; for command-line tools and the blocking pool.
    pub fn read_blocking(&self, stream: Stream, position: Position, key: RecordKey) -> Result<Bytes, ReadError> {
        let id = SegmentId {
            stream: stream.number(),
            number: position.segment,
        };
        let mut record = vec![0; self.record_bytes(stream, position)?];
        let offset = u64::from(position.offset);
        let gone = |error| gone_or_io(error, stream, position.segment);
        let read = self.shared.reads.read_blocking(id, offset, &mut record).map_err(gone)?;
        record.truncate(read);
        self.check(stream, position, key, record.into())
    }

    /// Bytes of the record at `position` with its header. A position that no record can have is corruption of whoever
    /// kept it.
    fn record_bytes(&self, stream: Stream, position: Position) -> Result<usize, ReadError> {
        if position.bytes as usize > RECORD_BYTES_MAX {
            return Err(ReadError::Corrupt {
                stream,
                position,
                what: "a position with an impossible length",
            });
        }
        Ok(RECORD_HEADER_BYTES + position.bytes as usize)
    }

    fn check(&self, stream: Stream, position: Position, key: RecordKey, record: Bytes) -> Result<Bytes, ReadError> {
        let corrupt = |what| ReadError::Corrupt { stream, position, what };
        let wanted = RECORD_HEADER_BYTES + position.bytes as usize;
        if record.len() != wanted {
            self.shared.still_there(stream, position.segment)?;
            return Err(corrupt("the segment ends within the record"));
        }
        let header = RecordHeader::decode(&record).ok_or_else(|| corrupt("no record header"))?;
        if header.bytes != position.bytes {
            return Err(corrupt("another length than its position says"));
        }
        let segment_crc = segment_crc(self.shared.identity, stream, position.segment);
        if !header.matches(segment_crc, position.offset, &record) {
            return Err(corrupt("its checksum does not match"));
        }
        if header.key != key {
            return Err(corrupt("another record's key"));
        }
        Ok(record.slice(RECORD_HEADER_BYTES..))
    }

    /// The durable end of each stream: what a checkpoint that has taken over everything up to now may store. It never
    /// cuts through the records of one append.
    pub fn watermarks(&self) -> Watermarks {
        Watermarks {
            from: self.shared.ends.lock().whole,
        }
    }

    /// Bytes of a torn tail that opening cut off. They were never acknowledged by this node, but a voter that cut
    /// anything off must catch up before it votes.
    pub fn cut_off_bytes(&self, stream: Stream) -> u32 {
        self.shared.cut_off_bytes[stream.index()]
    }

    /// The segments of a stream, oldest first. `used_bytes` of a segment below the watermarks of the last opening is
    /// the size of its file.
    pub fn segments(&self, stream: Stream) -> Vec<SegmentInfo> {
        self.shared.ends.lock().segments[stream.index()]
            .values()
            .copied()
            .collect()
    }

    /// Calls `each` for every record of a segment, in order and without the repeated copies of carried ones; blocking,
    /// checks everything. The segment that is being written is scanned up to its durable end.
    pub fn scan_blocking(
        &self,
        stream: Stream,
        segment: u32,
        each: &mut dyn FnMut(RecordKey, Position, Bytes),
    ) -> Result<(), ReadError> {
        scan::scan(&self.shared, stream, segment, each)
    }

    /// Bytes of a segment as they are in its file, for a copy of it; gives how many there were. Blocking, checks nothing.
    pub fn read_raw_blocking(
        &self,
        stream: Stream,
        segment: u32,
        offset: u64,
        into: &mut [u8],
    ) -> Result<usize, ReadError> {
        let id = SegmentId {
            stream: stream.number(),
            number: segment,
        };
        let gone = |error| gone_or_io(error, stream, segment);
        self.shared.reads.read_blocking(id, offset, into).map_err(gone)
    }

    /// The first record of a segment's first batch, in all but the first segment a repeated copy of the newest carried record
    /// before it; `None` when that batch is a seal, or not there yet. Blocking, and as cheap as one batch.
    pub fn first_blocking(&self, stream: Stream, segment: u32) -> Result<Option<(RecordKey, Bytes)>, ReadError> {
        scan::first(&self.shared, stream, segment)
    }

    /// Removes a sealed segment; the caller has moved or dropped everything in it, durably. A segment that is not there
    /// is already removed; one that is being written is a bug of the caller.
    pub fn remove_segment(&self, stream: Stream, segment: u32) {
        let mut ends = self.shared.ends.lock();
        let Some(info) = ends.segments[stream.index()].get(&segment) else {
            return;
        };
        assert!(info.sealed, "only a sealed segment is removed");
        ends.segments[stream.index()].remove(&segment);
        drop(ends);
        self.shared.remove(stream, segment);
    }

    /// Figures.
    pub fn stats(&self) -> JournalStats {
        let counters = &self.shared.counters;
        let (queue_bytes, queue_records) = self.shared.queued();
        let now_ms = self.shared.started.elapsed().as_millis() as u64;
        JournalStats {
            records: counters.records.load(Ordering::Relaxed),
            batches: counters.batches.load(Ordering::Relaxed),
            bytes: counters.bytes.load(Ordering::Relaxed),
            sync_us_last: counters.sync_us_last.load(Ordering::Relaxed),
            sync_us_sum: counters.sync_us_sum.load(Ordering::Relaxed),
            queue_bytes,
            queue_records,
            free_bytes: counters.free_bytes.load(Ordering::Relaxed),
            idle_ms: now_ms.saturating_sub(counters.turned_ms.load(Ordering::Relaxed)),
        }
    }

    /// Waits for what is queued, writes the seal, refuses everything later with `Closed`.
    pub async fn close(&self) {
        self.shared.start_closing();
        poll_fn(|cx| self.shared.poll_closed(cx)).await;
    }
}

/// Calls `each` for every record of a stream in `folder`, a journal that cannot be opened because it is damaged, up to the
/// first batch that is not sound. Blocking; writes nothing.
///
/// # Errors
/// The folder or a segment cannot be read.
pub fn read_damaged_blocking(
    folder: &Path,
    stream: Stream,
    each: &mut dyn FnMut(RecordKey, &[u8]),
) -> std::io::Result<()> {
    scan::read_damaged(&folder.join(FOLDERS[stream.index()]), stream, each)
}

fn gone_or_io(error: io::Error, stream: Stream, segment: u32) -> ReadError {
    match error.kind() {
        io::ErrorKind::NotFound => ReadError::Gone { stream, segment },
        _ => ReadError::Io(error),
    }
}
