//! The ledger: small metadata by key, in LMDB, with an overlay in memory in front and checkpoints behind.
//!
//! Replicated tables are written only by `apply`, through [`Writer`]. Local tables (positions, pieces, segments) are
//! this node's own and outside the state digest; they are written in the same checkpoint. Reads are from any thread.
//! Nothing here is durable until a checkpoint; until then the journal is.
//!
//! It owns the LMDB environment, the overlay and the checkpoint. It must never know what a key or a value means, and
//! never says a key in a log line or an error: keys may name people.
//!
//! Invariants:
//! - A command's writes enter the overlay under one lock, so no read sees half a command.
//! - The overlay is frozen only when every committed command is covered by [`Ledger::applied`]. So a checkpoint never
//!   holds effects that its position does not cover, and replay never applies a command twice.
//!   The log therefore calls, for each command: `commit`, then the holds, then `applied`.
//! - A reader pins the layers first and opens its LMDB transaction after; it starts again if the layers were
//!   exchanged in between. So LMDB is never older than what the pinned layers stand on (see `view.rs`).
//! - Whether a table exists depends on puts and drops alone, never on when a checkpoint ran.

mod check;
mod checkpoint;
mod merge;
mod overlay;
mod store;
#[cfg(test)]
mod tests;
mod view;
mod writer;

use crate::base::{LogIndex, Timestamp, UploadId};
use crate::journal::Watermarks;
use std::ops::Bound;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub use check::{StateDigest, Verified, VerifyError};
pub use store::{FORMAT, LedgerError};
pub use writer::Writer;

use view::Shared;

/// Longest key, in bytes; the shortest is 1.
pub const KEY_BYTES_MAX: usize = 511;
/// Tables from this id up are this node's own: not replicated, not in the digest.
pub const LOCAL_TABLES_FROM: u8 = 200;
/// Local tables from this id up follow from the replicated ones (which uploads state names, say): an installed copy brings
/// its own, where the other local tables stay this node's.
pub const DERIVED_TABLES_FROM: u8 = 240;

/// A table. Period 0 is for ever; others (an hour number, say) are dropped whole by [`Writer::drop_table`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Table {
    /// Which table; the numbers are listed where the tables are (`services/*/state.rs`, `log/`, `bodies/`) and never reused.
    pub id: u8,
    /// 0, or which of a rotating family.
    pub period: u32,
}

impl Table {
    /// A table that stays.
    pub const fn permanent(id: u8) -> Table {
        Table { id, period: 0 }
    }

    /// One of a family that is dropped whole.
    pub const fn of_period(id: u8, period: u32) -> Table {
        Table { id, period }
    }

    /// This node's own, outside commands and digest.
    pub const fn is_local(self) -> bool {
        self.id >= LOCAL_TABLES_FROM
    }
}

/// What state code may see: reads that include the writes of the command in hand.
///
/// A scan holds a lock while it calls `each`, for at most some hundred entries at a time, and goes on behind the last
/// key after that: it sees each command's writes whole within such a stretch, not over the whole scan. `each` may read
/// the ledger; it must not write to it (that would wait for itself, and is refused by an assertion).
pub trait Read {
    /// Calls `each` with the value under `key`; says whether there was one. Copies nothing.
    fn with(&self, table: Table, key: &[u8], each: &mut dyn FnMut(&[u8])) -> bool;

    /// The value under `key`.
    fn get(&self, table: Table, key: &[u8]) -> Option<Vec<u8>> {
        let mut found = None;
        self.with(table, key, &mut |value| found = Some(value.to_vec()));
        found
    }

    /// Calls `each` in key order until it says `false`. Keys at most 511 bytes.
    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, each: &mut dyn FnMut(&[u8], &[u8]) -> bool);

    /// The same in descending order.
    fn scan_down(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, each: &mut dyn FnMut(&[u8], &[u8]) -> bool);

    /// Periods of the family `id` that exist, ascending. A table exists from its first put until it is dropped.
    fn periods(&self, id: u8) -> Vec<u32>;
}

/// The ledger; cheap to clone, readable from any thread.
#[derive(Clone)]
pub struct Ledger {
    shared: Arc<Shared>,
}

/// What the checkpoint found on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Opened {
    /// Log position that the checkpoint includes: (term, leader node, index), `None` when new.
    pub applied: Option<(u64, u64, LogIndex)>,
    /// Log time at that position.
    pub at: Timestamp,
    /// Where the journal's replay starts.
    pub watermarks: Watermarks,
}

/// What a command holds or releases; the log and the bodies carry it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// The entry at this index holds a value that must stay readable.
    Entry(LogIndex),
    /// It no longer does.
    ReleaseEntry(LogIndex),
    /// The upload's pieces are named by state.
    Upload(UploadId),
    /// They no longer are.
    ReleaseUpload(UploadId),
}

/// Sizes for `status` and metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// Length of the LMDB file.
    pub file_bytes: u64,
    /// Bytes of the map that were ever used; free pages inside are used again.
    pub map_used_bytes: u64,
    /// Bound of the map.
    pub map_bytes_max: u64,
    /// Tables that exist in the last checkpoint.
    pub tables: u64,
    /// Bytes of the overlay that wait for the next checkpoint.
    pub dirty_bytes: u64,
    /// Checkpoints since the ledger was made.
    pub checkpoints: u64,
}

