//! Reading a body piece by piece, one piece ahead.

use super::upload::place;
use super::{Manifest, Shared, record_key};
use crate::base::UploadId;
use crate::base::limits::PIECE_BYTES_MAX;
use crate::journal::{Position, ReadError, Stream};
use bytes::Bytes;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

/// A piece may be moved while it is read; it is not moved this often in that time.
const MOVES_MAX: u32 = 8;

type Reading = Pin<Box<dyn Future<Output = Result<Bytes, ReadError>>>>;

/// A body being read, piece by piece.
pub struct Download {
    shared: Arc<Shared>,
    manifest: Manifest,
    next: u32,
    /// The read of piece `next`, started when the piece before was given out, so that the disk works while that is sent.
    ahead: Option<Reading>,
    failed: bool,
}

impl Download {
    pub(super) fn new(shared: Arc<Shared>, manifest: Manifest, from_piece: u32) -> Download {
        Download {
            shared,
            manifest,
            next: from_piece,
            ahead: None,
            failed: false,
        }
    }

    /// The next piece, `None` after the last.
    ///
    /// # Errors
    /// `Corrupt`: never served. `Gone`: state no longer names the body, and it was dropped. After an error: `None`.
    pub async fn next(&mut self) -> Option<Result<Bytes, ReadError>> {
        if self.failed || self.next >= self.manifest.pieces {
            return None;
        }
        let reading = self.ahead.take().unwrap_or_else(|| self.start());
        let piece = reading.await;
        self.next += 1;
        self.failed = piece.is_err();
        if !self.failed && self.next < self.manifest.pieces {
            self.read_ahead().await;
        }
        Some(piece)
    }

    fn start(&self) -> Reading {
        Box::pin(read_piece(self.shared.clone(), self.manifest, self.next))
    }

    /// Starts the next read by polling it once; it is awaited by the next call.
    async fn read_ahead(&mut self) {
        let mut reading = self.start();
        let polled = poll_fn(|context| Poll::Ready(reading.as_mut().poll(context))).await;
        self.ahead = Some(match polled {
            Poll::Ready(piece) => Box::pin(std::future::ready(piece)),
            Poll::Pending => reading,
        });
    }
}

/// One piece: from here or, when it is not here or damaged, from another member, and then kept here too.
async fn read_piece(shared: Arc<Shared>, manifest: Manifest, piece: u32) -> Result<Bytes, ReadError> {
    let error = match read_here(&shared, manifest.upload, piece).await {
        Ok(bytes) if bytes.len() == piece_bytes(&manifest, piece) => return Ok(bytes),
        Ok(_) => {
            let what = "the piece has another length than its manifest says";
            let (segment, offset, bytes) = (0, 0, 0);
            let position = shared.map.position(manifest.upload, piece);
            let position = position.unwrap_or(Position { segment, offset, bytes });
            ReadError::Corrupt {
                stream: Stream::Bodies,
                position,
                what,
            }
        }
        Err(error) => error,
    };
    let Some(others) = shared.others.get() else {
        return Err(error);
    };
    match (others.fetch)(manifest.upload, piece).await {
        Ok(bytes) if bytes.len() == piece_bytes(&manifest, piece) => {
            if matches!(error, ReadError::Corrupt { .. }) {
                tracing::warn!(%error, "a damaged piece of a body was replaced by another member's");
            }
            // The next reader finds it here; this one does not wait for that.
            let _kept = place(&shared, manifest.upload, piece, vec![bytes.clone()]);
            Ok(bytes)
        }
        Ok(_) | Err(_) => Err(error),
    }
}

/// One piece, wherever the map says it is; asked again when its segment went while it was read.
pub(super) async fn read_here(shared: &Shared, upload: UploadId, piece: u32) -> Result<Bytes, ReadError> {
    let gone = |segment| ReadError::Gone {
        stream: Stream::Bodies,
        segment,
    };
    let mut before = None;
    for _ in 0..MOVES_MAX {
        let Some(position) = shared.map.position(upload, piece) else {
            break;
        };
        if before == Some(position) {
            break;
        }
        match shared
            .journal
            .read(Stream::Bodies, position, record_key(upload, piece))
            .await
        {
            Ok(bytes) => return Ok(bytes),
            // A removed segment is cut short under its last readers: what looks like damage there is none, if the map
            // names another place by now. If it names the same one, it is.
            Err(ReadError::Gone { .. }) => before = Some(position),
            Err(ReadError::Corrupt { .. }) if shared.map.position(upload, piece) != Some(position) => {}
            Err(error @ (ReadError::Corrupt { .. } | ReadError::Io(_))) => return Err(error),
        }
    }
    Err(gone(before.map_or(0, |position| position.segment)))
}

/// The same for a copy of whatever is here, blocking: no manifest says how long the piece is.
pub(super) fn read_piece_blocking(shared: &Shared, upload: UploadId, piece: u32) -> Result<Bytes, ReadError> {
    let mut before = None;
    for _ in 0..MOVES_MAX {
        let Some(position) = shared.map.position(upload, piece) else {
            break;
        };
        if before == Some(position) {
            break;
        }
        let key = record_key(upload, piece);
        match shared.journal.read_blocking(Stream::Bodies, position, key) {
            Ok(bytes) => return Ok(bytes),
            Err(ReadError::Gone { .. }) => before = Some(position),
            Err(ReadError::Corrupt { .. }) if shared.map.position(upload, piece) != Some(position) => {}
            Err(error @ (ReadError::Corrupt { .. } | ReadError::Io(_))) => return Err(error),
        }
    }
    Err(ReadError::Gone {
        stream: Stream::Bodies,
        segment: before.map_or(0, |position| position.segment),
    })
}

/// Bytes of a piece: all but the last are full.
fn piece_bytes(manifest: &Manifest, piece: u32) -> usize {
    let before = u64::from(piece) * PIECE_BYTES_MAX as u64;
    manifest.bytes.saturating_sub(before).min(PIECE_BYTES_MAX as u64) as usize
}
