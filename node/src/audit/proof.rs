//! Reading the chain: it proves that nothing was altered, dropped, reordered or cut off, and gives entries to those who ask.
//!
//! It follows the entries of the journal's audit stream one by one, in bounded memory, and stops at the first that does not
//! fit. A broken link between two entries alone does not tell which of them was changed: the entry behind them does, because
//! it carries the hash of the second as it was written. So the judgement waits for one more entry.

use super::{Audit, ENTRY_AT, Entry, EntryV1, HASH_BYTES, Head, KIND_ENTRY, VERSION, VERSION_1};
use crate::journal::{self, Journal, Position, ReadError, RecordKey, Stream};
use std::collections::BTreeMap;
use std::path::Path;

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

/// What a look at the whole chain found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Whole, or where it breaks.
    pub verdict: Verdict,
    /// The oldest entry that is kept; `None` when there is none.
    pub first: Option<u64>,
    /// Heads of the log that were met with the same hash.
    pub matched: u64,
}

/// Follows a chain record by record.
#[derive(Default)]
pub(super) struct Follower {
    /// The entry before the next; `None` before the first record.
    head: Option<Head>,
    first: Option<u64>,
    logged: BTreeMap<u64, [u8; 32]>,
    matched: u64,
    /// The last entry whose hash the log knows.
    proved: u64,
    /// An entry that does not carry the hash of the one before it; the next one tells which of the two was changed.
    doubted: Option<Head>,
    broken: Option<(u64, String)>,
}

/// A clock that was set back by more than this may hide entries from a search by time that skips whole segments.
const CLOCK_STEP_MS_MAX: u64 = 3_600_000;

const CHANGED: &str = "the entry after it does not carry its hash: it was changed, or one behind it was taken out";
const NOT_JOINED: &str = "it does not carry the hash of the entry before";

