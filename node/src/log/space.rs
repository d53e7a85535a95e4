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
//! - A damaged segment cannot be read through, so the table alone says what it holds. It is emptied whatever its share of
//!   live bytes: what can be read is copied, the rest comes from other members, and then it goes.

use super::record::{self, KIND_ENTRY, KIND_HELD};
use super::store::Store;
use super::tables::{self, HELD, Row, SEGMENTS};
use super::types::{Entry, Leader, TypeConfig};
use crate::base::blocking;
use crate::journal::{AppendError, Position, ReadError, Record, RecordKey, Run, Stream};
use crate::ledger::Ledger;
use bytes::Bytes;
use openraft::type_config::TypeConfigExt as _;
use openraft::type_config::alias::InstantOf;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// A segment is rewritten when less than this many hundredths of it are live.
const REWRITE_BELOW_PERCENT: u64 = 50;

/// What could not be read is asked for again after this.
const UNREADABLE_AGAIN: Duration = Duration::from_secs(10);
/// So many entries of the table are looked at under one view of it, and so many are asked for at once.
const ROWS_PER_LOOK: usize = 10_000;
const ASKED_MAX: usize = 64;

/// Live bytes and what may go.
pub struct Space {
    live: Mutex<BTreeMap<u32, u64>>,
    /// Segments seen empty, with the checkpoint that has to land first.
    empty: Mutex<BTreeMap<u32, u64>>,
    /// Who gets damaged entries from other members.
    repairs: Mutex<Option<mpsc::UnboundedSender<Repair>>>,
    /// Segments with damage.
    damaged: Mutex<BTreeMap<u32, Damaged>>,
}

/// How far a damaged segment is emptied.
struct Damaged {
    /// Indexes of the entries that may still be held in it; `None`: not looked up yet.
    left: Option<Vec<u64>>,
    not_before: InstantOf<TypeConfig>,
}

/// An entry's index, and its row before and from now on.
pub type Change = (u64, Option<Row>, Option<Row>);

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

