//! The bytes of batches and records, version 1, as `FORMAT.md` draws them. It knows no file and does no I/O.
//!
//! Invariants: a batch is taken only in its own place (node, journal, stream, segment, offset) and only whole; a record
//! can be checked alone, and only in its own place.

use super::planted::{Bug, planted};
use super::{RECORD_BYTES_MAX, RecordKey, Stream};
use crate::base::checksum;
use crate::ring::storage::BLOCK_BYTES;
use bytes::Bytes;

/// The format this release writes.
pub(super) const VERSION: u16 = 1;
/// The first bytes of every batch.
pub(super) const MAGIC: [u8; 4] = *b"VTBJ";
/// Bytes of a batch header.
pub(super) const HEADER_BYTES: usize = 128;
/// Bytes of a record header.
pub(super) const RECORD_HEADER_BYTES: usize = 40;
/// Records start at multiples of this within a batch.
const RECORD_ALIGN_BYTES: usize = 8;
/// Flag of a record that repeats one of an earlier place.
const FLAG_REPEAT: u8 = 1;
/// Where the header's own checksum lies; the same in every version, so that a later one can be told from damage.
const HEADER_CRC_AT: usize = 124;

const _: () = assert!(HEADER_CRC_AT + 4 == HEADER_BYTES && HEADER_BYTES <= BLOCK_BYTES);
const _: () = assert!(HEADER_BYTES.is_multiple_of(RECORD_ALIGN_BYTES));

/// A place: segment number and byte offset.
pub(super) type Place = (u32, u32);

/// What every batch and record of one stream of one journal is bound to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// The node that wrote it.
    pub(super) node: u64,
    /// The journal, drawn at random when it was made.
    pub(super) journal: u128,
}

/// What a batch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum BatchKind {
    /// Holds records.
    Records,
    /// Holds none: says that everything before it is durable.
    Seal,
}

/// A batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) kind: BatchKind,
    pub(super) stream: Stream,
    pub(super) identity: Identity,
    /// Where the batch lies.
    pub(super) place: Place,
    /// Bytes of header and records, without the zeros that fill the last block.
    pub(super) bytes: u32,
    /// Number of records.
    pub(super) records: u32,
    /// Counts the batches of the stream from 1.
    pub(super) sequence: u64,
    /// Header checksum of the stream's batch before this one; 0 before the first.
    pub(super) previous_crc: u32,
    /// Offset in this segment of the newest batch that begins with all carried records.
    pub(super) carry_offset: u32,
    /// The durable end of each stream when this batch was written.
    pub(super) durable: [Place; 3],
    /// Key of the first record; zero in a seal.
    pub(super) first: RecordKey,
    /// Bytes of the segment's file when it was made.
    pub(super) capacity: u32,
    /// Checksum of everything after the header, as far as `bytes`.
    pub(super) records_crc: u32,
}

/// Why bytes are not the batch that was looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mismatch {
    /// Not a header, or a damaged one.
    NoHeader,
    /// A sound header of a later format.
    Newer(u16),
    /// A sound header of another node, journal, stream or place.
    Foreign(&'static str),
}

/// Key of a record that is not there.
pub(super) const NO_KEY: RecordKey = RecordKey {
    kind: 0,
    id: 0,
    number: 0,
};

/// `bytes` rounded up to whole blocks.
pub(super) fn blocks(bytes: usize) -> usize {
    bytes.next_multiple_of(BLOCK_BYTES)
}

fn get<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice has the array's length")
}

fn get_u32(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(get(bytes, at))
}

impl Stream {
    /// All of them, in the order of their numbers.
    pub const ALL: [Stream; 3] = [Stream::Log, Stream::Bodies, Stream::Audit];

    /// 0, 1, 2: its number on disk.
    pub(super) fn number(self) -> u8 {
        match self {
            Stream::Log => 0,
            Stream::Bodies => 1,
            Stream::Audit => 2,
        }
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.number())
    }
}

