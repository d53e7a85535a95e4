//! Days of birth and death, as they are compared and as they stand in index keys.

use jiff::civil::Date;
use serde::{Deserialize, Serialize};

/// Bytes of a day in an index key.
pub const DAY_KEY_BYTES: usize = 4;

/// In index keys the day of a patient whose day of birth is not known: before every day, so that no range has it.
pub const NO_DAY_KEY: [u8; DAY_KEY_BYTES] = [0; DAY_KEY_BYTES];

/// A day from 0001-01-01 to 9999-12-31. Its `Debug` shows nothing of it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Day {
    year: u16,
    month: u8,
    day: u8,
}

impl std::fmt::Debug for Day {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Day")
    }
}

impl Day {
    /// The first there is.
    pub const FIRST: Day = Day {
        year: 1,
        month: 1,
        day: 1,
    };
    /// The last there is.
    pub const LAST: Day = Day {
        year: 9999,
        month: 12,
        day: 31,
    };

    /// From the calendar; `None` before year 1.
    pub fn of_date(date: Date) -> Option<Day> {
        Some(Day {
            year: u16::try_from(date.year()).ok().filter(|year| *year > 0)?,
            month: date.month().unsigned_abs(),
            day: date.day().unsigned_abs(),
        })
    }

    /// `yyyy-mm-dd` exactly.
    pub fn parse(text: &str) -> Option<Day> {
        let [y, y2, y3, y4, b'-', m, m2, b'-', d, d2] = text.as_bytes() else {
            return None;
        };
        let year = digits(&[*y, *y2, *y3, *y4])?;
        let (month, day) = (digits(&[*m, *m2])?, digits(&[*d, *d2])?);
        Day::of_date(Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()?)
    }

    /// As records say it: also `yyyy` and `yyyy-mm`, which count as their first day, and with a time behind it.
    pub fn parse_kept(text: &str) -> Option<Day> {
        match text.len() {
            4 => Day::parse(&format!("{text}-01-01")),
            7 => Day::parse(&format!("{text}-01")),
            _ => {
                let (day, rest) = text.split_at_checked(10)?;
                (rest.is_empty() || rest.starts_with('T'))
                    .then(|| Day::parse(day))
                    .flatten()
            }
        }
    }

    /// As bytes of an index key, which sort as the days do.
    pub fn key(self) -> [u8; DAY_KEY_BYTES] {
        let [high, low] = self.year.to_be_bytes();
        [high, low, self.month, self.day]
    }

    /// The day after; `None` after the last.
    pub fn next(self) -> Option<Day> {
        self.date().tomorrow().ok().and_then(Day::of_date)
    }

    fn date(self) -> Date {
        let (month, day) = (self.month.cast_signed(), self.day.cast_signed());
        Date::new(self.year.cast_signed(), month, day).expect("a day was made from a date")
    }
}

fn digits(text: &[u8]) -> Option<i16> {
    text.iter().try_fold(0_i16, |number, byte| {
        byte.is_ascii_digit().then(|| number * 10 + i16::from(byte - b'0'))
    })
}

/// All days from one to another, both included; never none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Days {
    from: Day,
    to: Day,
}

impl Days {
    /// `None` when `to` is before `from`.
    pub fn new(from: Day, to: Day) -> Option<Days> {
        (from <= to).then_some(Days { from, to })
    }

    /// The first.
    pub fn from(self) -> Day {
        self.from
    }

    /// The last.
    pub fn to(self) -> Day {
        self.to
    }

    /// Whether `day` is one of them.
    pub fn has(self, day: Day) -> bool {
        (self.from..=self.to).contains(&day)
    }

    /// Whether a day of an index key is one of them.
    pub fn has_key(self, key: &[u8]) -> bool {
        key >= &self.from.key()[..] && key <= &self.to.key()[..]
    }

    /// How many.
    pub fn count(self) -> u32 {
        let days = self
            .to
            .date()
            .since(self.from.date())
            .expect("days are in reach")
            .get_days();
        days.unsigned_abs() + 1
    }

    /// Each of them, ascending.
    pub fn each(self) -> impl Iterator<Item = Day> {
        std::iter::successors(Some(self.from), |day| day.next()).take_while(move |day| *day <= self.to)
    }
}
