//! The state of MESH: mailboxes, messages, inboxes. Judged in log order by [`apply`]; deterministic.
//!
//! Owns the tables 10 to 59 of the ledger (listed in `tables`, drawn in `../FORMAT.md`) and every rule that decides
//! between two requests. Must never know a clock, a random number, HTTP or a body's bytes.
//!
//! Invariants, held by the model test:
//! - every message has one entry in the due index, and one in the inbox exactly while it is `Accepted`;
//! - a mailbox's depth is the number of its inbox entries;
//! - every body that state names is held once, and released once when it no longer does;
//! - a refused command changes nothing except that its token is spent.

mod admin;
mod collect;
mod life;
mod nonces;
mod planted;
mod query;
mod retry;
mod send;
mod sweep;
mod tables;
#[cfg(test)]
mod tests;
mod values;

pub use query::{
    by_local_id, chunk, each_upload, inbox, inbox_depth, mailbox, mailbox_use, mailboxes, message, received,
    received_newest_first, receivers, sent, sent_newest_first, spent, sweep_due, workflow, workflows,
};

use super::command::{Command, DecodeError, Metadata, Outcome, Status};
use super::{MailboxId, MessageId};
use crate::base::limits::UPLOAD_LEASE_MS;
use crate::base::{LogIndex, Timestamp};
use crate::bodies::Manifest;
use crate::ledger::Writer;
use crate::log::At;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// Where a stored chunk's bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stored {
    /// The tail of the command at this index.
    Entry {
        /// Which command.
        index: LogIndex,
        /// Its length.
        bytes: u32,
    },
    /// Pieces in the bodies stream.
    Upload(Manifest),
}

impl Stored {
    /// Bytes of the chunk.
    pub fn bytes(&self) -> u64 {
        match self {
            Stored::Entry { bytes, .. } => u64::from(*bytes),
            Stored::Upload(manifest) => manifest.bytes,
        }
    }
}

/// Something that happened to a message; newest first in [`Message::events`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The status from then on.
    pub status: Status,
    /// When, in log time.
    pub at: Timestamp,
    /// Error code.
    pub code: Option<String>,
    /// Step in which the error occurred, `SEND` say.
    pub event: Option<String>,
    /// What the sender is told.
    pub description: Option<String>,
    /// The message a report is about.
    pub linked: Option<String>,
}

impl Event {
    /// Only a status.
    fn plain(status: Status, at: Timestamp) -> Event {
        Event {
            status,
            at,
            code: None,
            event: None,
            description: None,
            linked: None,
        }
    }
}

/// A message as kept.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its identifier.
    pub id: MessageId,
    /// From; empty mailbox on a report.
    pub sender: Option<MailboxId>,
    /// To.
    pub recipient: MailboxId,
    /// A report (non-delivery), not data.
    pub report: bool,
    /// What the sender said of it.
    pub metadata: Metadata,
    /// Chunks in all; 0 for a report, which has no body.
    pub chunks: u32,
    /// Bytes of the chunks that are in: of all once complete.
    pub bytes: u64,
    /// When the first chunk came.
    pub created: Timestamp,
    /// When it leaves the inbox if nobody acknowledges it; while chunks are missing, when the upload is given up.
    pub expires: Timestamp,
    /// Position in its inbox, growing in log order; 0 before it is complete. Opaque: the log index of the command that
    /// completed it times [`SEQUENCES_PER_COMMAND`], plus its place among what that command put into inboxes.
    pub sequence: LogIndex,
    /// Newest first; never empty.
    pub events: Vec<Event>,
}

impl Message {
    /// Its status.
    pub fn status(&self) -> Status {
        self.events[0].status
    }
}

impl std::fmt::Debug for Message {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Message({}, {:?})", self.id, self.status())
    }
}

/// How an inbox listing filters by workflow: `X`, `X*`, `*X*`, each also with a leading `!`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowFilter {
    /// Leading `!`.
    pub negated: bool,
    /// How the rest matches.
    pub pattern: Pattern,
}

/// The three shapes of a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pattern {
    /// `X`
    Equals(String),
    /// `X*`
    StartsWith(String),
    /// `*X*`
    Contains(String),
}

impl WorkflowFilter {
    /// Whether a message of `workflow` is listed.
    pub fn matches(&self, workflow: &str) -> bool {
        let fits = match &self.pattern {
            Pattern::Equals(text) => workflow == text,
            Pattern::StartsWith(text) => workflow.starts_with(text.as_str()),
            Pattern::Contains(text) => workflow.contains(text.as_str()),
        };
        fits != self.negated
    }
}

/// One page of an inbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InboxPage {
    /// Messages in order of arrival.
    pub messages: Vec<MessageId>,
    /// Where the next page starts (after this sequence), when there is more.
    pub next_after: Option<LogIndex>,
}

