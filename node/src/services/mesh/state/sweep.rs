//! What time does: messages expire after five days, are removed after thirty, spent tokens are forgotten.
//!
//! A sweep is a command like any other, so that all nodes agree on when a message expired. It is bounded; what is left
//! stays due. Until it comes, a message that is due may still be collected.

use super::super::MessageId;
use super::super::command::{Metadata, Outcome, Status};
use super::life::{self, Cause};
use super::planted::{Planted, planted};
use super::tables::{self, DUE, MAILBOXES, MESSAGES, NONCES, RETRIES};
use super::values::{self, Bodies, Kept};
use super::{Event, Message, SWEEP_MESSAGES_MAX, nonces, retry};
use crate::base::Timestamp;
use crate::ledger::{Read, Table, Writer};
use crate::log::At;
use crate::outbox;
use std::ops::Bound;

/// Code of a non-delivery report.
const CODE_UNDELIVERED: &str = "14";
/// Its event.
const EVENT_SEND: &str = "SEND";

/// Sweeps; gives at most `messages_max`, and just that when more may be due.
pub(super) fn sweep(writer: &mut Writer<'_>, at: At, messages_max: u32) -> Outcome {
    let budget = messages_max.min(SWEEP_MESSAGES_MAX);
    let mut left = budget;
    drop_tables(writer, at.time, &mut left);
    let mut delivered = 0;
    for message in due(writer, at.time, left as usize) {
        if left == 0 {
            break;
        }
        left -= 1;
        let chunks = turn(writer, at, &message, left.max(1), &mut delivered);
        left = left.saturating_sub(chunks);
    }
    let messages = match left {
        0 => messages_max,
        _ => budget - left,
    };
    Outcome::Swept { messages }
}

/// Whether a sweep at `now` would find anything; looks at one key and two lists of tables.
pub(super) fn sweep_due(state: &impl Read, now: Timestamp) -> bool {
    !due(state, now, 1).is_empty()
        || state
            .periods(NONCES)
            .first()
            .is_some_and(|&period| nonces::forgotten(period, now))
        || state
            .periods(RETRIES)
            .first()
            .is_some_and(|&period| retry::outlived(period, now))
}

fn drop_tables(writer: &mut Writer<'_>, now: Timestamp, left: &mut u32) {
    for (family, is_over) in [
        (NONCES, nonces::forgotten as fn(u32, Timestamp) -> bool),
        (RETRIES, retry::outlived),
    ] {
        for period in writer.periods(family) {
            if *left == 0 || !is_over(period, now) {
                break;
            }
            writer.drop_table(Table::of_period(family, period));
            *left -= 1;
        }
    }
}

/// The first messages that are due.
fn due(state: &impl Read, now: Timestamp, max: usize) -> Vec<MessageId> {
    let mut messages = Vec::new();
    if max == 0 {
        return messages;
    }
    let now = match planted(Planted::ExpiryEarly) {
        true => now.plus_ms(1),
        false => now,
    };
    let end = now.ms().saturating_add(1).to_be_bytes();
    state.scan(DUE, Bound::Unbounded, Bound::Excluded(&end), &mut |key, _| {
        messages.push(tables::message_of_key(key));
        messages.len() < max
    });
    messages
}

/// Does what is due for one message, touching at most `chunks_max` chunks; gives how many. A message with more stays
/// due. One that was swept too late for its fifth day and its thirtieth at once still makes its report first.
fn turn(writer: &mut Writer<'_>, at: At, id: &MessageId, chunks_max: u32, delivered: &mut u32) -> u32 {
    let kept: Option<Kept> = values::get(writer, MESSAGES, tables::message_key(id));
    let mut kept = kept.expect("the due index names messages that exist");
    if at.time >= kept.message.expires || planted(Planted::ExpiryEarly) {
        expire(writer, at, &mut kept, delivered);
    }
    if at.time >= life::purge_at(&kept) {
        let (chunks, gone) = life::purge(writer, &mut kept, chunks_max);
        if !gone {
            life::save(writer, &kept);
        }
        return chunks;
    }
    let chunks = match kept.bodies {
        Bodies::Releasing { .. } => life::release_bodies(writer, &mut kept, chunks_max),
        Bodies::Held | Bodies::Released => 0,
    };
    match kept.bodies {
        Bodies::Releasing { .. } => {}
        Bodies::Held | Bodies::Released => {
            let next = next_due(&kept, at.time);
            life::set_due(writer, &mut kept, next);
        }
    }
    life::save(writer, &kept);
    chunks
}

