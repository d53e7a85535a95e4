//! Values of MESH in the ledger, encoded as `services/values.rs` says. Golden bytes in the tests hold every one of them.

use super::super::MessageId;
use super::super::command::Body;
use super::{Message, Stored};
use crate::base::{Digest, LogIndex, Timestamp};
use crate::bodies::Manifest;
#[cfg(test)]
pub(super) use crate::services::values::write;
pub(super) use crate::services::values::{NOTHING, exists, get, put, read};
use serde::{Deserialize, Serialize};

/// A message and what only the rules need of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Kept {
    /// What queries give.
    pub message: Message,
    /// Start of its five and thirty days: the first chunk's time, then the last one's.
    pub arrived: Timestamp,
    /// Its key in the due index.
    pub due: Timestamp,
    /// How many chunks are in.
    pub chunks_in: u32,
    /// The first chunk.
    pub first: Option<Part>,
    /// Whether its bodies are still held.
    pub bodies: Bodies,
    /// The first chunk was posted again while chunks were missing: two uploads may be under way.
    pub retried: bool,
    /// Its key among the safe retries.
    pub retry: Option<RetryKey>,
}

/// Whether a message's bodies are held. `Held → Releasing → Released`; `Releasing` only for messages of many chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Bodies {
    /// All that are in.
    Held,
    /// Those of chunks from this number on.
    Releasing {
        /// Next chunk to release.
        from: u32,
    },
    /// None.
    Released,
}

/// A chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Part {
    /// The tail of a command.
    Entry {
        /// Which.
        index: LogIndex,
        /// Its length.
        bytes: u32,
        /// Of its bytes.
        digest: Digest,
    },
    /// Pieces in the bodies stream.
    Upload(Manifest),
    /// Released; the digest still tells a repeated chunk from another one.
    Released {
        /// Of its bytes.
        digest: Digest,
    },
}

impl Part {
    /// What a command at `index` brings.
    pub(super) fn of(body: &Body, index: LogIndex) -> Part {
        match body {
            Body::Inline { bytes, digest } => Part::Entry {
                index,
                bytes: *bytes,
                digest: *digest,
            },
            Body::Upload(manifest) => Part::Upload(*manifest),
        }
    }

    pub(super) fn digest(&self) -> Digest {
        match self {
            Part::Entry { digest, .. } | Part::Released { digest } => *digest,
            Part::Upload(manifest) => manifest.digest,
        }
    }

    /// Where its bytes are; `None` once released.
    pub(super) fn stored(&self) -> Option<Stored> {
        match self {
            Part::Entry { index, bytes, .. } => Some(Stored::Entry {
                index: *index,
                bytes: *bytes,
            }),
            Part::Upload(manifest) => Some(Stored::Upload(*manifest)),
            Part::Released { .. } => None,
        }
    }

    pub(super) fn bytes(&self) -> u64 {
        self.stored().map_or(0, |stored| stored.bytes())
    }
}

/// Where a message stands among the safe retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RetryKey {
    /// Period of its table.
    pub period: u32,
    /// Fingerprint of the send.
    pub fingerprint: Digest,
}

/// The answer to a repeated send.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Retry {
    /// The first message.
    pub message: MessageId,
    /// When it was sent.
    pub at: Timestamp,
}

/// A message in an inbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Waiting {
    /// Which.
    pub message: MessageId,
    /// When it arrived.
    pub at: Timestamp,
    /// Its workflow, for filters.
    pub workflow: String,
}

/// A workflow without its members.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct WorkflowHead {
    /// Its identifier.
    pub id: String,
    /// Only listed mailboxes send it.
    pub senders_listed: bool,
    /// Only listed mailboxes receive it.
    pub receivers_listed: bool,
}
