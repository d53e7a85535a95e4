//! `vertebra events`

use super::client::{PATIENCE, Target, refusal, segment};
use super::table::{grouped, span, table};
use super::{CliError, print};
use crate::admin::outbox::{EventsView, Named, ParkedView, Switch};
use crate::admin::status::bytes_text;
use clap::Subcommand;
use serde::Deserialize;

#[derive(Subcommand, Debug)]
pub(super) enum EventsCommand {
    /// Whether events are written, how many wait, what the broker does
    #[command(after_help = "Example:\n  vertebra events status")]
    Status(StatusArgs),
    /// Write events from now on, or change how many may wait
    #[command(
        after_help = "Examples:\n  vertebra events on\n  vertebra events on --events-max 50000000 --bytes-max 8589934592"
    )]
    On(OnArgs),
    /// Write none from now on; those that wait are dropped, subscribers are told when it is switched on again
    #[command(after_help = "Example:\n  vertebra events off")]
    Off(OffArgs),
    /// List the events that the broker did not take
    #[command(after_help = "Example:\n  vertebra events parked")]
    Parked(StatusArgs),
    /// Put parked events back, at the end and under their own identifiers
    #[command(
        after_help = "Examples:\n  vertebra events requeue --all\n  vertebra events requeue 00000000000004d2-00000000"
    )]
    Requeue(NamedArgs),
    /// Remove parked events for good
    #[command(after_help = "Example:\n  vertebra events discard 00000000000004d2-00000000")]
    Discard(NamedArgs),
}

#[derive(clap::Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct OnArgs {
    #[command(flatten)]
    target: Target,
    /// How many events may wait [default: as before, at first 10000000]
    #[arg(long, value_name = "NUMBER")]
    events_max: Option<u64>,
    /// How many bytes of the ledger they may take [default: as before, at first 1 GiB]
    #[arg(long, value_name = "BYTES")]
    bytes_max: Option<u64>,
}

#[derive(clap::Args, Debug)]
pub(super) struct OffArgs {
    #[command(flatten)]
    target: Target,
}

#[derive(clap::Args, Debug)]
pub(super) struct NamedArgs {
    /// Positions as `events parked` shows them
    #[arg(required_unless_present = "all", conflicts_with = "all")]
    positions: Vec<String>,
    /// All of them
    #[arg(long)]
    all: bool,
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: &EventsCommand) -> Result<u8, CliError> {
    match command {
        EventsCommand::Status(args) => {
            let view: EventsView = args.target.door()?.json("GET", "/admin/events", b"")?;
            show(args.json, &view, || details(&view))
        }
        EventsCommand::On(args) => switch(
            &args.target,
            &Switch {
                on: true,
                events_max: args.events_max,
                bytes_max: args.bytes_max,
            },
        ),
        EventsCommand::Off(args) => switch(&args.target, &Switch::default()),
        EventsCommand::Parked(args) => {
            let all = parked(&args.target)?;
            show(args.json, &all, || parked_table(&all))
        }
        EventsCommand::Requeue(args) => change(args, "/admin/events/requeue", "put back"),
        EventsCommand::Discard(args) => change(args, "/admin/events/discard", "removed"),
    }
}

fn show<T: serde::Serialize>(json: bool, value: &T, text: impl Fn() -> String) -> Result<u8, CliError> {
    match json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(value).expect("views have a JSON form")
        )),
        false => print(&text()),
    }
    Ok(0)
}

fn switch(target: &Target, switch: &Switch) -> Result<u8, CliError> {
    let body = serde_json::to_vec(switch).expect("a switch has a JSON form");
    let view: EventsView = target.door()?.json("POST", "/admin/events/switch", &body)?;
    print(&details(&view));
    Ok(0)
}

fn parked(target: &Target) -> Result<Vec<ParkedView>, CliError> {
    #[derive(Deserialize)]
    struct Page {
        parked: Vec<ParkedView>,
        next_after: Option<String>,
    }
    let door = target.door()?;
    let mut all = Vec::new();
    let mut path = "/admin/events/parked".to_owned();
    loop {
        let page: Page = door.json("GET", &path, b"")?;
        all.extend(page.parked);
        match page.next_after {
            Some(after) => path = format!("/admin/events/parked?after={}", segment(&after)),
            None => return Ok(all),
        }
    }
}

/// Changes those that are named, or all of them, as many at once as the node takes.
fn change(args: &NamedArgs, path: &str, done: &str) -> Result<u8, CliError> {
    #[derive(Deserialize)]
    struct Changed {
        events: u64,
    }
    let door = args.target.door()?;
    let named = Named {
        positions: args.positions.clone(),
    };
    let body = serde_json::to_vec(&named).expect("names have a JSON form");
    // Those that are parked again meanwhile are not taken a second time.
    let mut left = match args.all {
        true => parked(&args.target)?.len() as u64,
        false => args.positions.len() as u64,
    };
    let mut count = 0;
    while left > 0 {
        let (status, answer) = door.ask("POST", path, &body, PATIENCE)?;
        if status >= 400 {
            return Err(CliError::Refused(refusal(status, &answer)));
        }
        let changed: Changed = serde_json::from_slice(&answer).map_err(|cause| CliError::Failed(cause.to_string()))?;
        count += changed.events;
        left = match args.all && changed.events > 0 {
            true => left.saturating_sub(changed.events),
            false => 0,
        };
    }
    print(&format!("{} events {done}\n", grouped(count)));
    Ok(u8::from(!args.all && count < args.positions.len() as u64))
}

fn parked_table(all: &[ParkedView]) -> String {
    let rows: Vec<Vec<String>> = all
        .iter()
        .map(|p| {
            vec![
                p.position.clone(),
                p.kind.clone(),
                p.reason.clone(),
                p.at.clone(),
                p.since.clone(),
            ]
        })
        .collect();
    table(&["POSITION", "TYPE", "REASON", "HAPPENED", "PARKED"], &rows)
}

fn details(view: &EventsView) -> String {
    let state = match (view.on, view.undecided) {
        (true, _) => "on",
        (false, true) => "off (a broker in the leader's configuration switches them on)",
        (false, false) => "off",
    };
    let mut text = format!("events: {state}\n");
    text.push_str(&format!(
        "waiting: {} of {}, {} of {}, the oldest for {}\n",
        grouped(view.waiting),
        grouped(view.events_max),
        bytes_text(view.waiting_bytes),
        bytes_text(view.bytes_max),
        span(view.oldest_seconds)
    ));
    text.push_str(&format!("broker: {} for {}\n", view.broker, span(view.broker_seconds)));
    if !view.broker_fault.is_empty() {
        text.push_str(&format!("last fault: {}\n", view.broker_fault));
    }
    if let Some(gap) = view.gap_events {
        text.push_str(&format!(
            "gap: {} events, subscribers are yet to be told\n",
            grouped(gap)
        ));
    }
    for worry in &view.worries {
        text.push_str(&format!("  ! {worry}\n"));
    }
    text.push_str(&format!(
        "parked: {} ({} lost); dropped at the bound: {}\n",
        grouped(view.parked),
        grouped(view.parked_lost),
        grouped(view.dropped)
    ));
    text
}
