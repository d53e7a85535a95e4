//! Putting a backup back into an empty data folder: everything below Raft is opened, filled and closed again.
//!
//! `restoring` is in the folder from before the first byte until after the last: a node does not start on it, and the next
//! restore clears it. On an error everything that was made is removed.

use super::super::checkpoint::{AppliedState, Checkpoints};
use super::super::held;
use super::super::identity::{self, Identity};
use super::super::level;
use super::super::open::{Parts, open_parts};
use super::super::snapshot::{self, write_synced};
use super::super::store::{LogStore, Store};
use super::super::tables;
use super::super::types::{LogId, Member, Membership, StoredMembership, Vote, log_id};
use super::super::{Apply, LogConfig, OpenError};
use super::source::{Source, SourceError};
use super::{AUDIT, BODIES, ENTRIES, LEDGER, PIECE_HEADER_BYTES};
use crate::audit::{Audit, Head};
use crate::base::{UploadId, checksum};
use crate::bodies::{Bodies, Placing};
use crate::journal::{self, AppendError, JournalConfig, RECORD_BYTES_MAX, Record, RecordKey, Stream};
use crate::ledger::VerifyError;
use bytes::Bytes;
use nix::sys::statvfs::statvfs;
use openraft::storage::RaftLogStorage;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File};
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::mpsc;

/// Marks a folder that a restore is filling.
const RESTORING: &str = "restoring";
/// What a restore makes beside that and the file of whose folder it is.
const MADE: [&str; 3] = ["journal", "ledger", "snapshots"];
/// What may be in a folder that counts as empty: the lock, and what a fresh file system has.
const NOTHING: [&str; 2] = ["lock", "lost+found"];
/// Pieces handed to the journal and not yet durable.
const PIECES_AHEAD: usize = 8;
/// Records of the audit stream in one append.
const AUDIT_RECORDS: usize = 1024;
/// Appends of the audit stream that wait to be made.
const AUDIT_AHEAD: usize = 4;
/// Space that the journal needs beside what is put into it: fresh segments of three streams, and rounding.
const SPARE_BYTES: u64 = 64 * 1024 * 1024;

