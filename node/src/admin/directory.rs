//! Mailboxes and workflows: listed, added, changed.

use super::{Admin, Answer, Refused, query_value};
use crate::base::{OdsCode, RequestId};
use crate::services::mesh::MailboxId;
use crate::services::mesh::command::{Command, Mailbox, Outcome, Workflow};
use crate::services::mesh::state;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// Mailboxes or clients on one page when the caller does not say.
const PAGE_DEFAULT: usize = 500;
/// And at most.
const PAGE_MAX: usize = 5_000;
/// Members of one workflow.
const MEMBERS_MAX: usize = 1_000;

/// What an operator sees of a mailbox: everything but its password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxView {
    /// Identifier.
    pub id: String,
    /// Name.
    pub name: String,
    /// ODS code.
    pub ods: String,
    /// Organisation name.
    pub organisation: String,
    /// Billing entity.
    pub billing_entity: String,
    /// May be used.
    pub active: bool,
    /// A retried send gives the first message id.
    pub safe_retry: bool,
    /// Messages waiting.
    pub waiting: u64,
    /// Arrival of the oldest, ISO.
    pub oldest: Option<String>,
    /// Last handshake or write, ISO.
    pub last_seen: Option<String>,
}

/// What a PUT changes; what is left out stays, or takes its default in a new mailbox.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MailboxChange {
    /// Name shown in look-ups; default: the identifier.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// ODS code; required in a new mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ods: Option<String>,
    /// Organisation name; default empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organisation: Option<String>,
    /// Billing entity; default empty.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub billing_entity: Option<String>,
    /// Password, 1 to 200 characters; required in a new mailbox.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// May be used; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// Safe retry of sends; default true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub safe_retry: Option<bool>,
    /// Refuse when the mailbox exists already (`mailbox add`).
    #[serde(default)]
    pub only_new: bool,
}

impl std::fmt::Debug for MailboxChange {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MailboxChange")
    }
}

/// What a PUT of a workflow sets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkflowChange {
    /// Mailboxes that send it; empty: every one.
    #[serde(default)]
    pub senders: Vec<String>,
    /// Mailboxes that receive it; empty: every one.
    #[serde(default)]
    pub receivers: Vec<String>,
}

/// Reads a JSON body. The refusal tells where, never what: a body may hold a password.
pub(super) fn parse<T: for<'a> Deserialize<'a>>(body: &[u8]) -> Result<T, Refused> {
    serde_json::from_slice(body).map_err(|e| {
        let what = if e.is_data() {
            "a field is missing, unknown or of the wrong type"
        } else {
            "it is not JSON"
        };
        Refused::Malformed(format!(
            "the body cannot be read at line {} column {}: {what}",
            e.line(),
            e.column()
        ))
    })
}

pub(super) fn malformed(what: impl Into<String>) -> Refused {
    Refused::Malformed(what.into())
}

fn mailbox_id(text: &str) -> Result<MailboxId, Refused> {
    MailboxId::parse(text).ok_or_else(|| malformed("a mailbox is 1 to 100 letters, digits, '_' or '-'"))
}

/// Text that is shown in headers, tables and logs: no control characters, bounded.
pub(super) fn plain(name: &str, text: &str, chars_max: usize) -> Result<String, Refused> {
    if text.chars().count() > chars_max || text.chars().any(char::is_control) {
        return Err(malformed(format!(
            "{name} is at most {chars_max} characters, none of them a control character"
        )));
    }
    Ok(text.to_owned())
}

/// How many of a list are wanted at most.
pub(super) fn page(query: &str) -> Result<usize, Refused> {
    match query_value(query, "max") {
        None => Ok(PAGE_DEFAULT),
        Some(text) => match text.parse() {
            Ok(max) if (1..=PAGE_MAX).contains(&max) => Ok(max),
            Ok(_) | Err(_) => Err(malformed(format!("max is 1 to {PAGE_MAX}"))),
        },
    }
}

impl MailboxChange {
    /// The mailbox after the change; `before` is what there is.
    pub(super) fn onto(self, id: MailboxId, before: Option<Mailbox>) -> Result<Mailbox, Refused> {
        if self.only_new && before.is_some() {
            return Err(malformed(format!(
                "mailbox {id} exists already; change it with `vertebra mailbox set`"
            )));
        }
        let ods = match (&self.ods, &before) {
            (Some(text), _) => {
                OdsCode::parse(text).ok_or_else(|| malformed("an ODS code is 1 to 12 letters and digits"))?
            }
            (None, Some(before)) => before.ods.clone(),
            (None, None) => return Err(malformed("a new mailbox needs an ODS code (--ods)")),
        };
        let password = match (self.password, &before) {
            (Some(text), _) if text.is_empty() => return Err(malformed("the password is empty")),
            (Some(text), _) => plain("the password", &text, 200)?,
            (None, Some(before)) => before.password.clone(),
            (None, None) => return Err(malformed("a new mailbox needs a password (--password-file)")),
        };
        let text = |name: &str, new: Option<String>, old: Option<&String>, default: &str| match new {
            Some(text) => plain(name, &text, 200),
            None => Ok(old.map_or_else(|| default.to_owned(), String::clone)),
        };
        let old = before.as_ref();
        Ok(Mailbox {
            name: text("the name", self.name, old.map(|m| &m.name), id.as_str())?,
            organisation: text("the organisation", self.organisation, old.map(|m| &m.organisation), "")?,
            billing_entity: text(
                "the billing entity",
                self.billing_entity,
                old.map(|m| &m.billing_entity),
                "",
            )?,
            active: self.active.unwrap_or(old.is_none_or(|m| m.active)),
            safe_retry: self.safe_retry.unwrap_or(old.is_none_or(|m| m.safe_retry)),
            id,
            ods,
            password,
        })
    }
}

