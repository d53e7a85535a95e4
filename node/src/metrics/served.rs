//! What releases are compared by: answered requests, how many of them failed, how long they took. Reads and writes apart,
//! because one of two members may get more of the one.
//!
//! Times go into buckets of a quarter of a power of two, so that a quantile is known within 25 % whatever it is, and two
//! moments are subtracted to see what was between them.

use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};

/// Up to two minutes; what took longer counts as that.
const BUCKETS: usize = 104;

/// Counters since the start.
pub struct Served {
    reads: Kind,
    writes: Kind,
}

struct Kind {
    failed: AtomicU64,
    buckets: [AtomicU64; BUCKETS],
}

/// Requests of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KindFigures {
    /// Of these were answered 5xx.
    pub failed: u64,
    /// Requests by time, see [`KindFigures::quantile_us`]; empty buckets at the end are left out.
    pub times: Vec<u64>,
}

/// All of them, as told to others.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedFigures {
    /// Requests that change nothing.
    pub reads: KindFigures,
    /// The others.
    pub writes: KindFigures,
}

impl Default for Served {
    fn default() -> Served {
        let kind = || Kind {
            failed: AtomicU64::new(0),
            buckets: [const { AtomicU64::new(0) }; BUCKETS],
        };
        Served {
            reads: kind(),
            writes: kind(),
        }
    }
}

/// The bucket of a time.
fn bucket(micros: u64) -> usize {
    if micros < 4 {
        return micros as usize;
    }
    let power = micros.ilog2() as usize;
    let quarter = (micros >> (power - 2)) & 3;
    ((power - 1) * 4 + quarter as usize).min(BUCKETS - 1)
}

/// The first time that is too long for it.
fn end_us(bucket: usize) -> u64 {
    match bucket {
        0..4 => bucket as u64 + 1,
        _ => (5 + bucket as u64 % 4) << (bucket / 4 - 1),
    }
}

impl Served {
    /// Counts an answer.
    pub fn count(&self, writes: bool, status: u16, micros: u64) {
        let kind = if writes { &self.writes } else { &self.reads };
        kind.buckets[bucket(micros)].fetch_add(1, Ordering::Relaxed);
        if status >= 500 {
            kind.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// What was counted so far.
    pub fn figures(&self) -> ServedFigures {
        let figures = |kind: &Kind| {
            let mut times: Vec<u64> = kind.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
            times.truncate(times.iter().rposition(|count| *count > 0).map_or(0, |last| last + 1));
            let failed = kind.failed.load(Ordering::Relaxed);
            KindFigures { failed, times }
        };
        ServedFigures {
            reads: figures(&self.reads),
            writes: figures(&self.writes),
        }
    }
}

impl KindFigures {
    /// Requests.
    pub fn requests(&self) -> u64 {
        self.times.iter().sum()
    }

    /// The time within which this share of them was answered, µs, 25 % too long at most; 0 without any.
    pub fn quantile_us(&self, share: f64) -> u64 {
        let wanted = (self.requests() as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.times.iter().position(|count| {
            seen += count;
            seen >= wanted
        });
        found.map_or(0, end_us)
    }

    /// What came since `before`, which was told by the same process.
    pub fn since(&self, before: &KindFigures) -> KindFigures {
        let at = |n: usize| before.times.get(n).copied().unwrap_or(0);
        let times = self.times.iter().enumerate();
        KindFigures {
            failed: self.failed.saturating_sub(before.failed),
            times: times.map(|(n, count)| count.saturating_sub(at(n))).collect(),
        }
    }

    /// Together with another member's.
    pub fn and(&self, other: &KindFigures) -> KindFigures {
        let at = |times: &[u64], n: usize| times.get(n).copied().unwrap_or(0);
        let buckets = self.times.len().max(other.times.len());
        KindFigures {
            failed: self.failed + other.failed,
            times: (0..buckets).map(|n| at(&self.times, n) + at(&other.times, n)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_lies_in_its_bucket_and_no_other() {
        let mut before = 0;
        for micros in 0..200_000u64 {
            let at = bucket(micros);
            assert!(at == before || at == before + 1, "{micros}");
            assert!(micros < end_us(at) && (at == 0 || micros >= end_us(at - 1)), "{micros}");
            before = at;
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
        assert!(end_us(BUCKETS - 1) > 120_000_000);
    }

    #[test]
    fn quantiles_and_differences_are_those_of_what_was_counted() {
        let served = Served::default();
        for micros in 1..=1_000 {
            served.count(false, 200, micros);
        }
        let before = served.figures();
        for _ in 0..98 {
            served.count(false, 200, 100);
        }
        served.count(false, 503, 90_000);
        served.count(false, 500, 90_000);
        served.count(true, 202, 3_000);
        let now = served.figures();
        assert_eq!(before.reads.requests(), 1_000);
        let median = before.reads.quantile_us(0.5);
        assert!((500..=640).contains(&median), "{median}");
        let since = now.reads.since(&before.reads);
        assert_eq!((since.requests(), since.failed), (100, 2));
        assert!((100..=128).contains(&since.quantile_us(0.5)));
        assert!((90_000..=115_000).contains(&since.quantile_us(0.99)));
        assert_eq!(now.writes.requests(), 1);
        let both = since.and(&now.writes);
        assert_eq!((both.requests(), both.failed), (101, 2));
        assert_eq!(KindFigures::default().quantile_us(0.99), 0);
    }
}
