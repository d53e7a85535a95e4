//! The life of a message: its edges, and the moves in the tables that go with each.
//!
//! ```text
//!              last chunk            collected
//!  Uploading ─────────────▶ Accepted ─────────▶ Acknowledged ──┐
//!      │                       │                               │ thirty days
//!      │ five days             │ five days                     ├────────────▶ (purged)
//!      └───────────────────────┴──────────────▶ Undeliverable ─┤
//!                                                        Error ┘
//! ```
//! `Error` is a test's doing, or the second event of a report.

use super::super::MailboxId;
use super::super::command::Status;
use super::planted::{Planted, planted};
use super::tables::{self, CHUNKS, DEPTHS, DUE, INBOX, LOCAL_IDS, MESSAGES, RECEIVED, SENT};
use super::values::{self, Bodies, Kept, NOTHING, Part, Waiting};
use super::{Event as Happened, INBOX_MS, PURGE_MS, SEQUENCES_PER_COMMAND, Stored};
use crate::base::Timestamp;
use crate::ledger::{Hold, Read, Writer};
use crate::log::At;
use crate::outbox::event::Event;
use crate::outbox::state as outbox;
use std::ops::Bound;

/// What happens to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    LastChunk,
    Collected,
    FiveDays,
}

/// The status after `cause`; `None`: it does not happen to such a message. Owns every edge of the diagram.
pub(super) fn follows(status: Status, cause: Cause) -> Option<Status> {
    match (status, cause) {
        (Status::Uploading, Cause::LastChunk) => Some(Status::Accepted),
        (Status::Accepted, Cause::Collected) => Some(Status::Acknowledged),
        (Status::Uploading | Status::Accepted, Cause::FiveDays) => Some(Status::Undeliverable),
        (Status::Uploading, Cause::Collected)
        | (Status::Accepted, Cause::LastChunk)
        | (
            Status::Acknowledged | Status::Undeliverable | Status::Error,
            Cause::LastChunk | Cause::Collected | Cause::FiveDays,
        ) => None,
    }
}

/// Records an event.
pub(super) fn enter(kept: &mut Kept, event: Happened) {
    /// Events kept of a message; only a test's own events come near it.
    const EVENTS_MAX: usize = 64;
    kept.message.events.insert(0, event);
    kept.message.events.truncate(EVENTS_MAX);
}

/// The message's value.
pub(super) fn save(writer: &mut Writer<'_>, kept: &Kept) {
    values::put(writer, MESSAGES, tables::message_key(&kept.message.id), kept);
}

/// When a message is removed altogether.
pub(super) fn purge_at(kept: &Kept) -> Timestamp {
    kept.arrived.plus_ms(PURGE_MS)
}

/// Moves the message in the due index; the caller saves it.
pub(super) fn set_due(writer: &mut Writer<'_>, kept: &mut Kept, due: Timestamp) {
    if due == kept.due {
        return;
    }
    writer.delete(DUE, &tables::due_key(kept.due, &kept.message.id));
    kept.due = due;
    writer.put(DUE, &tables::due_key(due, &kept.message.id), &NOTHING);
}

/// Writes the indexes of a message that is new; the caller saves it and delivers it when it is complete.
pub(super) fn index(writer: &mut Writer<'_>, kept: &Kept) {
    let message = &kept.message;
    if let Some(sender) = &message.sender {
        let id = tables::message_key(&message.id);
        writer.put(SENT, &tables::mailbox_and(sender, id), &NOTHING);
        if let Some(local_id) = &message.metadata.local_id {
            writer.put(
                LOCAL_IDS,
                &tables::local_id_key(sender, local_id, &message.id),
                &NOTHING,
            );
        }
    }
    writer.put(DUE, &tables::due_key(kept.due, &message.id), &NOTHING);
}

/// Puts a complete message into its inbox, as the `nth` of this command; the caller has entered the event and saves it.
/// Its five days start now; its thirty at its first delivery.
pub(super) fn deliver(writer: &mut Writer<'_>, at: At, kept: &mut Kept, nth: u32) {
    let first_time = kept.message.sequence == 0;
    if first_time {
        kept.arrived = at.time;
        let key = tables::mailbox_and(&kept.message.recipient, tables::message_key(&kept.message.id));
        writer.put(RECEIVED, &key, &NOTHING);
    }
    assert!(
        u64::from(nth) + 1 < SEQUENCES_PER_COMMAND,
        "one command puts few messages into inboxes"
    );
    kept.message.sequence = at.index * SEQUENCES_PER_COMMAND + u64::from(nth) + 1;
    kept.message.expires = at.time.plus_ms(INBOX_MS);
    let due = kept.message.expires.min(purge_at(kept));
    set_due(writer, kept, due);
    let message = &kept.message;
    let waiting = Waiting {
        message: message.id.clone(),
        at: at.time,
        workflow: message.metadata.workflow.clone(),
    };
    values::put(
        writer,
        INBOX,
        &tables::inbox_key(&message.recipient, message.sequence),
        &waiting,
    );
    add_depth(writer, &message.recipient, 1);
    let (mailbox, message) = identifiers(kept);
    outbox::emit(writer, at, Event::MessageArrived { mailbox, message });
}

/// What an event says of a message: mailbox and message.
pub(super) fn identifiers(kept: &Kept) -> (String, String) {
    (kept.message.recipient.to_string(), kept.message.id.to_string())
}

