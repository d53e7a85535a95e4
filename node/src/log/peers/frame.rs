//! What goes over a peer's connection, byte by byte.
//!
//! Before TLS, once: `VTBP`, the format (1), the purpose (1), two zeros. Inside TLS, both ways, frames:
//!
//! | bytes | holds |
//! |---|---|
//! | 4 | length of the payload, little-endian, at most [`FRAME_BYTES_MAX`] |
//! | 1 | kind |
//! | 3 | zero |
//! | 8 | call: chosen by the caller, repeated in the answer, little-endian |
//! | … | payload |
//!
//! Payloads are postcard but for those that carry commands or pieces, which are laid out by hand so that their bytes are
//! copied once. Decoding never panics.

use super::super::record;
use super::super::types::{Entry, LogId, TypeConfig, Vote};
use crate::journal::Record;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use openraft::raft::AppendEntriesRequest;
use std::io;
use tokio::io::{AsyncRead, AsyncReadExt};

/// Format of everything here; peers refuse another.
pub const FORMAT: u8 = 1;
/// Longest payload.
pub const FRAME_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Length, kind, call.
pub const HEADER_BYTES: usize = 16;
const MAGIC: &[u8; 4] = b"VTBP";

/// What a connection is for: each kind of traffic has its own, so that none waits behind another's bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// Appends.
    Log = 1,
    /// Heartbeats, votes, leadership.
    Pulse = 2,
    /// Forwarded commands, reads, membership, status.
    Calls = 3,
    /// Pieces of large bodies, snapshots.
    Bulk = 4,
}

/// The bytes before TLS.
pub fn preamble(purpose: Purpose) -> [u8; 8] {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(MAGIC);
    bytes[4] = FORMAT;
    bytes[5] = purpose as u8;
    bytes
}

/// What they say; `None` for bytes that no peer of this format sends.
pub fn purpose_of(bytes: &[u8; 8]) -> Option<Purpose> {
    if &bytes[..4] != MAGIC || bytes[4] != FORMAT || bytes[6..] != [0, 0] {
        return None;
    }
    match bytes[5] {
        1 => Some(Purpose::Log),
        2 => Some(Purpose::Pulse),
        3 => Some(Purpose::Calls),
        4 => Some(Purpose::Bulk),
        0 | 5.. => None,
    }
}

/// Kinds of frames. Numbers are given out once.
pub mod kind {
    /// The caller says who it is; the first frame of a connection.
    pub const HELLO: u8 = 1;
    /// Entries or a heartbeat; answers come in order of the requests of one stream.
    pub const APPEND: u8 = 2;
    /// One append outside of a stream.
    pub const APPEND_ONE: u8 = 3;
    /// A vote.
    pub const VOTE: u8 = 4;
    /// Would you vote?
    pub const PRE_VOTE: u8 = 5;
    /// Leadership is handed over.
    pub const TRANSFER: u8 = 6;
    /// Fetch a snapshot from me and install it.
    pub const SNAPSHOT: u8 = 7;
    /// A command for the leader.
    pub const PROPOSE: u8 = 8;
    /// Up to where must I have applied?
    pub const READ_INDEX: u8 = 9;
    /// How are you?
    pub const STATUS: u8 = 10;
    /// Take me in.
    pub const JOIN: u8 = 11;
    /// Take a member out.
    pub const LEAVE: u8 = 12;
    /// Opens a snapshot for reading.
    pub const SNAPSHOT_OPEN: u8 = 13;
    /// Reads of its files.
    pub const SNAPSHOT_READ: u8 = 14;
    /// A piece of a large body to keep.
    pub const PIECE_PUT: u8 = 15;
    /// A piece of a large body, please.
    pub const PIECE_GET: u8 = 16;
    /// Which pieces of an upload do you have?
    pub const PIECES: u8 = 17;
    /// An entry that the state holds or that is still in the log.
    pub const ENTRY_GET: u8 = 18;
    /// An answer.
    pub const ANSWER: u8 = 0x80;
    /// A refusal: [`super::super::Refusal`].
    pub const REFUSED: u8 = 0x81;
    /// Still working.
    pub const WORKING: u8 = 0x82;
}

/// One frame.
#[derive(Debug)]
pub struct Frame {
    /// What it is.
    pub kind: u8,
    /// Whose answer it asks for or is.
    pub call: u64,
    /// The rest.
    pub payload: Bytes,
}

impl Frame {
    /// Its header.
    pub fn header(&self) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        let length = u32::try_from(self.payload.len()).expect("frames are bounded");
        header[..4].copy_from_slice(&length.to_le_bytes());
        header[4] = self.kind;
        header[8..].copy_from_slice(&self.call.to_le_bytes());
        header
    }
}

