//! Sending: a new message, and further chunks of one.

use super::super::command::{Body, Mailbox, Metadata, Outcome, Refusal, Status};
use super::super::{MailboxId, MessageId};
use super::life::{self, Cause};
use super::planted::{Planted, planted};
use super::tables::{self, CHUNKS, MAILBOXES, MESSAGES, Role, WORKFLOW_MEMBERS, WORKFLOWS};
use super::values::{self, Bodies, Kept, Part, RetryKey, WorkflowHead};
use super::{Event, INBOX_MS, MESSAGE_BYTES_MAX, Message, SAFE_RETRY_MS, admin, retry};
use crate::base::limits::UPLOAD_LEASE_MS;
use crate::ledger::{Read, Writer};
use crate::log::At;

/// Sends a message or its first chunk.
///
/// Refusals, in order: `UnknownMailbox` (the sender), `UnknownRecipient`, `SenderNotAllowed`, `RecipientNotAllowed`,
/// `MessageTooLarge`, `UploadExpired`. A safe retry is answered before the last: it needs no body.
pub(super) fn send(
    writer: &mut Writer<'_>,
    at: At,
    sender: &MailboxId,
    recipient: &MailboxId,
    metadata: &Metadata,
    chunks: u32,
    body: &Body,
) -> Result<Outcome, Refusal> {
    let sender = active(writer, sender).ok_or(Refusal::UnknownMailbox)?;
    active(writer, recipient).ok_or(Refusal::UnknownRecipient)?;
    check_workflow(writer, &metadata.workflow, &sender.id, recipient)?;
    if body.bytes() > MESSAGE_BYTES_MAX {
        return Err(Refusal::MessageTooLarge);
    }
    let chunks = chunks.max(1);
    let retry_key = retry::key(at, &sender, recipient, metadata, chunks, body);
    if let Some(key) = &retry_key
        && let Some(kept) = retry::first(writer, at, key)
    {
        return Ok(repeat(writer, kept));
    }
    check_lease(at, body)?;

    let mut kept = new_message(at, &sender.id, recipient, metadata, chunks, body, retry_key);
    if let Some(key) = &retry_key {
        retry::note(writer, at, key, &kept.message.id);
    }
    life::hold(writer, &Part::of(body, at.index));
    life::index(writer, &kept);
    if kept.message.status() == Status::Accepted {
        life::deliver(writer, at, &mut kept, 0);
    }
    life::save(writer, &kept);
    admin::touch(writer, at, &sender.id);
    Ok(Outcome::Sent {
        message: kept.message.id,
        repeated: false,
    })
}

fn new_message(
    at: At,
    sender: &MailboxId,
    recipient: &MailboxId,
    metadata: &Metadata,
    chunks: u32,
    body: &Body,
    retry: Option<RetryKey>,
) -> Kept {
    let status = match chunks {
        1 => Status::Accepted,
        _ => Status::Uploading,
    };
    let expires = at.time.plus_ms(INBOX_MS);
    Kept {
        message: Message {
            id: MessageId::new(at.time, at.index),
            sender: Some(sender.clone()),
            recipient: recipient.clone(),
            report: false,
            metadata: metadata.clone(),
            chunks,
            bytes: body.bytes(),
            created: at.time,
            expires,
            sequence: 0,
            events: vec![Event::plain(status, at.time)],
        },
        arrived: at.time,
        due: expires,
        chunks_in: 1,
        first: Some(Part::of(body, at.index)),
        bodies: Bodies::Held,
        retried: false,
        retry,
    }
}

/// Answers a safe retry with the first message.
fn repeat(writer: &mut Writer<'_>, mut kept: Kept) -> Outcome {
    if kept.message.status() == Status::Uploading && !kept.retried {
        kept.retried = true;
        life::save(writer, &kept);
    }
    Outcome::Sent {
        message: kept.message.id,
        repeated: true,
    }
}

/// A chunk as posted.
pub(super) struct Posted<'a> {
    /// Its number, from 1.
    pub chunk: u32,
    /// Chunks in all, as its Mex-Chunk-Range says.
    pub chunks: u32,
    /// Its Content-Encoding.
    pub content_encoding: Option<&'a str>,
    /// Its bytes.
    pub body: &'a Body,
}

