//! Histories: what clients did at which moment and what they were told, and whether one cluster with one history could have
//! told it.
//!
//! Owns: the record of operations, and the models that judge it. Must never know: which faults happened. A history is
//! judged by three rules. What was answered as the present must be linearizable, by porcupine: some order of all
//! operations, in which each lies between its call and its answer, gives everybody the answer they got. What was
//! answered with an age may be old, but no older than it said, and never anything that was not written. And an operation
//! without an answer may have happened at any moment after its call, or not at all.

mod mail;
mod patients;
mod stale;

pub use mail::{Got, Mail, MailOp};
pub use patients::{Patients, RecordOp, Told};
pub use stale::StaleRead;

use porcupine_rs::{CheckResult, Model, Operation};
use std::fmt::{self, Write as _};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How long one patient's or mailbox's history may be thought about.
const CHECK_WAIT_MAX: Duration = Duration::from_secs(30);
/// The answer of an operation that has none: later than everything.
const NEVER_US: i64 = i64::MAX;

/// What a client did, and what it was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Did {
    /// With patient number so-and-so of the test.
    Record(u32, RecordOp),
    /// With mailbox number so-and-so of the test.
    Mail(u32, MailOp),
    /// Read a patient's record from a node that said how old its state is.
    Stale(StaleRead),
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Which client.
    pub client: u32,
    /// The node that answered last.
    pub node: u64,
    /// When it was called, µs since the history began.
    pub call_us: i64,
    /// When the answer was there, the same; `None`: there was none.
    pub return_us: Option<i64>,
    /// What it was.
    pub did: Did,
}

/// A history while it is made.
pub struct Recorder {
    began: Instant,
    entries: Mutex<Vec<Entry>>,
}

impl Default for Recorder {
    fn default() -> Recorder {
        Recorder {
            began: Instant::now(),
            entries: Mutex::default(),
        }
    }
}

impl Recorder {
    /// The moment, µs since the history began.
    pub fn now_us(&self) -> i64 {
        i64::try_from(self.began.elapsed().as_micros()).expect("a test ends within years")
    }

    /// Notes an operation that began at `call_us` and was answered just now.
    pub fn answered(&self, client: u32, node: u64, call_us: i64, did: Did) {
        let return_us = Some(self.now_us());
        self.note(Entry {
            client,
            node,
            call_us,
            return_us,
            did,
        });
    }

    /// Notes an operation that had no answer and never will have one.
    pub fn unanswered(&self, client: u32, node: u64, call_us: i64, did: Did) {
        self.note(Entry {
            client,
            node,
            call_us,
            return_us: None,
            did,
        });
    }

    fn note(&self, entry: Entry) {
        let mut entries = self.entries.lock().expect("no client panics while it notes something");
        entries.push(entry);
    }

    /// Everything noted so far.
    pub fn entries(&self) -> Vec<Entry> {
        self.entries
            .lock()
            .expect("no client panics while it notes something")
            .clone()
    }
}

/// What a check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judged {
    /// Changes of records and what became of messages.
    pub writes: usize,
    /// Reads that had to be of the present.
    pub reads: usize,
    /// Reads with an age.
    pub stale: usize,
    /// Operations without an answer.
    pub unanswered: usize,
}

impl fmt::Display for Judged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged {
            writes,
            reads,
            stale,
            unanswered,
        } = self;
        write!(
            f,
            "{writes} writes, {reads} reads, {stale} reads with an age, {unanswered} without an answer"
        )
    }
}

/// Judges a history.
///
/// # Errors
/// What is wrong with it: which rule, which patient or mailbox, and its operations in the order of their calls.
pub fn judge(entries: &[Entry]) -> Result<Judged, String> {
    let mut records: Vec<Operation<Patients>> = Vec::new();
    let mut mail: Vec<Operation<Mail>> = Vec::new();
    let mut judged = Judged::default();
    for entry in entries {
        let write = match &entry.did {
            Did::Record(patient, op) => {
                records.push(operation(entry, (*patient, op.clone())));
                matches!(op, RecordOp::Change { .. })
            }
            Did::Mail(mailbox, op) => {
                mail.push(operation(entry, (*mailbox, op.clone())));
                matches!(op, MailOp::Send { .. } | MailOp::Acknowledge { .. })
            }
            Did::Stale(_) => {
                judged.stale += 1;
                continue;
            }
        };
        judged.unanswered += usize::from(entry.return_us.is_none());
        if write {
            judged.writes += 1;
        } else {
            judged.reads += 1;
        }
    }
    linearizable(&records, "patient", |op| op.0)?;
    linearizable(&mail, "mailbox", |op| op.0)?;
    stale::check(entries)?;
    Ok(judged)
}

fn operation<M: Model>(entry: &Entry, op: M::Op) -> Operation<M> {
    Operation {
        client_id: Some(entry.client),
        call_time: entry.call_us,
        return_time: entry.return_us.unwrap_or(NEVER_US),
        op,
        metadata: None,
    }
}

/// Judges each patient or mailbox by itself: linearizability is a property of each object.
fn linearizable<M: Model>(history: &[Operation<M>], what: &str, key: impl Fn(&M::Op) -> u32) -> Result<(), String> {
    let mut keys: Vec<u32> = history.iter().map(|operation| key(&operation.op)).collect();
    keys.sort_unstable();
    keys.dedup();
    for one in keys {
        let mut own: Vec<_> = history
            .iter()
            .filter(|operation| key(&operation.op) == one)
            .cloned()
            .collect();
        own.sort_by_key(|operation| operation.call_time);
        match porcupine_rs::check_operations_timeout(&own, CHECK_WAIT_MAX) {
            CheckResult::Ok => {}
            CheckResult::Illegal => {
                return Err(format!("{what} {one} has no order of its operations:\n{}", text(&own)));
            }
            CheckResult::Unknown => {
                return Err(format!(
                    "{what} {one}: no verdict on {} operations within {CHECK_WAIT_MAX:?}",
                    own.len()
                ));
            }
        }
    }
    Ok(())
}

fn text<M: Model>(history: &[Operation<M>]) -> String {
    let mut text = String::new();
    for operation in history {
        let client = operation.client_id.unwrap_or(0);
        let answer = match operation.return_time {
            NEVER_US => "never".to_owned(),
            us => us.to_string(),
        };
        let _ = writeln!(
            text,
            "client {client:>2} {:>10} .. {answer:>10} µs {}",
            operation.call_time,
            M::describe_operation(&operation.op)
        );
    }
    text
}
