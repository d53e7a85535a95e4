//! The tables of MESH in the ledger, and how their keys are built. Numbers 10 to 59; never used again.
//!
//! Keys are at most 511 bytes. A mailbox (at most 100 characters, none of them NUL) stands as text, followed by NUL
//! where something follows it; a message identifier is its 27 characters. What clients choose freely (local ids,
//! workflows) enters keys as a BLAKE3 digest only. Numbers are big-endian, so that key order is their order.

use super::super::command::Nonce;
use super::super::{MESSAGE_ID_BYTES, MailboxId, MessageId};
use crate::base::{Digest, LogIndex, Timestamp};
use crate::ledger::Table;
use std::ops::Bound;

/// mailbox → [`Mailbox`](super::super::command::Mailbox).
pub(super) const MAILBOXES: Table = Table::permanent(10);
/// ODS code, NUL, mailbox → nothing. For endpoint look-ups, which ask by organisation.
pub(super) const MAILBOXES_BY_ODS: Table = Table::permanent(11);
/// mailbox → [`MailboxUse`](super::MailboxUse).
pub(super) const MAILBOX_USES: Table = Table::permanent(12);
/// digest of the workflow → [`WorkflowHead`](super::values::WorkflowHead).
pub(super) const WORKFLOWS: Table = Table::permanent(13);
/// digest of the workflow, role, mailbox → nothing. A key a member, so that a send looks up two and reads no list.
pub(super) const WORKFLOW_MEMBERS: Table = Table::permanent(14);
/// Family by hour of the token's timestamp: minute in the hour, fingerprint → nothing. By the minute, because
/// fingerprints are random: tokens of now then lie in few pages, not one in each page of the hour.
pub(super) const NONCES: u8 = 15;
/// Family by [`SAFE_RETRY_MS`](super::SAFE_RETRY_MS) of log time: fingerprint of a send → [`Retry`](super::values::Retry).
pub(super) const RETRIES: u8 = 16;
/// message → [`Kept`](super::values::Kept).
pub(super) const MESSAGES: Table = Table::permanent(20);
/// message, chunk → [`Part`](super::values::Part). Chunks from the second on; the first is in the message's own value.
pub(super) const CHUNKS: Table = Table::permanent(21);
/// mailbox, NUL, sequence → [`Waiting`](super::values::Waiting). What a listing needs, so that it reads no message.
pub(super) const INBOX: Table = Table::permanent(22);
/// mailbox → how many messages wait, 8 bytes. Written with every arrival so that counting never scans.
pub(super) const DEPTHS: Table = Table::permanent(23);
/// recipient, NUL, message → nothing. For the rich inbox, which shows collected messages too.
pub(super) const RECEIVED: Table = Table::permanent(24);
/// sender, NUL, message → nothing. For the rich outbox.
pub(super) const SENT: Table = Table::permanent(25);
/// first 16 bytes of the digest of (sender, local id), message → nothing. For tracking by local id.
pub(super) const LOCAL_IDS: Table = Table::permanent(26);
/// milliseconds, message → nothing. When a message is looked at next by the sweep; one entry a message.
pub(super) const DUE: Table = Table::permanent(27);

/// Every permanent table, for reset and for the tests' invariants.
#[cfg(test)]
pub(super) const PERMANENT: [Table; 13] = [
    MAILBOXES,
    MAILBOXES_BY_ODS,
    MAILBOX_USES,
    WORKFLOWS,
    WORKFLOW_MEMBERS,
    MESSAGES,
    CHUNKS,
    INBOX,
    DEPTHS,
    RECEIVED,
    SENT,
    LOCAL_IDS,
    DUE,
];

/// Milliseconds of one nonce table.
pub(super) const NONCE_PERIOD_MS: u64 = 3600 * 1000;
const MINUTE_MS: u64 = 60 * 1000;

/// What a mailbox may do with a workflow; the byte stands in keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Sender,
    Receiver,
}

impl Role {
    const fn byte(self) -> u8 {
        match self {
            Role::Sender => b's',
            Role::Receiver => b'r',
        }
    }
}

/// The period of a family that `at` falls into. Saturates, far beyond any calendar.
pub(super) fn period(at: Timestamp, period_ms: u64) -> u32 {
    u32::try_from(at.ms() / period_ms).unwrap_or(u32::MAX)
}

/// A mailbox alone.
pub(super) fn mailbox_key(mailbox: &MailboxId) -> &[u8] {
    mailbox.as_str().as_bytes()
}

/// A mailbox and what follows it.
pub(super) fn mailbox_and(mailbox: &MailboxId, rest: &[u8]) -> Vec<u8> {
    text_and(mailbox.as_str(), rest)
}

