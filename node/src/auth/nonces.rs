//! Single use of tokens: what was seen on this node within the validity of its timestamp, and what Redis knows of others.
//!
//! Reads are judged here; writes are judged here and, through the log, on every node. A read is also claimed in Redis, where
//! there is one and it answers ([`Nonces::is_taken_elsewhere`]). Without that answer what this cannot catch is a *read*
//! replayed on another node, or after this node restarted, within the validity, by someone who also holds a client certificate
//! of the organisation. On this node no answer of Redis makes a spent token good again.
//!
//! Fingerprints are 64 bits, keyed at random when the process starts, so that nobody can prepare two tokens that
//! collide; by chance one token in some 10^12 is refused as a replay and the client sends another. They lie in buckets
//! of ten minutes by the token's timestamp and are dropped by the bucket. Whether a dropped bucket was ever seen does
//! not matter: tokens that old are refused, even when the clock is set back. At the bound new tokens are refused with
//! [`Spend::Full`]: an evicted fingerprint would be a replay hole.

use crate::base::Timestamp;
use crate::redis::{Claim, Redis};
use parking_lot::Mutex;
use rustc_hash::FxHashSet;
use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};

/// Width of a bucket.
const BUCKET_MS: u64 = 10 * 60 * 1000;
/// Locks; a power of two. The threads of a node seldom meet at one.
const SHARDS: usize = 64;
/// Default bound on fingerprints: two hours at 2,000 calls a second, at most about 300 MB, reached only at that rate.
pub const ENTRIES_MAX: usize = 16 * 1024 * 1024;

/// Where Redis keeps them.
const KEY: &[u8] = b"vertebra:n:";

/// How a token was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spend {
    /// Never seen; it is spent from now on.
    First,
    /// Seen before.
    Replayed,
    /// Its timestamp is no longer valid here, so nobody can say.
    TooOld,
    /// The bound is reached: the caller answers 503 until older tokens run out.
    Full,
}

/// Tokens seen on this node; shared by all its threads.
pub struct Nonces {
    shards: Vec<Mutex<Shard>>,
    key: RandomState,
    entries_max: usize,
    validity_ms: u64,
    shared: Option<Redis>,
}

#[derive(Default)]
struct Shard {
    buckets: BTreeMap<u64, FxHashSet<u64>>,
    /// Buckets below this were dropped.
    floor: u64,
    entries: usize,
}

impl Nonces {
    /// An empty cache of at most `entries_max` fingerprints of tokens that are valid for `validity_ms` after their timestamp.
    pub fn new(entries_max: usize, validity_ms: u64) -> Nonces {
        Nonces {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            key: RandomState::new(),
            entries_max: entries_max.div_ceil(SHARDS),
            validity_ms,
            shared: None,
        }
    }

    /// The same, asking `redis` about other nodes.
    pub fn shared_by(self, redis: Option<Redis>) -> Nonces {
        Nonces { shared: redis, ..self }
    }

    /// Whether another node, or this one before its start, has seen the token, which was spent here a moment ago. When Redis
    /// does not say in time, nobody has.
    pub async fn is_taken_elsewhere(&self, fingerprint: &[u8; 16], stamped: Timestamp, now: Timestamp) -> bool {
        let Some(redis) = &self.shared else {
            return false;
        };
        let mut key = [0; KEY.len() + 16];
        key[..KEY.len()].copy_from_slice(KEY);
        key[KEY.len()..].copy_from_slice(fingerprint);
        // A bucket longer than it is valid here: another node's clock may be behind.
        let until = stamped.plus_ms(self.validity_ms + BUCKET_MS);
        match redis.claim(&key, until.since_ms(now)).await {
            Claim::Taken => true,
            Claim::First | Claim::Unknown => false,
        }
    }

