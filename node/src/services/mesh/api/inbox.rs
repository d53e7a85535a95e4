//! Calls on an inbox: listing, count, acknowledgement; and the handshake and update, which note a mailbox's client.

use super::access::{MailboxCaller, MayRead, MayWrite};
use super::errors::Failure;
use super::input::{self, Query};
use super::routes::{CONTINUE_FROM, HANDSHAKE_HEADERS, MAX_RESULTS, ReadCall, WORKFLOW_FILTER, WriteCall};
use super::views::{self, Links, Version};
use super::{Answer, Asked, Mesh, continuation, names};
use crate::http::RequestBody;
use crate::services::mesh::command::Command;
use crate::services::mesh::{MessageId, state};
use ::http::{HeaderMap, StatusCode};

/// Messages in a page when a client does not say.
const MAX_RESULTS_DEFAULT: usize = 500;
/// Messages that a filtered listing looks at for one page; the next page goes on from there.
const SCAN_MAX: usize = 20_000;
/// Longest description of a client that the handshake keeps, in characters (Latin-1 may double it in bytes).
const CLIENT_CHARS_MAX: usize = 250;

impl Mesh {
    /// Calls that read a mailbox.
    pub(super) async fn read(
        &self,
        call: ReadCall,
        asked: &Asked,
        caller: &MailboxCaller,
        grant: MayRead,
    ) -> Result<Answer, Failure> {
        match call {
            ReadCall::Inbox => self.list(asked, caller, grant),
            ReadCall::Count => self.count(asked, caller, grant),
            ReadCall::RichInbox => self.rich_inbox(asked, caller, grant),
            ReadCall::RichOutbox => self.rich_outbox(asked, caller, grant),
            ReadCall::Track => self.track(asked, caller, grant),
            ReadCall::TrackLocal => self.track_local(asked, caller, grant),
            ReadCall::Head => self.head(asked, caller, grant),
            ReadCall::Download => self.download(asked, caller, grant, 1).await,
            ReadCall::DownloadChunk => self.download(asked, caller, grant, asked.chunk()?).await,
        }
    }

    /// Calls that are one command each.
    pub(super) async fn write(
        &self,
        call: WriteCall,
        asked: &Asked,
        caller: &MailboxCaller,
        grant: MayWrite,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        match call {
            WriteCall::Handshake => self.handshake(asked, caller, grant).await,
            WriteCall::Update => self.update(caller, grant).await,
            WriteCall::Acknowledge => self.acknowledge(asked, caller, grant).await,
            WriteCall::Send => self.send(asked, caller, grant, body).await,
            WriteCall::SendChunk => self.send_chunk(asked, caller, grant, body).await,
        }
    }

    /// GET /{mailbox}/inbox.
    fn list(&self, asked: &Asked, caller: &MailboxCaller, _grant: MayRead) -> Result<Answer, Failure> {
        let mailbox = &caller.mailbox;
        let query = Query::parse(asked.head.uri.query());
        let max_results = query.number(&MAX_RESULTS)?;
        let filter_text = query.text(&WORKFLOW_FILTER)?;
        let filter = filter_text
            .map(|text| input::workflow_filter(text).ok_or(text))
            .transpose()
            .map_err(|_| {
                WORKFLOW_FILTER.fault(
                    "must be X, X* or *X*, each with or without a leading !",
                    "workflow_filter",
                )
            })?;
        let after = match query.text(&CONTINUE_FROM)? {
            None => 0,
            Some(token) => self.inbox_after(asked.version, caller, token)?,
        };
        let max = max_results.unwrap_or(MAX_RESULTS_DEFAULT);
        let page = state::inbox(&self.ledger, mailbox, after, max, filter.as_ref(), SCAN_MAX);
        let messages = views::identifiers(&page.messages);
        let response = match asked.version {
            Version::V1 => views::json(StatusCode::OK, Version::V1, &views::InboxV1 { messages }),
            Version::V2 => {
                let given = max_results.map(|max| max.to_string());
                let pairs = [("max_results", given.as_deref()), ("workflow_filter", filter_text)];
                let next = page
                    .next_after
                    .map(|after| continuation::inbox(&self.keys, mailbox, after));
                let links = links(&format!("/messageexchange/{mailbox}/inbox"), &pairs, next);
                let (approx_inbox_count, _) = state::inbox_depth(&self.ledger, mailbox);
                views::json(
                    StatusCode::OK,
                    Version::V2,
                    &views::InboxV2 {
                        messages,
                        links,
                        approx_inbox_count,
                    },
                )
            }
        };
        Ok(Answer::new(response, mailbox.as_str()))
    }

    /// Where a listing goes on: a token of ours, or in version 1 the last message identifier of the page before.
    fn inbox_after(&self, version: Version, caller: &MailboxCaller, token: &str) -> Result<u64, Failure> {
        if let Some(after) = continuation::inbox_after(&self.keys, &caller.mailbox, token) {
            return Ok(after);
        }
        let last = match version {
            Version::V1 => MessageId::parse(token).and_then(|id| state::message(&self.ledger, &id)),
            Version::V2 => None,
        };
        last.filter(|message| message.recipient == caller.mailbox && message.sequence > 0)
            .map(|message| message.sequence)
            .ok_or_else(|| bad_continuation().into())
    }

