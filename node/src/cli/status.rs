//! `vertebra status`

use super::client::{Door, Target};
use super::table::{grouped, micros, span, table};
use super::{CliError, print};
use crate::admin::redis::{NO_REDIS, RedisView};
use crate::admin::status::{Member, State, Status, bytes_text};
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    target: Target,
    /// Print JSON (fields are only ever added)
    #[arg(long)]
    json: bool,
    /// Show it again every two seconds
    #[arg(long, conflicts_with = "exit_when_healthy")]
    watch: bool,
    /// Wait until healthy, then exit 0
    #[arg(long)]
    exit_when_healthy: bool,
    /// How long --exit-when-healthy waits
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    timeout: u64,
}

const WATCH_INTERVAL: Duration = Duration::from_secs(2);
const WAIT_INTERVAL: Duration = Duration::from_millis(200);

/// The exit code of a state.
pub(super) fn exit_code(state: State) -> u8 {
    match state {
        State::Healthy => 0,
        State::Degraded => 10,
        State::CannotWrite => 20,
    }
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    if args.exit_when_healthy {
        return wait(args);
    }
    loop {
        let answer = args.target.door().and_then(|door| fetch(&door));
        if args.watch && std::io::stdout().is_terminal() {
            print("\x1b[H\x1b[2J");
        }
        let code = show(args, answer)?;
        if !args.watch {
            return Ok(code);
        }
        std::thread::sleep(WATCH_INTERVAL);
    }
}

fn fetch(door: &Door) -> Result<Status, CliError> {
    door.json("GET", "/admin/status", b"")
}

/// Prints; a node that does not run cannot write, which is an answer too.
fn show(args: &Args, answer: Result<Status, CliError>) -> Result<u8, CliError> {
    match answer {
        Ok(status) => {
            match args.json {
                true => {
                    let text = serde_json::to_string_pretty(&status).expect("a status has a JSON form");
                    print(&format!("{text}\n"));
                }
                false => print(&render(&status)),
            }
            Ok(exit_code(status.state))
        }
        Err(error @ CliError::NotRunning { .. }) => {
            eprintln!("vertebra: {error}");
            Ok(20)
        }
        Err(error) => Err(error),
    }
}

fn wait(args: &Args) -> Result<u8, CliError> {
    let deadline = Instant::now() + Duration::from_secs(args.timeout);
    loop {
        let answer = args.target.door().and_then(|door| fetch(&door));
        let healthy = matches!(&answer, Ok(status) if status.state == State::Healthy);
        if healthy || Instant::now() >= deadline {
            return show(args, answer);
        }
        match answer {
            Ok(_) | Err(CliError::NotRunning { .. } | CliError::Failed(_)) => {}
            Err(error) => return Err(error),
        }
        std::thread::sleep(WAIT_INTERVAL);
    }
}

/// What the members have in common, one line; nothing on a node without peers.
fn cluster_line(status: &Status) -> String {
    let cluster = &status.cluster;
    if cluster.id.is_empty() {
        return String::new();
    }
    let answers = |member: &&Member| member.id == cluster.leader && member.role != "unreachable";
    let leader = status.members.iter().find(answers);
    let leader = leader.map_or_else(
        || "no leader".to_owned(),
        |leader| format!("led by {} ({})", leader.name, leader.id),
    );
    let age = match cluster.state_age_seconds {
        0..2 => "state current".to_owned(),
        old => format!("state {} old", span(old)),
    };
    format!(
        "cluster {}   epoch {}   term {}   {leader}   {} of {} voters answer   clocks within {} ms   {age}\n",
        cluster.id.get(..8).unwrap_or(&cluster.id),
        cluster.epoch,
        cluster.term,
        cluster.voters_answering,
        cluster.voters,
        cluster.skew_ms_max
    )
}

/// One member's cells; of one that does not answer only who it is.
fn row(member: &Member) -> Vec<String> {
    let mut cells = vec![
        format!("{} ({})", member.name, member.id),
        member.site.clone(),
        member.role.clone(),
    ];
    if member.role == "unreachable" {
        cells.extend(std::iter::repeat_n("-".to_owned(), 6));
        return cells;
    }
    // Of the two certificates of a member the first to end is the one to know.
    let days = [member.certificate_days, member.cluster_certificate_days];
    let days = member.certificate_days.and(days.into_iter().flatten().min());
    cells.extend([
        grouped(member.applied),
        grouped(member.lag),
        format!("{} (mean {})", micros(member.fsync_us), micros(member.fsync_us_mean)),
        format!(
            "{} of {}",
            bytes_text(member.disk_free_bytes),
            bytes_text(member.disk_bytes)
        ),
        days.map_or_else(|| "unreadable".to_owned(), |days| format!("{days} days")),
        member.release.clone(),
    ]);
    cells
}

/// The table.
pub(super) fn render(status: &Status) -> String {
    let state = match status.state {
        State::Healthy => "healthy",
        State::Degraded => "degraded",
        State::CannotWrite => "CANNOT WRITE",
    };
    let mut text = format!("{state}   {}   {}\n", status.url, super::table::moment(&status.now));
    for reason in &status.reasons {
        text.push_str(&format!("  ! {reason}\n"));
    }
    text.push_str(&cluster_line(status));
    text.push('\n');
    let rows: Vec<Vec<String>> = status.members.iter().map(row).collect();
    let headers = [
        "NODE",
        "SITE",
        "ROLE",
        "APPLIED",
        "LAG",
        "FSYNC",
        "DISK FREE",
        "CERTIFICATE",
        "RELEASE",
    ];
    text.push_str(&table(&headers, &rows));
    let oldest = if status.waiting == 0 {
        String::new()
    } else {
        format!(", the oldest for {}", span(status.oldest_seconds))
    };
    text.push_str(&format!(
        "\n{} mailboxes, {} messages waiting{oldest}; {} patients; {} audit entries\n",
        grouped(status.mailboxes),
        grouped(status.waiting),
        grouped(status.patients),
        grouped(status.audit_entries)
    ));
    let events = &status.events;
    for worry in &events.worries {
        text.push_str(&format!("  ! {worry}\n"));
    }
    if events.on {
        text.push_str(&format!(
            "events: {} waiting, {} parked; broker {}\n",
            grouped(events.waiting),
            grouped(events.parked),
            events.broker
        ));
    }
    text.push_str(&redis_lines(&status.redis));
    text
}

/// Redis, and who is seen there; nothing on a node without it.
fn redis_lines(redis: &RedisView) -> String {
    let mut text = String::new();
    // A node of an older release says nothing of it.
    if redis.state.is_empty() || redis.state == NO_REDIS {
        return text;
    }
    for worry in &redis.worries {
        text.push_str(&format!("  ! {worry}\n"));
    }
    let nodes = redis.nodes.iter().map(|node| format!("{} ({})", node.name, node.id));
    let nodes = nodes.collect::<Vec<_>>().join(", ");
    let seen = if nodes.is_empty() { "nobody" } else { &nodes };
    text.push_str(&format!(
        "redis: {} for {}, {}; seen there: {seen}\n",
        redis.state,
        span(redis.seconds),
        if redis.primary.is_empty() {
            "no primary yet"
        } else {
            &redis.primary
        },
    ));
    text
}
