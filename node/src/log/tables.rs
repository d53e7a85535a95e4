//! The log's local tables in the ledger: this node's own, outside the state digest, in the same checkpoint as the state.
//!
//! | id | table | key | value |
//! |---|---|---|---|
//! | 200 | entries of the log that are not purged | index, 8 bytes big-endian | [`Row`] |
//! | 201 | entries that state holds, purged or not | index, 8 bytes big-endian | [`Row`] |
//! | 202 | single values | a word | see `META_…` |
//! | 203 | bytes that state holds, by segment of the log stream | segment, 4 bytes big-endian | bytes, 8 little-endian |
//!
//! Rows of table 200 at or below the purge point are leavings that are cleared bit by bit; readers pass over them.

use super::record;
use super::types::{Leader, LogId, StoredMembership, Vote};
use crate::journal::{Position, RecordKey};
use crate::ledger::{Ledger, Read, Table};
use std::ops::Bound;

/// Entries of the log.
pub const ENTRIES: Table = Table::permanent(200);
/// Entries that state holds.
pub const HELD: Table = Table::permanent(201);
/// Single values.
pub const META: Table = Table::permanent(202);
/// Held bytes by segment.
pub const SEGMENTS: Table = Table::permanent(203);

const META_VOTE: &[u8] = b"vote";
const META_COMMITTED: &[u8] = b"committed";
const META_PURGED: &[u8] = b"purged";
const META_MEMBERSHIP: &[u8] = b"membership";
const META_HISTORY: &[u8] = b"history";

const ROW_BYTES: usize = 29;
const ROW_VERSION: u8 = 1;

/// Where an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The leader that proposed it.
    pub leader: Leader,
    /// Where its record is.
    pub position: Position,
    /// The record is a copy made by the space reclaim or a snapshot, not the log's own.
    pub copied: bool,
}

impl Row {
    /// The record's key.
    pub fn key(&self, index: u64) -> RecordKey {
        let kind = if self.copied {
            record::KIND_HELD
        } else {
            record::KIND_ENTRY
        };
        record::entry_key(kind, &self.leader, index)
    }

    /// Version and flag in one byte, then term, node, segment, offset, length; little-endian.
    pub fn encode(&self) -> [u8; ROW_BYTES] {
        let mut bytes = [0; ROW_BYTES];
        bytes[0] = ROW_VERSION | if self.copied { 0x80 } else { 0 };
        bytes[1..9].copy_from_slice(&self.leader.term.to_le_bytes());
        bytes[9..17].copy_from_slice(&self.leader.node_id.to_le_bytes());
        bytes[17..21].copy_from_slice(&self.position.segment.to_le_bytes());
        bytes[21..25].copy_from_slice(&self.position.offset.to_le_bytes());
        bytes[25..29].copy_from_slice(&self.position.bytes.to_le_bytes());
        bytes
    }

    /// And back. A row that cannot be read is a bug or damage the ledger's checksum should have shown.
    pub fn decode(bytes: &[u8]) -> Row {
        assert!(
            bytes.len() == ROW_BYTES && bytes[0] & 0x7F == ROW_VERSION,
            "a log row of {} bytes",
            bytes.len()
        );
        let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("the length was checked"));
        let small = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("the length was checked"));
        let leader = Leader {
            term: number(1),
            node_id: number(9),
        };
        let position = Position {
            segment: small(17),
            offset: small(21),
            bytes: small(25),
        };
        let copied = bytes[0] & 0x80 != 0;
        Row {
            leader,
            position,
            copied,
        }
    }
}

/// What the single values say.
#[derive(Clone, Debug, Default)]
pub struct Meta {
    /// The vote.
    pub vote: Option<Vote>,
    /// The committed position.
    pub committed: Option<LogId>,
    /// Everything up to here is purged.
    pub purged: Option<LogId>,
    /// The last applied membership.
    pub membership: StoredMembership,
    /// Hash of all that was applied.
    pub history: [u8; 32],
}

