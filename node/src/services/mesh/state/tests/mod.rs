//! A world to judge commands in: the real ledger, a log of one, and a count of what is held.

mod format;
mod model;
mod property;
mod questions;
mod sending;
mod time;

use super::tables::{self, NONCES, PERMANENT, RETRIES};
use super::*;
use crate::base::{Digest, OdsCode, UploadId};
use crate::journal::Watermarks;
use crate::ledger::{Hold, Ledger, Read, Table};
use crate::services::mesh::command::{Body, Mailbox, Nonce, Refusal, Workflow};
use std::collections::BTreeSet;
use std::ops::Bound;
use std::path::PathBuf;

/// Noon of some day.
pub(super) const START: Timestamp = Timestamp::from_ms(1_795_348_800_000);

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Something that is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    Entry(LogIndex),
    Upload(UploadId),
}

/// A log of one over the real ledger.
pub(super) struct World {
    pub ledger: Ledger,
    pub at: At,
    pub held: BTreeSet<Held>,
    /// Holds of what was held and releases of what was not.
    pub faults: Vec<String>,
    nonces: u64,
    _folder: Folder,
}

impl World {
    pub fn new() -> World {
        let path = std::env::temp_dir().join(format!("vertebra-mesh-{:016x}", rand::random::<u64>()));
        std::fs::create_dir_all(&path).expect("the temporary folder can be made");
        let (ledger, _) = Ledger::open(&path, 1 << 30).expect("the ledger opens");
        World {
            ledger,
            at: At { index: 0, time: START },
            held: BTreeSet::new(),
            faults: Vec::new(),
            nonces: 0,
            _folder: Folder(path),
        }
    }

    /// With mailboxes `A`, `B` and `C` of organisations X26, X26 and X27.
    pub fn with_mailboxes() -> World {
        let mut world = World::new();
        for (id, ods) in [("A", "X26"), ("B", "X26"), ("C", "X27")] {
            world.apply(&Command::PutMailbox(mailbox(id, ods)));
        }
        world
    }

    /// Judges as the log does: through bytes.
    pub fn apply(&mut self, command: &Command) -> Outcome {
        self.at.index += 1;
        let encoded = command.encode(&tail_of(command));
        let mut writer = self.ledger.writer();
        let outcome = apply_encoded(&mut writer, self.at, &encoded).expect("our own encoding");
        let holds = writer.commit();
        self.ledger.applied((1, 1, self.at.index), self.at.time);
        for hold in holds {
            let sound = match hold {
                Hold::Entry(index) => self.held.insert(Held::Entry(index)),
                Hold::Upload(upload) => self.held.insert(Held::Upload(upload)),
                Hold::ReleaseEntry(index) => self.held.remove(&Held::Entry(index)),
                Hold::ReleaseUpload(upload) => self.held.remove(&Held::Upload(upload)),
            };
            if !sound {
                self.faults.push(format!("{hold:?} at {}", self.at.index));
            }
        }
        Outcome::decode(&outcome).expect("our own encoding")
    }

    pub fn pass(&mut self, ms: u64) {
        self.at.time = self.at.time.plus_ms(ms);
    }

    pub fn checkpoint(&self) {
        self.ledger
            .checkpoint_blocking(Watermarks::default())
            .expect("the checkpoint lands");
    }

    /// A token that was not used before.
    pub fn nonce(&mut self) -> Nonce {
        self.nonces += 1;
        nonce(self.nonces, self.at.time)
    }

    /// Sends a small message; gives its identifier.
    pub fn send(&mut self, from: &str, to: &str, content: &str) -> MessageId {
        let command = send(self.nonce(), from, to, &metadata("W", None), 1, inline(content));
        sent_id(&self.apply(&command))
    }

    pub fn acknowledge(&mut self, by: &str, message: &MessageId) -> Outcome {
        let command = Command::Acknowledge {
            nonce: self.nonce(),
            mailbox: id(by),
            message: message.clone(),
        };
        self.apply(&command)
    }

    pub fn chunk(&mut self, from: &str, message: &MessageId, chunk: u32, chunks: u32, body: Body) -> Outcome {
        let command = send_chunk(self.nonce(), from, message, chunk, chunks, body);
        self.apply(&command)
    }

    /// Sweeps until nothing is due.
    pub fn sweep(&mut self) {
        for _ in 0..1000 {
            self.apply(&Command::Sweep { messages_max: 100 });
            if !sweep_due(&self.ledger, self.at.time) {
                return;
            }
        }
        panic!("a sweep makes progress");
    }

    pub fn inbox(&self, mailbox: &str) -> Vec<MessageId> {
        inbox(&self.ledger, &id(mailbox), 0, usize::MAX, None, 0).messages
    }

    pub fn message(&self, id: &MessageId) -> Message {
        message(&self.ledger, id).expect("the message exists")
    }

