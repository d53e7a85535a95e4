//! The node's side of a backup: a copy of the ledger, then the files one behind the other, in the manifest's order.
//!
//! While it is made, the space reclaim of the log and of the bodies waits, so that everything the copy names stays where
//! it is found. That costs disk: a backup is given up when the disk reaches its reserve.

use super::super::held;
use super::super::level;
use super::super::snapshot::{self, BACKUP, Snapshots};
use super::super::tables::{self, HELD};
use super::super::{Log, Shared};
use super::{AUDIT, BODIES, ENTRIES, FILE_BYTES_MAX, FORMAT, FileInfo, LEDGER, Manifest, NodeInfo, PIECE_HEADER_BYTES};
use crate::audit::Head;
use crate::base::{Timestamp, UploadId, checksum};
use crate::bodies::{self, Bodies, Kept};
use crate::journal::{ReadError, SegmentInfo, Stream};
use crate::ledger::{Ledger, Opened, VerifyError};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedMutexGuard, OwnedRwLockReadGuard, mpsc, oneshot};

/// Bytes handed over at a time.
const CHUNK_BYTES: usize = 256 * 1024;
/// Chunks that are read and not yet sent.
const CHUNKS_AHEAD: usize = 8;

/// What a backup is asked with.
pub struct Wish {
    /// The node.
    pub node: NodeInfo,
    /// Now, by its clock.
    pub now: Timestamp,
    /// A durable entry of its audit stream.
    pub audit: Head,
    /// Bytes a second at most; `None`: as fast as it goes.
    pub bytes_per_second: Option<u64>,
    /// Calls its argument for every upload that the state in a ledger names, until that says `false`.
    pub each_upload: fn(&Ledger, &mut dyn FnMut(&bodies::Manifest) -> bool),
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// One at a time.
    #[error("a backup is being taken already; wait until it has ended")]
    Running,
    /// The copy of the ledger does not fit beside it.
    #[error(
        "the data folder's disk has {free_bytes} bytes free above its reserve, and the backup's copy of the ledger needs {needed_bytes}; free some space"
    )]
    Space {
        /// Bytes of the copy.
        needed_bytes: u64,
        /// Bytes that may be used.
        free_bytes: u64,
    },
    /// Pieces of large bodies have not come to this node yet.
    #[error(
        "{uploads} large bodies are not whole on this node yet; wait until it has caught up, or back up another node"
    )]
    Pieces {
        /// How many.
        uploads: u64,
    },
    /// The node stops.
    #[error("the node is shutting down")]
    Closing,
    /// The ledger's copy is not whole.
    #[error(transparent)]
    Ledger(#[from] VerifyError),
    /// The journal or the system.
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<ReadError> for BackupError {
    fn from(error: ReadError) -> BackupError {
        BackupError::Io(io::Error::other(error))
    }
}

/// A backup on its way: the manifest without digests of files, then the bytes of all files.
pub struct Backup {
    /// What comes.
    pub manifest: Manifest,
    chunks: mpsc::Receiver<io::Result<Bytes>>,
}

impl Backup {
    /// The next bytes, at most 256 KiB and a piece's header; `None` after the last.
    pub async fn next(&mut self) -> Option<io::Result<Bytes>> {
        self.chunks.recv().await
    }
}

/// Backups that wait for their copy, which only the log's thread can make.
#[derive(Default)]
pub struct Asked {
    waiting: Mutex<Vec<oneshot::Sender<Result<LedgerCopy, BackupError>>>>,
    wanted: Notify,
}

/// A consistent copy of the ledger, open; what it names of the log's stream stays where it is.
pub struct LedgerCopy {
    ledger: Ledger,
    opened: Opened,
    folder: PathBuf,
    _pinned: OwnedRwLockReadGuard<()>,
    _alone: OwnedMutexGuard<()>,
}

impl LedgerCopy {
    fn file(&self) -> PathBuf {
        self.folder.join("generation-1/data.mdb")
    }
}

impl Drop for LedgerCopy {
    fn drop(&mut self) {
        if let Err(error) = snapshot::remove_if_there(&self.folder) {
            tracing::warn!(%error, "the copy that a backup was made from is still there; the next start removes it");
        }
    }
}

/// Makes the copies that are asked for; runs on the log's thread.
pub async fn copy_when_asked(snapshots: Arc<Snapshots>, shared: Arc<Shared>, reserve_bytes: u64) {
    loop {
        shared.backups.wanted.notified().await;
        let waiting = std::mem::take(&mut *shared.backups.waiting.lock());
        for asked in waiting {
            // Who asked may have gone; the copy then goes with the answer.
            let _gone = asked.send(copy(&snapshots, reserve_bytes).await);
        }
    }
}

async fn copy(snapshots: &Arc<Snapshots>, reserve_bytes: u64) -> Result<LedgerCopy, BackupError> {
    let alone = snapshots.backing_up.clone();
    let alone = alone.try_lock_owned().map_err(|_| BackupError::Running)?;
    let needed_bytes = snapshots.store.ledger.sizes()?.map_used_bytes;
    let free_bytes = snapshots.store.journal.stats().free_bytes.saturating_sub(reserve_bytes);
    if needed_bytes > free_bytes {
        return Err(BackupError::Space {
            needed_bytes,
            free_bytes,
        });
    }
    let pinned = snapshots.pinned.clone().read_owned().await;
    let running = snapshots.checkpoints.lock().await;
    snapshots.checkpoints.run_locked(&running).await?;
    let folder = snapshots.folder.join(BACKUP);
    let (ledger, map_bytes_max) = (snapshots.store.ledger.clone(), snapshots.ledger_map_bytes_max);
    let made = tokio::task::spawn_blocking(move || {
        snapshot::remove_if_there(&folder)?;
        let generation = folder.join("generation-1");
        fs::create_dir_all(&generation)?;
        ledger.copy_blocking(&generation.join("data.mdb"))?;
        let (ledger, opened) = Ledger::open(&folder, map_bytes_max)?;
        Ok(LedgerCopy {
            ledger,
            opened,
            folder,
            _pinned: pinned,
            _alone: alone,
        })
    });
    made.await.map_err(io::Error::other)?
}

impl Log {
    /// Takes a backup of everything that was acknowledged before the call. The rest of it is made as it is read; dropping
    /// it gives it up.
    ///
    /// # Errors
    /// [`BackupError`], in its order. Later, as a broken stream: a record that cannot be read, a disk at its reserve.
    pub async fn backup(&self, bodies: &Bodies, wish: Wish) -> Result<Backup, BackupError> {
        let kept = bodies.keep_all().await;
        let (tell, told) = oneshot::channel();
        self.shared.backups.waiting.lock().push(tell);
        self.shared.backups.wanted.notify_one();
        let copy = told.await.map_err(|_| BackupError::Closing)??;
        let making = Making {
            shared: self.shared.clone(),
            bodies: bodies.clone(),
            audit: self.shared.store.journal.segments(Stream::Audit),
            copy,
            _kept: kept,
        };
        let bytes_per_second = wish.bytes_per_second;
        let planned = tokio::task::spawn_blocking(move || making.plan(&wish).map(|manifest| (making, manifest)));
        let (making, manifest) = planned.await.map_err(io::Error::other)??;
        let (sender, chunks) = mpsc::channel(CHUNKS_AHEAD);
        let sink = Sink {
            sender,
            gathered: BytesMut::new(),
            bytes_per_second,
            began: Instant::now(),
            sent_bytes: 0,
        };
        tokio::task::spawn_blocking(move || making.send_all(sink));
        Ok(Backup { manifest, chunks })
    }
}

/// What a backup is made of.
struct Making {
    shared: Arc<Shared>,
    bodies: Bodies,
    audit: Vec<SegmentInfo>,
    copy: LedgerCopy,
    _kept: Kept,
}

/// Files of one folder, begun anew before they get too long.
struct Files {
    folder: &'static str,
    files: Vec<FileInfo>,
}

impl Files {
    fn new(folder: &'static str) -> Files {
        let files = Vec::new();
        Files { folder, files }
    }

    fn add(&mut self, bytes: u64) {
        match self.files.last_mut() {
            Some(file) if file.bytes + bytes <= FILE_BYTES_MAX => file.bytes += bytes,
            Some(_) | None => {
                let number = self.files.len() + 1;
                self.files
                    .push(file_info(format!("{}/{number:06}", self.folder), bytes));
            }
        }
    }
}

fn file_info(name: String, bytes: u64) -> FileInfo {
    let blake3 = String::new();
    FileInfo { name, bytes, blake3 }
}

/// The consumer went away: nobody is told.
struct Gone;

enum Stopped {
    Gone,
    Failed(io::Error),
}

impl From<Gone> for Stopped {
    fn from(_: Gone) -> Stopped {
        Stopped::Gone
    }
}

impl From<ReadError> for Stopped {
    fn from(error: ReadError) -> Stopped {
        Stopped::Failed(io::Error::other(error))
    }
}

impl From<io::Error> for Stopped {
    fn from(error: io::Error) -> Stopped {
        Stopped::Failed(error)
    }
}

impl Making {
    /// Looks at everything that will be sent, and at whether all of it is here.
    fn plan(&self, wish: &Wish) -> Result<Manifest, BackupError> {
        let ledger = &self.copy.ledger;
        let mut lacking = 0;
        (wish.each_upload)(ledger, &mut |manifest| {
            let pieces = self.bodies.pieces(manifest.upload);
            let bytes: u64 = pieces.iter().map(|(_, bytes)| u64::from(*bytes)).sum();
            lacking += u64::from((pieces.len() as u64, bytes) != (u64::from(manifest.pieces), manifest.bytes));
            true
        });
        if lacking > 0 {
            return Err(BackupError::Pieces { uploads: lacking });
        }
        let mut files = vec![file_info(LEDGER.to_owned(), fs::metadata(self.copy.file())?.len())];
        let mut held = Files::new(ENTRIES);
        let mut held_entries = 0;
        tables::rows(ledger, HELD, None, &mut |_, row| {
            held_entries += 1;
            held.add(held::HEADER_BYTES as u64 + u64::from(row.position.bytes));
            true
        });
        let uploads = snapshot::held_uploads(ledger);
        let mut pieces = Files::new(BODIES);
        for upload in &uploads {
            for (_, bytes) in self.bodies.pieces(UploadId(*upload)) {
                pieces.add(PIECE_HEADER_BYTES as u64 + u64::from(bytes));
            }
        }
        files.extend(held.files);
        files.extend(pieces.files);
        let segments = self.audit.iter().filter(|segment| segment.used_bytes > 0);
        files.extend(segments.map(|segment| {
            let name = format!("{AUDIT}/{:08}.seg", segment.number);
            file_info(name, u64::from(segment.used_bytes))
        }));
        let state = ledger.digest_blocking()?;
        let damaged = |what: &str| BackupError::Io(io::Error::new(io::ErrorKind::InvalidData, what));
        let membership = tables::meta(ledger).map_err(damaged)?.membership;
        let in_force = level::in_force(ledger);
        Ok(Manifest {
            format: if in_force.level == level::FIRST { 1 } else { FORMAT },
            level: in_force.level,
            level_release: in_force.release,
            node: wish.node.clone(),
            made_ms: wish.now.ms(),
            applied: self
                .copy
                .opened
                .applied
                .ok_or_else(|| damaged("nothing was ever applied"))?,
            time_ms: self.copy.opened.at.ms(),
            voters: membership.voter_ids().collect(),
            membership: hex::encode(tables::encode_stored_membership(&membership)),
            digest: hex::encode(state.digest.0),
            ledger_entries: state.entries,
            held_entries,
            uploads: uploads.len() as u64,
            audit: wish.audit,
            bytes: files.iter().map(|file| file.bytes).sum(),
            files,
            seal: String::new(),
        })
    }

    fn send_all(self, mut sink: Sink) {
        let sent = self.send(&mut sink);
        // Before the last bytes leave: whoever has them finds the copy gone, and may ask for the next backup.
        drop(self);
        match sent.and_then(|()| Ok(sink.flush()?)) {
            Ok(()) => {}
            Err(Stopped::Gone) => tracing::warn!("who took a backup went away before its end"),
            Err(Stopped::Failed(error)) => {
                tracing::error!(%error, "a backup was given up");
                let _gone = sink.sender.blocking_send(Err(error));
            }
        }
    }

    /// The bytes of all files in the order of the plan, which made the same walk; the last of them stay gathered.
    fn send(&self, sink: &mut Sink) -> Result<(), Stopped> {
        let ledger = &self.copy.ledger;
        let (journal, space) = (&self.shared.store.journal, &self.shared.space);
        let mut file = File::open(self.copy.file())?;
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut chunk)? {
                0 => break,
                read => self.put(sink, &chunk[..read])?,
            }
        }
        let mut sent = Ok(());
        let mut run = journal.run(Stream::Log);
        tables::rows(ledger, HELD, None, &mut |index, row| {
            let read = space.read_blocking(&mut run, index, &row);
            sent = read.map_err(Stopped::from).and_then(|payload| {
                self.put(sink, &held::header(index, &row.leader, payload.len()))?;
                self.put(sink, &payload)
            });
            sent.is_ok()
        });
        sent?;
        for upload in snapshot::held_uploads(ledger).into_iter().map(UploadId) {
            for (piece, _) in self.bodies.pieces(upload) {
                let payload = self.bodies.read_piece_blocking(upload, piece)?;
                self.put(sink, &piece_header(upload, piece, &payload))?;
                self.put(sink, &payload)?;
            }
        }
        for segment in &self.audit {
            let mut offset = 0;
            while offset < u64::from(segment.used_bytes) {
                let wanted = (u64::from(segment.used_bytes) - offset).min(CHUNK_BYTES as u64) as usize;
                let read = journal.read_raw_blocking(Stream::Audit, segment.number, offset, &mut chunk[..wanted])?;
                if read == 0 {
                    return Err(Stopped::Failed(io::ErrorKind::UnexpectedEof.into()));
                }
                self.put(sink, &chunk[..read])?;
                offset += read as u64;
            }
        }
        Ok(())
    }

    fn put(&self, sink: &mut Sink, bytes: &[u8]) -> Result<(), Stopped> {
        if self.shared.disk_full.load(Ordering::Acquire) {
            let what = "the disk is full up to its reserve, and a backup keeps dead space on it";
            return Err(Stopped::Failed(io::Error::new(io::ErrorKind::StorageFull, what)));
        }
        Ok(sink.put(bytes)?)
    }
}

