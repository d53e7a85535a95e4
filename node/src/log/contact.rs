//! What a node knows of the majority, and of which time its own state is.
//!
//! The two differ where a node hears from the majority and cannot follow it, as with a full disk: then its state ages although
//! the contact is fresh.

use super::{Shared, clock};
use crate::base::Timestamp;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

/// A node that was not told for so long that a majority stands behind the leader is cut off.
const CUT_OFF_MS: u64 = 2_000;

/// Of which time a node's state is.
#[derive(Debug, Default)]
pub(super) struct Currency {
    /// All that was acknowledged before then is applied here.
    at: Option<Instant>,
    /// All that was acknowledged before the time lies at or before the index. The oldest that is not applied stays.
    awaited: Option<(u64, Instant)>,
}

impl Currency {
    fn note(&mut self, index: u64, at: Instant, applied_end: u64) {
        self.settle(applied_end);
        if index < applied_end {
            self.at = self.at.max(Some(at));
        } else if self.awaited.is_none() {
            self.awaited = Some((index, at));
        }
    }

    fn settle(&mut self, applied_end: u64) {
        if let Some((_, at)) = self.awaited.take_if(|(index, _)| *index < applied_end) {
            self.at = self.at.max(Some(at));
        }
    }
}

/// How old a state may be whose last command has this time of the log, in ms. The log's time may be ahead by as much as a
/// leader's clock may be off. Where it is ahead of `now`, a leader's clock was wrong or this node's is: `None`, nobody knows.
fn age_by_log_ms(applied: Timestamp, now: Timestamp) -> Option<u64> {
    Some(now.ms().checked_sub(applied.ms())? + clock::OFF_MS)
}

/// The age by the log's time: told again, it has grown by at least what went by meanwhile, also when the clock was set back.
/// A clock that was set forward is believed: it may be this node's that was wrong until then, and no age is too small.
#[derive(Debug, Default)]
pub(super) struct AgeByLog {
    /// Time of the last command, age, and when it was told.
    told: Option<(Timestamp, u64, Instant)>,
}

impl AgeByLog {
    fn tell(&mut self, applied: Timestamp, now: Timestamp, at: Instant) -> Option<u64> {
        let before = self.told.map(|(until, age_ms, then)| {
            let since_ms = at.saturating_duration_since(then).as_millis() as u64;
            (age_ms + since_ms).saturating_sub(applied.ms().saturating_sub(until.ms()))
        });
        let age_ms = before.max(age_by_log_ms(applied, now))?;
        self.told = Some((applied, age_ms, at));
        Some(age_ms)
    }
}

impl Shared {
    /// A majority stood behind the leader that this node knows, or is, then.
    pub(super) fn note_contact_at(&self, at: Instant) {
        let ms = at.saturating_duration_since(self.began).as_millis() as u64 + 1;
        self.contact_ms.fetch_max(ms, Ordering::AcqRel);
    }

    /// Everything acknowledged before `at` lies at or before this index; a majority says so.
    pub(super) fn note_confirmed(&self, index: u64, at: Instant) {
        self.note_reaches(index, at);
        // The first one stays.
        let _later = self
            .current_from
            .compare_exchange(0, index + 1, Ordering::AcqRel, Ordering::Acquire);
    }

    /// This node's state is that of `at`, or a later one, once this index is applied.
    pub(super) fn note_reaches(&self, index: u64, at: Instant) {
        let applied_end = self.seen.applied_end.load(Ordering::Acquire);
        self.currency.lock().note(index, at, applied_end);
    }

    /// The latest time of which this node's state is known to be; `None`: not of any since the start.
    pub(super) fn current_at(&self) -> Option<Instant> {
        let applied_end = self.seen.applied_end.load(Ordering::Acquire);
        let mut currency = self.currency.lock();
        currency.settle(applied_end);
        currency.at
    }

    /// How old this node's state may be by the time of the last command it applied, in ms; `None`: no clock tells.
    pub(super) fn age_by_log_ms(&self) -> Option<u64> {
        let applied = Timestamp::from_ms(self.seen.time_ms.load(Ordering::Acquire));
        let (now, at) = (self.clock.now(), Instant::now());
        self.age_by_log.lock().tell(applied, now, at)
    }

