//! `vertebra upgrade compare`

use super::judge::{Verdict, judge, rate};
use crate::admin::upgrade::{Running, Upgrade};
use crate::cli::client::{Door, Target};
use crate::cli::table::{grouped, micros, span, table};
use crate::cli::{CliError, print};
use crate::metrics::{KindFigures, ServedFigures};
use serde_json::json;
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::process::Command;
use std::time::{Duration, Instant};

#[derive(clap::Args, Debug)]
pub(in crate::cli) struct CompareArgs {
    #[command(flatten)]
    target: Target,
    /// The member on the new release: its name, the beginning of its name up to a dot, or its number
    #[arg(long, value_name = "MEMBER")]
    canary: String,
    /// How long to look: 90s, 30m, 2h
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    soak: Duration,
    /// Show the figures so far every two seconds
    #[arg(long, conflicts_with = "json")]
    watch: bool,
    /// Print JSON (fields are only ever added)
    #[arg(long)]
    json: bool,
    /// Run this in a shell when it is as good as the others
    #[arg(long, value_name = "COMMAND")]
    promote: Option<String>,
    /// Run this in a shell when it is worse
    #[arg(long, value_name = "COMMAND")]
    roll_back: Option<String>,
}

const LOOK_EVERY: Duration = Duration::from_secs(2);

/// `90`, `90s`, `30m`, `2h`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3_600,
        _ => return Err("give a number with s, m or h behind it".to_owned()),
    };
    match number.parse::<u64>() {
        Ok(number) if number > 0 && number < 10_000 => Ok(Duration::from_secs(number * seconds)),
        Ok(_) | Err(_) => Err("give a number of 1 to 9999 with s, m or h behind it".to_owned()),
    }
}

/// One member over the time.
struct Track {
    running: Running,
    /// What it had served when the time began, or its process did.
    base: ServedFigures,
    /// What processes before the one that runs served within the time.
    before: ServedFigures,
    /// How often it started anew.
    starts: u32,
}

fn since(now: &ServedFigures, before: &ServedFigures) -> ServedFigures {
    ServedFigures {
        reads: now.reads.since(&before.reads),
        writes: now.writes.since(&before.writes),
    }
}

fn and(one: &ServedFigures, other: &ServedFigures) -> ServedFigures {
    ServedFigures {
        reads: one.reads.and(&other.reads),
        writes: one.writes.and(&other.writes),
    }
}

impl Track {
    fn new(running: Running) -> Track {
        Track {
            base: running.served.clone().unwrap_or_default(),
            before: ServedFigures::default(),
            running,
            starts: 0,
        }
    }

    fn served(&self) -> ServedFigures {
        let now = self.running.served.clone().unwrap_or_default();
        and(&self.before, &since(&now, &self.base))
    }

    /// Takes over what it says now; what it said last stays while it says nothing.
    fn note(&mut self, now: Running) {
        if now.served.is_none() {
            self.running.role = now.role;
            return;
        }
        if self.running.served.is_none() {
            // Heard for the first time: what it served may be long ago.
            self.base = now.served.clone().unwrap_or_default();
        } else if now.since != self.running.since {
            self.before = self.served();
            self.base = ServedFigures::default();
            self.starts += 1;
        }
        self.running = now;
    }
}

/// All members over the time.
struct Comparison {
    tracks: BTreeMap<u64, Track>,
    canary: u64,
}

