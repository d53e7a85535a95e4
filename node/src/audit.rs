//! The audit stream: who did what to whom, hash-chained, durable before the reply.
//!
//! It owns the chain. It must never know a body, a subject line or a token, and never decides what is recorded.
//!
//! Entries are appended to the journal's audit stream in the order of their sequence numbers; each carries the SHA-256
//! of the one before. The head (sequence, hash) is entered into the log every second by the node, so that a cut tail shows.
//!
//! Format of a record's payload, version 1: the hash of the entry before (32 bytes, zeros before the first), the version
//! (1 byte), the entry in postcard. The entry's own hash is the SHA-256 of this whole payload. Its number is its sequence,
//! from 1. The record's kind is a carried one: the journal writes the newest entry again at the head of each new
//! segment. So the last segment alone tells the head, and a chain whose oldest segments were removed still starts with
//! a whole entry.
//!
//! Invariant: one append to the journal is under way at a time, with all entries that came during the one before (which is
//! how the journal batches anyway). When it is refused, nothing has been chained to it on disk: the head goes back to the
//! last durable entry, and a refused entry leaves no gap.

use crate::base::{RequestId, Timestamp};
use crate::journal::{AppendError, Journal, Position, ReadError, Record, RecordKey, Stream};
use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::collections::BTreeMap;
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
const VERSION: u8 = 1;
/// Bytes of a hash.
const HASH_BYTES: usize = 32;
/// Where the postcard part starts.
const ENTRY_AT: usize = HASH_BYTES + 1;

/// One entry. Identifiers only: never a body, a subject or a token.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// When, by the node's clock.
    pub at: Timestamp,
    /// The request.
    pub request: RequestId,
    /// Who: mailbox, client or operator.
    pub actor: String,
    /// On whose behalf: ODS code where known.
    pub organisation: String,
    /// What was done: `mesh.send`, `mesh.list`, `mesh.download`, `mesh.acknowledge`, …
    pub action: String,
    /// To what: message id, mailbox, NHS number.
    pub subject: String,
    /// HTTP status or error code of the answer.
    pub outcome: String,
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

/// One place where a chain is broken, or its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Whole up to this head; `logged` heads all matched.
    Whole(Head),
    /// The first entry that does not fit, and why.
    Broken {
        /// Its sequence number.
        sequence: u64,
        /// What does not fit.
        why: String,
    },
}

/// Follows a chain record by record.
#[derive(Default)]
struct Follower {
    /// `None` before the first record.
    head: Option<Head>,
    logged: BTreeMap<u64, [u8; 32]>,
    broken: Option<(u64, String)>,
}

impl Follower {
    fn new(logged: &[Head]) -> Follower {
        let mut follower = Follower::default();
        for head in logged.iter().filter(|head| head.sequence > 0) {
            let before = follower.logged.insert(head.sequence, head.hash);
            if before.is_some_and(|hash| hash != head.hash) {
                follower.breaks(head.sequence, "the log holds two heads for it that differ");
            }
        }
        follower
    }

    fn breaks(&mut self, sequence: u64, why: &str) {
        if self.broken.as_ref().is_none_or(|(first, _)| sequence < *first) {
            self.broken = Some((sequence, why.to_owned()));
        }
    }

    fn next(&self) -> u64 {
        self.head.map_or(1, |head| head.sequence + 1)
    }

    /// Takes the next record; gives its entry unless it is a carried copy or the chain is broken.
    fn follow(&mut self, key: RecordKey, payload: &[u8]) -> Option<Entry> {
        if self.broken.is_some() {
            return None;
        }
        if key.kind != KIND_ENTRY {
            self.breaks(
                self.next(),
                "a record of an unknown kind follows; a newer release may know it",
            );
            return None;
        }
        let found = Audit::head_of(key.number, payload);
        if self.head == Some(found) {
            // A carried copy; the journal's scan passes over these, a plain reader of segments would not.
            return None;
        }
        match self.fits(key.number, payload) {
            Ok(entry) => {
                self.head = Some(found);
                if self.logged.get(&found.sequence).is_some_and(|hash| *hash != found.hash) {
                    self.breaks(found.sequence, "its hash is not the one that was entered into the log");
                }
                Some(entry)
            }
            Err(why) => {
                self.breaks(
                    self.head.map_or(key.number, |head| key.number.min(head.sequence + 1)),
                    why,
                );
                None
            }
        }
    }

    fn fits(&self, number: u64, payload: &[u8]) -> Result<Entry, &'static str> {
        let (before, entry) = payload.split_at_checked(HASH_BYTES).ok_or("it is too short")?;
        match self.head {
            Some(head) if number != head.sequence + 1 => return Err("it is missing or out of order"),
            Some(head) if before != head.hash => return Err("it does not carry the hash of the entry before"),
            None if number == 1 && before != [0; HASH_BYTES] => return Err("the first entry carries a hash"),
            None if self
                .logged
                .get(&(number.wrapping_sub(1)))
                .is_some_and(|hash| before != hash) =>
            {
                return Err("it does not carry the hash that was entered into the log for the entry before");
            }
            // The first one that was kept: what came before it was removed with its segment.
            Some(_) | None => {}
        }
        let (version, entry) = entry.split_first().ok_or("it is too short")?;
        if *version != VERSION {
            return Err("it has a version that this release does not know");
        }
        postcard::from_bytes(entry).map_err(|_| "it cannot be decoded")
    }

    fn verdict(mut self) -> Verdict {
        let last = self.head.map_or(0, |head| head.sequence);
        let known = self.logged.last_key_value().map_or(0, |(sequence, _)| *sequence);
        if self.broken.is_none() && known > last {
            self.breaks(
                last + 1,
                &format!("the chain ends before it, but the log knows of {known} entries"),
            );
        }
        match self.broken {
            Some((sequence, why)) => Verdict::Broken { sequence, why },
            None => Verdict::Whole(self.head.unwrap_or_default()),
        }
    }
}

/// Proves the chain of all segments; blocking. `logged` are heads that were entered into the log, in any order; those of
/// segments that were removed are passed over. Damage that the journal finds is a broken entry too.
///
/// # Errors
/// The system could not read.
pub fn verify_blocking(journal: &Journal, logged: &[Head]) -> Result<Verdict, ReadError> {
    let mut follower = Follower::new(logged);
    for segment in journal.segments(Stream::Audit) {
        let scanned = journal.scan_blocking(Stream::Audit, segment.number, &mut |key, _, payload| {
            follower.follow(key, &payload);
        });
        match scanned {
            Ok(()) => {}
            Err(error @ (ReadError::Corrupt { .. } | ReadError::Gone { .. })) => {
                follower.breaks(follower.next(), &error.to_string());
            }
            Err(error @ ReadError::Io(_)) => return Err(error),
        }
        if follower.broken.is_some() {
            break;
        }
    }
    Ok(follower.verdict())
}

/// Calls `each` for every entry, oldest first, until it says `false`; blocking. Stops at the first entry that does not
/// fit the chain: [`verify_blocking`] names it.
///
/// # Errors
/// As the journal's scan.
pub fn query_blocking(journal: &Journal, each: &mut dyn FnMut(u64, Position, &Entry) -> bool) -> Result<(), ReadError> {
    let mut follower = Follower::default();
    let mut wanted = true;
    for segment in journal.segments(Stream::Audit) {
        journal.scan_blocking(Stream::Audit, segment.number, &mut |key, position, payload| {
            if wanted && let Some(entry) = follower.follow(key, &payload) {
                wanted = each(key.number, position, &entry);
            }
        })?;
        if !wanted || follower.broken.is_some() {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
