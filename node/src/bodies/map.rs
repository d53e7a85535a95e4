//! Where pieces are and who needs them, in local tables of the ledger.
//!
//! | table | key | value |
//! |---|---|---|
//! | 210 pieces | upload (16 bytes, big-endian) ‖ piece (4, big-endian) | segment, offset, bytes (4 each, little-endian) |
//! | 212 pending | upload | empty: has pieces, and nothing named it yet |
//! | 213 released | upload | empty: state named it once; its pieces wait to be dropped |
//! | 214 segments | segment (4, big-endian) | live bytes (8, little-endian) |
//! | 215 seen | `generation` | generation of the ledger that the other tables fit (8, little-endian) |
//! | 240 held | upload | empty: state names it; follows from state, so an installed ledger brings its own |
//!
//! ```text
//!            piece durable            hold              release            dropped
//! (nothing) ──────────────▶ pending ────────▶ held ──────────────▶ released ───────▶ (nothing)
//!                              └───────── lease passed: dropped ──────────────────────▶
//! ```
//!
//! Upload identifiers start with their time, so the pending ones whose lease has passed are the first of their table.

use crate::base::UploadId;
use crate::journal::Position;
use crate::ledger::{DERIVED_TABLES_FROM, Ledger, Read, Table};
use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::collections::BTreeSet;
use std::ops::Bound;

const PIECES: Table = Table::permanent(210);
const PENDING: Table = Table::permanent(212);
const RELEASED: Table = Table::permanent(213);
const SEGMENTS: Table = Table::permanent(214);
const SEEN: Table = Table::permanent(215);
/// Uploads that state names: the key is the upload's 16 bytes, big-endian.
pub const HELD: Table = Table::permanent(DERIVED_TABLES_FROM);

const GENERATION: &[u8] = b"generation";

/// Writes that belong together, for one call to the ledger.
type Writes = Vec<(Table, Vec<u8>, Option<Vec<u8>>)>;

/// The map. Everything is read from the ledger but the live bytes, which are small and asked for often.
pub(super) struct Map {
    ledger: Ledger,
    /// Live bytes by segment, as in table 214. Held over every change, so that what is read before a write still is so.
    live: Mutex<FxHashMap<u32, u64>>,
}

