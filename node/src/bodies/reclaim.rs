//! Space comes back: dropped bodies leave dead bytes in sealed segments; what lives on in a mostly dead one is written
//! again at the end of the stream, and the segment is removed.
//!
//! A segment goes through these states, which only a turn changes:
//!
//! ```text
//! in use ──mostly dead──▶ being emptied ──nothing live left──▶ empty as of checkpoint N ──N and N+1 durable──▶ removed
//! ```
//!
//! N is the checkpoint that includes the last move or drop. The one after it is awaited too, because N's watermark may
//! have been taken while the segment was still the newest.

use super::{KIND_PIECE, Shared, record_key};
use crate::base::limits::UPLOAD_LEASE_MS;
use crate::base::{Timestamp, UploadId, blocking};
use crate::journal::{AppendError, Position, ReadError, Record, SegmentInfo, Stream};
use rustc_hash::FxHashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Orphans stay this much longer than their lease, for commands that were stamped before it passed and are still queued.
const LEASE_MARGIN_MS: u64 = 10 * 60 * 1000;
/// Uploads dropped in one turn, released and orphans each.
const DROPS_PER_TURN_MAX: usize = 256;
/// A segment is rewritten when at most this share of its bytes is live.
const LIVE_PERCENT_MAX: u64 = 40;

/// A segment is read through at this rate at most: the disk is there for others.
const SCAN_BYTES_PER_SECOND_MAX: u64 = 64 << 20;

/// What a turn leaves for the next.
#[derive(Default)]
pub(super) struct Reclaim {
    emptying: Option<Emptying>,
    /// Segments with nothing live, and the checkpoint that must be durable before they go.
    empty: FxHashMap<u32, u64>,
    /// Segments in which something could not be read: left alone until the next start.
    damaged: Vec<u32>,
}

struct Emptying {
    segment: u32,
    live: VecDeque<(UploadId, u32, Position)>,
}

impl Shared {
    pub(super) async fn reclaim_turn(self: Arc<Self>, now: Timestamp, bytes_max: u64) -> Result<u64, ReadError> {
        let mut reclaim = self.reclaim.lock().await;
        let shared = self.clone();
        // Many small writes: not on a reactor.
        blocking::run(move || shared.drop_dead(now)).await?;
        let freed = self.remove_empty(&mut reclaim);
        let mut budget = bytes_max;
        loop {
            let emptying = match reclaim.emptying.take() {
                Some(emptying) => emptying,
                None => match self.candidate(&reclaim) {
                    Some(segment) => self.start_emptying(&mut reclaim, segment).await?,
                    None => return Ok(freed),
                },
            };
            let segment = emptying.segment;
            match self.empty_out(emptying, &mut budget).await {
                Ok(None) => {
                    reclaim.empty.insert(segment, self.map.ledger().checkpoint_next() + 1);
                }
                Ok(Some(rest)) => {
                    reclaim.emptying = Some(rest);
                    return Ok(freed);
                }
                Err(error) => {
                    reclaim.damaged.push(segment);
                    return Err(error);
                }
            }
            if budget == 0 {
                return Ok(freed);
            }
        }
    }

    fn drop_dead(&self, now: Timestamp) {
        self.map.reconcile();
        if self.keepers.load(Ordering::Acquire) > 0 {
            return;
        }
        for upload in self.map.released(DROPS_PER_TURN_MAX) {
            self.map.drop_upload(upload);
        }
        let expired = |upload: UploadId| upload.started().plus_ms(UPLOAD_LEASE_MS + LEASE_MARGIN_MS) < now;
        for upload in self.map.orphans(DROPS_PER_TURN_MAX, &mut { expired }) {
            self.map.drop_upload(upload);
        }
    }

    fn remove_empty(&self, reclaim: &mut Reclaim) -> u64 {
        let landed = self.map.ledger().checkpoint_landed();
        let segments = self.journal.segments(Stream::Bodies);
        let mut freed = 0;
        reclaim.empty.retain(|segment, checkpoint| {
            if landed < *checkpoint {
                return true;
            }
            let remove = || self.journal.remove_segment(Stream::Bodies, *segment);
            if self.map.remove_segment(*segment, remove) {
                let info = segments.iter().find(|info| info.number == *segment);
                freed += info.map_or(0, |info| u64::from(info.used_bytes));
            }
            // When something came to life in it after all, it is a candidate again.
            false
        });
        freed
    }

