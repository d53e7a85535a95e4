//! `vertebra verify`: through a running node, or straight from the data folder of a stopped one.

use super::client::Target;
use super::sandbox;
use super::{CliError, print};
use crate::admin::verify::{Report, Store, verify};
use crate::config::{Config, FILE_DEFAULT};
use crate::journal::{OpenError as JournalError, Stream};
use crate::log::OpenError;
use crate::node::{self, NodeError};
use std::path::Path;
use std::time::Duration;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Also read back every body that the ledger names
    #[arg(long)]
    deep: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// A full disk of bodies takes its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(24 * 3_600);

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    let path = format!("/admin/verify?deep={}", args.deep);
    let asked = args
        .target
        .door()
        .and_then(|door| door.json_within("POST", &path, b"", PATIENCE));
    let report: Report = match asked {
        Ok(report) => report,
        Err(CliError::NotRunning { .. }) if args.target.socket.is_none() => {
            eprintln!("The node does not run: reading its data folder.");
            stopped(&args.target, args.deep)?
        }
        Err(error) => return Err(error),
    };
    match args.json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&report).expect("a report has a JSON form")
        )),
        false => print(&render(&report)),
    }
    Ok(if report.ok() { 0 } else { 1 })
}

/// The configuration of the node that `target` means.
pub(super) fn open_config(target: &Target) -> Result<Config, CliError> {
    match (&target.sandbox, &target.config) {
        (Some(folder), _) => sandbox::stored_config(folder),
        (None, Some(file)) => Ok(Config::read(file)?),
        (None, None) => Ok(Config::read(Path::new(FILE_DEFAULT))?),
    }
}

fn stopped(target: &Target, deep: bool) -> Result<Report, CliError> {
    stopped_node(target, async |store| Ok(verify(store, deep).await))
}

/// Opens what the node stores as the node does (which recovers its tail), looks at it, and closes it.
pub(super) fn stopped_node<T>(
    target: &Target,
    look: impl AsyncFnOnce(&Store) -> Result<T, CliError>,
) -> Result<T, CliError> {
    let config = open_config(target)?;
    if !config.node.data.is_dir() {
        let what = format!(
            "{} is not there: this node has stored nothing yet",
            config.node.data.display()
        );
        return Err(CliError::Failed(what));
    }
    // A node that hangs or is still starting has the folder although it does not answer.
    let _data = config
        .lock_data()
        .map_err(|error| CliError::Failed(error.to_string()))?;
    tokio_uring::start(async {
        let store = node::open_store(&config).await.map_err(|error| match &error {
            NodeError::Open(OpenError::Journal(JournalError::Corrupt { stream, .. })) if *stream == Stream::Audit => {
                CliError::AuditDamaged(error.to_string())
            }
            _ => CliError::Failed(error.to_string()),
        })?;
        let found = look(&store).await;
        store.log.close().await;
        found
    })
}

/// A line a check.
pub(super) fn lines(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        let verdict = if check.ok { "OK    " } else { "BROKEN" };
        text.push_str(&format!("{verdict}  {:<24}  {}\n", check.name, check.detail));
    }
    text
}

/// The same and what follows from it.
pub(super) fn render(report: &Report) -> String {
    let mut text = lines(report);
    text.push_str(if report.ok() {
        "\nEverything is whole.\n"
    } else {
        "\nSomething is broken: stop writing to this node and restore it.\n"
    });
    text
}