/// Any NUL-free text and what follows it.
pub(super) fn text_and(text: &str, rest: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(text.len() + 1 + rest.len());
    key.extend_from_slice(text.as_bytes());
    key.push(0);
    key.extend_from_slice(rest);
    key
}

/// First key after everything that begins with `text` and NUL.
pub(super) fn end_of_text(text: &str) -> Vec<u8> {
    let mut key = text.as_bytes().to_vec();
    key.push(1);
    key
}

/// A message alone.
pub(super) fn message_key(message: &MessageId) -> &[u8] {
    message.as_str().as_bytes()
}

/// A message and one of its chunks.
pub(super) fn chunk_key(message: &MessageId, chunk: u32) -> Vec<u8> {
    let mut key = Vec::with_capacity(MESSAGE_ID_BYTES + 4);
    key.extend_from_slice(message_key(message));
    key.extend_from_slice(&chunk.to_be_bytes());
    key
}

/// The chunk number at the end of a key of [`CHUNKS`].
pub(super) fn chunk_of_key(key: &[u8]) -> u32 {
    let tail = key[MESSAGE_ID_BYTES..]
        .try_into()
        .expect("a chunk key ends in four bytes");
    u32::from_be_bytes(tail)
}

/// A spent token.
pub(super) fn nonce_key(nonce: &Nonce) -> Vec<u8> {
    let minute = nonce.stamped.ms() / MINUTE_MS % (NONCE_PERIOD_MS / MINUTE_MS);
    let mut key = Vec::with_capacity(1 + nonce.fingerprint.len());
    key.push(u8::try_from(minute).expect("an hour has 60 minutes"));
    key.extend_from_slice(&nonce.fingerprint);
    key
}

/// An inbox entry.
pub(super) fn inbox_key(mailbox: &MailboxId, sequence: LogIndex) -> Vec<u8> {
    mailbox_and(mailbox, &sequence.to_be_bytes())
}

/// The sequence at the end of a key of [`INBOX`].
pub(super) fn sequence_of_key(key: &[u8]) -> LogIndex {
    let tail = key[key.len() - 8..]
        .try_into()
        .expect("an inbox key ends in eight bytes");
    LogIndex::from_be_bytes(tail)
}

/// The message at the end of a key.
pub(super) fn message_of_key(key: &[u8]) -> MessageId {
    let text = std::str::from_utf8(&key[key.len() - MESSAGE_ID_BYTES..]).expect("keys end in an identifier");
    MessageId::parse(text).expect("keys end in an identifier")
}

/// The mailbox at the end of a key, from `start` on.
pub(super) fn mailbox_of_key(key: &[u8], start: usize) -> MailboxId {
    let text = std::str::from_utf8(&key[start..]).expect("keys end in a mailbox");
    MailboxId::parse(text).expect("keys end in a mailbox")
}

/// Due at a moment.
pub(super) fn due_key(due: Timestamp, message: &MessageId) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + MESSAGE_ID_BYTES);
    key.extend_from_slice(&due.ms().to_be_bytes());
    key.extend_from_slice(message_key(message));
    key
}

/// A workflow.
pub(super) fn workflow_key(workflow: &str) -> [u8; 32] {
    Digest::of(workflow.as_bytes()).0
}

/// Everything in one role of a workflow.
pub(super) fn members_prefix(workflow: &str, role: Role) -> Vec<u8> {
    let mut key = workflow_key(workflow).to_vec();
    key.push(role.byte());
    key
}

/// One mailbox in one role of a workflow.
pub(super) fn member_key(workflow: &str, role: Role, mailbox: &MailboxId) -> Vec<u8> {
    let mut key = members_prefix(workflow, role);
    key.extend_from_slice(mailbox_key(mailbox));
    key
}

/// Everything with a local id.
pub(super) fn local_id_prefix(sender: &MailboxId, local_id: &str) -> [u8; 16] {
    let digest = Digest::of(&text_and(sender.as_str(), local_id.as_bytes()));
    *digest.0.first_chunk().expect("a digest has 32 bytes")
}

/// One message with a local id.
pub(super) fn local_id_key(sender: &MailboxId, local_id: &str, message: &MessageId) -> Vec<u8> {
    let mut key = local_id_prefix(sender, local_id).to_vec();
    key.extend_from_slice(message_key(message));
    key
}

/// First key after everything that begins with `prefix`; unbounded when there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut key = prefix.to_vec();
    while let Some(last) = key.last_mut() {
        if *last < u8::MAX {
            *last += 1;
            return Some(key);
        }
        key.pop();
    }
    None
}

/// An upper bound for scans.
pub(super) fn before(end: Option<&[u8]>) -> Bound<&[u8]> {
    end.map_or(Bound::Unbounded, Bound::Excluded)
}
