//! Which index a search reads, within what bounds, and what comes of it.
//!
//! The narrowest index by the shape of the search, in this order:
//!
//! | asked for | index |
//! |---|---|
//! | one day of birth and a family name | Birth, by name; by sound when fuzzy |
//! | a whole postcode | Postcode, within the days of birth |
//! | email or phone | Contact |
//! | a few days of birth | Birth, day by day |
//! | practice, not fuzzy | Practice, within the days of birth |
//! | anything else, not fuzzy | Family, within the days of birth |
//! | anything else, fuzzy | Birth, day by day |
//!
//! An index gives candidates; flags and text sort out most of them, and [`compare`](super::compare) judges the cards of the
//! rest. A search never reads more than its budget: beyond it there are too many. Entries of restricted records are
//! passed over uncounted where a place is asked for, so their presence changes nothing about such a search.

use super::card::{self, Card, END, flags};
use super::compare::{compare, may_match};
use super::day::{DAY_KEY_BYTES, Days};
use super::normal;
use super::query::Search;
use super::rules::Score;
use crate::base::NhsNumber;
use crate::ledger::Read;
use crate::services::pds::command::Index;
use crate::services::pds::state::{self, Found};
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;

/// Most index entries that one search reads.
pub const ENTRIES_MAX: usize = 20_000;
/// Most cards that one search compares.
pub const CARDS_MAX: usize = 2_000;
/// What finding a place in an index costs, in entries read.
pub const SEEK_ENTRIES: usize = 8;
/// Most days of birth that are looked up day by day where another index would do.
pub const NARROW_DAYS_MAX: u32 = 40;
/// Longest chain of records that supersede each other.
pub const SUPERSEDED_MAX: usize = 8;

/// A record that agrees with a search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Whose.
    pub number: NhsNumber,
    /// How closely.
    pub score: Score,
}

/// More records match than were asked for, or more would have to be looked at than one search may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many records match: give more, or more exactly")]
pub struct TooMany;

/// The records that agree with a search, best first, then by number; at most `results_max`.
///
/// # Errors
/// [`TooMany`].
pub fn search(state: &impl Read, search: &Search) -> Result<Vec<Match>, TooMany> {
    let mut walk = Walk {
        state,
        search,
        entries_left: ENTRIES_MAX,
        cards_left: CARDS_MAX,
        seen: FxHashSet::default(),
        found: BTreeMap::new(),
    };
    match shape(search) {
        Shape::BirthFamily => walk.birth_family()?,
        Shape::BirthCodes => walk.birth_codes()?,
        Shape::Postcode => walk.postcode()?,
        Shape::Contact => walk.contact()?,
        Shape::Practice => walk.practice()?,
        Shape::Family => walk.family()?,
    }
    let found = walk.found.into_iter();
    let mut matches: Vec<Match> = found.map(|(number, score)| Match { number, score }).collect();
    // Stable: those with one score stay in the order of their numbers.
    matches.sort_by_key(|found| std::cmp::Reverse(found.score));
    Ok(matches)
}

/// Which index a search reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    BirthFamily,
    BirthCodes,
    Postcode,
    Contact,
    Practice,
    Family,
}

pub(super) fn shape(search: &Search) -> Shape {
    let by_birth = if search.fuzzy {
        Shape::BirthCodes
    } else {
        Shape::BirthFamily
    };
    let days = search.birth.count();
    if days == 1 && search.family.is_some() {
        by_birth
    } else if search.postcode.as_ref().is_some_and(|postcode| !postcode.is_wild()) {
        Shape::Postcode
    } else if search.email.is_some() || search.phone.is_some() {
        Shape::Contact
    } else if search.fuzzy || days <= NARROW_DAYS_MAX {
        // Without a family name a fuzzy search has a whole postcode.
        by_birth
    } else if search.practice.is_some() {
        Shape::Practice
    } else {
        Shape::Family
    }
}

/// The record that stands for `number` in results: itself, or whichever supersedes it in the end. `None` when that one
/// cannot be found by this search.
pub(super) fn standing(state: &impl Read, search: &Search, number: NhsNumber) -> Option<NhsNumber> {
    let mut standing = number;
    for _ in 0..SUPERSEDED_MAX {
        let record = state::record(state, standing)?;
        match record.superseded_by {
            Some(by) => standing = by,
            None => return may_match(search, record.security).then_some(standing),
        }
    }
    None
}

/// The card of a record.
///
/// # Panics
/// When a newer release wrote it: then this one must not serve.
pub(super) fn card_of(state: &impl Read, number: NhsNumber) -> Option<Card> {
    let mut card = None;
    state::with_card(state, number, &mut |bytes| {
        card = Some(Card::decode(bytes).expect("cards are written by this release or an earlier one"));
    });
    card
}

/// One search under way.
struct Walk<'a, S> {
    state: &'a S,
    search: &'a Search,
    entries_left: usize,
    cards_left: usize,
    seen: FxHashSet<NhsNumber>,
    found: BTreeMap<NhsNumber, Score>,
}

