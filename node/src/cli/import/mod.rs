//! `vertebra import`: files into the running node, in batches, with a proof at the end that nothing was lost.
//!
//! One thread reads, a few send, this one keeps the books: answers are taken in the order of the batches, so that the
//! state file always says "everything up to here". What was sent and not answered is sent again, with the time the import
//! began, and the node counts what this import stored as loaded: however often it is broken off, the report is the same.

mod report;
mod source;

use super::client::{Target, refusal};
use super::table::grouped;
use super::{CliError, print};
use crate::admin::load::BatchReport;
use indicatif::{ProgressBar, ProgressStyle};
use report::{Rejects, State};
use source::{Batch, Mark, Source};
use std::collections::BTreeMap;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::time::{Duration, Instant};

/// Batches that are sent and not answered.
const IN_FLIGHT: usize = 4;
/// The state file is written after so many answers…
const SAVE_BATCHES: usize = 16;
/// … or this long.
const SAVE_EVERY: Duration = Duration::from_secs(1);
/// Batches of a run that goes on that the run before may have sent.
const AGAIN_BATCHES: u64 = (SAVE_BATCHES + 2 * IN_FLIGHT + 2) as u64;
/// How long one batch may take.
const BATCH_PATIENCE: Duration = Duration::from_secs(60);
/// Without a terminal a line is printed this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// What the files hold
    #[arg(long, value_enum)]
    kind: Kind,
    /// Files of FHIR R4 resources, one a line: plain, gzip or Zstandard; `-` is standard input
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    target: Target,
    /// Where to say which lines were not taken, and why: JSON, one a line, closed to others
    #[arg(long, value_name = "FILE")]
    rejects: Option<PathBuf>,
    /// Copy each rejected line into the reject file too: it then holds people's data
    #[arg(long, requires = "rejects")]
    rejects_with_lines: bool,
    /// Where to keep how far the import is; a run that finds it goes on from there
    #[arg(long, value_name = "FILE")]
    state: Option<PathBuf>,
    /// Patients a second at most
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    rate: Option<u64>,
    /// Seconds to go on trying while the node does not answer
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    patience: u64,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
}

/// What can be imported and exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Kind {
    /// Patient, RelatedPerson and Coverage resources
    Patients,
}

/// A batch on its way.
struct Job {
    sequence: u64,
    /// Which of the files.
    file: usize,
    batch: Batch,
    /// An earlier run may have sent it.
    again: bool,
}

type Answered = (Job, Result<BatchReport, CliError>);

/// What the threads share.
struct Shared<'a> {
    args: &'a Args,
    since_ms: u64,
    stop: AtomicBool,
    read: Arc<AtomicU64>,
}

/// Exit codes are its own: 0 all loaded, 1 some rejected, 2 failed.
pub(super) fn run(args: &Args) -> u8 {
    match args.kind {
        Kind::Patients => import(args).unwrap_or_else(|error| {
            eprintln!("vertebra: {error}");
            2
        }),
    }
}

fn import(args: &Args) -> Result<u8, CliError> {
    let found = match &args.state {
        Some(path) => State::read(path, &args.files)?,
        None => None,
    };
    let resumed = found.is_some();
    let shared = Shared {
        args,
        since_ms: 0,
        stop: AtomicBool::new(false),
        read: Arc::default(),
    };
    let state = match found {
        Some(state) => state,
        // A batch of nothing tells the log's time and puts the import on the record.
        None => State::new(&args.files, shared.ask(b"", false)?.began_ms),
    };
    let shared = Shared {
        since_ms: state.since_ms,
        ..shared
    };
    if resumed {
        eprintln!("Going on where {} lines were done.", grouped(state.totals.lines));
    } else if let Some(path) = &args.state {
        state.write(path)?;
    }
    let rejects = match &args.rejects {
        Some(path) => Some(Rejects::open(path, state.rejects_bytes, args.rejects_with_lines)?),
        None => None,
    };
    let began = Instant::now();
    let before = state.totals.source.patients.count;
    let mut books = Books {
        shared: &shared,
        progress: Progress::new(args),
        state,
        rejects,
        unsaved: 0,
        saved: Instant::now(),
    };
    work(&shared, &mut books, resumed)?;
    books.save()?;
    books.progress.bar.finish_and_clear();
    let totals = &books.state.totals;
    let patients = totals.source.patients.count - before;
    let seconds = began.elapsed().as_secs_f64();
    eprintln!(
        "{} patients in {seconds:.1} s, {} a second",
        grouped(patients),
        grouped((patients as f64 / seconds) as u64)
    );
    match args.json {
        true => print(&format!("{:#}\n", totals.json())),
        false => print(&totals.text()),
    }
    Ok(match (totals.proved(), totals.rejects()) {
        (false, _) => 2,
        (true, 0) => 0,
        (true, _) => 1,
    })
}

