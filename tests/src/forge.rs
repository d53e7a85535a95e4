//! An attacker who can write to a stopped node's audit segments and makes every checksum of the journal valid again, by
//! `node/src/journal/FORMAT.md`. Batches keep their places, so nothing but the chain itself can tell.

use std::fs::{self, File};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

const HEADER_BYTES: usize = 128;
const RECORD_HEADER_BYTES: usize = 40;
const BLOCK_BYTES: usize = 4096;

/// A record as it lies in its batch.
#[derive(Clone)]
pub struct Record {
    /// Kind, flags and zeros, 8 bytes from the kind on.
    kind: [u8; 8],
    id: [u8; 16],
    /// The entry's sequence number.
    pub number: u64,
    /// The entry with the hash of the one before at its front.
    pub payload: Vec<u8>,
}

struct Batch {
    at: usize,
    header: [u8; HEADER_BYTES],
    records: Vec<Record>,
}

/// The first audit segment of a node.
pub struct Forge {
    file: PathBuf,
    batches: Vec<Batch>,
}

/// CRC-32C of `bytes` after `crc`.
fn crc32c(crc: u32, bytes: &[u8]) -> u32 {
    let step = |crc: u32| (crc >> 1) ^ (0x82F6_3B78 & (crc & 1).wrapping_neg());
    !bytes.iter().fold(!crc, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| step(crc))
    })
}

fn u32_at(bytes: &[u8], at: usize) -> usize {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes")) as usize
}

/// The file of the first audit segment below `folder`.
pub fn audit_segment(folder: &Path) -> PathBuf {
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        let file = folder.join("journal/audit/0000000001.seg");
        if file.is_file() {
            return file;
        }
        let inner = fs::read_dir(&folder).into_iter().flatten().flatten();
        folders.extend(inner.map(|entry| entry.path()).filter(|path| path.is_dir()));
    }
    panic!("{} holds no audit segment", folder.display());
}

impl Forge {
    /// Reads the batches of the first audit segment below `folder`.
    pub fn open(folder: &Path) -> Forge {
        let file = audit_segment(folder);
        let bytes = fs::read(&file).expect("a segment can be read");
        let mut batches = Vec::new();
        let mut at = 0;
        while bytes[at..].starts_with(b"VTBJ") {
            let header: [u8; HEADER_BYTES] = bytes[at..at + HEADER_BYTES].try_into().expect("a header");
            let mut records = Vec::new();
            let mut from = at + HEADER_BYTES;
            for _ in 0..u32_at(&header, 44) {
                let payload = from + RECORD_HEADER_BYTES..from + RECORD_HEADER_BYTES + u32_at(&bytes, from + 4);
                records.push(Record {
                    kind: bytes[from + 8..from + 16].try_into().expect("eight bytes"),
                    id: bytes[from + 16..from + 32].try_into().expect("sixteen bytes"),
                    number: u64::from_le_bytes(bytes[from + 32..from + 40].try_into().expect("eight bytes")),
                    payload: bytes[payload.clone()].to_vec(),
                });
                from = payload.end.next_multiple_of(8);
            }
            let length = u32_at(&header, 40).next_multiple_of(BLOCK_BYTES);
            batches.push(Batch { at, header, records });
            at += length;
        }
        Forge { file, batches }
    }

    /// Every entry, for reading and changing.
    pub fn entries(&mut self) -> Vec<&mut Record> {
        self.batches.iter_mut().flat_map(|batch| &mut batch.records).collect()
    }

    /// Entry `sequence`.
    pub fn entry(&mut self, sequence: u64) -> &mut Record {
        let found = self.entries().into_iter().find(|record| record.number == sequence);
        found.unwrap_or_else(|| panic!("the segment holds entry {sequence}"))
    }

    /// Keeps the entries for which `keep` says so; a batch without any becomes a seal.
    pub fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        for batch in &mut self.batches {
            batch.records.retain(|record| keep(record.number));
        }
    }

    /// Writes all batches back in their places, with checksums that fit.
    pub fn write(&self) {
        let file = File::options()
            .write(true)
            .open(&self.file)
            .expect("a segment can be written");
        let mut previous: Option<u32> = None;
        for batch in &self.batches {
            let (bytes, crc) = batch.encode(previous);
            file.write_all_at(&bytes, batch.at as u64)
                .expect("a batch can be written");
            previous = Some(crc);
        }
        file.sync_all().expect("a segment can be synced");
    }
}

impl Batch {
    fn encode(&self, previous: Option<u32>) -> (Vec<u8>, u32) {
        let blocks = u32_at(&self.header, 40).next_multiple_of(BLOCK_BYTES);
        let mut bytes = self.header.to_vec();
        // Journal, node, stream, segment.
        let identity = [&bytes[16..32], &bytes[8..16], &bytes[7..8], &bytes[32..36]].concat();
        for record in &self.records {
            let offset = (self.at + bytes.len()) as u32;
            let mut body = (record.payload.len() as u32).to_le_bytes().to_vec();
            body.extend(record.kind);
            body.extend(record.id);
            body.extend(record.number.to_le_bytes());
            body.extend(&record.payload);
            let crc = crc32c(crc32c(crc32c(0, &identity), &offset.to_le_bytes()), &body);
            bytes.extend(crc.to_le_bytes());
            bytes.extend(body);
            bytes.resize(bytes.len().next_multiple_of(8), 0);
        }
        bytes[6] = if self.records.is_empty() { 2 } else { 1 };
        let length = bytes.len() as u32;
        bytes[40..44].copy_from_slice(&length.to_le_bytes());
        bytes[44..48].copy_from_slice(&(self.records.len() as u32).to_le_bytes());
        if let Some(previous) = previous {
            bytes[56..60].copy_from_slice(&previous.to_le_bytes());
        }
        bytes[88..113].fill(0);
        if let Some(first) = self.records.first() {
            bytes[88..104].copy_from_slice(&first.id);
            bytes[104..112].copy_from_slice(&first.number.to_le_bytes());
            bytes[112] = first.kind[0];
        }
        let records = crc32c(0, &bytes[HEADER_BYTES..]);
        bytes[120..124].copy_from_slice(&records.to_le_bytes());
        let crc = crc32c(0, &bytes[..124]);
        bytes[124..128].copy_from_slice(&crc.to_le_bytes());
        assert!(bytes.len() <= blocks, "a forged batch keeps its place");
        bytes.resize(blocks, 0);
        (bytes, crc)
    }
}
