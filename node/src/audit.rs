//! The audit stream: who did what to whom, hash-chained, durable before the reply.
//!
//! It owns the chain. It must never know a body, a subject line or a token, and never decides what is recorded.
//!
//! Entries are appended to the journal's audit stream in the order of their sequence numbers; each carries the SHA-256
//! of the one before. The head (sequence, hash) is entered into the log every second by the node, so that a cut tail shows.
//!
//! Format of a record's payload: the hash of the entry before (32 bytes, zeros before the first), the version (1 byte), the
//! entry in postcard. Version 2 is written; version 1, which ends behind `outcome`, is read. The entry's own hash is the SHA-256 of this whole payload. Its number is its sequence,
//! from 1. The record's kind is a carried one: the journal writes the newest entry again at the head of each new
//! segment. So the last segment alone tells the head, and a chain whose oldest segments were removed still starts with
//! a whole entry.
//!
//! Invariant: one append to the journal is under way at a time, with all entries that came during the one before (which is
//! how the journal batches anyway). When it is refused, nothing has been chained to it on disk: the head goes back to the
//! last durable entry, and a refused entry leaves no gap.

mod proof;
#[cfg(test)]
mod tests;

pub use proof::{
    Proof, Verdict, first_lost_blocking, prove_blocking, query_blocking, start_of_blocking, verify_blocking,
};

use crate::base::{RequestId, Timestamp};
use crate::journal::{AppendError, Journal, Position, Record, RecordKey, Stream};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Kind of an entry's record; carried, see above.
pub const KIND_ENTRY: u8 = 0x81;
/// Longest text of an entry, in bytes. An entry is a carried record, and those are small.
pub const TEXT_BYTES_MAX: usize = 1024;
/// Entries handed to the journal in one append.
const APPEND_ENTRIES_MAX: usize = 1024;
/// Entries that may wait for the append under way. One more is refused.
const WAITING_ENTRIES_MAX: usize = 64 * 1024;
/// Version of the entry's encoding.
const VERSION: u8 = 2;
/// The version before: without role, client, on whose behalf and the client's own identifier.
const VERSION_1: u8 = 1;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Where the postcard part starts.
const ENTRY_AT: usize = HASH_BYTES + 1;

/// One entry. Identifiers only: never a body, a subject or a token.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the node's clock.
    pub at: Timestamp,
    /// The request.
    pub request: RequestId,
    /// Who: mailbox, application, healthcare worker, patient or operator.
    pub actor: String,
    /// The actor's organisation: ODS code where known.
    pub organisation: String,
    /// What was done: `mesh.send`, `mesh.list`, `mesh.download`, `mesh.acknowledge`, …
    pub action: String,
    /// To what: message id, mailbox, NHS number.
    pub subject: String,
    /// HTTP status or error code of the answer.
    pub outcome: String,
    /// The actor's role in this session, where there is one.
    pub role: String,
    /// The application that a person acts through.
    pub client: String,
    /// On whose behalf: ODS code of the end user's organisation, where the caller names one.
    pub on_behalf: String,
    /// The client's own identifier of the request (`X-Request-ID`), where it sends one.
    pub client_request: String,
}

/// An entry of version 1.
#[derive(Deserialize)]
struct EntryV1 {
    at: Timestamp,
    request: RequestId,
    actor: String,
    organisation: String,
    action: String,
    subject: String,
    outcome: String,
}

impl From<EntryV1> for Entry {
    fn from(before: EntryV1) -> Entry {
        Entry {
            at: before.at,
            request: before.request,
            actor: before.actor,
            organisation: before.organisation,
            action: before.action,
            subject: before.subject,
            outcome: before.outcome,
            ..Entry::default()
        }
    }
}

impl std::fmt::Debug for Entry {
    /// Without `subject`: it may be an NHS number.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Entry")
            .field("at", &self.at)
            .field("request", &self.request)
            .field("action", &self.action)
            .field("outcome", &self.outcome)
            .finish_non_exhaustive()
    }
}

impl Entry {
    /// With every text within its bound.
    fn cut(mut self) -> Entry {
        let texts = [
            &mut self.actor,
            &mut self.organisation,
            &mut self.action,
            &mut self.subject,
            &mut self.outcome,
            &mut self.role,
            &mut self.client,
            &mut self.on_behalf,
            &mut self.client_request,
        ];
        for text in texts {
            text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        }
        self
    }
}

/// The end of the chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Entries so far.
    pub sequence: u64,
    /// SHA-256 of the last entry; zeros when there is none.
    pub hash: [u8; 32],
}