impl Ledger {
    /// Opens or makes the ledger in `folder`. `map_bytes_max` bounds the LMDB map (address space, not memory).
    ///
    /// # Errors
    /// [`LedgerError`] inside the `io::Error`: written by a newer release; damaged; refused by LMDB or the system.
    pub fn open(folder: &Path, map_bytes_max: u64) -> std::io::Result<(Ledger, Opened)> {
        let (shared, opened) = Shared::open(folder, map_bytes_max)?;
        Ok((
            Ledger {
                shared: Arc::new(shared),
            },
            opened,
        ))
    }

    /// A writer for one command. Only the log's thread calls this, one at a time.
    pub fn writer(&self) -> Writer<'_> {
        Writer::new(&self.shared)
    }

    /// Notes that everything up to here is applied; the next checkpoint includes it. To be called on the log's thread
    /// after `commit` and after the command's holds were carried out; a waiting checkpoint freezes the overlay here.
    pub fn applied(&self, position: (u64, u64, LogIndex), at: Timestamp) {
        self.shared.applied(position, at, None);
    }

    /// As [`Ledger::applied`], with the value of a local key that belongs to this position: whatever checkpoint includes one
    /// includes the other.
    pub fn applied_with(&self, position: (u64, u64, LogIndex), at: Timestamp, local: (Table, &[u8], &[u8])) {
        self.shared.applied(position, at, Some(local));
    }

    /// Starts a checkpoint of everything applied so far, with `watermarks` of the journal taken *before* the overlay was
    /// frozen; blocking, so call it from the blocking pool. Returns when it is synced.
    ///
    /// # Errors
    /// `TimedOut` when a command was committed and never covered by [`Ledger::applied`]; `StorageFull` when disk or map is
    /// full: nothing is lost, and the next call tries again. Any other refusal by the disk ends the process.
    pub fn checkpoint_blocking(&self, watermarks: Watermarks) -> std::io::Result<()> {
        self.shared.checkpoint(watermarks)
    }

    /// Bytes that wait for the next checkpoint.
    pub fn dirty_bytes(&self) -> usize {
        self.shared.dirty_bytes()
    }

    /// The number of the checkpoint that will include everything written before this call. It has landed once
    /// [`Ledger::checkpoint_landed`] is not below it. Numbers never go back, also over a restart.
    pub fn checkpoint_next(&self) -> u64 {
        self.shared.checkpoint_next()
    }

    /// The number of the last checkpoint that is durable; 0 when there is none.
    pub fn checkpoint_landed(&self) -> u64 {
        self.shared.checkpoint_landed()
    }

    /// A consistent copy of the last checkpoint as one file, not synced; blocking. Waits for a running checkpoint.
    /// The file opens as a ledger of its own when it lies at `generation-1/data.mdb` in an otherwise empty folder.
    pub fn copy_blocking(&self, to: &Path) -> std::io::Result<()> {
        self.shared.copy(to)
    }

    /// Replaces everything by a copy; the log's thread calls it, no writer is open. Local tables below
    /// [`DERIVED_TABLES_FROM`] and watermarks stay this node's own. On an error the ledger is as before.
    pub fn install_blocking(&self, from: &Path) -> std::io::Result<Opened> {
        self.shared.install(from, false)
    }

    /// As [`Ledger::install_blocking`], but moves the file, which lies on the ledger's file system: copying a large one takes
    /// long, and is done before, off the log's thread.
    pub fn install_moving_blocking(&self, from: &Path) -> std::io::Result<Opened> {
        self.shared.install(from, true)
    }

    /// How often the ledger was installed, from 1: whoever derives something from it looks again when this has changed.
    pub fn generation(&self) -> u64 {
        self.shared.generation.load(Ordering::Acquire)
    }

    /// Walks every table of the last checkpoint and proves every checksum; blocking.
    pub fn verify_blocking(&self) -> Result<Verified, VerifyError> {
        self.shared.verify()
    }

    /// Digest of all replicated tables of the last checkpoint; blocking. Two ledgers with the same applied position
    /// must give the same.
    pub fn digest_blocking(&self) -> Result<StateDigest, VerifyError> {
        self.shared.digest()
    }

    /// Sizes.
    pub fn sizes(&self) -> std::io::Result<Sizes> {
        self.shared.sizes()
    }

    /// Writes to local tables (ids 200 and up), outside any command.
    pub fn put_local(&self, table: Table, key: &[u8], value: Option<&[u8]>) {
        self.put_locals(&[(table, key, value)]);
    }

    /// As [`Ledger::put_local`] for several at once: a checkpoint includes all of them or none.
    pub fn put_locals(&self, writes: &[(Table, &[u8], Option<&[u8]>)]) {
        self.shared.put_locals(writes);
    }
}

impl Read for Ledger {
    fn with(&self, table: Table, key: &[u8], each: &mut dyn FnMut(&[u8])) -> bool {
        self.shared.with(None, table, key, each)
    }
    fn scan(&self, table: Table, from: Bound<&[u8]>, to: Bound<&[u8]>, each: &mut dyn FnMut(&[u8], &[u8]) -> bool) {
        self.shared.scan(None, merge::Direction::Up, table, (from, to), each);
    }
    fn scan_down(
        &self,
        table: Table,
        from: Bound<&[u8]>,
        to: Bound<&[u8]>,
        each: &mut dyn FnMut(&[u8], &[u8]) -> bool,
    ) {
        self.shared.scan(None, merge::Direction::Down, table, (from, to), each);
    }
    fn periods(&self, id: u8) -> Vec<u32> {
        self.shared.periods(None, id)
    }
}