/// Takes a message out of its inbox.
pub(super) fn leave_inbox(writer: &mut Writer<'_>, kept: &Kept) {
    let message = &kept.message;
    writer.delete(INBOX, &tables::inbox_key(&message.recipient, message.sequence));
    add_depth(writer, &message.recipient, -1);
}

/// How many messages wait.
pub(super) fn depth(state: &impl Read, mailbox: &MailboxId) -> u64 {
    values::get(state, DEPTHS, tables::mailbox_key(mailbox)).unwrap_or(0)
}

fn add_depth(writer: &mut Writer<'_>, mailbox: &MailboxId, change: i64) {
    let depth = depth(writer, mailbox)
        .checked_add_signed(change)
        .expect("a mailbox's depth counts what is in its inbox");
    values::put(writer, DEPTHS, tables::mailbox_key(mailbox), &depth);
}

/// Holds what a chunk names.
pub(super) fn hold(writer: &mut Writer<'_>, part: &Part) {
    match part.stored() {
        Some(Stored::Entry { index, .. }) => writer.hold(Hold::Entry(index)),
        Some(Stored::Upload(manifest)) => writer.hold(Hold::Upload(manifest.upload)),
        None => {}
    }
}

/// Releases what a chunk names.
pub(super) fn release(writer: &mut Writer<'_>, part: &Part) {
    match part.stored() {
        Some(Stored::Entry { index, .. }) => writer.hold(Hold::ReleaseEntry(index)),
        Some(Stored::Upload(manifest)) => writer.hold(Hold::ReleaseUpload(manifest.upload)),
        None => {}
    }
}

/// Releases at most `parts_max` bodies, in order of chunk; gives how many. Digests stay, so that a repeated chunk is
/// still known. The caller saves the message, and sees in `bodies` whether more is to do.
pub(super) fn release_bodies(writer: &mut Writer<'_>, kept: &mut Kept, parts_max: u32) -> u32 {
    let from = match kept.bodies {
        Bodies::Held => 1,
        Bodies::Releasing { from } => from,
        Bodies::Released => return 0,
    };
    let mut released = 0;
    if from <= 1
        && let Some(part) = kept.first
    {
        release(writer, &part);
        kept.first = (kept.message.chunks > 1).then(|| Part::Released { digest: part.digest() });
        released = 1;
    }
    if kept.message.chunks <= 1 {
        kept.bodies = Bodies::Released;
        return released;
    }
    let (parts, more) = parts(writer, kept, from.max(2), parts_max.saturating_sub(released));
    released += parts.len() as u32;
    kept.bodies = match (more, parts.last()) {
        (false, _) => Bodies::Released,
        (true, Some((last, _))) => Bodies::Releasing { from: last + 1 },
        (true, None) => Bodies::Releasing { from: from.max(2) },
    };
    for (chunk, part) in parts {
        release(writer, &part);
        let digest = part.digest();
        values::put(
            writer,
            CHUNKS,
            &tables::chunk_key(&kept.message.id, chunk),
            &Part::Released { digest },
        );
    }
    released
}

/// At most `parts_max` chunks from number `from` on, and whether there are more.
fn parts(writer: &Writer<'_>, kept: &Kept, from: u32, parts_max: u32) -> (Vec<(u32, Part)>, bool) {
    let start = tables::chunk_key(&kept.message.id, from);
    let end = tables::chunk_key(&kept.message.id, u32::MAX);
    let mut parts = Vec::new();
    let mut more = false;
    writer.scan(
        CHUNKS,
        Bound::Included(&start),
        Bound::Included(&end),
        &mut |key, value| {
            more = parts.len() as u32 == parts_max;
            if !more {
                parts.push((tables::chunk_of_key(key), values::read(value)));
            }
            !more
        },
    );
    (parts, more)
}

/// Removes a message and everything about it, at most `parts_max` chunks at a time; gives how many chunks, and whether
/// it is gone.
pub(super) fn purge(writer: &mut Writer<'_>, kept: &mut Kept, parts_max: u32) -> (u32, bool) {
    let mut removed = 0;
    if let Some(part) = kept.first.take() {
        release(writer, &part);
        removed = 1;
    }
    let (parts, more) = parts(writer, kept, 2, parts_max.saturating_sub(removed));
    removed += parts.len() as u32;
    for (chunk, part) in parts {
        release(writer, &part);
        writer.delete(CHUNKS, &tables::chunk_key(&kept.message.id, chunk));
    }
    kept.bodies = Bodies::Released;
    if more {
        return (removed, false);
    }
    if kept.message.status() == Status::Accepted {
        leave_inbox(writer, kept);
    }
    let message = &kept.message;
    let id = tables::message_key(&message.id);
    if let Some(sender) = &message.sender {
        if !planted(Planted::PurgeLeavesIndex) {
            writer.delete(SENT, &tables::mailbox_and(sender, id));
        }
        if let Some(local_id) = &message.metadata.local_id {
            writer.delete(LOCAL_IDS, &tables::local_id_key(sender, local_id, &message.id));
        }
    }
    if message.sequence > 0 {
        writer.delete(RECEIVED, &tables::mailbox_and(&message.recipient, id));
    }
    writer.delete(DUE, &tables::due_key(kept.due, &message.id));
    writer.delete(MESSAGES, id);
    (removed, true)
}