impl Header {
    /// Bytes on disk, whole blocks.
    pub(super) fn disk_bytes(&self) -> u32 {
        blocks(self.bytes as usize) as u32
    }

    /// The place just behind the batch.
    pub(super) fn end(&self) -> Place {
        (self.place.0, self.place.1 + self.disk_bytes())
    }

    /// The header's checksum, which the next batch repeats.
    pub(super) fn encode(&self, into: &mut [u8]) -> u32 {
        let into = &mut into[..HEADER_BYTES];
        into.fill(0);
        into[0..4].copy_from_slice(&MAGIC);
        into[4..6].copy_from_slice(&VERSION.to_le_bytes());
        into[6] = match self.kind {
            BatchKind::Records => 1,
            BatchKind::Seal => 2,
        };
        into[7] = self.stream.number();
        into[8..16].copy_from_slice(&self.identity.node.to_le_bytes());
        into[16..32].copy_from_slice(&self.identity.journal.to_le_bytes());
        into[32..36].copy_from_slice(&self.place.0.to_le_bytes());
        into[36..40].copy_from_slice(&self.place.1.to_le_bytes());
        into[40..44].copy_from_slice(&self.bytes.to_le_bytes());
        into[44..48].copy_from_slice(&self.records.to_le_bytes());
        into[48..56].copy_from_slice(&self.sequence.to_le_bytes());
        into[56..60].copy_from_slice(&self.previous_crc.to_le_bytes());
        into[60..64].copy_from_slice(&self.carry_offset.to_le_bytes());
        for (stream, place) in self.durable.iter().enumerate() {
            into[64 + stream * 8..68 + stream * 8].copy_from_slice(&place.0.to_le_bytes());
            into[68 + stream * 8..72 + stream * 8].copy_from_slice(&place.1.to_le_bytes());
        }
        into[88..104].copy_from_slice(&self.first.id.to_le_bytes());
        into[104..112].copy_from_slice(&self.first.number.to_le_bytes());
        into[112] = self.first.kind;
        into[116..120].copy_from_slice(&self.capacity.to_le_bytes());
        into[120..124].copy_from_slice(&self.records_crc.to_le_bytes());
        let crc = checksum::crc32c(&into[..HEADER_CRC_AT]);
        into[HEADER_CRC_AT..HEADER_BYTES].copy_from_slice(&crc.to_le_bytes());
        crc
    }

    /// Reads a header, wherever it was meant to lie. Checks in order: length, magic, checksum, version, kind, stream.
    pub(super) fn decode(from: &[u8]) -> Result<(Header, u32), Mismatch> {
        if from.len() < HEADER_BYTES || from[0..4] != MAGIC {
            return Err(Mismatch::NoHeader);
        }
        let crc = get_u32(from, HEADER_CRC_AT);
        if crc != checksum::crc32c(&from[..HEADER_CRC_AT]) && !planted(Bug::SkipBatchChecksum) {
            return Err(Mismatch::NoHeader);
        }
        let version = u16::from_le_bytes(get(from, 4));
        if version > VERSION {
            return Err(Mismatch::Newer(version));
        }
        let kind = match from[6] {
            1 => BatchKind::Records,
            2 => BatchKind::Seal,
            _ => return Err(Mismatch::NoHeader),
        };
        let Some(stream) = Stream::ALL.get(usize::from(from[7])).copied() else {
            return Err(Mismatch::NoHeader);
        };
        let header = Header {
            kind,
            stream,
            identity: Identity {
                node: u64::from_le_bytes(get(from, 8)),
                journal: u128::from_le_bytes(get(from, 16)),
            },
            place: (get_u32(from, 32), get_u32(from, 36)),
            bytes: get_u32(from, 40),
            records: get_u32(from, 44),
            sequence: u64::from_le_bytes(get(from, 48)),
            previous_crc: get_u32(from, 56),
            carry_offset: get_u32(from, 60),
            durable: std::array::from_fn(|stream| (get_u32(from, 64 + stream * 8), get_u32(from, 68 + stream * 8))),
            first: RecordKey {
                kind: from[112],
                id: u128::from_le_bytes(get(from, 88)),
                number: u64::from_le_bytes(get(from, 104)),
            },
            capacity: get_u32(from, 116),
            records_crc: get_u32(from, 120),
        };
        // A checksum that fits says who wrote it, not that he meant it: nothing below may overflow on these.
        let end = u64::from(header.place.1) + blocks(header.bytes as usize) as u64;
        let carried_before = header.carry_offset <= header.place.1;
        let aligned = (header.carry_offset as usize).is_multiple_of(BLOCK_BYTES);
        let sane = header.bytes as usize >= HEADER_BYTES && end <= u64::from(u32::MAX) && carried_before && aligned;
        if sane {
            Ok((header, crc))
        } else {
            Err(Mismatch::NoHeader)
        }
    }