/// Why a backup was not put back. The folder is as before, but for `NotEmpty`, in which nothing was touched.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// There is something in the data folder.
    #[error(
        "{folder} is not empty: it holds {found}; a restore never writes over a node's data, so move the folder away or name another",
        folder = folder.display()
    )]
    NotEmpty {
        /// The data folder.
        folder: PathBuf,
        /// One of the names in it.
        found: String,
    },
    /// The disk is too small.
    #[error("the disk has {free_bytes} bytes free above its reserve, and the backup needs {needed_bytes}")]
    Space {
        /// Bytes of the backup and what comes with them.
        needed_bytes: u64,
        /// Bytes that may be used.
        free_bytes: u64,
    },
    /// The stores did not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The journal did not take a record.
    #[error("{0}")]
    Append(#[from] AppendError),
    /// What was put back is not what was backed up.
    #[error("what was restored is not what was backed up: {0}")]
    Differs(String),
    /// The ledger that was put back cannot be read.
    #[error(transparent)]
    Ledger(#[from] VerifyError),
    /// The system.
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// What was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restored {
    /// Held entries of the log.
    pub held_entries: u64,
    /// Pieces of large bodies.
    pub pieces: u64,
    /// End of the audit chain.
    pub audit: Head,
}

/// A node must not start on a folder that a restore left half filled.
pub fn refuse_half_restored(folder: &Path) -> Result<(), OpenError> {
    match folder.join(RESTORING).exists() {
        true => Err(OpenError::Restoring(folder.display().to_string())),
        false => Ok(()),
    }
}

/// Puts a verified backup into the data folder `config.folder`, whose lock the caller holds; the current thread runs a
/// `tokio_uring` runtime. The node becomes a cluster of one under its own number. `put` is told the bytes of each step.
///
/// # Errors
/// [`RestoreError`].
pub async fn restore(
    config: &LogConfig,
    journal: JournalConfig,
    ledger_map_bytes_max: u64,
    apply: Apply,
    source: &Source,
    put: &mut dyn FnMut(u64),
) -> Result<Restored, RestoreError> {
    let folder = &config.folder;
    check_empty(folder)?;
    check_room(folder, journal.reserve_bytes, source)?;
    claim(folder)?;
    let restored = fill(config, journal, ledger_map_bytes_max, apply, source, put).await;
    match restored {
        Ok(restored) => {
            // Where it is the first one, the folder says nothing until the node's first start, as ever.
            let manifest = &source.manifest;
            if manifest.level > level::FIRST {
                let mut identity = Identity::open(folder, config.node)?;
                identity.raise(manifest.level, &manifest.level_release)?;
            }
            snapshot::sync_folder(folder)?;
            fs::remove_file(folder.join(RESTORING))?;
            snapshot::sync_folder(folder)?;
            Ok(restored)
        }
        Err(error) => {
            clear(folder)?;
            Err(error)
        }
    }
}

fn check_room(folder: &Path, reserve_bytes: u64, source: &Source) -> Result<(), RestoreError> {
    let room = statvfs(folder).map_err(io::Error::from)?;
    let free_bytes = (room.blocks_available() * room.fragment_size()).saturating_sub(reserve_bytes);
    let needed_bytes = source.manifest.bytes + SPARE_BYTES;
    match needed_bytes > free_bytes {
        true => Err(RestoreError::Space {
            needed_bytes,
            free_bytes,
        }),
        false => Ok(()),
    }
}

/// Clears what a restore that was cut short left, and marks the folder.
fn claim(folder: &Path) -> Result<(), RestoreError> {
    if folder.join(RESTORING).exists() {
        clear(folder)?;
    }
    Ok(write_synced(folder, RESTORING, b"")?)
}

/// Makes sure that there is nothing in the folder but what a restore that was cut short left.
///
/// # Errors
/// `NotEmpty`; `Io`.
pub fn check_empty(folder: &Path) -> Result<(), RestoreError> {
    let cut_short = folder.join(RESTORING).exists();
    for found in fs::read_dir(folder)? {
        let name = found?.file_name().to_string_lossy().into_owned();
        let ours = cut_short && (name == RESTORING || name == identity::FILE || MADE.contains(&name.as_str()));
        if !ours && !NOTHING.contains(&name.as_str()) {
            let folder = folder.to_owned();
            return Err(RestoreError::NotEmpty { folder, found: name });
        }
    }
    Ok(())
}

fn clear(folder: &Path) -> io::Result<()> {
    for name in MADE {
        snapshot::remove_if_there(&folder.join(name))?;
    }
    match fs::remove_file(folder.join(identity::FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    snapshot::sync_folder(folder)?;
    fs::remove_file(folder.join(RESTORING))?;
    snapshot::sync_folder(folder)
}

async fn fill(
    config: &LogConfig,
    journal: JournalConfig,
    ledger_map_bytes_max: u64,
    apply: Apply,
    source: &Source,
    put: &mut dyn FnMut(u64),
) -> Result<Restored, RestoreError> {
    let parts = open_parts(config, journal, ledger_map_bytes_max, apply).await?;
    let filling = tokio::task::spawn_local(parts.store.clone().drive());
    let filled = fill_parts(config, &parts, source, put).await;
    parts.store.stop();
    parts.store.journal.close().await;
    filling.abort();
    filled
}

async fn fill_parts(
    config: &LogConfig,
    parts: &Parts,
    source: &Source,
    put: &mut dyn FnMut(u64),
) -> Result<Restored, RestoreError> {
    let Parts {
        store,
        checkpoints,
        bodies,
        ..
    } = parts;
    let manifest = &source.manifest;
    store.ledger.install_blocking(&source.folder.join(LEDGER))?;
    put(manifest.files.first().map_or(0, |file| file.bytes));
    let (term, node, index) = manifest.applied;
    let applied = log_id(term, node, index);
    let before = manifest
        .stored_membership()
        .map_err(|what| SourceError::Manifest(what.to_owned()))?;
    become_alone(config, store, checkpoints, applied, &before).await?;
    let held_entries = put_entries(config, parts, source, put).await?;
    let mut pieces = 0;
    for file in source.files_of(BODIES) {
        pieces += put_pieces(config, checkpoints, store, bodies, &file, put).await?;
    }
    let audit = put_audit(store, source, put).await?;
    // The second makes the journal before the first one's watermark needless.
    checkpoints.run().await?;
    checkpoints.run().await?;
    let ledger = store.ledger.clone();
    let state = tokio::task::spawn_blocking(move || ledger.digest_blocking());
    let state = state.await.map_err(io::Error::other)??;
    let found = (state.applied, hex::encode(state.digest.0), held_entries);
    let wanted = (Some(manifest.applied), manifest.digest.clone(), manifest.held_entries);
    if found != wanted {
        return Err(RestoreError::Differs(format!(
            "position, digest of the state and held entries are {found:?} instead of {wanted:?}"
        )));
    }
    Ok(Restored {
        held_entries,
        pieces,
        audit,
    })
}

/// The node's own number as the only voter, a log that is purged up to the backup's position, and a vote above everything
/// that the old cluster wrote.
async fn become_alone(
    config: &LogConfig,
    store: &Arc<Store>,
    checkpoints: &Checkpoints,
    applied: LogId,
    before: &StoredMembership,
) -> Result<(), RestoreError> {
    let member = Member {
        name: config.name.clone(),
        site: config.site.clone(),
        ..Member::default()
    };
    let nodes = BTreeMap::from([(config.node, member)]);
    let alone = Membership::new(vec![BTreeSet::from([config.node])], nodes).map_err(io::Error::other)?;
    let membership = StoredMembership::new(*before.log_id(), alone);
    tables::put_membership(&store.ledger, &membership);
    let last = Some(applied);
    *checkpoints.applied.lock() = AppliedState {
        last,
        membership,
        history: [0; 32],
    };
    let mut log = LogStore(store.clone());
    log.save_vote(&Vote::new(applied.leader_id.term + 1, config.node))
        .await?;
    log.purge(applied).await?;
    log.save_committed(last).await?;
    Ok(())
}

/// Checkpoints as the node would: what waits in memory stays bounded.
async fn checkpoint_if_due(config: &LogConfig, checkpoints: &Checkpoints, store: &Store) -> Result<(), RestoreError> {
    if store.ledger.dirty_bytes() >= config.checkpoint_bytes {
        checkpoints.run().await?;
    }
    Ok(())
}

async fn put_entries(
    config: &LogConfig,
    parts: &Parts,
    source: &Source,
    put: &mut dyn FnMut(u64),
) -> Result<u64, RestoreError> {
    let Parts {
        store,
        space,
        checkpoints,
        snapshots,
        ..
    } = parts;
    let mut count = 0;
    for file in source.files_of(ENTRIES) {
        let mut held = held::Reader::new(Told {
            from: File::open(file)?,
            read_bytes: 0,
        });
        loop {
            let some = held.some()?;
            if some.is_empty() {
                break;
            }
            let mut rows = Vec::new();
            snapshots.place_held(some, &mut rows).await?;
            for (index, row) in &rows {
                space.set(&store.ledger, *index, None, Some(*row));
            }
            count += rows.len() as u64;
            put(std::mem::take(&mut held.from.read_bytes));
            checkpoint_if_due(config, checkpoints, store).await?;
        }
    }
    Ok(count)
}

/// Counts what is read.
struct Told<R> {
    from: R,
    read_bytes: u64,
}

impl<R: Read> Read for Told<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let read = self.from.read(into)?;
        self.read_bytes += read as u64;
        Ok(read)
    }
}

async fn put_pieces(
    config: &LogConfig,
    checkpoints: &Checkpoints,
    store: &Store,
    bodies: &Bodies,
    file: &Path,
    put: &mut dyn FnMut(u64),
) -> Result<u64, RestoreError> {
    let mut file = BufReader::with_capacity(1024 * 1024, File::open(file)?);
    let mut ahead: VecDeque<(u64, Placing)> = VecDeque::new();
    let mut count = 0;
    loop {
        let next = next_piece(&mut file)?;
        while ahead.len() >= PIECES_AHEAD || (next.is_none() && !ahead.is_empty()) {
            let Some((bytes, placing)) = ahead.pop_front() else {
                break;
            };
            placing.await.unwrap_or(Err(AppendError::Closed))?;
            put(bytes);
        }
        let Some((upload, piece, payload)) = next else {
            return Ok(count);
        };
        count += 1;
        ahead.push_back((
            (PIECE_HEADER_BYTES + payload.len()) as u64,
            bodies.place(upload, piece, payload),
        ));
        checkpoint_if_due(config, checkpoints, store).await?;
    }
}

/// The next piece of a file, `None` at its end.
fn next_piece(file: &mut impl Read) -> io::Result<Option<(UploadId, u32, Bytes)>> {
    let mut header = [0; PIECE_HEADER_BYTES];
    let mut first = [0; 1];
    if file.read(&mut first)? == 0 {
        return Ok(None);
    }
    header[0] = first[0];
    file.read_exact(&mut header[1..])?;
    let small = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four bytes"));
    let upload = UploadId(u128::from_be_bytes(header[..16].try_into().expect("sixteen bytes")));
    let (piece, length, crc) = (small(16), small(20) as usize, small(24));
    let damaged = |what| Err(io::Error::new(io::ErrorKind::InvalidData, what));
    if length > RECORD_BYTES_MAX {
        return damaged("a piece of the backup is longer than a record");
    }
    let mut payload = vec![0; length];
    file.read_exact(&mut payload)?;
    if checksum::crc32c(&payload) != crc {
        return damaged("a piece of the backup does not match its checksum");
    }
    Ok(Some((upload, piece, Bytes::from(payload))))
}

/// The old node's chain goes on in the restored one.
async fn put_audit(store: &Store, source: &Source, put: &mut dyn FnMut(u64)) -> Result<Head, RestoreError> {
    let mut head = Head::default();
    let wanted = source.manifest.audit;
    let mut met = wanted == head;
    if !source.files_of(AUDIT).is_empty() {
        let (sender, mut batches) = mpsc::channel::<Vec<Record>>(AUDIT_AHEAD);
        let folder = source.folder.clone();
        let reading = tokio::task::spawn_blocking(move || read_audit(&folder, &sender));
        while let Some(batch) = batches.recv().await {
            for record in &batch {
                head = Audit::head_of(record.key.number, &record.payload[0]);
                met |= head == wanted;
                put(record.payload[0].len() as u64);
            }
            store.journal.append(Stream::Audit, batch).await?;
        }
        reading.await.map_err(io::Error::other)??;
    }
    if !met {
        let what = format!("the audit stream lacks entry {} or has another one", wanted.sequence);
        return Err(RestoreError::Differs(what));
    }
    Ok(head)
}

fn read_audit(folder: &Path, sender: &mpsc::Sender<Vec<Record>>) -> io::Result<()> {
    let mut batch = Vec::new();
    let mut add = |key: RecordKey, payload: &[u8]| {
        let payload = vec![Bytes::copy_from_slice(payload)];
        batch.push(Record { key, payload });
        if batch.len() == AUDIT_RECORDS {
            // Whoever takes them has failed, and says so.
            let _gone = sender.blocking_send(std::mem::take(&mut batch));
        }
    };
    journal::read_damaged_blocking(folder, Stream::Audit, &mut add)?;
    let _gone = sender.blocking_send(batch);
    Ok(())
}