    /// GET /{mailbox}/count.
    fn count(&self, asked: &Asked, caller: &MailboxCaller, _grant: MayRead) -> Result<Answer, Failure> {
        let (count, _) = state::inbox_depth(&self.ledger, &caller.mailbox);
        let response = match asked.version {
            Version::V1 => {
                let internal_id = asked.id.to_string();
                let view = views::CountV1 {
                    count,
                    internal_id,
                    all_results_included: true,
                };
                views::json(StatusCode::OK, Version::V1, &view)
            }
            Version::V2 => views::json(StatusCode::OK, Version::V2, &views::CountV2 { count }),
        };
        Ok(Answer::new(response, caller.mailbox.as_str()))
    }

    /// PUT /{mailbox}/inbox/{message}/status/acknowledged.
    async fn acknowledge(&self, asked: &Asked, caller: &MailboxCaller, grant: MayWrite) -> Result<Answer, Failure> {
        let message = asked.message()?;
        let mailbox = caller.mailbox.clone();
        let command = Command::Acknowledge {
            nonce: grant.nonce(),
            mailbox,
            message: message.clone(),
        };
        self.propose(&command, &[])
            .await
            .map_err(|failure| failure.about(&message))?;
        let response = match asked.version {
            Version::V1 => views::json(
                StatusCode::OK,
                Version::V1,
                &views::AcknowledgedV1 {
                    message_id: message.as_str(),
                },
            ),
            Version::V2 => views::empty(StatusCode::OK),
        };
        Ok(Answer::about(response, &message))
    }

    /// GET or POST /{mailbox}.
    async fn handshake(&self, asked: &Asked, caller: &MailboxCaller, grant: MayWrite) -> Result<Answer, Failure> {
        input::required(&asked.head.headers, HANDSHAKE_HEADERS)?;
        let mailbox = caller.mailbox.clone();
        let command = Command::Handshake {
            nonce: grant.nonce(),
            mailbox,
            client: client(&asked.head.headers),
        };
        self.propose(&command, &[]).await?;
        let response = match asked.version {
            Version::V1 => views::json(
                StatusCode::OK,
                Version::V1,
                &views::HandshakeV1 {
                    mailbox_id: caller.mailbox.as_str(),
                },
            ),
            Version::V2 => views::empty(StatusCode::OK),
        };
        Ok(Answer::new(response, caller.mailbox.as_str()))
    }

    /// POST /{mailbox}/update: nothing is kept of it but the spent token.
    async fn update(&self, caller: &MailboxCaller, grant: MayWrite) -> Result<Answer, Failure> {
        self.propose(&Command::Spend { nonce: grant.nonce() }, &[]).await?;
        Ok(Answer::new(views::empty(StatusCode::OK), caller.mailbox.as_str()))
    }
}

/// What a client says of itself, in one line.
fn client(headers: &HeaderMap) -> String {
    let said = |name| input::text(headers, name).unwrap_or_default();
    let line = [
        said(&names::MEX_CLIENT_VERSION),
        said(&names::MEX_OS_NAME),
        said(&names::MEX_OS_VERSION),
        said(&names::MEX_OS_ARCHITECTURE),
        said(&names::MEX_JAVA_VERSION),
    ]
    .join("; ");
    line.chars().take(CLIENT_CHARS_MAX).collect()
}

/// The fault in a continuation that is none.
pub(super) fn bad_continuation() -> super::errors::Field {
    CONTINUE_FROM.fault(
        "must be the value in links.next of this listing of this mailbox",
        "continue_from",
    )
}

/// Links of a page: `path` with the given pairs, and the same with `continue_from` when there is a next one.
pub(super) fn links(path: &str, pairs: &[(&str, Option<&str>)], next: Option<String>) -> Links {
    let link = |continue_from: Option<&str>| {
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, value) in pairs {
            if let Some(value) = value {
                query.append_pair(name, value);
            }
        }
        if let Some(token) = continue_from {
            query.append_pair("continue_from", token);
        }
        let query = query.finish();
        if query.is_empty() {
            path.to_owned()
        } else {
            format!("{path}?{query}")
        }
    };
    Links {
        this: link(None),
        next: next.map(|token| link(Some(&token))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_paths_with_an_encoded_query() {
        let pairs = [("max_results", Some("10")), ("workflow_filter", Some("!*_A&B*"))];
        let both = links("/messageexchange/X26ABC1/inbox", &pairs, Some("dG9rZW4_".to_owned()));
        assert_eq!(
            both.this,
            "/messageexchange/X26ABC1/inbox?max_results=10&workflow_filter=%21*_A%26B*"
        );
        assert_eq!(
            both.next.as_deref(),
            Some(&*format!("{}&continue_from=dG9rZW4_", both.this))
        );
        let none = links("/messageexchange/X26ABC1/inbox", &[("max_results", None)], None);
        assert_eq!(
            none,
            Links {
                this: "/messageexchange/X26ABC1/inbox".to_owned(),
                next: None
            }
        );
    }
}