impl Follower {
    pub(super) fn new(logged: &[Head]) -> Follower {
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

    /// Starts at the oldest segment: behind the copy of the last entry that was removed, or at entry 1.
    fn start(&mut self, segment: u32, first: Option<&(RecordKey, bytes::Bytes)>) {
        self.head = match first {
            _ if segment == 1 => Some(Head::default()),
            Some((key, payload)) if key.kind == KIND_ENTRY => Some(Audit::head_of(key.number, payload)),
            Some(_) | None => None,
        };
    }

    /// Takes the next record; gives its entry unless it is a carried copy or the chain is broken.
    pub(super) fn follow(&mut self, key: RecordKey, payload: &[u8]) -> Option<Entry> {
        if self.broken.is_some() {
            return None;
        }
        if key.kind != KIND_ENTRY {
            self.settle(None);
            self.breaks(
                self.next(),
                "a record of an unknown kind follows; a newer release may know it",
            );
            return None;
        }
        let found = Audit::head_of(key.number, payload);
        if self.head == Some(found) || self.doubted == Some(found) {
            // A carried copy; the journal's scan passes over these, a plain reader of segments would not.
            return None;
        }
        if self.doubted.is_some() {
            self.settle(payload.get(..HASH_BYTES).filter(|_| key.number == self.next() + 1));
            return None;
        }
        match self.fits(key.number, payload) {
            Ok(entry) => {
                self.head = Some(found);
                self.first.get_or_insert(found.sequence);
                self.hold_against_log(found);
                Some(entry)
            }
            Err(NOT_JOINED) => {
                self.doubted = Some(found);
                None
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

    fn hold_against_log(&mut self, found: Head) {
        match self.logged.get(&found.sequence) {
            Some(hash) if *hash == found.hash => {
                self.matched += 1;
                self.proved = found.sequence;
            }
            Some(_) => {
                let why = format!(
                    "its hash is not the one that was entered into the log; entries up to {} are proved by it",
                    self.proved
                );
                self.breaks(found.sequence, &why);
            }
            None => {}
        }
    }

    /// Names the changed one of two entries that do not join, by the hash that the entry behind them carries.
    fn settle(&mut self, carried: Option<&[u8]>) {
        let (Some(doubted), Some(before)) = (self.doubted.take(), self.head) else {
            return;
        };
        let logged = |head: Head| self.logged.get(&head.sequence).map(|hash| *hash == head.hash);
        let doubted_is_changed = match (logged(before), logged(doubted), carried) {
            (Some(true), _, _) | (_, Some(false), _) => true,
            (_, Some(true), _) => false,
            (_, None, Some(carried)) => carried != doubted.hash,
            // The last of all: a change in what only its own hash covers would not have shown here.
            (_, None, None) => before.sequence == 0,
        };
        if doubted_is_changed {
            self.breaks(doubted.sequence, NOT_JOINED);
        } else {
            self.breaks(before.sequence, CHANGED);
        }
    }

    fn fits(&self, number: u64, payload: &[u8]) -> Result<Entry, &'static str> {
        let (before, _) = payload.split_at_checked(HASH_BYTES).ok_or("it is too short")?;
        match self.head {
            Some(head) if number != head.sequence + 1 => return Err("it is missing or out of order"),
            Some(Head { sequence: 0, .. }) | None if number == 1 && before != [0; HASH_BYTES] => {
                return Err("the first entry carries a hash");
            }
            Some(head) if before != head.hash => return Err(NOT_JOINED),
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
        decode(payload)
    }

    pub(super) fn proof(mut self) -> Proof {
        self.settle(None);
        let last = self.head.map_or(0, |head| head.sequence);
        let known = self.logged.last_key_value().map_or(0, |(sequence, _)| *sequence);
        if self.broken.is_none() && known > last {
            self.breaks(
                last + 1,
                &format!("the chain ends before it, but the log knows of {known} entries"),
            );
        }
        Proof {
            verdict: match self.broken {
                Some((sequence, why)) => Verdict::Broken { sequence, why },
                None => Verdict::Whole(self.head.unwrap_or_default()),
            },
            first: self.first,
            matched: self.matched,
        }
    }
}

fn decode(payload: &[u8]) -> Result<Entry, &'static str> {
    match payload.get(HASH_BYTES) {
        None => Err("it is too short"),
        Some(&VERSION) => postcard::from_bytes(&payload[ENTRY_AT..]).map_err(|_| "it cannot be decoded"),
        Some(&VERSION_1) => postcard::from_bytes::<EntryV1>(&payload[ENTRY_AT..])
            .map(Entry::from)
            .map_err(|_| "it cannot be decoded"),
        Some(_) => Err("it has a version that this release does not know"),
    }
}

/// Proves the chain of all segments; blocking, in the memory of one batch. `logged` are heads that were entered into the
/// log, in any order; those of segments that were removed are passed over. Damage that the journal finds is a broken
/// entry too.
///
/// # Errors
/// The system could not read.
pub fn prove_blocking(journal: &Journal, logged: &[Head]) -> Result<Proof, ReadError> {
    let mut follower = Follower::new(logged);
    for (at, segment) in journal.segments(Stream::Audit).into_iter().enumerate() {
        let first = if at == 0 {
            journal.first_blocking(Stream::Audit, segment.number)
        } else {
            Ok(None)
        };
        let scanned = first.and_then(|first| {
            if at == 0 {
                follower.start(segment.number, first.as_ref());
            }
            journal.scan_blocking(Stream::Audit, segment.number, &mut |key, _, payload| {
                follower.follow(key, &payload);
            })
        });
        match scanned {
            Ok(()) => {}
            Err(error @ (ReadError::Corrupt { .. } | ReadError::Gone { .. })) => {
                follower.settle(None);
                follower.breaks(follower.next(), &error.to_string());
            }
            Err(error @ ReadError::Io(_)) => return Err(error),
        }
        if follower.broken.is_some() {
            break;
        }
    }
    Ok(follower.proof())
}

/// The verdict of [`prove_blocking`].
///
/// # Errors
/// As there.
pub fn verify_blocking(journal: &Journal, logged: &[Head]) -> Result<Verdict, ReadError> {
    prove_blocking(journal, logged).map(|proof| proof.verdict)
}

/// The first entry that cannot be read any more of a journal in `folder` that cannot be opened because its audit stream is
/// damaged; blocking, writes nothing.
///
/// # Errors
/// The system could not read.
pub fn first_lost_blocking(folder: &Path) -> std::io::Result<u64> {
    let mut last = 0;
    journal::read_damaged_blocking(folder, Stream::Audit, &mut |key, _| last = key.number)?;
    Ok(last + 1)
}

/// The number of the segment from which on entries behind `after` and not before `from_ms` (by the node's clock) are to
/// be looked for; blocking, reads the head of each segment.
///
/// # Errors
/// As the journal's reads.
pub fn start_of_blocking(journal: &Journal, after: u64, from_ms: u64) -> Result<u32, ReadError> {
    let mut start = 0;
    for segment in journal.segments(Stream::Audit) {
        // A segment without records at its head (the first one begins with a seal) is not jumped to.
        let later = journal
            .first_blocking(Stream::Audit, segment.number)?
            .is_some_and(|(key, payload)| {
                // A head that is not an entry is for the proof to judge: nothing is left out because of it.
                let early = decode(&payload).is_ok_and(|entry| entry.at.plus_ms(CLOCK_STEP_MS_MAX).ms() < from_ms);
                early || key.number <= after
            });
        if start == 0 || later {
            start = segment.number;
        }
    }
    Ok(start)
}

/// Calls `each` for every entry from segment `start` on (0: all), oldest first, with its own hash and its payload's first
/// part, the hash of the one before, until it says `false`; blocking. Gives where the chain is broken, when it stopped
/// there: [`verify_blocking`] says more.
///
/// # Errors
/// As the journal's scan.
pub fn query_blocking(
    journal: &Journal,
    start: u32,
    each: &mut dyn FnMut(Head, [u8; 32], &Entry) -> bool,
) -> Result<Option<u64>, ReadError> {
    let mut follower = Follower::default();
    let mut wanted = true;
    for segment in journal
        .segments(Stream::Audit)
        .into_iter()
        .filter(|segment| segment.number >= start)
    {
        journal.scan_blocking(Stream::Audit, segment.number, &mut |key, _: Position, payload| {
            if wanted && let Some(entry) = follower.follow(key, &payload) {
                let mut before = [0; HASH_BYTES];
                before.copy_from_slice(&payload[..HASH_BYTES]);
                wanted = each(follower.head.unwrap_or_default(), before, &entry);
            }
        })?;
        if !wanted || follower.broken.is_some() || follower.doubted.is_some() {
            break;
        }
    }
    follower.settle(None);
    Ok(follower.broken.map(|(sequence, _)| sequence))
}
