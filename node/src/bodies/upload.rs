//! Writing a body: slices are gathered to pieces without copying them, and a few pieces are under way at once.

use super::{Manifest, Sent, Shared, record_key};
use crate::base::limits::PIECE_BYTES_MAX;
use crate::base::{Digest, UploadId};
use crate::journal::{AppendError, Record, Stream};
use bytes::{Bytes, BytesMut};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;

/// Pieces handed to the journal and not yet durable. With the piece being gathered that is 768 KiB.
const IN_FLIGHT_MAX: usize = 2;
/// Slices below this are copied together: a client that sends byte by byte must not make a list of slices.
const SLICE_BYTES_MIN: usize = 4096;
/// While the journal's queue is full, a piece is offered again after so long…
const RETRY_MS: u64 = 10;
/// … and so often before the upload is refused.
const RETRIES_MAX: u32 = 500;

/// An upload in progress. At most 1 MiB of it is in memory; `write` waits when the disk is behind. Dropped
/// unfinished, its pieces are orphans.
pub struct Upload {
    shared: Arc<Shared>,
    upload: UploadId,
    hasher: blake3::Hasher,
    bytes: u64,
    pieces: u32,
    gathered: Vec<Bytes>,
    /// Small slices, copied together; behind all of `gathered`.
    small: BytesMut,
    gathered_bytes: usize,
    in_flight: VecDeque<InFlight>,
}

struct InFlight {
    piece: u32,
    /// The same memory that the journal has: kept to offer it again.
    payload: Vec<Bytes>,
    done: Placing,
    /// The other members, where there are some.
    sent: Option<Sent>,
}

impl Upload {
    pub(super) fn new(shared: Arc<Shared>, upload: UploadId) -> Upload {
        Upload {
            shared,
            upload,
            hasher: blake3::Hasher::new(),
            bytes: 0,
            pieces: 0,
            gathered: Vec::new(),
            small: BytesMut::new(),
            gathered_bytes: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// Adds bytes.
    ///
    /// # Errors
    /// As the journal's append; the upload is then of no use. `Overloaded` only after some seconds of waiting.
    pub async fn write(&mut self, mut bytes: Bytes) -> Result<(), AppendError> {
        self.hasher.update(&bytes);
        self.bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PIECE_BYTES_MAX - self.gathered_bytes;
            let slice = bytes.split_to(room.min(bytes.len()));
            self.gathered_bytes += slice.len();
            if slice.len() < SLICE_BYTES_MIN {
                self.small.extend_from_slice(&slice);
            } else {
                self.gather_small();
                self.gathered.push(slice);
            }
            if self.gathered_bytes == PIECE_BYTES_MAX {
                self.send_piece().await?;
            }
        }
        Ok(())
    }

    /// Bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Waits until every piece is durable: here and, where there are other members, on a majority of voters.
    pub async fn finish(mut self) -> Result<Manifest, AppendError> {
        if self.gathered_bytes > 0 {
            self.send_piece().await?;
        }
        while !self.in_flight.is_empty() {
            self.wait_oldest().await?;
        }
        let digest = Digest(*self.hasher.finalize().as_bytes());
        Ok(Manifest {
            upload: self.upload,
            bytes: self.bytes,
            pieces: self.pieces,
            digest,
        })
    }

    fn gather_small(&mut self) {
        if !self.small.is_empty() {
            self.gathered.push(self.small.split().freeze());
        }
    }

    async fn send_piece(&mut self) -> Result<(), AppendError> {
        while self.in_flight.len() >= IN_FLIGHT_MAX {
            self.wait_oldest().await?;
        }
        self.gather_small();
        let payload = std::mem::take(&mut self.gathered);
        self.gathered_bytes = 0;
        let piece = self.pieces;
        self.pieces = piece.checked_add(1).expect("a body has fewer than 2^32 pieces");
        let others = self.shared.others.get();
        let sent = others.map(|others| (others.send)(self.upload, piece, payload.clone()));
        let done = self.offer(piece, payload.clone());
        self.in_flight.push_back(InFlight {
            piece,
            payload,
            done,
            sent,
        });
        Ok(())
    }

    async fn wait_oldest(&mut self) -> Result<(), AppendError> {
        let Some(mut oldest) = self.in_flight.pop_front() else {
            return Ok(());
        };
        for _ in 0..RETRIES_MAX {
            match oldest.done.await {
                Ok(Ok(())) => {
                    return match oldest.sent {
                        // Dropped: too few of the others have it, so no command may name it.
                        Some(sent) => sent.await.map_err(|_| AppendError::Overloaded),
                        None => Ok(()),
                    };
                }
                Ok(Err(AppendError::Overloaded)) => {
                    tokio::time::sleep(Duration::from_millis(RETRY_MS)).await;
                    oldest.done = self.offer(oldest.piece, oldest.payload.clone());
                }
                Ok(Err(error @ (AppendError::Full | AppendError::Closed))) => return Err(error),
                // The journal went away without a word: it is closing.
                Err(_) => return Err(AppendError::Closed),
            }
        }
        Err(AppendError::Overloaded)
    }

    fn offer(&self, piece: u32, payload: Vec<Bytes>) -> Placing {
        place(&self.shared, self.upload, piece, payload)
    }
}

/// Told once a piece is durable and in the map.
pub type Placing = oneshot::Receiver<Result<(), AppendError>>;

/// Hands a piece to the journal.
pub(super) fn place(shared: &Arc<Shared>, upload: UploadId, piece: u32, payload: Vec<Bytes>) -> Placing {
    let (tell, done) = oneshot::channel();
    let owner = shared.clone();
    let record = Record {
        key: record_key(upload, piece),
        payload,
    };
    let durable = move |result: Result<Vec<_>, AppendError>| {
        // Here and not where it is awaited: the map must have the piece before a checkpoint's watermark does.
        let placed = result.map(|positions| owner.map.place(upload, piece, positions[0]));
        // Nobody waits when the upload was dropped; then the piece is an orphan.
        let _ = tell.send(placed);
    };
    shared
        .journal
        .append_then(Stream::Bodies, vec![record], Box::new(durable));
    done
}
