//! Mailboxes and workflows as administered, their use, and what only the sandbox may do.

use super::super::command::{Mailbox, Metadata, Outcome, Refusal, Status, Workflow};
use super::super::{MailboxId, MessageId};
use super::tables::{
    self, MAILBOX_USES, MAILBOXES, MAILBOXES_BY_ODS, MESSAGES, RETRIES, Role, WORKFLOW_MEMBERS, WORKFLOWS,
};
use super::values::{self, Bodies, Kept, NOTHING, WorkflowHead};
use super::{Event, MailboxUse, collect, life, query, send, sweep};
use crate::ledger::{Read, Table, Writer};
use crate::log::At;
use std::collections::BTreeSet;
use std::ops::Bound;

/// A write is noted as use no more often than this, so that most writes need not touch the record.
const USE_NOTED_MS: u64 = 60 * 1000;
/// Longest client description kept of a handshake.
const CLIENT_BYTES_MAX: usize = 500;

/// Adds or changes a mailbox.
pub(super) fn put_mailbox(writer: &mut Writer<'_>, mailbox: &Mailbox) -> Result<Outcome, Refusal> {
    let key = tables::mailbox_key(&mailbox.id);
    if let Some(earlier) = values::get::<Mailbox>(writer, MAILBOXES, key)
        && earlier.ods != mailbox.ods
    {
        writer.delete(MAILBOXES_BY_ODS, &tables::text_and(earlier.ods.as_str(), key));
    }
    values::put(writer, MAILBOXES, key, mailbox);
    writer.put(MAILBOXES_BY_ODS, &tables::text_and(mailbox.ods.as_str(), key), &NOTHING);
    Ok(Outcome::Done)
}

/// Adds or changes a workflow.
pub(super) fn put_workflow(writer: &mut Writer<'_>, workflow: &Workflow) -> Result<Outcome, Refusal> {
    let head = WorkflowHead {
        id: workflow.id.clone(),
        senders_listed: !workflow.senders.is_empty(),
        receivers_listed: !workflow.receivers.is_empty(),
    };
    values::put(writer, WORKFLOWS, &tables::workflow_key(&workflow.id), &head);
    for (role, members) in [(Role::Sender, &workflow.senders), (Role::Receiver, &workflow.receivers)] {
        let earlier: BTreeSet<MailboxId> = query::members(writer, &workflow.id, role).into_iter().collect();
        let now: BTreeSet<MailboxId> = members.iter().cloned().collect();
        for gone in earlier.difference(&now) {
            writer.delete(WORKFLOW_MEMBERS, &tables::member_key(&workflow.id, role, gone));
        }
        for new in now.difference(&earlier) {
            writer.put(WORKFLOW_MEMBERS, &tables::member_key(&workflow.id, role, new), &NOTHING);
        }
    }
    Ok(Outcome::Done)
}

/// Notes a mailbox's client. Refusal: `UnknownMailbox`.
pub(super) fn handshake(
    writer: &mut Writer<'_>,
    at: At,
    mailbox: &MailboxId,
    client: &str,
) -> Result<Outcome, Refusal> {
    send::active(writer, mailbox).ok_or(Refusal::UnknownMailbox)?;
    let noted = MailboxUse {
        last_seen: at.time,
        client: client[..client.floor_char_boundary(CLIENT_BYTES_MAX)].to_owned(),
    };
    values::put(writer, MAILBOX_USES, tables::mailbox_key(mailbox), &noted);
    Ok(Outcome::Done)
}

/// Notes a write of a mailbox.
pub(super) fn touch(writer: &mut Writer<'_>, at: At, mailbox: &MailboxId) {
    let mut noted = query::mailbox_use(writer, mailbox);
    if at.time.since_ms(noted.last_seen) >= USE_NOTED_MS {
        noted.last_seen = at.time;
        values::put(writer, MAILBOX_USES, tables::mailbox_key(mailbox), &noted);
    }
}

/// Sandbox only: a report in an inbox. Refusal: `UnknownMailbox`.
pub(super) fn report(
    writer: &mut Writer<'_>,
    at: At,
    mailbox: &MailboxId,
    metadata: Metadata,
    code: &str,
    description: &str,
    linked: Option<&str>,
) -> Result<Outcome, Refusal> {
    query::mailbox(writer, mailbox).ok_or(Refusal::UnknownMailbox)?;
    let cause = Event {
        status: Status::Error,
        at: at.time,
        code: Some(code.to_owned()),
        event: Some(if code == "14" { "SEND" } else { "TRANSFER" }.to_owned()),
        description: Some(description.to_owned()),
        linked: linked.map(str::to_owned),
    };
    let id = MessageId::new(at.time, at.index);
    sweep::deliver_report(writer, at, id.clone(), mailbox.clone(), metadata, cause, 0);
    Ok(Outcome::Sent {
        message: id,
        repeated: false,
    })
}

/// Sandbox only: an event on a message, which moves into or out of its inbox with its new status. Refusals, in order:
/// `UnknownMessage`; `Gone` for a status it cannot have any more: `Uploading` when it is not, `Accepted` when chunks are
/// missing or its body was released.
pub(super) fn add_event(
    writer: &mut Writer<'_>,
    at: At,
    message: &MessageId,
    event: Event,
) -> Result<Outcome, Refusal> {
    let kept: Option<Kept> = values::get(writer, MESSAGES, tables::message_key(message));
    let mut kept = kept.ok_or(Refusal::UnknownMessage)?;
    let (before, after) = (kept.message.status(), event.status);
    let whole = kept.chunks_in == kept.message.chunks && (kept.message.report || kept.bodies == Bodies::Held);
    match after {
        Status::Uploading if before != Status::Uploading => return Err(Refusal::Gone),
        Status::Accepted if !whole => return Err(Refusal::Gone),
        Status::Uploading | Status::Accepted | Status::Acknowledged | Status::Undeliverable | Status::Error => {}
    }
    let (was_waiting, waits) = (before == Status::Accepted, after == Status::Accepted);
    if was_waiting && !waits {
        life::leave_inbox(writer, &kept);
    }
    life::enter(&mut kept, event);
    if waits && !was_waiting {
        life::deliver(writer, at, &mut kept, 0);
    }
    if after == Status::Acknowledged {
        collect::let_go(writer, at, &mut kept);
    }
    life::save(writer, &kept);
    Ok(Outcome::Done)
}

/// Sandbox only: removes the messages of one mailbox (sent and received) or of all. Not bounded. Mailboxes, workflows
/// and spent tokens stay.
pub(super) fn reset(writer: &mut Writer<'_>, mailbox: Option<&MailboxId>) -> Outcome {
    let mut messages: Vec<Kept> = Vec::new();
    writer.scan(MESSAGES, Bound::Unbounded, Bound::Unbounded, &mut |_, value| {
        let kept: Kept = values::read(value);
        let concerned = mailbox
            .is_none_or(|mailbox| kept.message.recipient == *mailbox || kept.message.sender.as_ref() == Some(mailbox));
        if concerned {
            messages.push(kept);
        }
        true
    });
    for mut kept in messages {
        super::retry::forget(writer, &kept);
        life::purge(writer, &mut kept, u32::MAX);
    }
    if mailbox.is_none() {
        for period in writer.periods(RETRIES) {
            writer.drop_table(Table::of_period(RETRIES, period));
        }
    }
    Outcome::Done
}
