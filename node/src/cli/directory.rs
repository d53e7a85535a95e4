//! `vertebra mailbox` and `vertebra workflow`

use super::client::{Door, PATIENCE, Target, refusal, segment};
use super::table::{grouped, moment, table};
use super::{CliError, print, token};
use crate::admin::directory::{MailboxChange, MailboxView, WorkflowChange};
use crate::config::Secret;
use clap::Subcommand;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

#[derive(Subcommand, Debug)]
pub(super) enum MailboxCommand {
    /// Add a mailbox
    #[command(
        after_help = "Example:\n  vertebra mailbox add X26CLINIC --ods X26 --name 'Clinic' --password-file ./password"
    )]
    Add(ChangeArgs),
    /// Change a mailbox; what is not named stays
    #[command(
        after_help = "Examples:\n  vertebra mailbox set X26CLINIC --name 'Clinic, first floor'\n  \
                            vertebra mailbox set X26CLINIC --active true"
    )]
    Set(ChangeArgs),
    /// List all mailboxes
    #[command(after_help = "Example:\n  vertebra mailbox list --sandbox ./box")]
    List(ListArgs),
    /// Show one mailbox
    #[command(after_help = "Example:\n  vertebra mailbox show X26ABC1 --sandbox ./box")]
    Show(ShowArgs),
    /// Disable a mailbox: it can neither send nor collect; its messages stay until they expire
    #[command(after_help = "Example:\n  vertebra mailbox disable X26CLINIC")]
    Disable(ShowArgs),
    /// Print an authorization header for one request
    #[command(after_help = "Example:\n  curl … -H \"$(vertebra mailbox token --sandbox ./box X26ABC1)\" …")]
    Token(token::Args),
}

#[derive(clap::Args, Debug)]
pub(super) struct ChangeArgs {
    /// The mailbox's identifier
    mailbox: String,
    #[command(flatten)]
    target: Target,
    /// ODS code of the organisation it belongs to
    #[arg(long)]
    ods: Option<String>,
    /// Name shown in look-ups
    #[arg(long)]
    name: Option<String>,
    /// Name of the organisation
    #[arg(long)]
    organisation: Option<String>,
    /// Billing entity
    #[arg(long)]
    billing_entity: Option<String>,
    /// File that holds the password (never an argument: others on this host see those)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// May be used
    #[arg(long, value_name = "true|false")]
    active: Option<bool>,
    /// A retried send gives the first message's identifier
    #[arg(long, value_name = "true|false")]
    safe_retry: Option<bool>,
}

#[derive(clap::Args, Debug)]
pub(super) struct ListArgs {
    #[command(flatten)]
    pub(super) target: Target,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct ShowArgs {
    /// Its identifier
    pub(super) id: String,
    #[command(flatten)]
    pub(super) target: Target,
    /// Print JSON
    #[arg(long)]
    pub(super) json: bool,
}

#[derive(Subcommand, Debug)]
pub(super) enum WorkflowCommand {
    /// Add a workflow, or set its members anew
    #[command(
        after_help = "Example:\n  vertebra workflow add GP_RESULTS --sender X26LAB --receiver X26GP1 --receiver X26GP2"
    )]
    Add(WorkflowArgs),
    /// List all workflows
    #[command(after_help = "Example:\n  vertebra workflow list --sandbox ./box")]
    List(ListArgs),
    /// Show one workflow
    #[command(after_help = "Example:\n  vertebra workflow show TEST_WORKFLOW --sandbox ./box")]
    Show(ShowArgs),
}

#[derive(clap::Args, Debug)]
pub(super) struct WorkflowArgs {
    /// The workflow's identifier
    workflow: String,
    #[command(flatten)]
    target: Target,
    /// A mailbox that sends it; repeat for more
    #[arg(long = "sender", value_name = "MAILBOX")]
    senders: Vec<String>,
    /// A mailbox that receives it; repeat for more
    #[arg(long = "receiver", value_name = "MAILBOX")]
    receivers: Vec<String>,
}

/// What the node says of a workflow.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct WorkflowView {
    pub(super) id: String,
    pub(super) senders: Vec<String>,
    pub(super) receivers: Vec<String>,
}

#[derive(Deserialize)]
struct MailboxPage {
    mailboxes: Vec<MailboxView>,
    next_after: Option<String>,
}

#[derive(Deserialize)]
struct WorkflowPage {
    workflows: Vec<WorkflowView>,
}

pub(super) fn run_mailbox(command: MailboxCommand) -> Result<u8, CliError> {
    match command {
        MailboxCommand::Add(args) => change(&args, true),
        MailboxCommand::Set(args) => change(&args, false),
        MailboxCommand::List(args) => {
            let all = mailboxes(&args.target.door()?)?;
            output(args.json, &all, || mailbox_table(&all))
        }
        MailboxCommand::Show(args) => {
            let path = format!("/admin/mailboxes/{}", segment(&args.id));
            let view: MailboxView = args.target.door()?.json("GET", &path, b"")?;
            output(args.json, &view, || mailbox_table(std::slice::from_ref(&view)))
        }
        MailboxCommand::Disable(args) => {
            let door = args.target.door()?;
            must_exist(&door, &args.id)?;
            let view = put_mailbox(
                &door,
                &args.id,
                &MailboxChange {
                    active: Some(false),
                    ..MailboxChange::default()
                },
            )?;
            output(args.json, &view, || mailbox_table(std::slice::from_ref(&view)))
        }
        MailboxCommand::Token(args) => token::run(&args),
    }
}

