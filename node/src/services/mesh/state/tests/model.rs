//! What the rules say, in the simplest words: vectors, searched from end to end. Written against the documentation of
//! the commands, not against the code that is judged.

use super::super::tables::NONCE_PERIOD_MS;
use super::*;

/// A chunk: its digest, length and what it holds.
#[derive(Clone, Copy)]
pub(super) struct ModelPart {
    digest: Digest,
    bytes: u64,
    held: Held,
}

/// A message.
pub(super) struct ModelMessage {
    pub id: MessageId,
    pub sender: Option<String>,
    pub recipient: String,
    pub metadata: Metadata,
    pub chunks: u32,
    pub parts: Vec<Option<ModelPart>>,
    pub status: Status,
    pub created: Timestamp,
    pub arrived: Timestamp,
    pub expires: Timestamp,
    pub sequence: u64,
    pub linked: Option<MessageId>,
    pub released: bool,
    delivered: bool,
    retried: bool,
    /// The digest of the first chunk as first posted, while a retry may be answered with this message.
    retry: Option<Digest>,
}

impl ModelMessage {
    pub fn bytes(&self) -> u64 {
        self.parts.iter().flatten().map(|part| part.bytes).sum()
    }

    fn purge_at(&self) -> Timestamp {
        self.arrived.plus_ms(PURGE_MS)
    }

    /// Where a chunk is, when it may be downloaded.
    pub fn stored(&self, chunk: u32) -> Option<Held> {
        let part = self.parts.get(chunk.checked_sub(1)? as usize)?.as_ref()?;
        (!self.released).then_some(part.held)
    }
}

/// Everything.
#[derive(Default)]
pub(super) struct Model {
    pub mailboxes: Vec<Mailbox>,
    pub workflows: Vec<Workflow>,
    pub messages: Vec<ModelMessage>,
    nonces: Vec<Nonce>,
}

impl Model {
    pub fn apply(&mut self, at: At, command: &Command) -> Outcome {
        if let Some(nonce) = command.nonce() {
            let hour_end_ms = (nonce.stamped.ms() / NONCE_PERIOD_MS + 1) * NONCE_PERIOD_MS;
            let known = self.nonces.iter().any(|spent| spent == nonce);
            if known || at.time.ms() >= hour_end_ms + NONCE_KEPT_MS {
                return refused(Refusal::Replayed);
            }
            self.nonces.push(nonce.clone());
        }
        self.judge(at, command).unwrap_or_else(Outcome::Refused)
    }

    fn judge(&mut self, at: At, command: &Command) -> Result<Outcome, Refusal> {
        match command {
            Command::PutMailbox(mailbox) => {
                self.mailboxes.retain(|other| other.id != mailbox.id);
                self.mailboxes.push(mailbox.clone());
                Ok(Outcome::Done)
            }
            Command::PutWorkflow(workflow) => {
                self.workflows.retain(|other| other.id != workflow.id);
                self.workflows.push(workflow.clone());
                Ok(Outcome::Done)
            }
            Command::Send {
                sender,
                recipient,
                metadata,
                chunks,
                body,
                ..
            } => self.send(at, sender, recipient, metadata, *chunks, body),
            Command::SendChunk {
                sender,
                message,
                chunk,
                chunks,
                content_encoding,
                body,
                ..
            } => self.send_chunk(at, sender, message, (*chunk, *chunks), content_encoding, body),
            Command::Acknowledge { mailbox, message, .. } => self.acknowledge(mailbox, message),
            Command::Handshake { mailbox, .. } => {
                self.active(mailbox).ok_or(Refusal::UnknownMailbox)?;
                Ok(Outcome::Done)
            }
            Command::Spend { .. } => Ok(Outcome::Done),
            Command::Reset { mailbox } => {
                self.messages.retain(|message| match mailbox {
                    None => false,
                    Some(mailbox) => {
                        let name = mailbox.as_str();
                        message.recipient != name && message.sender.as_deref() != Some(name)
                    }
                });
                Ok(Outcome::Done)
            }
            Command::AddEvent { message, status, .. } => self.add_event(at, message, *status),
            Command::Sweep { .. } | Command::Report { .. } => {
                unreachable!("the model sweeps whole, and is sent no reports")
            }
        }
    }

    fn active(&self, id: &MailboxId) -> Option<Mailbox> {
        self.mailboxes
            .iter()
            .find(|mailbox| mailbox.id == *id && mailbox.active)
            .cloned()
    }

    fn find(&mut self, id: &MessageId) -> Option<&mut ModelMessage> {
        self.messages.iter_mut().find(|message| message.id == *id)
    }