impl Map {
    pub fn open(ledger: Ledger) -> Map {
        let mut live = FxHashMap::default();
        ledger.scan(SEGMENTS, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
            let segment = u32::from_be_bytes(key.try_into().expect("segments are keyed by four bytes"));
            live.insert(
                segment,
                u64::from_le_bytes(value.try_into().expect("live bytes are eight bytes")),
            );
            true
        });
        Map {
            ledger,
            live: Mutex::new(live),
        }
    }

    /// The ledger the map is in.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// Where a piece is.
    pub fn position(&self, upload: UploadId, piece: u32) -> Option<Position> {
        let mut position = None;
        self.ledger.with(PIECES, &piece_key(upload, piece), &mut |value| {
            position = Some(decode(value))
        });
        position
    }

    /// All pieces of an upload that are here.
    pub fn pieces(&self, upload: UploadId) -> Vec<(u32, Position)> {
        let (from, to) = (piece_key(upload, 0), piece_key(upload, u32::MAX));
        let mut pieces = Vec::new();
        self.ledger.scan(
            PIECES,
            Bound::Included(&from),
            Bound::Included(&to),
            &mut |key, value| {
                let piece: [u8; 4] = key[16..].try_into().expect("pieces are keyed by twenty bytes");
                pieces.push((u32::from_be_bytes(piece), decode(value)));
                true
            },
        );
        pieces
    }

    /// A piece is durable here. Of two places of one piece the later told wins, as in the journal.
    pub fn place(&self, upload: UploadId, piece: u32, position: Position) {
        let mut live = self.live.lock();
        let old = self.position(upload, piece);
        if old == Some(position) {
            return;
        }
        let mut writes = self.moved(&mut live, upload, piece, old, position);
        let name = upload.0.to_be_bytes();
        if !self.has(HELD, &name) && !self.has(PENDING, &name) {
            writes.push((PENDING, name.to_vec(), Some(Vec::new())));
        }
        self.write(&writes);
    }

    /// A piece was copied from `old` to `new`; if it is no longer at `old`, the copy is dead and nothing changes.
    pub fn replace(&self, upload: UploadId, piece: u32, old: Position, new: Position) {
        let mut live = self.live.lock();
        if self.position(upload, piece) == Some(old) {
            let writes = self.moved(&mut live, upload, piece, Some(old), new);
            self.write(&writes);
        }
    }

    fn moved(
        &self,
        live: &mut FxHashMap<u32, u64>,
        upload: UploadId,
        piece: u32,
        old: Option<Position>,
        new: Position,
    ) -> Writes {
        let mut writes = vec![(PIECES, piece_key(upload, piece).to_vec(), Some(encode(new).to_vec()))];
        if let Some(old) = old {
            less(live, old);
            note_live(live, old.segment, &mut writes);
        }
        *live.entry(new.segment).or_default() += u64::from(new.bytes);
        note_live(live, new.segment, &mut writes);
        writes
    }

    /// Whether state names the upload.
    pub fn is_held(&self, upload: UploadId) -> bool {
        self.has(HELD, &upload.0.to_be_bytes())
    }

    /// Uploads that state names, after `after`, at most `max`, in order.
    pub fn held(&self, after: Option<UploadId>, max: usize) -> Vec<UploadId> {
        let key = after.map(|upload| upload.0.to_be_bytes());
        let from = key
            .as_ref()
            .map_or(Bound::Unbounded, |key| Bound::Excluded(key.as_slice()));
        let mut found = Vec::new();
        self.ledger.scan(HELD, from, Bound::Unbounded, &mut |key, _| {
            found.push(UploadId(u128::from_be_bytes(
                key.try_into().expect("uploads are keyed by sixteen bytes"),
            )));
            found.len() < max
        });
        found
    }

    /// State names the upload.
    pub fn hold(&self, upload: UploadId) {
        let name = upload.0.to_be_bytes();
        let _live = self.live.lock();
        if !self.has(HELD, &name) {
            self.ledger.put_locals(&[
                (HELD, &name, Some(&[])),
                (PENDING, &name, None),
                (RELEASED, &name, None),
            ]);
        }
    }

    /// State no longer names the upload.
    pub fn release(&self, upload: UploadId) {
        let name = upload.0.to_be_bytes();
        let _live = self.live.lock();
        self.ledger.put_locals(&[
            (HELD, &name, None),
            (PENDING, &name, None),
            (RELEASED, &name, Some(&[])),
        ]);
    }

    /// At most `max` released uploads.
    pub fn released(&self, max: usize) -> Vec<UploadId> {
        self.first(RELEASED, max, &mut |_| true)
    }

    /// At most `max` uploads that nothing named yet and that `is_expired`; oldest first.
    pub fn orphans(&self, max: usize, is_expired: &mut dyn FnMut(UploadId) -> bool) -> Vec<UploadId> {
        self.first(PENDING, max, is_expired)
    }

    /// Drops the pieces of an upload unless it is held; gives their bytes.
    pub fn drop_upload(&self, upload: UploadId) -> u64 {
        let name = upload.0.to_be_bytes();
        let mut live = self.live.lock();
        if self.has(HELD, &name) {
            self.ledger
                .put_locals(&[(PENDING, &name, None), (RELEASED, &name, None)]);
            return 0;
        }
        let mut writes: Writes = vec![(PENDING, name.to_vec(), None), (RELEASED, name.to_vec(), None)];
        let mut bytes = 0;
        let mut segments = BTreeSet::new();
        for (piece, position) in self.pieces(upload) {
            writes.push((PIECES, piece_key(upload, piece).to_vec(), None));
            less(&mut live, position);
            segments.insert(position.segment);
            bytes += u64::from(position.bytes);
        }
        for segment in segments {
            note_live(&live, segment, &mut writes);
        }
        self.write(&writes);
        bytes
    }

    /// Live bytes of a segment.
    pub fn live_bytes_of(&self, segment: u32) -> u64 {
        self.live.lock().get(&segment).copied().unwrap_or(0)
    }

    /// Live bytes of all segments.
    pub fn live_bytes(&self) -> u64 {
        self.live.lock().values().sum()
    }

    /// Forgets a segment with no live bytes and calls `remove`; `false` when something in it is live after all.
    pub fn remove_segment(&self, segment: u32, remove: impl FnOnce()) -> bool {
        let mut live = self.live.lock();
        if live.get(&segment).is_some_and(|bytes| *bytes > 0) {
            return false;
        }
        live.remove(&segment);
        self.ledger.put_local(SEGMENTS, &segment.to_be_bytes(), None);
        remove();
        true
    }

    /// After an install the held uploads are others: those that have pieces here and that nothing names any more become
    /// pending, and so go when their lease has passed. Looks at every piece; does nothing when there was no install.
    pub fn reconcile(&self) {
        let generation = self.ledger.generation();
        let mut seen = 1;
        self.ledger.with(SEEN, GENERATION, &mut |bytes| {
            seen = u64::from_le_bytes(bytes.try_into().expect("a generation is eight bytes"));
        });
        if seen == generation {
            return;
        }
        let mut behind = None;
        while let Some(upload) = self.upload_behind(behind) {
            let name = upload.0.to_be_bytes();
            let _live = self.live.lock();
            if !self.has(HELD, &name) && !self.has(RELEASED, &name) && !self.has(PENDING, &name) {
                self.ledger.put_local(PENDING, &name, Some(&[]));
            }
            behind = Some(upload);
        }
        self.ledger.put_local(SEEN, GENERATION, Some(&generation.to_le_bytes()));
    }

    /// The first upload with pieces here, or the first behind another.
    fn upload_behind(&self, behind: Option<UploadId>) -> Option<UploadId> {
        let last = behind.map(|upload| piece_key(upload, u32::MAX));
        let from = last.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
        let mut found = None;
        self.ledger.scan(PIECES, from, Bound::Unbounded, &mut |key, _| {
            let upload: [u8; 16] = key[..16].try_into().expect("pieces are keyed by twenty bytes");
            found = Some(UploadId(u128::from_be_bytes(upload)));
            false
        });
        found
    }

    fn first(&self, table: Table, max: usize, wanted: &mut dyn FnMut(UploadId) -> bool) -> Vec<UploadId> {
        let mut found = Vec::new();
        self.ledger
            .scan(table, Bound::Unbounded, Bound::Unbounded, &mut |key, _| {
                let upload = UploadId(u128::from_be_bytes(
                    key.try_into().expect("uploads are keyed by sixteen bytes"),
                ));
                if found.len() == max || !wanted(upload) {
                    return false;
                }
                found.push(upload);
                true
            });
        found
    }

    fn has(&self, table: Table, key: &[u8]) -> bool {
        self.ledger.with(table, key, &mut |_| {})
    }

    fn write(&self, writes: &Writes) {
        let writes: Vec<(Table, &[u8], Option<&[u8]>)> = writes
            .iter()
            .map(|(table, key, value)| (*table, key.as_slice(), value.as_deref()))
            .collect();
        self.ledger.put_locals(&writes);
    }
}

