//! `vertebra join`, `leave`, `drain`, `undrain`.

use super::client::Target;
use super::{CliError, print};
use crate::admin::status::{Member, Status};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
pub(super) struct JoinArgs {
    #[command(flatten)]
    target: Target,
    /// How long to wait
    #[arg(long, value_name = "SECONDS", default_value_t = 3_600)]
    timeout: u64,
}

#[derive(clap::Args, Debug)]
pub(super) struct LeaveArgs {
    #[command(flatten)]
    target: Target,
    /// Number of the member; this node when it is not given
    id: Option<u64>,
}

#[derive(clap::Args, Debug)]
pub(super) struct DrainArgs {
    #[command(flatten)]
    target: Target,
}

const LOOK_EVERY: Duration = Duration::from_millis(300);

/// Shows how far this node is, until it votes.
pub(super) fn join(args: &JoinArgs) -> Result<u8, CliError> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    let mut said = String::new();
    loop {
        let now = match args.target.door()?.json::<Status>("GET", "/admin/status", b"") {
            Ok(status) => {
                let (done, text) = progress(&status);
                if done {
                    print(&format!("{text}\n"));
                    return Ok(0);
                }
                text
            }
            Err(error @ CliError::NotRunning { .. }) => error.to_string(),
            Err(error) => return Err(error),
        };
        if now != said {
            print(&format!("{now}\n"));
            said = now;
        }
        if Instant::now() >= deadline {
            return Err(CliError::Failed(format!(
                "not a voter after {} s ({said}); its log and the leader's say more",
                args.timeout
            )));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Whether the node that was asked votes, and a sentence.
fn progress(status: &Status) -> (bool, String) {
    if status.cluster.id.is_empty() {
        return (false, "waiting to be taken in".to_owned());
    }
    let own = status.members.iter().find(|member| member.id == status.node);
    let leader = status.members.iter().find(|member| member.id == status.cluster.leader);
    match own {
        Some(own) if own.role == "leader" || own.role == "follower" => (
            true,
            format!(
                "node {} ({}) votes in {} members",
                own.id,
                own.name,
                status.members.len()
            ),
        ),
        Some(own) => {
            let end = leader.map_or(own.applied, |leader| leader.applied);
            (
                false,
                format!(
                    "catching up: {} of {} entries{}",
                    own.applied,
                    end.max(own.applied),
                    held_back(status, own).unwrap_or_default()
                ),
            )
        }
        None => (false, "waiting to be taken in".to_owned()),
    }
}

/// What the site rule has against this node's vote, by those that are known to vote.
fn held_back(status: &Status, own: &Member) -> Option<String> {
    let votes = |member: &&Member| member.role == "leader" || member.role == "follower";
    let voters = status.members.iter().filter(votes).count() + 1;
    let here = status
        .members
        .iter()
        .filter(votes)
        .filter(|member| member.site == own.site)
        .count()
        + 1;
    (here < voters && here * 2 > voters).then(|| {
        format!(
            "; it votes when another voter of another site joins or is back: until then site {} would hold {here} of {voters} \
             votes, a majority",
            own.site
        )
    })
}

pub(super) fn leave(args: &LeaveArgs) -> Result<u8, CliError> {
    let body = json!({ "id": args.id }).to_string();
    let answer: Value = args
        .target
        .door()?
        .json("POST", "/admin/cluster/leave", body.as_bytes())?;
    print(&format!(
        "node {} is no member any more; stop it, and give its replacement a new number and an empty data folder\n",
        answer["left"]
    ));
    Ok(0)
}

#[derive(clap::Args, Debug)]
pub(super) struct GoAloneArgs {
    #[command(flatten)]
    target: Target,
    /// Yes, the other site is lost: it will not be let in again as it is
    #[arg(long)]
    yes: bool,
}

pub(super) fn go_alone(args: &GoAloneArgs) -> Result<u8, CliError> {
    if !args.yes {
        return Err(CliError::Usage(
            "this makes the node the only member. Whoever is cut off now is left behind for good and has to join again \
             with new numbers and empty folders. Be sure that the other site does not serve; then add --yes"
                .to_owned(),
        ));
    }
    let _answer: Value = args.target.door()?.json("POST", "/admin/cluster/go-alone", b"")?;
    print("the node ends and goes on alone at its next start (systemd starts it); see `vertebra status`\n");
    Ok(0)
}

pub(super) fn drain(args: &DrainArgs, drained: bool) -> Result<u8, CliError> {
    let path = if drained {
        "/admin/cluster/drain"
    } else {
        "/admin/cluster/undrain"
    };
    let _answer: Value = args.target.door()?.json("POST", path, b"")?;
    print(if drained {
        "not ready from now on; clients go elsewhere, and this node does not lead\n"
    } else {
        "ready again\n"
    });
    Ok(0)
}
