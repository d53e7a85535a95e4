//! `vertebra upgrade`

mod compare;
mod judge;

use super::client::Target;
use super::table::{moment, table};
use super::{CliError, print};
use crate::admin::upgrade::{Running, Upgrade};
use clap::Subcommand;

#[derive(Subcommand, Debug)]
pub(super) enum UpgradeCommand {
    /// Who runs which release, which format level is in force, what can be done next
    #[command(after_help = "Examples:\n  vertebra upgrade status\n  vertebra upgrade status --json | jq .level")]
    Status(StatusArgs),
    /// Judge the one member that runs the new release against the others, then promote it or take it back
    #[command(
        after_help = "Examples:\n  vertebra upgrade compare --canary n1.south --soak 30m\n  \
                            vertebra upgrade compare --canary 2 --soak 2h --watch\n  \
                            vertebra upgrade compare --canary n1.south \\\n      \
                            --promote 'ssh boot vertebra-provisioning release promote 2026.11.27-1 --all' \\\n      \
                            --roll-back 'ssh boot vertebra-provisioning release unpin --node n1.south'\n\n\
                            Exit codes: 0 as good as the others, 10 too few requests to tell, 20 worse.\n\
                            It ends with the commands that promote or roll back, or runs those that were given."
    )]
    Compare(compare::CompareArgs),
    /// Put the newest format level in force: the point of no return
    #[command(after_help = "Example:\n  vertebra upgrade status && vertebra upgrade finalize\n\n\
                            Refused while a member runs a release that does not speak that level, or does not answer.\n\
                            Afterwards an older release refuses to start.")]
    Finalize(FinalizeArgs),
}

#[derive(clap::Args, Debug)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    target: Target,
    /// Print JSON (fields are only ever added)
    #[arg(long)]
    json: bool,
}

#[derive(clap::Args, Debug)]
pub(super) struct FinalizeArgs {
    #[command(flatten)]
    target: Target,
}

pub(super) fn run(command: &UpgradeCommand) -> Result<u8, CliError> {
    match command {
        UpgradeCommand::Status(args) => {
            let upgrade: Upgrade = args.target.door()?.json("GET", "/admin/upgrade", b"")?;
            match args.json {
                true => {
                    let text = serde_json::to_string_pretty(&upgrade).expect("the view has a JSON form");
                    print(&format!("{text}\n"));
                }
                false => print(&render(&upgrade)),
            }
            Ok(0)
        }
        UpgradeCommand::Compare(args) => compare::run(args),
        UpgradeCommand::Finalize(args) => {
            let upgrade: Upgrade = args.target.door()?.json("POST", "/admin/upgrade/finalize", b"")?;
            print(&format!(
                "format level {} is in force: a release that does not speak it does not start any more\n",
                upgrade.level
            ));
            Ok(0)
        }
    }
}

fn row(member: &Running) -> Vec<String> {
    let dash = || "-".to_owned();
    vec![
        format!("{} ({})", member.name, member.id),
        member.site.clone(),
        member.role.clone(),
        if member.release.is_empty() {
            dash()
        } else {
            member.release.clone()
        },
        member.speaks.map_or_else(dash, |speaks| speaks.text()),
        member.since.as_deref().map_or_else(dash, moment),
    ]
}

/// The table, and what can be done next.
pub(super) fn render(upgrade: &Upgrade) -> String {
    let since = match &upgrade.level_since {
        Some(since) => format!(", raised by release {} on {}", upgrade.level_release, moment(since)),
        None => String::new(),
    };
    let mut text = format!("format level {} is in force{since}\n\n", upgrade.level);
    let rows: Vec<Vec<String>> = upgrade.members.iter().map(row).collect();
    text.push_str(&table(&["NODE", "SITE", "ROLE", "RELEASE", "SPEAKS", "SINCE"], &rows));
    text.push('\n');
    for against in &upgrade.against {
        text.push_str(&format!("  ! {against}\n"));
    }
    for next in &upgrade.next {
        text.push_str(&format!("{next}\n"));
    }
    text
}
