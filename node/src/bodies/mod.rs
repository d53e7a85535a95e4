//! Large bodies: pieces in the journal's bodies stream, named by upload and digest, never by position.
//!
//! An upload is written piece by piece, becomes durable, and is then named by a command. Until one names it, it has
//! a lease in log time (`UPLOAD_LEASE_MS` from `UploadId::started`): apply refuses a command that names an expired
//! upload, so pieces past their lease that nothing holds are orphans and are reclaimed.
//!
//! It owns the map from pieces to this node's positions, which uploads are held, and the space of the bodies stream. It
//! must never know what a body is or who sent it. All it knows is in local tables of the ledger (see `map.rs`), so a
//! restart scans nothing: what the last checkpoint lacks comes from the journal's replay.
//!
//! Invariants:
//! - A piece is in the map as soon as it is durable: the journal's own callback puts it there, before the stream's
//!   watermark can include it in a checkpoint.
//! - The map, the live bytes by segment and the state of an upload change together, in one write to the ledger.
//! - Which uploads are held follows from state; after an install the held ones are those of the installed copy.
//! - A segment is removed only when no piece of the map is in it, as of a checkpoint that is durable. A reader that comes
//!   too late finds the segment gone and asks the map again; the key in each record rules out wrong bytes.

mod download;
mod map;
mod others;
mod reclaim;
#[cfg(test)]
mod tests;
mod upload;

use crate::base::{Digest, Timestamp, UploadId};
use crate::journal::{AppendError, Journal, Position, ReadError, RecordKey};
use crate::ledger::{Hold, Ledger};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

pub use download::Download;
pub use map::HELD as HELD_UPLOADS;
pub use others::{Others, Sent};
pub use upload::{Placing, Upload};

use map::Map;
use reclaim::Reclaim;

/// Kind of a piece's record in the bodies stream; its key is (upload, piece).
pub const KIND_PIECE: u8 = 1;

/// A whole upload as commands and state name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Its pieces' name.
    pub upload: UploadId,
    /// Bytes in all.
    pub bytes: u64,
    /// Pieces, each `PIECE_BYTES_MAX` but the last.
    pub pieces: u32,
    /// BLAKE3 of all bytes.
    pub digest: Digest,
}

/// The bodies of this node; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Bodies {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Journal,
    map: Map,
    /// One turn at a time; what it remembers between turns is not worth keeping over a restart.
    reclaim: tokio::sync::Mutex<Reclaim>,
    /// The other members, once there can be some.
    others: OnceLock<Others>,
    /// While there are any, nothing is dropped. Changed to more than none under `reclaim` alone.
    keepers: AtomicUsize,
}

/// Keeps every piece while it lives.
pub struct Kept {
    shared: Arc<Shared>,
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.shared.keepers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Figures for metrics and `status`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BodiesStats {
    /// Bytes of all pieces that are not yet dropped.
    pub live_bytes: u64,
    /// Bytes of all segments of the stream.
    pub used_bytes: u64,
    /// Segments.
    pub segments: u64,
}

impl Bodies {
    /// Takes over what the ledger's checkpoint knows of pieces.
    pub fn open(journal: Journal, ledger: Ledger) -> Bodies {
        let map = Map::open(ledger);
        Bodies {
            shared: Arc::new(Shared {
                journal,
                map,
                reclaim: tokio::sync::Mutex::default(),
                others: OnceLock::new(),
                keepers: AtomicUsize::new(0),
            }),
        }
    }

    /// A record of the bodies stream met in replay, before the journal is open: call on the list collected then, in
    /// its order, and before the first turn of [`Bodies::reclaim`]. Before or after the replayed holds: either will do.
    pub fn replayed(&self, upload: UploadId, piece: u64, position: Position) {
        let piece = u32::try_from(piece).expect("pieces are numbered in 32 bits");
        self.shared.map.place(upload, piece, position);
    }

    /// Starts an upload whose lease starts at `at` (log time).
    pub fn begin(&self, at: Timestamp) -> Upload {
        Upload::new(self.shared.clone(), UploadId::new(at, rand::random()))
    }

    /// Carries out a hold or release that a command made: the log's thread calls it after the command's commit and
    /// before `Ledger::applied`, so that one checkpoint includes both. Doing it again changes nothing.
    pub fn hold(&self, hold: Hold) {
        match hold {
            Hold::Upload(upload) => {
                self.shared.map.hold(upload);
                if let Some(others) = self.shared.others.get()
                    && self.lacks_pieces(upload)
                {
                    (others.lacking)(upload);
                }
            }
            Hold::ReleaseUpload(upload) => self.shared.map.release(upload),
            Hold::Entry(_) | Hold::ReleaseEntry(_) => {}
        }
    }