/// An entry that state holds and that cannot be read here, and where another member's goes.
pub type Repair = (u64, oneshot::Sender<Entry>);

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
            damaged: Mutex::default(),
            repairs: Mutex::default(),
        }
    }

    /// From now on damaged entries can be had from other members, by whoever takes these.
    pub fn have_repaired(&self, repairs: mpsc::UnboundedSender<Repair>) {
        *self.repairs.lock() = Some(repairs);
    }

    /// Asks for another member's entry in place of the one that is damaged here, where it is kept then. What is received ends
    /// without it when nobody has it. `None`: there is nobody to ask.
    pub fn repair(&self, index: u64) -> Option<oneshot::Receiver<Entry>> {
        let (tell, repaired) = oneshot::channel();
        self.repairs.lock().as_ref()?.send((index, tell)).ok()?;
        Some(repaired)
    }

    /// The payload of a held entry: from here or, when it is damaged here, from another member. Blocking.
    pub fn read_blocking(&self, run: &mut Run<'_>, index: u64, row: &Row) -> Result<Bytes, ReadError> {
        let error = match run.read_blocking(row.position, row.key(index)) {
            Err(error @ (ReadError::Corrupt { .. } | ReadError::Io(_))) => error,
            read => return read,
        };
        let Some(Ok(entry)) = self.repair(index).map(oneshot::Receiver::blocking_recv) else {
            return Err(error);
        };
        let mut records = Vec::new();
        record::encode_entries(KIND_HELD, std::slice::from_ref(&entry), &mut records);
        Ok(records.swap_remove(0).payload.concat().into())
    }

    /// The segment has damage: it is to be emptied and removed.
    pub fn note_damage(&self, segment: u32) {
        let mut damaged = self.damaged.lock();
        damaged.entry(segment).or_insert_with(|| {
            tracing::warn!(
                segment,
                "a log segment is damaged: what it holds is written anew, then it is removed"
            );
            Damaged {
                left: None,
                not_before: TypeConfig::now(),
            }
        });
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
            self.note_damage(row.position.segment);
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
        self.set_all(ledger, &[(index, old, new)]);
    }

    /// The same for several, in one step.
    pub fn set_all(&self, ledger: &Ledger, changes: &[Change]) {
        let mut live = self.live.lock();
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for (_, old, new) in changes {
            if let Some(row) = old {
                let count = live.entry(row.position.segment).or_default();
                *count = count.saturating_sub(in_journal(row));
                counts.insert(row.position.segment, *count);
            }
            if let Some(row) = new {
                let count = live.entry(row.position.segment).or_default();
                *count += in_journal(row);
                counts.insert(row.position.segment, *count);
            }
        }
        let rows: Vec<([u8; 8], _)> = changes
            .iter()
            .map(|(index, _, new)| (index.to_be_bytes(), new.map(|row| row.encode())))
            .collect();
        let counts: Vec<([u8; 4], [u8; 8])> = counts
            .into_iter()
            .map(|(segment, bytes)| (segment.to_be_bytes(), bytes.to_le_bytes()))
            .collect();
        let mut writes: Vec<(_, &[u8], Option<&[u8]>)> = rows
            .iter()
            .map(|(key, value)| (HELD, key.as_slice(), value.as_ref().map(|value| value.as_slice())))
            .collect();
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
    /// Copies at most about `bytes_max`. `repair` asks another member for an entry, which then is kept by [`Space::replace`].
    /// Call it on the log's thread.
    pub async fn turn(
        &self,
        store: &Arc<Store>,
        bound: u32,
        bytes_max: u64,
        repair: &dyn Fn(u64),
    ) -> Result<Turn, SpaceError> {
        let mut turn = Turn::default();
        let segments = store.journal.segments(Stream::Log);
        let newest = segments.last().map_or(0, |segment| segment.number);
        for segment in segments
            .into_iter()
            .filter(|segment| segment.sealed && segment.number < bound.min(newest))
        {
            let (number, budget) = (segment.number, bytes_max.saturating_sub(turn.moved_bytes));
            let live = self.live_bytes(number);
            let few = live * 100 < u64::from(segment.used_bytes) * REWRITE_BELOW_PERCENT;
            let done = if self.damaged.lock().contains_key(&number) {
                self.empty_damaged(store, number, budget, repair).await
            } else if live == 0 {
                self.remove_if_landed(store, number).await
            } else if few && budget > 0 {
                self.rewrite(store, number, budget).await
            } else {
                Ok(Turn::default())
            };
            match done {
                Ok(done) => {
                    turn.moved_bytes += done.moved_bytes;
                    turn.removed += done.removed;
                }
                Err(SpaceError::Read(ReadError::Corrupt { .. })) => self.note_damage(number),
                Err(error) => return Err(error),
            }
        }
        Ok(turn)
    }

    /// Removes a segment seen empty once a checkpoint covers that.
    async fn remove_if_landed(&self, store: &Arc<Store>, segment: u32) -> Result<Turn, SpaceError> {
        if !self.is_landed(store, segment) {
            return Ok(Turn::default());
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
            return Ok(Turn::default());
        }
        Ok(self.remove(store, segment))
    }

    /// Whether the segment was seen empty before a checkpoint that has landed; it is seen empty now.
    fn is_landed(&self, store: &Store, segment: u32) -> bool {
        let next = store.ledger.checkpoint_next();
        // Two checkpoints: LMDB may fall back to the one before the last.
        let due = *self.empty.lock().entry(segment).or_insert(next + 1);
        store.ledger.checkpoint_landed() >= due
    }

    fn remove(&self, store: &Store, segment: u32) -> Turn {
        store.journal.remove_segment(Stream::Log, segment);
        self.empty.lock().remove(&segment);
        self.live.lock().remove(&segment);
        store.ledger.put_local(SEGMENTS, &segment.to_be_bytes(), None);
        Turn {
            moved_bytes: 0,
            removed: 1,
        }
    }

    /// Writes anew what a damaged segment holds, at most about `bytes_max` of it; removes the segment when nothing is left.
    async fn empty_damaged(
        &self,
        store: &Arc<Store>,
        segment: u32,
        bytes_max: u64,
        repair: &dyn Fn(u64),
    ) -> Result<Turn, SpaceError> {
        let left = match self.damaged.lock().get_mut(&segment) {
            Some(damaged) if TypeConfig::now() >= damaged.not_before => damaged.left.take(),
            Some(_) | None => return Ok(Turn::default()),
        };
        let left = match left {
            Some(left) => left,
            None => rows_in(store, segment).await,
        };
        let mut turn = Turn::default();
        let (mut readable, mut kept, mut unreadable) = (Vec::new(), Vec::new(), 0);
        for index in left {
            let row = tables::held(&store.ledger, index).filter(|row| row.position.segment == segment);
            let Some(row) = row else { continue };
            if turn.moved_bytes >= bytes_max {
                kept.push(index);
                continue;
            }
            match store.read_row(index, row).await {
                Ok(entry) => {
                    turn.moved_bytes += in_journal(&row);
                    readable.push((row, entry));
                }
                Err(_) => {
                    if unreadable < ASKED_MAX {
                        repair(index);
                    }
                    unreadable += 1;
                    kept.push(index);
                }
            }
        }
        self.copy(store, readable).await?;
        let wait = if turn.moved_bytes == 0 && unreadable > 0 {
            UNREADABLE_AGAIN
        } else {
            Duration::ZERO
        };
        if kept.is_empty() && turn.moved_bytes == 0 && self.is_landed(store, segment) {
            // The last word is the table's.
            kept = rows_in(store, segment).await;
            if kept.is_empty() {
                self.damaged.lock().remove(&segment);
                tracing::info!(segment, "the damaged log segment is empty and removed");
                return Ok(self.remove(store, segment));
            }
        }
        let damaged = Damaged {
            left: Some(kept),
            not_before: TypeConfig::now() + wait,
        };
        self.damaged.lock().insert(segment, damaged);
        Ok(turn)
    }

    /// Copies entries to the end of the stream and makes their rows name the copies.
    async fn copy(&self, store: &Store, found: Vec<(Row, Entry)>) -> Result<(), AppendError> {
        let mut records = Vec::new();
        let (rows, entries): (Vec<Row>, Vec<Entry>) = found.into_iter().unzip();
        record::encode_entries(KIND_HELD, &entries, &mut records);
        let positions = store.journal.append(Stream::Log, records).await?;
        for ((old, entry), position) in rows.into_iter().zip(entries).zip(positions) {
            self.moved(store, entry.log_id.index, old, position);
        }
        Ok(())
    }

    /// A held entry's record was copied: its row names the copy, unless it was released while that was written.
    fn moved(&self, store: &Store, index: u64, old: Row, position: Position) {
        if tables::held(&store.ledger, index) == Some(old) {
            let row = Row {
                leader: old.leader,
                position,
                copied: true,
            };
            self.set(&store.ledger, index, Some(old), Some(row));
        }
    }

    /// Copies held records of a segment to the end of the stream, at most about `bytes_max`.
    async fn rewrite(&self, store: &Arc<Store>, segment: u32, bytes_max: u64) -> Result<Turn, SpaceError> {
        let moving = self.held_in(store, segment, bytes_max).await?;
        let records = moving
            .iter()
            .map(|moving| copy_of(moving.index, &moving.row.leader, moving.payload.clone()));
        let positions = store.journal.append(Stream::Log, records.collect()).await?;
        let mut turn = Turn::default();
        for (moving, position) in moving.iter().zip(positions) {
            turn.moved_bytes += in_journal(&moving.row);
            self.moved(store, moving.index, moving.row, position);
        }
        Ok(turn)
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

/// Indexes of the held entries whose records lie in a segment, by the table.
async fn rows_in(store: &Arc<Store>, segment: u32) -> Vec<u64> {
    let store = store.clone();
    let look = move || {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let mut looked = 0;
            // In stretches: a long look would keep old pages of the ledger from being used again.
            tables::rows(&store.ledger, HELD, after, &mut |index, row| {
                if row.position.segment == segment {
                    found.push(index);
                }
                after = Some(index);
                looked += 1;
                looked < ROWS_PER_LOOK
            });
            if looked < ROWS_PER_LOOK {
                return found;
            }
        }
    };
    blocking::run(look)
        .await
        .expect("a look does not panic and is not cancelled")
}

/// The record of a copy.
pub fn copy_of(index: u64, leader: &Leader, payload: Bytes) -> Record {
    let key = record::entry_key(KIND_HELD, leader, index);
    Record {
        key,
        payload: vec![payload],
    }
}
