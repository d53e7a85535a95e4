//! Test-only calls: reports, events, resets, details. The router finds them in the sandbox alone.

use super::access::MayTest;
use super::errors::{CODE_UNDELIVERED, Failure, Field, Place, Refused};
use super::routes::TestCall;
use super::views::{self, Traced, Version};
use super::{Answer, Asked, Mesh};
use crate::auth::Caller;
use crate::http::RequestBody;
use crate::services::mesh::MailboxId;
use crate::services::mesh::command::{Command, Mailbox, Outcome, Status};
use crate::services::mesh::state;
use ::http::StatusCode;
use serde_json::{Value, json};

/// Largest JSON body of a test-only call.
const JSON_BYTES_MAX: usize = 16 * 1024;
/// Longest text in one.
const TEXT_CHARS_MAX: usize = 1000;

impl Mesh {
    /// Test-only calls.
    pub(super) async fn test(
        &self,
        call: TestCall,
        asked: &Asked,
        _caller: &Caller,
        _grant: MayTest,
        body: &mut RequestBody,
    ) -> Result<Answer, Failure> {
        match call {
            TestCall::Report => self.report(body).await,
            TestCall::AddEvent => self.add_event(asked, body).await,
            TestCall::Reset => {
                self.propose(&Command::Reset { mailbox: None }, &[]).await?;
                Ok(answer(json!({"message": "all mailboxes reset"}), "all"))
            }
            TestCall::ResetMailbox => {
                let mailbox = self.known(&asked.parameters.mailbox)?;
                self.propose(
                    &Command::Reset {
                        mailbox: Some(mailbox.id.clone()),
                    },
                    &[],
                )
                .await?;
                let message = format!("mailbox {} reset", mailbox.id);
                Ok(answer(json!({"message": message}), mailbox.id.as_str()))
            }
            TestCall::MailboxDetails => {
                let mailbox = self.known(&asked.parameters.mailbox)?;
                let response = views::json(StatusCode::OK, Version::V1, &views::mailbox_details(&mailbox));
                Ok(Answer::new(response, mailbox.id.as_str()))
            }
            TestCall::MessageDetails => self.message_details(asked),
        }
    }

    fn known(&self, mailbox: &str) -> Result<Mailbox, Failure> {
        let found = MailboxId::parse(mailbox).and_then(|id| state::mailbox(&self.ledger, &id));
        found.ok_or_else(|| Refused::MailboxUnknown.into())
    }

    fn message_details(&self, asked: &Asked) -> Result<Answer, Failure> {
        let id = asked.message()?;
        let message = state::message(&self.ledger, &id).ok_or(Refused::MessageUnknown)?;
        let sender = message
            .sender
            .as_ref()
            .and_then(|sender| state::mailbox(&self.ledger, sender));
        let recipient = state::mailbox(&self.ledger, &message.recipient);
        let traced = Traced {
            message: &message,
            sender: sender.as_ref(),
            recipient: recipient.as_ref(),
        };
        Ok(answer(views::message_details(&traced), id.as_str()))
    }

    /// POST …/admin/report. Without a status it is a non-delivery report, with the code and words of one.
    async fn report(&self, body: &mut RequestBody) -> Result<Answer, Failure> {
        let json = read_json(body).await?;
        let mailbox = self.known(&required(&json, "mailbox_id")?)?;
        let code = required(&json, "code")?;
        let description = required(&json, "description")?;
        let workflow = required(&json, "workflow_id")?;
        let subject = optional(&json, "subject")?;
        let undeliverable = match optional(&json, "status")?.as_deref().map(views::status_named) {
            None | Some(Some(Status::Undeliverable)) => true,
            Some(Some(Status::Error)) => false,
            Some(None | Some(Status::Uploading | Status::Accepted | Status::Acknowledged)) => {
                return Err(fault("status", "must be error or undeliverable", "enum").into());
            }
        };
        let command = Command::Report {
            mailbox: mailbox.id.clone(),
            code: if undeliverable {
                CODE_UNDELIVERED.to_owned()
            } else {
                code
            },
            description: if undeliverable { not_collected() } else { description },
            workflow,
            subject: if undeliverable {
                Some(non_delivery_subject(subject))
            } else {
                subject
            },
            local_id: optional(&json, "local_id")?,
            file_name: optional(&json, "file_name")?.filter(|_| !undeliverable),
            linked: optional(&json, "linked_message_id")?,
        };
        match self.propose(&command, &[]).await? {
            Outcome::Sent { message, .. } => Ok(answer(json!({"message_id": message.as_str()}), message.as_str())),
            Outcome::Done | Outcome::Swept { .. } | Outcome::Refused(_) => Err(Refused::OutcomeUnknown.into()),
        }
    }