fn less(live: &mut FxHashMap<u32, u64>, position: Position) {
    let bytes = live
        .get_mut(&position.segment)
        .expect("a segment with a piece has live bytes");
    *bytes = bytes
        .checked_sub(u64::from(position.bytes))
        .expect("a piece was counted when it was placed");
}

fn note_live(live: &FxHashMap<u32, u64>, segment: u32, writes: &mut Writes) {
    let bytes = live.get(&segment).copied().unwrap_or(0);
    writes.push((
        SEGMENTS,
        segment.to_be_bytes().to_vec(),
        Some(bytes.to_le_bytes().to_vec()),
    ));
}

fn piece_key(upload: UploadId, piece: u32) -> [u8; 20] {
    let mut key = [0; 20];
    key[..16].copy_from_slice(&upload.0.to_be_bytes());
    key[16..].copy_from_slice(&piece.to_be_bytes());
    key
}

fn encode(position: Position) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[..4].copy_from_slice(&position.segment.to_le_bytes());
    bytes[4..8].copy_from_slice(&position.offset.to_le_bytes());
    bytes[8..].copy_from_slice(&position.bytes.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Position {
    assert!(bytes.len() == 12, "a piece's position of {} bytes", bytes.len());
    let number = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four of twelve bytes"));
    Position {
        segment: number(0),
        offset: number(4),
        bytes: number(8),
    }
}
