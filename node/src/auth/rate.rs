//! How often a client may ask, on this node.
//!
//! One bucket a client holds one second's worth of requests and fills steadily. A bucket is kept as the moment at which it
//! will be full again, so one that is full need not be kept at all, and forgetting is exact. The clock is monotone: setting
//! the time does not open a bucket. Buckets are this node's own, so a client that asks N nodes gets N times its rate.

use parking_lot::Mutex;
use rustc_hash::FxHashMap;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

/// Locks; the threads of a node seldom meet at one.
const SHARDS: usize = 16;
/// Default bound on buckets that are not full: about 1 MB.
pub const CLIENTS_MAX: usize = 16 * 1024;
const SECOND_NS: u64 = 1_000_000_000;

/// The buckets; shared by all threads of a node.
pub struct Rates {
    shards: Vec<Mutex<FxHashMap<Box<str>, u64>>>,
    key: RandomState,
    began: Instant,
    shard_clients_max: usize,
}

impl Rates {
    /// Full buckets, of which at most `clients_max` are kept while they are not.
    pub fn new(clients_max: usize) -> Rates {
        Rates {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            key: RandomState::new(),
            began: Instant::now(),
            shard_clients_max: clients_max.div_ceil(SHARDS),
        }
    }

    /// Takes one request of `client` out of its bucket of `per_second` (at least 1).
    ///
    /// # Errors
    /// The bucket is empty: the whole seconds, at least 1, after which the client may ask again.
    pub fn take(&self, client: &str, per_second: u32) -> Result<(), u32> {
        self.take_at(client, per_second, self.began.elapsed())
    }

    fn take_at(&self, client: &str, per_second: u32, now: Duration) -> Result<(), u32> {
        let now = u64::try_from(now.as_nanos()).unwrap_or(u64::MAX);
        let each = SECOND_NS / u64::from(per_second.max(1));
        let at = self.key.hash_one(client) as usize % SHARDS;
        let mut shard = self.shards[at].lock();
        let full_at = shard.get(client).map_or(now, |full_at| now.max(*full_at));
        let next = full_at.saturating_add(each);
        let over = next.saturating_sub(now).saturating_sub(SECOND_NS);
        if over > 0 {
            return Err(u32::try_from(over.div_ceil(SECOND_NS)).unwrap_or(u32::MAX));
        }
        match shard.get_mut(client) {
            Some(full_at) => *full_at = next,
            None => {
                if shard.len() >= self.shard_clients_max {
                    make_room(&mut shard, now);
                }
                shard.insert(client.into(), next);
            }
        }
        Ok(())
    }
}

/// Forgets the buckets that are full, or, when none is, the one that is full first.
fn make_room(shard: &mut FxHashMap<Box<str>, u64>, now: u64) {
    let before = shard.len();
    shard.retain(|_, full_at| *full_at > now);
    if shard.len() == before
        && let Some(first) = shard
            .iter()
            .min_by_key(|(_, full_at)| **full_at)
            .map(|(client, _)| client.clone())
    {
        shard.remove(&first);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_second_s_worth_may_come_at_once_and_then_one_at_a_time() {
        let rates = Rates::new(100);
        for n in 0..5 {
            assert_eq!(rates.take_at("a", 5, ms(0)), Ok(()), "{n}");
        }
        assert_eq!(rates.take_at("a", 5, ms(0)), Err(1));
        assert_eq!(rates.take_at("a", 5, ms(199)), Err(1));
        assert_eq!(rates.take_at("a", 5, ms(200)), Ok(()));
        assert_eq!(rates.take_at("a", 5, ms(200)), Err(1));
        assert_eq!(rates.take_at("b", 5, ms(200)), Ok(()), "each client has its own");
        for n in 0..5 {
            assert_eq!(rates.take_at("a", 5, ms(10_000)), Ok(()), "{n}");
        }
    }

    #[test]
    fn over_time_no_more_than_the_rate_is_let_through() {
        let rates = Rates::new(100);
        let taken = (0..10_000).filter(|at| rates.take_at("a", 7, ms(*at)).is_ok()).count();
        assert!((69..=77).contains(&taken), "{taken} in ten seconds at 7 a second");
    }

    #[test]
    fn a_rate_of_one_and_of_none_waits_a_second() {
        let rates = Rates::new(100);
        assert_eq!(rates.take_at("a", 0, ms(0)), Ok(()));
        assert_eq!(rates.take_at("a", 1, ms(1)), Err(1));
        assert_eq!(rates.take_at("a", 1, ms(1_000)), Ok(()));
    }

    #[test]
    fn a_rate_that_is_lowered_tells_how_long_it_takes() {
        let rates = Rates::new(100);
        for _ in 0..1_000 {
            assert_eq!(rates.take_at("a", 1_000, ms(0)), Ok(()));
        }
        assert_eq!(rates.take_at("a", 1, ms(0)), Err(1));
        assert_eq!(rates.take_at("a", 1, ms(1_000)), Ok(()));
    }

    #[test]
    fn memory_is_bounded_and_the_emptiest_are_kept() {
        let rates = Rates::new(SHARDS * 4);
        for _ in 0..5 {
            assert_eq!(rates.take_at("greedy", 5, ms(0)), Ok(()));
        }
        for n in 0..10_000 {
            assert_eq!(rates.take_at(&format!("client-{n}"), 5, ms(0)), Ok(()));
        }
        let kept: usize = rates.shards.iter().map(|shard| shard.lock().len()).sum();
        assert!(kept <= SHARDS * 4, "{kept}");
        assert_eq!(
            rates.take_at("greedy", 5, ms(0)),
            Err(1),
            "filling the table empties no bucket"
        );
    }

    #[test]
    fn threads_share_a_bucket() {
        let rates = std::sync::Arc::new(Rates::new(100));
        let threads: Vec<_> = (0..8)
            .map(|_| {
                let rates = rates.clone();
                std::thread::spawn(move || (0..100).filter(|_| rates.take_at("a", 50, ms(0)).is_ok()).count())
            })
            .collect();
        let taken: usize = threads.into_iter().map(|thread| thread.join().expect("no panic")).sum();
        assert_eq!(taken, 50);
    }
}