impl<S: Read> Walk<'_, S> {
    fn birth_family(&mut self) -> Result<(), TooMany> {
        let search = self.search;
        let Some(family) = &search.family else { return Ok(()) };
        let end: &[u8] = if family.is_wild() { &[] } else { &[END] };
        self.within_budget(search.birth, 1)?;
        for day in search.birth.each() {
            let from = [&card::family_key(day.key(), family.prefix()), end].concat();
            self.stretch(Index::Birth, &from, None, |found| {
                !family.is_wild() || fits(family, &found.text[DAY_KEY_BYTES + 1..])
            })?;
        }
        Ok(())
    }

    fn birth_codes(&mut self) -> Result<(), TooMany> {
        let search = self.search;
        let Some(family) = &search.family else { return Ok(()) };
        let exchangeable = if search.givens.is_empty() { 0 } else { flags::AS_GIVEN };
        let codes = normal::codes(&family.name);
        self.within_budget(search.birth, codes.len())?;
        for day in search.birth.each() {
            for code in &codes {
                self.stretch(Index::Birth, &card::code_key(day.key(), *code), None, |found| {
                    found.flags & (flags::AS_FAMILY | exchangeable) != 0
                })?;
            }
        }
        Ok(())
    }

    fn postcode(&mut self) -> Result<(), TooMany> {
        let Some(postcode) = &self.search.postcode else {
            return Ok(());
        };
        self.within_days(Index::Postcode, postcode.prefix())
    }

    fn practice(&mut self) -> Result<(), TooMany> {
        let Some(practice) = &self.search.practice else {
            return Ok(());
        };
        self.within_days(Index::Practice, practice.as_str())
    }

    fn family(&mut self) -> Result<(), TooMany> {
        let search = self.search;
        let Some(family) = &search.family else { return Ok(()) };
        if !family.is_wild() {
            return self.within_days(Index::Family, family.prefix());
        }
        self.stretch(Index::Family, family.prefix().as_bytes(), None, |found| {
            let (name, day) = found.text.split_at(found.text.len() - DAY_KEY_BYTES);
            search.birth.has_key(day) && fits(family, name)
        })
    }

    fn contact(&mut self) -> Result<(), TooMany> {
        let asked = [
            (card::CONTACT_EMAIL, &self.search.email),
            (card::CONTACT_PHONE, &self.search.phone),
        ];
        let Some((kind, contact)) = asked
            .into_iter()
            .find_map(|(kind, asked)| Some((kind, asked.as_ref()?)))
        else {
            return Ok(());
        };
        let from = [&[kind], contact.as_bytes(), &[END]].concat();
        self.stretch(Index::Contact, &from, None, |_| true)
    }

    /// The entries of a text that ends in a day, within the days of birth.
    fn within_days(&mut self, index: Index, text: &str) -> Result<(), TooMany> {
        let key = |day: [u8; DAY_KEY_BYTES]| [text.as_bytes(), &[END], &day].concat();
        let behind = u32::from_be_bytes(self.search.birth.to().key()) + 1;
        let (from, to) = (key(self.search.birth.from().key()), key(behind.to_be_bytes()));
        self.stretch(index, &from, Some(&to), |_| true)
    }

    /// Refuses at once what would look up more days than the budget has.
    fn within_budget(&self, days: Days, each: usize) -> Result<(), TooMany> {
        let seeks = days.count() as usize * each;
        if seeks * SEEK_ENTRIES > self.entries_left {
            Err(TooMany)
        } else {
            Ok(())
        }
    }

    /// Reads a stretch of an index and judges the records that it names.
    fn stretch(
        &mut self,
        index: Index,
        from: &[u8],
        to: Option<&[u8]>,
        fits: impl Fn(&Found<'_>) -> bool,
    ) -> Result<(), TooMany> {
        self.entries_left = self.entries_left.checked_sub(SEEK_ENTRIES).ok_or(TooMany)?;
        let search = self.search;
        let (mut entries_left, seen) = (self.entries_left, &mut self.seen);
        let mut candidates: Vec<NhsNumber> = Vec::new();
        let mut too_many = false;
        state::scan_index(self.state, index, from, to, &mut |found| {
            if search.asks_place() && found.flags & flags::RESTRICTED != 0 {
                return true;
            }
            too_many = entries_left == 0;
            entries_left = entries_left.saturating_sub(1);
            if passes(search, found.flags) && fits(&found) && seen.insert(found.number) {
                candidates.push(found.number);
                too_many |= candidates.len() > self.cards_left;
            }
            !too_many
        });
        if too_many {
            return Err(TooMany);
        }
        self.entries_left = entries_left;
        self.cards_left -= candidates.len();
        candidates.into_iter().try_for_each(|number| self.judge(number))
    }

    fn judge(&mut self, number: NhsNumber) -> Result<(), TooMany> {
        let Some(score) = card_of(self.state, number).and_then(|card| compare(self.search, &card)) else {
            return Ok(());
        };
        if let Some(standing) = standing(self.state, self.search, number) {
            let best = self.found.entry(standing).or_insert(score);
            *best = score.max(*best);
        }
        if self.found.len() > self.search.results_max {
            Err(TooMany)
        } else {
            Ok(())
        }
    }
}

/// What flags alone say of an entry.
fn passes(search: &Search, flags: u8) -> bool {
    let of_gender = search.gender.is_none_or(|gender| flags::says_gender(flags, gender));
    of_gender && (search.counts_history() || flags & flags::HISTORIC == 0)
}

/// Whether a family name of a key, with its end, fits a pattern.
fn fits(pattern: &super::query::Pattern, name: &[u8]) -> bool {
    let name = name.strip_suffix(&[END]).unwrap_or(name);
    std::str::from_utf8(name).is_ok_and(|name| pattern.fits(name))
}
