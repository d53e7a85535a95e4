//! Space of the log stream: which segments hold values that state still needs, and how the others come back.
//!
//! A segment's bytes are live while an entry in it is not purged or is held by state. Purged entries that nothing holds
//! are dead. Segments without live bytes are removed; of those with few, the held records are copied to the end of the
//! stream at a bounded rate, and the segment is removed after that.
//!
//! Invariants:
//! - A hold and its segment's count change in one step of the ledger, so a checkpoint has both or none.
//! - A segment is removed only after a checkpoint that began after it was seen empty, and after every record in it was
//!   compared with the table: counts are a hint, the table decides.

use super::record::{self, KIND_ENTRY, KIND_HELD};
use super::store::Store;
use super::tables::{self, HELD, Row, SEGMENTS};
use super::types::{Entry, Leader};
use crate::base::blocking;
use crate::journal::{AppendError, Position, ReadError, Record, RecordKey, Stream};
use crate::ledger::Ledger;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A segment is rewritten when less than this many hundredths of it are live.
const REWRITE_BELOW_PERCENT: u64 = 50;

/// Live bytes and what may go.
pub struct Space {
    live: Mutex<BTreeMap<u32, u64>>,
    /// Segments seen empty, with the checkpoint that has to land first.
    empty: Mutex<BTreeMap<u32, u64>>,
}

/// What one turn did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Turn {
    /// Bytes copied.
    pub moved_bytes: u64,
    /// Segments removed.
    pub removed: u32,
}

/// Why a turn ended early; the next one tries again.
#[derive(Debug, thiserror::Error)]
pub enum SpaceError {
    /// Reading a segment.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Writing the copies.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// A held record on the move.
struct Moving {
    index: u64,
    row: Row,
    payload: Bytes,
}

fn in_journal(row: &Row) -> u64 {
    u64::from(row.position.bytes)
}

impl Space {
    /// Takes over the counts of the last checkpoint.
    pub fn new(ledger: &Ledger) -> Space {
        let live = tables::segments(ledger).into_iter().collect();
        Space {
            live: Mutex::new(live),
            empty: Mutex::default(),
        }
    }

    /// State holds the entry. Says whether it is there to be held.
    pub fn hold(&self, store: &Store, index: u64) -> bool {
        if tables::held(&store.ledger, index).is_some() {
            return true;
        }
        let Some(row) = store.row(index) else { return false };
        self.set(&store.ledger, index, None, Some(row));
        true
    }

    /// Keeps a fresh copy of a held entry, whose record here is damaged.
    pub async fn replace(&self, store: &Store, entry: &Entry) -> Result<(), AppendError> {
        let mut records = Vec::new();
        record::encode_entries(KIND_HELD, std::slice::from_ref(entry), &mut records);
        let positions = store.journal.append(Stream::Log, records).await?;
        let (index, leader) = (entry.log_id.index, entry.log_id.leader_id);
        // State may have let go of it meanwhile; then the copy is dead.
        if let Some(row) = tables::held(&store.ledger, index) {
            let copy = Row {
                leader,
                position: positions[0],
                copied: true,
            };
            self.set(&store.ledger, index, Some(row), Some(copy));
        }
        Ok(())
    }

    /// State no longer holds the entry.
    pub fn release(&self, store: &Store, index: u64) {
        if let Some(row) = tables::held(&store.ledger, index) {
            self.set(&store.ledger, index, Some(row), None);
        }
    }

    /// Changes the row of a held entry and the counts of the segments it leaves and enters, in one step.
    pub fn set(&self, ledger: &Ledger, index: u64, old: Option<Row>, new: Option<Row>) {
        let mut live = self.live.lock();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        if let Some(row) = old {
            let count = live.entry(row.position.segment).or_default();
            *count = count.saturating_sub(in_journal(&row));
            counts.insert(row.position.segment, *count);
        }
        if let Some(row) = new {
            let count = live.entry(row.position.segment).or_default();
            *count += in_journal(&row);
            counts.insert(row.position.segment, *count);
        }
        let key = index.to_be_bytes();
        let value = new.map(|row| row.encode());
        let counts: Vec<([u8; 4], [u8; 8])> = counts
            .into_iter()
            .map(|(segment, bytes)| (segment.to_be_bytes(), bytes.to_le_bytes()))
            .collect();
        let mut writes: Vec<(_, &[u8], Option<&[u8]>)> =
            vec![(HELD, &key, value.as_ref().map(|value| value.as_slice()))];
        writes.extend(
            counts
                .iter()
                .map(|(segment, bytes)| (SEGMENTS, segment.as_slice(), Some(bytes.as_slice()))),
        );
        ledger.put_locals(&writes);
    }

    /// Held bytes in a segment.
    pub fn live_bytes(&self, segment: u32) -> u64 {
        self.live.lock().get(&segment).copied().unwrap_or(0)
    }

