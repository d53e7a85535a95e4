//! Chance that is the same everywhere: a small generator of our own, weighted choices, and calendar days as numbers.
//!
//! Integers only, so that no machine rounds differently.

/// SplitMix64: a counter through a mixing function. Fast, and its stream is fixed by what it was made from.
#[derive(Clone)]
pub(super) struct Draw(u64);

/// What a stream is for; each part of a person has one of its own, so that a change to one part leaves the others alone.
#[derive(Clone, Copy)]
pub(super) enum Purpose {
    Kind = 1,
    Facts = 2,
    Change = 3,
    Record = 4,
    Related = 5,
    Coverage = 6,
}

fn mixed(mut z: u64) -> u64 {
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

impl Draw {
    /// The stream of person `index` under `seed` for one purpose.
    pub(super) fn new(seed: u64, index: u64, purpose: Purpose) -> Draw {
        let mut state = mixed(seed ^ 0x5645_5254_4542_5241);
        state = mixed(state ^ index.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        Draw(mixed(state ^ ((purpose as u64) << 56)))
    }

    /// 64 bits.
    pub(super) fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        mixed(self.0)
    }

    /// Less than `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// From `low` to `high`, both included.
    pub(super) fn between(&mut self, low: i64, high: i64) -> i64 {
        low + self.below((high - low + 1) as u64) as i64
    }

    /// True `parts` times in 10,000.
    pub(super) fn chance(&mut self, parts: u64) -> bool {
        self.below(10_000) < parts
    }

    /// One of them, each as likely.
    pub(super) fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }
}

/// A choice by weight.
pub(super) struct Weighted<T> {
    /// The weights up to and with each item.
    ends: Vec<u64>,
    items: Vec<T>,
}

impl<T: Copy> Weighted<T> {
    /// Of items with a weight each; not all 0.
    pub(super) fn new(of: impl IntoIterator<Item = (T, u64)>) -> Weighted<T> {
        let (mut ends, mut items, mut end) = (Vec::new(), Vec::new(), 0);
        for (item, weight) in of {
            end += weight;
            ends.push(end);
            items.push(item);
        }
        assert!(end > 0, "something can be chosen");
        Weighted { ends, items }
    }

    pub(super) fn choose(&self, draw: &mut Draw) -> T {
        let end = self.ends.last().copied().unwrap_or(1);
        let at = draw.below(end);
        self.items[self.ends.partition_point(|end| *end <= at)]
    }
}

impl Weighted<&'static str> {
    /// Of a list that starts with the most frequent word: the weight falls with the rank, as names do.
    pub(super) fn ranked(words: &'static str) -> Weighted<&'static str> {
        let ranked = words.split_whitespace().enumerate();
        Weighted::new(ranked.map(|(rank, word)| (word, 1_000_000 / (rank as u64 + 6))))
    }
}

/// A day of the Gregorian calendar, as days since 1970-01-01.
pub(super) type Day = i64;

/// The day of a date (Howard Hinnant's algorithm).
pub(super) fn day_of(year: i64, month: i64, day: i64) -> Day {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year - era * 400;
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

/// Year, month and day.
pub(super) fn date_of(day: Day) -> (i64, i64, i64) {
    let shifted = day + 719_468;
    let era = shifted.div_euclid(146_097);
    let of_era = shifted - era * 146_097;
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}
