//! The LMDB environment: opening, formats, checksums, and which named database holds which table.
//!
//! Format 1. The named database `meta` holds
//! - `format`: the format number, u32 little-endian,
//! - `checkpoint`: a postcard [`Record`],
//! - `t` ‖ id ‖ period (u32 big-endian): the slot of that table, u16 little-endian.
//!
//! The named databases `s0000`, `s0001`, … are slots, each holding one table. A dropped table's slot is emptied and given
//! to another table later. So handles are never closed while a reader may use them, and their number is bounded.
//!
//! Every value, in `meta` too, is the CRC-32C (little-endian) of table id, period (big-endian), key and value, and then
//! the value: a value that lies under another key or in another table does not match either.

use super::Table;
use crate::base::{LogIndex, Timestamp, checksum};
use crate::journal::Watermarks;
use heed::types::Bytes;
use heed::{CommitOrAbort, CommitToken, Database, Env, EnvFlags, EnvOpenOptions, OnCommit, RoTxn, WithoutTls};
use nix::sys::statvfs::statvfs;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// The format this release writes, and the newest it reads.
pub const FORMAT: u32 = 1;

/// Tables that may exist at once. LMDB copies a little per table into each new transaction, so it is not without cost.
pub(super) const TABLES_MAX: usize = 1000;
/// Readers at once: threads in a read, plus transactions kept for reuse.
const READERS_MAX: u32 = 2048;
/// LMDB calls a write that a full disk cuts short an I/O error. With less room than this it is taken for one.
const CUT_SHORT_BYTES: u64 = 16 << 20;
/// Bytes of the checksum in front of each value.
pub(super) const SEAL_BYTES: usize = 4;

/// A table's database.
pub(super) type Db = Database<'static, Bytes, Bytes>;
/// A read transaction that may move between threads.
pub(super) type Snapshot = RoTxn<'static, WithoutTls>;
/// Which slot holds which table.
pub(super) type Slots = BTreeMap<Table, (u16, Db)>;

/// Not a table: the name under which `meta` is checksummed.
pub(super) const META: Table = Table::of_period(u8::MAX, u32::MAX);
pub(super) const KEY_FORMAT: &[u8] = b"format";
pub(super) const KEY_CHECKPOINT: &[u8] = b"checkpoint";
const KEY_TABLE: u8 = b't';

/// Why the ledger was refused. Each says what an operator does next.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Written by a later release.
    #[error("the ledger has format {found}, this release reads up to {known}; start the newer release")]
    Newer {
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// Its own notes do not match their checksums or each other.
    #[error("the ledger is damaged: {what}; restore this node from a peer or a backup")]
    Damaged {
        /// What did not match.
        what: &'static str,
    },
    /// Disk or map full.
    #[error("the ledger cannot grow: the disk or its map is full")]
    Full,
    /// More tables than [`TABLES_MAX`].
    #[error("more than {max} tables exist at once")]
    Tables {
        /// The bound.
        max: usize,
    },
    /// LMDB refused.
    #[error("LMDB: {0}")]
    Lmdb(String),
    /// The operating system refused.
    #[error("{0}")]
    System(#[from] io::Error),
}

impl From<heed::Error> for LedgerError {
    fn from(error: heed::Error) -> LedgerError {
        match error {
            heed::Error::Io(error) if error.kind() == io::ErrorKind::StorageFull => LedgerError::Full,
            heed::Error::Io(error) => LedgerError::System(error),
            heed::Error::Mdb(heed::MdbError::MapFull) => LedgerError::Full,
            heed::Error::Mdb(heed::MdbError::DbsFull) => LedgerError::Tables { max: TABLES_MAX },
            other => LedgerError::Lmdb(other.to_string()),
        }
    }
}

impl From<LedgerError> for io::Error {
    fn from(error: LedgerError) -> io::Error {
        let kind = match &error {
            LedgerError::Newer { .. } | LedgerError::Damaged { .. } => io::ErrorKind::InvalidData,
            LedgerError::Full => io::ErrorKind::StorageFull,
            LedgerError::Tables { .. } | LedgerError::Lmdb(_) => io::ErrorKind::Other,
            LedgerError::System(cause) => cause.kind(),
        };
        io::Error::new(kind, error)
    }
}

/// What a checkpoint says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    /// Its number, from 1; 0 in a new ledger.
    pub number: u64,
    /// The log position it includes.
    pub applied: Option<(u64, u64, LogIndex)>,
    /// Log time there.
    pub at: Timestamp,
    /// Where the journal's replay starts.
    pub watermarks: Watermarks,
}

