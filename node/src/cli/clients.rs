//! `vertebra client`

use super::client::{Door, PATIENCE, Target, refusal, segment};
use super::directory::{ListArgs, ShowArgs, output};
use super::table::table;
use super::{CliError, print};
use crate::admin::clients::{ClientChange, ClientView};
use crate::auth::jwks::SET_BYTES_MAX;
use clap::Subcommand;
use serde::Deserialize;
use std::path::{Path, PathBuf};

#[derive(Subcommand, Debug)]
pub(super) enum ClientCommand {
    /// Add a client
    #[command(
        after_help = "Examples:\n  vertebra client add clinic-app --ods X26 --mode application --jwks ./jwks.json \\\n      \
                            --name 'Clinic' --scope demographics --rate 5\n  \
                            vertebra client add ward-app --ods X26 --mode worker"
    )]
    Add(ChangeArgs),
    /// Change a client; what is not named stays
    #[command(after_help = "Examples:\n  vertebra client set clinic-app --rate 20\n  \
                            vertebra client set clinic-app --jwks ./jwks.json   # old and new key while they rotate\n  \
                            vertebra client set clinic-app --active true")]
    Set(ChangeArgs),
    /// List all clients
    #[command(after_help = "Example:\n  vertebra client list --sandbox ./box")]
    List(ListArgs),
    /// Show one client
    #[command(after_help = "Example:\n  vertebra client show sandbox-app --sandbox ./box")]
    Show(ShowArgs),
    /// Disable a client: it gets no token, and those it has are refused
    #[command(after_help = "Example:\n  vertebra client disable clinic-app")]
    Disable(ShowArgs),
}

#[derive(clap::Args, Debug)]
pub(super) struct ChangeArgs {
    /// The client's identifier, its API key
    client: String,
    #[command(flatten)]
    target: Target,
    /// ODS code of the organisation it belongs to
    #[arg(long)]
    ods: Option<String>,
    /// Its name, for people
    #[arg(long)]
    name: Option<String>,
    /// File with its public RSA keys (JSON Web Key Set), all of them: they replace those before
    #[arg(long, value_name = "FILE")]
    jwks: Option<PathBuf>,
    /// How it may be used: application, worker or patient; repeat for more
    #[arg(long = "mode", value_name = "MODE")]
    modes: Vec<String>,
    /// What its tokens may be for; repeat for more; all of them: they replace those before
    #[arg(long = "scope", value_name = "SCOPE")]
    scopes: Vec<String>,
    /// Requests a second; on each node, where nodes share no Redis [default in a new client: 5]
    #[arg(long, value_name = "NUMBER")]
    rate: Option<u32>,
    /// May be used
    #[arg(long, value_name = "true|false")]
    active: Option<bool>,
}

#[derive(Deserialize)]
struct Page {
    clients: Vec<ClientView>,
    next_after: Option<String>,
}

pub(super) fn run(command: ClientCommand) -> Result<u8, CliError> {
    match command {
        ClientCommand::Add(args) => change(&args, true),
        ClientCommand::Set(args) => change(&args, false),
        ClientCommand::List(args) => {
            let all = clients(&args.target.door()?)?;
            output(args.json, &all, || clients_table(&all))
        }
        ClientCommand::Show(args) => {
            let view: ClientView = args.target.door()?.json("GET", &path(&args.id), b"")?;
            output(args.json, &view, || details(&view))
        }
        ClientCommand::Disable(args) => {
            let door = args.target.door()?;
            must_exist(&door, &args.id)?;
            let off = ClientChange {
                active: Some(false),
                ..ClientChange::default()
            };
            let view = put_client(&door, &args.id, &off)?;
            output(args.json, &view, || details(&view))
        }
    }
}

fn change(args: &ChangeArgs, only_new: bool) -> Result<u8, CliError> {
    let some = |texts: &[String]| (!texts.is_empty()).then(|| texts.to_vec());
    let change = ClientChange {
        name: args.name.clone(),
        ods: args.ods.clone(),
        jwks: args.jwks.as_deref().map(key_set).transpose()?,
        modes: some(&args.modes),
        scopes: some(&args.scopes),
        requests_per_second: args.rate,
        active: args.active,
        only_new,
    };
    let door = args.target.door()?;
    if !only_new {
        must_exist(&door, &args.client)?;
    }
    let view = put_client(&door, &args.client, &change)?;
    print(&details(&view));
    Ok(0)
}

/// The file as it is; the node judges it.
fn key_set(file: &Path) -> Result<String, CliError> {
    let refused = |why: &str| CliError::Usage(format!("{}: {why}", file.display()));
    let bytes = std::fs::metadata(file)
        .map_err(|cause| refused(&cause.to_string()))?
        .len();
    if bytes > SET_BYTES_MAX as u64 {
        return Err(refused("the file is larger than 64 KiB, so it is no key set"));
    }
    std::fs::read_to_string(file).map_err(|cause| refused(&cause.to_string()))
}

fn path(id: &str) -> String {
    format!("/admin/clients/{}", segment(id))
}

/// Refuses to make a client by changing one that is not there.
fn must_exist(door: &Door, id: &str) -> Result<(), CliError> {
    door.json::<ClientView>("GET", &path(id), b"").map(drop)
}

/// The client, `None` when there is none.
pub(super) fn client(door: &Door, id: &str) -> Result<Option<ClientView>, CliError> {
    let (status, body) = door.ask("GET", &path(id), b"", PATIENCE)?;
    match status {
        200 => serde_json::from_slice(&body)
            .map(Some)
            .map_err(|cause| CliError::Failed(cause.to_string())),
        404 => Ok(None),
        other => Err(CliError::Refused(refusal(other, &body))),
    }
}

pub(super) fn put_client(door: &Door, id: &str, change: &ClientChange) -> Result<ClientView, CliError> {
    let body = serde_json::to_vec(change).expect("a change has a JSON form");
    door.json("PUT", &path(id), &body)
}

fn clients(door: &Door) -> Result<Vec<ClientView>, CliError> {
    let mut all = Vec::new();
    let mut path = "/admin/clients".to_owned();
    loop {
        let page: Page = door.json("GET", &path, b"")?;
        all.extend(page.clients);
        match page.next_after {
            Some(after) => path = format!("/admin/clients?after={}", segment(&after)),
            None => return Ok(all),
        }
    }
}

fn state(view: &ClientView) -> &'static str {
    if view.active { "active" } else { "disabled" }
}

fn clients_table(views: &[ClientView]) -> String {
    let rows: Vec<Vec<String>> = views
        .iter()
        .map(|c| {
            vec![
                c.id.clone(),
                c.ods.clone(),
                state(c).to_owned(),
                c.modes.join(","),
                format!("{}/s", c.requests_per_second),
                c.keys.len().to_string(),
                c.name.clone(),
            ]
        })
        .collect();
    table(&["CLIENT", "ODS", "STATE", "MODES", "RATE", "KEYS", "NAME"], &rows)
}

/// The table's row and, below it, what has no place there.
fn details(view: &ClientView) -> String {
    let mut text = clients_table(std::slice::from_ref(view));
    let scopes = if view.scopes.is_empty() {
        "none".to_owned()
    } else {
        view.scopes.join(" ")
    };
    text.push_str(&format!("scopes: {scopes}\n"));
    for key in &view.keys {
        text.push_str(&format!("key: {} (RSA, {} bits)\n", key.kid, key.bits));
    }
    text
}