    fn send(
        &mut self,
        at: At,
        sender: &MailboxId,
        recipient: &MailboxId,
        metadata: &Metadata,
        chunks: u32,
        body: &Body,
    ) -> Result<Outcome, Refusal> {
        let mailbox = self.active(sender).ok_or(Refusal::UnknownMailbox)?;
        self.active(recipient).ok_or(Refusal::UnknownRecipient)?;
        if let Some(workflow) = self.workflows.iter().find(|workflow| workflow.id == metadata.workflow) {
            if !workflow.senders.is_empty() && !workflow.senders.contains(sender) {
                return Err(Refusal::SenderNotAllowed);
            }
            if !workflow.receivers.is_empty() && !workflow.receivers.contains(recipient) {
                return Err(Refusal::RecipientNotAllowed);
            }
        }
        let wants_retry = mailbox.safe_retry && metadata.local_id.as_ref().is_some_and(|local_id| !local_id.is_empty());
        if wants_retry {
            let first = self.messages.iter_mut().rev().find(|message| {
                message.sender.as_deref() == Some(sender.as_str())
                    && message.recipient == recipient.as_str()
                    && message.metadata == *metadata
                    && message.chunks == chunks
                    && message.retry == Some(body.digest())
                    && at.time.since_ms(message.created) < SAFE_RETRY_MS
            });
            if let Some(first) = first
                && matches!(
                    first.status,
                    Status::Uploading | Status::Accepted | Status::Acknowledged
                )
            {
                first.retried |= first.status == Status::Uploading;
                return Ok(repeated(&first.id));
            }
        }
        let part = part_of(at, body)?;
        let mut parts = vec![None; chunks as usize];
        parts[0] = Some(part);
        let mut message = ModelMessage {
            id: MessageId::new(at.time, at.index),
            sender: Some(sender.to_string()),
            recipient: recipient.to_string(),
            metadata: metadata.clone(),
            chunks,
            parts,
            status: Status::Uploading,
            created: at.time,
            arrived: at.time,
            expires: at.time.plus_ms(INBOX_MS),
            sequence: 0,
            linked: None,
            released: false,
            delivered: false,
            retried: false,
            retry: wants_retry.then(|| body.digest()),
        };
        if chunks == 1 {
            deliver(at, &mut message, 0);
        }
        let outcome = taken(&message.id);
        self.messages.push(message);
        Ok(outcome)
    }

    fn send_chunk(
        &mut self,
        at: At,
        sender: &MailboxId,
        id: &MessageId,
        (chunk, chunks): (u32, u32),
        content_encoding: &Option<String>,
        body: &Body,
    ) -> Result<Outcome, Refusal> {
        let mailbox = self.active(sender).ok_or(Refusal::UnknownMailbox)?;
        let message = self.find(id).ok_or(Refusal::UnknownMessage)?;
        if message.sender.as_deref() != Some(sender.as_str()) {
            return Err(Refusal::NotYours);
        }
        let place = (chunk as usize).wrapping_sub(1);
        let earlier = message.parts.get(place).copied().flatten();
        let equal = earlier.is_some_and(|part| part.digest == body.digest());
        match message.status {
            Status::Uploading => {}
            Status::Accepted | Status::Acknowledged => {
                // A message of one chunk, once collected, knows nothing of its content any more.
                let known = earlier.is_some() && !(message.chunks == 1 && message.released);
                if known && equal && mailbox.safe_retry && at.time.since_ms(message.arrived) < SAFE_RETRY_MS {
                    return Ok(repeated(id));
                }
                if known && !equal && message.chunks > 1 {
                    message.retry = None;
                }
                return Err(Refusal::AlreadyComplete);
            }
            Status::Undeliverable | Status::Error => return Err(Refusal::AlreadyComplete),
        }
        if place >= message.parts.len() {
            return Err(Refusal::ChunkBeyondEnd);
        }
        if *content_encoding != message.metadata.content_encoding {
            return Err(Refusal::ContentEncodingChanged);
        }
        if chunks != message.chunks {
            return Err(Refusal::ChunkTotalChanged);
        }
        if equal {
            return Ok(repeated(id));
        }
        if earlier.is_some() && message.retried {
            message.retry = None;
            return Err(Refusal::AlreadyComplete);
        }
        message.parts[place] = Some(part_of(at, body)?);
        if place == 0 {
            message.retry = None;
        }
        if message.parts.iter().all(Option::is_some) {
            deliver(at, message, 0);
        }
        Ok(taken(id))
    }