/// When to look at a message again.
fn next_due(kept: &Kept, now: Timestamp) -> Timestamp {
    match kept.message.status() {
        Status::Uploading | Status::Accepted if kept.message.expires > now => {
            kept.message.expires.min(life::purge_at(kept))
        }
        Status::Uploading | Status::Accepted | Status::Acknowledged | Status::Undeliverable | Status::Error => {
            life::purge_at(kept)
        }
    }
}

/// A message nobody collected, or whose chunks stayed away, becomes undeliverable and its sender is told. The body of a
/// whole one stays until it is purged, because the service desk may put it back; that of an incomplete one goes.
fn expire(writer: &mut Writer<'_>, at: At, kept: &mut Kept, delivered: &mut u32) {
    let status = kept.message.status();
    let Some(undeliverable) = life::follows(status, Cause::FiveDays) else {
        return;
    };
    let description = match status {
        Status::Uploading => {
            kept.bodies = Bodies::Releasing { from: 1 };
            "Not all chunks of the message were sent within 5 days"
        }
        Status::Accepted => {
            life::leave_inbox(writer, kept);
            let (mailbox, message) = life::identifiers(kept);
            outbox::state::emit(writer, at, outbox::event::Event::MessageExpired { mailbox, message });
            "The recipient did not collect the message within 5 days"
        }
        Status::Acknowledged | Status::Undeliverable | Status::Error => return,
    };
    let event = Event {
        status: undeliverable,
        at: at.time,
        code: Some(CODE_UNDELIVERED.to_owned()),
        event: Some(EVENT_SEND.to_owned()),
        description: Some(description.to_owned()),
        linked: None,
    };
    life::enter(kept, event);
    if !planted(Planted::ExpiryWithoutReport) {
        report(writer, at, &kept.message, description, delivered);
    }
}

/// Tells the sender of a data message, when that mailbox still exists. A report makes no further report.
fn report(writer: &mut Writer<'_>, at: At, about: &Message, description: &str, delivered: &mut u32) {
    let Some(sender) = &about.sender else { return };
    if !values::exists(writer, MAILBOXES, tables::mailbox_key(sender)) {
        return;
    }
    let metadata = Metadata {
        workflow: about.metadata.workflow.clone(),
        subject: about.metadata.subject.clone(),
        local_id: about.metadata.local_id.clone(),
        ..Metadata::default()
    };
    let cause = Event {
        status: Status::Error,
        at: at.time,
        code: Some(CODE_UNDELIVERED.to_owned()),
        event: Some(EVENT_SEND.to_owned()),
        description: Some(description.to_owned()),
        linked: Some(about.id.to_string()),
    };
    let id = MessageId::of_report(at.time, &about.id);
    deliver_report(writer, at, id, sender.clone(), metadata, cause, *delivered);
    *delivered += 1;
}

/// Makes a report and puts it into `recipient`'s inbox, as the `nth` of this command.
pub(super) fn deliver_report(
    writer: &mut Writer<'_>,
    at: At,
    id: MessageId,
    recipient: super::super::MailboxId,
    metadata: Metadata,
    cause: Event,
    nth: u32,
) {
    let expires = at.time.plus_ms(super::INBOX_MS);
    let mut kept = Kept {
        message: Message {
            id,
            sender: None,
            recipient,
            report: true,
            metadata,
            chunks: 0,
            bytes: 0,
            created: at.time,
            expires,
            sequence: 0,
            events: vec![Event::plain(Status::Accepted, at.time), cause],
        },
        arrived: at.time,
        due: expires,
        chunks_in: 0,
        first: None,
        bodies: Bodies::Released,
        retried: false,
        retry: None,
    };
    life::index(writer, &kept);
    life::deliver(writer, at, &mut kept, nth);
    life::save(writer, &kept);
}