/// Reads, sends, keeps the books; ends with the last answer or the first failure.
fn work(shared: &Shared<'_>, books: &mut Books<'_>, resumed: bool) -> Result<(), CliError> {
    let (jobs, waiting) = mpsc::sync_channel::<Job>(IN_FLIGHT);
    let (answers, answered) = mpsc::channel::<Answered>();
    let (files_done, mark) = (books.state.files_done, books.state.mark.clone());
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || read_all(shared, &jobs, (files_done, &mark), resumed));
        let waiting = Arc::new(Mutex::new(waiting));
        for _ in 0..IN_FLIGHT {
            let (waiting, answers) = (waiting.clone(), answers.clone());
            scope.spawn(move || send_all(shared, &waiting, &answers));
        }
        drop((waiting, answers));
        let mut done = books.keep(&answered);
        if done.is_err() {
            shared.stop.store(true, Ordering::Relaxed);
        }
        // Nobody sends any more once the answers end; the reader then ends as well.
        drop(answered);
        match reading.join() {
            Ok(read) => done = done.and(read),
            Err(_) => done = Err(CliError::Failed("the reader ended unexpectedly".to_owned())),
        }
        done
    })
}

/// Cuts the files into batches.
fn read_all(
    shared: &Shared<'_>,
    jobs: &SyncSender<Job>,
    (files_done, mark): (usize, &Mark),
    resumed: bool,
) -> Result<(), CliError> {
    let mut sequence = 0;
    let mut next_at = Instant::now();
    for (file, path) in shared.args.files.iter().enumerate().skip(files_done) {
        let failed = |cause: &dyn std::fmt::Display| CliError::Failed(format!("{}: {cause}", path.display()));
        let mut source = Source::open(path, shared.read.clone()).map_err(|cause| failed(&cause))?;
        if file == files_done {
            source.skip_to(mark).map_err(|cause| failed(&cause))?;
        }
        while let Some(batch) = source.batch().map_err(|cause| failed(&cause))? {
            if let Some(rate) = shared.args.rate {
                while next_at > Instant::now() && !shared.stop.load(Ordering::Relaxed) {
                    std::thread::sleep(
                        next_at
                            .saturating_duration_since(Instant::now())
                            .min(Duration::from_millis(50)),
                    );
                }
                let cost = Duration::from_secs_f64(batch.patients as f64 / rate as f64);
                next_at = next_at.max(Instant::now()) + cost;
            }
            let job = Job {
                sequence,
                file,
                batch,
                again: resumed && sequence < AGAIN_BATCHES,
            };
            if shared.stop.load(Ordering::Relaxed) || jobs.send(job).is_err() {
                return Ok(());
            }
            sequence += 1;
        }
    }
    Ok(())
}

/// Sends batches until there are none.
fn send_all(shared: &Shared<'_>, waiting: &Mutex<Receiver<Job>>, answers: &Sender<Answered>) {
    loop {
        let job = match waiting.lock() {
            Ok(waiting) => waiting.recv(),
            Err(_) => return,
        };
        let Ok(job) = job else { return };
        let answer = shared.send(&job.batch, job.again);
        if answers.send((job, answer)).is_err() || shared.stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

impl Shared<'_> {
    /// Sends one batch; one without lines needs no answer.
    fn send(&self, batch: &Batch, again: bool) -> Result<BatchReport, CliError> {
        if batch.numbers.is_empty() {
            return Ok(BatchReport::default());
        }
        let report = self.ask(&batch.body, again)?;
        match report.lines == batch.numbers.len() as u64 {
            true => Ok(report),
            false => Err(CliError::Failed(
                "the node answered another number of lines than it was sent".to_owned(),
            )),
        }
    }

    /// Asks until there is an answer, for as long as the operator has patience. From the second try on, and when it was
    /// sent `again`, what this import stored counts as loaded.
    fn ask(&self, body: &[u8], mut again: bool) -> Result<BatchReport, CliError> {
        let patience = Duration::from_secs(self.args.patience);
        let began = Instant::now();
        let mut pause = Duration::from_millis(100);
        loop {
            let path = match again {
                true => format!("/admin/load?since={}", self.since_ms),
                false => "/admin/load".to_owned(),
            };
            again = true;
            // The door is looked up each time: a node that came back may answer elsewhere.
            let asked = self
                .args
                .target
                .door()
                .and_then(|door| door.ask("POST", &path, body, BATCH_PATIENCE));
            let error = match asked {
                Ok((200, answer)) => {
                    let report = serde_json::from_slice(&answer).map_err(|_| {
                        CliError::Failed("the node's answer cannot be read; is it of another release?".to_owned())
                    })?;
                    return Ok(report);
                }
                Ok((status, answer)) if status >= 500 => CliError::Refused(refusal(status, &answer)),
                Ok((status, answer)) => return Err(CliError::Refused(refusal(status, &answer))),
                Err(error @ (CliError::NotRunning { .. } | CliError::Failed(_))) => error,
                Err(error) => return Err(error),
            };
            if began.elapsed() > patience || self.stop.load(Ordering::Relaxed) {
                return Err(error);
            }
            std::thread::sleep(pause);
            pause = (pause * 2).min(Duration::from_secs(2));
        }
    }
}

/// The import's books.
struct Books<'a> {
    shared: &'a Shared<'a>,
    progress: Progress,
    state: State,
    rejects: Option<Rejects>,
    unsaved: usize,
    saved: Instant,
}

