//! Collecting: the recipient's acknowledgement.
//!
//! It takes the message out of the inbox and lets go of its body: a download afterwards finds none (410). What the
//! sender may track stays until the message is purged.

use super::super::command::{Outcome, Refusal, Status};
use super::super::{MailboxId, MessageId};
use super::life::{self, Cause};
use super::planted::{Planted, planted};
use super::tables::{self, MESSAGES};
use super::values::{self, Bodies, Kept};
use super::{ACKNOWLEDGE_RELEASES_MAX, Event, admin, send};
use crate::ledger::Writer;
use crate::log::At;
use crate::outbox;

/// Acknowledges; again changes nothing. Refusals, in order: `UnknownMailbox`, `UnknownMessage`, `NotYours`, `Gone`.
pub(super) fn acknowledge(
    writer: &mut Writer<'_>,
    at: At,
    mailbox: &MailboxId,
    message: &MessageId,
) -> Result<Outcome, Refusal> {
    send::active(writer, mailbox).ok_or(Refusal::UnknownMailbox)?;
    let kept: Option<Kept> = values::get(writer, MESSAGES, tables::message_key(message));
    let mut kept = kept.ok_or(Refusal::UnknownMessage)?;
    if kept.message.recipient != *mailbox {
        return Err(Refusal::NotYours);
    }
    let status = kept.message.status();
    if status == Status::Acknowledged {
        return Ok(Outcome::Done);
    }
    let acknowledged = life::follows(status, Cause::Collected).ok_or(Refusal::Gone)?;
    if !planted(Planted::AcknowledgeStaysInInbox) {
        life::leave_inbox(writer, &kept);
    }
    life::enter(&mut kept, Event::plain(acknowledged, at.time));
    if !planted(Planted::AcknowledgeKeepsBody) {
        let_go(writer, at, &mut kept);
    }
    life::save(writer, &kept);
    let (mailbox_id, message) = life::identifiers(&kept);
    let event = outbox::event::Event::MessageAcknowledged {
        mailbox: mailbox_id,
        message,
    };
    outbox::state::emit(writer, at, event);
    admin::touch(writer, at, mailbox);
    Ok(Outcome::Done)
}

/// Releases the bodies of a message that nobody needs; the sweep does what is too much for one command. The caller
/// saves it.
pub(super) fn let_go(writer: &mut Writer<'_>, at: At, kept: &mut Kept) {
    life::release_bodies(writer, kept, ACKNOWLEDGE_RELEASES_MAX);
    match kept.bodies {
        Bodies::Releasing { .. } => life::set_due(writer, kept, at.time),
        // The entry of the fifth day stays: looked at then, the message moves on to its thirtieth. That saves every
        // acknowledgement two writes.
        Bodies::Held | Bodies::Released => {}
    }
}