/// What is known of a mailbox's use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxUse {
    /// Last handshake or write, to the minute for writes.
    pub last_seen: Timestamp,
    /// What its client said in the last handshake.
    pub client: String,
}

/// Times and bounds that are part of the rules. Fixed in the log's format: changing one is a new command version.
pub const INBOX_MS: u64 = 5 * 24 * 3600 * 1000;
/// When a message is removed altogether, after its arrival.
pub const PURGE_MS: u64 = 30 * 24 * 3600 * 1000;
/// A retried POST /outbox within this gives the first message id.
pub const SAFE_RETRY_MS: u64 = 2 * 3600 * 1000;
/// A token is valid this long before and after its timestamp.
pub const TOKEN_MS: u64 = 2 * 3600 * 1000;
/// A spent token is remembered this long after the hour of its timestamp: its validity, then the longest upload that
/// may lie between the check of its timestamp and its command, then five minutes between two nodes' clocks.
pub const NONCE_KEPT_MS: u64 = TOKEN_MS + UPLOAD_LEASE_MS + 5 * 60 * 1000;
/// Largest message, all chunks together.
pub const MESSAGE_BYTES_MAX: u64 = 100 * 1024 * 1024 * 1024;
/// Bodies released within one acknowledgement; a message with more chunks leaves the rest to the sweep.
pub const ACKNOWLEDGE_RELEASES_MAX: u32 = 64;
/// What one command may put into inboxes; the low bits of [`Message::sequence`].
pub const SEQUENCES_PER_COMMAND: u64 = 4096;
/// A sweep does no more than this whatever it is asked.
pub const SWEEP_MESSAGES_MAX: u32 = 1000;

const _: () = assert!((SWEEP_MESSAGES_MAX as u64) < SEQUENCES_PER_COMMAND);

/// Judges one command. Deterministic: reads only `writer`, `at` and the command; a body is the command's business, state
/// names its log index. The token is judged first; a command refused for any other reason has spent it.
pub fn apply(writer: &mut Writer<'_>, at: At, command: &Command) -> Outcome {
    if let Some(nonce) = command.nonce()
        && !nonces::spend(writer, at, nonce)
    {
        return Outcome::Refused(super::command::Refusal::Replayed);
    }
    let judged = match command {
        Command::PutMailbox(mailbox) => admin::put_mailbox(writer, mailbox),
        Command::PutWorkflow(workflow) => admin::put_workflow(writer, workflow),
        Command::Send {
            nonce: _,
            sender,
            recipient,
            metadata,
            chunks,
            body,
        } => send::send(writer, at, sender, recipient, metadata, *chunks, body),
        Command::SendChunk {
            nonce: _,
            sender,
            message,
            chunk,
            chunks,
            content_encoding,
            body,
        } => {
            let posted = send::Posted {
                chunk: *chunk,
                chunks: *chunks,
                content_encoding: content_encoding.as_deref(),
                body,
            };
            send::send_chunk(writer, at, sender, message, &posted)
        }
        Command::Acknowledge {
            nonce: _,
            mailbox,
            message,
        } => collect::acknowledge(writer, at, mailbox, message),
        Command::Handshake {
            nonce: _,
            mailbox,
            client,
        } => admin::handshake(writer, at, mailbox, client),
        Command::Sweep { messages_max } => Ok(sweep::sweep(writer, at, *messages_max)),
        Command::Report {
            mailbox,
            code,
            description,
            workflow,
            subject,
            local_id,
            file_name,
            linked,
        } => {
            let metadata = Metadata {
                workflow: workflow.clone(),
                subject: subject.clone(),
                local_id: local_id.clone(),
                file_name: file_name.clone(),
                ..Metadata::default()
            };
            admin::report(writer, at, mailbox, metadata, code, description, linked.as_deref())
        }
        Command::AddEvent {
            message,
            status,
            code,
            event,
            description,
            linked,
        } => {
            let event = Event {
                status: *status,
                at: at.time,
                code: code.clone(),
                event: event.clone(),
                description: description.clone(),
                linked: linked.clone(),
            };
            admin::add_event(writer, at, message, event)
        }
        Command::Reset { mailbox } => Ok(admin::reset(writer, mailbox.as_ref())),
        Command::Spend { .. } => Ok(Outcome::Done),
    };
    judged.unwrap_or_else(Outcome::Refused)
}

/// Decodes, judges and encodes the answer, for the log. An error is never a client's doing: this release cannot read
/// what the log holds, so it must stop rather than diverge from its peers.
pub fn apply_encoded(writer: &mut Writer<'_>, at: At, command: &[u8]) -> Result<Bytes, DecodeError> {
    let (command, _) = Command::decode_head(command)?;
    Ok(apply(writer, at, &command).encode())
}
