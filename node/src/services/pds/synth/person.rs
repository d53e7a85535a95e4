//! Who person `index` is: name, sex, dates, home; and what kind of record they have.

use super::draw::{Day, Draw, Purpose, Weighted, date_of, day_of};
use super::names;
use super::places::{AREAS, Area, BLOCKS, HOUSES, LANGUAGES, LOCALITIES, STREET_KINDS, STREETS};
use std::borrow::Cow;

/// What kind of record a person has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Like most.
    Plain,
    /// Restricted: `R`.
    Restricted,
    /// Very restricted: `V`.
    VeryRestricted,
    /// A person of their own who looks much like another one.
    NearDuplicate(u64),
    /// A second record of another person, found out and superseded by theirs.
    Superseded(u64),
    /// Found to be nobody's record.
    Invalidated,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gender {
    Female,
    Male,
    Other,
    Unknown,
}

/// Where a person's names come from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    British,
    Gaelic,
    Asian,
    East,
    African,
    Elsewhere,
}

/// A home.
#[derive(Clone)]
pub(super) struct Home {
    pub(super) area: Area,
    pub(super) district: u8,
    pub(super) sector: u8,
    pub(super) unit: [u8; 2],
    /// Flat and block, or the house's name.
    pub(super) premises: Option<(u16, &'static str)>,
    /// Number in the street; 0: none.
    pub(super) house: u16,
    pub(super) street: (&'static str, &'static str),
    pub(super) locality: Option<&'static str>,
}

/// What identifies a person.
#[derive(Clone)]
pub(super) struct Facts {
    pub(super) origin: Origin,
    pub(super) gender: Gender,
    /// 1 to 3.
    pub(super) given: Vec<Cow<'static, str>>,
    pub(super) family: Cow<'static, str>,
    /// Behind a hyphen.
    pub(super) second_family: Option<&'static str>,
    pub(super) born: Day,
    pub(super) died: Option<Day>,
    pub(super) home: Home,
}

type Words = Weighted<&'static str>;

/// The choices, made once.
pub(super) struct Choices {
    origin: Weighted<Origin>,
    families: [Words; 6],
    girls: [Words; 6],
    boys: [Words; 6],
    age: Weighted<(i64, i64)>,
    age_at_death: Weighted<(i64, i64)>,
    pub(super) area: Weighted<usize>,
    streets: Words,
    street_kinds: Words,
    houses: Words,
    blocks: Words,
    localities: Words,
    pub(super) language: Weighted<(&'static str, &'static str)>,
}

impl Choices {
    pub(super) fn new() -> Choices {
        let origin = [
            (Origin::British, 760),
            (Origin::Gaelic, 70),
            (Origin::Asian, 75),
            (Origin::East, 40),
            (Origin::African, 35),
            (Origin::Elsewhere, 20),
        ];
        let ages = [
            ((0, 4), 55),
            ((5, 9), 60),
            ((10, 14), 61),
            ((15, 19), 57),
            ((20, 24), 61),
            ((25, 29), 66),
            ((30, 34), 70),
            ((35, 39), 68),
            ((40, 44), 64),
            ((45, 49), 62),
            ((50, 54), 68),
            ((55, 59), 68),
            ((60, 64), 59),
            ((65, 69), 50),
            ((70, 74), 48),
            ((75, 79), 36),
            ((80, 84), 25),
            ((85, 89), 16),
            ((90, 94), 7),
            ((95, 99), 2),
            ((100, 105), 1),
        ];
        let deaths = [
            ((0, 1), 6),
            ((2, 39), 40),
            ((40, 64), 150),
            ((65, 79), 330),
            ((80, 104), 474),
        ];
        Choices {
            origin: Weighted::new(origin),
            families: [
                names::FAMILY,
                names::FAMILY_GAELIC,
                names::FAMILY_ASIAN,
                names::FAMILY_EAST,
                names::FAMILY_AFRICAN,
                names::FAMILY_OTHER,
            ]
            .map(Weighted::ranked),
            girls: [
                names::GIRLS_1,
                names::GIRLS_2,
                names::GIRLS_3,
                names::GIRLS_4,
                names::GIRLS_ASIAN,
                names::GIRLS_OTHER,
            ]
            .map(Weighted::ranked),
            boys: [
                names::BOYS_1,
                names::BOYS_2,
                names::BOYS_3,
                names::BOYS_4,
                names::BOYS_ASIAN,
                names::BOYS_OTHER,
            ]
            .map(Weighted::ranked),
            age: Weighted::new(ages),
            age_at_death: Weighted::new(deaths),
            area: Weighted::new(AREAS.iter().enumerate().map(|(at, area)| (at, u64::from(area.weight)))),
            streets: Weighted::ranked(STREETS),
            street_kinds: Weighted::ranked(STREET_KINDS),
            houses: Weighted::ranked(HOUSES),
            blocks: Weighted::ranked(BLOCKS),
            localities: Weighted::ranked(LOCALITIES),
            language: Weighted::new(LANGUAGES.map(|(code, display, weight)| ((code, display), weight))),
        }
    }