/// An open environment.
pub(super) struct Store {
    pub env: Env<WithoutTls>,
    pub meta: Db,
    /// Handles by slot number; more are made as tables are.
    pub handles: Mutex<Vec<Db>>,
}

struct Handles<'e> {
    meta: Database<'e, Bytes, Bytes>,
    slots: Vec<Database<'e, Bytes, Bytes>>,
}

struct OpenHandles {
    meta: Db,
    slots: Vec<Db>,
}

impl OnCommit for Handles<'_> {
    type Committed = OpenHandles;
    fn on_commit(self, token: &CommitToken) -> OpenHandles {
        OpenHandles {
            meta: self.meta.on_commit(token),
            slots: self.slots.into_iter().map(|db| db.on_commit(token)).collect(),
        }
    }
}

impl Store {
    /// Opens or makes the environment in `folder`.
    pub fn open(folder: &Path, map_bytes_max: u64) -> Result<(Store, Record, Slots), LedgerError> {
        std::fs::create_dir_all(folder)?;
        let fresh = !folder.join("data.mdb").exists();
        let map_bytes = usize::try_from(map_bytes_max).unwrap_or(usize::MAX) & !0xffff;
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options
            .map_size(map_bytes.max(1 << 20))
            .max_readers(READERS_MAX)
            .max_dbs(TABLES_MAX as u32 + 1);
        // SAFETY: NO_READ_AHEAD only changes advice to the kernel; no flag that weakens locking or syncing is set.
        // The folder is this process's own and nothing else writes to the mapped file: other processes open it through
        // LMDB too, under its lock file. A damaged page can end the process, which is what damage must do.
        let env = unsafe { options.flags(EnvFlags::NO_READ_AHEAD).open(folder)? };
        env.clear_stale_readers()?;
        let OpenHandles { meta, slots } = open_handles(&env)?;
        if fresh {
            sync_folder(folder)?;
        }
        let txn = env.read_txn()?;
        let record = match get_meta(&meta, &txn, KEY_CHECKPOINT)? {
            Some(bytes) => postcard::from_bytes(bytes).map_err(|_| LedgerError::Damaged {
                what: "the checkpoint's record cannot be read",
            })?,
            None => Record::default(),
        };
        let tables = read_tables(&meta, &txn, &slots)?;
        drop(txn);
        Ok((
            Store {
                env,
                meta,
                handles: Mutex::new(slots),
            },
            record,
            tables,
        ))
    }

    /// `Full` for an I/O error on a disk that has no room; else the error as it is.
    pub fn full_or(&self, error: LedgerError) -> LedgerError {
        let is_io = matches!(&error, LedgerError::System(cause) if cause.raw_os_error() == Some(libc::EIO));
        let has_no_room = || {
            statvfs(self.env.path()).is_ok_and(|room| room.blocks_available() * room.fragment_size() < CUT_SHORT_BYTES)
        };
        if is_io && has_no_room() {
            return LedgerError::Full;
        }
        error
    }

    /// A new read transaction on the newest commit.
    pub fn snapshot(&self) -> Snapshot {
        self.env
            .clone()
            .static_read_txn()
            .unwrap_or_else(|error| unreadable(&error))
    }

    /// Makes slots until `count` exist, in a commit of its own: empty slots mean nothing.
    pub fn make_slots(&self, count: usize) -> Result<(), LedgerError> {
        let have = self.handles.lock().len();
        if have >= count {
            return Ok(());
        }
        if count > TABLES_MAX {
            return Err(LedgerError::Tables { max: TABLES_MAX });
        }
        let made = self
            .env
            .create_databases_and_commit(self.env.write_txn()?, |opener, txn| {
                let mut slots = Vec::new();
                for slot in have..count {
                    slots.push(opener.create_database(txn, Some(&slot_name(slot)))?);
                }
                let meta = opener.create_database(txn, Some("meta"))?;
                Ok::<_, LedgerError>(CommitOrAbort::<_, ()>::Commit(Handles { meta, slots }))
            })?;
        self.handles.lock().extend(made.unwrap_commit().slots);
        Ok(())
    }
}

