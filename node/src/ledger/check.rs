//! Proofs: every checksum of a checkpoint, and a digest by which two ledgers are compared.

use super::merge::Range;
use super::store::{Snapshot, checked};
use super::view::Shared;
use super::{KEY_BYTES_MAX, Table};
use crate::base::{Digest, LogIndex};
use std::ops::Bound;

/// Entries proved under one transaction: a long proof must not pin pages.
const STRETCH_ENTRIES: usize = 4096;

/// What a proof walked over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Tables.
    pub tables: u64,
    /// Entries whose checksum matched.
    pub entries: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
}

/// A digest of all replicated tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StateDigest {
    /// The log position it belongs to.
    pub applied: Option<(u64, u64, LogIndex)>,
    /// BLAKE3 over tables, keys and values in order. Empty tables are left out.
    pub digest: Digest,
    /// Entries in it.
    pub entries: u64,
}

/// Why a ledger is not whole. Never names a key: keys may name people.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A value does not match its checksum.
    #[error(
        "ledger table {table} period {period}: entry {entry} does not match its checksum; restore this node from a peer or a backup"
    )]
    Corrupt {
        /// Table number.
        table: u8,
        /// Its period.
        period: u32,
        /// Which entry, counted from 1 in key order.
        entry: u64,
    },
    /// LMDB could not read.
    #[error("the ledger cannot be read: {0}")]
    Unreadable(String),
}

impl From<heed::Error> for VerifyError {
    fn from(error: heed::Error) -> VerifyError {
        VerifyError::Unreadable(error.to_string())
    }
}

impl Shared {
    pub fn verify(&self) -> Result<Verified, VerifyError> {
        let tables: Vec<Table> = self.view.load().base.slots.keys().copied().collect();
        let mut verified = Verified {
            tables: tables.len() as u64,
            ..Verified::default()
        };
        for table in tables {
            let mut behind: Option<Vec<u8>> = None;
            let mut entry = 0;
            loop {
                let view = self.view.load_full();
                // Dropped meanwhile: nothing left to prove.
                let Some((_, db)) = view.base.slots.get(&table) else {
                    break;
                };
                let Some(snapshot) = self.snapshot(&view) else { continue };
                let from = behind
                    .as_ref()
                    .map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
                let range: Range<'_> = (from, Bound::Unbounded);
                let mut last = None;
                for (count, stored) in db.range(&snapshot, &range)?.enumerate() {
                    let (key, stored) = stored?;
                    entry += 1;
                    let value = checked(table, key, stored).filter(|_| key.len() <= KEY_BYTES_MAX);
                    let Some(value) = value else {
                        return Err(VerifyError::Corrupt {
                            table: table.id,
                            period: table.period,
                            entry,
                        });
                    };
                    verified.entries += 1;
                    verified.bytes += (key.len() + value.len()) as u64;
                    if count + 1 == STRETCH_ENTRIES {
                        last = Some(key.to_vec());
                        break;
                    }
                }
                match last {
                    Some(key) => behind = Some(key),
                    None => break,
                }
            }
        }
        Ok(verified)
    }

    /// Runs under one transaction, so that it is of one checkpoint; pages freed meanwhile wait for it.
    pub fn digest(&self) -> Result<StateDigest, VerifyError> {
        let (view, snapshot) = self.quiet_view();
        let mut hash = blake3::Hasher::new();
        let mut entries = 0;
        for (table, (_, db)) in view.base.slots.iter().filter(|(table, _)| !table.is_local()) {
            let mut entry = 0;
            for stored in db.iter(&snapshot)? {
                let (key, stored) = stored?;
                entry += 1;
                let Some(value) = checked(*table, key, stored) else {
                    return Err(VerifyError::Corrupt {
                        table: table.id,
                        period: table.period,
                        entry,
                    });
                };
                if entry == 1 {
                    hash.update(&[table.id]).update(&table.period.to_be_bytes());
                }
                hash.update(&(key.len() as u32).to_le_bytes()).update(key);
                hash.update(&(value.len() as u32).to_le_bytes()).update(value);
            }
            if entry > 0 {
                // A length that no key has ends the table.
                hash.update(&u32::MAX.to_le_bytes());
            }
            entries += entry;
        }
        let digest = Digest(*hash.finalize().as_bytes());
        Ok(StateDigest {
            applied: view.base.record.applied,
            digest,
            entries,
        })
    }

    /// A view and a transaction of exactly its checkpoint: taken while no checkpoint is being stored.
    fn quiet_view(&self) -> (std::sync::Arc<super::view::View>, Snapshot) {
        let _alone = self.one_at_a_time.lock();
        let view = self.view.load_full();
        (view.clone(), view.base.store.snapshot())
    }
}