/// Reads one frame of at most `max` bytes of payload; `None` at the connection's end.
pub async fn read(from: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Option<Frame>> {
    let mut header = [0; HEADER_BYTES];
    match from.read_exact(&mut header).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let length = u32::from_le_bytes(header[..4].try_into().expect("four bytes")) as usize;
    if length > max {
        return Err(invalid("a frame longer than allowed"));
    }
    let mut payload = BytesMut::with_capacity(length);
    while payload.len() < length {
        let missing = length - payload.len();
        if from.read_buf(&mut (&mut payload).limit(missing)).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Some(Frame {
        kind: header[4],
        call: u64::from_le_bytes(header[8..].try_into().expect("eight bytes")),
        payload: payload.freeze(),
    }))
}

/// What does not fit.
pub fn invalid(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// postcard, for everything small.
pub fn encode<T: serde::Serialize>(value: &T) -> Bytes {
    Bytes::from(postcard::to_allocvec(value).expect("numbers, text and lists are serialisable"))
}

/// And back.
pub fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    postcard::from_bytes(bytes).map_err(|_| invalid("a payload that cannot be read"))
}

/// Two values, of which older releases read the first alone.
pub fn encode_with<A: serde::Serialize, B: serde::Serialize>(value: &A, more: &B) -> Bytes {
    encode(&(value, more))
}

/// And back; the second is `None` where an older release sent it.
pub fn decode_with<A, B>(bytes: &[u8]) -> io::Result<(A, Option<B>)>
where
    A: serde::de::DeserializeOwned,
    B: serde::de::DeserializeOwned,
{
    let unreadable = |_| invalid("a payload that cannot be read");
    let (value, rest) = postcard::take_from_bytes(bytes).map_err(unreadable)?;
    if rest.is_empty() {
        return Ok((value, None));
    }
    let (more, _later) = postcard::take_from_bytes(rest).map_err(unreadable)?;
    Ok((value, Some(more)))
}

/// Vote, position before, commit (26 bytes each but the vote's 18), then the entries as in the journal: term, node, index
/// (8 each), length (4), payload.
pub fn encode_append(request: &AppendEntriesRequest<TypeConfig>) -> Bytes {
    let mut records: Vec<Record> = Vec::new();
    record::encode_entries(record::KIND_ENTRY, &request.entries, &mut records);
    let parts = |record: &Record| record.payload.iter().map(Bytes::len).sum::<usize>();
    let bytes: usize = records.iter().map(|record| 28 + parts(record)).sum();
    let mut out = BytesMut::with_capacity(70 + bytes);
    out.put_slice(&record::encode_vote(&request.vote));
    out.put_slice(&record::encode_log_id(request.prev_log_id.as_ref()));
    out.put_slice(&record::encode_log_id(request.leader_commit.as_ref()));
    for (entry, record) in request.entries.iter().zip(&records) {
        put_log_id(&mut out, &entry.log_id);
        out.put_u32_le(parts(record) as u32);
        record.payload.iter().for_each(|part| out.put_slice(part));
    }
    out.freeze()
}

/// And back; commands share the frame's memory.
pub fn decode_append(mut bytes: Bytes) -> io::Result<AppendEntriesRequest<TypeConfig>> {
    let mut take = |count: usize| {
        let there = bytes.len() >= count;
        there
            .then(|| bytes.split_to(count))
            .ok_or_else(|| invalid("an append that ends early"))
    };
    let vote: Vote = record::decode_vote(&take(18)?).map_err(invalid)?;
    let prev_log_id = record::decode_log_id(&take(26)?).map_err(invalid)?;
    let leader_commit = record::decode_log_id(&take(26)?).map_err(invalid)?;
    let mut entries: Vec<Entry> = Vec::new();
    while !bytes.is_empty() {
        if bytes.len() < 28 {
            return Err(invalid("an append that ends early"));
        }
        let log_id = get_log_id(&mut bytes);
        let length = bytes.get_u32_le() as usize;
        if bytes.len() < length {
            return Err(invalid("an append that ends early"));
        }
        let payload = bytes.split_to(length);
        let key = record::entry_key(record::KIND_ENTRY, &log_id.leader_id, log_id.index);
        entries.push(record::decode_entry(&key, &payload).map_err(invalid)?);
    }
    Ok(AppendEntriesRequest {
        vote,
        prev_log_id,
        entries,
        leader_commit,
    })
}

fn put_log_id(out: &mut BytesMut, id: &LogId) {
    out.put_u64_le(id.leader_id.term);
    out.put_u64_le(id.leader_id.node_id);
    out.put_u64_le(id.index);
}

/// Reads 24 bytes that are known to be there.
fn get_log_id(bytes: &mut Bytes) -> LogId {
    let (term, node) = (bytes.get_u64_le(), bytes.get_u64_le());
    super::super::types::log_id(term, node, bytes.get_u64_le())
}

/// Index and log time of an applied command, then its outcome.
pub fn encode_applied(index: u64, time_ms: u64, outcome: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(16 + outcome.len());
    out.put_u64_le(index);
    out.put_u64_le(time_ms);
    out.put_slice(outcome);
    out.freeze()
}

/// And back.
pub fn decode_applied(mut bytes: Bytes) -> io::Result<(u64, u64, Bytes)> {
    if bytes.len() < 16 {
        return Err(invalid("an outcome that ends early"));
    }
    let (index, time_ms) = (bytes.get_u64_le(), bytes.get_u64_le());
    Ok((index, time_ms, bytes))
}

/// Upload and number of a piece, then its bytes.
pub fn encode_piece(upload: u128, piece: u32, parts: &[Bytes]) -> Bytes {
    let bytes: usize = parts.iter().map(Bytes::len).sum();
    let mut out = BytesMut::with_capacity(20 + bytes);
    out.put_u128_le(upload);
    out.put_u32_le(piece);
    parts.iter().for_each(|part| out.put_slice(part));
    out.freeze()
}

/// And back.
pub fn decode_piece(mut bytes: Bytes) -> io::Result<(u128, u32, Bytes)> {
    if bytes.len() < 20 {
        return Err(invalid("a piece that ends early"));
    }
    let (upload, piece) = (bytes.get_u128_le(), bytes.get_u32_le());
    Ok((upload, piece, bytes))
}

#[cfg(test)]
mod tests {
    use super::super::super::types::{Command, Payload, log_id};
    use super::*;

    fn request() -> AppendEntriesRequest<TypeConfig> {
        let bytes = Bytes::from_static(b"abc");
        AppendEntriesRequest {
            vote: Vote::new_committed(3, 1),
            prev_log_id: Some(log_id(2, 1, 6)),
            entries: vec![
                Entry {
                    log_id: log_id(3, 1, 7),
                    payload: Payload::Blank,
                },
                Entry {
                    log_id: log_id(3, 1, 8),
                    payload: Payload::Normal(Command { stamp_ms: 9, bytes }),
                },
            ],
            leader_commit: None,
        }
    }

    #[test]
    fn an_append_comes_back_as_sent() {
        let back = decode_append(encode_append(&request())).expect("just encoded");
        assert_eq!(back.entries, request().entries);
        assert_eq!((back.vote, back.prev_log_id), (request().vote, request().prev_log_id));
        assert_eq!(back.leader_commit, None);
    }

    #[test]
    fn an_append_that_is_cut_short_anywhere_is_refused_or_shorter() {
        let whole = encode_append(&request());
        for end in 0..whole.len() {
            if let Ok(short) = decode_append(whole.slice(..end)) {
                assert!(short.entries.len() < 2, "cut at {end}");
            }
        }
    }

    #[test]
    fn what_was_added_behind_is_read_where_it_is_there_and_passed_over_by_who_does_not_know_it() {
        let (old, new, later) = (
            encode(&(7u64, "x")),
            encode_with(&(7u64, "x"), &9u32),
            encode(&(7u64, "x", 9u32, 5u64)),
        );
        for (bytes, more) in [(&old, None), (&new, Some(9u32)), (&later, Some(9))] {
            assert_eq!(
                decode::<(u64, String)>(bytes).expect("the first release reads it"),
                (7, "x".to_owned())
            );
            assert_eq!(
                decode_with(bytes).expect("this one does"),
                ((7u64, "x".to_owned()), more)
            );
        }
        assert!(decode_with::<(u64, String), u32>(&old[..2]).is_err());
    }

    #[test]
    fn only_a_peer_s_preamble_is_one() {
        for purpose in [Purpose::Log, Purpose::Pulse, Purpose::Calls, Purpose::Bulk] {
            assert_eq!(purpose_of(&preamble(purpose)), Some(purpose));
        }
        for bad in [
            b"VTBP\x02\x01\0\0",
            b"VTBP\x01\x05\0\0",
            b"VTBP\x01\x01\0\x01",
            b"GET / HT",
        ] {
            assert_eq!(purpose_of(bad), None);
        }
    }

    #[tokio::test]
    async fn a_frame_longer_than_allowed_is_refused_before_its_memory_is_taken() {
        let frame = Frame {
            kind: kind::VOTE,
            call: 7,
            payload: Bytes::from_static(b"0123456789"),
        };
        let wire = [&frame.header()[..], &frame.payload].concat();
        let back = read(&mut &wire[..], 10).await.expect("whole").expect("one frame");
        assert_eq!(
            (back.kind, back.call, &back.payload[..]),
            (kind::VOTE, 7, &b"0123456789"[..])
        );
        assert!(read(&mut &wire[..], 9).await.is_err());
        assert!(read(&mut &wire[..20], 10).await.is_err());
        assert!(read(&mut &wire[..0], 10).await.expect("an end").is_none());
    }
}