pub(super) fn run_workflow(command: WorkflowCommand) -> Result<u8, CliError> {
    match command {
        WorkflowCommand::Add(args) => {
            let change = WorkflowChange {
                senders: args.senders,
                receivers: args.receivers,
            };
            let view = put_workflow(&args.target.door()?, &args.workflow, &change)?;
            output(false, &view, || workflow_table(std::slice::from_ref(&view)))
        }
        WorkflowCommand::List(args) => {
            let all = workflows(&args.target.door()?)?;
            output(args.json, &all, || workflow_table(&all))
        }
        WorkflowCommand::Show(args) => {
            let all = workflows(&args.target.door()?)?;
            let found = all.into_iter().find(|workflow| workflow.id == args.id);
            let view = found.ok_or_else(|| CliError::Refused(format!("workflow {} is not known", args.id)))?;
            output(args.json, &view, || workflow_table(std::slice::from_ref(&view)))
        }
    }
}

/// Prints a view as JSON or as text.
pub(super) fn output(json: bool, value: &impl Serialize, text: impl FnOnce() -> String) -> Result<u8, CliError> {
    match json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(value).expect("views have a JSON form")
        )),
        false => print(&text()),
    }
    Ok(0)
}

fn change(args: &ChangeArgs, only_new: bool) -> Result<u8, CliError> {
    let change = MailboxChange {
        name: args.name.clone(),
        ods: args.ods.clone(),
        organisation: args.organisation.clone(),
        billing_entity: args.billing_entity.clone(),
        password: args.password_file.as_deref().map(password).transpose()?,
        active: args.active,
        safe_retry: args.safe_retry,
        only_new,
    };
    let door = args.target.door()?;
    if !only_new {
        must_exist(&door, &args.mailbox)?;
    }
    let view = put_mailbox(&door, &args.mailbox, &change)?;
    output(false, &view, || mailbox_table(std::slice::from_ref(&view)))
}

fn password(file: &Path) -> Result<String, CliError> {
    let secret = Secret::read(file).map_err(|error| CliError::Usage(error.to_string()))?;
    String::from_utf8(secret.bytes().to_vec()).map_err(|_| CliError::Usage(format!("{}: not UTF-8", file.display())))
}

/// Refuses to make a mailbox by changing one that is not there.
fn must_exist(door: &Door, id: &str) -> Result<(), CliError> {
    door.json::<MailboxView>("GET", &format!("/admin/mailboxes/{}", segment(id)), b"")
        .map(drop)
}

/// The mailbox, `None` when there is none.
pub(super) fn mailbox(door: &Door, id: &str) -> Result<Option<MailboxView>, CliError> {
    let (status, body) = door.ask("GET", &format!("/admin/mailboxes/{}", segment(id)), b"", PATIENCE)?;
    match status {
        200 => serde_json::from_slice(&body)
            .map(Some)
            .map_err(|cause| CliError::Failed(cause.to_string())),
        404 => Ok(None),
        other => Err(CliError::Refused(refusal(other, &body))),
    }
}

pub(super) fn put_mailbox(door: &Door, id: &str, change: &MailboxChange) -> Result<MailboxView, CliError> {
    let body = serde_json::to_vec(change).expect("a change has a JSON form");
    door.json("PUT", &format!("/admin/mailboxes/{}", segment(id)), &body)
}

pub(super) fn put_workflow(door: &Door, id: &str, change: &WorkflowChange) -> Result<WorkflowView, CliError> {
    let body = serde_json::to_vec(change).expect("a change has a JSON form");
    door.json("PUT", &format!("/admin/workflows/{}", segment(id)), &body)
}

fn mailboxes(door: &Door) -> Result<Vec<MailboxView>, CliError> {
    let mut all = Vec::new();
    let mut path = "/admin/mailboxes".to_owned();
    loop {
        let page: MailboxPage = door.json("GET", &path, b"")?;
        all.extend(page.mailboxes);
        match page.next_after {
            Some(after) => path = format!("/admin/mailboxes?after={}", segment(&after)),
            None => return Ok(all),
        }
    }
}

pub(super) fn workflows(door: &Door) -> Result<Vec<WorkflowView>, CliError> {
    door.json::<WorkflowPage>("GET", "/admin/workflows", b"")
        .map(|page| page.workflows)
}

fn mailbox_table(views: &[MailboxView]) -> String {
    let time = |iso: &Option<String>| iso.as_deref().map_or_else(|| "-".to_owned(), moment);
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|m| {
            let state = if m.active { "active" } else { "disabled" };
            vec![
                m.id.clone(),
                m.ods.clone(),
                state.to_owned(),
                grouped(m.waiting),
                time(&m.oldest),
                time(&m.last_seen),
                m.name.clone(),
            ]
        })
        .collect();
    table(
        &["MAILBOX", "ODS", "STATE", "WAITING", "OLDEST", "LAST SEEN", "NAME"],
        &rows,
    )
}

fn workflow_table(views: &[WorkflowView]) -> String {
    let members = |members: &[String]| {
        if members.is_empty() {
            "every mailbox".to_owned()
        } else {
            members.join(", ")
        }
    };
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|w| vec![w.id.clone(), members(&w.senders), members(&w.receivers)])
        .collect();
    table(&["WORKFLOW", "SENDERS", "RECEIVERS"], &rows)
}
