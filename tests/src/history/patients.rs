//! A patient's record as a register with versions, changed on condition of the version.

use self::Told::{Mismatch, Nothing, Stored};
use porcupine_rs::Model;

/// What was done with a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordOp {
    /// It was there when the test began.
    Began {
        /// Its version.
        version: u32,
        /// What it said.
        value: u32,
    },
    /// Changed, `If-Match: expected`.
    Change {
        /// The version that the client had seen.
        expected: u32,
        /// What it shall say: no two changes say the same.
        value: u32,
        /// What the client was told.
        told: Told,
    },
    /// Read as the present.
    Read {
        /// Version.
        version: u32,
        /// What it said.
        value: u32,
    },
}

/// What the client of a change was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Stored as this version.
    Stored(u32),
    /// 409: the record has another version.
    Mismatch,
    /// Nothing.
    Nothing,
}

/// The model: version and value of one patient's record, once it is known.
#[derive(Clone, Debug)]
pub struct Patients;

impl Model for Patients {
    type State = Option<(u32, u32)>;
    type Op = (u32, RecordOp);
    type Metadata = ();

    fn init() -> Self::State {
        None
    }

    fn step(state: &Self::State, (_, op): &Self::Op) -> (bool, Self::State) {
        let now = *state;
        let Some((version, held)) = now else {
            return match op {
                RecordOp::Began { version, value } => (true, Some((*version, *value))),
                RecordOp::Change { .. } | RecordOp::Read { .. } => (false, now),
            };
        };
        match op {
            RecordOp::Began { .. } => (false, now),
            RecordOp::Read { version: seen, value } => ((version, held) == (*seen, *value), now),
            RecordOp::Change { expected, value, told } => {
                let fits = version == *expected;
                let after = Some((expected + 1, *value));
                match told {
                    Stored(stored) => (fits && *stored == expected + 1, after),
                    Mismatch => (!fits, now),
                    // Without an answer it may come last of all, when it changes nothing that anybody sees.
                    Nothing => (true, if fits { after } else { now }),
                }
            }
        }
    }
}
