//! Whether one card agrees with a search, and how closely.
//!
//! - Date of birth and, where given, gender, postcode, email and phone must agree. Death and practice must, too, unless
//!   the search is fuzzy: then they only change the score.
//! - Family and given names agree within one and the same name of the record.
//! - Not fuzzy: the first `given` is the record's first given name, further ones follow in order, with gaps; or all of them
//!   written together are the record's first ones written together, so that `John Paul` and `John`, `Paul` are one. A pattern
//!   stands for one given name. Names that are not asked for do not count against a record.
//! - Fuzzy: names also agree when they sound alike, wholly or in one word; the first `given` may be any of the record's, or
//!   either may be an initial; further ones that are not recorded lower the score. Family and first given name may be
//!   exchanged. History always counts.

use super::super::Security;
use super::card::{Aged, Card, Name};
use super::normal;
use super::query::{Pattern, Search};
use super::rules::{Age, Feature, Level, Score, Tally, weight, worth};

/// The score of a record that matches; `None` when it does not.
pub fn compare(search: &Search, card: &Card) -> Option<Score> {
    if !may_match(search, card.security) || !search.birth.has(card.birth?) {
        return None;
    }
    let mut tally = Tally::default();
    tally.add(Feature::Birth, worth(Level::Exact, Age::Current));
    if let Some(gender) = search.gender {
        if gender != card.gender {
            return None;
        }
        tally.add(Feature::Gender, worth(Level::Exact, Age::Current));
    }
    let history = search.counts_history();
    if let Some(postcode) = &search.postcode {
        let level = if postcode.is_wild() {
            Level::Wildcard
        } else {
            Level::Exact
        };
        let age = aged(&card.postcodes, history, |text| postcode.fits(text))?;
        tally.add(Feature::Postcode, worth(level, age));
    }
    for (feature, asked, contacts) in [
        (Feature::Email, &search.email, &card.emails),
        (Feature::Phone, &search.phone, &card.phones),
    ] {
        if let Some(asked) = asked {
            let age = aged(contacts, history, |text| text == asked)?;
            tally.add(feature, worth(Level::Exact, age));
        }
    }
    let death = search.death.map(|days| card.death.is_some_and(|day| days.has(day)));
    let practice = search
        .practice
        .as_ref()
        .map(|practice| card.practice.as_ref() == Some(practice));
    for (feature, agrees) in [(Feature::Death, death), (Feature::Practice, practice)] {
        match agrees {
            None => {}
            Some(true) => tally.add(feature, worth(Level::Exact, Age::Current)),
            Some(false) if search.fuzzy => tally.add(feature, worth(Level::Differs, Age::Current)),
            Some(false) => return None,
        }
    }
    names(search, &card.names, &mut tally)?;
    Some(tally.score()).filter(|score| !search.exact || *score == Score::EXACT)
}

/// Whether records of this security can be found by this search at all.
pub fn may_match(search: &Search, security: Security) -> bool {
    match security {
        Security::Unrestricted => true,
        Security::Restricted => !search.asks_place(),
        Security::VeryRestricted | Security::Redacted => false,
    }
}

/// The best age at which a value fits.
fn aged(values: &[Aged], history: bool, fits: impl Fn(&str) -> bool) -> Option<Age> {
    let fitting = values.iter().filter(|value| fits(&value.text));
    fitting
        .map(|value| age(value.current))
        .filter(|age| history || *age == Age::Current)
        .max()
}

fn age(current: bool) -> Age {
    if current { Age::Current } else { Age::Historic }
}

/// How well the names of one name agree: what the family name is worth, and what the given names are.
struct Agreed {
    family: Option<u32>,
    givens: Option<u32>,
}

impl Agreed {
    fn weighed(&self) -> u32 {
        self.family.unwrap_or(0) * weight(Feature::Family) + self.givens.unwrap_or(0) * weight(Feature::Given)
    }
}

/// Adds the best agreement of any name of the record; `None` when no name agrees.
fn names(search: &Search, names: &[Name], tally: &mut Tally) -> Option<()> {
    let mut best: Option<Agreed> = None;
    for name in names.iter().filter(|name| name.current || search.counts_history()) {
        let straight = agreed(search, name);
        let exchanged = if search.fuzzy { exchanged(search, name) } else { None };
        for agreed in [straight, exchanged].into_iter().flatten() {
            if best.as_ref().is_none_or(|best| agreed.weighed() > best.weighed()) {
                best = Some(agreed);
            }
        }
    }
    let best = best?;
    for (feature, worth) in [(Feature::Family, best.family), (Feature::Given, best.givens)] {
        if let Some(worth) = worth {
            tally.add(feature, worth);
        }
    }
    Some(())
}

