//! Proof that what is stored is whole: journal checksums, the audit chain, and the ledger against the journal.

mod patients;

use crate::audit::{self, Head, Verdict};
use crate::base::Timestamp;
use crate::bodies::Bodies;
use crate::journal::{Journal, ReadError, Stream};
use crate::ledger::Ledger;
use crate::log::Log;
use crate::services::mesh::MessageId;
use crate::services::mesh::state::{self, Message, Stored};
use serde::{Deserialize, Serialize};

/// What is verified.
#[derive(Clone)]
pub struct Store {
    /// The log.
    pub log: Log,
    /// The ledger.
    pub ledger: Ledger,
    /// The journal.
    pub journal: Journal,
    /// Large bodies.
    pub bodies: Bodies,
    /// Audit heads that the log holds, oldest first.
    pub logged_heads: Vec<Head>,
}

/// One check and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// What was checked.
    pub name: String,
    /// It is whole.
    pub ok: bool,
    /// How much was read, or what does not fit.
    pub detail: String,
}

/// The outcome of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Every check, in the order they were made.
    pub checks: Vec<Check>,
}

impl Report {
    /// Every check found everything whole.
    pub fn ok(&self) -> bool {
        self.checks.iter().all(|check| check.ok)
    }

    fn add(&mut self, name: impl Into<String>, outcome: Result<String, String>) {
        let (ok, detail) = match outcome {
            Ok(detail) => (true, detail),
            Err(detail) => (false, detail),
        };
        self.checks.push(Check {
            name: name.into(),
            ok,
            detail,
        });
    }
}

/// Messages shown as broken at most.
const BROKEN_SHOWN_MAX: usize = 20;
/// Messages read at once.
const PAGE: usize = 200;

/// Verifies. Without `deep`: every sealed segment of the three streams, and the audit chain. With it also every body
/// and every version of a patient's record that state names, read back through the journal. Run it where the journal can be read: on a ring's runtime.
pub async fn verify(store: &Store, deep: bool) -> Report {
    let mut report = Report::default();
    for stream in [Stream::Log, Stream::Bodies, Stream::Audit] {
        let (journal, log) = (store.journal.clone(), store.log.clone());
        let outcome = blocking(move || segments_blocking(&journal, stream, &log)).await;
        report.add(format!("journal, {stream:?} stream"), outcome);
    }
    let (journal, heads) = (store.journal.clone(), store.logged_heads.clone());
    report.add("audit chain", blocking(move || audit_blocking(&journal, &heads)).await);
    let ledger = store.ledger.clone();
    let (applied, committed) = (store.log.status().applied, store.log.status().committed);
    let position = if applied <= committed { Ok(()) } else { Err(()) };
    report.add(
        "ledger position",
        position
            .map(|()| format!("applied {applied} of {committed} committed"))
            .map_err(|()| format!("applied {applied} is beyond {committed} committed; restore this node")),
    );
    if deep {
        let messages = blocking(move || Ok(messages_blocking(&ledger))).await;
        let outcome = match messages {
            Ok(messages) => bodies(store, &messages).await,
            Err(why) => Err(why),
        };
        report.add("ledger against journal", outcome);
        report.add("patients against journal", patients::check(store).await);
    }
    report
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err("the check itself failed; the log says why".to_owned()))
}

fn segments_blocking(journal: &Journal, stream: Stream, log: &Log) -> Result<String, String> {
    let (mut segments, mut records, mut bytes) = (0_u64, 0_u64, 0_u64);
    for segment in journal.segments(stream).into_iter().filter(|segment| segment.sealed) {
        journal
            .scan_blocking(stream, segment.number, &mut |_, position, _| {
                records += 1;
                bytes += u64::from(position.bytes);
            })
            .map_err(|cause| {
                if stream == Stream::Log && matches!(cause, ReadError::Corrupt { .. }) {
                    log.note_damage(segment.number);
                }
                cause.to_string()
            })?;
        segments += 1;
    }
    Ok(format!(
        "{segments} sealed segments, {records} records, {bytes} bytes; open segments are checked at every start"
    ))
}