    /// Spends the token with this fingerprint and timestamp; of several at once exactly one is the first.
    pub fn spend(&self, fingerprint: &[u8; 16], stamped: Timestamp, now: Timestamp) -> Spend {
        let hash = self.key.hash_one(fingerprint);
        let bucket = stamped.ms() / BUCKET_MS;
        // The set uses the low bits, so the shard uses the high ones.
        let mut shard = self.shards[(hash >> 58) as usize % SHARDS].lock();
        shard.drop_before(now.minus_ms(self.validity_ms).ms() / BUCKET_MS);
        if bucket < shard.floor {
            return Spend::TooOld;
        }
        if shard.buckets.get(&bucket).is_some_and(|seen| seen.contains(&hash)) {
            return Spend::Replayed;
        }
        if shard.entries >= self.entries_max {
            return Spend::Full;
        }
        shard.entries += 1;
        shard.buckets.entry(bucket).or_default().insert(hash);
        Spend::First
    }

    /// Fingerprints held now.
    pub fn entries(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().entries).sum()
    }
}

impl Shard {
    fn drop_before(&mut self, floor: u64) {
        if floor <= self.floor {
            return;
        }
        self.floor = floor;
        while let Some(first) = self.buckets.first_entry().filter(|entry| *entry.key() < floor) {
            self.entries -= first.remove().len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    const VALIDITY_MS: u64 = 2 * 3600 * 1000;

    fn print(n: u32) -> [u8; 16] {
        let mut print = [0; 16];
        print[..4].copy_from_slice(&n.to_le_bytes());
        print
    }

    fn noon() -> Timestamp {
        Timestamp::from_ms(1_795_348_800_000)
    }

    #[test]
    fn a_token_is_spent_once() {
        let nonces = Nonces::new(1000, VALIDITY_MS);
        assert_eq!(nonces.spend(&print(1), noon(), noon()), Spend::First);
        assert_eq!(nonces.spend(&print(1), noon(), noon()), Spend::Replayed);
        assert_eq!(nonces.spend(&print(2), noon(), noon()), Spend::First);
        assert_eq!(nonces.entries(), 2);
    }

    #[test]
    fn a_token_is_refused_for_as_long_as_its_timestamp_is_valid() {
        let nonces = Nonces::new(1000, VALIDITY_MS);
        for stamped in [noon(), noon().plus_ms(VALIDITY_MS), noon().minus_ms(VALIDITY_MS)] {
            assert_eq!(nonces.spend(&print(7), stamped, noon()), Spend::First);
            assert_eq!(nonces.spend(&print(7), stamped, noon()), Spend::Replayed);
        }
        assert_eq!(
            nonces.spend(&print(7), noon(), noon().plus_ms(VALIDITY_MS)),
            Spend::Replayed
        );
    }

    #[test]
    fn a_dropped_bucket_stays_closed_when_the_clock_is_set_back() {
        let nonces = Nonces::new(1000, VALIDITY_MS);
        assert_eq!(nonces.spend(&print(1), noon(), noon()), Spend::First);
        let later = noon().plus_ms(VALIDITY_MS + BUCKET_MS + 1);
        for n in 1000..2000 {
            nonces.spend(&print(n), later, later);
        }
        assert_eq!(nonces.spend(&print(1), noon(), noon()), Spend::TooOld);
    }

    #[test]
    fn old_buckets_make_room() {
        let nonces = Nonces::new(SHARDS, VALIDITY_MS);
        let mut n = 0;
        while nonces.spend(&print(n), noon(), noon()) != Spend::Full {
            n += 1;
        }
        let later = noon().plus_ms(VALIDITY_MS + BUCKET_MS);
        assert_eq!(nonces.spend(&print(n), later, later), Spend::First);
    }

    #[test]
    fn at_the_bound_nothing_is_forgotten() {
        let nonces = Nonces::new(SHARDS, VALIDITY_MS);
        let first: Vec<u32> = (0..10_000)
            .filter(|n| nonces.spend(&print(*n), noon(), noon()) == Spend::First)
            .collect();
        assert_eq!(first.len(), SHARDS);
        for n in &first {
            assert_eq!(nonces.spend(&print(*n), noon(), noon()), Spend::Replayed);
        }
    }

    #[test]
    fn of_many_threads_with_one_token_one_is_first() {
        let nonces = Arc::new(Nonces::new(100_000, VALIDITY_MS));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let nonces = nonces.clone();
                std::thread::spawn(move || {
                    (0..5_000)
                        .filter(|n| nonces.spend(&print(*n), noon(), noon()) == Spend::First)
                        .count()
                })
            })
            .collect();
        let first: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!(first, 5_000);
    }
}
