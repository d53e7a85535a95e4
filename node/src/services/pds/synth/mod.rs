//! Synthetic people: NDJSON of FHIR R4 Patient, RelatedPerson and Coverage resources, for tests, drills and sandboxes.
//!
//! Owns the lists of names and places and how they are put together. Must never know a clock, a file or a node.
//! Invariants: person `i` follows from `(seed, as_of, i)` alone, byte for byte on every machine; no two have one NHS
//! number; all numbers are of the test range (they start with 9), none is one of the specification's 90000000xx; telephone
//! numbers are of the ranges kept for drama, email addresses are at example.com.
//!
//! Of 10,000 people about 300 look much like another one, 100 are second records that another one supersedes, 50 are
//! restricted, 10 are invalidated and 5 are very restricted; 800 have died; 1,000 have related people, 140 a card.

mod draw;
mod names;
mod person;
mod places;
#[cfg(test)]
mod tests;
mod write;

use crate::base::NhsNumber;
use draw::{Day, Draw, Purpose, day_of};
use person::{Choices, Kind};
use write::Page;

/// People there can be under one seed: each has a number of their own.
pub const PEOPLE_MAX: u64 = PREFIXES * VALID_PER_PREFIX;

/// Eight digits, so that none of the numbers is one of 90000000xx.
const PREFIX_FIRST: u64 = 90_000_100;
const PREFIXES: u64 = 100_000_000 - PREFIX_FIRST;
/// Of the ten ninth digits behind eight digits, at least nine have a check digit.
const VALID_PER_PREFIX: u64 = 9;
/// Shares no divisor with [`PEOPLE_MAX`], so that multiplying by it is a bijection.
const STRIDE: u64 = 61_803_407;

/// The specification's example patients, with the search scenarios that it promises, one resource a line.
pub const WELL_KNOWN: &str = include_str!("well_known.ndjson");

/// A source of people.
pub struct People {
    seed: u64,
    as_of: Day,
    offset: u64,
    choices: Choices,
}

impl Default for People {
    fn default() -> People {
        People::new(0)
    }
}

impl People {
    /// People under this seed, as of 2026-11-01.
    pub fn new(seed: u64) -> People {
        People {
            seed,
            as_of: day_of(2026, 11, 1),
            offset: Draw::new(seed, 0, Purpose::Kind).below(PEOPLE_MAX),
            choices: Choices::new(),
        }
    }

    /// The same as of another day: nothing in the data is later, but for cards' ends.
    ///
    /// # Panics
    /// When it is not a date between 1950 and 2199.
    #[must_use]
    pub fn as_of(self, year: i16, month: i8, day: i8) -> People {
        assert!((1950..2200).contains(&year), "a year within reach");
        People {
            as_of: day_of(i64::from(year), i64::from(month), i64::from(day)),
            ..self
        }
    }

    /// The NHS number of person `index`.
    ///
    /// # Panics
    /// From [`PEOPLE_MAX`] on.
    pub fn number(&self, index: u64) -> NhsNumber {
        assert!(index < PEOPLE_MAX, "people have numbers below {PEOPLE_MAX}");
        let place =
            ((u128::from(index) * u128::from(STRIDE) + u128::from(self.offset)) % u128::from(PEOPLE_MAX)) as u64;
        let (prefix, mut nth) = (PREFIX_FIRST + place / VALID_PER_PREFIX, place % VALID_PER_PREFIX);
        for last in 0..10 {
            let nine = u32::try_from(prefix * 10 + last).expect("nine digits");
            if let Some(number) = NhsNumber::with_check_digit(nine) {
                if nth == 0 {
                    return number;
                }
                nth -= 1;
            }
        }
        unreachable!("nine of ten digits have a check digit")
    }

    /// Appends the lines of person `index`: the patient, then related people and coverage; each ends with a newline.
    pub fn write(&self, index: u64, out: &mut Vec<u8>) {
        let kind = self.choices.kind(self.seed, index);
        let successor = match kind {
            Kind::Superseded(other) => Some(self.number(other)),
            Kind::Plain | Kind::Restricted | Kind::VeryRestricted | Kind::NearDuplicate(_) | Kind::Invalidated => None,
        };
        let page = Page {
            choices: &self.choices,
            seed: self.seed,
            index,
            as_of: self.as_of,
            number: self.number(index),
            successor,
            kind,
            facts: self.choices.facts(self.seed, index, self.as_of),
        };
        page.patient(out);
        out.push(b'\n');
        page.related(out);
        page.coverage(out);
    }
}