    /// Reads the header that belongs at `place`. Checks as [`decode`](Self::decode), then node, journal, stream, place.
    pub(super) fn decode_at(
        from: &[u8],
        identity: Identity,
        stream: Stream,
        place: Place,
    ) -> Result<(Header, u32), Mismatch> {
        let (header, crc) = Header::decode(from)?;
        if header.identity.node != identity.node {
            return Err(Mismatch::Foreign("written by another node"));
        }
        if header.identity.journal != identity.journal {
            return Err(Mismatch::Foreign("written by another journal"));
        }
        if (header.stream != stream || header.place != place) && !planted(Bug::IgnorePlace) {
            return Err(Mismatch::Foreign("a block that belongs elsewhere"));
        }
        Ok((header, crc))
    }

    /// Whether the bytes after the header, given from the header's start, are those that were written.
    pub(super) fn matches_records(&self, batch: &[u8]) -> bool {
        planted(Bug::SkipBatchChecksum)
            || batch
                .get(HEADER_BYTES..self.bytes as usize)
                .is_some_and(|records| checksum::crc32c(records) == self.records_crc)
    }
}

/// The part of a record's checksum that binds it to its segment.
pub(super) fn segment_crc(identity: Identity, stream: Stream, segment: u32) -> u32 {
    let mut crc = checksum::crc32c(&identity.journal.to_le_bytes());
    crc = checksum::crc32c_append(crc, &identity.node.to_le_bytes());
    if planted(Bug::IgnorePlace) {
        return crc;
    }
    crc = checksum::crc32c_append(crc, &[stream.number()]);
    checksum::crc32c_append(crc, &segment.to_le_bytes())
}

/// A record header as read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) key: RecordKey,
    /// Bytes of the payload.
    pub(super) bytes: u32,
    /// A copy of a carried record of an earlier place.
    pub(super) repeat: bool,
    crc: u32,
}

impl RecordHeader {
    /// Reads a record header; `None` when no such header can have been written.
    pub(super) fn decode(from: &[u8]) -> Option<RecordHeader> {
        let from = from.get(..RECORD_HEADER_BYTES)?;
        let bytes = get_u32(from, 4);
        let sane = bytes as usize <= RECORD_BYTES_MAX && from[9] & !FLAG_REPEAT == 0 && from[10..16] == [0; 6];
        sane.then(|| RecordHeader {
            key: RecordKey {
                kind: from[8],
                id: u128::from_le_bytes(get(from, 16)),
                number: u64::from_le_bytes(get(from, 32)),
            },
            bytes,
            repeat: from[9] & FLAG_REPEAT != 0,
            crc: get_u32(from, 0),
        })
    }

    /// Whether header and payload, given as they lie on disk, are what was written at `offset`.
    pub(super) fn matches(&self, segment_crc: u32, offset: u32, record: &[u8]) -> bool {
        let crc = checksum::crc32c_append(segment_crc, &offset.to_le_bytes());
        planted(Bug::SkipRecordChecksum) || checksum::crc32c_append(crc, &record[4..]) == self.crc
    }
}

/// Bytes a record of `payload_bytes` takes in a batch.
pub(super) fn record_disk_bytes(payload_bytes: usize) -> usize {
    (RECORD_HEADER_BYTES + payload_bytes).next_multiple_of(RECORD_ALIGN_BYTES)
}