    /// For how long something that was acknowledged has not been applied here.
    pub(super) fn behind_for(&self) -> Duration {
        let applied_end = self.seen.applied_end.load(Ordering::Acquire);
        let mut currency = self.currency.lock();
        currency.settle(applied_end);
        currency.awaited.map_or(Duration::ZERO, |(_, at)| at.elapsed())
    }

    /// This node's state includes everything that was acknowledged before its start.
    pub(super) fn has_caught_up(&self) -> bool {
        if self.alone.load(Ordering::Acquire) {
            return true;
        }
        let from = self.current_from.load(Ordering::Acquire);
        from != 0 && self.seen.applied_end.load(Ordering::Acquire) >= from
    }

    /// How long ago a majority stood behind the leader; `None`: not since the start.
    fn since_contact_ms(&self) -> Option<u64> {
        if self.alone.load(Ordering::Acquire) {
            return Some(0);
        }
        let contact_ms = self.contact_ms.load(Ordering::Acquire).checked_sub(1)?;
        Some((self.began.elapsed().as_millis() as u64).saturating_sub(contact_ms))
    }

    /// Cut off from the majority, as far as this node can tell. A fresh node is given the time of an election.
    pub(super) fn is_cut_off(&self) -> bool {
        let silent_ms = self.since_contact_ms();
        silent_ms.unwrap_or_else(|| self.began.elapsed().as_millis() as u64) > CUT_OFF_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_by_the_log_s_time_is_never_too_small_and_unknown_where_that_time_is_yet_to_come() {
        let at = Timestamp::from_ms;
        assert_eq!(age_by_log_ms(at(10_000), at(12_000)), Some(7_000));
        assert_eq!(age_by_log_ms(at(12_000), at(12_000)), Some(5_000));
        assert_eq!(age_by_log_ms(at(12_001), at(12_000)), None);
    }

    #[test]
    fn an_age_by_the_log_s_time_never_shrinks_because_a_clock_was_set() {
        let (at, start, second) = (Timestamp::from_ms, Instant::now(), Duration::from_secs(1));
        let mut age = AgeByLog::default();
        assert_eq!(
            age.tell(at(90_000), at(80_000), start),
            None,
            "the clock is behind the log"
        );
        assert_eq!(age.tell(at(90_000), at(100_000), start), Some(15_000));
        assert_eq!(
            age.tell(at(90_000), at(95_000), start + second),
            Some(16_000),
            "set back"
        );
        assert_eq!(
            age.tell(at(90_000), at(80_000), start + 2 * second),
            Some(17_000),
            "far back"
        );
        assert_eq!(
            age.tell(at(90_000), at(110_000), start + 3 * second),
            Some(25_000),
            "set right"
        );
        // What is applied since makes the state younger by its own time, and not by a clock that was set back.
        assert_eq!(age.tell(at(94_000), at(95_000), start + 4 * second), Some(22_000));
    }

    #[test]
    fn state_is_of_the_time_whose_index_is_applied() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut currency = Currency::default();
        currency.note(9, start, 10);
        assert_eq!((currency.at, currency.awaited), (Some(start), None), "applied at once");
        currency.note(12, start + second, 10);
        // Later ones do not push the time on that the state must reach.
        currency.note(15, start + 2 * second, 12);
        assert_eq!(
            (currency.at, currency.awaited),
            (Some(start), Some((12, start + second)))
        );
        currency.note(20, start + 3 * second, 13);
        assert_eq!(
            (currency.at, currency.awaited),
            (Some(start + second), Some((20, start + 3 * second)))
        );
        currency.settle(21);
        assert_eq!((currency.at, currency.awaited), (Some(start + 3 * second), None));
        // What comes late does not make the state older.
        currency.note(3, start, 21);
        assert_eq!((currency.at, currency.awaited), (Some(start + 3 * second), None));
        // What is applied counts at once, whatever is awaited meanwhile.
        currency.note(30, start + 4 * second, 21);
        currency.note(20, start + 9 * second, 21);
        assert_eq!(
            (currency.at, currency.awaited),
            (Some(start + 9 * second), Some((30, start + 4 * second)))
        );
    }
}