/// Adds a chunk, in any order; one that is in already is replaced while others are missing.
///
/// Refusals, in order: `UnknownMailbox`, `UnknownMessage`, `NotYours`, `AlreadyComplete`, `ChunkBeyondEnd`,
/// `ContentEncodingChanged`, `ChunkTotalChanged`, `MessageTooLarge`, `UploadExpired`. The very bytes that are in are
/// confirmed again, after the last chunk too (for the time and the mailboxes of a safe retry): a client whose answer
/// was lost posts again.
pub(super) fn send_chunk(
    writer: &mut Writer<'_>,
    at: At,
    sender: &MailboxId,
    message: &MessageId,
    posted: &Posted<'_>,
) -> Result<Outcome, Refusal> {
    let sender = active(writer, sender).ok_or(Refusal::UnknownMailbox)?;
    let kept: Option<Kept> = values::get(writer, MESSAGES, tables::message_key(message));
    let mut kept = kept.ok_or(Refusal::UnknownMessage)?;
    if kept.message.sender.as_ref() != Some(&sender.id) {
        return Err(Refusal::NotYours);
    }
    match kept.message.status() {
        Status::Uploading => {}
        Status::Accepted | Status::Acknowledged => return chunk_of_complete(writer, at, &sender, &kept, posted),
        Status::Undeliverable | Status::Error => return Err(Refusal::AlreadyComplete),
    }
    if posted.chunk == 0 || posted.chunk > kept.message.chunks {
        return Err(Refusal::ChunkBeyondEnd);
    }
    if posted.content_encoding != kept.message.metadata.content_encoding.as_deref() {
        return Err(Refusal::ContentEncodingChanged);
    }
    if posted.chunks != kept.message.chunks {
        return Err(Refusal::ChunkTotalChanged);
    }
    let earlier = part(writer, &kept, posted.chunk);
    if earlier.is_some_and(|part| part.digest() == posted.body.digest()) {
        return Ok(confirmed(&kept));
    }
    if earlier.is_some() && kept.retried {
        retry::forget(writer, &kept);
        return Err(Refusal::AlreadyComplete);
    }
    let others_bytes = kept.message.bytes - earlier.map_or(0, |part| part.bytes());
    if others_bytes.saturating_add(posted.body.bytes()) > MESSAGE_BYTES_MAX {
        return Err(Refusal::MessageTooLarge);
    }
    check_lease(at, posted.body)?;

    kept.message.bytes = others_bytes + posted.body.bytes();
    store(writer, at, &mut kept, posted, earlier);
    if kept.chunks_in == kept.message.chunks {
        let accepted = life::follows(Status::Uploading, Cause::LastChunk).expect("chunks complete an upload");
        life::enter(&mut kept, Event::plain(accepted, at.time));
        life::deliver(writer, at, &mut kept, 0);
    }
    life::save(writer, &kept);
    admin::touch(writer, at, &sender.id);
    Ok(Outcome::Sent {
        message: kept.message.id,
        repeated: false,
    })
}

/// Puts the chunk in the place of the earlier one.
fn store(writer: &mut Writer<'_>, at: At, kept: &mut Kept, posted: &Posted<'_>, earlier: Option<Part>) {
    let part = Part::of(posted.body, at.index);
    match earlier {
        Some(earlier) => {
            life::release(writer, &earlier);
            if planted(Planted::DoubleRelease) {
                life::release(writer, &earlier);
            }
        }
        None => kept.chunks_in += 1,
    }
    life::hold(writer, &part);
    if posted.chunk == 1 {
        // What the retry key says of the first chunk is no longer so.
        retry::forget(writer, kept);
        kept.first = Some(part);
    } else {
        values::put(
            writer,
            CHUNKS,
            &tables::chunk_key(&kept.message.id, posted.chunk),
            &part,
        );
    }
}

/// A chunk for a message that has them all: confirmed when it is the very one, otherwise refused.
fn chunk_of_complete(
    writer: &mut Writer<'_>,
    at: At,
    sender: &Mailbox,
    kept: &Kept,
    posted: &Posted<'_>,
) -> Result<Outcome, Refusal> {
    let Some(part) = part(writer, kept, posted.chunk) else {
        return Err(Refusal::AlreadyComplete);
    };
    if part.digest() != posted.body.digest() {
        if kept.message.chunks > 1 {
            retry::forget(writer, kept);
        }
        return Err(Refusal::AlreadyComplete);
    }
    if !sender.safe_retry || at.time.since_ms(kept.arrived) >= SAFE_RETRY_MS {
        return Err(Refusal::AlreadyComplete);
    }
    Ok(confirmed(kept))
}

fn confirmed(kept: &Kept) -> Outcome {
    Outcome::Sent {
        message: kept.message.id.clone(),
        repeated: true,
    }
}

/// A chunk that is in.
pub(super) fn part(state: &impl Read, kept: &Kept, chunk: u32) -> Option<Part> {
    match chunk {
        0 => None,
        1 => kept.first,
        _ => values::get(state, CHUNKS, &tables::chunk_key(&kept.message.id, chunk)),
    }
}

/// The mailbox, when it exists and may be used.
pub(super) fn active(state: &impl Read, mailbox: &MailboxId) -> Option<Mailbox> {
    let found: Option<Mailbox> = values::get(state, MAILBOXES, tables::mailbox_key(mailbox));
    found.filter(|mailbox| mailbox.active)
}

/// Pieces whose lease ran out may be gone already on some node.
fn check_lease(at: At, body: &Body) -> Result<(), Refusal> {
    match body {
        Body::Inline { .. } => Ok(()),
        Body::Upload(manifest) if at.time >= manifest.upload.started().plus_ms(UPLOAD_LEASE_MS) => {
            Err(Refusal::UploadExpired)
        }
        Body::Upload(_) => Ok(()),
    }
}

fn check_workflow(
    writer: &Writer<'_>,
    workflow: &str,
    sender: &MailboxId,
    recipient: &MailboxId,
) -> Result<(), Refusal> {
    let head: Option<WorkflowHead> = values::get(writer, WORKFLOWS, &tables::workflow_key(workflow));
    let Some(head) = head else { return Ok(()) };
    let member = |role, mailbox| values::exists(writer, WORKFLOW_MEMBERS, &tables::member_key(workflow, role, mailbox));
    if head.senders_listed && !member(Role::Sender, sender) {
        return Err(Refusal::SenderNotAllowed);
    }
    if head.receivers_listed && !member(Role::Receiver, recipient) {
        return Err(Refusal::RecipientNotAllowed);
    }
    Ok(())
}
