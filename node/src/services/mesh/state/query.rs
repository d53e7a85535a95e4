//! Questions to the state. All work is bounded by the answer, except where a bound is said.

use super::super::command::{Mailbox, Nonce, Workflow};
use super::super::{MailboxId, MessageId};
use super::tables::{
    self, CHUNKS, INBOX, LOCAL_IDS, MAILBOX_USES, MAILBOXES, MAILBOXES_BY_ODS, MESSAGES, RECEIVED, Role, SENT,
    WORKFLOW_MEMBERS, WORKFLOWS,
};
use super::values::{self, Bodies, Kept, Part, Waiting, WorkflowHead};
use super::{InboxPage, MailboxUse, Message, Stored, WorkflowFilter, life, nonces, send, sweep};
use crate::base::{LogIndex, OdsCode, Timestamp};
use crate::bodies::Manifest;
use crate::ledger::{Read, Table};
use std::ops::Bound;

/// The mailbox.
pub fn mailbox(state: &impl Read, id: &MailboxId) -> Option<Mailbox> {
    values::get(state, MAILBOXES, tables::mailbox_key(id))
}

/// All mailboxes in order of identifier, from after `after`, at most `max`.
pub fn mailboxes(state: &impl Read, after: Option<&MailboxId>, max: usize) -> Vec<Mailbox> {
    let mut mailboxes = Vec::new();
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(tables::mailbox_key(after)));
    state.scan(MAILBOXES, from, Bound::Unbounded, &mut |_, value| {
        if mailboxes.len() < max {
            mailboxes.push(values::read(value));
        }
        mailboxes.len() < max
    });
    mailboxes
}

/// Its last use.
pub fn mailbox_use(state: &impl Read, id: &MailboxId) -> MailboxUse {
    values::get(state, MAILBOX_USES, tables::mailbox_key(id)).unwrap_or_default()
}

/// The workflow, its members in order of identifier.
pub fn workflow(state: &impl Read, id: &str) -> Option<Workflow> {
    let head: WorkflowHead = values::get(state, WORKFLOWS, &tables::workflow_key(id))?;
    Some(with_members(state, head))
}

/// All workflows, in order of identifier.
pub fn workflows(state: &impl Read) -> Vec<Workflow> {
    let mut heads: Vec<WorkflowHead> = Vec::new();
    state.scan(WORKFLOWS, Bound::Unbounded, Bound::Unbounded, &mut |_, value| {
        heads.push(values::read(value));
        true
    });
    heads.sort_by(|a, b| a.id.cmp(&b.id));
    heads.into_iter().map(|head| with_members(state, head)).collect()
}

fn with_members(state: &impl Read, head: WorkflowHead) -> Workflow {
    Workflow {
        senders: members(state, &head.id, Role::Sender),
        receivers: members(state, &head.id, Role::Receiver),
        id: head.id,
    }
}

/// The mailboxes listed in one role, in order of identifier.
pub(super) fn members(state: &impl Read, workflow: &str, role: Role) -> Vec<MailboxId> {
    let prefix = tables::members_prefix(workflow, role);
    let end = tables::after_prefix(&prefix);
    let mut members = Vec::new();
    let from = Bound::Included(prefix.as_slice());
    state.scan(WORKFLOW_MEMBERS, from, tables::before(end.as_deref()), &mut |key, _| {
        members.push(tables::mailbox_of_key(key, prefix.len()));
        true
    });
    members
}

/// Active mailboxes registered to receive `workflow`; with `ods` (any case), of that organisation only. A workflow
/// that every mailbox may receive has nobody registered.
pub fn receivers(state: &impl Read, workflow: &str, ods: Option<&str>) -> Vec<Mailbox> {
    let registered = match ods {
        None => members(state, workflow, Role::Receiver),
        Some(ods) => {
            let Some(ods) = OdsCode::parse(ods) else {
                return Vec::new();
            };
            let mut own = of_organisation(state, &ods);
            own.retain(|mailbox| {
                values::exists(
                    state,
                    WORKFLOW_MEMBERS,
                    &tables::member_key(workflow, Role::Receiver, mailbox),
                )
            });
            own
        }
    };
    registered
        .iter()
        .filter_map(|mailbox| send::active(state, mailbox))
        .collect()
}

