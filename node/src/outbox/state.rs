//! The outbox in the ledger: rows that wait, the gap before them, what was parked. Judged in log order; deterministic.
//!
//! Owns the tables 110 to 112. Rows are written by the services' state through [`emit`], in the command that made the
//! event true; they leave by the commands in [`super::command`] alone.
//!
//! Invariants, held by the tests:
//! - the meter is the number and the bytes of the rows, and the number of the parked;
//! - never more rows or bytes wait than the bounds say; what was dropped for that is counted in the gap;
//! - the gap lies before every row.

use super::command::{Command, DecodeError, NAMED_MAX, Outcome, Reason};
use super::event::{Event, Gap, GapCause, Position, Published, published};
use crate::base::Timestamp;
use crate::ledger::{Read, Table, Writer};
use crate::log::At;
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::ops::Bound;

pub use super::command::Bounds;

/// position → [`Row`].
const EVENTS: Table = Table::permanent(110);
/// [`METER_KEY`] → [`Meter`], [`GAP_KEY`] → [`Gap`].
const SINGLE: Table = Table::permanent(111);
/// position → [`Parked`].
const PARKED: Table = Table::permanent(112);

const METER_KEY: &[u8] = b"meter";
const GAP_KEY: &[u8] = b"gap";

/// Version of every value.
const VALUE_VERSION: u8 = 1;
/// Parked events kept; beyond it the oldest goes, and is counted. Part of the rules: the same on all nodes.
pub const PARKED_MAX: u64 = 10_000;
/// At the bound a sixteenth of it is dropped at once, at most so many rows: room while the publisher catches up, and a
/// bound on what one command does.
const DROPPED_AT_ONCE_MAX: u64 = 1_024;

/// An event that waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What happened.
    pub event: Event,
    /// When, in log time.
    pub at: Timestamp,
    /// Where it was made, when that is not where it stands: it was parked and put back.
    pub origin: Option<Position>,
}

impl Row {
    /// The event as it leaves, given where it stands.
    pub fn published(&self, position: Position) -> Published {
        published(self.origin.unwrap_or(position), self.at, &self.event)
    }
}

/// An event that the broker did not take.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parked {
    /// The event.
    pub row: Row,
    /// Why.
    pub reason: Reason,
    /// Since when, in log time.
    pub since: Timestamp,
}

/// Whether events are written, how much waits, and how much may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meter {
    /// Events are written.
    pub on: bool,
    /// How much may wait.
    pub bounds: Bounds,
    /// Rows that wait.
    pub events: u64,
    /// Bytes of their keys and values.
    pub bytes: u64,
    /// The last row that was written, so that the next of one command takes the next ordinal.
    pub last: Position,
    /// Parked events.
    pub parked: u64,
    /// Parked events that were lost because more than [`PARKED_MAX`] were.
    pub parked_lost: u64,
    /// Events that ever went into a gap.
    pub dropped: u64,
}

fn write<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(&(VALUE_VERSION, value)).expect("values serialise into memory")
}

/// A later release's value ends the process: it must not be misread.
fn read<T: DeserializeOwned>(bytes: &[u8]) -> T {
    let (&version, rest) = bytes.split_first().expect("a value has a version byte");
    assert!(
        version == VALUE_VERSION,
        "a value of the outbox has format {version}, this release reads {VALUE_VERSION}: start the newer release"
    );
    postcard::from_bytes(rest).expect("the ledger gives back what was written")
}

fn get<T: DeserializeOwned>(state: &impl Read, table: Table, key: &[u8]) -> Option<T> {
    let mut value = None;
    state.with(table, key, &mut |bytes| value = Some(read(bytes)));
    value
}

/// The meter; `None` while nobody has decided whether events are written.
pub fn meter(state: &impl Read) -> Option<Meter> {
    get(state, SINGLE, METER_KEY)
}

/// The gap before the first row.
pub fn gap(state: &impl Read) -> Option<Gap> {
    get(state, SINGLE, GAP_KEY)
}

/// At most `max` rows after `after`, oldest first.
pub fn rows(state: &impl Read, after: Option<Position>, max: usize) -> Vec<(Position, Row)> {
    page(state, EVENTS, after, max)
}

