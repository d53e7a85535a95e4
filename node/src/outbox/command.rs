//! What travels in the log about the outbox. Encoded by postcard behind a first byte of its own; variants are only ever
//! added at the end, fields never changed: the golden bytes in the tests hold it.

use super::event::Position;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

/// First byte of every command and outcome of the outbox.
pub const COMMAND_VERSION: u8 = 0xF8;

/// Most parked events that one command names.
pub const NAMED_MAX: usize = 1_000;

/// Why an event was parked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reason {
    /// No queue takes its routing key.
    Unroutable,
    /// The broker refused it again and again, and took the one behind it.
    Refused,
}

impl Reason {
    /// As operators see it.
    pub const fn text(self) -> &'static str {
        match self {
            Reason::Unroutable => "unroutable",
            Reason::Refused => "refused",
        }
    }
}

/// Bounds of what may wait. In the log, because all nodes must drop the same rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Events. [`EVENTS_MIN`]..=[`EVENTS_MAX`].
    pub events_max: u64,
    /// Bytes of keys and values. [`BYTES_MIN`]..=[`BYTES_MAX`].
    pub bytes_max: u64,
}

/// Least `events_max`.
pub const EVENTS_MIN: u64 = 100;
/// Largest `events_max`.
pub const EVENTS_MAX: u64 = 1_000_000_000;
/// Least `bytes_max`.
pub const BYTES_MIN: u64 = 64 * 1024;
/// Largest `bytes_max`.
pub const BYTES_MAX: u64 = 1024 * 1024 * 1024 * 1024;

impl Default for Bounds {
    /// Ten million events, a gibibyte: an hour of 3,000 events a second.
    fn default() -> Bounds {
        Bounds {
            events_max: 10_000_000,
            bytes_max: 1024 * 1024 * 1024,
        }
    }
}

/// Commands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// From now on events are written; again: changes the bounds alone.
    On {
        /// How much may wait.
        bounds: Bounds,
        /// Changes nothing when anybody has decided before: a node that finds a broker in its configuration asks so.
        unless_decided: bool,
    },
    /// From now on none are written; those that wait are dropped.
    Off,
    /// Everything up to here was confirmed by the broker, or is to be parked.
    Confirmed {
        /// The last one.
        upto: Position,
        /// Those of them to park, at most [`NAMED_MAX`].
        parked: Vec<(Position, Reason)>,
    },
    /// Puts parked events back at the end, under their own identifiers.
    Requeue {
        /// Which; empty: the first [`NAMED_MAX`].
        positions: Vec<Position>,
    },
    /// Removes parked events.
    Discard {
        /// Which; empty: the first [`NAMED_MAX`].
        positions: Vec<Position>,
    },
}

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done: how many rows it touched.
    Done {
        /// Deleted, parked, put back or removed.
        rows: u64,
    },
    /// Events are switched off: nothing was put back.
    SwitchedOff,
}

/// Bytes that are no command of the outbox, or one of a later release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a command of the outbox that this release does not know")]
pub struct DecodeError;

impl Command {
    /// Encodes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(&(COMMAND_VERSION, self)).expect("commands serialise into memory"))
    }

    /// Decodes.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        decode(bytes)
    }
}

impl Outcome {
    /// Encodes.
    pub fn encode(&self) -> Bytes {
        Bytes::from(postcard::to_stdvec(&(COMMAND_VERSION, self)).expect("outcomes serialise into memory"))
    }

    /// Decodes.
    pub fn decode(bytes: &[u8]) -> Result<Outcome, DecodeError> {
        decode(bytes)
    }
}

fn decode<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    match bytes.split_first() {
        Some((&COMMAND_VERSION, rest)) => match postcard::take_from_bytes(rest) {
            Ok((decoded, [])) => Ok(decoded),
            Ok(_) | Err(_) => Err(DecodeError),
        },
        Some(_) | None => Err(DecodeError),
    }
}