fn of_organisation(state: &impl Read, ods: &OdsCode) -> Vec<MailboxId> {
    let start = tables::text_and(ods.as_str(), &[]);
    let end = tables::end_of_text(ods.as_str());
    let mut mailboxes = Vec::new();
    let (from, to) = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
    state.scan(MAILBOXES_BY_ODS, from, to, &mut |key, _| {
        mailboxes.push(tables::mailbox_of_key(key, start.len()));
        true
    });
    mailboxes
}

/// The message, whoever's it is: the caller checks that.
pub fn message(state: &impl Read, id: &MessageId) -> Option<Message> {
    let kept: Option<Kept> = values::get(state, MESSAGES, tables::message_key(id));
    kept.map(|kept| kept.message)
}

/// Where chunk `chunk` (from 1) of a message is; `None` when it is not in, beyond the end, or released: an acknowledged
/// message has no chunks any more, nor has one whose upload was given up.
pub fn chunk(state: &impl Read, id: &MessageId, chunk: u32) -> Option<Stored> {
    let kept: Kept = values::get(state, MESSAGES, tables::message_key(id))?;
    match kept.bodies {
        Bodies::Held => send::part(state, &kept, chunk)?.stored(),
        Bodies::Releasing { .. } | Bodies::Released => None,
    }
}

/// Calls `each` for every upload that the state names, until it says `false`; for a look at everything.
pub fn each_upload(state: &impl Read, each: &mut dyn FnMut(&Manifest) -> bool) {
    let mut offer = |part: Option<Part>| match part.and_then(|part| part.stored()) {
        Some(Stored::Upload(manifest)) => each(&manifest),
        Some(Stored::Entry { .. }) | None => true,
    };
    let mut more = true;
    state.scan(MESSAGES, Bound::Unbounded, Bound::Unbounded, &mut |_, value| {
        more = offer(values::read::<Kept>(value).first);
        more
    });
    if more {
        state.scan(CHUNKS, Bound::Unbounded, Bound::Unbounded, &mut |_, value| {
            offer(Some(values::read(value)))
        });
    }
}

/// A page of an inbox; bounded work: with a filter, at most `scan_max` messages are looked at, and `next_after` says
/// where to go on. There is a next page only when another message matches, or when `scan_max` ended the search.
pub fn inbox(
    state: &impl Read,
    mailbox: &MailboxId,
    after: LogIndex,
    max: usize,
    filter: Option<&WorkflowFilter>,
    scan_max: usize,
) -> InboxPage {
    let mut page = InboxPage::default();
    let mut looked = 0;
    let mut looked_last = after;
    let (start, end) = (
        tables::inbox_key(mailbox, after),
        tables::inbox_key(mailbox, LogIndex::MAX),
    );
    let (from, to) = (Bound::Excluded(start.as_slice()), Bound::Included(end.as_slice()));
    state.scan(INBOX, from, to, &mut |key, value| {
        if filter.is_some() && looked == scan_max {
            page.next_after = Some(looked_last);
            return false;
        }
        let waiting: Waiting = values::read(value);
        if filter.is_none_or(|filter| filter.matches(&waiting.workflow)) {
            if page.messages.len() == max {
                page.next_after = Some(looked_last);
                return false;
            }
            page.messages.push(waiting.message);
        }
        looked += 1;
        looked_last = tables::sequence_of_key(key);
        true
    });
    page
}

/// Messages waiting in an inbox, and the arrival of the oldest; kept as a counter, not counted.
pub fn inbox_depth(state: &impl Read, mailbox: &MailboxId) -> (u64, Option<Timestamp>) {
    let (start, end) = (tables::inbox_key(mailbox, 0), tables::inbox_key(mailbox, LogIndex::MAX));
    let mut oldest = None;
    let (from, to) = (Bound::Included(start.as_slice()), Bound::Included(end.as_slice()));
    state.scan(INBOX, from, to, &mut |_, value| {
        oldest = Some(values::read::<Waiting>(value).at);
        false
    });
    (life::depth(state, mailbox), oldest)
}