/// Whether the row at `position` waits.
pub fn is_waiting(state: &impl Read, position: Position) -> bool {
    state.with(EVENTS, &position.key(), &mut |_| {})
}

/// At most `max` parked events after `after`, in order of position.
pub fn parked(state: &impl Read, after: Option<Position>, max: usize) -> Vec<(Position, Parked)> {
    page(state, PARKED, after, max)
}

fn page<T: DeserializeOwned>(
    state: &impl Read,
    table: Table,
    after: Option<Position>,
    max: usize,
) -> Vec<(Position, T)> {
    let mut found = Vec::new();
    if max == 0 {
        return found;
    }
    let after = after.map(Position::key);
    let from = after.as_ref().map_or(Bound::Unbounded, |key| Bound::Excluded(&key[..]));
    state.scan(table, from, Bound::Unbounded, &mut |key, value| {
        found.push((Position::of_key(key), read(value)));
        found.len() < max
    });
    found
}

/// Writes an event of the command at `at`, when events are switched on. The services' state calls this in the command that
/// makes the event true.
pub fn emit(writer: &mut Writer<'_>, at: At, event: Event) {
    let Some(mut meter) = meter(writer).filter(|meter| meter.on) else {
        return;
    };
    let row = Row {
        event,
        at: at.time,
        origin: None,
    };
    append(writer, at, &mut meter, &row);
    put_meter(writer, &meter);
}

fn put_meter(writer: &mut Writer<'_>, meter: &Meter) {
    writer.put(SINGLE, METER_KEY, &write(meter));
}

/// Puts a row at the end, and drops the oldest where it is too much.
fn append(writer: &mut Writer<'_>, at: At, meter: &mut Meter, row: &Row) {
    let ordinal = match meter.last.index == at.index {
        true => meter.last.ordinal + 1,
        false => 0,
    };
    let position = Position {
        index: at.index,
        ordinal,
    };
    let (key, value) = (position.key(), write(row));
    writer.put(EVENTS, &key, &value);
    meter.last = position;
    meter.events += 1;
    meter.bytes += (key.len() + value.len()) as u64;
    bound(writer, meter);
}

/// Drops the oldest rows into the gap when more wait than may.
fn bound(writer: &mut Writer<'_>, meter: &mut Meter) {
    let Bounds { events_max, bytes_max } = meter.bounds;
    if meter.events <= events_max && meter.bytes <= bytes_max {
        return;
    }
    // A lowered bound is reached over many commands.
    let at_once = (events_max / 16).clamp(1, DROPPED_AT_ONCE_MAX);
    let (events_goal, bytes_goal) = (events_max - events_max.min(at_once), bytes_max - bytes_max / 16);
    let (mut events, mut bytes) = (meter.events, meter.bytes);
    let mut oldest: Vec<(Position, Timestamp)> = Vec::new();
    writer.scan(EVENTS, Bound::Unbounded, Bound::Unbounded, &mut |key, value| {
        let enough = events <= events_goal && bytes <= bytes_goal;
        if enough || oldest.len() as u64 >= DROPPED_AT_ONCE_MAX {
            return false;
        }
        let row: Row = read(value);
        oldest.push((Position::of_key(key), row.at));
        events -= 1;
        bytes -= (key.len() + value.len()) as u64;
        true
    });
    let (Some(&(first, first_at)), Some(&(last, last_at))) = (oldest.first(), oldest.last()) else {
        return;
    };
    for (position, _) in &oldest {
        writer.delete(EVENTS, &position.key());
    }
    let dropped = oldest.len() as u64;
    (meter.events, meter.bytes) = (events, bytes);
    meter.dropped += dropped;
    let before = gap(writer).unwrap_or(Gap {
        cause: GapCause::OutboxFull,
        events: 0,
        first,
        first_at,
        last,
        last_at,
    });
    let grown = Gap {
        cause: GapCause::OutboxFull,
        events: before.events + dropped,
        last,
        last_at,
        ..before
    };
    writer.put(SINGLE, GAP_KEY, &write(&grown));
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
    let decided = meter(writer);
    let mut meter = decided.unwrap_or_default();
    let outcome = match command {
        Command::On {
            unless_decided: true, ..
        } if decided.is_some() => return Outcome::Done { rows: 0 },
        Command::On { bounds, .. } => {
            meter.bounds = bounds;
            if !meter.on {
                meter.on = true;
                switched_on(writer, at, &mut meter);
            }
            bound(writer, &mut meter);
            Outcome::Done { rows: 0 }
        }
        Command::Off => {
            let rows = meter.events;
            writer.drop_table(EVENTS);
            writer.delete(SINGLE, GAP_KEY);
            meter.on = false;
            (meter.events, meter.bytes) = (0, 0);
            Outcome::Done { rows }
        }
        Command::Confirmed { upto, parked } => confirmed(writer, at, &mut meter, upto, &parked),
        Command::Requeue { .. } if !meter.on => return Outcome::SwitchedOff,
        Command::Requeue { positions } => {
            let taken = take_parked(writer, &mut meter, positions);
            for (position, parked) in &taken {
                let origin = Some(parked.row.origin.unwrap_or(*position));
                let row = Row {
                    origin,
                    ..parked.row.clone()
                };
                append(writer, at, &mut meter, &row);
            }
            Outcome::Done {
                rows: taken.len() as u64,
            }
        }
        Command::Discard { positions } => Outcome::Done {
            rows: take_parked(writer, &mut meter, positions).len() as u64,
        },
    };
    put_meter(writer, &meter);
    outcome
}

