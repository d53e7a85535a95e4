//! How much each thing that agrees is worth: data, in one place. `compare` finds the level of each feature that a search
//! gives; the score is the mean of the levels, weighed.
//!
//! 1.0 is given only where everything given agrees, whole, with current values.

use serde::{Deserialize, Serialize};

/// What a search can give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// The family name.
    Family,
    /// The given names together.
    Given,
    /// Date of birth.
    Birth,
    /// Gender.
    Gender,
    /// Postcode.
    Postcode,
    /// Date of death.
    Death,
    /// General practice.
    Practice,
    /// Email address.
    Email,
    /// Telephone number.
    Phone,
}

/// How well one of them agrees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// The same.
    Exact,
    /// Fits a pattern with wildcards.
    Wildcard,
    /// Sounds the same.
    Phonetic,
    /// One word of it sounds the same, as Jones and Smith-Jones.
    Part,
    /// Family and given name are exchanged.
    Transposed,
    /// A single letter for a name that starts with it.
    Initial,
    /// A given name that is recorded in another place than the first.
    Elsewhere,
    /// A further given name that is not recorded.
    Absent,
    /// Differs, where that does not decide: death and practice in a fuzzy search.
    Differs,
}

/// Whether what agreed is still so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Age {
    /// It was so once.
    Historic,
    /// It is so.
    Current,
}

/// The score of a whole agreement.
pub const SCORE_MAX: u32 = 10_000;

/// What each feature weighs, in hundredths of the whole of names and date of birth.
pub const WEIGHTS: [(Feature, u32); 9] = [
    (Feature::Family, 40),
    (Feature::Given, 30),
    (Feature::Birth, 30),
    (Feature::Gender, 10),
    (Feature::Postcode, 20),
    (Feature::Death, 10),
    (Feature::Practice, 10),
    (Feature::Email, 15),
    (Feature::Phone, 15),
];

/// What each level is worth, in ten-thousandths.
pub const LEVELS: [(Level, u32); 9] = [
    (Level::Exact, 10_000),
    (Level::Wildcard, 9_000),
    (Level::Phonetic, 7_500),
    (Level::Transposed, 6_500),
    (Level::Part, 6_000),
    (Level::Elsewhere, 6_000),
    (Level::Initial, 5_000),
    (Level::Absent, 0),
    (Level::Differs, 0),
];

/// What is left of a level when only a value of the past agrees, in hundredths.
pub const HISTORIC_PERCENT: u32 = 80;

/// What a feature weighs.
pub fn weight(feature: Feature) -> u32 {
    let found = WEIGHTS.iter().find(|(of, _)| *of == feature);
    found.expect("every feature has a weight").1
}

/// What a level is worth at an age.
pub fn worth(level: Level, age: Age) -> u32 {
    let found = LEVELS.iter().find(|(of, _)| *of == level);
    let whole = found.expect("every level is worth something").1;
    match age {
        Age::Current => whole,
        Age::Historic => whole * HISTORIC_PERCENT / 100,
    }
}

/// How closely a record agrees with a search, in ten-thousandths: 1 to [`SCORE_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Score(u16);

impl Score {
    /// Everything given is so.
    pub const EXACT: Score = Score(SCORE_MAX as u16);

    /// In ten-thousandths.
    pub const fn ten_thousandths(self) -> u16 {
        self.0
    }

    /// As FHIR writes it, above 0.0 and up to 1.0.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / f64::from(SCORE_MAX)
    }
}

/// A score in the making.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    sum: u32,
    weights: u32,
}

impl Tally {
    /// Adds a feature that is worth so much, see [`worth`].
    pub fn add(&mut self, feature: Feature, worth: u32) {
        self.sum += weight(feature) * worth;
        self.weights += weight(feature);
    }

    /// The weighted mean, rounded down, so that 1.0 means all of it.
    ///
    /// # Panics
    /// When nothing was added.
    pub fn score(self) -> Score {
        assert!(self.weights > 0, "a search gives something");
        Score(u16::try_from((self.sum / self.weights).clamp(1, SCORE_MAX)).expect("a mean of levels"))
    }
}