    /// POST …/admin/message/{message}/event.
    async fn add_event(&self, asked: &Asked, body: &mut RequestBody) -> Result<Answer, Failure> {
        let json = read_json(body).await?;
        let id = asked.message()?;
        let status = views::status_named(&required(&json, "status")?).ok_or_else(|| {
            fault(
                "status",
                "must be uploading, accepted, acknowledged, undeliverable or error",
                "enum",
            )
        })?;
        let command = Command::AddEvent {
            message: id.clone(),
            status,
            code: optional(&json, "code")?,
            event: optional(&json, "event")?,
            description: optional(&json, "description")?,
            linked: optional(&json, "linked_message_id")?,
        };
        self.propose(&command, &[])
            .await
            .map_err(|failure| failure.about(&id))?;
        Ok(Answer::about(views::empty(StatusCode::OK), &id))
    }
}

/// What a non-delivery report says.
fn not_collected() -> String {
    let days = state::INBOX_MS / (24 * 3600 * 1000);
    format!("Message not collected by recipient after {days} days")
}

fn non_delivery_subject(subject: Option<String>) -> String {
    match subject.filter(|subject| !subject.is_empty()) {
        Some(subject) => format!("NDR: {subject}"),
        None => "NDR".to_owned(),
    }
}

fn answer(body: Value, subject: &str) -> Answer {
    Answer::new(views::json(StatusCode::OK, Version::V1, &body), subject)
}

async fn read_json(body: &mut RequestBody) -> Result<Value, Failure> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.next().await {
        bytes.extend_from_slice(&piece?);
        if bytes.len() > JSON_BYTES_MAX {
            return Err(crate::http::BodyError::TooLarge(JSON_BYTES_MAX as u64).into());
        }
    }
    let json: Option<Value> = serde_json::from_slice(&bytes).ok().filter(Value::is_object);
    json.ok_or_else(|| fault("body", "must be a JSON object", "json_invalid").into())
}

fn fault(name: &'static str, msg: &str, kind: &'static str) -> Field {
    Field {
        place: Place::Body,
        name,
        msg: msg.to_owned(),
        kind,
    }
}

fn required(json: &Value, name: &'static str) -> Result<String, Field> {
    optional(json, name)?.ok_or_else(|| fault(name, "is required", "missing"))
}

/// Only what a header can carry, since it is given back as one.
fn optional(json: &Value, name: &'static str) -> Result<Option<String>, Field> {
    match &json[name] {
        Value::Null => Ok(None),
        Value::String(text) if text.chars().count() > TEXT_CHARS_MAX => Err(fault(
            name,
            &format!("must have at most {TEXT_CHARS_MAX} characters"),
            "string_too_long",
        )),
        Value::String(text) if views::header_value(text).is_none() => Err(fault(
            name,
            "must be Latin-1 text without control characters",
            "string_characters",
        )),
        Value::String(text) => Ok(Some(text.clone())),
        Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            Err(fault(name, "must be a text", "string_type"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_a_json_body_are_checked() {
        let json = json!({"a": "text", "n": 1, "long": "x".repeat(1001), "control": "a\nb", "wide": "\u{4e2d}"});
        assert_eq!(required(&json, "a"), Ok("text".to_owned()));
        assert_eq!(optional(&json, "absent"), Ok(None));
        for (name, kind) in [
            ("absent", "missing"),
            ("n", "string_type"),
            ("long", "string_too_long"),
            ("control", "string_characters"),
            ("wide", "string_characters"),
        ] {
            assert_eq!(required(&json, name).map_err(|field| field.kind), Err(kind));
        }
    }

    #[test]
    fn a_non_delivery_report_says_so() {
        assert_eq!(not_collected(), "Message not collected by recipient after 5 days");
        assert_eq!(non_delivery_subject(None), "NDR");
        assert_eq!(non_delivery_subject(Some("x".into())), "NDR: x");
    }
}
