//! `vertebra export`: every record out of the running node, restricted ones whole, with the report that an import gives.

use super::client::{Target, refusal};
use super::import::Kind;
use super::synth::sync_folder_of;
use super::table::grouped;
use super::{CliError, print};
use crate::admin::load::{PageEnd, Unload};
use crate::services::pds::load::{Tallies, Tally};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long one page may take.
const PAGE_PATIENCE: Duration = Duration::from_secs(60);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What to export
    #[arg(long, value_enum)]
    kind: Kind,
    #[command(flatten)]
    target: Target,
    /// File to write, closed to others and fsynced; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
    /// Replace the file when it is there
    #[arg(long)]
    force: bool,
    /// Seconds to go on trying while the node does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<u8, CliError> {
    match args.kind {
        Kind::Patients => {}
    }
    let failed = |cause: io::Error| CliError::Failed(format!("{}: {cause}", args.output.display()));
    if args.output == Path::new("-") {
        let mut out = io::BufWriter::new(io::stdout().lock());
        return match write(args, &mut out) {
            Ok(tallies) => {
                eprint!("{}", report(args, &tallies));
                Ok(0)
            }
            Err(Stopped::Io(cause)) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            Err(Stopped::Io(cause)) => Err(failed(cause)),
            Err(Stopped::Ask(error)) => Err(error),
        };
    }
    if args.output.exists() && !args.force {
        let what = "it is there already; give another name, or --force to replace it";
        return Err(CliError::Usage(format!("{}: {what}", args.output.display())));
    }
    let part = args.output.with_added_extension("part");
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part);
    let mut out = io::BufWriter::with_capacity(1024 * 1024, file.map_err(failed)?);
    let written = write(args, &mut out).and_then(|tallies| {
        let named = out.get_ref().sync_all().and_then(|()| fs::rename(&part, &args.output));
        named.and_then(|()| sync_folder_of(&args.output)).map_err(Stopped::Io)?;
        Ok(tallies)
    });
    match written {
        Ok(tallies) => {
            print(&report(args, &tallies));
            Ok(0)
        }
        Err(stopped) => {
            let _ = fs::remove_file(&part);
            Err(match stopped {
                Stopped::Io(cause) => failed(cause),
                Stopped::Ask(error) => error,
            })
        }
    }
}

/// Why an export ended early.
enum Stopped {
    /// The node did not answer it.
    Ask(CliError),
    /// The system did not take it.
    Io(io::Error),
}

/// Page after page, each counted by the node and again here.
fn write(args: &Args, out: &mut dyn Write) -> Result<Tallies, Stopped> {
    let mut all = Tallies::default();
    let mut wanted = Unload::default();
    loop {
        let page = ask(args, &wanted).map_err(Stopped::Ask)?;
        let cut = || {
            Stopped::Ask(CliError::Failed(
                "a page of the node has no end; nothing was exported".to_owned(),
            ))
        };
        let content = page.strip_suffix(b"\n").ok_or_else(cut)?;
        let start = memchr::memrchr(b'\n', content).map_or(0, |at| at + 1);
        let end: PageEnd = serde_json::from_slice(&content[start..]).map_err(|_| cut())?;
        let lines = memchr::memchr_iter(b'\n', &content[..start]).count() as u64;
        if lines != end.unloaded.count() {
            return Err(cut());
        }
        out.write_all(&content[..start]).map_err(Stopped::Io)?;
        all.add_all(&end.unloaded);
        match end.next {
            Some(next) => wanted.after = Some(next),
            None => return out.flush().map(|()| all).map_err(Stopped::Io),
        }
    }
}

/// One page; asked again while the node does not answer, as pages change nothing.
fn ask(args: &Args, wanted: &Unload) -> Result<Vec<u8>, CliError> {
    let body = serde_json::to_vec(wanted).expect("it has a JSON form");
    let began = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        let asked = args
            .target
            .door()
            .and_then(|door| door.ask("POST", "/admin/unload", &body, PAGE_PATIENCE));
        let error = match asked {
            Ok((200, page)) => return Ok(page),
            Ok((503, answer)) => CliError::Refused(refusal(503, &answer)),
            Ok((status, answer)) => return Err(CliError::Refused(refusal(status, &answer))),
            Err(error @ (CliError::NotRunning { .. } | CliError::Failed(_))) => error,
            Err(error) => return Err(error),
        };
        if began.elapsed() > Duration::from_secs(args.patience) {
            return Err(error);
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}

fn report(args: &Args, tallies: &Tallies) -> String {
    let all = Tally {
        count: tallies.count(),
        digest: tallies.digest(),
    };
    let Tallies {
        patients,
        related_people,
        coverage,
    } = tallies;
    match args.json {
        true => format!(
            "{:#}\n",
            serde_json::json!({"exported": {
                "patients": patients, "related_people": related_people, "coverage": coverage, "all": all,
            }})
        ),
        false => format!(
            "{} patients, {} related people, {} coverage\ndigest {}\n",
            grouped(patients.count),
            grouped(related_people.count),
            grouped(coverage.count),
            all.digest
        ),
    }
}
