//! The file of held entries in a snapshot or a backup: written out of the journal, and read piece by piece as it comes.
//!
//! Invariant: what is given out are whole entries that decode; what is cut short or none is refused.

use super::record;
use super::space::Space;
use super::store::Store;
use super::tables;
use super::types::Leader;
use crate::base::{Digest, direct};
use crate::journal::{RECORD_BYTES_MAX, Stream};
use crate::ledger::Ledger;
use bytes::{Bytes, BytesMut};
use std::io::{self, BufWriter, Read, Write as _};
use std::path::Path;

/// Before each payload: index, term, node (8 bytes each, little-endian), length (4).
pub const HEADER_BYTES: usize = 28;
/// Read from a file at a time.
const READ_BYTES: u64 = 4 * 1024 * 1024;

/// Index, leader, payload.
pub type Held = (u64, Leader, Bytes);

fn invalid(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

/// What stands before a held entry's payload.
pub fn header(index: u64, leader: &Leader, payload_bytes: usize) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..8].copy_from_slice(&index.to_le_bytes());
    header[8..16].copy_from_slice(&leader.term.to_le_bytes());
    header[16..24].copy_from_slice(&leader.node_id.to_le_bytes());
    header[24..28].copy_from_slice(&(payload_bytes as u32).to_le_bytes());
    header
}

/// Takes the file in pieces of any length, gives entries.
#[derive(Default)]
pub struct Pieces {
    /// What is not a whole entry yet.
    rest: Bytes,
}

impl Pieces {
    /// The entries that are whole with this piece. Their payloads are parts of the pieces, not copies.
    ///
    /// # Errors
    /// `InvalidData`: no file of held entries.
    pub fn take(&mut self, piece: Bytes) -> io::Result<Vec<Held>> {
        let mut bytes = match self.rest.is_empty() {
            true => piece,
            false => {
                let mut joined = BytesMut::with_capacity(self.rest.len() + piece.len());
                joined.extend_from_slice(&self.rest);
                joined.extend_from_slice(&piece);
                joined.freeze()
            }
        };
        let mut entries = Vec::new();
        while let Some(header) = bytes.first_chunk::<HEADER_BYTES>() {
            let number = |at: usize| u64::from_le_bytes(header[at..at + 8].try_into().expect("eight bytes"));
            let (index, term, node_id) = (number(0), number(8), number(16));
            let length = u32::from_le_bytes(header[24..28].try_into().expect("four bytes")) as usize;
            if length > RECORD_BYTES_MAX {
                return Err(invalid("a held entry of the snapshot is longer than a record"));
            }
            if bytes.len() < HEADER_BYTES + length {
                break;
            }
            let payload = bytes.split_to(HEADER_BYTES + length).split_off(HEADER_BYTES);
            let leader = Leader { term, node_id };
            record::decode_entry(&record::entry_key(record::KIND_HELD, &leader, index), &payload).map_err(invalid)?;
            entries.push((index, leader, payload));
        }
        self.rest = bytes;
        Ok(entries)
    }