impl WorkflowChange {
    pub(super) fn onto(self, id: &str) -> Result<Workflow, Refused> {
        if id.is_empty() || id.len() > 300 || id.chars().any(char::is_control) {
            return Err(malformed(
                "a workflow is 1 to 300 characters, none of them a control character",
            ));
        }
        if self.senders.len() > MEMBERS_MAX || self.receivers.len() > MEMBERS_MAX {
            return Err(malformed(format!(
                "a workflow has at most {MEMBERS_MAX} senders and as many receivers"
            )));
        }
        let members = |texts: Vec<String>| texts.iter().map(|text| mailbox_id(text)).collect::<Result<Vec<_>, _>>();
        Ok(Workflow {
            id: id.to_owned(),
            senders: members(self.senders)?,
            receivers: members(self.receivers)?,
        })
    }
}

impl Admin {
    fn view(&self, mailbox: &Mailbox) -> MailboxView {
        let (waiting, oldest) = state::inbox_depth(&self.ledger, &mailbox.id);
        let seen = state::mailbox_use(&self.ledger, &mailbox.id).last_seen;
        MailboxView {
            id: mailbox.id.to_string(),
            name: mailbox.name.clone(),
            ods: mailbox.ods.to_string(),
            organisation: mailbox.organisation.clone(),
            billing_entity: mailbox.billing_entity.clone(),
            active: mailbox.active,
            safe_retry: mailbox.safe_retry,
            waiting,
            oldest: oldest.map(|at| at.iso()),
            last_seen: (seen.ms() > 0).then(|| seen.iso()),
        }
    }

    pub(super) fn mailboxes(&self, query: &str) -> Result<Answer, Refused> {
        let after = query_value(query, "after").map(|text| mailbox_id(&text)).transpose()?;
        let max = page(query)?;
        let page = state::mailboxes(&self.ledger, after.as_ref(), max);
        let next = (page.len() == max)
            .then(|| page.last().map(|m| m.id.to_string()))
            .flatten();
        let mailboxes: Vec<MailboxView> = page.iter().map(|mailbox| self.view(mailbox)).collect();
        Ok(Answer::ok(&json!({ "mailboxes": mailboxes, "next_after": next })))
    }

    pub(super) fn mailbox(&self, text: &str) -> Result<Answer, Refused> {
        let id = mailbox_id(text)?;
        let mailbox = state::mailbox(&self.ledger, &id).ok_or_else(|| Refused::Unknown(format!("mailbox {id}")))?;
        Ok(Answer::ok(&self.view(&mailbox)))
    }

    pub(super) async fn put_mailbox(&self, text: &str, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let mailbox = mailbox_id(text)?;
        let change: MailboxChange = parse(body)?;
        self.log.linearizable().await?;
        let wanted = change.onto(mailbox.clone(), state::mailbox(&self.ledger, &mailbox))?;
        self.propose(&Command::PutMailbox(wanted)).await?;
        self.record(id, "admin.mailbox.put", mailbox.as_str(), "200").await?;
        self.mailbox(mailbox.as_str())
    }

    pub(super) fn workflows(&self) -> Answer {
        let workflows: Vec<_> = state::workflows(&self.ledger).iter().map(shown).collect();
        Answer::ok(&json!({ "workflows": workflows }))
    }

    pub(super) async fn put_workflow(&self, text: &str, body: &[u8], id: RequestId) -> Result<Answer, Refused> {
        let change: WorkflowChange = parse(body)?;
        let wanted = change.onto(text)?;
        self.propose(&Command::PutWorkflow(wanted)).await?;
        self.record(id, "admin.workflow.put", text, "200").await?;
        let workflow = state::workflow(&self.ledger, text).ok_or(Refused::Failed)?;
        Ok(Answer::ok(&shown(&workflow)))
    }

    /// Proposes and waits for the judgement.
    async fn propose(&self, command: &Command) -> Result<(), Refused> {
        let applied = self.log.propose(command.encode(&[])).await?;
        match Outcome::decode(&applied.outcome) {
            Ok(Outcome::Done) => Ok(()),
            Ok(Outcome::Refused(_)) => Err(Refused::Judged("apply refused it")),
            Ok(Outcome::Sent { .. } | Outcome::Swept { .. }) | Err(_) => {
                tracing::error!(index = applied.at.index, "the outcome does not fit the command");
                Err(Refused::Failed)
            }
        }
    }
}

fn shown(workflow: &Workflow) -> serde_json::Value {
    json!({ "id": workflow.id, "senders": workflow.senders, "receivers": workflow.receivers })
}
