//! `vertebra audit`: prove the chain, ask it, take it along.

use super::client::Target;
use super::table::{grouped, table};
use super::verify::{PATIENCE, open_config, stopped_node};
use super::{CliError, event, print};
use crate::admin::audit::{ChainReport, Line, Page, Search};
use crate::audit;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

#[derive(clap::Subcommand, Debug)]
pub(super) enum AuditCommand {
    /// Prove that no entry was altered, dropped, reordered or cut off, or name the first broken one
    #[command(
        after_help = "Examples:\n  vertebra audit verify\n  vertebra audit verify --sandbox ./box --json\n\n\
                            Asks the running node; of a stopped one it reads the data folder itself.\n\
                            Exit codes: 0 whole, 1 broken or not readable"
    )]
    Verify {
        #[command(flatten)]
        target: Target,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Who did what to whom, oldest first
    #[command(
        after_help = "Examples:\n  vertebra audit query --subject 20261122150405123456_00002A   # who touched this message\n  \
                      vertebra audit query --actor X26ABC1 --action 'mesh.download*' --from 2026-11-22T00:00:00Z\n  \
                      vertebra audit query --outcome 403 --json | jq -r .actor\n  \
                      vertebra audit query --action audit.query   # who looked at the record\n\n\
                      Every question is itself an entry of the chain."
    )]
    Query {
        #[command(flatten)]
        filter: Filter,
        /// Entries at most, the oldest that fit; --after shows those behind them
        #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=100_000))]
        limit: u64,
        /// Print one JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// The chain, or a part of it, as FHIR R4 AuditEvents, one a line
    #[command(
        after_help = "Examples:\n  vertebra audit export --output audit.ndjson\n  vertebra audit export --subject X26ABC1 | jq .recorded\n  \
                      vertebra audit export --after 48211 --output next.ndjson   # goes on where an export ended\n\n\
                      Every export is itself an entry of the chain."
    )]
    Export {
        #[command(flatten)]
        filter: Filter,
        /// File to write, closed to others and fsynced; standard output when left out
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
        /// Replace the file when it is there
        #[arg(long, requires = "output")]
        force: bool,
    },
}

/// Which entries.
#[derive(clap::Args, Debug)]
pub(super) struct Filter {
    #[command(flatten)]
    target: Target,
    /// To what: a message, mailbox or NHS number
    #[arg(long, value_name = "ID")]
    subject: Option<String>,
    /// Who: a mailbox, client or `operator`
    #[arg(long, value_name = "NAME")]
    actor: Option<String>,
    /// On whose behalf: an ODS code
    #[arg(long, value_name = "ODS")]
    organisation: Option<String>,
    /// What was done: mesh.send, or a beginning: 'mesh.*'
    #[arg(long)]
    action: Option<String>,
    /// How it ended: 202, 403, EPL-151
    #[arg(long)]
    outcome: Option<String>,
    /// In which request: 16 hexadecimal digits, as in the log
    #[arg(long, value_name = "ID")]
    request: Option<String>,
    /// Not before: 2026-11-22T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    from: Option<u64>,
    /// Before: 2026-11-23T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = time_ms)]
    to: Option<u64>,
    /// Behind this entry
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    after: u64,
}

fn time_ms(text: &str) -> Result<u64, String> {
    let time: Option<jiff::Timestamp> = text.parse().ok();
    time.and_then(|time| u64::try_from(time.as_millisecond()).ok())
        .ok_or_else(|| "give a moment with its zone: 2026-11-22T15:04:05Z".to_owned())
}

impl Filter {
    /// Checked as the node would, so that wrong usage is told apart from a failure.
    fn search(&self) -> Result<Search, CliError> {
        let search = Search {
            subject: self.subject.clone(),
            actor: self.actor.clone(),
            organisation: self.organisation.clone(),
            action: self.action.clone(),
            outcome: self.outcome.clone(),
            request: self.request.clone(),
            from_ms: self.from,
            to_ms: self.to,
            after: self.after,
            until: None,
            limit: 0,
        };
        search.check().map_err(|refused| CliError::Usage(refused.to_string()))?;
        Ok(search)
    }