    /// Whether the file may end here.
    ///
    /// # Errors
    /// `UnexpectedEof`: in the middle of an entry.
    pub fn end(&self) -> io::Result<()> {
        match self.rest.is_empty() {
            true => Ok(()),
            false => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// The entries of a whole file, some at a time.
pub struct Reader<R> {
    /// Where the file is read.
    pub from: R,
    pieces: Pieces,
}

impl<R: Read> Reader<R> {
    /// Begins at the file's start.
    pub fn new(from: R) -> Reader<R> {
        let pieces = Pieces::default();
        Reader { from, pieces }
    }

    /// The next ones; none at the end.
    ///
    /// # Errors
    /// As [`Pieces::take`] and [`Pieces::end`], and what reading says.
    pub fn some(&mut self) -> io::Result<Vec<Held>> {
        loop {
            let mut piece = Vec::new();
            (&mut self.from).take(READ_BYTES).read_to_end(&mut piece)?;
            if piece.is_empty() {
                self.pieces.end()?;
                return Ok(Vec::new());
            }
            let entries = self.pieces.take(piece.into())?;
            if !entries.is_empty() {
                return Ok(entries);
            }
        }
    }
}

/// A file that is hashed as it is written.
struct Hashed {
    file: direct::Writer,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// A file as it was written.
pub struct Written {
    /// Entries in it.
    pub entries: u64,
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3.
    pub digest: Digest,
}

/// Writes the entries that `ledger` holds into a file, which is not synced; damaged ones are had from other members.
pub fn write_blocking(store: &Store, space: &Space, ledger: &Ledger, path: &Path) -> io::Result<Written> {
    let hashed = Hashed {
        file: direct::Writer::create(path)?,
        hasher: blake3::Hasher::new(),
        bytes: 0,
    };
    let mut file = BufWriter::with_capacity(256 * 1024, hashed);
    let mut entries = 0;
    let mut result = Ok(());
    let mut run = store.journal.run(Stream::Log);
    tables::rows(ledger, tables::HELD, None, &mut |index, row| {
        let read = space.read_blocking(&mut run, index, &row);
        result = read.map_err(io::Error::other).and_then(|payload| {
            file.write_all(&header(index, &row.leader, payload.len()))?;
            file.write_all(&payload)
        });
        entries += 1;
        result.is_ok()
    });
    result?;
    let Hashed { file, hasher, bytes } = file.into_inner().map_err(|error| error.into_error())?;
    file.finish()?;
    Ok(Written {
        entries,
        bytes,
        digest: Digest(*hasher.finalize().as_bytes()),
    })
}

#[cfg(test)]
mod tests {
    use super::super::types::{Command, log_id};
    use super::*;
    use openraft::EntryPayload;

    fn file(count: u64) -> (Vec<Held>, Vec<u8>) {
        let mut file = Vec::new();
        let entries = (1..=count).map(|index| {
            let bytes = vec![index as u8; (index * 7_919 % 30_000) as usize].into();
            let entry = super::super::types::Entry {
                log_id: log_id(3, 2, index),
                payload: EntryPayload::Normal(Command { stamp_ms: index, bytes }),
            };
            let mut records = Vec::new();
            record::encode_entries(record::KIND_HELD, &[entry], &mut records);
            let (payload, leader) = (Bytes::from(records[0].payload.concat()), Leader { term: 3, node_id: 2 });
            file.extend_from_slice(&header(index, &leader, payload.len()));
            file.extend_from_slice(&payload);
            (index, leader, payload)
        });
        (entries.collect(), file)
    }

    #[test]
    fn entries_come_whole_out_of_pieces_of_any_length() {
        let (entries, file) = file(40);
        for length in [1_000, 4_096, 65_537, file.len()] {
            let mut pieces = Pieces::default();
            let mut found = Vec::new();
            for piece in file.chunks(length) {
                found.append(&mut pieces.take(Bytes::copy_from_slice(piece)).expect("whole entries"));
            }
            pieces.end().expect("nothing is left");
            assert!(found == entries, "in pieces of {length}");
        }
        let mut reader = Reader::new(file.as_slice());
        let mut found = Vec::new();
        loop {
            let mut some = reader.some().expect("whole entries");
            if some.is_empty() {
                break;
            }
            found.append(&mut some);
        }
        assert!(found == entries, "from a file");
    }

    #[test]
    fn what_is_cut_short_or_no_entry_is_refused() {
        let (_, file) = file(3);
        let mut cut = Reader::new(&file[..file.len() - 1]);
        assert_eq!(cut.some().expect("two are whole").len(), 2);
        let refused = cut.some().err().expect("the third is not");
        assert_eq!(refused.kind(), io::ErrorKind::UnexpectedEof);
        for (at, value) in [(27, 0xff), (HEADER_BYTES, 99)] {
            let mut wrong = file.clone();
            wrong[at] = value;
            let refused = Pieces::default().take(wrong.into()).err();
            assert_eq!(
                refused.expect("no entry").kind(),
                io::ErrorKind::InvalidData,
                "byte {at} is {value}"
            );
        }
    }
}