    /// Whether a segment waits for checkpoints to land before it can go.
    pub fn waits(&self) -> bool {
        !self.empty.lock().is_empty()
    }

    /// One turn over the sealed segments before `bound`, which hold no entry of the log and nothing that replay needs.
    /// Copies at most about `bytes_max`. Call it on the log's thread.
    pub async fn turn(&self, store: &Arc<Store>, bound: u32, bytes_max: u64) -> Result<Turn, SpaceError> {
        let mut turn = Turn::default();
        let segments = store.journal.segments(Stream::Log);
        let newest = segments.last().map_or(0, |segment| segment.number);
        for segment in segments
            .into_iter()
            .filter(|segment| segment.sealed && segment.number < bound.min(newest))
        {
            let live = self.live_bytes(segment.number);
            if live == 0 {
                turn.removed += u32::from(self.remove_if_landed(store, segment.number).await?);
            } else if live * 100 < u64::from(segment.used_bytes) * REWRITE_BELOW_PERCENT && turn.moved_bytes < bytes_max
            {
                turn.moved_bytes += self
                    .rewrite(store, segment.number, bytes_max - turn.moved_bytes)
                    .await?;
            }
        }
        Ok(turn)
    }

    /// Removes a segment seen empty once a checkpoint covers that; says whether it did.
    async fn remove_if_landed(&self, store: &Arc<Store>, segment: u32) -> Result<bool, SpaceError> {
        let next = store.ledger.checkpoint_next();
        // Two checkpoints: LMDB may fall back to the one before the last.
        let due = *self.empty.lock().entry(segment).or_insert(next + 1);
        if store.ledger.checkpoint_landed() < due {
            return Ok(false);
        }
        let left = self.held_in(store, segment, u64::MAX).await?;
        if !left.is_empty() {
            tracing::warn!(
                segment,
                held = left.len(),
                "a log segment counted as empty holds values: it stays"
            );
            let bytes = left.iter().map(|moving| in_journal(&moving.row)).sum();
            self.live.lock().insert(segment, bytes);
            self.empty.lock().remove(&segment);
            return Ok(false);
        }
        store.journal.remove_segment(Stream::Log, segment);
        self.empty.lock().remove(&segment);
        self.live.lock().remove(&segment);
        store.ledger.put_local(SEGMENTS, &segment.to_be_bytes(), None);
        Ok(true)
    }

    /// Copies held records of a segment to the end of the stream, at most about `bytes_max`; gives the bytes copied.
    async fn rewrite(&self, store: &Arc<Store>, segment: u32, bytes_max: u64) -> Result<u64, SpaceError> {
        let moving = self.held_in(store, segment, bytes_max).await?;
        let records = moving
            .iter()
            .map(|moving| copy_of(moving.index, &moving.row.leader, moving.payload.clone()));
        let positions = store.journal.append(Stream::Log, records.collect()).await?;
        let mut bytes = 0;
        for (moving, position) in moving.iter().zip(positions) {
            bytes += in_journal(&moving.row);
            // It may have been released while the copy was written.
            if tables::held(&store.ledger, moving.index) == Some(moving.row) {
                let row = Row {
                    leader: moving.row.leader,
                    position,
                    copied: true,
                };
                self.set(&store.ledger, moving.index, Some(moving.row), Some(row));
            }
        }
        Ok(bytes)
    }

    /// The records of a segment that the table names.
    async fn held_in(&self, store: &Arc<Store>, segment: u32, bytes_max: u64) -> Result<Vec<Moving>, SpaceError> {
        let store = store.clone();
        let scan = move || {
            let mut found: Vec<Moving> = Vec::new();
            let mut bytes = 0;
            let mut each = |key: RecordKey, position: Position, payload: Bytes| {
                if !matches!(key.kind, KIND_ENTRY | KIND_HELD) || bytes >= bytes_max {
                    return;
                }
                let Some(row) = tables::held(&store.ledger, key.number) else {
                    return;
                };
                if row.position == position && row.key(key.number) == key {
                    bytes += in_journal(&row);
                    // A copy: the slice would keep the scan's whole buffer alive.
                    let payload = Bytes::copy_from_slice(&payload);
                    found.push(Moving {
                        index: key.number,
                        row,
                        payload,
                    });
                }
            };
            store
                .journal
                .scan_blocking(Stream::Log, segment, &mut each)
                .map(|()| found)
        };
        let found = blocking::run(scan)
            .await
            .expect("a scan does not panic and is not cancelled");
        Ok(found?)
    }
}

/// The record of a copy.
pub fn copy_of(index: u64, leader: &Leader, payload: Bytes) -> Record {
    let key = record::entry_key(KIND_HELD, leader, index);
    Record {
        key,
        payload: vec![payload],
    }
}