    /// Asks page after page, and gives each to `take`. `true`: `limit` entries were given and there are more.
    fn ask(
        &self,
        call: &str,
        limit: Option<u64>,
        take: &mut dyn FnMut(&Page) -> Result<(), CliError>,
    ) -> Result<bool, CliError> {
        let mut search = self.search()?;
        let door = self.target.door()?;
        let path = format!("/admin/audit/{call}");
        let mut left = limit.unwrap_or(u64::MAX);
        loop {
            search.limit = usize::try_from(left).unwrap_or(0);
            let body = serde_json::to_vec(&search).expect("a search has a JSON form");
            let page: Page = door.json_within("POST", &path, &body, PATIENCE)?;
            take(&page)?;
            left = left.saturating_sub(page.entries.len() as u64);
            if let Some(sequence) = page.broken {
                let what = format!(
                    "the chain is broken at entry {sequence}, nothing behind it is told: `vertebra audit verify` says why"
                );
                return Err(CliError::Failed(what));
            }
            match page.entries.last() {
                Some(last) if page.more && left > 0 => search.after = last.sequence,
                Some(_) | None => return Ok(page.more),
            }
            search.until = Some(page.until);
        }
    }
}

pub(super) fn run(command: &AuditCommand) -> Result<u8, CliError> {
    match command {
        AuditCommand::Verify { target, json } => verify(target, *json),
        AuditCommand::Query { filter, limit, json } => query(filter, *limit, *json),
        AuditCommand::Export { filter, output, force } => export(filter, output.as_deref(), *force),
    }
}

fn verify(target: &Target, json: bool) -> Result<u8, CliError> {
    let asked = target
        .door()
        .and_then(|door| door.json_within("POST", "/admin/audit/verify", b"", PATIENCE));
    let report: ChainReport = match asked {
        Ok(report) => report,
        Err(CliError::NotRunning { .. }) if target.socket.is_none() => {
            eprintln!("The node does not run: reading its data folder.");
            stopped(target)?
        }
        Err(error) => return Err(error),
    };
    match json {
        true => print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&report).expect("a report has a JSON form")
        )),
        false => print(&render(&report)),
    }
    Ok(u8::from(!report.whole))
}

/// A journal that does not open because its audit stream is damaged is read as far as it can be, to name the entry.
fn stopped(target: &Target) -> Result<ChainReport, CliError> {
    let opened = stopped_node(target, async |store| {
        ChainReport::of_blocking(&store.journal, &store.logged_heads).map_err(CliError::Failed)
    });
    let why = match opened {
        Err(CliError::AuditDamaged(why)) => why,
        other => return other,
    };
    let folder = open_config(target)?.node.data.join("journal");
    let sequence = audit::first_lost_blocking(&folder).map_err(|cause| CliError::Failed(cause.to_string()))?;
    Ok(ChainReport::broken(sequence, why))
}

/// A few lines: whole, or where it breaks.
pub(super) fn render(report: &ChainReport) -> String {
    let heads = format!(
        "{} of {} heads in the log matched",
        grouped(report.heads_matched),
        grouped(report.heads_logged)
    );
    match (report.broken, report.entries) {
        (Some(sequence), _) => format!(
            "BROKEN at entry {sequence}: {}\n{heads}\n\nKeep this node's disk as evidence, and find out who could write to it.\n",
            report.why
        ),
        (None, 0) => "OK: the chain is empty.\n".to_owned(),
        (None, _) => format!(
            "OK: {} entries, the first one kept is {}\nhead {}\n{heads}\n",
            grouped(report.entries),
            report.first.map_or("none".to_owned(), grouped),
            report.head
        ),
    }
}

fn query(filter: &Filter, limit: u64, json: bool) -> Result<u8, CliError> {
    let mut shown = 0;
    let mut last = 0;
    let more = filter.ask("query", Some(limit), &mut |page| {
        shown += page.entries.len();
        last = page.entries.last().map_or(last, |line| line.sequence);
        if json {
            for line in &page.entries {
                let text = serde_json::to_string(line).expect("a line has a JSON form");
                print(&format!("{text}\n"));
            }
        } else if !page.entries.is_empty() {
            print(&rows(&page.entries));
        }
        Ok(())
    })?;
    if more {
        eprintln!("There is more behind entry {last}: narrow it with --from, or go on with --after {last}.");
    } else if shown == 0 {
        eprintln!("No entry fits.");
    }
    Ok(0)
}

