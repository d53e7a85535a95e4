//! Whether a canary serves as well as the others.
//!
//! A difference counts when it is both more than chance explains and more than anybody would accept: a leader answers writes
//! one hop sooner than a follower, and two members never get the same requests.

use crate::metrics::{KindFigures, ServedFigures};

/// Fewer requests on either side tell nothing.
pub(super) const REQUESTS_MIN: u64 = 500;
/// From so many on each side it is no chance that the canary's median is beyond all but one in a hundred of the others'.
const CLEAR_MIN: u64 = 50;
/// Failures that chance is given beside three times the root of those that the others' rate lets expect.
const FAILED_SPARE: f64 = 3.0;
/// How much longer than the others' the canary's median may take: so many times, and so much.
const MEDIAN_TIMES: f64 = 1.5;
const MEDIAN_SPARE_US: u64 = 2_000;
/// The same of what all but one in a hundred are answered within.
const TAIL_TIMES: f64 = 2.0;
const TAIL_SPARE_US: u64 = 10_000;

/// The end of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Exit 0.
    AsGood,
    /// Exit 10: what is missing.
    TooFew(String),
    /// Exit 20: in what, one part of a sentence each.
    Worse(Vec<String>),
}

/// The share of failed requests.
pub(super) fn rate(figures: &KindFigures) -> f64 {
    figures.failed as f64 / figures.requests().max(1) as f64
}

fn slower(what: &str, canary: u64, others: u64, times: f64, spare: u64) -> Option<String> {
    let allowed = (others as f64 * times) as u64 + spare;
    (canary > allowed).then(|| {
        format!(
            "{what} takes {:.1} ms, the others' {:.1} ms",
            canary as f64 / 1e3,
            others as f64 / 1e3
        )
    })
}

/// Judges what the canary served against what the others did meanwhile.
pub(super) fn judge(canary: &ServedFigures, others: &ServedFigures) -> Verdict {
    let (own, theirs) = (canary.reads.and(&canary.writes), others.reads.and(&others.writes));
    let mut worse = Vec::new();
    let expected = own.requests() as f64 * rate(&theirs);
    if own.failed as f64 > expected + 3.0 * expected.sqrt() + FAILED_SPARE {
        worse.push(format!(
            "{} of {} requests failed, where the others' rate lets expect {expected:.0}",
            own.failed,
            own.requests()
        ));
    }
    let kinds = [
        ("read", &canary.reads, &others.reads),
        ("write", &canary.writes, &others.writes),
    ];
    for (kind, own, theirs) in kinds {
        let fewest = own.requests().min(theirs.requests());
        let at = |share| (own.quantile_us(share), theirs.quantile_us(share));
        let ((own_p50, p50), (own_p99, p99)) = (at(0.5), at(0.99));
        let many = fewest >= REQUESTS_MIN;
        if many || fewest >= CLEAR_MIN && own_p50 > p99 {
            worse.extend(slower(
                &format!("the middle {kind}"),
                own_p50,
                p50,
                MEDIAN_TIMES,
                MEDIAN_SPARE_US,
            ));
        }
        if many {
            worse.extend(slower(
                &format!("the slowest {kind} of a hundred"),
                own_p99,
                p99,
                TAIL_TIMES,
                TAIL_SPARE_US,
            ));
        }
    }
    if !worse.is_empty() {
        return Verdict::Worse(worse);
    }
    let fewest = own.requests().min(theirs.requests());
    if fewest < REQUESTS_MIN {
        let whose = match own.requests() <= theirs.requests() {
            true => "the canary",
            false => "the others",
        };
        return Verdict::TooFew(format!(
            "{whose} answered {fewest}, and {REQUESTS_MIN} are needed; soak for longer"
        ));
    }
    Verdict::AsGood
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::Served;

    /// `writes` of `write_us` and `reads` of `read_us` each, one in a hundred ten times as long; `failed` of the reads.
    fn served(reads: u64, read_us: u64, writes: u64, write_us: u64, failed: u64) -> ServedFigures {
        let served = Served::default();
        let time = |n: u64, us: u64| if n % 100 == 0 { us * 10 } else { us };
        for n in 0..reads {
            served.count(false, if n < failed { 503 } else { 200 }, time(n, read_us));
        }
        for n in 0..writes {
            served.count(true, 202, time(n, write_us));
        }
        served.figures()
    }

    fn is_worse(canary: &ServedFigures, others: &ServedFigures, part: &str) {
        match judge(canary, others) {
            Verdict::Worse(in_what) => assert!(in_what.iter().any(|what| what.contains(part)), "{in_what:?}"),
            other => panic!("{part}: {other:?}"),
        }
    }

    #[test]
    fn the_same_service_is_as_good_and_so_is_one_hop_more() {
        let others = served(20_000, 800, 10_000, 2_500, 5);
        assert_eq!(judge(&served(10_000, 800, 5_000, 2_500, 2), &others), Verdict::AsGood);
        assert_eq!(judge(&served(10_000, 900, 5_000, 4_000, 0), &others), Verdict::AsGood);
        // Chance: 2.5 are expected.
        assert_eq!(judge(&served(10_000, 800, 5_000, 2_500, 9), &others), Verdict::AsGood);
    }

    #[test]
    fn failures_and_slowness_are_told_apart_and_named() {
        let others = served(20_000, 800, 10_000, 2_500, 5);
        is_worse(
            &served(10_000, 800, 5_000, 2_500, 60),
            &others,
            "60 of 15000 requests failed",
        );
        is_worse(&served(10_000, 8_000, 5_000, 2_500, 0), &others, "the middle read");
        is_worse(&served(10_000, 800, 5_000, 9_000, 0), &others, "the middle write");
        let mut tail = served(10_000, 800, 5_000, 2_500, 0);
        tail.reads = tail.reads.and(&served(400, 300_000, 0, 0, 0).reads);
        is_worse(&tail, &others, "the slowest read of a hundred");
    }

    #[test]
    fn few_requests_tell_nothing_but_that_nearly_all_of_them_failed() {
        let others = served(20_000, 800, 10_000, 2_500, 0);
        let few = judge(&served(100, 800, 20, 2_500, 0), &others);
        assert!(
            matches!(&few, Verdict::TooFew(why) if why.contains("the canary answered 120")),
            "{few:?}"
        );
        let alone = judge(&others, &ServedFigures::default());
        assert!(
            matches!(&alone, Verdict::TooFew(why) if why.contains("the others answered 0")),
            "{alone:?}"
        );
        is_worse(&served(100, 800, 20, 2_500, 30), &others, "30 of 120 requests failed");
        // Slow, but of too few writes to say so.
        assert_eq!(judge(&served(10_000, 800, 20, 90_000, 0), &others), Verdict::AsGood);
        assert_eq!(judge(&served(10_000, 800, 100, 3_000, 0), &others), Verdict::AsGood);
        // Who takes so long answers few.
        is_worse(&served(10_000, 800, 60, 90_000, 0), &others, "the middle write");
        is_worse(&served(60, 90_000, 0, 0, 0), &others, "the middle read");
    }
}
