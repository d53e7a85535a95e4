//! What travels in the log, and what `apply` answers. Encoded by postcard behind a version byte; variants are only ever
//! added at the end, fields never changed (a new variant instead): the golden bytes in the tests hold it.
//!
//! An inline body follows the encoded command as its tail, so that it is never copied through serde.

use super::{MailboxId, MessageId};
use crate::base::{Digest, OdsCode, Timestamp};
use crate::bodies::Manifest;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// A single-use token on a write: judged in the log, so that a replay on another node is refused too.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nonce {
    /// First 16 bytes of BLAKE3 over mailbox, nonce, nonce count and timestamp.
    pub fingerprint: [u8; 16],
    /// The token's own timestamp; the nonce is kept until this plus the validity plus skew.
    pub stamped: Timestamp,
}

/// Where a chunk's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// The tail of this command: so many bytes with this digest.
    Inline {
        /// Length of the tail.
        bytes: u32,
        /// BLAKE3 of it.
        digest: Digest,
    },
    /// Pieces in the bodies stream.
    Upload(Manifest),
}

/// What a sender says of a message. Kept as sent; the API gives it back as headers. Its `Debug` shows the workflow alone:
/// senders put names into subjects and file names.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Metadata {
    /// `Mex-WorkflowID`.
    pub workflow: String,
    /// `Mex-Subject`.
    pub subject: Option<String>,
    /// `Mex-LocalID`.
    pub local_id: Option<String>,
    /// `Mex-PartnerID`.
    pub partner_id: Option<String>,
    /// `Mex-FileName`.
    pub file_name: Option<String>,
    /// `Mex-Content-Checksum`.
    pub checksum: Option<String>,
    /// `Mex-Content-Encrypted`.
    pub encrypted: bool,
    /// `Mex-Content-Compressed`.
    pub compressed: bool,
    /// `Content-Encoding` (`gzip` or none).
    pub content_encoding: Option<String>,
    /// `Content-Type` or `Mex-Content-Type`.
    pub content_type: Option<String>,
}

impl std::fmt::Debug for Metadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Metadata({})", self.workflow)
    }
}

/// A mailbox as administered. Its `Debug` shows no password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mailbox {
    /// Its identifier.
    pub id: MailboxId,
    /// Its name, shown in look-ups.
    pub name: String,
    /// The organisation it belongs to; certificates are bound to it.
    pub ods: OdsCode,
    /// Organisation name.
    pub organisation: String,
    /// Billing entity, shown in tracking.
    pub billing_entity: String,
    /// Password, an input of the NHSMESH HMAC.
    pub password: String,
    /// May be used.
    pub active: bool,
    /// A retried POST /outbox within the window gives the first message id.
    pub safe_retry: bool,
}

impl std::fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Mailbox({})", self.id)
    }
}

/// A workflow: who may send it to whom. A workflow nobody registered is unrestricted unless configuration says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workflow {
    /// Its identifier.
    pub id: String,
    /// Mailboxes that may send it; empty: every one.
    pub senders: Vec<MailboxId>,
    /// Mailboxes that may receive it; empty: every one.
    pub receivers: Vec<MailboxId>,
}