fn open_handles(env: &Env<WithoutTls>) -> Result<OpenHandles, LedgerError> {
    let opened = env.create_databases_and_commit(env.write_txn()?, |opener, txn| {
        let meta: Database<'_, Bytes, Bytes> = opener.create_database(txn, Some("meta"))?;
        match get_meta(&meta, txn, KEY_FORMAT)? {
            None => meta.put(txn, KEY_FORMAT, &sealed(META, KEY_FORMAT, &FORMAT.to_le_bytes()))?,
            Some(bytes) => {
                let found = bytes.try_into().map(u32::from_le_bytes);
                let found = found.map_err(|_| LedgerError::Damaged {
                    what: "the format number cannot be read",
                })?;
                if found > FORMAT {
                    return Err(LedgerError::Newer { found, known: FORMAT });
                }
            }
        }
        let mut slots = Vec::new();
        while let Some(db) = opener.open_database(txn, Some(&slot_name(slots.len())))? {
            slots.push(db);
        }
        Ok::<_, LedgerError>(CommitOrAbort::<_, ()>::Commit(Handles { meta, slots }))
    })?;
    Ok(opened.unwrap_commit())
}

fn read_tables(meta: &Db, txn: &RoTxn<'_, WithoutTls>, handles: &[Db]) -> Result<Slots, LedgerError> {
    let mut tables = Slots::new();
    let mut taken = vec![false; handles.len()];
    for entry in meta.prefix_iter(txn, &[KEY_TABLE])? {
        let (key, value) = entry?;
        let damaged = LedgerError::Damaged {
            what: "the list of tables does not match its checksum",
        };
        let slot = checked(META, key, value)
            .and_then(|slot| slot.try_into().ok())
            .map(u16::from_le_bytes);
        let (Some(table), Some(slot)) = (table_of(key), slot) else {
            return Err(damaged);
        };
        match taken.get_mut(usize::from(slot)) {
            Some(taken) if !*taken => *taken = true,
            Some(_) | None => return Err(damaged),
        }
        tables.insert(table, (slot, handles[usize::from(slot)]));
    }
    Ok(tables)
}

fn get_meta<'t>(
    meta: &Database<'_, Bytes, Bytes>,
    txn: &'t RoTxn<'_>,
    key: &[u8],
) -> Result<Option<&'t [u8]>, LedgerError> {
    let Some(value) = meta.get(txn, key)? else {
        return Ok(None);
    };
    match checked(META, key, value) {
        Some(value) => Ok(Some(value)),
        None => Err(LedgerError::Damaged {
            what: "its own notes do not match their checksum",
        }),
    }
}

fn slot_name(slot: usize) -> String {
    format!("s{slot:04}")
}

/// The key in `meta` of a table.
pub(super) fn table_key(table: Table) -> [u8; 6] {
    let period = table.period.to_be_bytes();
    [KEY_TABLE, table.id, period[0], period[1], period[2], period[3]]
}

fn table_of(key: &[u8]) -> Option<Table> {
    let [_, id, period @ ..] = <[u8; 6]>::try_from(key).ok()?;
    Some(Table::of_period(id, u32::from_be_bytes(period)))
}

/// The checksum of a value, bound to where it lies.
pub(super) fn seal(table: Table, key: &[u8], value: &[u8]) -> [u8; SEAL_BYTES] {
    let period = table.period.to_be_bytes();
    let crc = checksum::crc32c(&[table.id, period[0], period[1], period[2], period[3]]);
    checksum::crc32c_append(checksum::crc32c_append(crc, key), value).to_le_bytes()
}

/// A value with its checksum in front.
pub(super) fn sealed(table: Table, key: &[u8], value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(SEAL_BYTES + value.len());
    bytes.extend_from_slice(&seal(table, key, value));
    bytes.extend_from_slice(value);
    bytes
}

/// The value behind its checksum, `None` when it does not match.
pub(super) fn checked<'v>(table: Table, key: &[u8], stored: &'v [u8]) -> Option<&'v [u8]> {
    let (crc, value) = stored.split_at_checked(SEAL_BYTES)?;
    (crc == seal(table, key, value)).then_some(value)
}

/// The value behind its checksum. Damage ends the process: corruption is never served.
pub(super) fn open_value<'v>(table: Table, key: &[u8], stored: &'v [u8]) -> &'v [u8] {
    match checked(table, key, stored) {
        Some(value) => value,
        None => end(&format!(
            "corrupt value in ledger table {} period {}; restore this node from a peer or a backup",
            table.id, table.period
        )),
    }
}

/// LMDB could not read: nothing that is built on the ledger can go on.
pub(super) fn unreadable(error: &heed::Error) -> ! {
    end(&format!("the ledger cannot be read: {error}"))
}

/// Ends the process with one clear line. Never unwinds: no destructor may write after this.
pub(super) fn end(line: &str) -> ! {
    tracing::error!("{line}");
    eprintln!("vertebra: {line}");
    std::process::abort()
}

/// Makes names in a folder durable.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder of one generation of the environment.
pub(super) fn generation_folder(folder: &Path, generation: u64) -> PathBuf {
    folder.join(format!("generation-{generation}"))
}