/// Messages with this local id, newest first, at most `max`.
pub fn by_local_id(state: &impl Read, sender: &MailboxId, local_id: &str, max: usize) -> Vec<MessageId> {
    let prefix = tables::local_id_prefix(sender, local_id);
    let end = tables::after_prefix(&prefix);
    let mut messages = Vec::new();
    let from = Bound::Included(prefix.as_slice());
    state.scan_down(LOCAL_IDS, from, tables::before(end.as_deref()), &mut |key, _| {
        if messages.len() < max {
            messages.push(tables::message_of_key(key));
        }
        messages.len() < max
    });
    messages
}

/// Messages received (any status), from `since`, in order of arrival of the first chunk, after `after`; for the rich inbox.
pub fn received(
    state: &impl Read,
    mailbox: &MailboxId,
    since: Timestamp,
    after: Option<&MessageId>,
    max: usize,
) -> Vec<Message> {
    by_time(state, RECEIVED, mailbox, since, after, max)
}

/// Messages sent, from `since`, in order, after `after`; for the rich outbox.
pub fn sent(
    state: &impl Read,
    mailbox: &MailboxId,
    since: Timestamp,
    after: Option<&MessageId>,
    max: usize,
) -> Vec<Message> {
    by_time(state, SENT, mailbox, since, after, max)
}

/// As [`received`], newest first, before `before`.
pub fn received_newest_first(
    state: &impl Read,
    mailbox: &MailboxId,
    since: Timestamp,
    before: Option<&MessageId>,
    max: usize,
) -> Vec<Message> {
    by_time_down(state, RECEIVED, mailbox, since, before, max)
}

/// As [`sent`], newest first, before `before`.
pub fn sent_newest_first(
    state: &impl Read,
    mailbox: &MailboxId,
    since: Timestamp,
    before: Option<&MessageId>,
    max: usize,
) -> Vec<Message> {
    by_time_down(state, SENT, mailbox, since, before, max)
}

fn since_key(mailbox: &MailboxId, since: Timestamp) -> Vec<u8> {
    tables::mailbox_and(mailbox, MessageId::time_digits(since).as_bytes())
}

fn by_time(
    state: &impl Read,
    table: Table,
    mailbox: &MailboxId,
    since: Timestamp,
    after: Option<&MessageId>,
    max: usize,
) -> Vec<Message> {
    let mut start = Bound::Included(since_key(mailbox, since));
    if let Some(after) = after {
        let after = tables::mailbox_and(mailbox, tables::message_key(after));
        if matches!(&start, Bound::Included(since) if after >= *since) {
            start = Bound::Excluded(after);
        }
    }
    let end = tables::end_of_text(mailbox.as_str());
    let (from, to) = (start.as_ref().map(Vec::as_slice), Bound::Excluded(end.as_slice()));
    let mut ids = Vec::new();
    state.scan(table, from, to, &mut |key, _| {
        if ids.len() < max {
            ids.push(tables::message_of_key(key));
        }
        ids.len() < max
    });
    ids.iter().filter_map(|id| message(state, id)).collect()
}

fn by_time_down(
    state: &impl Read,
    table: Table,
    mailbox: &MailboxId,
    since: Timestamp,
    before: Option<&MessageId>,
    max: usize,
) -> Vec<Message> {
    let start = since_key(mailbox, since);
    let end = match before {
        Some(before) => tables::mailbox_and(mailbox, tables::message_key(before)),
        None => tables::end_of_text(mailbox.as_str()),
    };
    let mut ids = Vec::new();
    // An empty range, when `before` is older than `since`, would be an error of some stores.
    if start < end {
        let (from, to) = (Bound::Included(start.as_slice()), Bound::Excluded(end.as_slice()));
        state.scan_down(table, from, to, &mut |key, _| {
            if ids.len() < max {
                ids.push(tables::message_of_key(key));
            }
            ids.len() < max
        });
    }
    ids.iter().filter_map(|id| message(state, id)).collect()
}

/// Whether a token with this fingerprint was spent in the log.
pub fn spent(state: &impl Read, nonce: &Nonce) -> bool {
    nonces::spent(state, nonce)
}

/// Whether anything is due for [`Command::Sweep`](super::super::command::Command::Sweep) at `now`.
pub fn sweep_due(state: &impl Read, now: Timestamp) -> bool {
    sweep::sweep_due(state, now)
}
