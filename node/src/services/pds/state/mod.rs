//! The state of PDS: records, their versions, the indexes by which they are found. Judged in log order; deterministic.
//!
//! Owns the tables 70 to 99 of the ledger (listed in `tables`, drawn in `../FORMAT.md`). Must never know a clock, a
//! random number, FHIR, or how a name is compared: the proposer sends the whole result and its index keys, so that no
//! release can apply the same log to another state.
//!
//! Invariants, held by the tests:
//! - versions of a record are 1, 2, 3, …; none is ever removed, and the log entries that hold their bodies are held;
//! - the index entries that name a number are exactly the keys in its [`Matched`];
//! - a refused command changes nothing;
//! - of two commands with one request identifier, the second changes nothing.

mod once;
mod query;
mod tables;
#[cfg(test)]
pub(super) mod tests;

pub use query::{
    Found, answered, for_each_record, matched, record, records, scan_index, seen_under, version, versions, with_card,
};

use super::Security;
use super::command::{Command, DecodeError, IndexKey, Once, Outcome, PutPatient, Refusal};
use crate::base::{Digest, LogIndex, NhsNumber, Timestamp};
use crate::ledger::{Hold, Writer};
use crate::log::At;
use crate::outbox;
use crate::services::values;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use tables::{COUNT_RECORDS, COUNTS, MATCHED, RECORDS, RELATED_BEFORE, VERSIONS};

/// Where one part of a record is: the tail of the command at `entry`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Which command.
    pub entry: LogIndex,
    /// Length of its tail.
    pub bytes: u32,
    /// BLAKE3 of the part's content, see the commands.
    pub digest: Digest,
    /// When it was stored, in log time.
    pub at: Timestamp,
}

/// One version of a record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// From 1.
    pub version: u32,
    /// When this version was stored, in log time.
    pub at: Timestamp,
    /// How far it may be shown.
    pub security: Security,
    /// The record that takes its place.
    pub superseded_by: Option<NhsNumber>,
    /// The patient's own part.
    pub patient: Part,
    /// How many bytes at the end of the patient's part tell where the patient is.
    pub place_bytes: u32,
    /// Related people: a JSON array. Not part of the version: they change without a new one.
    pub related: Option<Part>,
    /// Coverage.
    pub coverage: Option<Part>,
}

/// What matching knows of a record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Matched {
    /// What it compares; opaque here.
    pub card: Vec<u8>,
    /// The record's keys in the indexes, sorted.
    pub keys: Vec<IndexKey>,
}

/// What a request was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answered {
    /// Digest of what it said.
    pub content: [u8; 16],
    /// The record it stored.
    pub number: NhsNumber,
    /// As which version.
    pub version: u32,
    /// When.
    pub at: Timestamp,
}

/// Decodes and judges a command; gives the encoded outcome.
///
/// # Errors
/// [`DecodeError`]: the command is a later release's.
pub fn apply_encoded(writer: &mut Writer<'_>, at: At, command: &[u8]) -> Result<Bytes, DecodeError> {
    let command = Command::decode(command)?;
    Ok(apply(writer, at, command).encode())
}

/// Judges a command.
pub fn apply(writer: &mut Writer<'_>, at: At, command: Command) -> Outcome {
    let judged = match command {
        Command::PutPatient(put) => put_patient(writer, at, *put),
        Command::PutRelated { number, bytes, digest } => put_related(writer, at, number, bytes, digest),
        Command::PutCoverage {
            number,
            follows,
            once,
            bytes,
            digest,
        } => put_coverage(writer, at, number, follows, once, bytes, digest),
    };
    judged.unwrap_or_else(Outcome::Refused)
}

fn put_patient(writer: &mut Writer<'_>, at: At, put: PutPatient) -> Result<Outcome, Refusal> {
    if let Some(repeated) = once::repeated(writer, at, put.once.as_ref())? {
        return Ok(repeated);
    }
    let before = query::record(writer, put.number);
    judge_version(before.as_ref(), put.follows)?;
    if let Some(guard) = &put.guard
        && seen_under(writer, &guard.prefixes) != guard.seen
    {
        return Err(Refusal::Raced);
    }
    index(writer, put.number, &put.keys);
    let matched = Matched {
        card: put.card,
        keys: put.keys,
    };
    values::put(writer, MATCHED, &put.number.key(), &matched);
    let after = Record {
        version: put.follows + 1,
        at: at.time,
        security: put.security,
        superseded_by: put.superseded_by,
        patient: Part {
            entry: at.index,
            bytes: put.open_bytes + put.place_bytes,
            digest: put.digest,
            at: at.time,
        },
        place_bytes: put.place_bytes,
        related: before.as_ref().and_then(|before| before.related),
        coverage: before.as_ref().and_then(|before| before.coverage),
    };
    Ok(store(writer, at, put.number, before, after, put.once))
}

