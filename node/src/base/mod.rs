//! Identifiers, time, checksums, limits, the way to the blocking pool. Names nothing else of ours.

pub mod blocking;
pub mod checksum;
pub mod id;
pub mod limits;
pub mod time;

pub use id::{Digest, LogIndex, NHS_NUMBER_KEY_BYTES, NhsNumber, NodeId, OdsCode, RequestId, UploadId, is_uuid};
pub use time::{Clock, Timestamp};