impl Comparison {
    fn new(upgrade: Upgrade, canary: &str) -> Result<Comparison, CliError> {
        let named = |member: &&Running| {
            member.name == canary
                || member.id.to_string() == canary
                || member
                    .name
                    .strip_prefix(canary)
                    .is_some_and(|rest| rest.starts_with('.'))
        };
        let found: Vec<u64> = upgrade.members.iter().filter(named).map(|member| member.id).collect();
        let [canary] = found[..] else {
            let names: Vec<&str> = upgrade.members.iter().map(|member| member.name.as_str()).collect();
            return Err(CliError::Usage(format!(
                "\"{canary}\" names {} of the members; they are {}",
                if found.is_empty() { "none" } else { "several" },
                names.join(", ")
            )));
        };
        let tracks: BTreeMap<u64, Track> = upgrade
            .members
            .into_iter()
            .map(|one| (one.id, Track::new(one)))
            .collect();
        if tracks.len() < 2 {
            return Err(CliError::Usage(
                "this node is a cluster of one: there is nobody to compare with".to_owned(),
            ));
        }
        if tracks[&canary].running.served.is_none() {
            return Err(CliError::Failed(
                "the canary does not answer, or its release tells no figures; see `vertebra upgrade status`".to_owned(),
            ));
        }
        Ok(Comparison { tracks, canary })
    }

    fn note(&mut self, upgrade: Upgrade) {
        for member in upgrade.members {
            match self.tracks.get_mut(&member.id) {
                Some(track) => track.note(member),
                None => drop(self.tracks.insert(member.id, Track::new(member))),
            }
        }
    }

    fn canary(&self) -> &Track {
        &self.tracks[&self.canary]
    }

    fn others(&self) -> impl Iterator<Item = &Track> {
        self.tracks.values().filter(|track| track.running.id != self.canary)
    }

    fn others_served(&self) -> ServedFigures {
        self.others()
            .fold(ServedFigures::default(), |sum, track| and(&sum, &track.served()))
    }

    fn verdict(&self) -> Verdict {
        let canary = self.canary();
        let mut worse = Vec::new();
        if canary.starts > 0 {
            worse.push(format!("it started anew {} times meanwhile", canary.starts));
        }
        if canary.running.role == "unreachable" {
            worse.push("it does not answer".to_owned());
        }
        match (judge(&canary.served(), &self.others_served()), worse.is_empty()) {
            (verdict, true) => verdict,
            (Verdict::Worse(more), false) => Verdict::Worse([worse, more].concat()),
            (Verdict::AsGood | Verdict::TooFew(_), false) => Verdict::Worse(worse),
        }
    }

    fn table(&self) -> String {
        let cells = |kind: &KindFigures| {
            [
                grouped(kind.requests()),
                format!("{} ({:.3} %)", grouped(kind.failed), rate(kind) * 100.0),
                micros(kind.quantile_us(0.5)),
                micros(kind.quantile_us(0.99)),
            ]
        };
        let row = |name: String, release: &str, served: &ServedFigures| {
            let mut row = vec![name, release.to_owned()];
            row.extend(cells(&served.reads));
            row.extend(cells(&served.writes));
            row
        };
        let one = |track: &Track, what: &str| {
            let name = format!("{} ({}){what}", track.running.name, track.running.id);
            match track.running.served {
                Some(_) => row(name, &track.running.release, &track.served()),
                None => vec![name, track.running.release.clone(), "tells no figures".to_owned()],
            }
        };
        let mut rows = vec![one(self.canary(), ", canary")];
        rows.extend(self.others().map(|track| one(track, "")));
        rows.push(row("the others together".to_owned(), "", &self.others_served()));
        let headers = [
            "NODE", "RELEASE", "READS", "5XX", "P50", "P99", "WRITES", "5XX", "P50", "P99",
        ];
        table(&headers, &rows)
    }

    /// The release of the others, when it is one and another than the canary's.
    fn before(&self) -> Option<&str> {
        let canary = &self.canary().running.release;
        let mut others = self.others().map(|track| track.running.release.as_str());
        others.find(|release| !release.is_empty() && release != canary)
    }