fn piece_header(upload: UploadId, piece: u32, payload: &[u8]) -> [u8; PIECE_HEADER_BYTES] {
    let mut header = [0; PIECE_HEADER_BYTES];
    header[..16].copy_from_slice(&upload.0.to_be_bytes());
    header[16..20].copy_from_slice(&piece.to_le_bytes());
    header[20..24].copy_from_slice(&(payload.len() as u32).to_le_bytes());
    header[24..].copy_from_slice(&checksum::crc32c(payload).to_le_bytes());
    header
}

/// Where the bytes go, at their rate.
struct Sink {
    sender: mpsc::Sender<io::Result<Bytes>>,
    gathered: BytesMut,
    bytes_per_second: Option<u64>,
    began: Instant,
    sent_bytes: u64,
}

impl Sink {
    fn put(&mut self, mut bytes: &[u8]) -> Result<(), Gone> {
        while !bytes.is_empty() {
            if self.gathered.len() == CHUNK_BYTES {
                self.flush()?;
            }
            let room = CHUNK_BYTES - self.gathered.len();
            let (now, later) = bytes.split_at(room.min(bytes.len()));
            self.gathered.extend_from_slice(now);
            bytes = later;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.gathered, BytesMut::with_capacity(CHUNK_BYTES)).freeze();
        self.sent_bytes += chunk.len() as u64;
        self.sender.blocking_send(Ok(chunk)).map_err(|_| Gone)?;
        if let Some(rate) = self.bytes_per_second {
            let due = Duration::from_secs_f64(self.sent_bytes as f64 / rate as f64);
            std::thread::sleep(due.saturating_sub(self.began.elapsed()));
        }
        Ok(())
    }
}