fn audit_blocking(journal: &Journal, heads: &[Head]) -> Result<String, String> {
    match audit::verify_blocking(journal, heads) {
        Ok(Verdict::Whole(head)) => Ok(format!(
            "{} entries, {} heads in the log matched",
            head.sequence,
            heads.len()
        )),
        Ok(Verdict::Broken { sequence, why }) => Err(format!("broken at entry {sequence}: {why}")),
        Err(cause) => Err(cause.to_string()),
    }
}

/// A chunk that state names.
struct NamedChunk {
    message: MessageId,
    chunk: u32,
    stored: Stored,
}

fn messages_blocking(ledger: &Ledger) -> Vec<NamedChunk> {
    let mut named = Vec::new();
    let mut after_mailbox = None;
    loop {
        let mailboxes = state::mailboxes(ledger, after_mailbox.as_ref(), PAGE);
        for mailbox in &mailboxes {
            let mut after: Option<MessageId> = None;
            loop {
                let page: Vec<Message> =
                    state::received(ledger, &mailbox.id, Timestamp::from_ms(0), after.as_ref(), PAGE);
                for message in &page {
                    named.extend((1..=message.chunks).filter_map(|chunk| {
                        let stored = state::chunk(ledger, &message.id, chunk)?;
                        Some(NamedChunk {
                            message: message.id.clone(),
                            chunk,
                            stored,
                        })
                    }));
                }
                if page.len() < PAGE {
                    break;
                }
                after = page.last().map(|message| message.id.clone());
            }
        }
        if mailboxes.len() < PAGE {
            return named;
        }
        after_mailbox = mailboxes.last().map(|mailbox| mailbox.id.clone());
    }
}

async fn bodies(store: &Store, named: &[NamedChunk]) -> Result<String, String> {
    let mut broken = Vec::new();
    let mut bytes = 0_u64;
    for NamedChunk { message, chunk, stored } in named {
        match read(store, stored).await {
            Ok(read) => bytes += read,
            Err(why) => broken.push(format!("{message} chunk {chunk}: {why}")),
        }
    }
    if broken.is_empty() {
        return Ok(format!("{} chunks, {bytes} bytes read back", named.len()));
    }
    let more = broken.len().saturating_sub(BROKEN_SHOWN_MAX);
    broken.truncate(BROKEN_SHOWN_MAX);
    let tail = if more > 0 {
        format!("; and {more} more")
    } else {
        String::new()
    };
    Err(format!("{}{tail}", broken.join("; ")))
}

/// Reads a chunk back; gives its bytes.
async fn read(store: &Store, stored: &Stored) -> Result<u64, String> {
    match stored {
        Stored::Entry { index, bytes } => {
            let command = store.log.command(*index).await.map_err(|cause| cause.to_string())?;
            match command.len() >= *bytes as usize {
                true => Ok(u64::from(*bytes)),
                false => Err(format!(
                    "entry {index} holds {} bytes, {bytes} were stored",
                    command.len()
                )),
            }
        }
        Stored::Upload(manifest) => {
            let mut download = store.bodies.read(*manifest, 0);
            let mut hasher = blake3::Hasher::new();
            let mut read = 0_u64;
            while let Some(piece) = download.next().await {
                let piece = piece.map_err(|cause| cause.to_string())?;
                read += piece.len() as u64;
                hasher.update(&piece);
            }
            if read != manifest.bytes {
                return Err(format!("{read} of {} bytes are there", manifest.bytes));
            }
            match hasher.finalize().as_bytes() == &manifest.digest.0 {
                true => Ok(read),
                false => Err("the bytes do not have the digest that state names".to_owned()),
            }
        }
    }
}