    /// Everything the tables hold, to compare two worlds.
    pub fn dump(&self) -> Vec<(Table, Vec<u8>, Vec<u8>)> {
        let mut all = Vec::new();
        let families = [NONCES, RETRIES].into_iter().flat_map(|family| {
            let periods = self.ledger.periods(family);
            periods.into_iter().map(move |period| Table::of_period(family, period))
        });
        for table in PERMANENT.into_iter().chain(families) {
            self.ledger
                .scan(table, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
                    all.push((table, key.to_vec(), value.to_vec()));
                    true
                });
        }
        all
    }
}

fn tail_of(command: &Command) -> Vec<u8> {
    match command {
        Command::Send { body, .. } | Command::SendChunk { body, .. } => match body {
            Body::Inline { bytes, .. } => vec![0; *bytes as usize],
            Body::Upload(_) => Vec::new(),
        },
        _ => Vec::new(),
    }
}

pub(super) fn id(text: &str) -> MailboxId {
    MailboxId::parse(text).expect("a mailbox identifier")
}

pub(super) fn mailbox(text: &str, ods: &str) -> Mailbox {
    Mailbox {
        id: id(text),
        name: format!("Mailbox {text}"),
        ods: OdsCode::parse(ods).expect("an ODS code"),
        organisation: "An organisation".to_owned(),
        billing_entity: "England".to_owned(),
        password: "password".to_owned(),
        active: true,
        safe_retry: true,
    }
}

pub(super) fn nonce(number: u64, stamped: Timestamp) -> Nonce {
    let digest = Digest::of(&number.to_be_bytes());
    let fingerprint = *digest.0.first_chunk().expect("a digest has 32 bytes");
    Nonce { fingerprint, stamped }
}

pub(super) fn metadata(workflow: &str, local_id: Option<&str>) -> Metadata {
    Metadata {
        workflow: workflow.to_owned(),
        local_id: local_id.map(str::to_owned),
        ..Metadata::default()
    }
}

pub(super) fn inline(content: &str) -> Body {
    Body::Inline {
        bytes: content.len() as u32,
        digest: Digest::of(content.as_bytes()),
    }
}

pub(super) fn upload(content: &str, bytes: u64, started: Timestamp, random: u128) -> Body {
    Body::Upload(Manifest {
        upload: UploadId::new(started, random),
        bytes,
        pieces: bytes.div_ceil(256 * 1024) as u32,
        digest: Digest::of(content.as_bytes()),
    })
}

pub(super) fn send(nonce: Nonce, from: &str, to: &str, metadata: &Metadata, chunks: u32, body: Body) -> Command {
    Command::Send {
        nonce,
        sender: id(from),
        recipient: id(to),
        metadata: metadata.clone(),
        chunks,
        body,
    }
}

pub(super) fn send_chunk(
    nonce: Nonce,
    from: &str,
    message: &MessageId,
    chunk: u32,
    chunks: u32,
    body: Body,
) -> Command {
    Command::SendChunk {
        nonce,
        sender: id(from),
        message: message.clone(),
        chunk,
        chunks,
        content_encoding: None,
        body,
    }
}

pub(super) fn sent_id(outcome: &Outcome) -> MessageId {
    match outcome {
        Outcome::Sent { message, .. } => message.clone(),
        other => panic!("sent, not {other:?}"),
    }
}

pub(super) fn repeated(message: &MessageId) -> Outcome {
    Outcome::Sent {
        message: message.clone(),
        repeated: true,
    }
}

pub(super) fn taken(message: &MessageId) -> Outcome {
    Outcome::Sent {
        message: message.clone(),
        repeated: false,
    }
}

pub(super) fn refused(refusal: Refusal) -> Outcome {
    Outcome::Refused(refusal)
}

pub(super) fn workflow_of(id_text: &str, senders: &[&str], receivers: &[&str]) -> Workflow {
    Workflow {
        id: id_text.to_owned(),
        senders: senders.iter().copied().map(id).collect(),
        receivers: receivers.iter().copied().map(id).collect(),
    }
}

fn send_with(world: &mut World, from: &str, metadata: &Metadata, chunks: u32, content: &str) -> Outcome {
    let command = send(world.nonce(), from, "B", metadata, chunks, inline(content));
    world.apply(&command)
}

/// Mailboxes, their use and a zero depth alone may be left.
fn assert_nothing_left(world: &World) {
    let about_mailboxes = [
        tables::MAILBOXES,
        tables::MAILBOXES_BY_ODS,
        tables::MAILBOX_USES,
        tables::DEPTHS,
    ];
    let mut left = world.dump();
    left.retain(|(table, _, _)| !about_mailboxes.contains(table) && table.id != tables::NONCES);
    assert!(left.is_empty(), "{left:?}");
}
