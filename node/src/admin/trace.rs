//! The life of one message or one request, from state and from the audit chain. Identifiers only: no subject, file
//! name, local id or body.

use super::{Admin, Answer, Refused};
use crate::audit::{self, Entry, Head};
use crate::base::{RequestId, is_uuid};
use crate::journal::Journal;
use crate::services::mesh::MessageId;
use crate::services::mesh::state::{self, Message};
use serde::{Deserialize, Serialize};

/// Audit entries shown at most.
pub const ENTRIES_MAX: usize = 1_000;

/// The answer of `GET /admin/trace/ID`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trace {
    /// What was asked for.
    pub id: String,
    /// The message, when it is one and not purged yet.
    pub message: Option<TracedMessage>,
    /// What happened, oldest first: from state and from the audit chain together.
    pub steps: Vec<Step>,
    /// There are more audit entries than are shown.
    pub cut: bool,
}

/// What may be shown of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracedMessage {
    /// From; absent on a report.
    pub sender: Option<String>,
    /// To.
    pub recipient: String,
    /// Workflow.
    pub workflow: String,
    /// Status now.
    pub status: String,
    /// A report, not data.
    pub report: bool,
    /// Chunks in all.
    pub chunks: u32,
    /// Bytes in all.
    pub bytes: u64,
    /// When the first chunk came, ISO.
    pub created: String,
    /// When it leaves the inbox unless acknowledged, ISO.
    pub expires: String,
}

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Step {
    /// When, ISO.
    pub at: String,
    /// `state` or `audit`.
    pub source: String,
    /// Who, where the audit tells.
    pub actor: String,
    /// What.
    pub action: String,
    /// How it ended.
    pub outcome: String,
    /// In which request, where the audit tells.
    pub request: String,
}

impl TracedMessage {
    fn of(message: &Message) -> TracedMessage {
        TracedMessage {
            sender: message.sender.as_ref().map(ToString::to_string),
            recipient: message.recipient.to_string(),
            workflow: message.metadata.workflow.clone(),
            status: format!("{:?}", message.status()),
            report: message.report,
            chunks: message.chunks,
            bytes: message.bytes,
            created: message.created.iso(),
            expires: message.expires.iso(),
        }
    }
}

/// The audit entries about a message or of a request; blocking, reads the whole chain.
fn entries_blocking(journal: &Journal, id: &str, request: Option<RequestId>) -> Result<(Vec<Step>, bool), Refused> {
    let mut steps = Vec::new();
    let mut cut = false;
    let mut each = |_: Head, _: [u8; 32], entry: &Entry| {
        let fits = Some(entry.request) == request
            || entry.client_request == id
            || entry.subject.split(['/', ' ']).any(|part| part == id);
        if fits && steps.len() == ENTRIES_MAX {
            cut = true;
            return false;
        }
        if fits {
            steps.push(Step {
                at: entry.at.iso(),
                source: "audit".to_owned(),
                actor: entry.actor.clone(),
                action: entry.action.clone(),
                outcome: entry.outcome.clone(),
                request: entry.request.to_string(),
            });
        }
        true
    };
    audit::query_blocking(journal, 0, &mut each).map_err(|cause| {
        tracing::error!(%cause, "the audit chain could not be read for a trace");
        Refused::Failed
    })?;
    Ok((steps, cut))
}

/// A request's identifier: 16 hexadecimal digits.
pub(super) fn request_id(text: &str) -> Option<RequestId> {
    (text.len() == 16)
        .then(|| u64::from_str_radix(text, 16).ok())
        .flatten()
        .map(RequestId)
}

impl Admin {
    pub(super) async fn trace(&self, text: &str, asked_by: RequestId) -> Result<Answer, Refused> {
        let message_id = MessageId::parse(text);
        let request = request_id(text);
        if message_id.is_none() && request.is_none() && !is_uuid(text) {
            let what = "a trace takes a message (27 characters, 20260101…_1B8F53), a request (16 hexadecimal digits) or a \
                        client's X-Request-ID (a UUID)";
            return Err(Refused::Malformed(what.to_owned()));
        }
        let message = message_id.as_ref().and_then(|id| state::message(&self.ledger, id));
        let id = message_id
            .as_ref()
            .map_or_else(|| text.to_ascii_lowercase(), ToString::to_string);
        let (journal, wanted) = (self.journal.clone(), id.clone());
        let (mut steps, cut) = tokio::task::spawn_blocking(move || entries_blocking(&journal, &wanted, request))
            .await
            .map_err(|_| Refused::Failed)??;
        if message.is_none() && steps.is_empty() {
            return Err(Refused::Unknown(format!("{id} (or it was purged)")));
        }
        for event in message.iter().flat_map(|message| &message.events) {
            steps.push(Step {
                at: event.at.iso(),
                source: "state".to_owned(),
                actor: String::new(),
                action: format!("became {:?}", event.status),
                outcome: event.code.clone().unwrap_or_default(),
                request: String::new(),
            });
        }
        steps.sort();
        self.record(asked_by, "admin.trace", &id, "200").await?;
        let message = message.as_ref().map(TracedMessage::of);
        Ok(Answer::ok(&Trace {
            id,
            message,
            steps,
            cut,
        }))
    }
}