fn agreed(search: &Search, name: &Name) -> Option<Agreed> {
    let age = age(name.current);
    let family = match &search.family {
        Some(pattern) => Some(worth(one(pattern, &name.family, search.fuzzy)?, age)),
        None => None,
    };
    let levels = match (search.givens.is_empty(), search.fuzzy) {
        (true, _) => None,
        (false, false) => Some(in_order(&search.givens, &name.givens)?),
        (false, true) => Some(in_any_order(&search.givens, &name.givens)?),
    };
    let givens = levels.map(|levels| {
        let sum: u32 = levels.iter().map(|level| worth(*level, age)).sum();
        sum / levels.len() as u32
    });
    Some(Agreed { family, givens })
}

/// Family name for first given name, and the other way round.
fn exchanged(search: &Search, name: &Name) -> Option<Agreed> {
    let (family, given) = (search.family.as_ref()?, search.givens.first()?);
    one(given, &name.family, true)?;
    name.givens.iter().find_map(|recorded| one(family, recorded, true))?;
    let worth = worth(Level::Transposed, age(name.current));
    Some(Agreed {
        family: Some(worth),
        givens: Some(worth),
    })
}

/// How one name agrees with what is asked for.
fn one(asked: &Pattern, recorded: &str, fuzzy: bool) -> Option<Level> {
    if asked.is_wild() {
        return asked.fits(&normal::squeezed(recorded)).then_some(Level::Wildcard);
    }
    if normal::same(&asked.name, recorded) {
        return Some(Level::Exact);
    }
    if !fuzzy {
        return None;
    }
    let (asked, recorded) = (normal::codes(&asked.name), normal::codes(recorded));
    match (asked.first(), recorded.first()) {
        (Some(asked), Some(recorded)) if asked == recorded => Some(Level::Phonetic),
        _ => asked.iter().any(|code| recorded.contains(code)).then_some(Level::Part),
    }
}

fn in_order(asked: &[Pattern], recorded: &[String]) -> Option<Vec<Level>> {
    if written_together(asked, recorded) {
        return Some(vec![Level::Exact; asked.len()]);
    }
    let mut levels = Vec::with_capacity(asked.len());
    let mut left = recorded.iter();
    for (at, pattern) in asked.iter().enumerate() {
        let level = match at {
            0 => left.next().and_then(|first| one(pattern, first, false))?,
            _ => left.find_map(|later| one(pattern, later, false))?,
        };
        levels.push(level);
    }
    Some(levels)
}

/// Whether all that is asked for, written together, is the first few of the recorded written together.
fn written_together(asked: &[Pattern], recorded: &[String]) -> bool {
    if asked.iter().any(Pattern::is_wild) {
        return false;
    }
    let asked: String = asked.iter().map(|pattern| pattern.prefix()).collect();
    let mut together = String::new();
    for given in recorded {
        together.push_str(&normal::squeezed(given));
        if together.len() >= asked.len() {
            return together == asked;
        }
    }
    false
}

fn in_any_order(asked: &[Pattern], recorded: &[String]) -> Option<Vec<Level>> {
    if written_together(asked, recorded) {
        return Some(vec![Level::Exact; asked.len()]);
    }
    let mut levels = Vec::with_capacity(asked.len());
    for (at, pattern) in asked.iter().enumerate() {
        // The first is best in the first place; further ones may be anywhere behind it.
        let in_place = |place: usize| if at == 0 { place == 0 } else { place > 0 };
        let found = recorded.iter().enumerate().filter_map(|(place, given)| {
            let level = one(pattern, given, true).or_else(|| initial(pattern, given))?;
            Some(if in_place(place) { level } else { lower(level) })
        });
        match found.max_by_key(|level| worth(*level, Age::Current)) {
            Some(level) => levels.push(level),
            None if at == 0 => return None,
            None => levels.push(Level::Absent),
        }
    }
    Some(levels)
}

fn lower(level: Level) -> Level {
    if worth(level, Age::Current) > worth(Level::Elsewhere, Age::Current) {
        Level::Elsewhere
    } else {
        level
    }
}

fn initial(asked: &Pattern, recorded: &str) -> Option<Level> {
    let (one, other) = (asked.name.as_bytes(), recorded.as_bytes());
    let letter = one.len() == 1 || other.len() == 1;
    (letter && one.first() == other.first()).then_some(Level::Initial)
}
