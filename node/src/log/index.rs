//! The log in memory: one slot for each entry that is not purged, and the newest entries whole (the memory tail).
//!
//! Invariants: slots are without holes; an entry is whole in memory at least until it is durable, applied and in the
//! ledger's table; what is dropped from memory has a position.

use super::types::{Entry, Leader, LogId, Payload};
use crate::journal::Position;
use std::collections::VecDeque;

/// Memory tail kept after everything in it was applied, so that fresh values are read without touching the disk.
pub const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// What an entry costs in memory beside its command.
const ENTRY_BYTES: usize = 96;

/// One entry.
pub struct Slot {
    /// Who proposed it.
    pub leader: Leader,
    /// Where its record is, once durable.
    pub position: Option<Position>,
    /// What it carries, while in the tail.
    pub cached: Option<Box<Payload>>,
    /// How often the log had been truncated when this was appended: tells entries of one index apart.
    epoch: u32,
}

/// The slots.
#[derive(Default)]
pub struct Index {
    purged: Option<LogId>,
    first: u64,
    slots: VecDeque<Slot>,
    cached_from: u64,
    cached_bytes: usize,
    epoch: u32,
}

/// How to get an entry.
pub enum Found {
    /// It is in memory.
    Here(Entry),
    /// It is at this position.
    At(LogId, Position),
}

fn cost(payload: &Payload) -> usize {
    match payload {
        Payload::Normal(command) => ENTRY_BYTES + command.bytes.len(),
        Payload::Blank | Payload::Membership(_) => ENTRY_BYTES,
    }
}

impl Index {
    /// An empty log behind `purged`.
    pub fn new(purged: Option<LogId>) -> Index {
        let first = purged.map_or(0, |id| id.index + 1);
        Index {
            purged,
            first,
            cached_from: first,
            ..Index::default()
        }
    }

    /// The purge point.
    pub fn purged(&self) -> Option<LogId> {
        self.purged
    }

    /// Index of the first entry; of the next one when there is none.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// One after the last entry.
    pub fn end(&self) -> u64 {
        self.first + self.slots.len() as u64
    }

    /// The last entry, or the purge point.
    pub fn last(&self) -> Option<LogId> {
        match self.slots.back() {
            Some(slot) => Some(LogId::new(slot.leader, self.end() - 1)),
            None => self.purged,
        }
    }

    /// Changes with every truncation.
    pub fn epoch(&self) -> u32 {
        self.epoch
    }