/// Two texts, or the one that is there.
fn joined(first: &str, between: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (_, true) => first.to_owned(),
        (true, false) => format!("{}{second}", between.trim_start()),
        (false, false) => format!("{first}{between}{second}"),
    }
}

/// The table that people read.
pub(super) fn rows(lines: &[Line]) -> String {
    let rows: Vec<Vec<String>> = lines
        .iter()
        .map(|line| {
            vec![
                line.sequence.to_string(),
                line.at.replace('T', " "),
                joined(&line.actor, " as ", &line.role),
                joined(&line.organisation, " for ", &line.on_behalf),
                line.action.clone(),
                line.outcome.clone(),
                line.request.clone(),
                line.subject.clone(),
            ]
        })
        .collect();
    table(
        &[
            "ENTRY",
            "WHEN",
            "WHO",
            "ORGANISATION",
            "WHAT",
            "OUTCOME",
            "REQUEST",
            "TO WHAT",
        ],
        &rows,
    )
}

fn export(filter: &Filter, output: Option<&Path>, force: bool) -> Result<u8, CliError> {
    let Some(path) = output else {
        let out = &mut io::BufWriter::new(io::stdout().lock());
        return match write_events(filter, out) {
            Ok(_) => Ok(0),
            // A reader that went away (`| head`) has what it wanted.
            Err(WriteError::Io(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            Err(error) => Err(error.at(Path::new("standard output"))),
        };
    };
    filter.search()?;
    if path.exists() && !force {
        let what = format!(
            "{} is there already; give another name, or --force to replace it",
            path.display()
        );
        return Err(CliError::Usage(what));
    }
    // Under a name of its own until it is whole and durable: a name that is there holds a whole export.
    let mut part = path.as_os_str().to_owned();
    part.push(".part");
    let part = PathBuf::from(part);
    let written = write_file(filter, path, &part, force);
    if written.is_err() {
        let _ = fs::remove_file(&part);
    }
    let count = written.map_err(|error| error.at(path))?;
    eprintln!("{} entries in {}", grouped(count), path.display());
    Ok(0)
}

/// Why an export was not written.
enum WriteError {
    /// The node did not answer it.
    Ask(CliError),
    /// The system did not take it.
    Io(io::Error),
}

impl WriteError {
    fn at(self, path: &Path) -> CliError {
        match self {
            WriteError::Ask(error) => error,
            WriteError::Io(cause) => CliError::Failed(format!("{}: {cause}", path.display())),
        }
    }
}

fn write_file(filter: &Filter, path: &Path, part: &Path, force: bool) -> Result<u64, WriteError> {
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(part);
    let mut out = io::BufWriter::new(file.map_err(WriteError::Io)?);
    let count = write_events(filter, &mut out)?;
    let named = || -> io::Result<()> {
        out.get_ref().sync_all()?;
        if force {
            fs::rename(part, path)?;
        } else {
            // Fails when somebody made the name meanwhile, which a rename would replace.
            fs::hard_link(part, path)?;
            fs::remove_file(part)?;
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    };
    named().map_err(WriteError::Io)?;
    Ok(count)
}

fn write_events(filter: &Filter, out: &mut dyn Write) -> Result<u64, WriteError> {
    let mut count = 0;
    let mut failed = None;
    let asked = filter.ask("export", None, &mut |page| {
        for line in &page.entries {
            if let Err(cause) = writeln!(out, "{}", event::of(line, page.node)) {
                failed = Some(cause);
                return Err(CliError::Failed("the export cannot be written".to_owned()));
            }
            count += 1;
        }
        Ok(())
    });
    match (failed, asked) {
        (Some(cause), _) => Err(WriteError::Io(cause)),
        (None, Err(error)) => Err(WriteError::Ask(error)),
        (None, Ok(_)) => out.flush().map(|()| count).map_err(WriteError::Io),
    }
}