/// Lays a batch into a buffer: records first, the header last.
pub(super) struct BatchWriter<'a> {
    buffer: &'a mut [u8],
    segment_crc: u32,
    offset: u32,
    used: usize,
    records: u32,
    first: RecordKey,
}

impl<'a> BatchWriter<'a> {
    /// A batch that will lie at `offset`; `buffer` is as long as the batch may become.
    pub(super) fn new(buffer: &'a mut [u8], segment_crc: u32, offset: u32) -> BatchWriter<'a> {
        BatchWriter {
            buffer,
            segment_crc,
            offset,
            used: HEADER_BYTES,
            records: 0,
            first: NO_KEY,
        }
    }

    /// Whether a record of `payload_bytes` fits.
    pub(super) fn fits(&self, payload_bytes: usize) -> bool {
        self.used + record_disk_bytes(payload_bytes) <= self.buffer.len()
    }

    /// Number of records so far.
    pub(super) fn records(&self) -> u32 {
        self.records
    }

    /// Adds a record that fits; returns its offset in the segment.
    pub(super) fn push(&mut self, key: RecordKey, repeat: bool, payload: &[Bytes]) -> u32 {
        let payload_bytes: usize = payload.iter().map(Bytes::len).sum();
        assert!(self.fits(payload_bytes), "the caller asked first");
        let start = self.used;
        let end = start + record_disk_bytes(payload_bytes);
        let record = &mut self.buffer[start..end];
        record[4..8].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
        record[8] = key.kind;
        record[9] = if repeat { FLAG_REPEAT } else { 0 };
        record[10..16].fill(0);
        record[16..32].copy_from_slice(&key.id.to_le_bytes());
        record[32..40].copy_from_slice(&key.number.to_le_bytes());
        let mut at = RECORD_HEADER_BYTES;
        for piece in payload {
            record[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
        }
        let offset = self.offset + start as u32;
        let crc = checksum::crc32c_append(self.segment_crc, &offset.to_le_bytes());
        let crc = checksum::crc32c_append(crc, &record[4..at]);
        record[0..4].copy_from_slice(&crc.to_le_bytes());
        record[at..].fill(0);
        if self.records == 0 {
            self.first = key;
        }
        self.records += 1;
        self.used = end;
        offset
    }

    /// Writes the header (`bytes`, `records`, `first` and `records_crc` of `header` are filled in here) and the zeros
    /// behind the last record. Returns the header and its checksum.
    pub(super) fn finish(self, header: Header) -> (Header, u32) {
        let header = Header {
            bytes: self.used as u32,
            records: self.records,
            first: self.first,
            records_crc: checksum::crc32c(&self.buffer[HEADER_BYTES..self.used]),
            ..header
        };
        self.buffer[self.used..blocks(self.used)].fill(0);
        let crc = header.encode(self.buffer);
        (header, crc)
    }
}

/// Calls `each` for every record of a batch whose checksum matched, in order, with its offset in the segment. An error
/// says that the records do not add up, which a matching checksum makes a bug or an attack.
pub(super) fn for_each_record<'b>(
    header: &Header,
    batch: &'b [u8],
    mut each: impl FnMut(RecordHeader, u32, &'b [u8]),
) -> Result<(), &'static str> {
    let end = (header.bytes as usize).min(batch.len());
    let mut at = HEADER_BYTES;
    for _ in 0..header.records {
        let record = RecordHeader::decode(&batch[at.min(end)..end]).ok_or("a record header is not one")?;
        let payload = at + RECORD_HEADER_BYTES..at + RECORD_HEADER_BYTES + record.bytes as usize;
        let bytes = batch[..end].get(payload).ok_or("a record is longer than its batch")?;
        each(record, header.place.1 + at as u32, bytes);
        at += record_disk_bytes(record.bytes as usize);
    }
    if at == end || header.records == 0 {
        Ok(())
    } else {
        Err("a batch is longer than its records")
    }
}