/// Reads the single values.
pub fn meta(ledger: &Ledger) -> Result<Meta, &'static str> {
    let position = |key: &[u8]| match ledger.get(META, key) {
        Some(bytes) => record::decode_log_id(&bytes),
        None => Ok(None),
    };
    let vote = ledger.get(META, META_VOTE).map(|bytes| record::decode_vote(&bytes));
    let membership = match ledger.get(META, META_MEMBERSHIP) {
        Some(bytes) => decode_stored_membership(&bytes)?,
        None => StoredMembership::default(),
    };
    Ok(Meta {
        vote: vote.transpose()?,
        committed: position(META_COMMITTED)?,
        purged: position(META_PURGED)?,
        membership,
        history: match ledger.get(META, META_HISTORY) {
            Some(bytes) => bytes[..].try_into().map_err(|_| "a history that cannot be read")?,
            None => [0; 32],
        },
    })
}

/// The hash as a local value, for [`Ledger::applied_with`].
pub fn history_row(history: &[u8; 32]) -> (Table, &[u8], &[u8]) {
    (META, META_HISTORY, history)
}

/// Keeps the hash of all that was applied.
pub fn put_history(ledger: &Ledger, history: &[u8; 32]) {
    ledger.put_local(META, META_HISTORY, Some(history));
}

/// Keeps the vote.
pub fn put_vote(ledger: &Ledger, vote: &Vote) {
    ledger.put_local(META, META_VOTE, Some(&record::encode_vote(vote)));
}

/// Keeps the committed position.
pub fn put_committed(ledger: &Ledger, committed: Option<&LogId>) {
    ledger.put_local(META, META_COMMITTED, Some(&record::encode_log_id(committed)));
}

/// Keeps the purge point.
pub fn put_purged(ledger: &Ledger, purged: Option<&LogId>) {
    ledger.put_local(META, META_PURGED, Some(&record::encode_log_id(purged)));
}

/// Keeps the applied membership.
pub fn put_membership(ledger: &Ledger, membership: &StoredMembership) {
    ledger.put_local(META, META_MEMBERSHIP, Some(&encode_stored_membership(membership)));
}

/// Position of the entry, then the membership.
pub fn encode_stored_membership(membership: &StoredMembership) -> Vec<u8> {
    let mut bytes = record::encode_log_id(membership.log_id().as_ref()).to_vec();
    bytes.extend_from_slice(&record::encode_membership(membership.membership()));
    bytes
}

/// And back.
pub fn decode_stored_membership(bytes: &[u8]) -> Result<StoredMembership, &'static str> {
    let (log_id, membership) = bytes.split_at_checked(26).ok_or("a membership that cannot be read")?;
    Ok(StoredMembership::new(
        record::decode_log_id(log_id)?,
        record::decode_membership(membership)?,
    ))
}

/// The row of a held entry.
pub fn held(ledger: &impl Read, index: u64) -> Option<Row> {
    ledger.get(HELD, &index.to_be_bytes()).map(|bytes| Row::decode(&bytes))
}

/// Calls `each` for the rows of `table` after `after`, in order, until it says `false`.
pub fn rows(ledger: &impl Read, table: Table, after: Option<u64>, each: &mut dyn FnMut(u64, Row) -> bool) {
    let key = after.map(u64::to_be_bytes);
    let from = key
        .as_ref()
        .map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
    ledger.scan(table, from, Bound::Unbounded, &mut |key, value| {
        let index = u64::from_be_bytes(key.try_into().expect("keys of this table are eight bytes"));
        each(index, Row::decode(value))
    });
}

/// Held bytes by segment.
pub fn segments(ledger: &impl Read) -> Vec<(u32, u64)> {
    let mut found = Vec::new();
    ledger.scan(SEGMENTS, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        let segment = u32::from_be_bytes(key.try_into().expect("keys of this table are four bytes"));
        let bytes = u64::from_le_bytes(value.try_into().expect("values of this table are eight bytes"));
        found.push((segment, bytes));
        true
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_comes_back_as_written() {
        let leader = Leader { term: 9, node_id: 2 };
        let position = Position {
            segment: 3,
            offset: 4096,
            bytes: 77,
        };
        for copied in [false, true] {
            let row = Row {
                leader,
                position,
                copied,
            };
            assert_eq!(Row::decode(&row.encode()), row);
        }
        let row = Row {
            leader,
            position,
            copied: true,
        };
        assert_eq!(
            hex::encode(row.encode()),
            "810900000000000000020000000000000003000000001000004d000000"
        );
    }
}
