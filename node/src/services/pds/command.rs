//! What travels in the log, and what `apply` answers. Encoded by postcard behind a version byte; variants are only ever
//! added at the end, fields never changed (a new variant instead): the golden bytes in the tests hold it.
//!
//! The resource's JSON follows the encoded command as its tail, so that it is never copied through serde, and a reader
//! finds it at the end of the entry without decoding what stands before.

use super::Security;
use crate::base::{Digest, NhsNumber, Timestamp};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Which index a key belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Index {
    /// Date of birth first, then a kind byte and a name in some form: everything of one patient lies close together.
    Birth,
    /// Family name first, then date of birth.
    Family,
    /// Postcode.
    Postcode,
    /// ODS code of the general practice.
    Practice,
    /// Email address or telephone number.
    Contact,
}

/// Every index.
pub const INDEXES: [Index; 5] = [
    Index::Birth,
    Index::Family,
    Index::Postcode,
    Index::Practice,
    Index::Contact,
];

/// Longest text of an index key, in bytes.
pub const INDEX_TEXT_BYTES_MAX: usize = 200;
/// Most index keys of one record.
pub const INDEX_KEYS_MAX: usize = 256;

/// By what a record is found. The state puts the NHS number behind `text`. Its `Debug` shows the index alone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct IndexKey {
    /// Which index.
    pub index: Index,
    /// What stands before the NHS number in the key; 1 to [`INDEX_TEXT_BYTES_MAX`] bytes.
    pub text: Vec<u8>,
    /// Kept as the key's value; what the bits mean is the matching's.
    pub flags: u8,
}

impl std::fmt::Debug for IndexKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "IndexKey({:?})", self.index)
    }
}

/// A client's request identifier, which makes a write happen at most once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// First 16 bytes of BLAKE3 over client, operation, target and `X-Request-ID`.
    pub key: [u8; 16],
    /// First 16 bytes of BLAKE3 over what the request says: a second request with this identifier must say the same.
    pub content: [u8; 16],
}

/// What must still be as the proposer saw it: the keys under these prefixes. Its `Debug` shows how many they are.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Guard {
    /// Where the proposer looked.
    pub prefixes: Vec<(Index, Vec<u8>)>,
    /// [`state::seen_under`](super::state::seen_under) of them.
    pub seen: [u8; 16],
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Guard({} prefixes)", self.prefixes.len())
    }
}

/// A new version of a patient's own part of the record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PutPatient {
    /// Whose; first, so that a reader checks it without decoding the rest.
    pub number: NhsNumber,
    /// The version this one follows; 0: there is none.
    pub follows: u32,
    /// At most once; `None` for operators and bulk loads.
    pub once: Option<Once>,
    /// How far it may be shown.
    pub security: Security,
    /// The record that takes its place.
    pub superseded_by: Option<NhsNumber>,
    /// BLAKE3 of the canonical resource with its security and successor; what loads are reconciled by.
    pub digest: Digest,
    /// Bytes of the tail that anybody may see who may see the record.
    pub open_bytes: u32,
    /// Bytes of the tail behind them that tell where the patient is.
    pub place_bytes: u32,
    /// What matching compares, opaque to the state.
    pub card: Vec<u8>,
    /// All keys of the record, sorted, none twice.
    pub keys: Vec<IndexKey>,
    /// For a create.
    pub guard: Option<Guard>,
}

/// Commands. Their `Debug` names no patient.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Creates or changes a patient.
    PutPatient(Box<PutPatient>),
    /// Replaces the related people of a patient; the tail is a JSON array.
    PutRelated {
        /// Whose.
        number: NhsNumber,
        /// Length of the tail.
        bytes: u32,
        /// BLAKE3 of it.
        digest: Digest,
    },
    /// Replaces the coverage of a patient; the tail is the resource.
    PutCoverage {
        /// Whose.
        number: NhsNumber,
        /// The record's version this one follows.
        follows: u32,
        /// At most once.
        once: Option<Once>,
        /// Length of the tail.
        bytes: u32,
        /// BLAKE3 of it.
        digest: Digest,
    },
}

