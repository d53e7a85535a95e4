//! Log lines: structured fields to systemd's journal, or JSON or text to standard error.
//!
//! Lines leave through one thread behind a bounded queue, because both the journal's socket and a pipe can block and a
//! reactor must not. A full queue drops the line and counts it. Errors are written at once, on the thread that met
//! them: the next thing may be the end of the process.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;

/// How lines leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// systemd's journal.
    Journald,
    /// One JSON object a line on standard error.
    Json,
    /// One line for people on standard error.
    Text,
}

/// Why logging did not start.
#[derive(Debug, thiserror::Error)]
pub enum LoggingError {
    /// Something else logs already.
    #[error("logging was started twice")]
    Started,
    /// No thread for it.
    #[error("the log's thread: {0}")]
    Thread(#[from] io::Error),
}

/// Lines that may wait.
const LINES_MAX: usize = 4_096;
/// Longest line; the rest is cut off.
const LINE_BYTES_MAX: usize = 8 * 1024;

static DROPPED: AtomicU64 = AtomicU64::new(0);
static QUEUE: OnceLock<SyncSender<Line>> = OnceLock::new();

enum Line {
    Text(Vec<u8>),
    Fields(Vec<String>),
}

impl Line {
    fn write(self) {
        match self {
            // Nobody is left to tell when standard error or the journal is gone.
            Line::Text(bytes) => drop(io::stderr().lock().write_all(&bytes)),
            Line::Fields(fields) => {
                let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
                drop(systemd::journal::send(&fields));
            }
        }
    }

    fn send(self, at_once: bool) {
        match QUEUE.get() {
            Some(queue) if !at_once => {
                if queue.try_send(self).is_err() {
                    DROPPED.fetch_add(1, Ordering::Relaxed);
                }
            }
            Some(_) | None => self.write(),
        }
    }
}

/// Lines lost since start because their reader was slow.
pub fn lines_dropped() -> u64 {
    DROPPED.load(Ordering::Relaxed)
}

/// Starts logging for the whole process, from `level` on. Call once, after rights are dropped and signals blocked: its
/// thread inherits both.
pub fn start_logging(format: Format, level: Level) -> Result<(), LoggingError> {
    let (sender, lines) = sync_channel::<Line>(LINES_MAX);
    QUEUE.set(sender).map_err(|_| LoggingError::Started)?;
    std::thread::Builder::new()
        .name("log-lines".to_owned())
        .spawn(move || lines.iter().for_each(Line::write))?;
    let registry = tracing_subscriber::registry().with(targets(level));
    let started = match format {
        Format::Journald => registry.with(JournalLayer).try_init(),
        Format::Json => {
            let layer = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .with_writer(Lines);
            registry.with(layer).try_init()
        }
        Format::Text => {
            let layer = tracing_subscriber::fmt::layer()
                .with_ansi(false)
                .with_target(false)
                .with_writer(Lines);
            registry.with(layer).try_init()
        }
    };
    started.map_err(|_| LoggingError::Started)
}

/// What is written from which level on. openraft warns at every heartbeat that a dead member does not answer, which this
/// node says once in its own words: an operator wants its errors, a developer asks for the rest with `debug`. lapin writes
/// whole messages into its lines: nobody gets these.
pub(super) fn targets(level: Level) -> Targets {
    let raft = if level <= Level::INFO {
        level.min(Level::ERROR)
    } else {
        level
    };
    Targets::new()
        .with_default(level)
        .with_target("openraft", raft)
        .with_target("lapin", LevelFilter::OFF)
}

/// Collects one formatted line and queues it when dropped.
struct LineWriter {
    bytes: Vec<u8>,
    at_once: bool,
}

impl Write for LineWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LineWriter {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        if bytes.len() > LINE_BYTES_MAX {
            bytes.truncate(LINE_BYTES_MAX);
            bytes.push(b'\n');
        }
        if !bytes.is_empty() {
            Line::Text(bytes).send(self.at_once);
        }
    }
}

/// Makes a [`LineWriter`] for each event.
struct Lines;

impl<'a> MakeWriter<'a> for Lines {
    type Writer = LineWriter;

    fn make_writer(&'a self) -> LineWriter {
        LineWriter {
            bytes: Vec::with_capacity(256),
            at_once: false,
        }
    }

    fn make_writer_for(&'a self, metadata: &tracing::Metadata<'_>) -> LineWriter {
        LineWriter {
            bytes: Vec::with_capacity(256),
            at_once: *metadata.level() == Level::ERROR,
        }
    }
}

/// One event as fields of systemd's journal.
pub(super) struct JournalLayer;

/// The fields of an event as `NAME=value`, names as journald takes them.
#[derive(Default)]
pub(super) struct Fields {
    message: String,
    pub(super) pairs: Vec<String>,
}

impl Fields {
    fn push(&mut self, field: &Field, value: &dyn fmt::Display) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value}");
            return;
        }
        let mut pair = String::from("VERTEBRA_");
        pair.extend(field.name().chars().map(|c| {
            if c.is_ascii_alphanumeric() {
                c.to_ascii_uppercase()
            } else {
                '_'
            }
        }));
        pair.truncate(64); // journald's longest name
        let _ = write!(pair, "={value}");
        self.pairs.push(pair);
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, &format_args!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, &value);
    }
}

/// syslog's number of a level.
pub(super) fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

/// All fields of one event, ready for the journal: the message, what it is about, where it was written.
pub(super) fn fields_of(event: &Event<'_>) -> Vec<String> {
    let mut fields = Fields::default();
    event.record(&mut fields);
    let metadata = event.metadata();
    let mut all = fields.pairs;
    all.push(format!("MESSAGE={}", fields.message));
    all.push(format!("PRIORITY={}", priority(*metadata.level())));
    all.push("SYSLOG_IDENTIFIER=vertebra".to_owned());
    all.push(format!("TARGET={}", metadata.target()));
    all.extend(metadata.file().map(|file| format!("CODE_FILE={file}")));
    all.extend(metadata.line().map(|line| format!("CODE_LINE={line}")));
    for field in &mut all {
        if field.len() > LINE_BYTES_MAX {
            let end = (0..=LINE_BYTES_MAX)
                .rev()
                .find(|n| field.is_char_boundary(*n))
                .unwrap_or(0);
            field.truncate(end);
        }
    }
    all
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for JournalLayer {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        Line::Fields(fields_of(event)).send(*event.metadata().level() == Level::ERROR);
    }
}
