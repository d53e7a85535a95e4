//! Safe retry of POST /outbox: the same sender, `Mex-LocalID`, headers and content within [`SAFE_RETRY_MS`] give the
//! first message.
//!
//! The key is a digest over sender, recipient, metadata, number of chunks and the first chunk's content, in one table a
//! period of log time, so that old ones are dropped whole. A chunked message counts *all* its chunks as content, and the
//! rest of them is not known when the first one is posted again. What a client sees that sends everything again:
//! - While chunks are missing, the first chunk gives the first message; chunks that are in are confirmed when they are
//!   equal. One that differs is refused (`AlreadyComplete`), because two uploads under one message would mix; the key
//!   is then forgotten, so that the client's next first chunk starts a new message.
//! - Once complete, the first chunk gives the first message, equal chunks are confirmed, and one that differs is
//!   refused and the key forgotten, as above. A complete message never changes.
//!
//! So equal content is never delivered twice, and different content is never taken for the first: it costs its sender
//! one refusal, and goes through as a new message when sent again.

use super::super::command::{Body, Mailbox, Metadata, Status};
use super::super::{MailboxId, MessageId};
use super::planted::{Planted, planted};
use super::tables::{RETRIES, message_key, period};
use super::values::{self, Kept, Retry, RetryKey};
use super::{SAFE_RETRY_MS, tables};
use crate::base::{Digest, Timestamp};
use crate::ledger::{Table, Writer};
use crate::log::At;

/// The key of a send; `None` when it can have no retry: no local id, or the sender's mailbox wants none.
pub(super) fn key(
    at: At,
    sender: &Mailbox,
    recipient: &MailboxId,
    metadata: &Metadata,
    chunks: u32,
    body: &Body,
) -> Option<RetryKey> {
    let local_id = metadata.local_id.as_deref().unwrap_or_default();
    if !sender.safe_retry || local_id.is_empty() {
        return None;
    }
    let digest = match planted(Planted::RetryIgnoresContent) {
        true => Digest::of(b""),
        false => body.digest(),
    };
    let identity = (&sender.id, recipient, metadata, chunks, digest);
    let bytes = postcard::to_stdvec(&identity).expect("serialises into memory");
    Some(RetryKey {
        period: period(at.time, SAFE_RETRY_MS),
        fingerprint: Digest::of(&bytes),
    })
}

/// The message that an equal send made within the window, unless it failed since.
pub(super) fn first(writer: &Writer<'_>, at: At, key: &RetryKey) -> Option<Kept> {
    let periods = [Some(key.period), key.period.checked_sub(1)];
    let retry = periods.into_iter().flatten().find_map(|period| {
        let found: Option<Retry> = values::get(writer, Table::of_period(RETRIES, period), &key.fingerprint.0);
        found.filter(|retry| at.time.since_ms(retry.at) < SAFE_RETRY_MS)
    })?;
    let kept: Kept = values::get(writer, tables::MESSAGES, message_key(&retry.message))?;
    match kept.message.status() {
        Status::Uploading | Status::Accepted | Status::Acknowledged => Some(kept),
        Status::Undeliverable | Status::Error => None,
    }
}

/// Notes that `message` answers this send from now on.
pub(super) fn note(writer: &mut Writer<'_>, at: At, key: &RetryKey, message: &MessageId) {
    let retry = Retry {
        message: message.clone(),
        at: at.time,
    };
    values::put(
        writer,
        Table::of_period(RETRIES, key.period),
        &key.fingerprint.0,
        &retry,
    );
}

/// The next equal send makes a new message.
pub(super) fn forget(writer: &mut Writer<'_>, kept: &Kept) {
    let Some(key) = kept.retry else { return };
    let table = Table::of_period(RETRIES, key.period);
    let found: Option<Retry> = values::get(writer, table, &key.fingerprint.0);
    if found.is_some_and(|retry| retry.message == kept.message.id) {
        writer.delete(table, &key.fingerprint.0);
    }
}

/// Whether the keys of a period are of no use any more at `now`.
pub(super) fn outlived(period: u32, now: Timestamp) -> bool {
    (u64::from(period) + 2) * SAFE_RETRY_MS <= now.ms()
}