    /// The sealed segment with the smallest share of live bytes, if that is small enough.
    fn candidate(&self, reclaim: &Reclaim) -> Option<u32> {
        let share = |info: &SegmentInfo| self.map.live_bytes_of(info.number) * 100 / u64::from(info.used_bytes).max(1);
        let segments = self.journal.segments(Stream::Bodies).into_iter();
        segments
            .filter(|info| info.sealed && !reclaim.empty.contains_key(&info.number))
            .filter(|info| !reclaim.damaged.contains(&info.number))
            .map(|info| (share(&info), info.number))
            .filter(|(share, _)| *share <= LIVE_PERCENT_MAX)
            .min()
            .map(|(_, number)| number)
    }

    /// Finds what lives in a segment by reading it: the truth, where the counts are only a hint. Done also when the
    /// count says that nothing does, because the segment is removed on the strength of it.
    async fn start_emptying(self: &Arc<Self>, reclaim: &mut Reclaim, segment: u32) -> Result<Emptying, ReadError> {
        let shared = self.clone();
        let scan = blocking::run(move || {
            let mut live = VecDeque::new();
            let (started, mut read_bytes) = (Instant::now(), 0);
            shared
                .journal
                .scan_blocking(Stream::Bodies, segment, &mut |key, position, _| {
                    read_bytes += u64::from(position.bytes);
                    let due = Duration::from_micros(read_bytes * 1_000_000 / SCAN_BYTES_PER_SECOND_MAX);
                    std::thread::sleep(due.saturating_sub(started.elapsed()));
                    if key.kind != KIND_PIECE {
                        return;
                    }
                    let upload = UploadId(key.id);
                    let piece = u32::try_from(key.number).expect("pieces are numbered in 32 bits");
                    if shared.map.position(upload, piece) == Some(position) {
                        live.push_back((upload, piece, position));
                    }
                })?;
            Ok(live)
        });
        match scan.await? {
            Ok(live) => Ok(Emptying { segment, live }),
            Err(error) => {
                reclaim.damaged.push(segment);
                Err(error)
            }
        }
    }

    /// Moves pieces while the budget lasts; `None` once the segment is empty.
    async fn empty_out(
        self: &Arc<Self>,
        mut emptying: Emptying,
        budget: &mut u64,
    ) -> Result<Option<Emptying>, ReadError> {
        while let Some((upload, piece, position)) = emptying.live.front().copied() {
            if *budget == 0 {
                return Ok(Some(emptying));
            }
            // Dropped since it was found: nothing to move.
            if self.map.position(upload, piece) == Some(position) {
                let key = record_key(upload, piece);
                let bytes = self.journal.read(Stream::Bodies, position, key).await?;
                if self.move_piece(upload, piece, position, bytes).await.is_err() {
                    // The disk is full or busy: the next turn tries again.
                    *budget = 0;
                    return Ok(Some(emptying));
                }
                *budget = budget.saturating_sub(u64::from(position.bytes));
            }
            emptying.live.pop_front();
        }
        Ok(None)
    }

    async fn move_piece(
        self: &Arc<Self>,
        upload: UploadId,
        piece: u32,
        old: Position,
        bytes: bytes::Bytes,
    ) -> Result<(), AppendError> {
        let (tell, done) = oneshot::channel();
        let shared = self.clone();
        let durable = move |result: Result<Vec<Position>, AppendError>| {
            let moved = result.map(|positions| shared.map.replace(upload, piece, old, positions[0]));
            // The turn may have been dropped; the move counts all the same.
            let _ = tell.send(moved);
        };
        let record = Record {
            key: record_key(upload, piece),
            payload: vec![bytes],
        };
        self.journal
            .append_then(Stream::Bodies, vec![record], Box::new(durable));
        done.await.unwrap_or(Err(AppendError::Closed))
    }
}