    /// The slot of `index`.
    pub fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    fn slot_mut(&mut self, index: u64) -> Option<&mut Slot> {
        self.slots
            .get_mut(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    /// Adds an entry at the end. An entry elsewhere is a bug of the caller: it would leave a hole.
    pub fn push(&mut self, log_id: LogId, payload: Payload, position: Option<Position>) {
        self.push_slot(log_id, Some(Box::new(payload)), position);
    }

    /// Adds an entry that is on disk only.
    pub fn push_stored(&mut self, log_id: LogId, position: Position) {
        self.push_slot(log_id, None, Some(position));
    }

    fn push_slot(&mut self, log_id: LogId, cached: Option<Box<Payload>>, position: Option<Position>) {
        if self.slots.is_empty() {
            self.first = log_id.index;
            self.cached_from = log_id.index;
        }
        assert!(
            log_id.index == self.end(),
            "a hole in the log: {} after {}",
            log_id.index,
            self.end()
        );
        match &cached {
            Some(payload) => self.cached_bytes += cost(payload),
            // The tail has no holes either: nothing before an entry that is on disk only is whole in memory.
            None => self.drop_cached(log_id.index),
        }
        if cached.is_none() {
            self.cached_from = log_id.index + 1;
        }
        let (leader, epoch) = (log_id.leader_id, self.epoch);
        self.slots.push_back(Slot {
            leader,
            position,
            cached,
            epoch,
        });
    }

    fn drop_cached(&mut self, upto: u64) {
        while self.cached_from < upto {
            let index = self.cached_from;
            self.cached_from += 1;
            let dropped = self.slot_mut(index).and_then(|slot| slot.cached.take());
            self.cached_bytes -= dropped.map_or(0, |payload| cost(&payload));
        }
    }

    /// Notes where an entry became durable. `None` when it was truncated meanwhile.
    pub fn durable(&mut self, index: u64, epoch: u32, position: Position) -> Option<()> {
        let slot = self.slot_mut(index).filter(|slot| slot.epoch == epoch)?;
        slot.position = Some(position);
        Some(())
    }

    /// Whether an entry of the log has to be read and from where; `None` when the log does not contain it.
    pub fn find(&self, index: u64) -> Option<Found> {
        let slot = self.slot(index)?;
        let log_id = LogId::new(slot.leader, index);
        if let Some(payload) = &slot.cached {
            let payload = payload.as_ref().clone();
            return Some(Found::Here(Entry { log_id, payload }));
        }
        Some(Found::At(
            log_id,
            slot.position.expect("what is dropped from memory has a position"),
        ))
    }

    /// Removes what comes after `last`.
    pub fn truncate_after(&mut self, last: Option<LogId>) {
        let keep = last.map_or(0, |id| (id.index + 1).saturating_sub(self.first));
        while self.slots.len() as u64 > keep {
            let slot = self.slots.pop_back().expect("the length was just looked at");
            self.cached_bytes -= slot.cached.map_or(0, |payload| cost(&payload));
        }
        self.cached_from = self.cached_from.min(self.end());
        self.epoch += 1;
    }

    /// Removes everything up to `upto`, which may be beyond the end.
    pub fn purge(&mut self, upto: LogId) {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return;
        }
        while self.first <= upto.index
            && let Some(slot) = self.slots.pop_front()
        {
            self.first += 1;
            self.cached_bytes -= slot.cached.map_or(0, |payload| cost(&payload));
        }
        self.first = self.first.max(upto.index + 1);
        self.cached_from = self.cached_from.max(self.first);
        self.purged = Some(upto);
    }

    /// Drops entries before `upto` from memory until the tail fits `bytes_max`.
    pub fn shrink(&mut self, upto: u64, bytes_max: usize) {
        while self.cached_bytes > bytes_max && self.cached_from < upto.min(self.end()) {
            let stored = self.slot(self.cached_from).is_some_and(|slot| slot.position.is_some());
            if !stored {
                return;
            }
            self.drop_cached(self.cached_from + 1);
        }
    }

    /// Last entry of each leader in `from..=to`; `None` when the log lacks one of them.
    pub fn key_log_ids(&self, from: u64, to: u64) -> Option<Vec<LogId>> {
        let mut found: Vec<LogId> = Vec::new();
        for index in from..=to {
            let log_id = LogId::new(self.slot(index)?.leader, index);
            match found.last_mut() {
                Some(last) if last.leader_id == log_id.leader_id => *last = log_id,
                Some(_) | None => found.push(log_id),
            }
        }
        Some(found)
    }

    /// Bytes of the tail.
    #[cfg(test)]
    pub fn cached_bytes(&self) -> usize {
        self.cached_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::{Command, log_id};
    use super::*;
    use bytes::Bytes;

    fn position(offset: u32) -> Position {
        Position {
            segment: 1,
            offset,
            bytes: 10,
        }
    }

    fn command(length: usize) -> Payload {
        let bytes = Bytes::from(vec![7; length]);
        Payload::Normal(Command { stamp_ms: 1, bytes })
    }

    fn filled(count: u64) -> Index {
        let mut index = Index::new(None);
        for at in 0..count {
            index.push(log_id(1, 1, at), command(100), None);
        }
        index
    }

    #[test]
    fn entries_that_are_not_durable_stay_in_memory() {
        let mut index = filled(10);
        index.shrink(10, 0);
        assert!((0..10).all(|at| matches!(index.find(at), Some(Found::Here(_)))));
        for at in 0..5 {
            index.durable(at, 0, position(at as u32)).expect("it is there");
        }
        index.shrink(10, 0);
        assert!((0..5).all(|at| matches!(index.find(at), Some(Found::At(_, _)))));
        assert!((5..10).all(|at| matches!(index.find(at), Some(Found::Here(_)))));
        assert_eq!(index.cached_bytes(), 5 * (100 + ENTRY_BYTES));
    }

    #[test]
    fn a_late_flush_of_a_truncated_entry_says_nothing_about_its_successor() {
        let mut index = filled(3);
        index.truncate_after(Some(log_id(1, 1, 0)));
        index.push(log_id(2, 1, 1), command(1), None);
        assert_eq!(index.durable(1, 0, position(1)), None);
        assert_eq!(index.durable(1, 1, position(2)), Some(()));
        assert_eq!(index.last(), Some(log_id(2, 1, 1)));
    }

    #[test]
    fn purge_and_truncate_meet_every_edge() {
        let mut index = filled(4);
        index.purge(log_id(1, 1, 1));
        assert_eq!((index.first(), index.end()), (2, 4));
        index.purge(log_id(1, 1, 0));
        assert_eq!(index.purged(), Some(log_id(1, 1, 1)));
        index.truncate_after(Some(log_id(1, 1, 1)));
        assert_eq!(index.last(), Some(log_id(1, 1, 1)));
        index.purge(log_id(2, 1, 9));
        assert_eq!((index.first(), index.end()), (10, 10));
        assert_eq!(index.cached_bytes(), 0);
        index.push(log_id(2, 1, 10), command(1), None);
        assert_eq!(index.last(), Some(log_id(2, 1, 10)));
        let mut index = filled(4);
        index.truncate_after(None);
        assert_eq!(index.last(), None);
        assert_eq!(index.cached_bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "a hole in the log")]
    fn a_hole_is_refused() {
        filled(2).push(log_id(1, 1, 3), command(1), None);
    }

    #[test]
    fn key_log_ids_are_the_last_of_each_leader() {
        let mut index = Index::new(None);
        for (term, at) in [(2, 2), (2, 3), (5, 4), (5, 5)] {
            index.push_stored(log_id(term, 1, at), position(at as u32));
        }
        let ids = index.key_log_ids(2, 5).expect("all there");
        assert_eq!(ids, vec![log_id(2, 1, 3), log_id(5, 1, 5)]);
        assert_eq!(index.key_log_ids(2, 6), None);
    }
}
