//! Backups: everything of one position as files, taken while the node serves, and put back into an empty data folder.
//!
//! | file | holds |
//! |---|---|
//! | `ledger.mdb` | the ledger's copy |
//! | `entries/NNNNNN` | the records of all held entries, as in a snapshot's `entries` |
//! | `bodies/NNNNNN` | the pieces of all uploads that state holds: upload, piece, length, CRC-32C (16 big-endian, 4, 4, 4 little-endian), payload |
//! | `audit/NNNNNNNN.seg` | the segments of this node's audit stream as they are in its journal, up to the durable end |
//! | `manifest.json` | [`Manifest`]; written last |
//!
//! Owns: the format, making (`copy`), checking (`source`) and putting back (`restore`). Must never know: what a command means.
//!
//! Invariants: nothing that was acknowledged before a backup began is missing in it; a folder without a manifest is no
//! backup; nothing is put back before every digest matched; a node that was restored is a cluster of one and no member of
//! the cluster that the backup is of.

mod copy;
mod restore;
mod source;

pub use copy::{Backup, BackupError, Wish};
pub use restore::{RestoreError, Restored, check_empty, restore};
pub use source::{Source, SourceError};

pub(super) use copy::{Asked, copy_when_asked};
pub(super) use restore::refuse_half_restored;

use super::level;
use super::tables;
use super::types::StoredMembership;
use crate::audit::Head;
use serde::{Deserialize, Serialize};

/// The newest format, written from format level 2 on; before that it is 1, which the first release reads too.
pub const FORMAT: u32 = 2;
/// What says what the files hold.
pub const MANIFEST: &str = "manifest.json";
/// The ledger's copy.
pub const LEDGER: &str = "ledger.mdb";
/// Folder of the held entries.
pub const ENTRIES: &str = "entries";
/// Folder of the pieces.
pub const BODIES: &str = "bodies";
/// Folder of the audit stream.
pub const AUDIT: &str = "audit";
/// A file of entries or pieces is begun anew before it would be longer than this, bytes.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Bytes before a piece.
const PIECE_HEADER_BYTES: usize = 28;

/// A file of a backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileInfo {
    /// Its path in the backup's folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its BLAKE3, 64 hexadecimal digits; empty until it is written.
    pub blake3: String,
}

/// The node that a backup is of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its number.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// Its data centre.
    pub site: String,
    /// The release it ran.
    pub release: String,
}

/// What a backup says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 1, or [`FORMAT`] where the format level was raised.
    pub format: u32,
    /// The format level in force; since format 2.
    #[serde(default = "first_level", skip_serializing_if = "is_first_level")]
    pub level: u32,
    /// The release that raised it; since format 2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub level_release: String,
    /// The node.
    pub node: NodeInfo,
    /// When it was taken, by the node's clock: milliseconds since 1970.
    pub made_ms: u64,
    /// Term, node and index of the last entry that is in it.
    pub applied: (u64, u64, u64),
    /// Log time there, milliseconds since 1970.
    pub time_ms: u64,
    /// Voters of the cluster there.
    pub voters: Vec<u64>,
    /// The whole membership as in the log's local table, in hexadecimal.
    pub membership: String,
    /// Digest of all replicated tables, 64 hexadecimal digits.
    pub digest: String,
    /// Entries of these tables.
    pub ledger_entries: u64,
    /// Held entries of the log.
    pub held_entries: u64,
    /// Large bodies.
    pub uploads: u64,
    /// An entry of the audit stream that is in it: its number and hash.
    pub audit: Head,
    /// Bytes of all files.
    pub bytes: u64,
    /// The files, in the order they are sent and checked.
    pub files: Vec<FileInfo>,
    /// BLAKE3 of this manifest with an empty seal, 64 hexadecimal digits.
    pub seal: String,
}

fn first_level() -> u32 {
    level::FIRST
}

/// A backup of the first level is, byte by byte, what the first release made.
fn is_first_level(level: &u32) -> bool {
    *level == level::FIRST
}

impl Manifest {
    /// The seal that its values ask for.
    fn sealed(&self) -> String {
        let open = Manifest {
            seal: String::new(),
            ..self.clone()
        };
        let bytes = serde_json::to_vec(&open).expect("a manifest of texts and numbers has a JSON form");
        blake3::hash(&bytes).to_hex().to_string()
    }

    /// As it is written, sealed. Every file has its digest by now.
    pub fn encode(&mut self) -> Vec<u8> {
        self.seal = self.sealed();
        let mut bytes = serde_json::to_vec_pretty(self).expect("a manifest of texts and numbers has a JSON form");
        bytes.push(b'\n');
        bytes
    }

    fn stored_membership(&self) -> Result<StoredMembership, &'static str> {
        let bytes = hex::decode(&self.membership).map_err(|_| "a membership that cannot be read")?;
        tables::decode_stored_membership(&bytes)
    }
}

/// Whether `name` is one that a backup's file may have: never a way out of its folder.
pub fn is_file_name(name: &str) -> bool {
    let numbered = |rest: &str, digits: usize, ending: &str| {
        rest.strip_suffix(ending)
            .is_some_and(|number| number.len() >= digits && number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    match name.split_once('/') {
        None => name == LEDGER,
        Some((ENTRIES | BODIES, rest)) => numbered(rest, 6, ""),
        Some((AUDIT, rest)) => numbered(rest, 8, ".seg"),
        Some(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            format: 1,
            level: level::FIRST,
            level_release: String::new(),
            node: NodeInfo {
                id: 1,
                name: "n".to_owned(),
                site: "s".to_owned(),
                release: "1".to_owned(),
            },
            made_ms: 5,
            applied: (1, 1, 9),
            time_ms: 4,
            voters: vec![1],
            membership: String::new(),
            digest: "00".to_owned(),
            ledger_entries: 3,
            held_entries: 0,
            uploads: 0,
            audit: Head::default(),
            bytes: 7,
            files: Vec::new(),
            seal: String::new(),
        }
    }

    #[test]
    fn a_seal_shows_every_changed_value() {
        let mut whole = manifest();
        let bytes = whole.encode();
        let read: Manifest = serde_json::from_slice(&bytes).expect("it was just written");
        assert_eq!(read.seal, read.sealed());
        let changed = Manifest {
            applied: (1, 1, 8),
            ..read
        };
        assert_ne!(changed.seal, changed.sealed());
    }

    #[test]
    fn a_backup_of_the_first_level_says_nothing_of_levels() {
        let text = String::from_utf8(manifest().encode()).expect("JSON is text");
        assert!(!text.contains("level"), "{text}");
        let mut later = Manifest {
            format: FORMAT,
            level: 2,
            level_release: "7.2".to_owned(),
            ..manifest()
        };
        let read: Manifest = serde_json::from_slice(&later.encode()).expect("it was just written");
        assert_eq!(
            (read.level, read.level_release.as_str(), read.seal.clone()),
            (2, "7.2", read.sealed())
        );
    }

    #[test]
    fn names_of_files_stay_in_their_folder() {
        for name in ["ledger.mdb", "entries/000001", "bodies/1000000", "audit/00000001.seg"] {
            assert!(is_file_name(name), "{name}");
        }
        for name in [
            "",
            "manifest.json",
            "../x",
            "entries/../x",
            "entries/1",
            "audit/00000001",
            "/etc/x",
            "x/000001",
        ] {
            assert!(!is_file_name(name), "{name}");
        }
    }
}