    /// What to do now, as commands.
    fn next(&self, verdict: &Verdict) -> String {
        let canary = &self.canary().running;
        let release = &canary.release;
        // In the inventory of the boot server a machine stands without its domain.
        let labels: Vec<&str> = canary.name.splitn(3, '.').take(2).collect();
        let machine = labels.join(".");
        let promote = format!(
            "promote it. From the boot server:\n  vertebra-provisioning release promote {release} --all && \
             vertebra-provisioning release unpin --node {machine}\nthen restart the machines one after the other. Where Puppet \
             brings the files: set vertebra::install::source for all nodes to those of {release}.\nWhen all run it: vertebra \
             upgrade finalize\n"
        );
        let back = format!(
            "roll back. From the boot server:\n  vertebra-provisioning release unpin --node {machine}\nand on {}: systemctl \
             reboot. Where Puppet brings the files: set vertebra::install::source of that node back to those of {}.\n",
            canary.name,
            self.before().unwrap_or("the release before")
        );
        match verdict {
            Verdict::AsGood => format!("To {promote}"),
            Verdict::Worse(_) => format!("To {back}"),
            Verdict::TooFew(_) => "Nothing is decided: run it again with a longer --soak.\n".to_owned(),
        }
    }
}

fn fetch(door: &Door) -> Result<Upgrade, CliError> {
    door.json("GET", "/admin/upgrade", b"")
}

fn sentence(canary: &Running, verdict: &Verdict) -> String {
    let name = &canary.name;
    match verdict {
        Verdict::AsGood => format!("{name} is as good as the others"),
        Verdict::TooFew(why) => format!("too few requests to tell: {why}"),
        Verdict::Worse(in_what) => format!("{name} is worse: {}", in_what.join("; ")),
    }
}

pub(super) fn run(args: &CompareArgs) -> Result<u8, CliError> {
    let door = args.target.door()?;
    let began = Instant::now();
    let mut comparison = Comparison::new(fetch(&door)?, &args.canary)?;
    while began.elapsed() < args.soak {
        std::thread::sleep(LOOK_EVERY.min(args.soak.saturating_sub(began.elapsed())));
        match fetch(&door) {
            Ok(upgrade) => comparison.note(upgrade),
            // The node that is asked may be restarted meanwhile.
            Err(CliError::NotRunning { .. } | CliError::Failed(_)) if began.elapsed() < args.soak => {}
            Err(error) => return Err(error),
        }
        if args.watch {
            show(&comparison, args.soak.saturating_sub(began.elapsed()));
        }
    }
    let verdict = comparison.verdict();
    let said = sentence(&comparison.canary().running, &verdict);
    if args.json {
        let members: Vec<_> = comparison
            .tracks
            .values()
            .map(|track| {
                let (member, served) = (&track.running, track.served());
                json!({"id": member.id, "name": member.name, "release": member.release, "reads": kind(&served.reads),
                       "writes": kind(&served.writes)})
            })
            .collect();
        let (name, code) = match &verdict {
            Verdict::AsGood => ("as_good", 0),
            Verdict::TooFew(_) => ("too_few", 10),
            Verdict::Worse(_) => ("worse", 20),
        };
        let value = json!({"verdict": name, "exit_code": code, "sentence": said, "soak_seconds": args.soak.as_secs(),
                           "canary": comparison.canary, "members": members});
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&value).expect("it is JSON")
        ));
    } else {
        print(&format!(
            "{}\n{said} ({})\n",
            comparison.table(),
            span(args.soak.as_secs())
        ));
    }
    end(args, &comparison, &verdict)
}

fn kind(figures: &KindFigures) -> serde_json::Value {
    json!({"requests": figures.requests(), "failed": figures.failed, "p50_us": figures.quantile_us(0.5),
           "p99_us": figures.quantile_us(0.99)})
}

fn show(comparison: &Comparison, left: Duration) {
    if std::io::stdout().is_terminal() {
        print("\x1b[H\x1b[2J");
    }
    print(&format!("{}\n{} left\n", comparison.table(), span(left.as_secs())));
}

