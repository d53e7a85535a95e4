//! `vertebra patient`

use super::client::Target;
use super::directory::output;
use super::table::table;
use super::{CliError, print};
use crate::admin::patients::{Marking, VersionView, Wanted};
use crate::base::NhsNumber;
use crate::services::pds::office::{Mark, NhsNumberText};
use clap::Subcommand;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;

#[derive(Subcommand, Debug)]
pub(super) enum PatientCommand {
    /// List the versions of a record, newest first
    #[command(after_help = "Example:\n  vertebra patient history 9000000009 --sandbox ./box")]
    History(HistoryArgs),
    /// Print a record, whole, as it is or as it was
    #[command(after_help = "Example:\n  vertebra patient show 9000000009 --version 1 --sandbox ./box")]
    Show(ShowArgs),
    /// Restrict a record: nobody sees where the patient is, or finds them by it
    #[command(after_help = "Example:\n  vertebra patient restrict 9000000009 --sandbox ./box")]
    Restrict(RestrictArgs),
    /// Lift a restriction, or take back an invalidation
    #[command(after_help = "Example:\n  vertebra patient open 9000000009 --sandbox ./box")]
    Open(MarkArgs),
    /// Invalidate a number: nobody gets its record any more
    #[command(after_help = "Example:\n  vertebra patient invalidate 9000000009 --sandbox ./box")]
    Invalidate(MarkArgs),
    /// Put another record in a record's place: who asks for the old number gets the other record
    #[command(after_help = "Example:\n  vertebra patient supersede 9000000009 --by 9000000017 --sandbox ./box")]
    Supersede(SupersedeArgs),
}

#[derive(clap::Args, Debug)]
pub(super) struct MarkArgs {
    /// The NHS number
    #[arg(value_parser = number)]
    number: NhsNumber,
    #[command(flatten)]
    target: Target,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct HistoryArgs {
    #[command(flatten)]
    of: MarkArgs,
    /// Only versions before this one
    #[arg(long, value_name = "VERSION")]
    before: Option<u32>,
}

#[derive(clap::Args, Debug)]
pub(super) struct ShowArgs {
    /// The NHS number
    #[arg(value_parser = number)]
    number: NhsNumber,
    #[command(flatten)]
    target: Target,
    /// Which version; the current one when it is left out
    #[arg(long, value_name = "VERSION")]
    version: Option<u32>,
}

#[derive(clap::Args, Debug)]
pub(super) struct RestrictArgs {
    #[command(flatten)]
    of: MarkArgs,
    /// Very restricted: no search finds the record at all
    #[arg(long)]
    very: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct SupersedeArgs {
    #[command(flatten)]
    of: MarkArgs,
    /// The number of the record that stays
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    by: NhsNumber,
}

fn number(text: &str) -> Result<NhsNumber, String> {
    NhsNumber::parse(text).ok_or_else(|| "an NHS number is ten digits, the last a check digit that fits".to_owned())
}

pub(super) fn run(command: PatientCommand) -> Result<u8, CliError> {
    match command {
        PatientCommand::History(args) => history(&args),
        PatientCommand::Show(args) => {
            let wanted = Wanted {
                number: NhsNumberText(args.number),
                version: args.version,
            };
            let shown: Shown = ask(&args.target, "show", &wanted)?;
            let text = serde_json::to_string_pretty(&shown.patient).expect("JSON has a text");
            print(&(text + "\n"));
            Ok(0)
        }
        PatientCommand::Restrict(args) => {
            let mark = if args.very { Mark::RestrictVery } else { Mark::Restrict };
            marked(&args.of, mark)
        }
        PatientCommand::Open(args) => marked(&args, Mark::Open),
        PatientCommand::Invalidate(args) => marked(&args, Mark::Invalidate),
        PatientCommand::Supersede(args) => {
            let by = NhsNumberText(args.by);
            marked(&args.of, Mark::Supersede { by })
        }
    }
}

#[derive(Deserialize)]
struct Shown {
    patient: Value,
}

#[derive(Deserialize)]
struct History {
    versions: Vec<VersionView>,
    more: bool,
}

fn history(args: &HistoryArgs) -> Result<u8, CliError> {
    let wanted = Wanted {
        number: NhsNumberText(args.of.number),
        version: args.before,
    };
    let history: History = ask(&args.of.target, "history", &wanted)?;
    let shown = output(args.of.json, &history.versions, || rows(&history.versions));
    if let (true, Some(oldest)) = (history.more, history.versions.last()) {
        eprintln!("There are older ones: go on with --before {}.", oldest.version);
    }
    shown
}

fn marked(args: &MarkArgs, mark: Mark) -> Result<u8, CliError> {
    let marking = Marking {
        number: NhsNumberText(args.number),
        mark,
    };
    let version: VersionView = ask(&args.target, "mark", &marking)?;
    output(args.json, &version, || rows(std::slice::from_ref(&version)))
}

fn rows(versions: &[VersionView]) -> String {
    let rows: Vec<Vec<String>> = versions
        .iter()
        .map(|version| {
            vec![
                version.number.clone(),
                version.version.to_string(),
                version.at.replace('T', " "),
                version.security.clone(),
                version.superseded_by.clone().unwrap_or_else(|| "-".to_owned()),
                version.digest[..16].to_owned(),
            ]
        })
        .collect();
    table(
        &["NUMBER", "VERSION", "SINCE", "SECURITY", "SUPERSEDED BY", "DIGEST"],
        &rows,
    )
}

fn ask<T: DeserializeOwned>(target: &Target, what: &str, body: &impl serde::Serialize) -> Result<T, CliError> {
    let body = serde_json::to_vec(body).expect("a question has a JSON form");
    target.door()?.json("POST", &format!("/admin/patients/{what}"), &body)
}
