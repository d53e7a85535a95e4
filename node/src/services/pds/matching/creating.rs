//! The records that a new one would double, for `POST /Patient`.
//!
//! Looked at are the records born on the same day with a family or first given name that sounds like one of the new
//! record's. [`RULES`] say which of them are likely the same person. The same look is the guard of the create: `apply`
//! refuses it when those entries have changed since.
//!
//! A restricted record's place is never evidence, nor is a new record's that is restricted: whoever creates a record must
//! not learn from the answer where somebody lives. Very restricted and redacted records are never found.

use super::card::{self, Card, Gender, Name};
use super::day::{Day, NO_DAY_KEY};
use super::normal;
use super::planner::card_of;
use crate::base::NhsNumber;
use crate::ledger::Read;
use crate::services::pds::command::{Guard, Index};
use crate::services::pds::state;
use std::collections::BTreeSet;

/// Most twins given; more say nothing more.
pub const TWINS_MAX: usize = 50;
/// Most cards compared for one create.
pub const CARDS_MAX: usize = 2_000;

/// How alike names must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Likeness {
    /// Need not be alike.
    Any,
    /// Sound alike, or one is the initial of the other.
    Alike,
    /// The same.
    Same,
}

/// What must be so of the places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// Nothing.
    Any,
    /// There is none to compare: one of the records is restricted, or says no postcode.
    NotKnown,
    /// A postcode in common, now or once.
    Postcode,
    /// An email address or a telephone number in common, now or once.
    Contact,
}

/// When two records are likely one person, beside the same day of birth and no other gender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Family names.
    pub family: Likeness,
    /// Given names, pair by pair.
    pub given: Likeness,
    /// How many pairs of given names there must be at least.
    pub givens_min: usize,
    /// Places.
    pub place: Place,
}

/// The rules; one that holds is enough.
pub const RULES: [Rule; 4] = [
    // Spelt another way at the same address.
    Rule {
        family: Likeness::Alike,
        given: Likeness::Alike,
        givens_min: 1,
        place: Place::Postcode,
    },
    // Another family name, by marriage say.
    Rule {
        family: Likeness::Any,
        given: Likeness::Same,
        givens_min: 1,
        place: Place::Contact,
    },
    // Nothing but names to go by.
    Rule {
        family: Likeness::Same,
        given: Likeness::Same,
        givens_min: 1,
        place: Place::NotKnown,
    },
    // Moved. One given name would not do: there are many John Smiths on any day.
    Rule {
        family: Likeness::Same,
        given: Likeness::Same,
        givens_min: 2,
        place: Place::Any,
    },
];

/// Postcodes that start so stand for no place: no fixed abode, abroad, not known.
const PSEUDO_POSTCODE: &str = "ZZ99";

/// The existing records that are likely the same person as the one of `card`, ascending, and the guard for its create.
pub fn twins(state: &impl Read, card: &Card) -> (Vec<NhsNumber>, Guard) {
    let prefixes = looked_at(card);
    // Before the look: what comes in between makes the create race, not slip through.
    let seen = state::seen_under(state, &prefixes);
    let mut near: BTreeSet<NhsNumber> = BTreeSet::new();
    for (index, prefix) in &prefixes {
        state::scan_index(state, *index, prefix, None, &mut |found| {
            near.insert(found.number);
            near.len() < CARDS_MAX
        });
    }
    let likely = |number: &NhsNumber| card_of(state, *number).is_some_and(|other| likely_one(card, &other));
    let twins = near.into_iter().filter(likely).take(TWINS_MAX).collect();
    (twins, Guard { prefixes, seen })
}

/// Where twins would be: under the day of birth and the sounds of family and first given names.
fn looked_at(card: &Card) -> Vec<(Index, Vec<u8>)> {
    let day = card.birth.map_or(NO_DAY_KEY, Day::key);
    let mut codes: BTreeSet<normal::Code> = BTreeSet::new();
    for name in &card.names {
        codes.extend(normal::codes(&name.family));
        codes.extend(name.givens.first().into_iter().flat_map(|given| normal::codes(given)));
    }
    let prefixes = codes.into_iter().map(|code| (Index::Birth, card::code_key(day, code)));
    prefixes.collect()
}

fn likely_one(card: &Card, other: &Card) -> bool {
    let gender_differs = card.gender != other.gender;
    let gender_known = card.gender != Gender::Unknown && other.gender != Gender::Unknown;
    if card.birth != other.birth || (gender_differs && gender_known) {
        return false;
    }
    RULES.iter().any(|rule| {
        place_holds(rule.place, card, other)
            && card
                .names
                .iter()
                .any(|name| other.names.iter().any(|known| names_hold(rule, name, known)))
    })
}

fn names_hold(rule: &Rule, name: &Name, known: &Name) -> bool {
    let pairs = name.givens.len().min(known.givens.len());
    let mut givens = name.givens.iter().zip(&known.givens);
    pairs >= rule.givens_min
        && holds(rule.family, &name.family, &known.family)
        && givens.all(|(one, other)| holds(rule.given, one, other))
}

fn holds(likeness: Likeness, one: &str, other: &str) -> bool {
    match likeness {
        Likeness::Any => true,
        Likeness::Same => !one.is_empty() && normal::same(one, other),
        Likeness::Alike => {
            let initial = (one.len() == 1 || other.len() == 1) && one.as_bytes().first() == other.as_bytes().first();
            let codes = normal::codes(other);
            initial || normal::codes(one).iter().any(|code| codes.contains(code))
        }
    }
}

fn place_holds(place: Place, card: &Card, other: &Card) -> bool {
    let comparable = card.security.is_open() && other.security.is_open();
    let in_common = |ours: &[card::Aged], theirs: &[card::Aged]| {
        let real = ours.iter().filter(|ours| !ours.text.starts_with(PSEUDO_POSTCODE));
        real.into_iter()
            .any(|ours| theirs.iter().any(|theirs| theirs.text == ours.text))
    };
    match place {
        Place::Any => true,
        Place::NotKnown => !comparable || card.postcodes.is_empty() || other.postcodes.is_empty(),
        Place::Postcode => comparable && in_common(&card.postcodes, &other.postcodes),
        Place::Contact => {
            comparable && (in_common(&card.emails, &other.emails) || in_common(&card.phones, &other.phones))
        }
    }
}