/// Commands. Their `Debug` gives identifiers only.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Adds or changes a mailbox.
    PutMailbox(Mailbox),
    /// Adds or changes a workflow.
    PutWorkflow(Workflow),
    /// POST /outbox.
    Send {
        /// Single use.
        nonce: Nonce,
        /// From.
        sender: MailboxId,
        /// To.
        recipient: MailboxId,
        /// What the sender says of it.
        metadata: Metadata,
        /// 1 for a whole message.
        chunks: u32,
        /// First chunk.
        body: Body,
    },
    /// POST /outbox/{message}/{chunk}.
    SendChunk {
        /// Single use.
        nonce: Nonce,
        /// From.
        sender: MailboxId,
        /// The message that is being uploaded.
        message: MessageId,
        /// 2 and up (1 when resent).
        chunk: u32,
        /// Chunks in all as this request's Mex-Chunk-Range says.
        chunks: u32,
        /// Its Content-Encoding: must be the message's.
        content_encoding: Option<String>,
        /// Its bytes.
        body: Body,
    },
    /// PUT …/status/acknowledged.
    Acknowledge {
        /// Single use.
        nonce: Nonce,
        /// Whose inbox.
        mailbox: MailboxId,
        /// Which message.
        message: MessageId,
    },
    /// Handshake: notes the mailbox's client.
    Handshake {
        /// Single use.
        nonce: Nonce,
        /// Which mailbox.
        mailbox: MailboxId,
        /// Client and operating system as it says, at most 500 bytes.
        client: String,
    },
    /// Expires and purges at most so many messages; proposed by the node while any are due.
    Sweep {
        /// Bound on messages touched.
        messages_max: u32,
    },
    /// Test-only (sandbox): a report in an inbox.
    Report {
        /// Recipient of the report.
        mailbox: MailboxId,
        /// Status code, e.g. `14`.
        code: String,
        /// Description.
        description: String,
        /// Workflow.
        workflow: String,
        /// Subject.
        subject: Option<String>,
        /// Local id.
        local_id: Option<String>,
        /// File name.
        file_name: Option<String>,
        /// The message it is about.
        linked: Option<String>,
    },
    /// Test-only (sandbox): an event on a message.
    AddEvent {
        /// Which message.
        message: MessageId,
        /// Its new status.
        status: Status,
        /// Code.
        code: Option<String>,
        /// Event.
        event: Option<String>,
        /// Description.
        description: Option<String>,
        /// The message it is about.
        linked: Option<String>,
    },
    /// Test-only (sandbox): removes the messages of one mailbox or of all.
    Reset {
        /// `None`: of all.
        mailbox: Option<MailboxId>,
    },
    /// Only uses up a single-use token.
    Spend {
        /// Single use.
        nonce: Nonce,
    },
}

/// Life of a message: `Uploading → Accepted → Acknowledged`, or `Accepted → Undeliverable` after five days,
/// `Uploading → Undeliverable` when chunks stay away; `Error` marks a report. All are purged at thirty days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Chunks are missing.
    Uploading,
    /// In the recipient's inbox.
    Accepted,
    /// Collected.
    Acknowledged,
    /// Not collected in time.
    Undeliverable,
    /// Failed; a report's own first event.
    Error,
}

/// What `apply` answers. Refusals are typed; the API gives each its status and code.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done, nothing to say.
    Done,
    /// The message, new or (for a safe retry) the first one.
    Sent {
        /// Its identifier.
        message: MessageId,
        /// It is the first one of a retried request.
        repeated: bool,
    },
    /// How many messages the sweep touched; the proposer goes on while it is the bound.
    Swept {
        /// Messages and chunks expired, released or purged, and tables dropped.
        messages: u32,
    },
    /// Refused; nothing changed except that the token is spent.
    Refused(Refusal),
}

/// Why a command was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The token was used before.
    Replayed,
    /// No such recipient, or it is not active.
    UnknownRecipient,
    /// The sender may not send this workflow.
    SenderNotAllowed,
    /// The recipient is not registered for this workflow.
    RecipientNotAllowed,
    /// No such message for this mailbox.
    UnknownMessage,
    /// The message is not this mailbox's.
    NotYours,
    /// It is not in the inbox: expired, failed, or not complete yet.
    Gone,
    /// All chunks are in and these bytes are not those that are in, or the upload is over; or an upload that was begun
    /// a second time (safe retry) got other bytes for a chunk that is in. Nothing of it changed; the sender's next first
    /// chunk starts a new message.
    AlreadyComplete,
    /// The chunk number is beyond the message's chunks.
    ChunkBeyondEnd,
    /// The chunk range's total is not the message's.
    ChunkTotalChanged,
    /// The chunk's Content-Encoding is not the message's.
    ContentEncodingChanged,
    /// The upload's lease ran out before the command was judged: send it again.
    UploadExpired,
    /// The mailbox is unknown or not active.
    UnknownMailbox,
    /// A message larger than the limit on chunked messages.
    MessageTooLarge,
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

/// Version of the encoding of commands and outcomes. Raised when a field changes meaning; a new variant at the end of
/// an enum does not raise it.
pub const COMMAND_VERSION: u8 = 1;

impl Body {
    /// Length in bytes.
    pub fn bytes(&self) -> u64 {
        match self {
            Body::Inline { bytes, .. } => u64::from(*bytes),
            Body::Upload(manifest) => manifest.bytes,
        }
    }