/// The audit stream of this node; cheap to clone, usable from any thread.
#[derive(Clone)]
pub struct Audit {
    shared: Arc<Shared>,
}

struct Shared {
    journal: Journal,
    chain: Mutex<Chain>,
}

struct Chain {
    /// The last durable entry.
    durable: Head,
    /// The last entry that was chained: of `waiting`, or of the append under way.
    tip: Head,
    waiting: Vec<Pending>,
    under_way: bool,
}

struct Pending {
    head: Head,
    payload: Bytes,
    tell: oneshot::Sender<Result<u64, AppendError>>,
}

impl Audit {
    /// Continues after `head`, the last one met in replay.
    pub fn open(journal: Journal, head: Head) -> Audit {
        let chain = Chain {
            durable: head,
            tip: head,
            waiting: Vec::new(),
            under_way: false,
        };
        Audit {
            shared: Arc::new(Shared {
                journal,
                chain: Mutex::new(chain),
            }),
        }
    }

    /// The head that a record of the audit stream makes; for replay at open, where the last one counts.
    pub fn head_of(number: u64, payload: &[u8]) -> Head {
        Head {
            sequence: number,
            hash: Sha256::digest(payload).into(),
        }
    }

    /// Appends and waits until the entry is durable; gives its sequence number. Once called, it goes on when the future is
    /// dropped. Texts are cut at [`TEXT_BYTES_MAX`].
    ///
    /// # Errors
    /// `Overloaded` when too many wait, then as the journal's append: the entry is not on the record, and what it is about must not be answered.
    pub async fn append(&self, entry: Entry) -> Result<u64, AppendError> {
        let mut payload = vec![0; ENTRY_AT];
        payload[HASH_BYTES] = VERSION;
        let payload = postcard::to_extend(&entry.cut(), payload).expect("an entry of texts and numbers encodes");
        let (tell, durable) = oneshot::channel();
        let free = {
            let mut chain = self.shared.chain.lock();
            if chain.waiting.len() >= WAITING_ENTRIES_MAX {
                return Err(AppendError::Overloaded);
            }
            chain.add(payload, tell);
            !std::mem::replace(&mut chain.under_way, true)
        };
        if free {
            self.shared.clone().send();
        }
        // Dropped without a word only when the journal goes away.
        durable.await.unwrap_or(Err(AppendError::Closed))
    }

    /// The durable head as of now.
    pub fn head(&self) -> Head {
        self.shared.chain.lock().durable
    }
}

impl Chain {
    fn add(&mut self, mut payload: Vec<u8>, tell: oneshot::Sender<Result<u64, AppendError>>) {
        payload[..HASH_BYTES].copy_from_slice(&self.tip.hash);
        self.tip = Audit::head_of(self.tip.sequence + 1, &payload);
        self.waiting.push(Pending {
            head: self.tip,
            payload: Bytes::from(payload),
            tell,
        });
    }
}

impl Shared {
    /// Hands the oldest of what waits to the journal. `under_way` is set, so nobody else does.
    fn send(self: Arc<Self>) {
        let batch: Vec<Pending> = {
            let mut chain = self.chain.lock();
            let count = chain.waiting.len().min(APPEND_ENTRIES_MAX);
            chain.waiting.drain(..count).collect()
        };
        let records = batch.iter().map(|entry| {
            let key = RecordKey {
                kind: KIND_ENTRY,
                id: 0,
                number: entry.head.sequence,
            };
            Record {
                key,
                payload: vec![entry.payload.clone()],
            }
        });
        let records = records.collect();
        let shared = self.clone();
        // Not under the lock: a refusal may be told before this returns.
        self.journal.append_then(
            Stream::Audit,
            records,
            Box::new(move |result| shared.sent(batch, result)),
        );
    }

    fn sent(self: Arc<Self>, mut batch: Vec<Pending>, result: Result<Vec<Position>, AppendError>) {
        let more = {
            let mut chain = self.chain.lock();
            match result {
                Ok(_) => chain.durable = batch.last().map_or(chain.durable, |entry| entry.head),
                Err(_) => {
                    // What was chained to the refused ones goes with them.
                    chain.tip = chain.durable;
                    batch.append(&mut chain.waiting);
                }
            }
            chain.under_way = !chain.waiting.is_empty();
            chain.under_way
        };
        for entry in batch {
            // The request may have gone; its entry stays.
            let _ = entry
                .tell
                .send(result.as_ref().map(|_| entry.head.sequence).map_err(|error| *error));
        }
        if more {
            self.send();
        }
    }
}