    /// A family name.
    pub(super) fn family(&self, draw: &mut Draw, origin: Origin) -> &'static str {
        self.families[origin as usize].choose(draw)
    }

    /// A given name for somebody born on this day.
    pub(super) fn given(&self, draw: &mut Draw, origin: Origin, gender: Gender, born: Day) -> &'static str {
        let year = date_of(born).0;
        let era = match (origin, year) {
            (Origin::Asian, _) => 4,
            (Origin::East | Origin::African | Origin::Elsewhere, _) => 5,
            (Origin::British | Origin::Gaelic, ..1945) => 0,
            (Origin::British | Origin::Gaelic, 1945..1970) => 1,
            (Origin::British | Origin::Gaelic, 1970..1995) => 2,
            (Origin::British | Origin::Gaelic, 1995..) => 3,
        };
        let female = match gender {
            Gender::Female => true,
            Gender::Male => false,
            Gender::Other | Gender::Unknown => draw.chance(5_000),
        };
        let list = if female { &self.girls[era] } else { &self.boys[era] };
        list.choose(draw)
    }

    /// A home somewhere.
    pub(super) fn home(&self, draw: &mut Draw) -> Home {
        let at = self.area.choose(draw);
        self.home_in(draw, &AREAS[at])
    }

    fn home_in(&self, draw: &mut Draw, area: &Area) -> Home {
        let letters = super::places::POSTCODE_LETTERS;
        let premises = match draw.below(100) {
            0..12 => Some((1 + draw.below(40) as u16, self.blocks.choose(draw))),
            12..18 => Some((0, self.houses.choose(draw))),
            _ => None,
        };
        let named = premises.is_some_and(|(flat, _)| flat == 0);
        Home {
            area: *area,
            district: 1 + draw.below(u64::from(area.districts)) as u8,
            sector: draw.below(10) as u8,
            unit: [draw.one_of(letters), draw.one_of(letters)],
            premises,
            // Low numbers are the more frequent: there are many short streets.
            house: match named {
                true => 0,
                false => 1 + (draw.below(160) * draw.below(160) / 160) as u16,
            },
            street: (self.streets.choose(draw), self.street_kinds.choose(draw)),
            locality: draw.chance(4_500).then(|| self.localities.choose(draw)),
        }
    }

    /// The kind of record of person `index`; its other person always comes before and is plain.
    pub(super) fn kind(&self, seed: u64, index: u64) -> Kind {
        let mut draw = Draw::new(seed, index, Purpose::Kind);
        let roll = draw.below(10_000);
        if index == 0 {
            return Kind::Plain;
        }
        match roll {
            0..50 => Kind::Restricted,
            50..55 => Kind::VeryRestricted,
            55..65 => Kind::Invalidated,
            65..165 => Kind::Superseded(self.plain_before(seed, index, &mut draw)),
            165..465 => Kind::NearDuplicate(self.plain_before(seed, index, &mut draw)),
            _ => Kind::Plain,
        }
    }

    /// A plain person who comes before; person 0 is one.
    fn plain_before(&self, seed: u64, index: u64, draw: &mut Draw) -> u64 {
        let mut other = index - 1 - draw.below(index.min(5_000));
        while other > 0 && Draw::new(seed, other, Purpose::Kind).below(10_000) < 465 {
            other -= 1;
        }
        other
    }

    /// What identifies person `index`.
    pub(super) fn facts(&self, seed: u64, index: u64, as_of: Day) -> Facts {
        match self.kind(seed, index) {
            Kind::Plain | Kind::Restricted | Kind::VeryRestricted | Kind::Invalidated => self.own(seed, index, as_of),
            Kind::NearDuplicate(other) | Kind::Superseded(other) => {
                let mut facts = self.own(seed, other, as_of);
                self.change(&mut facts, seed, index, as_of);
                facts
            }
        }
    }

    fn own(&self, seed: u64, index: u64, as_of: Day) -> Facts {
        let draw = &mut Draw::new(seed, index, Purpose::Facts);
        let origin = self.origin.choose(draw);
        let gender = match draw.below(1_000) {
            0..506 => Gender::Female,
            506..995 => Gender::Male,
            995..997 => Gender::Other,
            _ => Gender::Unknown,
        };
        let (born, died) = self.life(draw, as_of);
        let mut given = vec![Cow::Borrowed(self.first_given(draw, origin, gender, born))];
        let more = match draw.below(100) {
            0..38 => 0,
            38..92 => 1,
            _ => 2,
        };
        for _ in 0..more {
            let name = self.given(draw, origin, gender, born);
            if given.iter().all(|other| *other != name) {
                given.push(Cow::Borrowed(name));
            }
        }
        let family = self.family(draw, origin);
        let second = draw.chance(350).then(|| self.family(draw, Origin::British));
        Facts {
            origin,
            gender,
            given,
            family: Cow::Borrowed(family),
            second_family: second.filter(|second| *second != family),
            born,
            died,
            home: self.home(draw),
        }
    }

    fn first_given(&self, draw: &mut Draw, origin: Origin, gender: Gender, born: Day) -> &'static str {
        match gender {
            Gender::Female if draw.chance(150) => draw.one_of(&names::GIRLS_COMPOUND),
            Gender::Male if draw.chance(150) => draw.one_of(&names::BOYS_COMPOUND),
            Gender::Female | Gender::Male | Gender::Other | Gender::Unknown => self.given(draw, origin, gender, born),
        }
    }

    /// Birth and, for one in twelve, death, in the 25 years before `as_of`. Some were born, or died, just now.
    fn life(&self, draw: &mut Draw, as_of: Day) -> (Day, Option<Day>) {
        if draw.chance(800) {
            let died = as_of - draw.below(25 * 365) as i64;
            let (from, to) = self.age_at_death.choose(draw);
            let age = draw.between(from, to) * 365 + draw.below(365) as i64;
            return (died - age - age / 1_461, Some(died));
        }
        if draw.chance(20) {
            return (as_of - draw.below(7) as i64, None);
        }
        let (from, to) = self.age.choose(draw);
        let (year, ..) = date_of(as_of);
        let born = day_of(year - draw.between(from, to), 1, 1) + draw.below(365) as i64;
        // Where only the year is known, the first of January was often written.
        let born = if draw.chance(60) {
            day_of(date_of(born).0, 1, 1)
        } else {
            born
        };
        (born.min(as_of), None)
    }

    /// Makes somebody look like somebody else who is not quite them.
    fn change(&self, facts: &mut Facts, seed: u64, index: u64, as_of: Day) {
        let draw = &mut Draw::new(seed, index, Purpose::Change);
        match draw.below(8) {
            0 => facts.family = Cow::Owned(misspelt(draw, &facts.family)),
            1 => facts.given[0] = Cow::Owned(misspelt(draw, &facts.given[0])),
            2 => {
                let given = std::mem::replace(&mut facts.given[0], Cow::Borrowed(""));
                facts.given[0] = std::mem::replace(&mut facts.family, given);
            }
            3 => {
                let (year, month, day) = date_of(facts.born);
                facts.born = match day {
                    1..=12 if day != month => day_of(year, day, month),
                    _ => facts.born - 10,
                };
            }
            4 => facts.born = (facts.born + draw.one_of(&[-3_652, -365, -1, 1])).min(as_of),
            5 => {
                let alike = names::SOUNDS_ALIKE.iter().find(|(word, _)| *word == facts.family);
                match alike {
                    Some((_, other)) => facts.family = Cow::Borrowed(other),
                    None => facts.family = Cow::Owned(misspelt(draw, &facts.family)),
                }
            }
            6 => facts.given.truncate(1),
            _ => facts.home = self.home_in(draw, &facts.home.area.clone()),
        }
        // Nobody is born after they died, or later than today.
        facts.born = facts.born.min(facts.died.unwrap_or(as_of)).min(as_of);
    }
}

/// One slip of the keyboard: two letters exchanged, one left out, or one typed twice.
fn misspelt(draw: &mut Draw, word: &str) -> String {
    let mut letters: Vec<char> = word.chars().collect();
    if letters.len() < 3 {
        letters.extend(letters.last().copied());
        return letters.into_iter().collect();
    }
    // The first letter is seldom the wrong one.
    let at = 1 + draw.below(letters.len() as u64 - 2) as usize;
    match draw.below(3) {
        0 if letters[at] != letters[at + 1] => letters.swap(at, at + 1),
        1 => drop(letters.remove(at)),
        _ => letters.insert(at, letters[at]),
    }
    letters.into_iter().collect()
}