/// Subscribers have seen nothing of what was before: the first thing they are told is to read what they keep.
fn switched_on(writer: &mut Writer<'_>, at: At, meter: &mut Meter) {
    let here = Position {
        index: at.index,
        ordinal: 0,
    };
    let gap = Gap {
        cause: GapCause::SwitchedOn,
        events: 0,
        first: here,
        first_at: at.time,
        last: here,
        last_at: at.time,
    };
    meter.last = here;
    writer.put(SINGLE, GAP_KEY, &write(&gap));
}

/// Removes what was confirmed and parks what was not taken.
fn confirmed(
    writer: &mut Writer<'_>,
    at: At,
    meter: &mut Meter,
    upto: Position,
    parked: &[(Position, Reason)],
) -> Outcome {
    for &(position, reason) in parked {
        // A row that is gone was confirmed to, or parked by, a leader before.
        if let Some(row) = get::<Row>(writer, EVENTS, &position.key()) {
            let value = Parked {
                row,
                reason,
                since: at.time,
            };
            writer.put(PARKED, &position.key(), &write(&value));
            meter.parked += 1;
        }
    }
    while meter.parked > PARKED_MAX {
        let Some((oldest, _)) = page::<Parked>(writer, PARKED, None, 1).pop() else {
            break;
        };
        writer.delete(PARKED, &oldest.key());
        meter.parked -= 1;
        meter.parked_lost += 1;
    }
    let mut gone: Vec<(Vec<u8>, u64)> = Vec::new();
    writer.scan(
        EVENTS,
        Bound::Unbounded,
        Bound::Included(&upto.key()),
        &mut |key, value| {
            gone.push((key.to_vec(), (key.len() + value.len()) as u64));
            true
        },
    );
    for (key, bytes) in &gone {
        writer.delete(EVENTS, key);
        meter.events -= 1;
        meter.bytes -= bytes;
    }
    if gap(writer).is_some_and(|gap| gap.last <= upto) {
        writer.delete(SINGLE, GAP_KEY);
    }
    Outcome::Done {
        rows: gone.len() as u64,
    }
}

/// Takes parked events out; those that are not there are left out.
fn take_parked(writer: &mut Writer<'_>, meter: &mut Meter, positions: Vec<Position>) -> Vec<(Position, Parked)> {
    let taken: Vec<(Position, Parked)> = if positions.is_empty() {
        parked(writer, None, NAMED_MAX)
    } else {
        let found = positions.into_iter().take(NAMED_MAX);
        found
            .filter_map(|position| Some((position, get(writer, PARKED, &position.key())?)))
            .collect()
    };
    for (position, _) in &taken {
        writer.delete(PARKED, &position.key());
    }
    meter.parked -= taken.len() as u64;
    taken
}
