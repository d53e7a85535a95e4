//! Identifiers, time, checksums, limits, which release this is, the way to the blocking pool, whom TLS clients trust. Names
//! nothing else of ours.

pub mod blocking;
pub mod checksum;
pub mod direct;
pub mod id;
pub mod limits;
pub mod release;
pub mod time;
pub mod trust;

pub use id::{Digest, LogIndex, NHS_NUMBER_KEY_BYTES, NhsNumber, NodeId, OdsCode, RequestId, UploadId, is_uuid};
pub use time::{Clock, Timestamp};
