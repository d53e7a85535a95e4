//! The guard against a clock that jumps: it compares the system's clock with the monotonic one, because a cluster of one
//! has no peers to compare with, and others take a while to ask theirs. What a test adds to the node's clock on purpose is
//! in neither.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// One reading of both clocks, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Since 1970, by the system.
    pub system_ms: u64,
    /// Since some start, never set.
    pub monotonic_ms: u64,
}

/// Remembers the last reading that was in order.
pub struct ClockGuard {
    start: Instant,
    jump_ms_max: u64,
    good: Reading,
}

impl ClockGuard {
    /// Accepts the time as it is now.
    pub fn new(jump_ms_max: u64) -> ClockGuard {
        let start = Instant::now();
        ClockGuard {
            start,
            jump_ms_max,
            good: read(start),
        }
    }

    /// Starts from a time that the log has reached, when the clock is further behind it than a jump may be: writes are
    /// refused until the clock is set right, because their tokens would be judged by the wrong time. Says whether it is.
    pub fn expect_at_least(&mut self, log_ms: u64) -> bool {
        let behind = log_ms > self.good.system_ms.saturating_add(self.jump_ms_max);
        if behind {
            self.good.system_ms = log_ms;
        }
        behind
    }

    /// Whether the system's clock moved as the monotonic one did since the last reading in order. Slow adjustments
    /// pass, because every good reading is the base of the next; a jump stays refused until the clock is back, peers
    /// agree with it, or the node is started again.
    pub fn in_order(&mut self) -> bool {
        let now = read(self.start);
        self.judge(now)
    }

    fn judge(&mut self, now: Reading) -> bool {
        let elapsed = now.monotonic_ms.saturating_sub(self.good.monotonic_ms);
        let expected = self.good.system_ms.saturating_add(elapsed);
        let fits = now.system_ms.abs_diff(expected) <= self.jump_ms_max;
        if fits {
            self.good = now;
        }
        fits
    }

    /// Takes the time as it is now for right, because peers say that it is.
    pub fn accept(&mut self) {
        self.good = read(self.start);
    }

    /// As if the system's clock had been set.
    #[cfg(test)]
    pub fn pretend_jump(&mut self, by_ms: i64) {
        self.good.system_ms = self.good.system_ms.saturating_add_signed(-by_ms);
    }
}

/// A clock further than this from the middle of its peers' is off, ms.
pub(super) const OFF_MS: u64 = 5_000;

/// Whether this node's clock is off, by what its peers' clocks say less its own, in ms: the middle one decides, so that
/// one peer with a wrong clock says nothing about this one.
pub fn is_off(skews_ms: &[i64]) -> bool {
    let mut sorted = skews_ms.to_vec();
    sorted.push(0);
    sorted.sort_unstable();
    let (low, high) = (sorted[(sorted.len() - 1) / 2], sorted[sorted.len() / 2]);
    i64::midpoint(low, high).unsigned_abs() > OFF_MS
}

/// Whether most of all clocks, this node's own among them, are that far from it on the same side: then it is the one that is
/// wrong. Of two that differ nobody can tell which.
pub fn is_outvoted(skews_ms: &[i64]) -> bool {
    let off = |sign: i64| skews_ms.iter().filter(|skew| **skew * sign > OFF_MS as i64).count();
    off(1).max(off(-1)) * 2 > skews_ms.len() + 1
}

fn read(start: Instant) -> Reading {
    let system_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let monotonic_ms = start.elapsed().as_millis() as u64;
    Reading {
        system_ms,
        monotonic_ms,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard() -> ClockGuard {
        let good = Reading {
            system_ms: 1_000_000,
            monotonic_ms: 0,
        };
        ClockGuard {
            start: Instant::now(),
            jump_ms_max: 1_000,
            good,
        }
    }

    fn at(system_ms: u64, monotonic_ms: u64) -> Reading {
        Reading {
            system_ms,
            monotonic_ms,
        }
    }

    #[test]
    fn a_clock_behind_the_log_is_refused_until_it_is_set_right() {
        let mut guard = guard();
        assert!(!guard.expect_at_least(1_001_000), "within the bound");
        assert!(guard.judge(at(1_000_010, 10)));
        assert!(guard.expect_at_least(9_000_000));
        assert!(!guard.judge(at(1_000_020, 20)));
        assert!(guard.judge(at(9_000_030, 30)));
    }

    #[test]
    fn a_clock_that_runs_along_passes_for_ever() {
        let mut guard = guard();
        for step in 1..100 {
            // 900 ms too fast in every ten seconds.
            assert!(guard.judge(at(1_000_000 + step * 10_900, step * 10_000)));
        }
    }

    #[test]
    fn a_jump_either_way_is_refused_until_the_clock_is_back() {
        let mut guard = guard();
        assert!(guard.judge(at(1_011_000, 10_000)));
        assert!(!guard.judge(at(1_012_002, 10_001)));
        assert!(!guard.judge(at(1_009_990, 10_001)));
        assert!(!guard.judge(at(5_000_000, 20_000)));
        assert!(guard.judge(at(1_021_500, 20_000)));
    }

    #[test]
    fn a_clock_that_was_set_right_is_trusted_when_peers_agree() {
        let mut guard = guard();
        assert!(
            !guard.in_order(),
            "the machine's clock is far from where the guard began"
        );
        guard.accept();
        assert!(guard.in_order());
    }

    #[test]
    fn a_clock_is_off_when_the_middle_of_its_peers_says_so() {
        assert!(!is_off(&[]));
        assert!(!is_off(&[4_000, -4_000]));
        assert!(!is_off(&[900_000, 10]), "one peer is wrong");
        assert!(is_off(&[900_000, 900_010]), "this node is wrong");
        assert!(is_off(&[20_000]), "one of two is wrong");
    }

    #[test]
    fn a_clock_is_outvoted_only_where_others_are_more() {
        assert!(is_outvoted(&[900_000, 900_010]));
        assert!(is_outvoted(&[-20_000, -20_000, -20_000, 10]) && !is_outvoted(&[-20_000, 10, 10]));
        for nobody_can_tell in [
            &[20_000][..],
            &[-20_000],
            &[900_000, -900_000],
            &[20_000, 20_000, 0, 0],
            &[],
        ] {
            assert!(!is_outvoted(nobody_can_tell), "{nobody_can_tell:?}");
        }
    }

    #[test]
    fn the_bound_itself_is_no_jump() {
        assert!(guard().judge(at(1_001_000, 0)));
        assert!(!guard().judge(at(1_001_001, 0)));
        assert!(guard().judge(at(999_000, 0)));
        assert!(!guard().judge(at(998_999, 0)));
    }
}