/// Related people come with loads only, so the last ones count; the same ones again change nothing. They are resources of
/// their own: the patient's version stays, so nobody's change is refused for their sake. Those before are kept.
fn put_related(
    writer: &mut Writer<'_>,
    at: At,
    number: NhsNumber,
    bytes: u32,
    digest: Digest,
) -> Result<Outcome, Refusal> {
    let before = query::record(writer, number).ok_or(Refusal::Unknown)?;
    if before.related.is_some_and(|related| related.digest == digest) {
        return Ok(Outcome::Stored {
            number,
            version: before.version,
            at: before.at,
            repeated: true,
        });
    }
    if let Some(related) = &before.related {
        values::put(
            writer,
            RELATED_BEFORE,
            &tables::related_key(number, related.entry),
            related,
        );
    }
    let related = Part {
        entry: at.index,
        bytes,
        digest,
        at: at.time,
    };
    let version = before.version;
    let after = Record {
        related: Some(related),
        ..before
    };
    let security = after.security;
    values::put(writer, RECORDS, &number.key(), &after);
    writer.hold(Hold::Entry(at.index));
    tell(writer, at, number, version, Some(security), security);
    Ok(Outcome::Stored {
        number,
        version,
        at: at.time,
        repeated: false,
    })
}

fn put_coverage(
    writer: &mut Writer<'_>,
    at: At,
    number: NhsNumber,
    follows: u32,
    once: Option<Once>,
    bytes: u32,
    digest: Digest,
) -> Result<Outcome, Refusal> {
    if let Some(repeated) = once::repeated(writer, at, once.as_ref())? {
        return Ok(repeated);
    }
    let before = query::record(writer, number).ok_or(Refusal::Unknown)?;
    judge_version(Some(&before), follows)?;
    let coverage = Part {
        entry: at.index,
        bytes,
        digest,
        at: at.time,
    };
    let after = Record {
        version: before.version + 1,
        at: at.time,
        coverage: Some(coverage),
        ..before.clone()
    };
    Ok(store(writer, at, number, Some(before), after, once))
}

/// Of two writes that follow one version, the second is refused here.
fn judge_version(before: Option<&Record>, follows: u32) -> Result<(), Refusal> {
    match (before, follows) {
        (None, 0) => Ok(()),
        (None, _) => Err(Refusal::Unknown),
        (Some(before), 0) => Err(Refusal::Exists {
            digest: before.patient.digest,
        }),
        (Some(before), follows) if before.version == follows => Ok(()),
        (Some(before), _) => Err(Refusal::VersionMismatch {
            version: before.version,
        }),
    }
}

/// Keeps the version before, makes `after` the current one and holds the entry that its bytes are in.
fn store(
    writer: &mut Writer<'_>,
    at: At,
    number: NhsNumber,
    before: Option<Record>,
    after: Record,
    once: Option<Once>,
) -> Outcome {
    let security_before = before.as_ref().map(|before| before.security);
    match before {
        Some(before) => {
            let key = tables::version_key(number, before.version);
            values::put(writer, VERSIONS, &key, &before);
        }
        None => {
            let records = query::records(writer) + 1;
            values::put(writer, COUNTS, COUNT_RECORDS, &records);
        }
    }
    values::put(writer, RECORDS, &number.key(), &after);
    writer.hold(Hold::Entry(at.index));
    tell(writer, at, number, after.version, security_before, after.security);
    if let Some(once) = once {
        once::remember(writer, at, &once, number, after.version);
    }
    Outcome::Stored {
        number,
        version: after.version,
        at: at.time,
        repeated: false,
    }
}

/// Tells subscribers that a record changed. That one became very restricted is told, so that whoever keeps a copy asks
/// again and sees less; what happens to it while it is so is told nobody. All others look alike, restricted or not.
fn tell(writer: &mut Writer<'_>, at: At, number: NhsNumber, version: u32, before: Option<Security>, after: Security) {
    if before == Some(Security::VeryRestricted) && after == Security::VeryRestricted {
        return;
    }
    outbox::state::emit(writer, at, outbox::event::Event::PatientChanged { number, version });
}

/// Makes the index entries of a number exactly `keys`; writes only what differs.
fn index(writer: &mut Writer<'_>, number: NhsNumber, keys: &[IndexKey]) {
    let before = query::matched(writer, number).map_or_else(Vec::new, |matched| matched.keys);
    let (before, after): (BTreeSet<&IndexKey>, BTreeSet<&IndexKey>) = (before.iter().collect(), keys.iter().collect());
    for gone in before.difference(&after) {
        writer.delete(tables::table(gone.index), &tables::index_key(gone, number));
    }
    // After the deletions: a key whose flags alone changed is in both differences.
    for new in after.difference(&before) {
        let value = [values::VALUE_VERSION, new.flags];
        writer.put(tables::table(new.index), &tables::index_key(new, number), &value);
    }
}
