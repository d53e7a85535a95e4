//! `vertebra synth`: synthetic people, as much as wanted, the same every time.

use super::CliError;
use crate::services::pds::synth::{PEOPLE_MAX, People, WELL_KNOWN};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

/// Bytes that are written at once.
const CHUNK_BYTES: usize = 1024 * 1024;

#[derive(clap::Subcommand, Debug)]
pub(super) enum SynthCommand {
    /// People with names, addresses, practices, related people: FHIR R4 resources, one a line
    #[command(
        after_help = "Examples:\n  vertebra synth patients --count 10000 --seed 7 --output people.ndjson\n  \
                      vertebra synth patients --count 4000000 | zstd > people.ndjson.zst\n  \
                      vertebra synth patients --count 1000 | vertebra import --kind patients - --sandbox ./box\n\n\
                      The same seed gives the same people, byte for byte, on any machine; the first hundred are the same\n\
                      however many are asked for. NHS numbers are of the test range, telephone numbers of those kept for\n\
                      drama, email addresses at example.com."
    )]
    Patients(PatientsArgs),
}

#[derive(clap::Args, Debug)]
pub(super) struct PatientsArgs {
    /// How many people
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=PEOPLE_MAX))]
    count: u64,
    /// Which people
    #[arg(long, value_name = "S", default_value_t = 0)]
    seed: u64,
    /// First of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    from: u64,
    /// Today, as far as the data goes; never taken from the clock
    #[arg(long, value_name = "YYYY-MM-DD", default_value = "2026-11-01", value_parser = day)]
    as_of: jiff::civil::Date,
    /// Put the specification's example patients first
    #[arg(long)]
    well_known: bool,
    /// File to write, closed to others; `-` is standard output
    #[arg(long, value_name = "FILE", default_value = "-")]
    output: PathBuf,
}

fn day(text: &str) -> Result<jiff::civil::Date, String> {
    let date: Option<jiff::civil::Date> = text.parse().ok();
    date.filter(|date| (1950..2200).contains(&date.year()))
        .ok_or_else(|| "give a date from 1950 to 2199: 2026-11-01".to_owned())
}

pub(super) fn run(command: &SynthCommand) -> Result<u8, CliError> {
    match command {
        SynthCommand::Patients(args) => patients(args),
    }
}

fn patients(args: &PatientsArgs) -> Result<u8, CliError> {
    if args.from.checked_add(args.count).is_none_or(|end| end > PEOPLE_MAX) {
        return Err(CliError::Usage(format!(
            "--from and --count end within {PEOPLE_MAX} people"
        )));
    }
    if args.output == Path::new("-") {
        return match write(args, &mut io::stdout().lock()) {
            // A reader that went away (`| head`) has what it wanted.
            Err(cause) if cause.kind() == io::ErrorKind::BrokenPipe => Ok(0),
            done => done
                .map(|()| 0)
                .map_err(|cause| CliError::Failed(format!("standard output: {cause}"))),
        };
    }
    let failed = |cause: io::Error| CliError::Failed(format!("{}: {cause}", args.output.display()));
    // Under a name of its own until it is whole.
    let part = args.output.with_added_extension("part");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&part)
        .map_err(failed)?;
    let done = write(args, &mut file)
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&part, &args.output));
    if done.is_err() {
        let _ = fs::remove_file(&part);
    }
    done.map_err(failed)?;
    Ok(0)
}

fn write(args: &PatientsArgs, out: &mut dyn Write) -> io::Result<()> {
    let people = People::new(args.seed).as_of(args.as_of.year(), args.as_of.month(), args.as_of.day());
    let mut chunk = Vec::with_capacity(CHUNK_BYTES + 64 * 1024);
    if args.well_known {
        chunk.extend_from_slice(WELL_KNOWN.as_bytes());
    }
    for index in args.from..args.from + args.count {
        people.write(index, &mut chunk);
        if chunk.len() >= CHUNK_BYTES {
            out.write_all(&chunk)?;
            chunk.clear();
        }
    }
    out.write_all(&chunk)?;
    out.flush()
}

/// Makes the folder's names durable.
pub(super) fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}
