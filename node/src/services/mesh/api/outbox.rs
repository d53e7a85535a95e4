//! Sending: a message, and its further chunks.
//!
//! A body of at most 32 KiB travels inside its command. A larger one is written to the bodies' stream piece by piece as
//! it arrives, is durable before the command that names it is proposed, and is never whole in memory. When the client
//! breaks off, no command is proposed and the pieces are orphans.

use super::access::{MailboxCaller, MayWrite};
use super::errors::{Failure, Refused};
use super::input::{self, Sending};
use super::routes::CHUNK_HEADERS;
use super::views::{self, Version};
use super::{Answer, Asked, Mesh, names};
use crate::base::Digest;
use crate::base::limits::BODY_INLINE_BYTES_MAX;
use crate::http::RequestBody;
use crate::services::mesh::command::{Body, Command, Outcome, Status};
use crate::services::mesh::{MailboxId, MessageId, state};
use ::http::StatusCode;
use bytes::{Bytes, BytesMut};

/// A body as received: what the command says of it, and its tail.
struct Received {
    body: Body,
    tail: Bytes,
}

impl Mesh {
    /// POST /{mailbox}/outbox.
    pub(super) async fn send(
        &self,
        asked: &Asked,
        caller: &MailboxCaller,
        grant: MayWrite,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        let Sending {
            recipient,
            metadata,
            chunks,
        } = input::sending(&asked.head.headers, &caller.mailbox)?;
        if self.restrict_workflows && state::workflow(&self.ledger, &metadata.workflow).is_none() {
            return Err(Refused::RecipientNotAllowed.into());
        }
        let received = self.receive(body, || self.recipient_exists(&recipient)).await?;
        if received.body.bytes() == 0 {
            return Err(Refused::DataMissing.into());
        }
        let command = Command::Send {
            nonce: grant.nonce(),
            sender: caller.mailbox.clone(),
            recipient,
            metadata,
            chunks,
            body: received.body,
        };
        let message = sent(self.propose(&command, &received.tail).await?)?;
        let response = match asked.version {
            Version::V1 => {
                let view = views::SentV1 {
                    message: message.as_str(),
                    chunk: None,
                };
                views::json(StatusCode::ACCEPTED, Version::V1, &view)
            }
            Version::V2 => views::json(
                StatusCode::ACCEPTED,
                Version::V2,
                &views::SentV2 {
                    message_id: message.as_str(),
                },
            ),
        };
        Ok(Answer::about(response, &message))
    }

    /// POST /{mailbox}/outbox/{message}/{chunk}.
    pub(super) async fn send_chunk(
        &self,
        asked: &Asked,
        caller: &MailboxCaller,
        grant: MayWrite,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        let headers = &asked.head.headers;
        let chunk = asked.chunk()?;
        input::required(headers, CHUNK_HEADERS)?;
        let message = asked.message()?;
        let about = |failure: Failure| failure.about(&message);
        let range = input::text(headers, &names::MEX_CHUNK_RANGE).unwrap_or_default();
        let chunks = input::chunk_range(range.trim(), chunk).ok_or_else(|| about(Refused::ChunkRange.into()))?;
        let content_encoding = input::content_encoding(headers).map_err(|_| about(Refused::EncodingChanged.into()))?;
        let received = self
            .receive(body, || self.takes_chunks(&caller.mailbox, &message))
            .await
            .map_err(about)?;
        let command = Command::SendChunk {
            nonce: grant.nonce(),
            sender: caller.mailbox.clone(),
            message: message.clone(),
            chunk,
            chunks,
            content_encoding,
            body: received.body,
        };
        self.propose(&command, &received.tail).await.map_err(about)?;
        let response = match asked.version {
            Version::V1 => {
                let view = views::SentV1 {
                    message: message.as_str(),
                    chunk: Some(chunk),
                };
                views::json(StatusCode::ACCEPTED, Version::V1, &view)
            }
            Version::V2 => views::json(
                StatusCode::ACCEPTED,
                Version::V2,
                &views::SentV2 {
                    message_id: message.as_str(),
                },
            ),
        };
        Ok(Answer::about(response, &message))
    }

    /// Reads a body. `worthwhile` is asked before anything is written to disk: whether the command has a chance.
    async fn receive(
        &self,
        body: &mut RequestBody,
        worthwhile: impl FnOnce() -> Result<(), Failure>,
    ) -> Result<Received, Failure> {
        let mut inline = BytesMut::new();
        let mut only: Option<Bytes> = None;
        while let Some(bytes) = body.next().await {
            let bytes = bytes?;
            if inline.len() + only.as_ref().map_or(0, Bytes::len) + bytes.len() > BODY_INLINE_BYTES_MAX {
                worthwhile()?;
                let first = only.take().unwrap_or_else(|| inline.split().freeze());
                return self.upload(first, bytes, body).await;
            }
            // Most small bodies come in one piece, which is then never copied.
            match only.take() {
                None if inline.is_empty() => only = Some(bytes),
                None => inline.extend_from_slice(&bytes),
                Some(first) => {
                    inline.extend_from_slice(&first);
                    inline.extend_from_slice(&bytes);
                }
            }
        }
        let tail = only.unwrap_or_else(|| inline.freeze());
        let bytes = u32::try_from(tail.len()).expect("an inline body is at most 32 KiB");
        Ok(Received {
            body: Body::Inline {
                bytes,
                digest: Digest::of(&tail),
            },
            tail,
        })
    }

    async fn upload(&self, first: Bytes, second: Bytes, body: &mut RequestBody) -> Result<Received, Failure> {
        let mut upload = self.bodies.begin(self.log.time());
        for bytes in [first, second] {
            upload.write(bytes).await.map_err(|_| Refused::CannotWrite)?;
        }
        while let Some(bytes) = body.next().await {
            upload.write(bytes?).await.map_err(|_| Refused::CannotWrite)?;
        }
        let manifest = upload.finish().await.map_err(|_| Refused::CannotWrite)?;
        Ok(Received {
            body: Body::Upload(manifest),
            tail: Bytes::new(),
        })
    }

    fn recipient_exists(&self, recipient: &MailboxId) -> Result<(), Failure> {
        match state::mailbox(&self.ledger, recipient) {
            Some(mailbox) if mailbox.active => Ok(()),
            Some(_) | None => Err(Refused::RecipientUnknown.into()),
        }
    }

    /// Whether a message could take a chunk of `sender`. What it says is not binding: the command is judged in the log.
    fn takes_chunks(&self, sender: &MailboxId, message: &MessageId) -> Result<(), Failure> {
        let message = state::message(&self.ledger, message).ok_or(Refused::MessageUnknown)?;
        if message.sender.as_ref() != Some(sender) {
            return Err(Refused::MessageForeign.into());
        }
        match message.status() {
            // A complete message still confirms a chunk that is in already.
            Status::Uploading | Status::Accepted | Status::Acknowledged => Ok(()),
            Status::Undeliverable | Status::Error => Err(Refused::MessageComplete.into()),
        }
    }
}

/// The message of an accepted send.
fn sent(outcome: Outcome) -> Result<MessageId, Failure> {
    match outcome {
        Outcome::Sent { message, .. } => Ok(message),
        Outcome::Done | Outcome::Swept { .. } => Err(Refused::OutcomeUnknown.into()),
        Outcome::Refused(refusal) => Err(refusal.into()),
    }
}