/// What became of a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// It is stored; or was, when the same request came before.
    Stored {
        /// Under this number.
        number: NhsNumber,
        /// As this version of the record.
        version: u32,
        /// When, in log time.
        at: Timestamp,
        /// The request came before: nothing was changed now.
        repeated: bool,
    },
    /// Refused; nothing was changed.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The record's version is another than the one to follow.
    VersionMismatch {
        /// The version it has.
        version: u32,
    },
    /// There is a record under this number already.
    Exists {
        /// Digest of it.
        digest: Digest,
    },
    /// There is no record under this number.
    Unknown,
    /// What the proposer looked at has changed: look again.
    Raced,
    /// The request identifier was used for a request that says something else.
    RequestReused,
}

/// Why bytes are no command, or no outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Written by a later release.
    #[error("command format {0} is newer than this release")]
    Newer(u8),
    /// Not one of ours.
    #[error("malformed command")]
    Malformed,
}

/// First byte of every command and outcome of PDS.
pub const COMMAND_VERSION: u8 = 3;

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Command::PutPatient(put) => write!(f, "PutPatient(follows {})", put.follows),
            Command::PutRelated { bytes, .. } => write!(f, "PutRelated({bytes} bytes)"),
            Command::PutCoverage { follows, .. } => write!(f, "PutCoverage(follows {follows})"),
        }
    }
}

impl Command {
    /// Whose record it changes.
    pub fn number(&self) -> NhsNumber {
        match self {
            Command::PutPatient(put) => put.number,
            Command::PutRelated { number, .. } | Command::PutCoverage { number, .. } => *number,
        }
    }

    /// Encodes with the resource as tail.
    pub fn encode(&self, tail: &[u8]) -> Bytes {
        assert_eq!(tail.len(), self.tail_bytes(), "the tail is the resource, whole");
        let mut bytes = postcard::to_stdvec(&(COMMAND_VERSION, self)).expect("commands serialise into memory");
        bytes.extend_from_slice(tail);
        Bytes::from(bytes)
    }

    /// Decodes all but the tail, whose length must be what the command says; `apply` never looks at it.
    ///
    /// # Errors
    /// In order: empty is `Malformed`, another first byte `Newer`, then whatever is no command `Malformed`.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        let rest = check_version(bytes)?;
        let (command, tail) = postcard::take_from_bytes::<Command>(rest).map_err(|_| DecodeError::Malformed)?;
        if tail.len() == command.tail_bytes() {
            Ok(command)
        } else {
            Err(DecodeError::Malformed)
        }
    }

    /// The last `tail_bytes` of an encoded command, when it is one that changes the record of `number`.
    pub fn tail_of(bytes: &Bytes, number: NhsNumber, tail_bytes: usize) -> Option<Bytes> {
        let rest = check_version(bytes).ok()?;
        // Every variant starts with the number.
        let ((_variant, found), _) = postcard::take_from_bytes::<(u32, NhsNumber)>(rest)
            .map(|(head, rest)| (head, rest))
            .ok()?;
        let at = bytes.len().checked_sub(tail_bytes)?;
        (found == number).then(|| bytes.slice(at..))
    }

    fn tail_bytes(&self) -> usize {
        match self {
            Command::PutPatient(put) => put.open_bytes as usize + put.place_bytes as usize,
            Command::PutRelated { bytes, .. } | Command::PutCoverage { bytes, .. } => *bytes as usize,
        }
    }
}

impl Outcome {
    /// Encodes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(&(COMMAND_VERSION, self)).expect("outcomes serialise into memory"))
    }

    /// Decodes. Errors as of [`Command::decode`].
    pub fn decode(bytes: &[u8]) -> Result<Outcome, DecodeError> {
        let rest = check_version(bytes)?;
        match postcard::take_from_bytes::<Outcome>(rest) {
            Ok((outcome, [])) => Ok(outcome),
            Ok(_) | Err(_) => Err(DecodeError::Malformed),
        }
    }
}

fn check_version(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    match bytes.split_first() {
        Some((&COMMAND_VERSION, rest)) => Ok(rest),
        Some((&version, _)) => Err(DecodeError::Newer(version)),
        None => Err(DecodeError::Malformed),
    }
}

#[cfg(test)]
mod tests;
