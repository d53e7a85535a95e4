//! The state of identity: clients, and the assertions that were used. Judged in log order by [`apply`]; deterministic.
//!
//! Owns the tables 61 to 69 of the ledger (drawn in `FORMAT.md`). Must never know a clock, a random number, HTTP or a key's
//! meaning. Invariants: of two commands with one assertion at most one is `Issued`, whichever nodes proposed them and however
//! late; what is refused changes nothing.
//!
//! Used assertions lie in one table for each ten minutes of their ends, dropped whole by the first command after everything
//! in it has been over for the skew between two nodes' clocks. An assertion that old is refused whether or not its table was
//! dropped already, so that the answer never depends on when that was.

use super::ClientId;
use super::command::{Client, Command, DecodeError, Mode, Outcome, Refusal};
use crate::base::{OdsCode, Timestamp};
use crate::ledger::{Read, Table, Writer};
use crate::log::At;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

/// client → [`Client`].
const CLIENTS: Table = Table::permanent(61);
/// Family by [`PERIOD_MS`] of the assertions' ends: fingerprint → nothing.
const SPENT: u8 = 62;

/// Times are part of the rules: changing one is a new command variant.
const PERIOD_MS: u64 = 10 * 60 * 1000;
/// How far a node that checks an assertion's end may be behind the log.
const SKEW_MS: u64 = 5 * 60 * 1000;
/// Tables dropped by one command.
const DROPPED_MAX: usize = 4;

/// Version of every value of this release.
const VALUE_VERSION: u8 = 1;
/// The value of a key that says everything itself.
const NOTHING: [u8; 1] = [VALUE_VERSION];

/// Judges one command. Deterministic: reads only `writer`, `at` and the command.
pub fn apply(writer: &mut Writer<'_>, at: At, command: &Command) -> Outcome {
    match command {
        Command::PutClient(client) => {
            writer.put(CLIENTS, client.id.as_str().as_bytes(), &write(client));
            Outcome::Done
        }
        Command::IssueToken {
            client,
            fingerprint,
            expires,
        } => match issue(writer, at, client, fingerprint, *expires) {
            Ok(()) => Outcome::Issued,
            Err(refusal) => Outcome::Refused(refusal),
        },
    }
}

/// Decodes, judges and encodes the answer, for the log. An error is never a client's doing: this release cannot read
/// what the log holds, so it must stop rather than diverge from its peers.
pub fn apply_encoded(writer: &mut Writer<'_>, at: At, command: &[u8]) -> Result<Bytes, DecodeError> {
    let command = Command::decode(command)?;
    Ok(apply(writer, at, &command).encode())
}

/// Refusals, in order: `ClientUnknown`, `ClientDisabled`, `ModeNotAllowed`, `AssertionExpired`, `Replayed`.
fn issue(
    writer: &mut Writer<'_>,
    at: At,
    client: &ClientId,
    fingerprint: &[u8; 16],
    expires: Timestamp,
) -> Result<(), Refusal> {
    let kept = self::client(writer, client).ok_or(Refusal::ClientUnknown)?;
    if !kept.active {
        return Err(Refusal::ClientDisabled);
    }
    if !kept.allows(Mode::Application) {
        return Err(Refusal::ModeNotAllowed);
    }
    let period = period(expires);
    if is_over(period, at.time) {
        return Err(Refusal::AssertionExpired);
    }
    let (old, live): (Vec<u32>, Vec<u32>) = writer.periods(SPENT).into_iter().partition(|p| is_over(*p, at.time));
    // In every table, because a client may sign one identifier again with another end.
    let used = |p: &u32| writer.with(Table::of_period(SPENT, *p), fingerprint, &mut |_| {});
    if live.iter().any(used) {
        return Err(Refusal::Replayed);
    }
    for old in old.into_iter().take(DROPPED_MAX) {
        writer.drop_table(Table::of_period(SPENT, old));
    }
    writer.put(Table::of_period(SPENT, period), fingerprint, &NOTHING);
    Ok(())
}

/// The period that an end falls into. Saturates, far beyond any calendar.
fn period(end: Timestamp) -> u32 {
    u32::try_from(end.ms() / PERIOD_MS).unwrap_or(u32::MAX)
}

/// Whether everything of a period is past.
fn is_over(period: u32, now: Timestamp) -> bool {
    (u64::from(period) + 1) * PERIOD_MS + SKEW_MS <= now.ms()
}

/// A client, `None` when there is none.
pub fn client(state: &impl Read, id: &ClientId) -> Option<Client> {
    let mut client = None;
    state.with(CLIENTS, id.as_str().as_bytes(), &mut |bytes| {
        client = Some(read(bytes));
    });
    client
}

/// What a request is admitted by. A part of [`Client`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The organisation that an application acts for.
    pub ods: OdsCode,
    /// How the client may be used.
    pub modes: Vec<Mode>,
    /// Requests a second; on each node, where nodes share no Redis.
    pub requests_per_second: u32,
    /// May be used.
    pub active: bool,
}

/// A [`Client`] as it is stored, read without copying what admission does not ask for.
#[derive(Deserialize)]
#[allow(dead_code, reason = "every field has its place in the stored bytes")]
struct Row<'a> {
    id: &'a str,
    name: &'a str,
    ods: OdsCode,
    #[serde(borrow)]
    keys: Vec<(&'a str, &'a [u8], &'a [u8])>,
    modes: Vec<Mode>,
    scopes: Vec<&'a str>,
    requests_per_second: u32,
    active: bool,
}

/// Whether and how often a client may ask, `None` when there is none. Every request asks for it.
pub fn standing(state: &impl Read, id: &ClientId) -> Option<Standing> {
    let mut standing = None;
    state.with(CLIENTS, id.as_str().as_bytes(), &mut |bytes| {
        let row: Row<'_> = read(bytes);
        standing = Some(Standing {
            ods: row.ods,
            modes: row.modes,
            requests_per_second: row.requests_per_second,
            active: row.active,
        });
    });
    standing
}

/// Clients in order of their identifiers, at most `max` after `after`.
pub fn clients(state: &impl Read, after: Option<&ClientId>, max: usize) -> Vec<Client> {
    let mut clients = Vec::new();
    let from = match after {
        Some(id) => Bound::Excluded(id.as_str().as_bytes()),
        None => Bound::Unbounded,
    };
    if max > 0 {
        state.scan(CLIENTS, from, Bound::Unbounded, &mut |_, bytes| {
            clients.push(read(bytes));
            clients.len() < max
        });
    }
    clients
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(&(VALUE_VERSION, value)).expect("values serialise into memory")
}

/// The ledger has checked the bytes, so what cannot be read is a bug or an older release on newer data.
fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> T {
    let (&version, rest) = bytes.split_first().expect("a value has a version byte");
    assert!(
        version == VALUE_VERSION,
        "a value of the identity service has format {version}, this release reads {VALUE_VERSION}: start the newer release"
    );
    postcard::from_bytes(rest).expect("the ledger gives back what was written")
}

#[cfg(test)]
mod tests;
