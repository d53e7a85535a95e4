//! Rich listings: what a mailbox received and sent, newest first, with details. Not in the specification, but used.

use super::access::{MailboxCaller, MayRead};
use super::continuation::{self, Kind};
use super::errors::Failure;
use super::inbox::{bad_continuation, links};
use super::input::{self, Query};
use super::routes::{CONTINUE_FROM, QueryRule, RICH_INBOX_MAX, RICH_OUTBOX_MAX, START_TIME};
use super::views::{self, Traced, Version};
use super::{Answer, Asked, Mesh};
use crate::base::Timestamp;
use crate::services::mesh::command::Mailbox;
use crate::services::mesh::state::{self, Message};
use crate::services::mesh::{MailboxId, MessageId};
use ::http::StatusCode;
use rustc_hash::FxHashMap;

/// Messages in a page when a client does not say, and at most in the outbox.
const MAX_RESULTS_DEFAULT: usize = 100;

/// What a rich listing asks for.
struct Wanted {
    since: Timestamp,
    since_text: Option<String>,
    before: Option<MessageId>,
    max: usize,
}

impl Mesh {
    /// GET /{mailbox}/inbox/rich.
    pub(super) fn rich_inbox(&self, asked: &Asked, caller: &MailboxCaller, _grant: MayRead) -> Result<Answer, Failure> {
        let wanted = self.wanted(asked, caller, Kind::RichInbox, &RICH_INBOX_MAX)?;
        let before = wanted.before.as_ref();
        let found = state::received_newest_first(&self.ledger, &caller.mailbox, wanted.since, before, wanted.max + 1);
        Ok(self.rich_page(caller, Kind::RichInbox, wanted, found))
    }

    /// GET /{mailbox}/outbox/rich.
    pub(super) fn rich_outbox(
        &self,
        asked: &Asked,
        caller: &MailboxCaller,
        _grant: MayRead,
    ) -> Result<Answer, Failure> {
        let mut wanted = self.wanted(asked, caller, Kind::RichOutbox, &RICH_OUTBOX_MAX)?;
        wanted.max = wanted.max.min(MAX_RESULTS_DEFAULT);
        let before = wanted.before.as_ref();
        let found = state::sent_newest_first(&self.ledger, &caller.mailbox, wanted.since, before, wanted.max + 1);
        Ok(self.rich_page(caller, Kind::RichOutbox, wanted, found))
    }

    fn wanted(
        &self,
        asked: &Asked,
        caller: &MailboxCaller,
        kind: Kind,
        max_rule: &QueryRule,
    ) -> Result<Wanted, Failure> {
        let query = Query::parse(asked.head.uri.query());
        let since_text = query.text(&START_TIME)?;
        let since = match since_text {
            None => self.clock.now().minus_ms(state::PURGE_MS),
            Some(text) => {
                input::moment(text).ok_or_else(|| START_TIME.fault("must be a time in ISO 8601", "datetime_parsing"))?
            }
        };
        let max = query.number(max_rule)?.unwrap_or(MAX_RESULTS_DEFAULT);
        let before = match query.text(&CONTINUE_FROM)? {
            None => None,
            Some(token) => {
                let last = continuation::rich_after(&self.keys, &caller.mailbox, kind, token);
                Some(last.ok_or_else(bad_continuation)?)
            }
        };
        Ok(Wanted {
            since,
            since_text: since_text.map(str::to_owned),
            before,
            max,
        })
    }

    /// Makes the page; `found` holds one message more than wanted when there is a next page.
    fn rich_page(&self, caller: &MailboxCaller, kind: Kind, wanted: Wanted, mut found: Vec<Message>) -> Answer {
        let more = found.len() > wanted.max;
        found.truncate(wanted.max);
        let last = found.last().filter(|_| more);
        let next = last.map(|message| continuation::rich(&self.keys, &caller.mailbox, kind, &message.id));
        let path = match kind {
            Kind::RichOutbox => format!("/messageexchange/{}/outbox/rich", caller.mailbox),
            Kind::RichInbox | Kind::Inbox => format!("/messageexchange/{}/inbox/rich", caller.mailbox),
        };
        let max = wanted.max.to_string();
        let pairs = [
            ("start_time", wanted.since_text.as_deref()),
            ("max_results", Some(max.as_str())),
        ];
        let mailboxes = self.parties(&found);
        let messages = found
            .iter()
            .map(|message| views::rich_message(&traced(message, &mailboxes)))
            .collect();
        let valid_at = self.clock.now().iso();
        let view = views::Rich {
            valid_at,
            messages,
            links: links(&path, &pairs, next),
        };
        Answer::new(views::json(StatusCode::OK, Version::V2, &view), caller.mailbox.as_str())
    }

    /// The mailboxes at both ends of the messages, each read once.
    fn parties(&self, messages: &[Message]) -> FxHashMap<MailboxId, Mailbox> {
        let mut parties = FxHashMap::default();
        for id in messages
            .iter()
            .flat_map(|message| message.sender.iter().chain([&message.recipient]))
        {
            if !parties.contains_key(id)
                && let Some(mailbox) = state::mailbox(&self.ledger, id)
            {
                parties.insert(id.clone(), mailbox);
            }
        }
        parties
    }
}

fn traced<'a>(message: &'a Message, mailboxes: &'a FxHashMap<MailboxId, Mailbox>) -> Traced<'a> {
    let sender = message.sender.as_ref().and_then(|sender| mailboxes.get(sender));
    Traced {
        message,
        sender,
        recipient: mailboxes.get(&message.recipient),
    }
}