impl Books<'_> {
    /// Takes the answers, in the order of their batches.
    fn keep(&mut self, answered: &Receiver<Answered>) -> Result<(), CliError> {
        let mut early: BTreeMap<u64, (Job, BatchReport)> = BTreeMap::new();
        let mut next = 0;
        while let Ok((job, answer)) = answered.recv() {
            early.insert(job.sequence, (job, answer?));
            while let Some((job, report)) = early.remove(&next) {
                next += 1;
                self.enter(&job, report)?;
            }
        }
        Ok(())
    }

    fn enter(&mut self, job: &Job, mut report: BatchReport) -> Result<(), CliError> {
        // The patients that it names may have been in a batch beside it; by now those are all answered.
        if report.rejects.iter().any(|reject| reject.code == "patient_unknown") {
            report = self.shared.send(&job.batch, true)?;
        }
        let path = self.shared.args.files[job.file].clone();
        self.enter_rejects(&path, &job.batch, &report)?;
        let state = &mut self.state;
        state.totals.add(&report);
        state.totals.lines += job.batch.unfit.len() as u64;
        (state.files_done, state.mark) = match job.batch.last {
            true => (job.file + 1, Mark::default()),
            false => (job.file, job.batch.end.clone()),
        };
        self.progress
            .show(&self.state, self.shared.read.load(Ordering::Relaxed));
        self.unsaved += 1;
        if self.unsaved >= SAVE_BATCHES || self.saved.elapsed() >= SAVE_EVERY {
            self.save()?;
        }
        Ok(())
    }

    fn enter_rejects(&mut self, path: &Path, batch: &Batch, report: &BatchReport) -> Result<(), CliError> {
        for unfit in &batch.unfit {
            self.state.totals.reject(unfit.code);
            if let Some(rejects) = &mut self.rejects {
                rejects.add(path, unfit.line, (unfit.code, &unfit.reason), None)?;
            }
        }
        if report.rejects.is_empty() {
            return Ok(());
        }
        let lines: Vec<&[u8]> = batch.body.split(|byte| *byte == b'\n').collect();
        for reject in &report.rejects {
            let at = usize::try_from(reject.line).unwrap_or(usize::MAX);
            let line = batch.numbers.get(at).copied().unwrap_or(0);
            if let Some(rejects) = &mut self.rejects {
                rejects.add(path, line, (&reject.code, &reject.reason), lines.get(at).copied())?;
            }
        }
        Ok(())
    }

    /// Makes durable what was answered: the rejects first, because the state names their length.
    fn save(&mut self) -> Result<(), CliError> {
        if let Some(rejects) = &self.rejects {
            rejects.sync()?;
            self.state.rejects_bytes = rejects.bytes;
        }
        if let Some(path) = &self.shared.args.state {
            self.state.write(path)?;
        }
        (self.unsaved, self.saved) = (0, Instant::now());
        Ok(())
    }
}

/// A bar on a terminal, a line now and then elsewhere; on standard error.
struct Progress {
    bar: ProgressBar,
    told: Instant,
}

impl Progress {
    fn new(args: &Args) -> Progress {
        if !std::io::stderr().is_terminal() {
            return Progress {
                bar: ProgressBar::hidden(),
                told: Instant::now(),
            };
        }
        let sizes = args
            .files
            .iter()
            .map(|path| std::fs::metadata(path).map(|meta| meta.len()).ok());
        let bar = match sizes.sum::<Option<u64>>() {
            Some(bytes) => ProgressBar::new(bytes),
            None => ProgressBar::new_spinner(),
        };
        let style = "{bar:30} {bytes}/{total_bytes} {msg} [{elapsed}, {eta} left]";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        Progress {
            bar,
            told: Instant::now(),
        }
    }

    fn show(&mut self, state: &State, read: u64) {
        let lines = || {
            format!(
                "{} lines, {} rejected",
                grouped(state.totals.lines),
                grouped(state.totals.rejects())
            )
        };
        if !self.bar.is_hidden() {
            self.bar.set_position(read);
            self.bar.set_message(lines());
        } else if self.told.elapsed() >= LINE_EVERY {
            eprintln!("{}", lines());
            self.told = Instant::now();
        }
    }
}