/// Runs what was given for this end, or says what to run.
fn end(args: &CompareArgs, comparison: &Comparison, verdict: &Verdict) -> Result<u8, CliError> {
    let (command, code) = match verdict {
        Verdict::AsGood => (&args.promote, 0),
        Verdict::TooFew(_) => (&None, 10),
        Verdict::Worse(_) => (&args.roll_back, 20),
    };
    match command {
        Some(command) => {
            eprintln!("running: {command}");
            let ended = Command::new("sh").args(["-c", command]).status();
            let ended = ended.map_err(|cause| CliError::Failed(format!("sh does not start: {cause}")))?;
            if !ended.success() {
                return Err(CliError::Failed(format!(
                    "the command ended with {ended}; nothing else was done"
                )));
            }
        }
        None if !args.json => print(&format!("\n{}", comparison.next(verdict))),
        None => {}
    }
    Ok(code)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Served;

    fn served(requests: u64) -> ServedFigures {
        let served = Served::default();
        (0..requests).for_each(|_| served.count(false, 200, 900));
        served.figures()
    }

    /// Node 2 is the canary; members started at `started` and served so many reads.
    fn told(started: &str, requests: [Option<u64>; 3]) -> Upgrade {
        let mut upgrade = crate::admin::upgrade::example();
        for (member, requests) in upgrade.members.iter_mut().zip(requests) {
            member.name = format!("n{}.north.example", member.id);
            member.since = Some(started.to_owned());
            member.served = requests.map(served);
            member.role = if requests.is_some() { "follower" } else { "unreachable" }.to_owned();
        }
        upgrade.members[1].release = "7.2".to_owned();
        upgrade
    }

    #[test]
    fn durations_are_numbers_with_a_unit() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("30m", 1_800), ("2h", 7_200)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for bad in ["", "m", "0", "-1", "1d", "1h30m", "99999"] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn only_what_came_within_the_time_counts_also_across_a_start() {
        let mut comparison =
            Comparison::new(told("a", [Some(10_000), Some(9_000), None]), "n2.north").expect("it is known");
        comparison.note(told("a", [Some(10_700), Some(9_600), None]));
        assert_eq!(comparison.canary().served().reads.requests(), 600);
        assert_eq!(comparison.others_served().reads.requests(), 700);
        assert_eq!(comparison.verdict(), Verdict::AsGood);
        // One that says nothing for a moment keeps what it had.
        comparison.note(told("a", [None, Some(9_700), Some(5)]));
        assert_eq!(comparison.others_served().reads.requests(), 700);
        comparison.note(told("b", [Some(50), Some(9_800), Some(8)]));
        assert_eq!(comparison.others_served().reads.requests(), 750 + 8);
        // The canary seemed to start too: "b" is everybody's.
        assert!(matches!(comparison.verdict(), Verdict::Worse(why) if why[0].contains("started anew")));
    }

    #[test]
    fn a_canary_that_vanishes_is_worse_and_a_name_must_be_one_member_s() {
        let first = || told("a", [Some(0), Some(0), Some(0)]);
        let mut comparison = Comparison::new(first(), "2").expect("its number");
        comparison.note(told("a", [Some(900), None, Some(900)]));
        assert_eq!(
            comparison.verdict(),
            Verdict::Worse(vec!["it does not answer".to_owned()])
        );
        for bad in ["n", "n4", "n2.nor", ""] {
            assert!(
                matches!(Comparison::new(first(), bad), Err(CliError::Usage(_))),
                "{bad}"
            );
        }
        assert!(Comparison::new(told("a", [Some(0), None, Some(0)]), "n2").is_err());
    }

    #[test]
    fn the_end_names_the_commands_of_this_release_and_this_machine() {
        let mut comparison = Comparison::new(told("a", [Some(0), Some(0), Some(0)]), "n2").expect("it is known");
        comparison.note(told("a", [Some(900), Some(900), Some(900)]));
        let promote = comparison.next(&Verdict::AsGood);
        assert!(
            promote.contains("release promote 7.2 --all && vertebra-provisioning release unpin --node n2.north"),
            "{promote}"
        );
        let back = comparison.next(&Verdict::Worse(Vec::new()));
        assert!(
            back.contains("unpin --node n2.north") && back.contains("those of 7.1"),
            "{back}"
        );
        assert!(
            comparison.table().contains("n2.north.example (2), canary"),
            "{}",
            comparison.table()
        );
    }
}
