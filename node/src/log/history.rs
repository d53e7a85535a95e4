//! One hash over everything that was applied: which entries, and what they wrote. Nodes that are at the same position
//! must have the same; one that has not computed something else, or its memory or disk lied to it.

use super::types::LogId;
use std::collections::VecDeque;

/// Positions at which nodes compare: multiples of this…
const SAMPLE_EVERY: u64 = 256;
/// … and so many of them are kept.
const SAMPLES: usize = 64;

/// The hash so far, and what it was at some positions.
#[derive(Clone, Debug, Default)]
pub struct History {
    hash: [u8; 32],
    samples: VecDeque<(u64, [u8; 32])>,
}

impl History {
    /// Goes on from a checkpoint or a snapshot.
    pub fn from_hash(hash: [u8; 32]) -> History {
        History {
            hash,
            samples: VecDeque::new(),
        }
    }

    /// The hash of all that was applied.
    pub fn hash(&self) -> [u8; 32] {
        self.hash
    }

    /// Adds an applied entry: its position, its log time, and checksums of its answer and of what it wrote.
    pub fn add(&mut self, log_id: &LogId, time_ms: u64, answer: u32, written: u32) {
        let mut entry = [0; 40];
        entry[..8].copy_from_slice(&log_id.index.to_le_bytes());
        entry[8..16].copy_from_slice(&log_id.leader_id.term.to_le_bytes());
        entry[16..24].copy_from_slice(&log_id.leader_id.node_id.to_le_bytes());
        entry[24..32].copy_from_slice(&time_ms.to_le_bytes());
        entry[32..36].copy_from_slice(&answer.to_le_bytes());
        entry[36..].copy_from_slice(&written.to_le_bytes());
        self.hash = *blake3::keyed_hash(&self.hash, &entry).as_bytes();
        if log_id.index.is_multiple_of(SAMPLE_EVERY) {
            if self.samples.len() == SAMPLES {
                self.samples.pop_front();
            }
            self.samples.push_back((log_id.index, self.hash));
        }
    }

    /// Positions and their hashes, oldest first.
    pub fn samples(&self) -> Vec<(u64, [u8; 32])> {
        self.samples.iter().copied().collect()
    }

    /// The newest position that both know, and whether they agree there; `None` without a common one.
    pub fn agrees_with(&self, theirs: &[(u64, [u8; 32])]) -> Option<(u64, bool)> {
        let own = self.samples.iter().rev();
        let mut common = own.filter_map(|(index, hash)| {
            let theirs = theirs.iter().find(|(at, _)| at == index)?;
            Some((*index, theirs.1 == *hash))
        });
        common.next()
    }
}

#[cfg(test)]
mod tests {
    use super::super::types::log_id;
    use super::*;

    fn run(count: u64, odd_at: u64) -> History {
        let mut history = History::default();
        for index in 1..=count {
            history.add(&log_id(1, 1, index), index, 7, u32::from(index == odd_at));
        }
        history
    }

    #[test]
    fn two_that_applied_the_same_agree_and_one_other_write_shows_for_ever() {
        let (one, two, odd) = (run(2_000, 0), run(1_800, 0), run(2_000, 300));
        assert_eq!(one.agrees_with(&two.samples()), Some((1_792, true)));
        assert_eq!(two.agrees_with(&odd.samples()), Some((1_792, false)));
        assert_eq!(run(100, 0).agrees_with(&one.samples()), None);
    }

    #[test]
    fn a_history_goes_on_from_its_hash() {
        let mut whole = run(500, 0);
        let mut later = History::from_hash(run(500, 0).hash());
        for index in 501..=520 {
            whole.add(&log_id(2, 1, index), 1, 2, 3);
            later.add(&log_id(2, 1, index), 1, 2, 3);
        }
        assert_eq!(whole.hash(), later.hash());
    }
}
