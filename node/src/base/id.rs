//! Identifiers. Each is a type of its own, so that one is never passed for another.

use serde::{Deserialize, Serialize};
use std::fmt;

use super::time::Timestamp;

/// A member of the cluster. 1 on a cluster of one.
pub type NodeId = u64;

/// Position in the replicated log; openraft numbers from 0.
pub type LogIndex = u64;

/// BLAKE3 digest of some bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Digest {
        Digest(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", hex::encode(&self.0[..8]))
    }
}

/// One upload of a large body: 48 bits of start time in milliseconds of log time, then 80 random bits.
/// The time in it is the start of the upload's lease.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct UploadId(pub u128);

impl UploadId {
    /// A new identifier for an upload that starts at `at`.
    pub fn new(at: Timestamp, random: u128) -> UploadId {
        UploadId((u128::from(at.ms()) << 80) | (random & ((1 << 80) - 1)))
    }

    /// When the upload started.
    pub fn started(self) -> Timestamp {
        Timestamp::from_ms((self.0 >> 80) as u64)
    }
}

impl fmt::Debug for UploadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Identifies one request in logs, audit and answers. Ours, never a client's text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Code of an organisation in the Organisation Data Service: 1 to 12 upper-case letters and digits.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct OdsCode(String);

impl TryFrom<String> for OdsCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<OdsCode, Self::Error> {
        OdsCode::parse(&text).ok_or("an ODS code is 1 to 12 letters and digits")
    }
}

impl OdsCode {
    /// Parses an ODS code; letters are made upper-case. `None` when empty, too long, or with other characters.
    pub fn parse(text: &str) -> Option<OdsCode> {
        let fits = (1..=12).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric());
        fits.then(|| OdsCode(text.to_ascii_uppercase()))
    }

    /// The code as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for OdsCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