    /// BLAKE3 of all its bytes: the same for the same content, inline or not.
    pub fn digest(&self) -> Digest {
        match self {
            Body::Inline { digest, .. } => *digest,
            Body::Upload(manifest) => manifest.digest,
        }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Command::PutMailbox(mailbox) => write!(f, "PutMailbox({})", mailbox.id),
            Command::PutWorkflow(workflow) => write!(f, "PutWorkflow({})", workflow.id),
            Command::Send {
                sender,
                recipient,
                chunks,
                body,
                ..
            } => write!(f, "Send({sender} to {recipient}, {chunks} chunks, {body:?})"),
            Command::SendChunk {
                message,
                chunk,
                chunks,
                body,
                ..
            } => write!(f, "SendChunk({message}, {chunk} of {chunks}, {body:?})"),
            Command::Acknowledge { mailbox, message, .. } => write!(f, "Acknowledge({message} by {mailbox})"),
            Command::Handshake { mailbox, .. } => write!(f, "Handshake({mailbox})"),
            Command::Sweep { messages_max } => write!(f, "Sweep({messages_max})"),
            Command::Report { mailbox, code, .. } => write!(f, "Report({mailbox}, {code})"),
            Command::AddEvent { message, status, .. } => write!(f, "AddEvent({message}, {status:?})"),
            Command::Reset { mailbox } => write!(f, "Reset({mailbox:?})"),
            Command::Spend { .. } => f.write_str("Spend"),
        }
    }
}

impl Command {
    /// Encodes with an inline body as tail (empty where there is none).
    pub fn encode(&self, tail: &[u8]) -> Bytes {
        assert_eq!(tail.len(), self.tail_bytes(), "the tail is the inline body, whole");
        let mut bytes = postcard::to_stdvec(&(COMMAND_VERSION, self)).expect("commands serialise into memory");
        bytes.extend_from_slice(tail);
        Bytes::from(bytes)
    }

    /// Decodes; gives the tail. Errors, in order: empty is `Malformed`; a later version is `Newer`; bytes that are no
    /// command, identifiers that are none, and a tail of another length than the command says are `Malformed`.
    pub fn decode(bytes: &Bytes) -> Result<(Command, Bytes), DecodeError> {
        let (command, tail_bytes) = Command::decode_head(bytes)?;
        Ok((command, bytes.slice(bytes.len() - tail_bytes..)))
    }

    /// As [`decode`](Self::decode), for who needs the tail's length only: `apply` never looks at a body.
    pub fn decode_head(bytes: &[u8]) -> Result<(Command, usize), DecodeError> {
        let rest = check_version(bytes)?;
        let (command, tail) = postcard::take_from_bytes::<Command>(rest).map_err(|_| DecodeError::Malformed)?;
        if tail.len() != command.tail_bytes() {
            return Err(DecodeError::Malformed);
        }
        Ok((command, tail.len()))
    }

    /// The single-use token, where the command came with one.
    pub fn nonce(&self) -> Option<&Nonce> {
        match self {
            Command::Send { nonce, .. }
            | Command::SendChunk { nonce, .. }
            | Command::Acknowledge { nonce, .. }
            | Command::Handshake { nonce, .. }
            | Command::Spend { nonce } => Some(nonce),
            Command::PutMailbox(_)
            | Command::PutWorkflow(_)
            | Command::Sweep { .. }
            | Command::Report { .. }
            | Command::AddEvent { .. }
            | Command::Reset { .. } => None,
        }
    }

    fn tail_bytes(&self) -> usize {
        match self {
            Command::Send {
                body: Body::Inline { bytes, .. },
                ..
            }
            | Command::SendChunk {
                body: Body::Inline { bytes, .. },
                ..
            } => *bytes as usize,
            Command::Send {
                body: Body::Upload(_), ..
            }
            | Command::SendChunk {
                body: Body::Upload(_), ..
            }
            | Command::PutMailbox(_)
            | Command::PutWorkflow(_)
            | Command::Acknowledge { .. }
            | Command::Handshake { .. }
            | Command::Sweep { .. }
            | Command::Report { .. }
            | Command::AddEvent { .. }
            | Command::Reset { .. }
            | Command::Spend { .. } => 0,
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
        Some((&version, _)) if version > COMMAND_VERSION => Err(DecodeError::Newer(version)),
        Some(_) | None => Err(DecodeError::Malformed),
    }
}

#[cfg(test)]
mod tests;