    /// From now on there are other members: every piece goes to them too, and what is missing here comes from them.
    pub fn join(&self, others: Others) {
        // Told twice, the first stays: there is one log.
        let _told = self.shared.others.set(others);
    }

    /// Whether the pieces of a held upload are not all here, as far as can be told without its manifest: they have no gap,
    /// and the last one is shorter than the others. `true` may be wrong, `false` is not.
    pub fn lacks_pieces(&self, upload: UploadId) -> bool {
        let pieces = self.shared.map.pieces(upload);
        let gap = pieces.iter().zip(0..).any(|((piece, _), at)| *piece != at);
        let ends = pieces
            .last()
            .is_some_and(|(_, last)| (last.bytes as usize) < crate::base::limits::PIECE_BYTES_MAX);
        gap || !ends
    }

    /// Uploads that state names, after `after`, at most `max`.
    pub fn held(&self, after: Option<UploadId>, max: usize) -> Vec<UploadId> {
        self.shared.map.held(after, max)
    }

    /// Whether state names the upload.
    pub fn is_held(&self, upload: UploadId) -> bool {
        self.shared.map.is_held(upload)
    }

    /// Keeps a piece that another node took from its client. Durable when it returns.
    ///
    /// # Errors
    /// As the journal's append.
    pub async fn keep(&self, upload: UploadId, piece: u32, bytes: Bytes) -> Result<(), AppendError> {
        let kept = self.place(upload, piece, bytes);
        kept.await.unwrap_or(Err(AppendError::Closed))
    }

    /// A piece that is here.
    ///
    /// # Errors
    /// `Gone`: it is not. `Corrupt`: it cannot be given away.
    pub async fn piece(&self, upload: UploadId, piece: u32) -> Result<Bytes, ReadError> {
        download::read_here(&self.shared, upload, piece).await
    }

    /// Whether every piece of the upload is on this node.
    pub fn has(&self, manifest: &Manifest) -> bool {
        self.shared.map.pieces(manifest.upload).len() == manifest.pieces as usize
    }

    /// Reads from `from_piece` on. Every piece is checked against its own checksum and key.
    pub fn read(&self, manifest: Manifest, from_piece: u32) -> Download {
        Download::new(self.shared.clone(), manifest, from_piece)
    }

    /// Keeps every piece that is here until the guard is dropped, also of uploads that state releases meanwhile. Waits for a
    /// running turn of the space reclaim.
    pub async fn keep_all(&self) -> Kept {
        let reclaim = self.shared.reclaim.lock().await;
        self.shared.keepers.fetch_add(1, Ordering::AcqRel);
        drop(reclaim);
        Kept {
            shared: self.shared.clone(),
        }
    }

    /// The pieces of an upload that are here: number and bytes, in order.
    pub fn pieces(&self, upload: UploadId) -> Vec<(u32, u32)> {
        let pieces = self.shared.map.pieces(upload);
        pieces
            .into_iter()
            .map(|(piece, position)| (piece, position.bytes))
            .collect()
    }

    /// One piece; blocking, checked against its own checksum and key.
    ///
    /// # Errors
    /// As [`Bodies::read`].
    pub fn read_piece_blocking(&self, upload: UploadId, piece: u32) -> Result<Bytes, ReadError> {
        download::read_piece_blocking(&self.shared, upload, piece)
    }

    /// Writes a piece of an upload that was made elsewhere; resolves once it is durable and in the map.
    ///
    /// # Errors
    /// As the journal's append.
    pub fn place(&self, upload: UploadId, piece: u32, payload: Bytes) -> Placing {
        upload::place(&self.shared, upload, piece, vec![payload])
    }

    /// One turn of the space reclaim: drops expired orphans, rewrites at most `bytes_max` of live pieces out of segments
    /// with little live data, removes empty segments once a checkpoint has taken the moves over. `now` is log time.
    /// Gives the bytes of the segments it removed. A full disk ends the rewriting quietly: dead segments still go.
    ///
    /// # Errors
    /// A live piece could not be read. Its segment is left alone from then on.
    pub async fn reclaim(&self, now: Timestamp, bytes_max: u64) -> Result<u64, ReadError> {
        self.shared.clone().reclaim_turn(now, bytes_max).await
    }

    /// Figures.
    pub fn stats(&self) -> BodiesStats {
        let segments = self.shared.journal.segments(crate::journal::Stream::Bodies);
        BodiesStats {
            live_bytes: self.shared.map.live_bytes(),
            used_bytes: segments.iter().map(|segment| u64::from(segment.used_bytes)).sum(),
            segments: segments.len() as u64,
        }
    }
}

/// The key of a piece's record.
fn record_key(upload: UploadId, piece: u32) -> RecordKey {
    RecordKey {
        kind: KIND_PIECE,
        id: upload.0,
        number: u64::from(piece),
    }
}
