//! Downloads: a message's headers, the message or its first chunk, one chunk. Bodies stream from where they lie; the
//! first piece is read before the answer starts, so that what cannot be read is a 503 and not a broken connection.

use super::access::{MailboxCaller, MayRead};
use super::errors::{Failure, Refused};
use super::gunzip::{self, Gunzip, Source};
use super::views::{self, Version};
use super::{Answer, Asked, Mesh, input, names};
use crate::http::{Response, ResponseBody};
use crate::services::mesh::MessageId;
use crate::services::mesh::command::{Command, Status};
use crate::services::mesh::state::{self, Event, Message, Stored};
use ::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use std::time::{Duration, UNIX_EPOCH};

const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");
const GZIP: &str = "gzip";

impl Mesh {
    /// HEAD /{mailbox}/inbox/{message}, for its recipient, and for its sender whatever became of it.
    pub(super) fn head(&self, asked: &Asked, caller: &MailboxCaller, _grant: MayRead) -> Result<Answer, Failure> {
        let id = asked.message()?;
        let found = state::message(&self.ledger, &id);
        let is_sender = |message: &Message| message.sender.as_ref() == Some(&caller.mailbox);
        let message = found
            .filter(|message| message.recipient == caller.mailbox || is_sender(message))
            .ok_or_else(|| Failure::from(Refused::MessageUnknown).about(&id))?;
        if !is_sender(&message) {
            collectable(&message)?;
        }
        let mut response = views::empty(StatusCode::OK);
        *response.headers_mut() = self.message_headers(&message, 1);
        Ok(Answer::about(response, &id))
    }

    /// GET /{mailbox}/inbox/{message} and …/{chunk}.
    pub(super) async fn download(
        &self,
        asked: &Asked,
        caller: &MailboxCaller,
        _grant: MayRead,
        chunk: u32,
    ) -> Result<Answer, Failure> {
        let id = asked.message()?;
        let response = self
            .downloaded(asked, caller, &id, chunk)
            .await
            .map_err(|failure| failure.about(&id))?;
        Ok(Answer::about(response, &id))
    }

    async fn downloaded(
        &self,
        asked: &Asked,
        caller: &MailboxCaller,
        id: &MessageId,
        chunk: u32,
    ) -> Result<Response, Failure> {
        let message = state::message(&self.ledger, id).ok_or(Refused::MessageUnknown)?;
        if message.recipient != caller.mailbox {
            return Err(Refused::MessageForeign.into());
        }
        collectable(&message)?;
        let mut headers = self.message_headers(&message, chunk);
        if message.report {
            let mut response = views::empty(StatusCode::OK);
            *response.headers_mut() = headers;
            return Ok(response);
        }
        if chunk < 1 || chunk > message.chunks {
            return Err(Refused::MessageUnknown.into());
        }
        // Of an acknowledged message the body is gone.
        let stored = state::chunk(&self.ledger, id, chunk).ok_or(Refused::MessageGone)?;
        let body = self.body(&message, &stored, asked, &mut headers).await?;
        headers.insert(header::CONTENT_TYPE, content_type(&message, asked.version));
        let mut response = Response::new(body);
        *response.status_mut() = if chunk < message.chunks {
            StatusCode::PARTIAL_CONTENT
        } else {
            StatusCode::OK
        };
        *response.headers_mut() = headers;
        Ok(response)
    }