    fn acknowledge(&mut self, mailbox: &MailboxId, id: &MessageId) -> Result<Outcome, Refusal> {
        self.active(mailbox).ok_or(Refusal::UnknownMailbox)?;
        let message = self.find(id).ok_or(Refusal::UnknownMessage)?;
        if message.recipient != mailbox.as_str() {
            return Err(Refusal::NotYours);
        }
        match message.status {
            Status::Accepted | Status::Acknowledged => {
                message.status = Status::Acknowledged;
                message.released = true;
                Ok(Outcome::Done)
            }
            Status::Uploading | Status::Undeliverable | Status::Error => Err(Refusal::Gone),
        }
    }

    fn add_event(&mut self, at: At, id: &MessageId, status: Status) -> Result<Outcome, Refusal> {
        let message = self.find(id).ok_or(Refusal::UnknownMessage)?;
        let whole = message.parts.iter().all(Option::is_some) && (message.chunks == 0 || !message.released);
        match status {
            Status::Uploading if message.status != Status::Uploading => return Err(Refusal::Gone),
            Status::Accepted if !whole => return Err(Refusal::Gone),
            Status::Accepted if message.status != Status::Accepted => deliver(at, message, 0),
            Status::Acknowledged => message.released = true,
            Status::Uploading | Status::Accepted | Status::Undeliverable | Status::Error => {}
        }
        message.status = status;
        Ok(Outcome::Done)
    }

    /// Everything that is due; `index_of` tells at which command the real sweep reached a message's report.
    pub fn sweep(&mut self, now: Timestamp, reports: &mut dyn FnMut(&MessageId) -> u64) {
        loop {
            let due = self.messages.iter_mut().filter(|message| {
                matches!(message.status, Status::Uploading | Status::Accepted) && message.expires <= now
            });
            // In the order in which they are due; those due at one moment in order of identifier.
            let Some(message) = due.min_by(|a, b| (a.expires, &a.id).cmp(&(b.expires, &b.id))) else {
                break;
            };
            message.released |= message.status == Status::Uploading;
            message.status = Status::Undeliverable;
            let Some(sender) = message.sender.clone() else { continue };
            let id = MessageId::of_report(now, &message.id);
            let metadata = Metadata {
                workflow: message.metadata.workflow.clone(),
                subject: message.metadata.subject.clone(),
                local_id: message.metadata.local_id.clone(),
                ..Metadata::default()
            };
            let linked = Some(message.id.clone());
            self.messages.push(ModelMessage {
                sequence: reports(&id),
                id,
                sender: None,
                recipient: sender,
                metadata,
                chunks: 0,
                parts: Vec::new(),
                status: Status::Accepted,
                created: now,
                arrived: now,
                expires: now.plus_ms(INBOX_MS),
                linked,
                released: true,
                delivered: true,
                retried: false,
                retry: None,
            });
        }
        self.messages.retain(|message| message.purge_at() > now);
    }

    /// What is waiting, in order.
    pub fn inbox(&self, mailbox: &str) -> Vec<&ModelMessage> {
        let mut waiting: Vec<&ModelMessage> = self
            .messages
            .iter()
            .filter(|message| message.recipient == mailbox && message.status == Status::Accepted)
            .collect();
        waiting.sort_by_key(|message| message.sequence);
        waiting
    }

    /// Received and sent, in order of identifier.
    pub fn by_time(&self, chosen: impl Fn(&ModelMessage) -> bool) -> Vec<MessageId> {
        let mut ids: Vec<MessageId> = self
            .messages
            .iter()
            .filter(|message| chosen(message))
            .map(|message| message.id.clone())
            .collect();
        ids.sort();
        ids
    }

    pub fn is_received(message: &ModelMessage) -> bool {
        message.delivered
    }

    /// What must be held.
    pub fn held(&self) -> BTreeSet<Held> {
        let live = self.messages.iter().filter(|message| !message.released);
        live.flat_map(|message| message.parts.iter().flatten().map(|part| part.held))
            .collect()
    }
}

fn deliver(at: At, message: &mut ModelMessage, nth: u64) {
    if !message.delivered {
        message.arrived = at.time;
    }
    message.delivered = true;
    message.status = Status::Accepted;
    message.expires = at.time.plus_ms(INBOX_MS);
    message.sequence = at.index * SEQUENCES_PER_COMMAND + nth + 1;
}

fn part_of(at: At, body: &Body) -> Result<ModelPart, Refusal> {
    let held = match body {
        Body::Inline { .. } => Held::Entry(at.index),
        Body::Upload(manifest) if at.time.ms() >= manifest.upload.started().ms() + UPLOAD_LEASE_MS => {
            return Err(Refusal::UploadExpired);
        }
        Body::Upload(manifest) => Held::Upload(manifest.upload),
    };
    Ok(ModelPart {
        digest: body.digest(),
        bytes: body.bytes(),
        held,
    })
}