    /// The chunk's bytes as sent, or decompressed when they are gzip and the client does not take that. Bytes that were
    /// called gzip but are not, or that grow beyond the bound, stay as they are and say so.
    async fn body(
        &self,
        message: &Message,
        stored: &Stored,
        asked: &Asked,
        headers: &mut HeaderMap,
    ) -> Result<ResponseBody, Failure> {
        if message.metadata.content_encoding.as_deref() != Some(GZIP) {
            return Ok(self.source(stored).await?.into_body(stored.bytes()));
        }
        if !input::accepts_gzip(&asked.head.headers)
            && let Some(bytes) = gunzip::measure(self.source(stored).await?).await
        {
            return Ok(Gunzip::new(self.source(stored).await?).into_body(bytes));
        }
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(GZIP));
        headers.insert(&names::MEX_CONTENT_COMPRESSED, HeaderValue::from_static("Y"));
        Ok(self.source(stored).await?.into_body(stored.bytes()))
    }

    /// Opens what is stored and reads its first piece.
    async fn source(&self, stored: &Stored) -> Result<Source, Failure> {
        match stored {
            Stored::Entry { index, .. } => {
                let command = self.log.command(*index).await.map_err(|_| Refused::Unreadable)?;
                let (_, tail) = Command::decode(&command).map_err(|_| Refused::Unreadable)?;
                if tail.len() as u64 != stored.bytes() {
                    return Err(Refused::Unreadable.into());
                }
                Ok(Source::whole(tail))
            }
            Stored::Upload(manifest) => {
                let mut pieces = self.bodies.read(*manifest, 0);
                match pieces.next().await {
                    None => Ok(Source::whole(bytes::Bytes::new())),
                    Some(first) => Ok(Source::pieces(first.map_err(|_| Refused::Unreadable)?, pieces)),
                }
            }
        }
    }

    /// What the recipient is told of a message in headers (specification, "Download message" and "Asynchronous error
    /// reporting"). Empty ones are left out.
    fn message_headers(&self, message: &Message, chunk: u32) -> HeaderMap {
        let metadata = &message.metadata;
        let mut headers = HeaderMap::with_capacity(24);
        let mut put = |name: &'static HeaderName, text: &str| {
            if !text.is_empty()
                && let Some(value) = views::header_value(text)
            {
                headers.insert(name, value);
            }
        };
        let optional = |text: &Option<String>| text.clone().unwrap_or_default();
        put(
            &names::MEX_FROM,
            message.sender.as_ref().map_or("", |sender| sender.as_str()),
        );
        put(&names::MEX_TO, &self.intended_recipient(message));
        put(&names::MEX_WORKFLOW_ID, &metadata.workflow);
        put(&names::MEX_CHUNK_RANGE, &format!("{chunk}:{}", message.chunks.max(1)));
        let total = if message.report { 0 } else { message.chunks };
        put(&names::MEX_TOTAL_CHUNKS, &total.to_string());
        put(&names::MEX_ADDRESS_TYPE, "ALL");
        put(&names::MEX_LOCAL_ID, &optional(&metadata.local_id));
        put(&names::MEX_PARTNER_ID, &optional(&metadata.partner_id));
        put(&names::MEX_FILE_NAME, &views::file_name(message));
        put(&names::MEX_SUBJECT, &optional(&metadata.subject));
        put(&names::MEX_VERSION, "1.0");
        put(&names::MEX_MESSAGE_TYPE, views::message_type(message));
        put(&names::MEX_MESSAGE_ID, message.id.as_str());
        put(
            &names::MEX_CONTENT_COMPRESSED,
            if metadata.compressed { "Y" } else { "" },
        );
        put(&names::MEX_CONTENT_ENCRYPTED, if metadata.encrypted { "Y" } else { "" });
        put(&names::MEX_CONTENT_CHECKSUM, &optional(&metadata.checksum));
        put(&names::MEX_CONTENT_TYPE, &optional(&metadata.content_type));
        for (name, text) in status_headers(message) {
            put(name, &text);
        }
        let modified = UNIX_EPOCH + Duration::from_millis(message.events[0].at.ms());
        put(&names::LAST_MODIFIED, &httpdate::fmt_http_date(modified));
        headers
    }

    /// The recipient; of a report, the recipient of the message it is about, while that is known.
    fn intended_recipient(&self, message: &Message) -> String {
        let linked = views::failure(message)
            .filter(|_| message.report)
            .and_then(|event| event.linked.as_deref());
        let about = linked
            .and_then(MessageId::parse)
            .and_then(|id| state::message(&self.ledger, &id));
        about
            .as_ref()
            .map_or(&message.recipient, |about| &about.recipient)
            .as_str()
            .to_owned()
    }
}

/// A recipient may collect what waits in the inbox, and look again at what it acknowledged.
fn collectable(message: &Message) -> Result<(), Failure> {
    match message.status() {
        Status::Accepted | Status::Acknowledged => Ok(()),
        Status::Uploading | Status::Undeliverable | Status::Error => Err(Refused::MessageGone.into()),
    }
}

/// The headers that tell how the transfer went.
fn status_headers(message: &Message) -> Vec<(&'static HeaderName, String)> {
    let transferred = |event: &&Event| matches!(event.status, Status::Accepted | Status::Error);
    let at = message
        .events
        .iter()
        .find(transferred)
        .map_or(message.created, |event| event.at);
    let mut headers = vec![(&names::MEX_STATUS_TIMESTAMP, views::compact(at))];
    let mut put =
        |name: &'static HeaderName, text: Option<&str>| headers.push((name, text.unwrap_or_default().to_owned()));
    match views::failure(message) {
        None if message.report => put(&names::MEX_STATUS_SUCCESS, Some("ERROR")),
        None => {
            put(&names::MEX_STATUS_CODE, Some("00"));
            put(&names::MEX_STATUS_EVENT, Some("TRANSFER"));
            put(&names::MEX_STATUS_DESCRIPTION, Some("Transferred to recipient mailbox"));
            put(&names::MEX_STATUS_SUCCESS, Some("SUCCESS"));
        }
        Some(failure) => {
            put(&names::MEX_LINKED_MESSAGE_ID, failure.linked.as_deref());
            put(&names::MEX_STATUS_CODE, failure.code.as_deref());
            put(&names::MEX_STATUS_EVENT, failure.event.as_deref());
            put(&names::MEX_STATUS_DESCRIPTION, failure.description.as_deref());
            put(&names::MEX_STATUS_SUCCESS, Some("ERROR"));
        }
    }
    headers
}

/// Version 2 gives a message in one chunk its own content type; otherwise the bytes are but bytes.
fn content_type(message: &Message, version: Version) -> HeaderValue {
    let own = message.metadata.content_type.as_deref().and_then(views::header_value);
    match version {
        Version::V2 if message.chunks < 2 => own.unwrap_or(OCTET_STREAM),
        Version::V1 | Version::V2 => OCTET_STREAM,
    }
}
